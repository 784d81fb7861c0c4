"""Reads a dump of MediaWiki: read_pages(path) yields pages, why_not(page) tells which are articles.

The dump is the XML of Special:Export, of any version, plain or packed by bzip2, in one stream or in
many. Memory does not grow with its length.
"""

import bz2
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from common import UserError
from tqdm import tqdm

BLOCK = 1 << 18  # bytes that are read at once
MAX_TEXT = 2 << 20  # characters; MediaWiki itself allows 2 MiB
MAX_MARKUP = 1 << 20  # bytes of a tag or a comment; expat keeps one in memory until it ends
MAX_DEPTH = 20  # elements in one another; expat keeps the names of all that are open
REDIRECT = re.compile(r"\s*#\s*(넘겨주기|redirect)\s*:?\s*\[\[", re.IGNORECASE)

# Prefixes of titles, for exports that number no namespaces, beside those that the export itself
# lists: of the Korean Wikipedia, today's and former ones, and MediaWiki's own English ones.
PREFIXES = """
    미디어, media, 특수, 특수기능, special, 토론, talk, 사용자, user, 사용자토론, user talk,
    위키백과, wikipedia, project, 위키백과토론, wikipedia talk, project talk,
    파일, 그림, file, image, 파일토론, 그림토론, file talk, image talk,
    미디어위키, mediawiki, 미디어위키토론, mediawiki토론, mediawiki talk,
    틀, template, 틀토론, template talk, 도움말, help, 도움말토론, help talk,
    분류, category, 분류토론, category talk,
    포털, 들머리, portal, 포털토론, 들머리토론, portal talk,
    위키프로젝트, 위키프로젝트토론, 초안, draft, 초안토론, draft talk,
    timedtext, timedtext talk, 모듈, module, 모듈토론, module talk"""
OTHER = "other"  # the namespace that such a prefix stands for, whichever it is


@dataclass
class Page:
    """A page of a dump. What the dump does not say of it is empty."""

    title: str = ""
    namespace: str = ""  # its number, "0" for articles; OTHER if only the title tells
    id: str = ""
    revision: str = ""
    date: str = ""  # of the revision, 2026-11-01T00:00:00Z
    model: str = ""  # of the text, "wikitext" for articles; old exports do not say
    text: str = ""
    redirect: bool = False
    hidden: bool = False  # the text was removed from the public eye
    # What becomes of it:
    dropped: str | None = None  # why it gives no article
    lines: list[str] = field(default_factory=list)  # its plain text


ATTRIBUTES = {  # parent and element: the attribute of Page that its text becomes
    ("page", "title"): "title",
    ("page", "ns"): "namespace",
    ("page", "id"): "id",
    ("revision", "id"): "revision",
    ("revision", "timestamp"): "date",
    ("revision", "model"): "model",
    ("revision", "text"): "text",
    ("namespaces", "namespace"): "prefix",  # not of a page: a name in the head of the dump
    ("siteinfo", "dbname"): "wiki",  # nor is this: whose dump it is, as kowiki
}


class PageParser:
    """Collects the pages of a dump, by local names: the namespace of the XML bears a version."""

    def __init__(self) -> None:
        self.pages: list[Page] = []  # those that read_pages() has not yielded yet
        self.count = 0  # of all pages so far
        self.title = ""  # of the last one
        self.page = Page()
        self.path: list[str] = []  # the elements that are open
        self.wanted: str | None = None  # the attribute that is being read
        self.pieces: list[str] = []
        self.length = 0  # characters of the pieces
        self.fed = 0  # bytes
        self.key = ""  # the number of the namespace that is being read
        self.namespaces = {prefix.strip(): OTHER for prefix in PREFIXES.split(",")}
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.buffer_size = 1 << 16
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.end
        self.parser.CharacterDataHandler = self.characters

    def parse(self, block: bytes) -> None:
        """Takes the next bytes of the dump, b"" at its end. UserError or ExpatError at damage."""
        self.parser.Parse(block, not block)
        self.fed += len(block)
        if self.fed - self.parser.CurrentByteIndex > MAX_MARKUP:
            raise UserError(f"a tag or comment of more than {MAX_MARKUP:,} bytes")

    def start(self, name: str, attributes: dict[str, str]) -> None:
        name = name.rpartition(":")[2]
        if len(self.path) == MAX_DEPTH:
            raise UserError(f"more than {MAX_DEPTH} elements in one another")
        if not self.path and name != "mediawiki":
            raise UserError(f"the first element is <{name}>, that of a dump is <mediawiki>")
        self.wanted = ATTRIBUTES.get((self.path[-1], name)) if self.path else None
        self.path.append(name)
        self.pieces = []
        self.length = 0
        if name == "page":
            self.page = Page()
        elif name == "redirect":
            self.page.redirect = True
        elif self.wanted == "text":
            self.page.hidden = "deleted" in attributes
        elif self.wanted == "prefix":
            self.key = attributes.get("key", OTHER)

    def characters(self, text: str) -> None:
        if self.wanted and self.length <= MAX_TEXT:  # one piece beyond shows that it is too long
            self.pieces.append(text)
        self.length += len(text)

    def end(self, _: str) -> None:
        value = "".join(self.pieces) if self.wanted else ""
        if self.wanted == "prefix":
            self.namespaces[value.casefold()] = self.key
        elif self.wanted == "wiki":
            if value != "kowiki":
                print(f"warning: a dump of {value!r}, not of kowiki: read by the templates, "
                      "prefixes and sections of Korean Wikipedia", file=sys.stderr)
        elif self.wanted:
            setattr(self.page, self.wanted, value)
        self.wanted = None
        if self.path.pop() == "page":
            self.finish_page()

    def finish_page(self) -> None:
        page = self.page
        page.namespace = page.namespace or self.namespace_of(page.title)
        self.pages.append(page)
        self.count += 1
        self.title = page.title
        self.page = Page()  # what stands between two pages belongs to neither

    def namespace_of(self, title: str) -> str:
        """The namespace by the prefix of a title; "0" if what stands before its colon is none."""
        prefix, colon, _ = title.partition(":")
        if not colon:
            return "0"
        prefix = " ".join(prefix.replace("_", " ").split())
        return self.namespaces.get(prefix.casefold(), "0")


def read_pages(path: Path) -> Iterator[Page]:
    """Yields the pages of a dump, bz2 or plain. UserError if it is damaged or none."""
    parser = PageParser()
    bar = tqdm(desc="extract", total=path.stat().st_size, unit="B", unit_scale=True, disable=None)
    with open(path, "rb") as raw, bar:
        file = bz2.BZ2File(raw) if raw.peek(3)[:3] == b"BZh" else raw
        block = b"-"
        while block:
            try:
                block = file.read(BLOCK)
                parser.parse(block)
            except (EOFError, OSError, expat.ExpatError, UserError) as error:
                raise damaged(path, parser, error) from None
            yield from parser.pages
            parser.pages.clear()
            bar.update(raw.tell() - bar.n)
    if not parser.count:
        raise damaged(path, parser, "there are none")


def damaged(path: Path, parser: PageParser, why: Exception | str) -> UserError:
    """The error for a file that cannot be read to its end."""
    where = "before the first page"
    if parser.count:
        where = f"after {parser.count:,} pages, the last of them {parser.title!r}"
    return UserError(f"{path}: damaged or no dump, {where}: {why}; fetch it again, or see --dump")


def why_not(page: Page) -> str | None:
    """Why a page is no article that could be converted; None if it is one."""
    for reason, applies in (
        ("other namespace", page.namespace != "0"),
        ("redirect", page.redirect or REDIRECT.match(page.text)),
        ("not wikitext", page.model not in ("", "wikitext")),
        ("hidden text", page.hidden),
        ("empty", not page.text.strip()),
        ("too long", len(page.text) > MAX_TEXT),
        ("incomplete", not page.title.strip()),
        ("incomplete", not (page.id.isdecimal() and page.revision.isdecimal())),
    ):
        if applies:
            return reason
    return None
