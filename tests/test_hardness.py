"""Hard cases: pages torn at random, readers beside a writer, a full disk.

Short versions of the long tests always run. The long ones take minutes: pytest tests/test_hardness.py -m slow
"""

import itertools
import json
import os
import pickle
import random
import re
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
import torch
from test_resume import MODEL, checkpoints, command, crash, finish, listing, results
from test_resume import run as train
from test_wikitext import LINES, PAGES, SAMPLE, articles

import convbert

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "web-crawler"))
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


# ---- Readers beside a writer

WRITER = """
import itertools, sys
import torch
import convbert
models = []
for heads in (2, 4):
    torch.manual_seed(heads)
    config = convbert.ConvBertConfig(**convbert.SIZES["tiny"], num_attention_heads=heads)
    models.append(convbert.ConvBertForMaskedLM(config))
for model, folder in zip(models, sys.argv[2:]):
    model.save_pretrained(folder)
print("begun", flush=True)
for model in itertools.cycle(models):
    model.save_pretrained(sys.argv[1])
"""


def test_readers_find_whole_files_while_a_model_is_replaced(tmp_path):
    folders = [tmp_path / name for name in ("both", "first", "second")]
    writer = subprocess.Popen([sys.executable, "-c", WRITER, *folders], stdout=subprocess.PIPE,
                              env=os.environ | {"PYTHONPATH": str(convbert.ROOT)})
    seen = {"config.json": set(), "model.safetensors": set()}
    try:
        assert writer.stdout.readline() == b"begun\n"
        known = {name: {(folder / name).read_bytes() for folder in folders[1:]} for name in seen}
        while not all((folders[0] / name).exists() for name in seen):
            assert writer.poll() is None
        for number in itertools.count():
            for name in seen:
                seen[name].add((folders[0] / name).read_bytes())
                assert seen[name] <= known[name]
            if number >= 200 and seen == known:  # by then, both have been there
                break
        assert writer.poll() is None
    finally:
        writer.kill()
        writer.communicate()


# ---- Checkpoints of others, and no room for one's own

@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    text = (SAMPLE / "kowiki.txt").read_text(encoding="utf-8").splitlines(True)[:200]
    (folder / "kowiki.txt").write_text("".join(text), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(MODEL))
    return folder


@pytest.fixture(scope="module")
def expected(data, tmp_path_factory):
    """The results of the run that nothing disturbs."""
    folder = tmp_path_factory.mktemp("expected")
    finish(command("mlm", data), folder)
    return results(folder)


class Harm:
    """An object whose unpickling makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def zipped(harm, path):
    torch.save({"harm": harm}, path)
    return lambda: torch.load(path, weights_only=False)


def plain(harm, path):
    path.write_bytes(pickle.dumps({"harm": harm}, protocol=2))
    return lambda: pickle.loads(path.read_bytes())


@pytest.mark.parametrize("write", [zipped, plain])  # each returns what would do the harm
def test_code_in_a_checkpoint_is_never_run(write, data, tmp_path):
    options, made = command("mlm", data), tmp_path / "made"
    crash(options, tmp_path / "run", 8)
    for step in (3, 6):
        write(Harm(made), tmp_path / f"run/checkpoint-{step}/training_state.pt")
    status, _, err = train(options, tmp_path / "run")
    assert status == 2 and "no checkpoint can be read" in err.splitlines()[-1]
    (tmp_path / "run/model.safetensors").unlink(missing_ok=True)
    (tmp_path / "run/config.json").write_text(json.dumps(MODEL))
    load = write(Harm(made), tmp_path / "run/pytorch_model.bin")
    with pytest.raises(convbert.UserError, match=r"pytorch_model\.bin"):
        convbert.ConvBertModel.from_pretrained(tmp_path / "run")
    assert not made.exists()
    load()["harm"].close()
    assert made.exists()  # so it would have been


FULL = """
import resource, sys
most = int(sys.argv.pop(1))
import convbert
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
convbert.main()
"""


def run_with_little_room(most, options, folder):
    """The command line in a process that can write no file of more bytes: (exit status, stderr)."""
    done = subprocess.run([sys.executable, "-c", FULL, str(most), *options, "--output_dir", folder],
                          capture_output=True, text=True, timeout=600,
                          env=os.environ | {"PYTHONPATH": str(convbert.ROOT)})
    return done.returncode, done.stderr


@pytest.mark.parametrize("file", ["model.safetensors", "training_state.pt"])
def test_no_room_for_a_checkpoint_is_told_and_the_one_before_stays(file, data, expected, tmp_path):
    options = command("mlm", data)
    crash(options, tmp_path, 8)
    assert checkpoints(tmp_path) == [3, 6]
    before = {path: known for path, known in listing(tmp_path).items() if "checkpoint-" in str(path)}
    most = (tmp_path / "checkpoint-6" / file).stat().st_size - 1000
    status, err = run_with_little_room(most, options, tmp_path)
    errors = [line for line in err.splitlines() if "rror" in line]
    assert status == 2 and len(errors) == 1 and errors[0].startswith("convbert.py: error: "), err
    assert "Traceback" not in err and file in errors[0]
    assert before.items() <= listing(tmp_path).items() and checkpoints(tmp_path) == [3, 6]
    assert "checkpoint-6" in finish(options, tmp_path)
    assert results(tmp_path) == expected


# ---- The clock on the wall

def test_a_clock_that_jumps_changes_nothing(data, tmp_path):
    """A run by minutes, on a stopwatch that moves a second each time it is read."""
    options = command("mlm", data)
    at = options.index("--max_steps")
    options = (*options[:at], "--max_minutes", "0.5", *options[at + 2 :])
    jumps = itertools.cycle([0, 2e9, 1e9, 1.5e9])
    for name, clock in (("steady", lambda: 1e9), ("jumping", lambda: next(jumps))):
        seconds = itertools.count(100)
        with (mock.patch("time.time", clock),
              mock.patch("time.perf_counter", lambda seconds=seconds: next(seconds))):
            finish(options, tmp_path / name)
    assert results(tmp_path / "jumping") == results(tmp_path / "steady")
    assert json.loads((tmp_path / "jumping/train_results.json").read_text())["seconds"] >= 30
