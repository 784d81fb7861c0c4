"""Runs that are killed: at every rename, at random, and beside another run in the same folder."""

import bz2
import contextlib
import errno
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from crawler.helpers import (
    CRAWLER,
    PROSE,
    SAMPLE_XML,
    articles,
    check_error,
    check_success,
    extract,
    kowiki,
    page,
    read_json,
    revisions,
    run,
    start,
    wait_for,
    write_dump,
)
from crawler.server import NAME

SHARE = ("--valid_share", "0.1")
TEXTS = ("kowiki.txt", "valid.txt")


def slow(number):
    return pytest.param(number, marks=pytest.mark.slow)


def texts(folder):
    return [(folder / name).read_bytes() for name in TEXTS]


def same_but_for_seconds(a, b):
    return {**a, "seconds": 0} == {**b, "seconds": 0}


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A dump of 2,500 pages, so that the state is saved twice on the way, and its texts."""
    folder = tmp_path_factory.mktemp("many")
    head, body = SAMPLE_XML.split(b"</siteinfo>\n")
    pages = body.decode().replace("</mediawiki>", "").split("  <page>\n")[1:]
    pages = [f"  <page>\n{text}" for text in itertools.islice(itertools.cycle(pages), 2500)]
    pages = [text.replace("</title>", f" {i}</title>", 1) for i, text in enumerate(pages)]
    parts = [head.decode() + "</siteinfo>\n",
             *("".join(pages[i : i + 500]) for i in range(0, 2500, 500)), "</mediawiki>"]
    dump = folder / "many-pages-articles.xml.bz2"
    dump.write_bytes(b"".join(bz2.compress(part.encode()) for part in parts))
    check_success(extract(dump, folder / "whole", *SHARE))
    return SimpleNamespace(dump=dump, texts=texts(folder / "whole"), folder=folder / "whole")


def test_extraction_killed_goes_on_to_the_same_texts(many, tmp_path):
    options = ("--stage", "extract", "--dump", many.dump, "--output_dir", tmp_path,
               "--processes", 1, *SHARE)
    state = tmp_path / "kowiki.txt.state"
    for least in (1000, 2000):
        process = start("kowiki.py", *options)
        wait_for(lambda: state.exists() and read_json(state)["pages"] >= least)  # noqa: B023
        process.kill()
        process.communicate()
    assert not (tmp_path / "kowiki.txt").exists()
    with open(tmp_path / "kowiki.txt.tmp", "ab") as file:
        file.write("반쪽 문서".encode())  # written after the last save
    assert "goes on after" in check_success(run(kowiki, *options)).out
    assert texts(tmp_path) == many.texts
    about = read_json(tmp_path / "kowiki.txt.json")
    assert same_but_for_seconds(about, read_json(many.folder / "kowiki.txt.json"))


def test_killed_run_with_other_options_starts_anew(tmp_path):
    dump = write_dump(tmp_path / "a.xml", revisions(30))
    (tmp_path / "kowiki.txt.tmp").write_bytes(b"x" * 5000)
    state = {"origin": {"min_chars": 1}, "pages": 30, "bytes": 5000}
    (tmp_path / "kowiki.txt.state").write_text(json.dumps(state))
    assert "goes on" not in check_success(extract(dump, tmp_path)).out
    assert list(articles(tmp_path)) == [f"문서 {i}" for i in range(1, 31)]


# ---- At every rename

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


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
@pytest.mark.parametrize("stage, least", [("download", 2), ("extract", 5)])
def test_stage_killed_at_any_rename_is_made_good(stage, least, server, tmp_path):
    dump = write_dump(tmp_path / "a.xml", revisions(30))
    options = {"download": ["--url", server.url + "/kowiki/"],
               "extract": ["--dump", dump, "--processes", "1", *SHARE]}[stage]
    outputs = {"download": [NAME, f"{NAME}.json"],
               "extract": ["kowiki.txt", "kowiki.txt.json", "valid.txt"]}[stage]

    def line(folder):
        return list(map(str, ["--stage", stage, "--output_dir", folder, *options]))

    check_success(run(kowiki, *line(tmp_path / "whole")))
    for count in itertools.count():
        folder = tmp_path / str(count)
        killed = subprocess.run(
            [sys.executable, "-c", KILLED, str(count), *line(folder)], capture_output=True,
            timeout=300, env=os.environ | {"PYTHONPATH": str(CRAWLER)})
        if killed.returncode == 0:
            break  # it renames no more files than that
        assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
        check_success(run(kowiki, *line(folder)))
        assert sorted(os.listdir(folder)) == outputs
        for name in outputs:
            made, whole = folder / name, tmp_path / "whole" / name
            if name.endswith(".json"):
                made, whole = read_json(made), read_json(whole)
                made["seconds"] = whole["seconds"] = 0  # of a download, they are not known then
                assert made == whole
            else:
                assert made.read_bytes() == whole.read_bytes()
    assert count >= least


def test_another_dump_after_a_kill_at_a_rename_gives_its_own_texts(tmp_path):
    """Killed between the names of valid.txt and kowiki.txt; then next month's dump is taken."""
    first = write_dump(tmp_path / "a.xml", revisions(30))
    second = write_dump(tmp_path / "b.xml", revisions(30, changed=range(1, 31)))
    for file, folder in ((first, "out"), (second, "expected")):
        check_success(extract(file, tmp_path / folder, *SHARE))
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, "3", "--stage", "extract", "--dump", second, "--processes",
         "1", "--output_dir", tmp_path / "out", *SHARE],
        capture_output=True, timeout=300, env=os.environ | {"PYTHONPATH": str(CRAWLER)})
    assert killed.returncode == -signal.SIGKILL
    assert texts(tmp_path / "out")[1] == texts(tmp_path / "expected")[1]
    assert texts(tmp_path / "out")[0] != texts(tmp_path / "expected")[0]
    check_success(extract(second, tmp_path / "out", *SHARE))
    assert texts(tmp_path / "out") == texts(tmp_path / "expected")


# ---- At random

def size(path):
    return path.stat().st_size if path.exists() else 0


def killed_at_random(process, whole, part, rng):
    """Kills an extraction at some moment, at times its workers too; False if it ends."""
    before, growth = size(part), rng.choice((0, rng.uniform(0, 0.6))) * whole
    delay = rng.uniform(0, 0.05 if growth else 1)
    while process.poll() is None and growth and size(part) < before + growth:
        time.sleep(0.002)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(delay)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL) if rng.random() < 0.5 else process.kill()
    _, errors = process.communicate()
    assert process.returncode in (0, -signal.SIGKILL), errors.decode()
    return process.returncode != 0


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="no groups of processes on this system")
@pytest.mark.parametrize("kills", [2, slow(50)])
def test_extraction_killed_at_random_gives_the_same_bytes(kills, many, tmp_path):
    rng, folder, count = random.Random(kills), tmp_path / "0", 0
    while count < kills:
        script = [sys.executable, kowiki.__file__, "--stage", "extract", "--dump", many.dump,
                  "--processes", "1", *SHARE]
        process = subprocess.Popen([*script, "--output_dir", folder], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, start_new_session=True)
        whole = sum(map(len, many.texts))
        count += killed_at_random(process, whole, folder / "kowiki.txt.tmp", rng)
        if process.returncode == 0:  # done with this one: on to the next
            assert texts(folder) == many.texts
            folder = tmp_path / str(int(folder.name) + 1)
    check_success(extract(many.dump, folder, *SHARE))
    assert texts(folder) == many.texts
    assert sorted(os.listdir(folder)) == ["kowiki.txt", "kowiki.txt.json", "valid.txt"]


# ---- The disk

@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="no /proc on this system")
def test_all_is_on_the_disk_before_the_next_file_gets_its_name(tmp_path, monkeypatch):
    """What os.fsync has not had, of a file or of a folder, may be lost with the power."""
    events, fsync, replace = [], os.fsync, os.replace

    def flushed(number):
        fsync(number)
        path = os.readlink(f"/proc/self/fd/{number}")
        events.append(("flush", path, None if os.path.isdir(path) else os.stat(path).st_size))

    def renamed(old, new):
        events.append(("rename", str(old), os.stat(old).st_size))
        replace(old, new)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "replace", renamed)
    folder = tmp_path / "out"
    check_success(extract(write_dump(tmp_path / "a.xml", revisions(30)), folder, *SHARE))
    names = [what for what, _, _ in events if what == "rename"]
    assert len(names) >= 5
    for i, (what, path, size) in enumerate(events):
        if what == "rename":
            assert ("flush", path, size) in events[:i], path
            assert events[i + 1 : i + 2] == [("flush", str(folder), None)], path


# ---- Two runs in one folder

HOLD = """
import sys, time
from pathlib import Path
import common
with common.locked(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("stage", ["download", "extract", "vocab"])
def test_second_run_in_a_folder_is_refused_until_the_first_is_gone(stage, server, tmp_path):
    pytest.importorskip("fcntl", reason="locks of another kind on this system")
    file = write_dump(tmp_path / "a.xml", revisions(2))
    options = {"download": ("--url", server.url + "/kowiki/"), "extract": ("--dump", file),
               "vocab": ("--vocab_dir", tmp_path)}[stage]
    options = ("--stage", stage, "--output_dir", tmp_path / "out", *options)
    (tmp_path / "out").mkdir()
    shutil.copy(file, tmp_path / "kowiki.model")  # a vocabulary that is there: nothing to be made
    shutil.copy(file, tmp_path / "out/kowiki.txt") if stage == "vocab" else None
    first = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "out"], stdout=subprocess.PIPE,
                             env=os.environ | {"PYTHONPATH": str(CRAWLER)})
    try:
        assert first.stdout.readline() == b"locked\n"
        check_error(run(kowiki, *options), "out", "another run")
    finally:
        first.kill()  # without a chance to give the lock back
        first.communicate()
    result = run(kowiki, *options)
    assert "another run" not in result.err
    assert ".lock" not in os.listdir(tmp_path / "out")


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_file_system_without_locks_gets_a_warning(number, tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl", reason="locks of another kind on this system")

    def flock(*_):
        raise OSError(number, os.strerror(number))

    file = write_dump(tmp_path / "a.xml", [page(1, PROSE.format(1))])
    monkeypatch.setattr(fcntl, "flock", flock)
    result = check_success(extract(file, tmp_path / "out"))
    assert [line.startswith("warning:") for line in result.err.splitlines()] == [True]
    assert os.strerror(number) in result.err
    assert list(articles(tmp_path / "out")) == ["문서 1"]
