"""Servers that the tests of the crawler ask: a site with dumps, a MongoDB."""

import bz2
import hashlib
import http.server
import json
import shutil
import threading
import time
from types import SimpleNamespace

import pytest

from crawler.helpers import SAMPLE, SAMPLE_XML, common
from crawler.server import Handler


@pytest.fixture
def server(monkeypatch):
    """A site with two complete dumps and a newer one that is still being made."""
    monkeypatch.setenv("no_proxy", "*")
    site = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site.daemon_threads, site.asked, site.faults, site.files = True, [], {}, {}
    site.url = f"http://127.0.0.1:{site.server_port}"
    site.dump = bz2.compress(SAMPLE_XML)
    links = "".join(f'<a href="{date}/">{date}/</a>\n' for date in (20260901, 20261101, 20261001))
    site.files["/kowiki/"] = (f'<html><a href="../">../</a>{links}'
                              '<a href="latest/">latest</a></html>').encode()
    for date, state in (("20260901", "done"), ("20261001", "done"), ("20261101", "in-progress")):
        name = f"kowiki-{date}-pages-articles.xml.bz2"
        about = {"size": len(site.dump), "sha1": hashlib.sha1(site.dump).hexdigest(),
                 "url": f"/{name}"}
        jobs = {"articlesdump": {"status": "done", "files": {"kowiki-part.xml.bz2": {"size": 1}}},
                "articlesdumprecombine": {"status": state, "files": {name: about}},
                "a": {"status": "done"}}
        site.files[f"/kowiki/{date}/dumpstatus.json"] = json.dumps(
            {"version": "0.8", "jobs": jobs}).encode()
        site.files[f"/kowiki/{date}/{name}"] = site.dump
    threading.Thread(target=site.serve_forever, args=(0.01,), daemon=True).start()
    yield site
    site.shutdown()
    site.server_close()


@pytest.fixture
def waits(monkeypatch):
    """The pauses that were to be made, in seconds; none is."""
    made = []
    clock = SimpleNamespace(sleep=made.append, time=time.time, monotonic=time.monotonic)
    monkeypatch.setattr(common, "time", clock)
    return made


@pytest.fixture
def mongo(tmp_path):
    """A MongoDB server: uri, stop, and start, which goes on from the same data on another port."""
    secantus = pytest.importorskip("secantus",
                                   reason="needs SecantusDB, a MongoDB in a Python package")
    found = SimpleNamespace()

    def start():
        server = secantus.SecantusDBServer(storage_path=str(tmp_path / "mongo"))
        server.start()
        found.stop = server.stop
        found.uri = f"mongodb://127.0.0.1:{server.address[1]}/wiki?serverSelectionTimeoutMS=500"

    found.start = start
    start()
    yield found
    found.stop()


@pytest.fixture
def corpus(tmp_path):
    """A folder with the sample's text."""
    shutil.copy(SAMPLE / "kowiki.txt", tmp_path / "kowiki.txt")
    return tmp_path
