"""Downloads from a server that misbehaves."""

import bz2
import errno
import hashlib
import threading
from types import SimpleNamespace
from unittest import mock

import pytest

from crawler.helpers import (
    SAMPLE_XML,
    check_error,
    check_success,
    common,
    kowiki,
    read_json,
    run,
    start,
    wait_for,
)
from crawler.server import AT, NAME, asked_for, cut, in_a_while, serve, status


def fetch_dump(server, folder, *more):
    return run(kowiki, "--stage", "download", "--url", server.url + "/kowiki/",
               "--output_dir", folder, *more)


def test_newest_complete_dump_is_fetched_once_and_described(server, tmp_path):
    check_success(fetch_dump(server, tmp_path, "--contact", "me@example.org"))
    assert (tmp_path / NAME).read_bytes() == server.dump
    about = read_json(tmp_path / f"{NAME}.json")
    assert (about["date"], about["url"], about["bytes"]) == (
        "20261001", server.url + AT, len(server.dump))
    assert about["sha1"] == hashlib.sha1(server.dump).hexdigest()
    assert all("me@example.org" in headers["User-Agent"] for _, headers in server.asked)
    assert {path.name for path in tmp_path.iterdir()} == {NAME, f"{NAME}.json"}
    assert "there already" in check_success(fetch_dump(server, tmp_path)).out
    assert len(asked_for(server, AT)) == 1
    check_success(fetch_dump(server, tmp_path, "--date", "20260901"))
    assert (tmp_path / NAME.replace("1001", "0901")).read_bytes() == server.dump


PASSING = {  # name: what happens before all is well, and the least pauses that must be made
    "429 with seconds": ([status(429, Retry_After=7)], [7]),
    "503 with a date": ([lambda handler: status(503, Retry_After=in_a_while(400))(handler)], [60]),
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
    "wrong content": (
        AT, lambda handler: handler.reply(200, b"x" * len(handler.server.dump)), "SHA-1"),
    "wrong size": (AT, lambda handler: handler.reply(200, b"abc"), "3 bytes"),
    "newest status not to be had": (
        "/kowiki/20261101/dumpstatus.json", status(503), "20261101", "503"),
    "index page unknown": (
        "/kowiki/", lambda handler: handler.reply(200, b"<p>Welcome</p>"), "--date"),
}


@pytest.mark.parametrize("fault", LASTING)
def test_fault_that_stays_is_told(fault, server, waits, tmp_path):
    path, answer, *names = LASTING[fault]
    server.faults[path] = [answer] * 50
    check_error(fetch_dump(server, tmp_path), *names)
    assert not (tmp_path / NAME).exists()
    assert len(waits) < 10


@pytest.mark.parametrize("date, why", [("20261101", "progress"), ("20261201", "404"),
                                       ("latest", "--date")])
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


@pytest.mark.parametrize("there, ranges", [(999, ["bytes=999-"]), ("all", []),
                                           ("more", ["bytes={}-", None])])
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


def test_file_without_a_known_sha1_starts_anew_and_is_said_to_be_unproved(server, waits, tmp_path):
    server.files["/my.xml.bz2"] = server.dump
    options = ("--stage", "download", "--url", server.url + "/my.xml.bz2", "--output_dir", tmp_path)
    (tmp_path / "my.xml.bz2.part").write_bytes(b"of something else")
    server.faults["/my.xml.bz2"] = [cut(900)] + [status(503)] * 6
    check_error(run(kowiki, *options), "503")
    server.files["/my.xml.bz2"] = bz2.compress(SAMPLE_XML[::-1])  # meanwhile there is a new one
    assert "no SHA-1 of my.xml.bz2" in check_success(run(kowiki, *options)).out
    assert not [headers for headers in asked_for(server, "/my.xml.bz2") if "Range" in headers]
    assert (tmp_path / "my.xml.bz2").read_bytes() == server.files["/my.xml.bz2"]
    assert not read_json(tmp_path / "my.xml.bz2.json")["sha1_was_published"]


def test_newer_dumps_that_are_passed_over_are_named(server, tmp_path):
    out = check_success(fetch_dump(server, tmp_path)).out
    assert [line for line in out.splitlines() if "passed over" in line and "20261101" in line]
    assert server.url + AT in out
    assert "no SHA-1" not in out


def test_address_names_no_file_outside_the_folder_on_any_system():
    assert kowiki.file_name("http://a/b/c.xml.bz2") == "c.xml.bz2"
    assert kowiki.file_name("http://a/..\\..\\c.xml") == ".._.._c.xml"
    assert kowiki.file_name("http://a/C:c?d=e.xml") == "C_c_d=e.xml"


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


@pytest.mark.parametrize("number", [errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT])
def test_network_that_goes_away_is_no_fault_of_the_disk(number, tmp_path):
    answers = [b"first", OSError(number, "gone")]
    response = mock.Mock(headers={}, read=mock.Mock(side_effect=answers))
    with pytest.raises(common.PASSING):
        common.copy_body(response, tmp_path / "a.part", 0, "http://a/b", 10)
    assert (tmp_path / "a.part").read_bytes() == b"first"
