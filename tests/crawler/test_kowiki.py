"""The text: the same by every way, whole after every kill, told in one line where it cannot be."""

import bz2
import contextlib
import hashlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from crawler.helpers import (
    CRAWLER,
    PROSE,
    SAMPLE,
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
from crawler.test_download import fetch_dump
from crawler.test_naver_movie import local, reviews
from crawler.test_vocabulary import vocab


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
    (tmp_path / "ratings_train.txt.tmp").symlink_to("/dev/full")
    check_error(local(tmp_path), "ratings_train.txt.tmp", "No space left")
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
    import wget  # noqa: F401  who has no rights may be unable to load modules, too

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
            check_error(reviews(closed, "--url", server.url), "closed", "Permission denied")
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
