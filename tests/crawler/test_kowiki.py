"""The text: by every way the same, with articles held out; mistakes told in one line."""

import bz2
import hashlib
import os
import subprocess
import sys
from unittest import mock

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
    write_dump,
)


def titles(file):
    """The first lines of the articles of a text; [] if there is no such file."""
    if not file.exists():
        return []
    return [part.partition("\n")[0] for part in file.read_text(encoding="utf-8").split("\n\n")]


def test_texts_of_the_sample_are_what_is_made_of_its_dump(tmp_path):
    options = ("--stage", "extract", "--dump", SAMPLE / "kowiki-sample.xml", "--processes", 1)
    check_success(run(kowiki, *options, "--output_dir", tmp_path))
    for name in ("kowiki.txt", "valid.txt"):
        assert (tmp_path / name).read_bytes() == (SAMPLE / name).read_bytes()


def test_sample_gives_its_articles_in_order_and_the_counts(tmp_path):
    result = check_success(extract(SAMPLE / "kowiki-sample.xml", tmp_path))
    about = read_json(tmp_path / "kowiki.txt.json")
    text = (tmp_path / "kowiki.txt").read_text(encoding="utf-8")
    found = [part.partition("</title>")[0] for part in SAMPLE_XML.decode().split("<title>")[1:]]
    there = titles(tmp_path / "kowiki.txt")
    assert [title for title in found if title in there] == there
    assert (about["pages"], about["articles"]) == (136, 132)
    assert about["dropped"] == {"redirect": 3, "other namespace": 1}
    assert about["sha1"] == hashlib.sha1(text.encode()).hexdigest()
    blank_lines = 131
    assert about["characters"] == len(text) - blank_lines
    assert "redirect 3" in result.out
    assert {path.name for path in tmp_path.iterdir()} == {"kowiki.txt", "kowiki.txt.json"}


def test_text_depends_neither_on_packing_nor_on_processes(tmp_path):
    packed = tmp_path / "a.xml.bz2"
    packed.write_bytes(bz2.compress(SAMPLE_XML[:99999]) + bz2.compress(SAMPLE_XML[99999:]))
    share = ("--valid_share", 0.1)
    check_success(extract(SAMPLE / "kowiki-sample.xml", tmp_path / "one", *share))
    check_success(extract(packed, tmp_path / "three", "--processes", 3, *share))
    for name in ("kowiki.txt", "valid.txt"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "three" / name).read_bytes()


def test_monstrous_pages_end_and_leave_the_others_alone(tmp_path):
    monsters = ["{{틀|" * 50_000, "[[가|" * 50_000, "{{a|" * 9000 + "}}" * 9000, "''" * 99_999,
                "{|\n|" * 30_000, "<ref>" * 50_000, "가" * 20_000_000, "{{{" * 60_000,
                "<!--" * 60_000]
    pages = [text for i, monster in enumerate(monsters)
             for text in (page(2 * i + 1, monster), page(2 * i + 2, PROSE.format(i)))]
    check_success(extract(write_dump(tmp_path / "a.xml", pages), tmp_path / "out"))
    found = articles(tmp_path / "out")
    assert all(found[f"문서 {2 * i + 2}"] == [PROSE.format(i)] for i in range(len(monsters)))


def test_page_that_breaks_the_parser_is_skipped(monkeypatch):
    def to_text(text):
        if text == "deep":
            return to_text(text)
        return [text]

    monkeypatch.setattr(kowiki.wikitext, "to_text", to_text)
    assert kowiki.convert(["fine", "deep", "too"]) == [
        (["fine"], None), ([], "failed: RecursionError"), (["too"], None)]


def test_finished_text_is_kept_and_that_of_others_not_replaced(tmp_path):
    dump = write_dump(tmp_path / "a.xml", [page(1, PROSE.format(1))])
    check_success(extract(dump, tmp_path))
    assert "there already" in check_success(extract(dump, tmp_path)).out
    write_dump(dump, [page(1, PROSE.format(2))])  # next month's
    check_success(extract(dump, tmp_path))
    assert articles(tmp_path) == {"문서 1": [PROSE.format(2)]}
    (tmp_path / "kowiki.txt").write_text("mine")
    check_error(extract(dump, tmp_path), "kowiki.txt", "--overwrite")
    assert (tmp_path / "kowiki.txt").read_text() == "mine"
    check_success(extract(dump, tmp_path, "--overwrite"))
    assert articles(tmp_path) == {"문서 1": [PROSE.format(2)]}


def test_text_of_another_parser_is_made_again(tmp_path):
    dump = write_dump(tmp_path / "a.xml", [page(1, PROSE.format(1))])
    check_success(extract(dump, tmp_path))
    with mock.patch("mwparserfromhell.__version__", "0.7.99"):
        assert "there already" not in check_success(extract(dump, tmp_path)).out
    origin = read_json(tmp_path / "kowiki.txt.json")["origin"]
    assert origin["mwparserfromhell"] == "0.7.99"


def test_dump_in_the_folder_is_the_newest_or_that_of_the_date_and_is_named(tmp_path):
    for number, date in ((1, 20260901), (2, 20261001)):
        name = f"kowiki-{date}-pages-articles.xml"
        write_dump(tmp_path / name, [page(number, PROSE.format(number))])
    options = ("--stage", "extract", "--output_dir", tmp_path, "--processes", 1)
    for more, number, date in (((), 2, "20261001"), (("--date", "20260901"), 1, "20260901")):
        out = check_success(run(kowiki, *options, *more)).out
        assert f"from {tmp_path}/kowiki-{date}" in out.replace(os.sep, "/")
        assert list(articles(tmp_path)) == [f"문서 {number}"]
    check_error(run(kowiki, *options, "--date", "20260801"), "no dump", "20260801")


def test_part_of_a_dump_is_found_and_a_whole_one_goes_before_it(tmp_path):
    options = ("--stage", "extract", "--output_dir", tmp_path, "--processes", 1)
    for number, name in ((1, "articles1.xml-p1p82407.bz2"), (2, "articles.xml.bz2")):
        write_dump(tmp_path / f"kowiki-20261001-pages-{name}", [page(number, PROSE.format(number))],
                   packed=True)
        (tmp_path / "kowiki-20261001-pages-articles-multistream-index.txt.bz2").touch()
        assert name in check_success(run(kowiki, *options)).out
        assert list(articles(tmp_path)) == [f"문서 {number}"]


def test_parts_of_a_dump_are_not_taken_for_the_whole(tmp_path):
    for number, name in ((1, "articles1.xml-p1p82407.bz2"), (2, "articles2.xml-p82408p300000.bz2")):
        write_dump(tmp_path / f"kowiki-20261001-pages-{name}", [page(number, PROSE.format(number))],
                   packed=True)
    result = run(kowiki, "--stage", "extract", "--output_dir", tmp_path, "--processes", 1)
    check_error(result, "2 parts", "articles1.xml-p1p82407.bz2", "--dump")
    assert not (tmp_path / "kowiki.txt").exists()


def test_dump_of_another_wiki_is_told(tmp_path):
    head = "<siteinfo><dbname>{}</dbname></siteinfo>"
    for name, told in (("kowiki", False), ("enwiki", True)):
        file = write_dump(tmp_path / f"{name}.xml", [head.format(name), page(1, PROSE.format(1))])
        result = check_success(extract(file, tmp_path / name))
        assert ("warning: a dump of 'enwiki'" in result.err) == told


@pytest.mark.skipif(sys.version_info < (3, 11, 5), reason="there, Python waits for ever (gh-94777)")
def test_workers_that_die_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr(kowiki, "start_worker", os.abort)
    check_error(extract(SAMPLE / "kowiki-sample.xml", tmp_path), "--processes")


MISTAKES = [("--dump none.xml", "none.xml"), ("--date 2026", "--date 2026"),
            ("--processes 0", "--processes"), ("--valid_share nan", "nan"),
            ("--valid_share 0.7", "0.5"), ("--stage extract", "--dump"),
            ("--stage vocab", "kowiki.txt"), ("--url nowhere", "nowhere"),
            ("--url http://[", "http://["), ("--colour", "--colour"),
            ("--store mongodb://a/b --from_store mongodb://a/b", "--from_store: goes with neither"),
            ("--dump {0}/file --from_store mongodb://a/b", "--from_store: goes with neither"),
            ("--stage download --dump {0}/file", "--stage download: goes with neither"),
            ("--stage download --store mongodb://a/b", "--stage download: goes with neither"),
            *((f"--stage vocab {option}", "--stage vocab: goes with neither") for option in (
                "--dump {0}/file", "--store mongodb://a/b", "--from_store mongodb://a/b")),
            ("--date 20260901 --url http://a/b.xml", "--date 20260901"),
            ("--date 20260901 --dump {0}/file", "--date 20260901"),
            ("--date 20260901 --from_store mongodb://a/b", "--date 20260901"),
            ("--url htps://a/b.xml", "htps://a/b.xml: not an address"),
            ("--output_dir {0}/file", "file"), ("--contact 나", "--contact")]


@pytest.mark.parametrize("line, name", MISTAKES)
def test_mistake_is_told_in_one_line(line, name, tmp_path, waits):
    (tmp_path / "file").write_text("mine")
    result = run(kowiki, "--output_dir", tmp_path, "--vocab_dir", tmp_path,
                 *line.format(tmp_path).split())
    check_error(result, name)
    assert {path.name for path in tmp_path.iterdir()} == {"file"}


# ---- Articles held out

def test_held_out_articles_and_the_rest_are_all_articles(tmp_path):
    sample = SAMPLE / "kowiki-sample.xml"
    check_success(extract(sample, tmp_path / "all"))
    check_success(extract(sample, tmp_path / "parted", "--valid_share", 0.3))
    whole, rest, held = (
        (tmp_path / name).read_text(encoding="utf-8").rstrip("\n").split("\n\n")
        for name in ("all/kowiki.txt", "parted/kowiki.txt", "parted/valid.txt"))
    assert sorted(rest + held) == sorted(whole)
    assert rest == [one for one in whole if one in rest]  # in the order of the dump
    assert held == [one for one in whole if one in held]
    assert 20 < len(held) < 60  # 132 * 0.3 is 40
    about = read_json(tmp_path / "parted/kowiki.txt.json")
    assert (about["articles"], about["valid_articles"]) == (len(rest), len(held))
    for name, prefix in (("kowiki.txt", ""), ("valid.txt", "valid_")):
        data = (tmp_path / "parted" / name).read_bytes()
        characters = len(data.decode()) - data.count(b"\n\n")
        assert about[f"{prefix}bytes"] == len(data)
        assert about[f"{prefix}characters"] == characters
        assert about[f"{prefix}sha1"] == hashlib.sha1(data).hexdigest()


def test_articles_are_held_out_whatever_their_order_and_numbers(tmp_path):
    for name, pages in (("a", [page(i, PROSE.format(i), title=f"글 {i}") for i in range(1, 101)]),
                        ("b", [page(900 - i, "다른 " + PROSE.format(i), title=f"글 {i}")
                               for i in range(100, 0, -1)])):
        check_success(extract(write_dump(tmp_path / name, pages), tmp_path / f"{name}.out",
                              "--valid_share", 0.2))
    first, second = (titles(tmp_path / f"{name}.out/valid.txt") for name in "ab")
    assert sorted(first) == sorted(second)
    assert 8 < len(first) < 35


@pytest.mark.parametrize("pages, held", [(1, 0), (2, 1), (3, 1), (19, 1), (60, 3)])
def test_small_dumps_lend_one_article_of_twenty_but_never_all(pages, held, tmp_path):
    file = write_dump(tmp_path / "a.xml", revisions(pages))
    check_success(extract(file, tmp_path, "--valid_share", 0.001))
    assert len(titles(tmp_path / "valid.txt")) == held
    assert len(titles(tmp_path / "kowiki.txt")) == pages - held
    assert (tmp_path / "valid.txt").exists() == bool(held)


def held_of(names, share):
    draws = {name: kowiki.draw(f"{name}\n글\n".encode()) for name in names}
    below = kowiki.bound(list(draws.values()), share)
    return {name for name in names if draws[name] < below}


def test_many_articles_are_each_decided_alone_and_the_share_is_kept():
    names = [f"문서 {i}" for i in range(60_000)]
    all_of_them = held_of(names, 0.01)
    assert 500 < len(all_of_them) < 700  # 600, five standard deviations around
    assert held_of(names[:20_000], 0.01) == all_of_them & set(names[:20_000])
    assert all_of_them < held_of(names, 0.02)
    assert len(held_of(names, 0.0001)) == kowiki.LEAST
    assert not held_of(names, 0)


def test_valid_file_of_others_is_not_replaced_and_ours_goes_with_its_share(tmp_path):
    file = write_dump(tmp_path / "a.xml", revisions(40))
    (tmp_path / "valid.txt").write_text("mine")
    check_error(extract(file, tmp_path, "--valid_share", 0.1), "valid.txt", "--overwrite")
    assert (tmp_path / "valid.txt").read_text() == "mine"
    check_success(extract(file, tmp_path, "--valid_share", 0.1, "--overwrite"))
    assert titles(tmp_path / "valid.txt")
    check_success(extract(file, tmp_path))  # a share of 0
    assert not (tmp_path / "valid.txt").exists()
    assert len(titles(tmp_path / "kowiki.txt")) == 40


def test_lost_valid_file_is_made_again(tmp_path):
    file = write_dump(tmp_path / "a.xml", revisions(40))
    check_success(extract(file, tmp_path, "--valid_share", 0.1))
    before = (tmp_path / "valid.txt").read_bytes()
    (tmp_path / "valid.txt").unlink()
    check_success(extract(file, tmp_path, "--valid_share", 0.1))
    assert (tmp_path / "valid.txt").read_bytes() == before


# ---- Other systems

def command(code, *options, **environment):
    """The command in a process of its own, after some code; its stdout and stderr in bytes."""
    lines = "\n".join(["import sys", f"sys.path.insert(0, {str(CRAWLER)!r})", code,
                       "import kowiki", "kowiki.common.run(kowiki.main)"])
    return subprocess.run([sys.executable, "-c", lines, *map(str, options)], capture_output=True,
                          timeout=300, env=os.environ | environment)


def options_for(file, folder):
    return ("--stage", "extract", "--dump", file, "--output_dir", folder, "--processes", 1,
            "--valid_share", 0)


LACKS = """
sys.modules["fcntl"] = None
import os, signal
for name in ("SIGPROF", "SIGHUP", "setitimer", "ITIMER_PROF"):
    if hasattr(signal, name):
        delattr(signal, name)
for name in ("fork", "geteuid", "sched_getaffinity"):
    if hasattr(os, name):
        delattr(os, name)
"""


def test_system_without_fcntl_timers_and_fork_will_do(tmp_path):
    file = write_dump(tmp_path / "a.xml", revisions(3))
    done = command(LACKS, *options_for(file, tmp_path / "out"))
    assert done.returncode == 0, done.stderr.decode()
    assert len(articles(tmp_path / "out")) == 3
    assert done.stderr.decode().count("warning:") == 1  # the folder is not locked


@pytest.mark.parametrize("encoding", ["cp949", "ascii"])
def test_output_in_another_encoding_ends_nothing(encoding, tmp_path):
    folder = tmp_path / "글 😀"
    file = write_dump(tmp_path / "글 😀.xml", [page(1, PROSE.format(1), title="웃음 😀 ♥")])
    done = command("", *options_for(file, folder), PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    assert done.returncode == 0, done.stderr
    assert "kowiki.txt" in os.listdir(folder)
    assert ".xml" in done.stdout.decode(encoding)
    file.write_bytes(file.read_bytes()[:-20])
    done = command("", *options_for(file, folder), PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    assert done.returncode == 2
    assert "damaged" in done.stderr.decode(encoding)
    assert "Traceback" not in done.stderr.decode(encoding)


def test_name_of_a_dump_that_is_not_utf8_is_kept(tmp_path):
    name = os.fsdecode(b"a\xff.xml")
    try:
        write_dump(tmp_path / name, revisions(2))
    except (OSError, UnicodeError):
        pytest.skip("no such names on this system")
    check_success(extract(tmp_path / name, tmp_path / "out"))
    assert read_json(tmp_path / "out/kowiki.txt.json")["origin"]["dump"] == name
    assert "there already" in check_success(extract(tmp_path / name, tmp_path / "out")).out
    done = command("", *options_for(tmp_path / name, tmp_path / "out"))
    assert done.returncode == 0, done.stderr


def test_no_more_processes_than_the_system_can_wait_for(tmp_path, monkeypatch):
    monkeypatch.setattr(kowiki, "MOST_PROCESSES", 61)  # as on Windows
    for cores, processes in ((128, 61), (8, 8), (None, 1)):
        monkeypatch.setattr(os, "cpu_count", lambda: cores)  # noqa: B023
        with mock.patch("sys.argv", ["kowiki.py"]):
            assert kowiki.parse_options().processes == processes
    check_error(run(kowiki, "--output_dir", tmp_path, "--processes", 62), "--processes 62", "61")
