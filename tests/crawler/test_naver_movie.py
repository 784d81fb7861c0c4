"""naver_movie.py: an archive of NSMC's layout, whole, broken, foreign, or made to fill the memory.

The archive is made of the bundled sample, and comes from a server of our own on the loopback
interface. Like GitHub's, it tells no length and knows no ranges.
"""

import contextlib
import errno
import hashlib
import http.server
import io
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import sentencepiece

from crawler import helpers
from crawler.helpers import (
    CRAWLER,
    ROOT,
    SAMPLE,
    check_error,
    check_success,
    common,
    naver_movie,
    read_json,
)

TOP = "nsmc-cc0670e872d4ac27bfe36c87456783004b39ef6c/"  # the folder that GitHub puts all into
AT = "/nsmc.zip"
KEPT = "nsmc-cc0670e.zip"
MADE = ["nsmc.json", "ratings_test.txt", "ratings_train.txt", "reviews.txt"]
# What `git hash-object` and `git write-tree` say, the latter of a folder with the RAW below alone.
HELLO = "ce013625030ba8dba906f756967f9e9ca394464a"
TREE = "87bab09219a80c0f7ebb6a3c28265ce847e2cf8f"
RAW = {"2.json": b"hello\n", "10.json": b"[]", "100.json": b"[1]\n", "B.json": b"{}"}


def run(*options):
    return helpers.run(naver_movie, *options)


def start(code, **env):
    """A process of its own that runs Python code, which finds naver_movie."""
    return subprocess.Popen([sys.executable, "-c", code], cwd=CRAWLER, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE,
                            env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"} | env)


def as_program(*options):
    """Code that runs main() as the command does."""
    argv = ["naver_movie.py", *map(str, options)]
    return f"import sys, common, naver_movie; sys.argv = {argv}; common.run(naver_movie.main)"


def reviews_in(folder):
    """The documents of reviews.txt: each a line, with a blank line after it."""
    text = (folder / "reviews.txt").read_text(encoding="utf-8")
    lines = text.split("\n")
    assert lines.pop() == ""
    assert not any(lines[1::2])
    assert len(lines) % 2 == 0
    return lines[::2]


def squeeze(text):
    return "".join(text.split())


# ---- Archives

def review(text, number=1, rating=7, film=1):
    return {"review_id": str(number), "movie_id": str(film), "author": "****", "review": text,
            "rating": str(rating), "date": "15.02.27"}


def as_json(reviews):
    return json.dumps(reviews, indent=2, ensure_ascii=False).encode()


def layout(**changed):
    """Names and bytes of the sample's layout. None takes a file away."""
    paths = [*sorted(SAMPLE.glob("raw/*.json")), SAMPLE / "ratings_train.txt",
             SAMPLE / "ratings_test.txt"]
    files = {path.relative_to(SAMPLE).as_posix(): path.read_bytes() for path in paths}
    files["ratings.txt"] = b"id\tdocument\tlabel\n"
    files["README.md"] = b"# Naver sentiment movie corpus\n"
    files["code/partition.py"] = b"raise SystemExit\n"
    files |= changed
    return {name: data for name, data in files.items() if data is not None}


def zipped(files, method=zipfile.ZIP_DEFLATED, top=TOP):
    """The bytes of a zip archive, with the commit for a comment as `git archive` makes it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(top + name, data)
        archive.comment = TOP[5:-1].encode()
    return buffer.getvalue()


def git_blob(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def git_tree(files):
    """What git calls raw/, by the definition."""
    raw = sorted(name for name in files if name.startswith("raw/"))
    lines = [b"100644 " + name[4:].encode() + b"\0" + bytes.fromhex(git_blob(files[name]))
             for name in raw]
    data = b"".join(lines)
    return hashlib.sha1(b"tree %d\0" % len(data) + data).hexdigest()


def take_for_official(files, monkeypatch):
    for name in naver_movie.OFFICIAL:
        found = git_tree(files) if name == "raw" else git_blob(files[name])
        monkeypatch.setitem(naver_movie.OFFICIAL, name, found)


@pytest.fixture
def at_hand(tmp_path):
    """A function that runs the command on an archive of these bytes, or of these files."""
    def use(content, *more):
        path = tmp_path / "mine.zip"
        path.write_bytes(content if isinstance(content, bytes) else zipped(content))
        return run("--archive", path, "--output_dir", tmp_path / "out", *more)
    use.out = tmp_path / "out"
    return use


# ---- A server: what it holds, and what goes wrong with it

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        if "ko-ConvBERT" not in self.headers["User-Agent"]:
            return status(403)(self)
        return (self.server.faults.pop(0) if self.server.faults else upto(None))(self)

    def log_message(self, *_):
        pass


def status(code, **headers):
    def answer(handler):
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), str(value))
        handler.send_header("Content-Length", "0")
        handler.end_headers()
    return answer


def upto(end):
    """The first bytes of the file. Nothing tells that they are not all."""
    def answer(handler):
        data = handler.server.files.get(handler.path)
        if data is None:
            return status(404)(handler)
        handler.send_response(200)
        handler.end_headers()
        with contextlib.suppress(OSError):
            handler.wfile.write(data[:end])
    return answer


@pytest.fixture
def server(monkeypatch):
    """A server with the sample's archive, whose content is taken for the official one."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(common, "BACKOFF", 0.0)
    site = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site.daemon_threads, site.asked, site.faults = True, [], []
    site.files = {AT: zipped(layout())}
    site.url = f"http://127.0.0.1:{site.server_port}{AT}"
    take_for_official(layout(), monkeypatch)
    threading.Thread(target=site.serve_forever, args=(0.01,), daemon=True).start()
    yield site
    site.shutdown()
    site.server_close()


def fetch(server, folder, *more):
    return run("--url", server.url, "--output_dir", folder, *more)


# ---- The whole of NSMC from one place

def test_git_names_files_and_folders_as_git_does(tmp_path):
    files = {"raw/" + name: data for name, data in RAW.items()}
    files |= {"ratings_train.txt": b"hello\n", "ratings_test.txt": b""}
    (tmp_path / "a.zip").write_bytes(zipped(files))
    with naver_movie.Archive(tmp_path / "a.zip") as archive:
        names = archive.git_names()
    assert (names["ratings_train.txt"], names["raw"]) == (HELLO, TREE)


def test_bundled_folder_needs_no_network_and_is_said_not_to_be_official(tmp_path):
    with mock.patch("socket.socket.connect", side_effect=AssertionError):
        result = check_success(run("--archive", SAMPLE, "--output_dir", tmp_path))
    assert "NOT the official archive" in result.out
    assert result.out.count("NOT the official file") == 2
    assert sorted(os.listdir(tmp_path)) == MADE
    for name in ("ratings_train.txt", "ratings_test.txt"):
        assert (tmp_path / name).read_bytes() == (SAMPLE / name).read_bytes()
    about = read_json(tmp_path / "nsmc.json")["reviews.txt"]
    assert (about["reviews"], about["reviews in the crawl"]) == (len(reviews_in(tmp_path)), 483)
    assert about["official archive"] is False


def test_every_different_review_is_a_document_without_those_of_the_test_set(tmp_path):
    check_success(run("--archive", SAMPLE, "--output_dir", tmp_path))
    crawl = [item for path in SAMPLE.glob("raw/*.json") for item in read_json(path)]
    rows = (SAMPLE / "ratings_test.txt").read_text(encoding="utf-8").splitlines()[1:]
    test_ids = {row.split("\t")[0] for row in rows}
    test = {squeeze(item["review"]) for item in crawl if item["review_id"] in test_ids}
    assert len(test) > 150  # so that there is something to leave out
    documents = reviews_in(tmp_path)
    left = {squeeze(item["review"]) for item in crawl} - test - {""}
    assert {squeeze(document) for document in documents} == left
    assert len(documents) == len(left)


def test_zip_and_folder_give_the_same(at_hand, tmp_path):
    check_success(at_hand(layout()))
    check_success(run("--archive", SAMPLE, "--output_dir", tmp_path / "folder"))
    for name in MADE:
        assert (at_hand.out / name).read_bytes() == (tmp_path / "folder" / name).read_bytes()


def test_text_is_one_line_and_differs_by_more_than_blanks(at_hand):
    texts = ["한 줄", "두\n줄\r\n이다", " \u3000앞뒤\t\u00a0 빈칸 ", "한줄", "한  줄", "", " \n ",
             "줄\u2028나눔\u0085표", "half \ud83d pair", "😀"]
    check_success(at_hand(layout(**{"raw/1.json": json.dumps([*map(review, texts)]).encode()})))
    documents = reviews_in(at_hand.out)
    for text in ("한 줄", "두 줄 이다", "앞뒤 빈칸", "줄 나눔 표", "half ? pair", "😀"):
        assert documents.count(text) == 1
    assert not {"한줄", "한  줄", ""} & {*documents}
    assert all(document == " ".join(document.split()) for document in documents)


def test_files_come_in_byte_order_of_their_names(at_hand):
    files = {name: data for name, data in layout().items() if not name.startswith("raw/")}
    for name in ("2", "100", "10"):
        files[f"raw/{name}.json"] = as_json([review(f"film {name}", name)])
    check_success(at_hand(files))
    assert reviews_in(at_hand.out) == ["film 10", "film 100", "film 2"]


def test_review_of_the_test_set_is_left_out_by_its_id_too(at_hand):
    test = b"id\tdocument\tlabel\n5\tabridged\t1\n6\tb\t0\n"
    raw = as_json([review("not abridged", 5), review("other", 7), review(" b", 8)])
    files = {name: data for name, data in layout().items() if not name.startswith("raw/")}
    check_success(at_hand(files | {"ratings_test.txt": test, "raw/1.json": raw}))
    assert reviews_in(at_hand.out) == ["other"]


# ---- How the official files come out of the crawl

def quoted(text):
    """A field of CSV: within quotes if it holds one."""
    return '"' + text.replace('"', '""') + '"' if '"' in text else text


def as_table(rows):
    return "".join("\t".join(map(str, row)) + "\n" for row in [("id", "document", "label"), *rows])


def split(rows, test_size):
    """ratings_train.txt and ratings_test.txt out of the rows of ratings.txt, shuffled by seed."""
    np.random.seed(1234)
    order = np.random.permutation(len(rows))
    rows = [(rows[i][0], quoted(rows[i][1]), rows[i][2]) for i in order]
    return as_table(rows[:-test_size]), as_table(rows[-test_size:])


def draw(crawl, a_label, test_size):
    """The three files of NSMC out of the crawl {file name: reviews}, by its authors' recipe.

    a_label reviews of each label, 100,000 in NSMC; test_size of both together, there 50,000.
    """
    labels = {9: 1, 10: 1} | dict.fromkeys((1, 2, 3, 4), 0)
    rows = [(item["review_id"], " ".join(item["review"].split()), labels[int(item["rating"])])
            for name in sorted(crawl) for item in crawl[name] if int(item["rating"]) in labels]
    np.random.seed(1234)
    order = np.random.permutation(len(rows))
    rows = [(rows[i][0], quoted(rows[i][1]), rows[i][2]) for i in order]
    rows = [row for label in (1, 0) for row in [row for row in rows if row[2] == label][:a_label]]
    files = dict(zip(("ratings_train.txt", "ratings_test.txt"), split(rows, test_size)))
    return {name: text.encode() for name, text in {"ratings.txt": as_table(rows), **files}.items()}


@pytest.fixture
def analogue(monkeypatch):
    """NSMC in small: the sample's crawl, and what the recipe draws from it. Taken for official."""
    crawl = {path.name: read_json(path) for path in SAMPLE.glob("raw/*.json")}
    crawl["20.json"].append(review('말 그대로 "최고"  라는 말', 90, 10))
    crawl["20.json"].append(review('"끝"', 91, 1))
    files = draw(crawl, a_label=200, test_size=100)
    files |= {f"raw/{name}": as_json(reviews) for name, reviews in crawl.items()}
    take_for_official(files, monkeypatch)
    return SimpleNamespace(crawl=crawl, files=files)


def test_official_files_come_out_of_the_crawl(analogue, server, monkeypatch, tmp_path):
    server.files[AT] = zipped(analogue.files)
    take_for_official(analogue.files, monkeypatch)
    result = check_success(fetch(server, tmp_path))
    assert "the official archive" in result.out
    assert result.out.count(": the official file") == 2
    for name in ("ratings_train.txt", "ratings_test.txt"):
        assert (tmp_path / name).read_bytes() == analogue.files[name]
    tables = {name: naver_movie.read_reviews(tmp_path / f"ratings_{name}.txt")
              for name in ("train", "test")}
    assert [len(table) for table in tables.values()] == [300, 100]
    texts = {item["review_id"]: " ".join(item["review"].split())
             for items in analogue.crawl.values() for item in items}
    for table in tables.values():  # quoted twice, they are read as they were written
        assert [texts[id] for id in table["id"]] == [*table["document"]]
    documents = {squeeze(document) for document in reviews_in(tmp_path)}
    assert documents == {squeeze(text) for text in texts.values()} - {
        squeeze(text) for text in tables["test"]["document"]} - {""}


def test_recipe_quotes_once_then_twice():
    crawl = {"1.json": [review('"끝"', 1, 1), review("a  b", 2, 10), review("c", 3, 5)]}
    files = draw(crawl, a_label=1, test_size=1)
    assert files["ratings.txt"].decode().split("\n")[1:3] == ["2\ta b\t1", '1\t"""끝"""\t0']
    both = files["ratings_train.txt"] + files["ratings_test.txt"]
    assert '\t"""""""끝"""""""\t' in both.decode()


REAL = sorted(ROOT.parent.glob("shared/fixtures/nsmc_crawl/*.json"))


@pytest.mark.skipif(not REAL, reason="needs some files of the real crawl")
def test_real_files_of_the_crawl_are_read(at_hand):
    crawl = {path.name: read_json(path) for path in REAL}
    files = draw(crawl, a_label=40, test_size=20)
    files |= {f"raw/{path.name}": path.read_bytes() for path in REAL}
    check_success(at_hand(files))
    about = read_json(at_hand.out / "nsmc.json")
    assert (about["train"]["reviews"], about["test"]["reviews"]) == (60, 20)
    assert about["reviews.txt"]["reviews in the crawl"] == sum(map(len, crawl.values()))
    assert about["reviews.txt"]["reviews"] == len({*reviews_in(at_hand.out)}) > 200


# ---- Broken and foreign archives, and bombs

def patched(data, name, offset, value, size=4):
    """An archive whose list has another number for a member, at this offset of its record."""
    at = data.index(TOP.encode() + name.encode(), data.index(b"PK\1\2")) - 46 + offset
    return data[:at] + value.to_bytes(size, "little") + data[at + size :]


def long_list():
    """An archive whose list of members is 5 MB long, nearly all of it comments."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in layout().items():
            archive.writestr(TOP + name, data)
        for number in range(80):
            info = zipfile.ZipInfo(f"{TOP}more/{number}")
            info.comment = b"x" * 0xFFFF
            archive.writestr(info, b"")
    return buffer.getvalue()


def with_zip64():
    """An archive with a Zip64 record, which would tell another length of the list."""
    data = zipped(layout())
    at = data.rindex(b"PK\5\6")
    return data[:at] + b"PK\6\7" + bytes(16) + data[at:]


def twice():
    buffer = io.BytesIO(zipped(layout()))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("nsmc-other/raw/1.json", b"[]")
    return buffer.getvalue()


def flipped():
    data = bytearray(zipped(layout(), zipfile.ZIP_STORED))
    data[data.index(b'"author"')] ^= 1
    return bytes(data)


def lying(name, size):
    """An archive whose list has another size for a member."""
    return patched(SAMPLE_ZIP, name, 24, size)


def many():
    """An archive of 520 small files, each of which is a megabyte by the list."""
    names = [f"raw/{number}.json" for number in range(1000, 1520)]
    data = zipped(layout(**dict.fromkeys(names, b"[]")))
    for name in names:
        data = patched(data, name, 24, 1 << 20)
    return data


def tampered(**files):
    """The sample with other files, made when it is asked for."""
    return lambda: zipped(layout(**files))


SAMPLE_ZIP = zipped(layout())
ONE, RATINGS, TEST, TRAINING = "raw/1.json", "ratings.txt", "ratings_test.txt", "ratings_train.txt"
NO_CRAWL = dict.fromkeys([name for name in layout() if name.startswith("raw/")])
CP949 = as_json([review("가")]).decode().encode("cp949")
NO_LABEL = b"id\tdocument\n1\ta\n"
BROKEN = {  # name: what makes the archive, and what the message must contain
    "no bytes": (lambda: b"", "not a zip archive"),
    "a page": (lambda: b"<html>Not Found</html>", "not a zip archive"),
    "cut": (lambda: SAMPLE_ZIP[:-9000], "not a zip archive"),
    "its start is missing": (lambda: SAMPLE_ZIP[50_000:], "mine.zip"),
    "list is damaged": (lambda: SAMPLE_ZIP.replace(b"PK\1\2", b"PK\1\1"), "mine.zip"),
    "members are damaged": (lambda: SAMPLE_ZIP.replace(b"PK\3\4", b"PK\3\3"), RATINGS, "Bad magic"),
    "a bit": (flipped, ONE, "CRC"),
    "no test set": (tampered(**{TEST: None}), "lacks ratings_test.txt"),
    "no crawl": (tampered(**NO_CRAWL), "lacks raw"),
    "another repository": (lambda: zipped({"README.md": b"x"}), "not an archive of NSMC"),
    "a folder deeper": (lambda: zipped(layout(), top="a/" + TOP), "not an archive of NSMC"),
    "no folder": (lambda: zipped(layout(), top=""), "not an archive of NSMC"),
    "a file twice": (twice, ONE, "twice"),
    "encrypted": (lambda: patched(SAMPLE_ZIP, ONE, 8, 1, 2), ONE, "encrypted"),
    "more than the list says": (lambda: lying(ONE, 99), ONE),
    "less than the list says": (lambda: lying(ONE, 99_999), ONE, "99,999 bytes"),
    "bomb in the crawl": (tampered(**{ONE: bytes(2 << 20)}), ONE, "2,097,152 bytes", "too large"),
    "bomb in a table": (tampered(**{RATINGS: bytes(25 << 20)}), RATINGS, "too large"),
    "bomb by the sum": (many, "531 files", "too large"),
    "bomb by another method": (lambda: zipped(layout(), zipfile.ZIP_LZMA), "method 14"),
    "bomb by the list": (long_list, "list of members"),
    "bomb by Zip64": (with_zip64, "list of members"),
    "no JSON": (tampered(**{ONE: b"[{]"}), ONE, "not JSON"),
    "JSON in cp949": (tampered(**{ONE: CP949}), ONE, "not JSON"),
    "JSON too deep": (tampered(**{ONE: b"[" * 500_000}), ONE, "not JSON"),
    "no list": (tampered(**{ONE: b'{"review": "a"}'}), ONE, "not a list"),
    "no reviews": (tampered(**{ONE: b"[1, 2]"}), ONE, "not a list"),
    "no text": (tampered(**{ONE: b'[{"review": null}]'}), ONE, "not a list"),
    "no table": (tampered(**{TRAINING: NO_LABEL}), f"mine.zip: {TRAINING}, line 1", "label"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_archive_that_is_broken_is_told(kind, at_hand):
    make, *names = BROKEN[kind]
    check_error(at_hand(make()), *names)
    assert not {name for name in os.listdir(at_hand.out) if not name.startswith("ratings")}
    assert not [*at_hand.out.glob("*.tmp")]


@pytest.mark.parametrize("bound, most, why", [
    ("FILES_MOST", 10, "11 files"), ("REVIEWS_MOST", 640, "ratings_train.txt: too many lines"),
    ("REVIEWS_MOST", 641, "")])
def test_too_many_of_anything_are_told(bound, most, why, at_hand, monkeypatch):
    monkeypatch.setattr(naver_movie, bound, most)
    if why:
        check_error(at_hand(SAMPLE_ZIP), why)
    else:
        check_success(at_hand(SAMPLE_ZIP))


def test_too_many_reviews_in_the_crawl_are_told(at_hand, monkeypatch):
    monkeypatch.setattr(naver_movie, "REVIEWS_MOST", 1000)
    result = at_hand(layout(**{ONE: json.dumps([review("a")] * 600).encode()}))
    check_error(result, "raw/", "too many reviews")
    assert "reviews.txt" not in os.listdir(at_hand.out)


@pytest.mark.parametrize("number", [None, 5, [], {}, "x"])
def test_number_of_a_review_may_be_anything(number, at_hand):
    item = review("a") | {"review_id": number}
    check_success(at_hand(layout(**{ONE: json.dumps([item]).encode()})))
    assert "a" in reviews_in(at_hand.out)


@pytest.mark.parametrize("name", ["nowhere.zip", "raw"])
def test_archive_that_is_none_is_told(name, tmp_path):
    (tmp_path / "raw").mkdir()
    check_error(run("--archive", tmp_path / name, "--output_dir", tmp_path / "out"), name)


def test_folder_is_bounded_as_an_archive_is(tmp_path):
    for name, data in layout(**{"raw/7.json": bytes(2 << 20)}).items():
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / name).write_bytes(data)
    result = run("--archive", tmp_path / "mine", "--output_dir", tmp_path / "out")
    check_error(result, "raw/7.json", "too large")


def test_other_members_are_never_read(at_hand, tmp_path):
    """Whatever their names are: were one read, its wrong CRC would tell."""
    names = ["../../evil.json", "/raw/1.json", "x/raw/../../evil.json", "x/raw/a/b.json",
             "x/raw/1.json.exe", "x/raw/", "x\\raw\\5.json", "x/code/raw/5.json", "x/RATINGS.txt"]
    buffer = io.BytesIO(SAMPLE_ZIP)
    with zipfile.ZipFile(buffer, "a") as archive:
        for name in names:
            archive.writestr(name, b"evil", zipfile.ZIP_STORED)
    check_success(at_hand(buffer.getvalue().replace(b"evil", b"Evil")))
    assert sorted(os.listdir(at_hand.out)) == MADE
    assert sorted(os.listdir(tmp_path)) == ["mine.zip", "out"]
    check_success(run("--archive", SAMPLE, "--output_dir", tmp_path / "b"))
    assert (at_hand.out / "reviews.txt").read_bytes() == (tmp_path / "b/reviews.txt").read_bytes()


# ---- Downloads

def test_archive_is_fetched_once_and_proved(server, tmp_path):
    result = check_success(fetch(server, tmp_path))
    assert f"{KEPT}: the official archive" in result.out
    assert result.out.count(": the official file") == 2
    assert sorted(os.listdir(tmp_path)) == sorted([KEPT, *MADE])
    assert (tmp_path / "ratings_test.txt").read_bytes() == layout()["ratings_test.txt"]
    about = read_json(tmp_path / "nsmc.json")
    train = about["train"]
    assert [train[name] for name in ("reviews", "positive", "empty documents")] == [640, 320, 2]
    assert (about["test"]["reviews"], about["test"]["official"]) == (200, True)
    assert about["reviews.txt"]["official archive"] is True
    (tmp_path / KEPT).unlink()  # nothing asks for it any more
    check_success(fetch(server, tmp_path))
    assert read_json(tmp_path / "nsmc.json") == about
    assert server.asked == [AT]


def test_file_that_is_lost_comes_out_of_the_archive_that_is_there(server, tmp_path):
    check_success(fetch(server, tmp_path))
    whole = (tmp_path / "reviews.txt").read_bytes()
    for name in ("reviews.txt", "ratings_train.txt", "ratings_test.txt", "nsmc.json"):
        (tmp_path / name).unlink()
        check_success(fetch(server, tmp_path))
        assert (tmp_path / "reviews.txt").read_bytes() == whole
        assert sorted(os.listdir(tmp_path)) == sorted([KEPT, *MADE])
    assert server.asked == [AT]
    check_success(fetch(server, tmp_path, "--overwrite"))
    assert server.asked == [AT, AT]


PASSING = {"cut off": [upto(9000)], "cut off at once": [upto(0)],
           "cut off twice": [upto(9), upto(-90)],
           "busy": [status(503, Retry_After=0)]}


@pytest.mark.parametrize("fault", PASSING)
def test_archive_arrives_after_faults_that_pass(fault, server, tmp_path):
    server.faults = [*PASSING[fault]]
    check_success(fetch(server, tmp_path))
    assert sorted(os.listdir(tmp_path)) == sorted([KEPT, *MADE])


def test_archive_that_never_comes_whole_is_told(server, tmp_path):
    server.faults = [upto(9000)] * 50
    check_error(fetch(server, tmp_path), server.url, "not a zip archive", "run again")
    assert not os.listdir(tmp_path)
    assert len(server.asked) == naver_movie.TRIES


@pytest.mark.parametrize("name", ["ratings.txt", "ratings_train.txt", "raw/1.json", "raw/9.json"])
def test_archive_with_other_content_is_not_taken_for_the_official(name, server, tmp_path):
    server.files[AT] = zipped(layout(**{name: layout().get(name, b"") + b" "}))
    check_error(fetch(server, tmp_path), "NOT the official archive", name.split("/")[0] + " is")
    assert not os.listdir(tmp_path)


def test_archive_that_lacks_a_file_is_not_taken_for_the_official(server, tmp_path):
    server.files[AT] = zipped(layout(**{"ratings.txt": None}))
    check_error(fetch(server, tmp_path), "NOT the official archive", "ratings.txt is missing")
    assert not os.listdir(tmp_path)


def test_archive_that_was_changed_since_is_told(server, tmp_path):
    (tmp_path / KEPT).write_bytes(zipped(layout(**{"raw/1.json": b"[]"})))
    check_error(fetch(server, tmp_path), KEPT, "NOT the official archive", "--overwrite")
    check_success(fetch(server, tmp_path, "--overwrite"))


@pytest.mark.parametrize("url", ["nowhere", "http://["])
def test_address_that_is_none_is_told(url, tmp_path):
    check_error(run("--url", url, "--output_dir", tmp_path), url)


def test_archive_that_is_not_there_is_told(server, tmp_path):
    check_error(run("--url", server.url + "x", "--output_dir", tmp_path), "404", "--url")
    assert not os.listdir(tmp_path)


# ---- Killed at any moment

def test_download_that_was_killed_is_not_taken_for_whole(server, tmp_path):
    hold = threading.Event()

    def stall(handler):
        upto(9000)(handler)
        hold.wait(60)

    server.faults = [stall]
    process = start(as_program("--url", server.url, "--output_dir", tmp_path))
    deadline = time.monotonic() + 120
    while not [*tmp_path.glob("*.tmp")]:
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.005)
    process.kill()
    process.communicate()
    hold.set()
    assert KEPT not in os.listdir(tmp_path)
    check_success(fetch(server, tmp_path))
    assert sorted(os.listdir(tmp_path)) == sorted([KEPT, *MADE])


def test_what_a_killed_run_has_left_is_replaced(server, tmp_path):
    for name in (f"{KEPT}.new", f"{KEPT}.newabc.tmp", "reviews.txt.tmp", "ratings_test.txt.tmp"):
        (tmp_path / name).write_bytes(SAMPLE_ZIP[:5000])
    check_success(fetch(server, tmp_path))
    assert sorted(os.listdir(tmp_path)) == sorted([KEPT, *MADE])


class Killed(BaseException):
    """Ends a run like a kill: nobody catches it, and Path.unlink, which tidies up, does nothing."""


def killed_after(files):
    """An os.replace that gives so many files their name, and ends the run at the next one."""
    real, done = os.replace, []

    def replace(*names):
        if len(done) == files:
            raise Killed
        done.append(real(*names))

    return replace


@pytest.mark.parametrize("files", range(4))
def test_run_killed_before_a_file_has_its_name_goes_on(files, tmp_path, monkeypatch):
    options = ("--archive", SAMPLE, "--output_dir", tmp_path / "killed")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed_after(files))
        patch.setattr(Path, "unlink", lambda *_, **__: None)
        with pytest.raises(Killed):
            run(*options)
    check_success(run("--archive", SAMPLE, "--output_dir", tmp_path / "whole"))
    left = [path for path in (tmp_path / "killed").iterdir() if path.name != ".lock"]
    whole = [path for path in left if path.suffix != ".tmp"]
    assert (len(whole), len(left)) == (files, max(3, files + 1))  # three get names together
    for path in whole:  # what has its name is whole
        assert path.read_bytes() == (tmp_path / "whole" / path.name).read_bytes()
    check_success(run(*options))
    assert sorted(os.listdir(tmp_path / "killed")) == MADE
    for name in MADE:
        made = (tmp_path / "killed" / name).read_bytes()
        assert made == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_full_disk_is_told_and_leaves_nothing(server, tmp_path):
    for name in ("reviews.txt", "ratings_test.txt", "ratings_train.txt"):
        (tmp_path / f"{name}.tmp").symlink_to("/dev/full")
        result = run("--archive", SAMPLE, "--output_dir", tmp_path, "--overwrite")
        check_error(result, f"{name}.tmp", "No space left")
        assert name not in os.listdir(tmp_path)
        for path in tmp_path.iterdir():
            path.unlink()
    with mock.patch("wget.download", side_effect=OSError(errno.ENOSPC, "No space left on device")):
        check_error(fetch(server, tmp_path), KEPT, "No space left")
    assert server.asked == [] and not list(tmp_path.iterdir())


def test_second_run_in_a_folder_is_refused(tmp_path):
    pytest.importorskip("fcntl", reason="locks of another kind on this system")
    with common.locked(tmp_path):
        check_error(run("--archive", SAMPLE, "--output_dir", tmp_path), "another run")
    check_success(run("--archive", SAMPLE, "--output_dir", tmp_path))


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no such permissions on this system")
def test_folder_without_permission_is_told(server):
    naver_movie.read_reviews(SAMPLE / "ratings_test.txt")  # who has no rights may lack modules, too
    with tempfile.TemporaryDirectory() as folder:  # tmp_path is closed to the user who owns nothing
        os.chmod(folder, 0o755)
        closed = Path(folder) / "closed"
        closed.mkdir(0o555)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)
        try:
            check_error(fetch(server, closed), "closed", "Permission denied")
        finally:
            if root:
                os.seteuid(0)


def table_of(count):
    return as_table((number, f"평 {number}", number % 2) for number in range(count)).encode()


@pytest.mark.parametrize("files", range(3))
def test_run_killed_between_renames_leaves_no_mixture(files, at_hand, monkeypatch):
    def killed(content):
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(os, "replace", killed_after(files))
            at_hand(content, "--overwrite")
        return {name: (at_hand.out / name).read_bytes() for name in (TRAINING, TEST)
                if (at_hand.out / name).exists()}

    old = {name: layout()[name] for name in (TRAINING, TEST)}
    new = {TRAINING: table_of(8), TEST: table_of(4)}
    check_success(at_hand(layout()))
    assert killed(layout()) == old  # what stays the same is always there
    assert killed(layout(**new)).items() <= new.items()
    check_success(at_hand(layout(**new), "--overwrite"))
    assert {name: (at_hand.out / name).read_bytes() for name in new} == new


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="no /proc on this system")
@pytest.mark.parametrize("last", ["ratings_train.txt.tmp", "ratings_test.txt.tmp",
                                  "reviews.txt.tmp"])
def test_disk_that_tells_late_that_it_is_full_leaves_the_old_files(last, at_hand, monkeypatch):
    real = os.fsync

    def fsync(number):
        if os.readlink(f"/proc/self/fd/{number}").endswith(last):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(number)

    check_success(at_hand(layout()))
    before = {path.name: path.read_bytes() for path in at_hand.out.iterdir()}
    monkeypatch.setattr(os, "fsync", fsync)
    new = {TRAINING: table_of(8), TEST: table_of(4)}
    check_error(at_hand(layout(**new), "--overwrite"), last, "No space left")
    assert {path.name: path.read_bytes() for path in at_hand.out.iterdir()} == before


# ---- Files that are there, files of one's own

def local(folder, *more, train=SAMPLE / "ratings_train.txt", test=SAMPLE / "ratings_test.txt"):
    return run("--output_dir", folder, "--train_file", train, "--test_file", test, *more)


@pytest.fixture
def other(tmp_path):
    path = tmp_path / "other.txt"
    path.write_text("id\tdocument\tlabel\n1\ta\t1\n2\tb\t0\n", encoding="utf-8")
    return path


def test_local_reviews_need_no_archive_and_replace_nothing(tmp_path, other):
    folder = tmp_path / "out"
    assert check_success(local(folder)).out.count("NOT the official file") == 2
    assert sorted(os.listdir(folder)) == ["nsmc.json", "ratings_test.txt", "ratings_train.txt"]
    check_error(local(folder, train=other), "--overwrite")
    assert (folder / "ratings_train.txt").read_bytes() == TRAIN
    check_success(local(folder, "--overwrite", train=other))
    assert (folder / "ratings_train.txt").read_bytes() == other.read_bytes()


def test_test_set_of_ones_own_is_kept_out_of_the_reviews(server, tmp_path, other):
    check_success(fetch(server, tmp_path))
    text = reviews_in(tmp_path)[0]
    other.write_text(f"id\tdocument\tlabel\n1\t {text}\t1\n2\tb\t0\n", encoding="utf-8")
    check_error(fetch(server, tmp_path, "--test_file", other), "ratings_test.txt", "--overwrite")
    assert text in reviews_in(tmp_path)
    check_success(fetch(server, tmp_path, "--test_file", other, "--overwrite"))
    assert text not in reviews_in(tmp_path)
    asked = len(server.asked)
    check_success(fetch(server, tmp_path, "--test_file", other))
    assert len(server.asked) == asked


def test_reviews_of_the_last_run_are_made_again_out_of_another_crawl(at_hand):
    check_success(at_hand(layout()))
    check_success(at_hand(layout(**{ONE: as_json([review("새로운 평")])})))
    assert "새로운 평" in reviews_in(at_hand.out)
    (at_hand.out / "reviews.txt").write_text("changed by hand")
    check_error(at_hand(layout()), "reviews.txt", "--overwrite")


def test_reviews_for_another_test_set_are_told(tmp_path, other):
    folder = tmp_path / "out"
    check_success(run("--archive", SAMPLE, "--output_dir", folder))
    assert "warning" not in check_success(local(folder)).err
    result = check_success(local(folder, "--overwrite", test=other))
    assert "reviews.txt: NOT known to be made for this test set" in result.err


def test_reviews_of_which_nothing_is_known_are_told(tmp_path):
    check_success(run("--archive", SAMPLE, "--output_dir", tmp_path))
    (tmp_path / "nsmc.json").unlink()
    assert "reviews.txt: NOT known to be made" in check_success(local(tmp_path)).err


def test_vocabulary_that_is_not_there_is_told_before_anything_is_written(tmp_path):
    result = run("--archive", SAMPLE, "--output_dir", tmp_path, "--vocab_file", "nope")
    check_error(result, "nope")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("name", ["ratings_test.txt", "a review", "reviews.txt"])
def test_run_that_fails_replaces_no_file(name, at_hand):
    check_success(at_hand(layout()))
    if name == "reviews.txt":
        (at_hand.out / name).write_text("changed by hand")
    before = {path.name: path.read_bytes() for path in at_hand.out.iterdir()}
    others = {"ratings_train.txt": b"id\tdocument\tlabel\n1\ta\t1\n2\tb\t0\n"}
    others |= {"ratings_test.txt": {"ratings_test.txt": b"nothing\n"}, "a review": {ONE: b"["},
               "reviews.txt": {}}[name]
    more = () if name == "reviews.txt" else ("--overwrite",)
    assert at_hand(layout(**others), *more).code == 2
    assert {path.name: path.read_bytes() for path in at_hand.out.iterdir()} == before


def test_file_that_is_not_there_is_named(tmp_path):
    check_error(local(tmp_path, test=tmp_path / "nowhere.txt"), "nowhere.txt")


@pytest.mark.parametrize("name", ["ratings_train.txt", "reviews.txt"])
def test_file_of_others_is_not_replaced(name, tmp_path, other):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / name).write_bytes(other.read_bytes())
    check_error(run("--archive", SAMPLE, "--output_dir", folder), name, "--overwrite")
    assert (folder / name).read_bytes() == other.read_bytes()
    assert not [*folder.glob("*.tmp")]
    check_success(run("--archive", SAMPLE, "--output_dir", folder, "--overwrite"))
    assert (folder / name).read_bytes() != other.read_bytes()


def test_record_of_others_is_not_replaced(tmp_path):
    (tmp_path / "nsmc.json").write_text('{"mine": 1}')
    check_error(local(tmp_path), "nsmc.json", "--overwrite")
    assert os.listdir(tmp_path) == ["nsmc.json"]
    assert (tmp_path / "nsmc.json").read_text() == '{"mine": 1}'
    check_success(local(tmp_path, "--overwrite"))


def test_record_of_the_last_run_that_is_none_does_no_harm(server, tmp_path):
    for text in ('{"reviews.txt": 5}', "[]", "{", ""):
        (tmp_path / "nsmc.json").write_text(text)
        check_success(fetch(server, tmp_path))


TRAIN = (SAMPLE / "ratings_train.txt").read_bytes()
BAD_REVIEWS = {"no text": (TRAIN + b"\xff\xff\n", ["line 642", "UTF-8"]),
               "no document": (TRAIN.replace(b"document", b"text", 1), ["line 1", "document"]),
               "no id": (TRAIN.replace(b"id", b"number", 1), ["line 1", "id"]),
               "commas": (b"id,document,label\n1,a,0\n2,b,1\n", ["line 1", "tabs"]),
               "label": (TRAIN.replace(b"\t1\n", b"\tgood\n", 1), ["line 2", "good"]),
               "empty": (b"", ["bad.txt"]),
               "not there": (None, ["bad.txt"])}


@pytest.mark.parametrize("kind", BAD_REVIEWS)
def test_bad_reviews_are_told_and_left_out(kind, tmp_path):
    data, names = BAD_REVIEWS[kind]
    if data is not None:
        (tmp_path / "bad.txt").write_bytes(data)
    check_error(local(tmp_path / "out", train=tmp_path / "bad.txt"), "bad.txt", *names)
    assert not list((tmp_path / "out").iterdir())


def test_a_file_in_cp949_is_read_and_said(tmp_path):
    text = TRAIN.decode()
    known = [line for line in text.splitlines(True)
             if line.encode("cp949", "ignore").decode("cp949") == line]
    for name, encoding in (("a.txt", "utf-8"), ("b.txt", "cp949")):
        (tmp_path / name).write_bytes("".join(known).encode(encoding))
    found = naver_movie.read_reviews(tmp_path / "b.txt")
    assert found.equals(naver_movie.read_reviews(tmp_path / "a.txt")) and len(found) > 300


def test_warning_names_a_file_that_stays(tmp_path):
    mine, folder = tmp_path / "mine.txt", tmp_path / "out"
    mine.write_bytes("id\tdocument\tlabel\n1\t가\t1\n2\t나\t0\n".encode("cp949"))
    result = check_success(local(folder, train=mine, test=mine))
    assert ".tmp" not in result.err
    for name in (TRAINING, TEST):
        assert f"{folder / name}: not UTF-8; read as cp949" in result.err


def test_line_ends_of_windows_change_nothing(tmp_path):
    (tmp_path / "crlf.txt").write_bytes(b"\xef\xbb\xbf" + TRAIN.replace(b"\n", b"\r\n"))
    for folder, train in (("a", SAMPLE / "ratings_train.txt"), ("b", tmp_path / "crlf.txt")):
        check_success(local(tmp_path / folder, train=train))
    a, b = (read_json(tmp_path / folder / "nsmc.json") for folder in "ab")
    assert {**a["train"], "git_sha1": ""} == {**b["train"], "git_sha1": ""}


# ---- What is said of the files

@pytest.fixture(scope="module")
def vocabularies(tmp_path_factory):
    """Two vocabularies of the sample's training set: without byte fallback, and with it."""
    folder = tmp_path_factory.mktemp("vocab")
    texts = naver_movie.read_reviews(SAMPLE / "ratings_train.txt")["document"]
    for fallback in (False, True):
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(text for text in texts if text), vocab_size=1200,
            model_prefix=str(folder / str(fallback)), model_type="bpe", byte_fallback=fallback,
            minloglevel=2)
    return {fallback: folder / f"{fallback}.model" for fallback in (False, True)}


@pytest.mark.parametrize("fallback", [False, True])
def test_description_of_reviews_is_right(fallback, vocabularies, tmp_path):
    texts = ["좋아요", "", "좋아요", '"말" 없음', "뷁뷁"]
    rows = [f"{number}\t{quoted(quoted(text))}\t{number % 2}" for number, text in enumerate(texts)]
    file = tmp_path / "a.txt"
    file.write_text("\n".join(["id\tdocument\tlabel", *rows, ""]), encoding="utf-8")
    check_success(local(tmp_path / "out", "--vocab_file", vocabularies[fallback],
                        train=file, test=file))
    about = read_json(tmp_path / "out/nsmc.json")
    train = about["train"]
    counts = [train[f"{name}"] for name in ("reviews", "positive", "repeated documents",
                                            "repeated ids", "empty documents")]
    assert counts == [5, 2, 1, 0, 1]
    lengths = train["characters, 50% quantile"], train["characters, 100% quantile"]
    assert lengths == (3, 6)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(vocabularies[fallback]))
    pieces = [processor.encode(text, out_type=str) for text in texts]
    assert train["tokens, 100% quantile"] == max(map(len, pieces))
    total = sum(map(len, pieces))
    in_bytes = sum(piece.startswith("<0x") for part in pieces for piece in part)
    unknown = sum(processor.encode(text).count(processor.unk_id()) for text in texts)
    assert train["byte tokens, share"] == pytest.approx(in_bytes / total, abs=1e-6)
    assert train["unknown tokens, share"] == pytest.approx(unknown / total, abs=1e-6)
    assert (unknown == 0, in_bytes >= 6) == (fallback, fallback)
    assert about["test reviews with the document of one of train"] == 4
    assert about["test reviews with the id of one of train"] == 5


def test_many_reviews_are_counted_in_parts_as_well(vocabularies):
    texts = ["좋아요", "뷁", "정말 최고"] * 7000
    processor = sentencepiece.SentencePieceProcessor(model_file=str(vocabularies[True]))
    lengths, unknown, in_bytes = naver_movie.tokens_of(texts, processor)
    few = naver_movie.tokens_of(texts[:3], processor)
    assert [*lengths] == [*few[0]] * 7000
    assert (unknown, in_bytes) == pytest.approx(few[1:])


def test_vocabulary_that_is_none_is_told(tmp_path, other):
    check_error(local(tmp_path, "--vocab_file", other), "other.txt", "SentencePiece")


def test_output_in_cp949_and_into_a_file_does_not_end_the_run(tmp_path):
    folder = tmp_path / "영화😀"
    process = start(as_program("--archive", SAMPLE, "--output_dir", folder),
                    PYTHONIOENCODING="cp949", PYTHONUTF8="0")
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert "NOT the official archive" in out.decode("cp949")
    assert "영화\\U0001f600" in out.decode("cp949")
    assert sorted(os.listdir(folder)) == MADE


def test_nothing_of_it_needs_posix():
    process = start("import sys; sys.modules['fcntl'] = sys.modules['resource'] = None\n"
                    "import naver_movie")
    _, err = process.communicate()
    assert process.returncode == 0, err


# ---- MongoDB

def test_store_that_is_not_there_is_told_after_the_files_are(tmp_path):
    pytest.importorskip("pymongo")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    uri = f"mongodb://127.0.0.1:{port}/wiki?serverSelectionTimeoutMS=300"
    check_error(local(tmp_path, "--store", uri), "--store", "127.0.0.1", "refused")
    assert sorted(os.listdir(tmp_path)) == ["nsmc.json", "ratings_test.txt", "ratings_train.txt"]


def test_reviews_are_stored_once(mongo, tmp_path):
    first = check_success(local(tmp_path / "out", "--store", mongo.uri))
    assert "nsmc_train: 640" in first.out
    second = check_success(local(tmp_path / "out", "--store", mongo.uri))
    assert "nsmc_train: 0" in second.out


@pytest.fixture
def store(mongo, tmp_path):
    """A function that stores these rows of both files, and one that tells what is stored."""
    def use(train, test, *more):
        for name, rows in (("train", train), ("test", test)):
            (tmp_path / f"{name}.txt").write_text(as_table(rows), encoding="utf-8")
        folder = tempfile.mkdtemp(dir=tmp_path)  # always another, so that no file is in the way
        return local(folder, "--store", mongo.uri, *more,
                     train=tmp_path / "train.txt", test=tmp_path / "test.txt")

    def stored():
        return [[tuple(row.values()) for row in common.Store(mongo.uri, f"nsmc_{name}").read()]
                for name in ("train", "test")]

    use.stored = stored
    return use


def test_database_holds_the_reviews_of_the_last_files_alone(store):
    first = [("1", "가", 1), ("2", "나", 0), ("3", "옮긴다", 1)], [("4", "라", 0)]
    second = [("1", "고친다", 1), ("2", "나", 0)], [("3", "옮긴다", 1), ("4", "라", 0)]
    check_success(store(*first))
    check_error(store(*second), "--store", "nsmc_train has 2 reviews", "--overwrite")
    assert store.stored() == [*first]
    result = check_success(store(*second, "--overwrite"))
    assert "nsmc_train: 1 reviews were new or changed, 2 others were removed" in result.out
    assert store.stored() == [*second]


def test_database_that_cannot_have_one_file_gets_none(store):
    check_success(store([("1", "가", 1)], [("2", "나", 0)]))
    check_error(store([("1", "가", 1), ("3", "다", 0)], [("4", "라", 0)]), "nsmc_test has 1 review")
    assert store.stored() == [[("1", "가", 1)], [("2", "나", 0)]]


def test_review_of_others_with_any_id_is_told_and_goes_by_overwrite(store, mongo):
    rows = [("1", "가", 1)]
    check_success(store(rows, rows))
    others = [{"_id": {"a": 1}}, {"_id": 5, "document": "나"}]
    common.Store(mongo.uri, "nsmc_train").update(others)
    check_error(store(rows, rows), "nsmc_train has 2 reviews")
    check_success(store(rows, rows, "--overwrite"))
    assert store.stored() == [rows, rows]


def test_rows_with_the_same_id_are_told(store):
    rows = [("1", "가", 1), ("1", "나", 0), ("2", "다", 0)]
    assert "nsmc_train: 1 rows have the id of a later one" in check_success(store(rows, rows)).out
    assert "id of a later" not in check_success(store(rows[1:], rows[1:])).out  # the same is stored
    assert store.stored() == [rows[1:], rows[1:]]
