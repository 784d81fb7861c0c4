"""Dumps: which pages are articles, and files that are damaged or none."""

import bz2

import pytest

from crawler.helpers import (
    PROSE,
    SAMPLE,
    SAMPLE_XML,
    articles,
    check_error,
    check_success,
    extract,
    page,
    read_json,
    write_dump,
)


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
