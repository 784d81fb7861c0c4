"""The reviews: fetched, verified, described, stored."""

import errno
import hashlib
import os
import socket
import threading
from pathlib import Path

import naver_movie
import pytest
import sentencepiece

from crawler.helpers import ROOT, SAMPLE, check_error, check_success, common, read_json, run, start, wait_for
from crawler.server import cut, status
from crawler.test_store import refusing_port

HELLO = "ce013625030ba8dba906f756967f9e9ca394464a"  # what `git hash-object` says of "hello\n"


def reviews(folder, *more):
    return run(naver_movie, "--output_dir", folder, *more)


def local(folder, *more, train=SAMPLE / "ratings_train.txt"):
    return reviews(folder, "--train_file", train, "--test_file", SAMPLE / "ratings_test.txt", *more)


@pytest.fixture
def nsmc(server, monkeypatch):
    """A server with the sample's reviews, taken for the official ones."""
    monkeypatch.setattr(socket, "getdefaulttimeout", lambda: 5)
    for split in ("train", "test"):
        data = (SAMPLE / f"ratings_{split}.txt").read_bytes()
        server.files[f"/ratings_{split}.txt"] = data
        name = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        monkeypatch.setitem(naver_movie.OFFICIAL, split, name)
    return server


def test_git_names_files_as_git_does(tmp_path):
    (tmp_path / "a").write_bytes(b"hello\n")
    assert common.git_sha1(tmp_path / "a") == HELLO


def test_reviews_are_fetched_once_verified_and_described(nsmc, tmp_path):
    result = check_success(reviews(tmp_path, "--url", nsmc.url))
    assert result.out.count("the official file") == 2
    assert (tmp_path / "ratings_test.txt").read_bytes() == (SAMPLE / "ratings_test.txt").read_bytes()
    about = read_json(tmp_path / "nsmc.json")
    assert [about["train"][name] for name in ("reviews", "positive", "empty documents")] == [640, 320, 2]
    assert (about["test"]["reviews"], about["test"]["official"]) == (200, True)
    assert sorted(os.listdir(tmp_path)) == ["nsmc.json", "ratings_test.txt", "ratings_train.txt"]
    check_success(reviews(tmp_path, "--url", nsmc.url))
    assert len(nsmc.asked) == 2
    assert not list(Path.cwd().glob("ratings*"))


def test_description_of_reviews_is_right(tmp_path):
    rows = ["1\t좋아요\t1", "2\t\t0", "3\t좋아요\t1", '4\t"""말"" 없음"\t0', "5\t뷁뷁\t1"]
    file = tmp_path / "a.txt"
    file.write_text("\n".join(["id\tdocument\tlabel", *rows, ""]), encoding="utf-8")
    check_success(reviews(tmp_path / "out", "--train_file", file, "--test_file", file))
    about = read_json(tmp_path / "out/nsmc.json")
    train = about["train"]
    assert (train["repeated documents"], train["repeated ids"], train["empty documents"]) == (1, 0, 1)
    assert (train["characters, 50% quantile"], train["characters, 100% quantile"]) == (3, 6)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(ROOT / "vocab/kowiki.model"))
    ids = [processor.encode(text) for text in ("좋아요", "", "좋아요", '"말" 없음', "뷁뷁")]
    assert train["tokens, 100% quantile"] == max(map(len, ids))
    unknown = sum(part.count(1) for part in ids) / sum(map(len, ids))
    assert train["unknown tokens, share"] == pytest.approx(unknown, abs=1e-6)
    assert unknown > 0
    assert about["test reviews with the document of one of train"] == 4
    assert about["test reviews with the id of one of train"] == 5


@pytest.mark.parametrize("faults", [[status(503, Retry_After=1)], [cut(99)], [cut(99, length=False)]])
def test_reviews_arrive_after_faults_that_pass(faults, nsmc, waits, tmp_path):
    nsmc.faults["/ratings_test.txt"] = faults
    check_success(reviews(tmp_path, "--url", nsmc.url))
    assert (tmp_path / "ratings_test.txt").read_bytes() == (SAMPLE / "ratings_test.txt").read_bytes()
    assert len(list(tmp_path.iterdir())) == 3


def test_reviews_killed_on_their_way_arrive_and_leave_nothing_else(nsmc, tmp_path):
    hold = threading.Event()
    nsmc.faults["/ratings_train.txt"] = [lambda handler: hold.wait(60) and None]
    process = start("naver_movie.py", "--url", nsmc.url, "--output_dir", tmp_path)
    wait_for(lambda: nsmc.asked)
    process.kill()
    process.communicate()
    hold.set()
    assert os.listdir(tmp_path) == ["ratings_train.txt.part"]
    check_success(reviews(tmp_path, "--url", nsmc.url))
    assert sorted(os.listdir(tmp_path)) == ["nsmc.json", "ratings_test.txt", "ratings_train.txt"]


def test_reviews_that_find_no_room_are_told(nsmc, waits, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("wget.download", full)
    check_error(reviews(tmp_path, "--url", nsmc.url), "ratings_train.txt", "No space left")
    assert not waits
    assert not os.listdir(tmp_path)


def test_reviews_of_another_make_are_not_taken_for_the_official(nsmc, waits, tmp_path):
    nsmc.files["/ratings_test.txt"] += b"1\tx\t1\n"
    check_error(reviews(tmp_path, "--url", nsmc.url), "ratings_test.txt", "git blob")
    assert not (tmp_path / "ratings_test.txt").exists()


@pytest.mark.parametrize("url", ["nowhere", "http://["])
def test_address_of_reviews_that_is_none_is_told(url, tmp_path, waits):
    check_error(reviews(tmp_path, "--url", url), url)


def test_local_reviews_are_said_not_to_be_official_and_replace_nothing(tmp_path):
    assert check_success(local(tmp_path)).out.count("NOT the official file") == 2
    other = tmp_path / "other.txt"
    other.write_text("id\tdocument\tlabel\n1\ta\t1\n2\tb\t0\n")
    check_error(local(tmp_path, train=other), "--overwrite")
    assert (tmp_path / "ratings_train.txt").read_bytes() == (SAMPLE / "ratings_train.txt").read_bytes()
    check_success(local(tmp_path, "--overwrite", train=other))
    assert (tmp_path / "ratings_train.txt").read_bytes() == other.read_bytes()


TRAIN = (SAMPLE / "ratings_train.txt").read_bytes()
BAD_REVIEWS = {"cp949": (TRAIN.decode().encode("cp949", "replace"), ["cp949"]),
               "no document": (TRAIN.replace(b"document", b"text", 1), ["line 1", "document"]),
               "no id": (TRAIN.replace(b"id", b"number", 1), ["line 1", "id"]),
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


def test_line_ends_of_windows_change_nothing(tmp_path):
    (tmp_path / "crlf.txt").write_bytes(b"\xef\xbb\xbf" + TRAIN.replace(b"\n", b"\r\n"))
    for folder, train in (("a", SAMPLE / "ratings_train.txt"), ("b", tmp_path / "crlf.txt")):
        check_success(local(tmp_path / folder, train=train))
    a, b = (read_json(tmp_path / folder / "nsmc.json") for folder in "ab")
    assert {**a["train"], "git_sha1": ""} == {**b["train"], "git_sha1": ""}


def test_reviews_are_stored_once(mongo, tmp_path):
    first = check_success(local(tmp_path, "--store", mongo.uri))
    assert "nsmc_train: 640" in first.out
    assert "nsmc_train: 0" in check_success(local(tmp_path, "--store", mongo.uri)).out


def test_store_of_reviews_that_is_not_there_is_told_after_the_files_are(tmp_path):
    pytest.importorskip("pymongo")
    uri = f"mongodb://127.0.0.1:{refusing_port()}/wiki?serverSelectionTimeoutMS=300"
    check_error(local(tmp_path, "--store", uri), "--store", "127.0.0.1", "refused")
    assert sorted(os.listdir(tmp_path)) == ["nsmc.json", "ratings_test.txt", "ratings_train.txt"]
