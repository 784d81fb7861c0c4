"""Dumps: which pages are articles, and files that are damaged, none at all, or made to do harm."""

import bz2
import os
import subprocess
import sys

import pytest

from crawler.helpers import (
    CRAWLER,
    PROSE,
    SAMPLE_XML,
    articles,
    check_error,
    check_success,
    dump,
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
             page(10, plain(10)), page(11, "가 " * 1_100_000),
             page(12, plain(1), tag=slot),
             "<page><title>갈 곳</title><ns>0</ns><id>13</id><redirect title='문서 1' /></page>",
             page(14, "A&B <b>굵은</b> " + plain(14), title="R&amp;D")]
    check_success(extract(write_dump(tmp_path / "a.xml", pages), tmp_path / "out"))
    about = read_json(tmp_path / "out/kowiki.txt.json")
    assert about["dropped"] == {"hidden text": 1, "empty": 2, "not wikitext": 1,
                                "other namespace": 1, "redirect": 3, "short": 1, "too long": 1}
    assert (about["pages"], about["articles"]) == (14, 4)
    assert articles(tmp_path / "out") == {
        "문서 1": [plain(1)], "문서 10": [plain(10)], "문서 12": [plain(1)],
        "R&D": ["A&B 굵은 " + plain(14)]}


# ---- Exports that number no namespaces

OLD_HEAD = ('<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.4/" version="0.4">'
            "<siteinfo><sitename>위키백과</sitename>{}</siteinfo>")
OLD_PAGE = ("<page><title>{}</title><id>{}</id><revision><id>1</id>"
            "<timestamp>2010-01-01T00:00:00Z</timestamp><text>{}</text></revision></page>")
LISTED = ('<namespaces><namespace key="0" /><namespace key="10">틀</namespace>'
          '<namespace key="200">나만의 공간</namespace></namespaces>')
OLD_TITLES = {  # whether an article has it
    "옛 문서": True, "2010: 우주 여행": True, "에반게리온: 서": True, ":쌍점": True,
    "틀린 그림": True,
    "틀:무엇": False, "분류:옛 문서": False, "그림:옛.jpg": False, "파일:새.jpg": False,
    "사용자:누구": False, "사용자토론:누구": False, "위키백과:대문": False, "도움말:글": False,
    "미디어위키:Common.css": False, "포털:역사": False, "모듈:Math": False,
    "template:X": False, "User talk:X": False, "Image:a.png": False, "user_talk:X": False}


def old_export(path, head, titles):
    pages = [OLD_PAGE.format(title, i + 1, PROSE.format(i)) for i, title in enumerate(titles)]
    path.write_text(OLD_HEAD.format(head) + "".join(pages) + "</mediawiki>", encoding="utf-8")
    return path


@pytest.mark.parametrize("head", ["", LISTED], ids=["nothing listed", "namespaces listed"])
def test_namespaces_are_told_by_titles_where_an_export_has_no_numbers(head, tmp_path):
    export = old_export(tmp_path / "a.xml", head, [*OLD_TITLES, "나만의 공간:글"])
    check_success(extract(export, tmp_path / "out"))
    expected = [title for title, article in OLD_TITLES.items() if article]
    if not head:
        expected.append("나만의 공간:글")  # a prefix that nothing says to be one
    assert list(articles(tmp_path / "out")) == expected


def test_number_of_a_namespace_goes_before_the_title(tmp_path):
    pages = [page(1, PROSE.format(1), title="틀: 소설"), page(2, PROSE.format(2), namespace=10)]
    check_success(extract(write_dump(tmp_path / "a.xml", pages), tmp_path / "out"))
    assert list(articles(tmp_path / "out")) == ["틀: 소설"]


# ---- Damage

def flip(data, at):
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


BIG = bz2.compress(SAMPLE_XML, compresslevel=1)  # several blocks
DAMAGE = {"bz2 truncated": BIG[:-9000], "bz2 corrupt": flip(BIG, len(BIG) - 9000),
          "XML truncated": SAMPLE_XML[:200_000],
          "tag unclosed": SAMPLE_XML.replace("라디오 방송</title>".encode(), b""),
          "not UTF-8": flip(SAMPLE_XML, SAMPLE_XML.index("라디오 방송".encode())),
          "entity unknown": SAMPLE_XML.replace("라디오 방송".encode(), b"&nbsp;")}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_dump_is_told_and_gives_no_text(damage, tmp_path):
    (tmp_path / "a.xml").write_bytes(DAMAGE[damage])
    check_error(extract(tmp_path / "a.xml", tmp_path / "out"), "a.xml", "damaged", "fetch it again")
    assert not (tmp_path / "out/kowiki.txt").exists()
    (tmp_path / "a.xml").write_bytes(SAMPLE_XML)
    check_success(extract(tmp_path / "a.xml", tmp_path / "out"))
    assert len(articles(tmp_path / "out")) == 132


BOMB = b'<!DOCTYPE m [<!ENTITY a "%s">%s]>' % (b"ha" * 5000, b"".join(
    b'<!ENTITY a%d "%s">' % (i, b"&a%d;" % (i - 1) * 9 if i else b"&a;" * 9) for i in range(9)))
BOMBED = SAMPLE_XML.replace(b"<mediawiki", BOMB + b"<mediawiki", 1).replace(b"<ns>0", b"<ns>&a8;0")
NO_DUMPS = {"empty": b"", "page of a proxy": b"<html><body>Login</body></html>",
            "no XML": b"PK\x03\x04...", "no pages": b"<mediawiki></mediawiki>",
            "bz2 of nothing": bz2.compress(b""), "bomb": BOMBED}


@pytest.mark.parametrize("kind", NO_DUMPS)
def test_file_that_is_no_dump_is_told(kind, tmp_path):
    (tmp_path / "a.xml").write_bytes(NO_DUMPS[kind])
    check_error(extract(tmp_path / "a.xml", tmp_path / "out"), "a.xml", "before the first page")


# ---- Dumps made to do harm

SECRETS = {"entity": '<!DOCTYPE m [<!ENTITY x SYSTEM "{}">]>', "subset": '<!DOCTYPE m SYSTEM "{}">',
           "parameter": '<!DOCTYPE m [<!ENTITY % x SYSTEM "{}"> %x;]>'}


@pytest.mark.parametrize("kind", SECRETS)
def test_a_dump_brings_in_no_other_file(kind, tmp_path):
    (tmp_path / "secret").write_text("<!ENTITY x '비밀'>", encoding="utf-8")
    file = write_dump(tmp_path / "a.xml", [page(1, PROSE.format("&x;"))])
    head = SECRETS[kind].format((tmp_path / "secret").as_uri())
    text = file.read_text(encoding="utf-8").replace("&amp;x;", "&x;")
    file.write_text(head + text, encoding="utf-8")
    assert extract(file, tmp_path / "out").code in (0, 2)
    made = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.parent.name for path in made} <= {"out", tmp_path.name}
    assert {path.name for path in tmp_path.iterdir()} == {"secret", "a.xml", "out"}
    for path in made:
        assert path.name == "secret" or "비밀".encode() not in path.read_bytes()


MEMORY = """
import re, sys
from pathlib import Path
import dump
count, why = 0, "-"
try:
    for page in dump.read_pages(Path(sys.argv[1])):
        count += 1
except dump.UserError as error:
    why = error
print(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1], count, why)
"""


def read_in_child(file):
    """(MiB at most, pages, error or "-") of a process that reads the dump."""
    environment = os.environ | {"PYTHONPATH": str(CRAWLER), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", MEMORY, file], capture_output=True, text=True,
                          timeout=600, env=environment)
    assert done.returncode == 0, done.stderr
    kib, pages, why = done.stdout.split(maxsplit=2)
    return int(kib) / 1024, int(pages), why.strip()


def written(path, *parts):
    """A file of parts (bytes, times)."""
    with open(path, "wb") as file:
        for part, times in parts:
            file.write(part * times)
    return path


GOOD = page(1, PROSE.format(1)).encode()
HUGE = {  # what stands between two good pages, and how many pages come out; None: it is refused
    "page": ([(b"<page><title>a</title><ns>0</ns><id>2</id><revision><id>1</id><text>", 1),
              (b"0123456789", 5 << 20), (b"</text></revision></page>", 1)], 3),
    "title": ([(b"<page><title>", 1), (b"0123456789", 5 << 20), (b"</title></page>", 1)], 3),
    "text between": ([(b"0123456789", 5 << 20)], 2),
    "nesting": ([(b"<a>", 2 << 20), (b"</a>", 2 << 20)], None),
    "comment": ([(b"<!--", 1), (b"0123456789", 8 << 20), (b"-->", 1)], None),
    "attribute": ([(b'<page a="', 1), (b"0123456789", 8 << 20), (b'"></page>', 1)], None),
}


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="no /proc that tells the peak")
@pytest.mark.parametrize("kind", HUGE)
def test_memory_does_not_grow_with_what_a_dump_holds(kind, tmp_path):
    parts, pages = HUGE[kind]
    head, tail = (b"<mediawiki>" + GOOD, 1), (GOOD + b"</mediawiki>", 1)
    usual, *_ = read_in_child(written(tmp_path / "b.xml", head, tail))
    most, count, why = read_in_child(written(tmp_path / "a.xml", head, *parts, tail))
    assert most < usual + 48
    if pages:
        assert (count, why) == (pages, "-")
    else:
        assert "a.xml: damaged or no dump, after 1 pages" in why


BETWEEN = {"text": "글자 &amp; ]]&gt; 밖", "comment": "<!-- <page><title>가</title></page> -->",
           "PI": "<?php echo ?>", "CDATA": "<![CDATA[</page><page><text>가</text>]]>",
           "elements": "<a><title>가</title><text>나</text></a>",
           "revision": "<revision><id>9</id><text>고아</text><sha1>0</sha1></revision>",
           "redirect": "<redirect title='가' />", "page": "<page />",
           "page in a page": "<page><page /><title>가</title></page>"}


def test_garbage_between_pages_changes_none(tmp_path):
    for kind, garbage in BETWEEN.items():
        pages = [page(1, PROSE.format(1)), garbage, page(2, PROSE.format(2)), garbage]
        file = write_dump(tmp_path / "a.xml", pages)
        found = [one for one in dump.read_pages(file) if not dump.why_not(one)]
        assert [one.title for one in found] == ["문서 1", "문서 2"], kind
        assert [one.text for one in found] == [PROSE.format(1), PROSE.format(2)], kind


@pytest.mark.parametrize(
    "title", ["../../밖", "/tmp/밖", "가\n\n나", " \n ", "가\u2028나\u0085다", "\t가 "])
def test_titles_neither_name_files_nor_break_lines(title, tmp_path):
    pages = [page(1, PROSE.format(1), title=title), page(2, PROSE.format(2))]
    check_success(extract(write_dump(tmp_path / "a.xml", pages), tmp_path / "out"))
    names = {path.name for path in tmp_path.rglob("*")}
    assert names == {"a.xml", "out", "kowiki.txt", "kowiki.txt.json"}
    found = (tmp_path / "out/kowiki.txt").read_text(encoding="utf-8")
    first = f"{' '.join(title.split())}\n{PROSE.format(1)}\n\n" if title.strip() else ""
    assert found == f"{first}문서 2\n{PROSE.format(2)}\n"
