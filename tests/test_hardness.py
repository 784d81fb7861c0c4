"""Hard cases: dumps made to do harm, kills, readers beside a writer, a full disk.

Short versions of the long tests always run. The long ones take minutes: pytest tests/test_hardness.py -m slow
"""

import contextlib
import itertools
import json
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import pytest
import torch
from test_crawler import check_error, check_success, extract, page, write_dump
from test_resume import MODEL, checkpoints, command, crash, finish, listing, results
from test_resume import run as train

import convbert

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "web-crawler"))
sys.path.insert(0, str(Path(__file__).resolve().parent / "crawler"))
import kowiki
from test_wikitext import SAMPLE, articles

PROSE = "이 문서는 {}번째 문서이며, 시험에만 쓰려고 지어낸 짧은 글이다. 다른 뜻은 없고, 길이만 채울 뿐이다."


def slow(number):
    return pytest.param(number, marks=pytest.mark.slow)


# ---- Dumps made to do harm

SECRETS = {"entity": '<!DOCTYPE m [<!ENTITY x SYSTEM "{}">]>', "subset": '<!DOCTYPE m SYSTEM "{}">',
           "parameter": '<!DOCTYPE m [<!ENTITY % x SYSTEM "{}"> %x;]>'}


@pytest.mark.parametrize("kind", SECRETS)
def test_a_dump_brings_in_no_other_file(kind, tmp_path):
    (tmp_path / "secret").write_text("<!ENTITY x '비밀'>")
    dump = write_dump(tmp_path / "a.xml", [page(1, PROSE.format("&x;"))])
    head = SECRETS[kind].format((tmp_path / "secret").as_uri())
    dump.write_text(head + dump.read_text().replace("&amp;x;", "&x;"))
    before = listing(tmp_path)
    check_error(extract(dump, tmp_path / "out"), "a.xml", "document type")
    made = {path: data for path, data in listing(tmp_path).items() if path not in before}
    assert {path.parent.name for path in made} <= {"out"} and before.items() <= listing(tmp_path).items()
    assert not [path for path, (_, data) in made.items() if "비밀".encode() in data]


MEMORY = """
import re, sys
from pathlib import Path
import kowiki
count, why = 0, "-"
try:
    for page in kowiki.read_pages(Path(sys.argv[1])):
        count += 1
except kowiki.UserError as error:
    why = error
print(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1], count, why)
"""


def read_in_child(dump):
    """(MiB at most, pages, error or "-") of a process that reads the dump."""
    path = str(Path(kowiki.__file__).parent)
    done = subprocess.run([sys.executable, "-c", MEMORY, dump], capture_output=True, text=True, timeout=600,
                          env=os.environ | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"})
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
HUGE = {  # what stands between two good pages, and how many pages come out
    "page": ([(b"<page><title>a</title><ns>0</ns><id>2</id><revision><id>1</id><text>", 1),
              (b"0123456789", 5 << 20), (b"</text></revision></page>", 1)], 3),
    "title": ([(b"<page><title>", 1), (b"0123456789", 5 << 20), (b"</title></page>", 1)], 3),
    "text between": ([(b"0123456789", 5 << 20)], 2),
    "nesting": ([(b"<a>", 2 << 20), (b"</a>", 2 << 20)], 1),
    "comment": ([(b"<!--", 1), (b"0123456789", 8 << 20), (b"-->", 1)], 1),
    "attribute": ([(b'<page a="', 1), (b"0123456789", 8 << 20), (b'"></page>', 1)], 1),
}


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="no /proc that tells the peak of memory")
@pytest.mark.parametrize("kind", HUGE)
def test_memory_does_not_grow_with_what_a_dump_holds(kind, tmp_path):
    parts, pages = HUGE[kind]
    head, tail = (b"<mediawiki>" + GOOD, 1), (GOOD + b"</mediawiki>", 1)
    usual, *_ = read_in_child(written(tmp_path / "b.xml", head, tail))
    most, count, why = read_in_child(written(tmp_path / "a.xml", head, *parts, tail))
    assert most < usual + 48
    assert count == pages and ("a.xml: damaged or no dump, after 1 pages" in why) == (pages == 1), why


BETWEEN = {"text": "글자 &amp; ]]&gt; 밖", "comment": "<!-- <page><title>가</title></page> -->",
           "PI": "<?php echo ?>", "CDATA": "<![CDATA[</page><page><text>가</text>]]>",
           "elements": "<a><title>가</title><text>나</text></a>",
           "revision": "<revision><id>9</id><text>고아</text><sha1>0</sha1></revision>",
           "redirect": "<redirect title='가' />", "page": "<page />",
           "page in a page": "<page><page /><title>가</title></page>"}


@pytest.mark.parametrize("kind", BETWEEN)
def test_garbage_between_pages_changes_none(kind, tmp_path):
    pages = [page(1, PROSE.format(1)), BETWEEN[kind], page(2, PROSE.format(2)), BETWEEN[kind]]
    check_success(extract(write_dump(tmp_path / "a.xml", pages), tmp_path))
    text = "\n\n".join(f"문서 {i}\n{PROSE.format(i)}" for i in (1, 2))
    assert (tmp_path / "kowiki.txt").read_text(encoding="utf-8") == text + "\n"


@pytest.mark.parametrize("title", ["../../밖", "/tmp/밖", "가\n\n나", " \n ", "가\u2028나\u0085다", "\t가 "])
def test_titles_neither_name_files_nor_break_lines(title, tmp_path):
    pages = [page(1, PROSE.format(1), title=title), page(2, PROSE.format(2))]
    check_success(extract(write_dump(tmp_path / "a.xml", pages), tmp_path / "out"))
    assert {path.name for path in tmp_path.rglob("*")} == {"a.xml", "out", "kowiki.txt", "kowiki.txt.json"}
    found = (tmp_path / "out/kowiki.txt").read_text(encoding="utf-8")
    first = f"{' '.join(title.split())}\n{PROSE.format(1)}\n\n" if title.strip() else ""
    assert found == f"{first}문서 2\n{PROSE.format(2)}\n"


# ---- Kills at random

@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A dump of 2,500 pages, so that the state is saved twice on the way, and its text."""
    folder, texts = tmp_path_factory.mktemp("many"), itertools.cycle(articles())
    pages = [page(i, text, title=f"{title} {i}") for i, (title, text) in zip(range(1, 2501), texts)]
    dump = write_dump(folder / "many.xml.bz2", pages, packed=True)
    check_success(extract(dump, folder / "whole"))
    return dump, (folder / "whole/kowiki.txt").read_bytes()


def size(path):
    return path.stat().st_size if path.exists() else 0


def killed(process, whole, part, rng):
    """Kills an extraction, and on every second draw its workers too, at a random moment; False if it ends."""
    before, growth = size(part), rng.choice((0, rng.uniform(0, 0.6))) * whole
    delay = rng.uniform(0, 0.05 if growth else 1)
    while process.poll() is None and growth and size(part) < before + growth:
        time.sleep(0.002)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(delay)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL) if rng.random() < 0.5 else process.kill()
    _, errors = process.communicate()
    assert process.returncode in (0, -signal.SIGKILL), errors.decode()
    return process.returncode != 0


@pytest.mark.parametrize("kills", [2, slow(50)])
def test_extraction_killed_at_random_gives_the_same_bytes(kills, many, tmp_path):
    dump, text = many
    rng, folder, count = random.Random(kills), tmp_path / "0", 0
    while count < kills:
        script = [sys.executable, kowiki.__file__, "--stage", "extract", "--dump", dump, "--processes", "1"]
        process = subprocess.Popen([*script, "--output_dir", folder], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, start_new_session=True)
        count += killed(process, len(text), folder / "kowiki.txt.tmp", rng)
        if process.returncode == 0:  # done with this one: on to the next
            assert (folder / "kowiki.txt").read_bytes() == text
            folder = tmp_path / str(int(folder.name) + 1)
    check_success(extract(dump, folder))
    assert (folder / "kowiki.txt").read_bytes() == text
    assert sorted(os.listdir(folder)) == ["kowiki.txt", "kowiki.txt.json"]


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
    most = size(tmp_path / "checkpoint-6" / file) - 1000
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
