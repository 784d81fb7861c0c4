"""web-crawler/: downloads from a server that misbehaves, dumps that are damaged, runs that are killed.

The server is one of our own on the loopback interface. wikitext.py has tests of its own; here, the markup is
plain enough for any converter.
"""

import bz2
import contextlib
import email.utils
import hashlib
import http.server
import io
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from unittest import mock
from xml.sax.saxutils import escape

import pytest
import sentencepiece
from conftest import copy_project

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "web-crawler"))
import common
import kowiki

ROOT = Path(__file__).resolve().parents[1]
CRAWLER, SAMPLE = ROOT / "web-crawler", ROOT / "web-crawler/sample"
SAMPLE_XML = (SAMPLE / "kowiki-sample.xml").read_bytes()


def run(module, *options):
    """main() in this process: code, out, err. Only SystemExit is caught: all else would be a traceback."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (mock.patch("sys.argv", [f"{module.__name__}.py", *map(str, options)]),
          contextlib.redirect_stdout(out), contextlib.redirect_stderr(err)):
        try:
            common.run(module.main)
        except SystemExit as end:
            code = end.code or 0
    return SimpleNamespace(code=code, out=out.getvalue(), err=err.getvalue())


def check_error(result, *names):
    """The last line of stderr says what is wrong, the status is 2."""
    assert result.code == 2, result.err
    assert "Traceback" not in result.err
    last = result.err.splitlines()[-1]
    assert "error:" in last
    for name in names:
        assert str(name) in last


def check_success(result):
    assert result.code == 0, result.err
    return result


def start(script, *options):
    """The command as a process of its own."""
    return subprocess.Popen([sys.executable, CRAWLER / script, *map(str, options)], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"})


def wait_for(condition):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.005)


def read_json(path):
    return json.loads(Path(path).read_text(encoding="utf-8"))


# ---- A server: what it holds, and what goes wrong with it

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append((self.path, dict(self.headers)))
        if "ko-ConvBERT" not in self.headers["User-Agent"] or "(" not in self.headers["User-Agent"]:
            return status(403)(self)
        queue = self.server.faults.get(self.path, [])
        return (queue.pop(0) if queue else serve)(self)

    def log_message(self, *_):
        pass

    def reply(self, code, body=b"", **headers):
        self.send_response(code)
        for name, value in ({"Content_Length": len(body)} | headers).items():
            if value is not None:
                self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)


def serve(handler, ranges=True, upto=None, length=True):
    """The file asked for, or the range of it; cut off after `upto` bytes, announced by its length or not."""
    data = handler.server.files.get(handler.path)
    if data is None:
        return handler.reply(404)
    tag, wanted, code, headers = f'"{hashlib.sha1(data).hexdigest()}"', handler.headers["Range"], 200, {}
    begin = 0
    if wanted and ranges and handler.headers.get("If-Range", tag) == tag:
        begin, code = int(wanted.removeprefix("bytes=").removesuffix("-")), 206
        if begin >= len(data):
            return handler.reply(416, Content_Range=f"bytes */{len(data)}")
        headers["Content_Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
    body = data[begin:]
    return handler.reply(code, body[:upto], Content_Length=len(body) if length else None, ETag=tag, **headers)


def status(code, **headers):
    return lambda handler: handler.reply(code, **headers)


def cut(upto, length=True):
    return lambda handler: serve(handler, upto=upto, length=length)


def in_a_while(seconds):
    return email.utils.formatdate(time.time() + seconds, usegmt=True)


@pytest.fixture
def server(monkeypatch):
    """A site with two complete dumps and a newer one that is still being made."""
    monkeypatch.setenv("no_proxy", "*")
    site = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site.daemon_threads, site.asked, site.faults, site.files = True, [], {}, {}
    site.url = f"http://127.0.0.1:{site.server_port}"
    site.dump = bz2.compress(SAMPLE_XML)
    links = "".join(f'<a href="{date}/">{date}/</a>\n' for date in (20260901, 20261101, 20261001))
    site.files["/kowiki/"] = f'<html><a href="../">../</a>{links}<a href="latest/">latest</a></html>'.encode()
    for date, state in (("20260901", "done"), ("20261001", "done"), ("20261101", "in-progress")):
        name = f"kowiki-{date}-pages-articles.xml.bz2"
        about = {"size": len(site.dump), "sha1": hashlib.sha1(site.dump).hexdigest(), "url": f"/{name}"}
        jobs = {"articlesdump": {"status": "done", "files": {"kowiki-part.xml.bz2": {"size": 1}}},
                "articlesdumprecombine": {"status": state, "files": {name: about}}, "a": {"status": "done"}}
        site.files[f"/kowiki/{date}/dumpstatus.json"] = json.dumps({"version": "0.8", "jobs": jobs}).encode()
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


NAME = "kowiki-20261001-pages-articles.xml.bz2"
AT = f"/kowiki/20261001/{NAME}"


def fetch_dump(server, folder, *more):
    return run(kowiki, "--stage", "download", "--url", server.url + "/kowiki/", "--output_dir", folder, *more)


def asked_for(server, path):
    return [headers for asked, headers in server.asked if asked == path]


def test_newest_complete_dump_is_fetched_once_and_described(server, tmp_path):
    check_success(fetch_dump(server, tmp_path, "--contact", "me@example.org"))
    assert (tmp_path / NAME).read_bytes() == server.dump
    about = read_json(tmp_path / f"{NAME}.json")
    assert (about["date"], about["url"], about["bytes"]) == ("20261001", server.url + AT, len(server.dump))
    assert about["sha1"] == hashlib.sha1(server.dump).hexdigest()
    assert all("me@example.org" in headers["User-Agent"] for _, headers in server.asked)
    assert {path.name for path in tmp_path.iterdir()} == {NAME, f"{NAME}.json"}
    assert "there already" in check_success(fetch_dump(server, tmp_path)).out
    assert len(asked_for(server, AT)) == 1
    check_success(fetch_dump(server, tmp_path, "--date", "20260901"))
    assert (tmp_path / NAME.replace("1001", "0901")).read_bytes() == server.dump


PASSING = {  # name: what happens before all is well, and the least pauses that must be made
    "429 with seconds": ([status(429, Retry_After=7)], [7]),
    "503 with a date": ([status(503, Retry_After=in_a_while(400))], [60]),
    "500": ([status(500), status(502)], [1, 2]),
    "cut off": ([cut(5000)], [1]),
    "cut off without a length": ([cut(5000, length=False)], [1]),
    "cut off again and again": ([cut(3000)] * 9, [1] * 9),
    "cut off, then 429": ([cut(9000), status(429, Retry_After=30)], [1, 30]),
    "cut off, ranges unknown": ([cut(5000), lambda handler: serve(handler, ranges=False)], [1]),
}


@pytest.mark.parametrize("fault", PASSING)
def test_fault_that_passes_is_waited_for(fault, server, waits, tmp_path):
    queue, least = PASSING[fault]
    server.faults[AT] = [*queue]
    check_success(fetch_dump(server, tmp_path))
    assert (tmp_path / NAME).read_bytes() == server.dump
    assert len(waits) == len(least)
    assert all(wait >= low for wait, low in zip(waits, least)), waits
    if "cut off" in fault:
        assert "bytes=" in asked_for(server, AT)[1]["Range"]


LASTING = {  # name: path, what it answers each time, and what the message must contain
    "forbidden": ("/kowiki/", status(403), "403", "--contact"),
    "no such mirror": ("/kowiki/", status(404), "404", "--url"),
    "dump gone": (AT, status(404), AT, "404"),
    "no range at all": (AT, status(416), "416"),
    "never well": (AT, status(503), AT, "503"),
    "patience beyond reason": (AT, status(429, Retry_After=86400), "429", "86400 s"),
    "cut off at once": (AT, cut(0), AT),
    "cut off at the same byte, ranges unknown": (
        AT, lambda handler: serve(handler, ranges=False, upto=7000), "7,000 of"),
    "wrong content": (AT, lambda handler: handler.reply(200, b"x" * len(handler.server.dump)), "SHA-1"),
    "wrong size": (AT, lambda handler: handler.reply(200, b"abc"), "3 bytes"),
    "newest status not to be had": ("/kowiki/20261101/dumpstatus.json", status(503), "20261101", "503"),
    "index page unknown": ("/kowiki/", lambda handler: handler.reply(200, b"<p>Welcome</p>"), "--date"),
}


@pytest.mark.parametrize("fault", LASTING)
def test_fault_that_stays_is_told(fault, server, waits, tmp_path):
    path, answer, *names = LASTING[fault]
    server.faults[path] = [answer] * 50
    check_error(fetch_dump(server, tmp_path), *names)
    assert not (tmp_path / NAME).exists()
    assert len(waits) < 10


@pytest.mark.parametrize("date, why", [("20261101", "progress"), ("20261201", "404"), ("latest", "--date")])
def test_dump_that_is_not_ready_is_told(date, why, server, waits, tmp_path):
    check_error(fetch_dump(server, tmp_path, "--date", date), why)


NO_STATUS = [b"{not", b"[]", b'{"jobs": []}', b'{"jobs": {"a": 1}}', b'{"jobs": {}}',
             b'{"jobs": {"a": {"status": "done", "files": {"%s": null}}}}' % NAME.encode()]


@pytest.mark.parametrize("body", NO_STATUS)
def test_status_in_an_unknown_form_is_told(body, server, waits, tmp_path):
    server.files["/kowiki/20261001/dumpstatus.json"] = body
    check_error(fetch_dump(server, tmp_path, "--date", "20261001"), "dumpstatus.json")


def test_client_without_a_name_would_be_refused(server):
    with pytest.raises(OSError, match="403"):
        common.urllib.request.build_opener().open(server.url + "/kowiki/")


@pytest.mark.parametrize("there, ranges", [(999, ["bytes=999-"]), ("all", []), ("more", ["bytes={}-", None])])
def test_part_of_a_file_is_continued(there, ranges, server, waits, tmp_path):
    size = len(server.dump)
    part = {999: server.dump[:999], "all": server.dump, "more": server.dump + b"x"}[there]
    (tmp_path / f"{NAME}.part").write_bytes(part)
    check_success(fetch_dump(server, tmp_path))
    assert (tmp_path / NAME).read_bytes() == server.dump
    assert [headers.get("Range") for headers in asked_for(server, AT)] == [
        value and value.format(size + 1) for value in ranges]


def test_part_that_is_of_another_file_does_not_survive(server, waits, tmp_path):
    (tmp_path / f"{NAME}.part").write_bytes(b"x" * 1000)
    check_error(fetch_dump(server, tmp_path), "SHA-1")
    check_success(fetch_dump(server, tmp_path))
    assert (tmp_path / NAME).read_bytes() == server.dump


def test_file_without_a_known_sha1_is_continued_only_by_its_tag(server, waits, tmp_path):
    server.files["/my.xml.bz2"] = server.dump
    options = ("--stage", "download", "--url", server.url + "/my.xml.bz2", "--output_dir", tmp_path)
    (tmp_path / "my.xml.bz2.part").write_bytes(b"of something else")
    server.faults["/my.xml.bz2"] = [cut(900)] + [status(503)] * 6
    check_error(run(kowiki, *options), "503")
    assert "Range" not in asked_for(server, "/my.xml.bz2")[0]
    server.files["/my.xml.bz2"] = bz2.compress(SAMPLE_XML[::-1])  # meanwhile there is a new one
    check_success(run(kowiki, *options))
    assert asked_for(server, "/my.xml.bz2")[-1]["Range"] == "bytes=900-"
    assert (tmp_path / "my.xml.bz2").read_bytes() == server.files["/my.xml.bz2"]
    assert not read_json(tmp_path / "my.xml.bz2.json")["sha1_was_published"]


def test_file_that_is_whole_but_has_not_got_its_name_is_not_fetched_again(server, waits, tmp_path):
    server.files["/my.xml.bz2"] = server.dump  # without a known length or SHA-1, so that 416 tells
    (tmp_path / "my.xml.bz2.part").write_bytes(server.dump)
    (tmp_path / "my.xml.bz2.part.tag").write_text(f'"{hashlib.sha1(server.dump).hexdigest()}"')
    options = ("--stage", "download", "--url", server.url + "/my.xml.bz2", "--output_dir", tmp_path)
    check_success(run(kowiki, *options))
    assert (tmp_path / "my.xml.bz2").read_bytes() == server.dump
    ranges = [headers.get("Range") for headers in asked_for(server, "/my.xml.bz2")]
    assert ranges == [f"bytes={len(server.dump)}-"]
    assert not waits


def test_list_of_sha1s_that_cannot_be_read_now_is_not_taken_for_none(server, waits, tmp_path):
    server.faults["/kowiki/20261001/kowiki-20261001-sha1sums.txt"] = [status(503)] * 50
    options = ("--stage", "download", "--url", server.url + AT, "--output_dir", tmp_path)
    check_error(run(kowiki, *options), "sha1sums.txt", "503")
    assert not (tmp_path / NAME).exists()


def test_file_of_others_is_not_replaced(server, tmp_path):
    (tmp_path / NAME).write_bytes(b"mine")
    check_error(fetch_dump(server, tmp_path), NAME, "--overwrite")
    assert (tmp_path / NAME).read_bytes() == b"mine"
    check_success(fetch_dump(server, tmp_path, "--overwrite"))
    assert (tmp_path / NAME).read_bytes() == server.dump


def test_disk_too_small_is_told_before_the_download(server, tmp_path, monkeypatch):
    monkeypatch.setattr(common.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    check_error(fetch_dump(server, tmp_path), "1,000", "--output_dir")
    assert not asked_for(server, AT)


def test_download_killed_goes_on_from_there(server, tmp_path):
    hold, half = threading.Event(), len(server.dump) // 2

    def stall(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(server.dump)))
        handler.end_headers()
        handler.wfile.write(server.dump[:half])
        hold.wait(60)

    server.faults[AT] = [stall]
    part = tmp_path / f"{NAME}.part"
    options = ("--stage", "download", "--url", server.url + "/kowiki/", "--output_dir", tmp_path)
    process = start("kowiki.py", *options)
    wait_for(lambda: asked_for(server, AT) and part.exists())
    process.kill()
    process.communicate()
    hold.set()
    kept = part.stat().st_size
    check_success(run(kowiki, *options))
    assert (tmp_path / NAME).read_bytes() == server.dump
    assert asked_for(server, AT)[1].get("Range") == (f"bytes={kept}-" if kept else None)


# ---- Dumps

def base36_sha1(text):
    number, digits = int(hashlib.sha1(text.encode()).hexdigest(), 16), ""
    while number:
        number, digit = divmod(number, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
    return digits.rjust(31, "0")


def page(number, text, title=None, namespace=0, model="wikitext", sha1=None, revision=1,
         tag="<text>{}</text>"):
    """A <page>, as a dump has it."""
    return (f"<page><title>{title or f'문서 {number}'}</title><ns>{namespace}</ns><id>{number}</id><revision>"
            f"<id>{revision}</id><timestamp>2026-11-01T00:00:00Z</timestamp><contributor><username>u</username>"
            f"<id>77</id></contributor><model>{model}</model>{tag.format(escape(text))}"
            f"<sha1>{sha1 or base36_sha1(text)}</sha1></revision></page>\n")


PROSE = "이 문서는 {}번째 문서이며, 시험에만 쓰려고 지어낸 짧은 글이다. 다른 뜻은 없고, 길이만 채울 뿐이다."


def write_dump(path, pages, packed=False):
    text = f'<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/">\n{"".join(pages)}</mediawiki>\n'.encode()
    path.write_bytes(bz2.compress(text) if packed else text)
    return path


def extract(dump, folder, *more):
    return run(kowiki, "--stage", "extract", "--dump", dump, "--output_dir", folder, "--processes", 1, *more)


def articles(folder):
    """{title: lines} of a kowiki.txt, after a check of its form."""
    text = (folder / "kowiki.txt").read_text(encoding="utf-8")
    assert text.endswith("\n")
    assert "\n\n\n" not in text
    return {title: lines for title, *lines in (part.splitlines() for part in text.rstrip("\n").split("\n\n"))}


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A dump of 5,000 pages, packed as streams of 500 each, and its text as one undisturbed run gives it."""
    folder = tmp_path_factory.mktemp("many")
    head, body = SAMPLE_XML.split(b"</siteinfo>\n")
    pages = body.decode().replace("</mediawiki>", "").split("  <page>\n")[1:]
    chosen = [f"  <page>\n{text}" for text in itertools.islice(itertools.cycle(pages), 5000)]
    parts = [head.decode() + "</siteinfo>\n", *("".join(chosen[i : i + 500]) for i in range(0, 5000, 500)),
             "</mediawiki>"]
    dump = folder / "many-pages-articles.xml.bz2"
    dump.write_bytes(b"".join(bz2.compress(part.encode()) for part in parts))
    check_success(extract(dump, folder / "whole"))
    return SimpleNamespace(dump=dump, text=(folder / "whole/kowiki.txt").read_bytes(), folder=folder)


def test_sample_gives_its_articles_in_order_and_the_counts(tmp_path):
    result = check_success(extract(SAMPLE / "kowiki-sample.xml", tmp_path))
    expected = (SAMPLE / "kowiki.txt").read_text(encoding="utf-8").rstrip("\n").split("\n\n")
    assert list(articles(tmp_path)) == [article.splitlines()[0] for article in expected]
    about = read_json(tmp_path / "kowiki.txt.json")
    assert (about["pages"], about["articles"], about["sha1_differs"]) == (136, 132, 0)
    assert about["dropped"] == {"redirect": 3, "other namespace": 1}
    assert about["sha1"] == hashlib.sha1((tmp_path / "kowiki.txt").read_bytes()).hexdigest()
    blank_lines = 131
    assert about["characters"] == len((tmp_path / "kowiki.txt").read_text(encoding="utf-8")) - blank_lines
    assert "redirect 3" in result.out
    assert {path.name for path in tmp_path.iterdir()} == {"kowiki.txt", "kowiki.txt.json"}


def test_text_depends_neither_on_packing_nor_on_processes(tmp_path):
    packed = tmp_path / "a.xml.bz2"
    packed.write_bytes(bz2.compress(SAMPLE_XML[:99999]) + bz2.compress(SAMPLE_XML[99999:]))
    check_success(extract(SAMPLE / "kowiki-sample.xml", tmp_path / "one"))
    check_success(extract(packed, tmp_path / "three", "--processes", 3))
    assert (tmp_path / "one/kowiki.txt").read_bytes() == (tmp_path / "three/kowiki.txt").read_bytes()


def test_pages_that_are_no_articles_are_dropped_and_counted(tmp_path):
    hidden, nothing, plain = '<text deleted="deleted" />', '<text bytes="0" />', PROSE.format
    slot = "<text>" + plain(1) + "</text><content><model>json</model><text>{{}}</text></content>"
    pages = [page(1, plain(1)), page(2, "", tag=hidden), page(3, "", tag=nothing), page(4, " \n "),
             page(5, plain(5), model="Scribunto"), page(6, plain(6), namespace=10),
             page(7, "#넘겨주기 [[가]]"), page(8, "# redirect: [[문서 1]]"), page(9, "짧다."),
             page(10, plain(10), sha1="0" * 31), page(11, "가 " * 1_100_000), page(12, plain(1), tag=slot),
             "<page><title>갈 곳</title><ns>0</ns><id>13</id><redirect title='문서 1' /></page>",
             page(14, "A&B <b>굵은</b> " + plain(14), title="R&amp;D")]
    check_success(extract(write_dump(tmp_path / "a.xml", pages), tmp_path / "out"))
    about = read_json(tmp_path / "out/kowiki.txt.json")
    assert about["dropped"] == {"hidden text": 1, "empty": 2, "not wikitext": 1, "other namespace": 1,
                                "redirect": 3, "short": 1, "too long": 1}
    assert (about["pages"], about["articles"], about["sha1_differs"]) == (14, 4, 1)
    assert articles(tmp_path / "out") == {"문서 1": [plain(1)], "문서 10": [plain(10)], "문서 12": [plain(1)],
                                          "R&D": ["A&B 굵은 " + plain(14)]}


def test_monstrous_pages_end_and_leave_the_others_alone(tmp_path):
    monsters = ["{{틀|" * 50_000, "[[가|" * 50_000, "{{a|" * 9000 + "}}" * 9000, "''" * 99_999,
                "{|\n|" * 30_000, "<ref>" * 50_000, "가" * 20_000_000, "{{{" * 60_000, "<!--" * 60_000]
    pages = [text for i, monster in enumerate(monsters)
             for text in (page(2 * i + 1, monster), page(2 * i + 2, PROSE.format(i)))]
    check_success(extract(write_dump(tmp_path / "a.xml", pages), tmp_path / "out", "--page_seconds", 2))
    found = articles(tmp_path / "out")
    assert all(found[f"문서 {2 * i + 2}"] == [PROSE.format(i)] for i in range(len(monsters)))


def test_page_that_takes_too_long_or_breaks_the_parser_is_skipped(monkeypatch):
    def to_text(text):
        while text == "slow":
            pass
        if text == "deep":
            return to_text(text)
        return [text]

    monkeypatch.setattr(kowiki.wikitext, "to_text", to_text)
    before = signal.signal(signal.SIGPROF, kowiki.out_of_time)
    try:
        results = kowiki.convert(["fine", "slow", "deep", "a\u2028b\rc"], 0.2)
    finally:
        signal.signal(signal.SIGPROF, before)
    assert [(lines, reason) for lines, reason, _ in results] == [
        (["fine"], None), ([], "out of time"), ([], "failed: RecursionError"), (["a b c"], None)]


def test_page_out_of_time_is_counted(tmp_path):
    pages = [page(1, "{{lang|en|가}} " * 100_000), page(2, PROSE.format(2))]
    dump = write_dump(tmp_path / "a.xml", pages)
    check_success(extract(dump, tmp_path / "out", "--page_seconds", 0.01))
    assert read_json(tmp_path / "out/kowiki.txt.json")["dropped"] == {"out of time": 1}
    assert list(articles(tmp_path / "out")) == ["문서 2"]


def flip(data, at):
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


BIG = bz2.compress(SAMPLE_XML, compresslevel=1)  # several blocks
DAMAGE = {"bz2 truncated": BIG[:-9000], "bz2 corrupt": flip(BIG, len(BIG) - 9000),
          "XML truncated": SAMPLE_XML[:200_000],
          "tag unclosed": SAMPLE_XML.replace("라디오 방송</title>".encode(), b""),
          "not UTF-8": flip(SAMPLE_XML, SAMPLE_XML.index("라디오 방송".encode())),
          "entity unknown": SAMPLE_XML.replace("라디오 방송".encode(), b"&nbsp;")}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_dump_keeps_what_comes_before_the_damage(damage, tmp_path):
    (tmp_path / "a.xml").write_bytes(DAMAGE[damage])
    result = extract(tmp_path / "a.xml", tmp_path / "out")
    check_error(result, "a.xml", "damaged", "kowiki.txt.tmp")
    assert not (tmp_path / "out/kowiki.txt").exists()
    won = (tmp_path / "out/kowiki.txt.tmp").read_text(encoding="utf-8")
    check_success(extract(SAMPLE / "kowiki-sample.xml", tmp_path / "whole"))
    whole = (tmp_path / "whole/kowiki.txt").read_text(encoding="utf-8")
    assert whole.startswith(won)
    assert whole[len(won)] == "\n"  # whole articles
    assert won.count("\n\n") > 20


BOMB = b'<!DOCTYPE m [<!ENTITY a "%s">%s]>' % (b"ha" * 5000, b"".join(
    b'<!ENTITY a%d "%s">' % (i, b"&a%d;" % (i - 1) * 9 if i else b"&a;" * 9) for i in range(9)))
BOMBED = SAMPLE_XML.replace(b"<mediawiki", BOMB + b"<mediawiki", 1).replace(b"<ns>0", b"<ns>&a8;0")
NO_DUMPS = {"empty": b"", "page of a proxy": b"<html><body>Login</body></html>", "no XML": b"PK\x03\x04...",
            "no pages": b"<mediawiki></mediawiki>", "bz2 of nothing": bz2.compress(b""), "bomb": BOMBED}


@pytest.mark.parametrize("kind", NO_DUMPS)
def test_file_that_is_no_dump_is_told(kind, tmp_path):
    (tmp_path / "a.xml").write_bytes(NO_DUMPS[kind])
    result = extract(tmp_path / "a.xml", tmp_path / "out")
    check_error(result, "a.xml", "before the first page", *["document type"] * (kind == "bomb"))


def test_extraction_killed_goes_on_to_the_same_text(many, tmp_path):
    options = ("--stage", "extract", "--dump", many.dump, "--output_dir", tmp_path, "--processes", 1)
    state = tmp_path / "kowiki.txt.state"
    for least in (1000, 2500):
        process = start("kowiki.py", *options)
        wait_for(lambda: state.exists() and read_json(state)["pages"] >= least)  # noqa: B023
        process.kill()
        process.communicate()
    assert not (tmp_path / "kowiki.txt").exists()
    with open(tmp_path / "kowiki.txt.tmp", "ab") as file:
        file.write("반쪽 문서".encode())  # written after the last save
    assert "goes on after" in check_success(run(kowiki, *options)).out
    assert (tmp_path / "kowiki.txt").read_bytes() == many.text
    about, whole = read_json(tmp_path / "kowiki.txt.json"), read_json(many.folder / "whole/kowiki.txt.json")
    assert {**about, "seconds": 0} == {**whole, "seconds": 0}


def test_extraction_killed_before_it_describes_its_text_goes_on_from_there(tmp_path):
    dump = write_dump(tmp_path / "a.xml", [page(1, PROSE.format(1))])
    check_success(extract(dump, tmp_path))
    about = read_json(tmp_path / "kowiki.txt.json")
    state = {name: value for name, value in about.items() if name != "sha1"}
    for number in (1, 2):  # the same dump, and next month's
        (tmp_path / "kowiki.txt.json").unlink()
        (tmp_path / "kowiki.txt.state").write_text(json.dumps(state))
        write_dump(dump, [page(1, PROSE.format(number))])
        assert ("there already" in check_success(extract(dump, tmp_path)).out) == (number == 1)
        assert not (tmp_path / "kowiki.txt.state").exists()
        assert articles(tmp_path) == {"문서 1": [PROSE.format(number)]}
        assert read_json(tmp_path / "kowiki.txt.json")["bytes"] == (tmp_path / "kowiki.txt").stat().st_size


def test_killed_run_with_other_options_starts_anew(many, tmp_path):
    (tmp_path / "kowiki.txt.tmp").write_bytes(many.text[:5000])
    state = {"origin": {"min_chars": 1}, "pages": 30, "bytes": 5000}
    (tmp_path / "kowiki.txt.state").write_text(json.dumps(state))
    assert "goes on" not in check_success(extract(many.dump, tmp_path)).out
    assert (tmp_path / "kowiki.txt").read_bytes() == many.text


def test_finished_text_is_kept_and_that_of_others_not_replaced(tmp_path):
    dump = write_dump(tmp_path / "a.xml", [page(1, PROSE.format(1))])
    check_success(extract(dump, tmp_path))
    assert "there already" in check_success(extract(dump, tmp_path)).out
    write_dump(dump, [page(1, PROSE.format(2))])  # next month's
    check_success(extract(dump, tmp_path))
    assert articles(tmp_path) == {"문서 1": [PROSE.format(2)]}
    (tmp_path / "kowiki.txt").write_text("mine")
    check_error(extract(dump, tmp_path), "--overwrite")
    assert (tmp_path / "kowiki.txt").read_text() == "mine"
    check_success(extract(dump, tmp_path, "--overwrite"))
    assert articles(tmp_path) == {"문서 1": [PROSE.format(2)]}


def test_two_extractions_to_one_text_are_refused(tmp_path):
    first = kowiki.TextFile(tmp_path / "kowiki.txt", {})
    check_error(extract(write_dump(tmp_path / "a.xml", [page(1, PROSE.format(1))]), tmp_path), "another run")
    first.file.close()
    check_success(extract(tmp_path / "a.xml", tmp_path))


def test_dump_in_the_folder_is_the_newest_or_that_of_the_date(tmp_path):
    for number, date in ((1, 20260901), (2, 20261001)):
        write_dump(tmp_path / f"kowiki-{date}-pages-articles.xml", [page(number, PROSE.format(number))])
    options = ("--stage", "extract", "--output_dir", tmp_path, "--processes", 1)
    for more, number in (((), 2), (("--date", "20260901"), 1)):
        check_success(run(kowiki, *options, *more))
        assert list(articles(tmp_path)) == [f"문서 {number}"]
    check_error(run(kowiki, *options, "--date", "20260801"), "no dump", "20260801")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_full_disk_is_told(many, server, waits, tmp_path):
    (tmp_path / "kowiki.txt.tmp").symlink_to("/dev/full")
    check_error(extract(many.dump, tmp_path), "kowiki.txt.tmp", "No space left")
    (tmp_path / "kowiki.txt.json.tmp").symlink_to("/dev/full")
    (tmp_path / "kowiki.txt.tmp").unlink()
    check_error(extract(many.dump, tmp_path), "kowiki.txt.json.tmp", "No space left")
    (tmp_path / "kowiki.txt").unlink()
    (tmp_path / f"{NAME}.part").symlink_to("/dev/full")
    check_error(fetch_dump(server, tmp_path), f"{NAME}.part", "No space left")
    shutil.copy(SAMPLE / "kowiki.txt", tmp_path / "kowiki.txt")
    (tmp_path / "kowiki.vocab.tmp").symlink_to("/dev/full")
    check_error(vocab(tmp_path), "kowiki.vocab.tmp", "No space left")
    assert not waits


@contextlib.contextmanager
def without_rights():
    """What is done here, root does as a user who owns nothing; for all others, nothing changes."""
    if root := os.geteuid() == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no such permissions on this system")
def test_folder_without_permission_is_told(server, tmp_path):
    check_success(fetch_dump(server, tmp_path))
    with tempfile.TemporaryDirectory() as folder:  # tmp_path is closed to the user who owns nothing
        os.chmod(folder, 0o755)
        closed = Path(folder) / "closed"
        closed.mkdir()
        dump = write_dump(Path(folder) / "a.xml", [page(1, PROSE.format(1))])
        shutil.copy(SAMPLE / "kowiki.txt", closed)
        closed.chmod(0o555)
        with without_rights():
            check_error(fetch_dump(server, closed), "closed", "Permission denied")
            check_error(extract(dump, closed, "--overwrite"), "closed", "Permission denied")
            check_error(vocab(closed), "closed", "Permission denied")
        dump.chmod(0)
        with without_rights():
            check_error(extract(dump, closed, "--overwrite"), "a.xml", "Permission denied")


@pytest.mark.skipif(sys.version_info < (3, 11, 5), reason="there, Python waits for them for ever (gh-94777)")
def test_workers_that_die_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr(kowiki, "start_worker", os.abort)
    check_error(extract(SAMPLE / "kowiki-sample.xml", tmp_path), "--processes")


MISTAKES = [("--dump none.xml", "none.xml"), ("--date 2026", "--date 2026"), ("--processes 0", "--processes"),
            ("--page_seconds nan", "nan"), ("--stage extract", "--dump"), ("--stage vocab", "kowiki.txt"),
            ("--url nowhere", "nowhere"), ("--url http://[", "http://["), ("--colour", "--colour"),
            ("--store mongodb://a/b --from_store mongodb://a/b", "only one"),
            ("--output_dir {0}/file", "file"), ("--contact 나", "--contact")]


@pytest.mark.parametrize("line, name", MISTAKES)
def test_mistake_is_told_in_one_line(line, name, tmp_path, waits):
    (tmp_path / "file").write_text("mine")
    result = run(kowiki, "--output_dir", tmp_path, "--vocab_dir", tmp_path, *line.format(tmp_path).split())
    check_error(result, name)
    assert {path.name for path in tmp_path.iterdir()} == {"file"}


# ---- Vocabulary

def test_shipped_model_gives_the_published_pieces(capsys):
    kowiki.show_examples(ROOT / "vocab/kowiki.model")
    shown = capsys.readouterr().out.split("\n")
    pieces = ["▁겨울 이 ▁되어 서 ▁날 씨 가 ▁무 척 ▁추 워 요 .",
              "▁이번 ▁성 탄 절 은 ▁화 이트 ▁크리스 마 스가 ▁될 까 요 ?",
              "▁겨울 에 ▁감 기 ▁조 심 하 시 고 ▁행 복 한 ▁연 말 ▁되 세 요 ."]
    assert [line.strip() for line in shown[2::4]] == pieces
    numbers = {piece: i for i, piece in enumerate(vocabulary(ROOT / "vocab/kowiki.vocab"))}
    assert [line.split() for line in shown[3::4]] == [[str(numbers[piece]) for piece in line.split()]
                                                      for line in pieces]


def vocabulary(path):
    return [line.split("\t")[0] for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def vocab(folder, *more):
    return run(kowiki, "--stage", "vocab", "--output_dir", folder, "--vocab_dir", folder,
               "--vocab_size", 1500, *more)


@pytest.fixture
def corpus(tmp_path):
    shutil.copy(SAMPLE / "kowiki.txt", tmp_path / "kowiki.txt")
    return tmp_path


def test_vocabulary_is_that_of_the_trainer_and_kept(corpus):
    check_success(vocab(corpus))
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus / "kowiki.txt"), model_prefix=str(corpus / "plain"), model_type="bpe",
        vocab_size=1500, max_sentence_length=999999, pad_id=0, pad_piece="[PAD]", unk_id=1, unk_piece="[UNK]",
        bos_id=2, bos_piece="[BOS]", eos_id=3, eos_piece="[EOS]", user_defined_symbols="[SEP],[CLS],[MASK]",
        minloglevel=2)
    assert (corpus / "kowiki.vocab").read_bytes() == (corpus / "plain.vocab").read_bytes()
    pieces = vocabulary(corpus / "kowiki.vocab")
    assert pieces[:7] == ["[PAD]", "[UNK]", "[BOS]", "[EOS]", "[SEP]", "[CLS]", "[MASK]"]
    processor = sentencepiece.SentencePieceProcessor(model_file=str(corpus / "kowiki.model"))
    assert [processor.id_to_piece(i) for i in range(1500)] == pieces
    first = (corpus / "kowiki.model").read_bytes()
    assert "kept" in check_success(vocab(corpus, "--vocab_size", 1400)).out
    assert (corpus / "kowiki.model").read_bytes() == first
    check_success(vocab(corpus, "--overwrite"))
    assert (corpus / "kowiki.model").read_bytes() == first  # again the same


def test_vocabulary_from_a_sample_depends_on_the_seed_alone(corpus):
    models = []
    for seed in (1, 1, 2):
        check_success(vocab(corpus, "--overwrite", "--sample_sentences", 400, "--seed", seed))
        models.append((corpus / "kowiki.vocab").read_bytes())
    assert models[0] == models[1] != models[2]


def test_vocabulary_beyond_the_text_is_told(corpus):
    (corpus / "kowiki.txt").write_text("가나\n" * 20, encoding="utf-8")
    check_error(vocab(corpus), "1500 pieces")
    assert not (corpus / "kowiki.model").exists()


# ---- Killed where it hurts most: before a file gets its name

KILLED = """
import os, signal, sys
left, real = int(sys.argv.pop(1)), os.replace
def replace(*names):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    real(*names)
os.replace = replace
import kowiki
kowiki.common.run(kowiki.main)
"""


@pytest.mark.parametrize("stage, renames", [("download", 2), ("extract", 3), ("vocab", 5)])
def test_stage_killed_at_any_rename_is_made_good(stage, renames, server, corpus):
    dump = write_dump(corpus / "a.xml", revisions(30))
    options = {"download": ["--url", server.url + "/kowiki/"], "extract": ["--dump", dump, "--processes", 1],
               "vocab": ["--vocab_size", 1500]}[stage]
    outputs = {"download": [NAME, f"{NAME}.json"], "extract": ["kowiki.txt", "kowiki.txt.json"],
               "vocab": ["kowiki.model", "kowiki.model.json", "kowiki.vocab", "tokenizer.json",
                         "tokenizer_config.json"]}

    def command(folder):
        folder.mkdir(exist_ok=True)
        if stage == "vocab":
            shutil.copy(corpus / "kowiki.txt", folder)
        return list(map(str, ["--stage", stage, "--output_dir", folder, "--vocab_dir", folder, *options]))

    check_success(run(kowiki, *command(corpus / "whole")))
    for count in range(renames):
        line = command(corpus / str(count))
        killed = subprocess.run([sys.executable, "-c", KILLED, str(count), *line], capture_output=True,
                                timeout=120, env=os.environ | {"PYTHONPATH": str(CRAWLER)})
        assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
        check_success(run(kowiki, *line))
        for name in outputs[stage]:
            made, whole = corpus / str(count) / name, corpus / "whole" / name
            same = made.read_bytes() == whole.read_bytes()
            assert same or name.endswith((".bz2.json", ".txt.json", ".model.json"))
            assert same or {*read_json(whole)} - {*read_json(made)} <= {"seconds"}  # of a file found there


# ---- MongoDB

@pytest.fixture
def mongo(tmp_path):
    """A MongoDB server: uri, stop, and start, which goes on from the same data on another port."""
    secantus = pytest.importorskip("secantus", reason="needs SecantusDB, a MongoDB in a Python package")
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


def revisions(count, changed=()):
    return [page(i, PROSE.format(-i if i in changed else i), revision=2 if i in changed else 1)
            for i in range(1, count + 1)]


def test_store_is_updated_in_place_and_gives_the_same_text(mongo, tmp_path):
    dump = write_dump(tmp_path / "a.xml", revisions(300))
    check_success(extract(dump, tmp_path / "out", "--store", mongo.uri))
    assert read_json(tmp_path / "out/kowiki.txt.json")["stored"] == 300
    changed = (7, 20, 255)  # 1 %
    write_dump(dump, revisions(300, changed))
    store = common.Store(mongo.uri, "articles")
    store.collection.update_many({}, {"$set": {"untouched": True}})  # goes when a document is replaced
    check_success(extract(dump, tmp_path / "out", "--store", mongo.uri))
    assert read_json(tmp_path / "out/kowiki.txt.json")["stored"] == 3
    found = list(store.read())
    assert tuple(document["_id"] for document in found if "untouched" not in document) == changed
    assert [document["_id"] for document in found] == list(range(1, 301))
    assert found[6] == {"_id": 7, "revision": 2, "title": "문서 7", "text": PROSE.format(-7),
                        "date": "2026-11-01T00:00:00Z"}
    export = tmp_path / "export"
    check_success(run(kowiki, "--stage", "extract", "--from_store", mongo.uri, "--output_dir", export))
    assert (export / "kowiki.txt").read_bytes() == (tmp_path / "out/kowiki.txt").read_bytes()


def test_store_that_goes_away_is_told_and_the_next_run_completes_it(mongo, tmp_path, monkeypatch):
    dump = write_dump(tmp_path / "a.xml", revisions(300))
    real, calls = common.Store.update, []

    def update(self, *more):
        calls.append(1)
        if len(calls) == 3:
            mongo.stop()
        return real(self, *more)

    monkeypatch.setattr(common.Store, "update", update)
    check_error(extract(dump, tmp_path / "out", "--store", mongo.uri), "--store", "128 articles so far")
    mongo.start()
    check_success(extract(dump, tmp_path / "out", "--store", mongo.uri))
    assert len(list(common.Store(mongo.uri, "articles").read())) == 300
    assert len(articles(tmp_path / "out")) == 300


def test_store_that_goes_away_during_an_export_is_told(mongo, tmp_path, monkeypatch):
    dump = write_dump(tmp_path / "a.xml", revisions(300))
    check_success(extract(dump, tmp_path / "out", "--store", mongo.uri))
    real = common.Store.read

    def read(self):
        for number, document in enumerate(real(self)):
            if number == 50:  # the first answer of the server holds 101 documents
                mongo.stop()
            yield document

    options = ("--stage", "extract", "--from_store", mongo.uri, "--output_dir", tmp_path / "export")
    monkeypatch.setattr(common.Store, "read", read)
    check_error(run(kowiki, *options), "--store", "0 articles so far")
    assert not (tmp_path / "export/kowiki.txt").exists()
    mongo.start()
    monkeypatch.setattr(common.Store, "read", real)
    check_success(run(kowiki, *options[:3], mongo.uri, *options[4:]))
    assert (tmp_path / "export/kowiki.txt").read_bytes() == (tmp_path / "out/kowiki.txt").read_bytes()


def refusing_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.mark.parametrize("option", ["--store", "--from_store"])
def test_store_that_is_not_there_is_told_without_its_password(option, tmp_path):
    pytest.importorskip("pymongo")
    uri = f"mongodb://me:secret@127.0.0.1:{refusing_port()}/wiki?serverSelectionTimeoutMS=300"
    result = extract(SAMPLE / "kowiki-sample.xml", tmp_path, option, uri)
    check_error(result, "--store 127.0.0.1", "refused")
    assert "secret" not in result.err
    check_error(extract(SAMPLE / "kowiki-sample.xml", tmp_path, option, "postgres://a"), "--store")


# ---- All of it, as the README has it

def test_from_nothing_to_two_trained_models(tmp_path):
    copy_project(tmp_path)
    model = (tmp_path / "vocab/kowiki.model").read_bytes()
    cheap = "--size tiny --max_steps 2 --device cpu --num_threads 1 --precision fp32 --max_seq_length 32"
    for folder, line in (("web-crawler", "kowiki.py --dump sample/kowiki-sample.xml --processes 1"),
                         (".", "convbert.py --task pretrain " + cheap),
                         ("web-crawler", "naver_movie.py --train_file sample/ratings_train.txt "
                                         "--test_file sample/ratings_test.txt"),
                         (".", "convbert.py --task finetune " + cheap)):
        done = subprocess.run([sys.executable, *line.split()], cwd=tmp_path / folder, capture_output=True,
                              text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert "sample stands in" not in done.stderr  # convbert.py has found what was made
    assert (tmp_path / "vocab/kowiki.model").read_bytes() == model
    assert read_json(tmp_path / "runs/finetune/eval_results.json")["eval_samples"] == 200
