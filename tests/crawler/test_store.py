"""MongoDB: updated in place, exported, gone away."""

import socket

import pytest

from crawler.helpers import (
    PROSE,
    SAMPLE,
    articles,
    check_error,
    check_success,
    common,
    extract,
    kowiki,
    read_json,
    revisions,
    run,
    write_dump,
)


def test_store_is_updated_in_place_and_gives_the_same_text(mongo, tmp_path):
    dump = write_dump(tmp_path / "a.xml", revisions(300))
    check_success(extract(dump, tmp_path / "out", "--store", mongo.uri))
    assert read_json(tmp_path / "out/kowiki.txt.json")["stored"] == 300
    changed = (7, 20, 255)  # 1 %
    write_dump(dump, revisions(300, changed))
    store = common.Store(mongo.uri, "articles")
    check_success(extract(dump, tmp_path / "out", "--store", mongo.uri))
    assert read_json(tmp_path / "out/kowiki.txt.json")["stored"] == 3
    found = list(store.read())
    assert tuple(document["_id"] for document in found if document["revision"] == 2) == changed
    assert [document["_id"] for document in found] == list(range(1, 301))
    assert found[6] == {"_id": 7, "revision": 2, "title": "문서 7", "text": PROSE.format(-7),
                        "date": "2026-11-01T00:00:00Z"}
    export = tmp_path / "export"
    check_success(run(kowiki, "--stage", "extract", "--from_store", mongo.uri, "--valid_share", 0,
                      "--output_dir", export))
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
    check_error(extract(dump, tmp_path / "out", "--store", mongo.uri), "--store")
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

    options = ("--stage", "extract", "--from_store", mongo.uri, "--valid_share", 0,
               "--output_dir", tmp_path / "export")
    monkeypatch.setattr(common.Store, "read", read)
    check_error(run(kowiki, *options), "--store")
    assert not (tmp_path / "export/kowiki.txt").exists()
    mongo.start()
    monkeypatch.setattr(common.Store, "read", real)
    check_success(run(kowiki, *options[:3], mongo.uri, *options[4:]))
    assert ((tmp_path / "export/kowiki.txt").read_bytes()
            == (tmp_path / "out/kowiki.txt").read_bytes())


def refusing_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.mark.parametrize("option", ["--store", "--from_store"])
def test_store_that_is_not_there_is_told_without_its_password(option, tmp_path):
    pytest.importorskip("pymongo")
    uri = f"mongodb://me:secret@127.0.0.1:{refusing_port()}/wiki?serverSelectionTimeoutMS=300"
    dump = ("--dump", SAMPLE / "kowiki-sample.xml") if option == "--store" else ()
    options = ("--stage", "extract", "--output_dir", tmp_path, *dump, option)
    result = run(kowiki, *options, uri)
    check_error(result, "--store 127.0.0.1", "refused")
    assert "secret" not in result.err
    check_error(run(kowiki, *options, "postgres://a"), "--store")


def test_documents_of_another_kind_are_told(mongo, tmp_path):
    common.Store(mongo.uri, "articles").update([{"_id": 1, "title": "가"}])
    check_error(run(kowiki, "--stage", "extract", "--from_store", mongo.uri,
                    "--output_dir", tmp_path), "not a document of kowiki.py")


def test_collection_of_others_gets_no_articles(mongo, tmp_path):
    dump, store = write_dump(tmp_path / "a.xml", revisions(3)), common.Store(mongo.uri, "articles")
    store.update([{"_id": 2, "title": "mine"}])
    for more in ((), ("--overwrite",)):  # which would leave a mixture
        check_error(extract(dump, tmp_path, "--store", mongo.uri, *more), "'articles'",
                    "name another database")
        assert [*store.read()] == [{"_id": 2, "title": "mine"}]


def export(mongo, folder, *more):
    return run(kowiki, "--stage", "extract", "--from_store", mongo.uri, "--valid_share", 0,
               "--output_dir", folder, *more)


def test_store_that_is_half_filled_is_not_exported(mongo, tmp_path):
    whole = write_dump(tmp_path / "a.xml", revisions(2000)).read_bytes()
    (tmp_path / "a.xml").write_bytes(whole[: len(whole) // 2])
    check_error(extract(tmp_path / "a.xml", tmp_path / "out", "--store", mongo.uri), "damaged")
    assert 0 < len(list(common.Store(mongo.uri, "articles").read())) < 2000
    check_error(export(mongo, tmp_path / "export"), "half filled", "--store")
    assert not (tmp_path / "export/kowiki.txt").exists()
    (tmp_path / "a.xml").write_bytes(whole)
    check_success(extract(tmp_path / "a.xml", tmp_path / "out", "--store", mongo.uri))
    check_success(export(mongo, tmp_path / "export"))
    assert len(articles(tmp_path / "export")) == 2000


def test_store_that_was_emptied_is_filled_again(mongo, tmp_path):
    dump = write_dump(tmp_path / "a.xml", revisions(100))
    first = extract(dump, tmp_path / "out", "--store", mongo.uri)
    assert "made again" not in check_success(first).err
    same = check_success(extract(dump, tmp_path / "out", "--store", mongo.uri))
    assert "there already" in same.out and "made again" not in same.err
    store = common.Store(mongo.uri, "articles")
    store.collection.drop()
    again = check_success(extract(dump, tmp_path / "out", "--store", mongo.uri))
    assert "so it is made again" in again.err
    assert len(list(store.read())) == 100
    mongo.stop()
    check_error(extract(dump, tmp_path / "out", "--store", mongo.uri), "--store")
    mongo.start()


def test_run_goes_on_only_in_the_database_that_has_its_first_articles(mongo, tmp_path, monkeypatch):
    dump = write_dump(tmp_path / "a.xml", revisions(3000))
    real, calls = common.Store.update, []

    def update(self, *more):
        calls.append(1)
        if len(calls) == 30:  # some way behind the first 1000 pages, where the state is saved
            raise common.UserError("gone")
        return real(self, *more)

    monkeypatch.setattr(common.Store, "update", update)
    check_error(extract(dump, tmp_path / "out", "--store", mongo.uri), "gone")
    store = common.Store(mongo.uri, "articles")
    assert (tmp_path / "out/kowiki.txt.state").exists()
    store.collection.drop()
    check_success(extract(dump, tmp_path / "out", "--store", mongo.uri))
    assert len(list(store.read())) == 3000


def test_article_without_text_leaves_no_second_blank_line(mongo, tmp_path):
    store = common.Store(mongo.uri, "articles")
    store.update([{"_id": 1, "title": "가", "text": ""}, {"_id": 2, "title": "나", "text": "\n글"},
                  {"_id": 3, "title": "다", "text": "글"}])
    check_success(export(mongo, tmp_path, "--min_chars", 0))
    assert articles(tmp_path) == {"가": [], "나": ["글"], "다": ["글"]}
