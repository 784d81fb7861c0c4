"""Hard cases: pages torn at random.

Short versions of the long tests always run. The long ones take minutes: pytest -m slow
"""

import itertools
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from crawler.test_wikitext import LINES, PAGES, articles

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "web-crawler"))
import kowiki

PROSE = "이 문서는 {}번째 문서이며, 시험에만 쓰려고 지어낸 짧은 글이다. 다른 뜻은 없고, 길이만 채울 뿐이다."


def slow(number):
    return pytest.param(number, marks=pytest.mark.slow)


# ---- Pages torn at random

SIGNS = ["[[", "]]", "{{", "}}", "{{{", "}}}", "'''", "''", "<ref>", "</ref>", "<ref name=a/>", "|", "=",
         "==", "*", "#", ":", ";", "----", "<!--", "-->", "\n", "{|", "|}", "|-", "<nowiki>", "</nowiki>",
         "<math>", "</math>", "<div>", "<br", "<", ">", "&", "&lt;", "&#91;&#91;", "[http://a b", "__TOC__",
         "[[파일:", "[[분류:", "\x00", "\x01", "\x07", "\u2028", "\x85", "\U0001f600", "(", ")", "{{lang|en|",
         "{{출생일|1|", "{{#if:"]


def delete(text, other, rng):
    i, j = span(text, rng)
    return text[:i] + text[j:]


def duplicate(text, other, rng):
    i, j = span(text, rng)
    return text[:j] + text[i:j] * rng.randint(1, 3) + text[j:]


def swap(text, other, rng):
    (i, j), (k, m) = sorted((span(text, rng), span(text, rng)))
    k, m = max(j, k), max(j, m)
    return text[:i] + text[k:m] + text[j:k] + text[i:j] + text[m:]


def insert(text, other, rng):
    i = rng.randint(0, len(text))
    return text[:i] + rng.choice(SIGNS) * rng.choice((1, 1, 1, 2, 30)) + text[i:]


def truncate(text, other, rng):
    i = rng.randint(0, len(text))
    return rng.choice((text[:i], text[i:]))


def graft(text, other, rng):
    (i, j), k = span(other, rng), rng.randint(0, len(text))
    return text[:k] + other[i:j] + text[k:]


def span(text, rng):
    i = rng.randint(0, len(text))
    return i, min(len(text), i + rng.choice((1, 2, 3, 10, 200)))


def torn(count):
    """Pages of the sample and wikitext of the other tests, each changed in 1 to 12 places."""
    rng, sources = random.Random(7), [text for text, _ in (*LINES.values(), *PAGES.values())]
    sources += [text for _, text in articles()]
    kinds = [delete, duplicate, swap, insert, insert, insert, graft, truncate]
    for _ in range(count):
        text = rng.choice(sources)
        for _ in range(rng.randint(1, 12)):
            text = rng.choice(kinds)(text, rng.choice(sources), rng)
        yield text


def check_lines(lines, text):
    """Lines as kowiki.txt may hold them: text, no markup that was to go, not much longer than the page."""
    assert sum(map(len, lines)) <= 2 * len(text) + 100, text
    for line in lines:
        assert line and line == " ".join(line.split()) and len(line.splitlines()) == 1, (line, text)
        assert min(line) >= " " and re.search(r"\w", line), (line, text)
        assert not [sign for sign in ("{{", "}}", "[[", "]]") if sign in line], (line, text)
        assert not re.search(r"</?ref\b", line, re.I) and not line.startswith(("|", "{|")), (line, text)
        line.encode()


@pytest.mark.parametrize("count", [300, slow(20_000)])
def test_torn_pages_are_converted_and_leave_no_markup(count):
    for text in torn(count):
        [(lines, reason, _)] = kowiki.convert([text])
        assert reason is None, (reason, text)
        check_lines(lines, text)
