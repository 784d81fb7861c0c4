"""The crawler's commands as the tests run them, and dumps made for a test."""

import bz2
import contextlib
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from unittest import mock
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parents[2]
CRAWLER, SAMPLE = ROOT / "web-crawler", ROOT / "web-crawler/sample"
SAMPLE_XML = (SAMPLE / "kowiki-sample.xml").read_bytes()
sys.path.insert(0, str(CRAWLER))
import common  # noqa: E402
import dump  # noqa: E402, F401  this and the others for the tests
import kowiki  # noqa: E402
import naver_movie  # noqa: E402, F401
import vocabulary  # noqa: E402, F401


def run(module, *options):
    """main() in this process: code, out, err. Only SystemExit is caught: all else would be a
    traceback."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (mock.patch("sys.argv", [f"{module.__name__}.py", *map(str, options)]),
          contextlib.redirect_stdout(out), contextlib.redirect_stderr(err)):
        try:
            common.run(module.main)
        except SystemExit as end:
            code = end.code or 0
    return SimpleNamespace(code=code, out=out.getvalue(), err=err.getvalue())


def check_error(result, *names):
    """The last line of stderr says what is wrong, the status is 2."""
    assert result.code == 2, result.err
    assert "Traceback" not in result.err
    last = result.err.splitlines()[-1]
    assert "error:" in last
    for name in names:
        assert str(name) in last


def check_success(result):
    assert result.code == 0, result.err
    return result


def start(script, *options):
    """The command as a process of its own."""
    return subprocess.Popen([sys.executable, CRAWLER / script, *map(str, options)],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"})


def wait_for(condition):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.005)


def read_json(path):
    return json.loads(Path(path).read_text(encoding="utf-8"))


def page(number, text, title=None, namespace=0, model="wikitext", revision=1,
         tag="<text>{}</text>"):
    """A <page>, as a dump has it."""
    return (f"<page><title>{title or f'문서 {number}'}</title><ns>{namespace}</ns>"
            f"<id>{number}</id><revision>"
            f"<id>{revision}</id><timestamp>2026-11-01T00:00:00Z</timestamp>"
            "<contributor><username>u</username>"
            f"<id>77</id></contributor><model>{model}</model>{tag.format(escape(text))}"
            f"<sha1>{'0' * 31}</sha1></revision></page>\n")


PROSE = ("이 문서는 {}번째 문서이며, 시험에만 쓰려고 지어낸 짧은 글이다. "
         "다른 뜻은 없고, 길이만 채울 뿐이다.")


def write_dump(path, pages, packed=False):
    text = ('<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/">\n'
            f'{"".join(pages)}</mediawiki>\n').encode()
    path.write_bytes(bz2.compress(text) if packed else text)
    return path


def extract(file, folder, *more):
    """One extraction by one worker; all articles go to kowiki.txt unless `more` says otherwise."""
    return run(kowiki, "--stage", "extract", "--dump", file, "--output_dir", folder,
               "--processes", 1, "--valid_share", 0, *more)


def articles(folder):
    """{title: lines} of a kowiki.txt, after a check of its form."""
    text = (folder / "kowiki.txt").read_text(encoding="utf-8")
    assert text.endswith("\n")
    assert "\n\n\n" not in text
    return {title: lines for title, *lines in (part.splitlines() for part
                                               in text.rstrip("\n").split("\n\n"))}


def revisions(count, changed=()):
    return [page(i, PROSE.format(-i if i in changed else i), revision=2 if i in changed else 1)
            for i in range(1, count + 1)]
