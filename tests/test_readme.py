"""The README's commands run, from top to bottom in one folder, as a reader would type them: the blocks, then
the commands in running text.

BUDGETS gives a smaller job to a command that takes long, needs the network or needs many machines; a command
without an entry there runs to the letter. What installs and tests is left to .ci/run.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import copy_project

import convbert

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SPAN = re.compile(r"`([^`]+)`")  # code in running text
INSTALL = re.compile(r"^python3 -m venv \.venv && \.venv/bin/pip install .*?txt && ", re.MULTILINE)
TEST = "-r tests/requirements.txt"
BASH = ["bash", "-e", "-c"]
OPTIONAL = {"needs wikiextractor": "wikiextractor", "needs scikit-learn": "sklearn",
            "tensorboard ": "tensorboard"}  # what a command says: the package that it needs
BUDGETS = {  # what the README says: what runs here
    "kowiki.py        #": "kowiki.py --dump sample/kowiki-sample.xml #",
    "naver_movie.py   #":
        "naver_movie.py --train_file sample/ratings_train.txt --test_file sample/ratings_test.txt #",
    "--megabytes 200": "--megabytes 1 --rounds 1",
    "--max_minutes 30": "--max_steps 2 --batch_size 2",
    "--max_minutes 120": "--max_steps 2 --batch_size 2",
    "--batch_size 256 --compile --max_minutes 12": "--max_steps 2 --batch_size 2 --max_eval_samples 4",
    "ablation.py --corpus":
        "ablation.py --only '^sdconv$|words|padding' --seeds 1 --max_steps 2 --max_train_samples 64 --corpus",
    "--max_eval_samples 384": "--max_eval_samples 4",
    "--eval_steps 1500": "--max_steps 2 --max_eval_samples 20",
    "--nnodes=2 --nproc_per_node=8": "--nnodes=1 --nproc_per_node=2",
    "HOST:29400": "localhost:29463",
    "--gradient_accumulation_steps": "--size tiny --max_steps 2 --gradient_accumulation_steps",
    "--rounds 2 --train_file": "--rounds 1 --steps 1 --size tiny --only 'each default' --train_file",
    "pytest ": "pytest --collect-only -q ",  # fails where nothing is found; .ci/run runs what there is
    "/tmp/kowiki": "../shown",
    "tensorboard --logdir": "tensorboard --inspect --logdir",  # prints what there is and ends
}


def blocks(name="README.md"):
    """(language, text) of each block of code."""
    return BLOCK.findall((ROOT / name).read_text(encoding="utf-8"))


def spans(name="README.md"):
    text = BLOCK.sub("", (ROOT / name).read_text(encoding="utf-8"))
    return [" ".join(span.split()) for span in SPAN.findall(text)]


COMMANDS = [span for span in spans() if span.startswith(("python ", "pytest ", "tensorboard "))]


def within_budget(text):
    for said, run in BUDGETS.items():
        text = text.replace(said, run)
    return INSTALL.sub("", text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A clone without its history, with a .venv that is this Python, and the data that a reader has got."""
    folder = tmp_path_factory.mktemp("clone")
    copy_project(folder)
    (folder / ".venv/bin").mkdir(parents=True)
    for name, arguments in (("python", ""), ("torchrun", "-m torch.distributed.run")):
        program = folder / ".venv/bin" / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
        program.chmod(0o755)
    sample = ROOT / "web-crawler/sample"
    for name in ("kowiki.txt", "ratings_train.txt", "ratings_test.txt"):
        shutil.copy(sample / name, folder)
    shutil.copy(sample / "kowiki.txt", folder / "valid.txt")
    shutil.copy(sample / "kowiki.txt", folder / "reviews.txt")
    return folder


def execute(program, text, folder):
    for said, module in OPTIONAL.items():
        if said in text and not importlib.util.find_spec(module):
            pytest.skip(f"needs {module}")
    env = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env["PATH"]])  # as if activated
    done = subprocess.run([*program, within_budget(text)], cwd=folder, env=env, capture_output=True,
                          text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("number", range(len(blocks())))
def test_block_runs(number, folder):
    language, text = blocks()[number]
    if TEST in text:
        pytest.skip("the tests themselves, which .ci/run starts")
    execute(BASH if language == "bash" else [sys.executable, "-c"], text, folder)


@pytest.mark.parametrize("command", COMMANDS)
def test_command_in_running_text_runs(command, folder):
    (folder / "runs").mkdir(exist_ok=True)
    where = "web-crawler" if "kowiki.py" in command else "."
    execute(BASH, command, folder / where)


def test_every_option_in_running_text_exists():
    said = set(re.findall(r"--\w+", " ".join(spans()))) - {"--no", "--logdir"}  # of other programs
    programs = ("convbert.py", "web-crawler/kowiki.py", "web-crawler/naver_movie.py", "tests/ablation.py",
                "tests/benchmark.py", "tests/experiments/benchmark_crawler.py")
    helps = [subprocess.run([sys.executable, ROOT / program, "--help"], capture_output=True, text=True,
                            check=True).stdout for program in programs]
    assert said - set(re.findall(r"--\w+", " ".join(helps))) == set()


def test_the_korean_readme_has_the_same_code():
    assert blocks("README.ko.md") == blocks()
    assert sorted(spans("README.ko.md")) == sorted(spans())


def test_parameters_of_the_bundled_configuration_are_as_said():
    model = convbert.ConvBertForMaskedLM(convbert.ConvBertConfig.from_pretrained(ROOT))
    count = sum(parameter.numel() for parameter in model.parameters())
    for name in ("README.md", "README.ko.md"):
        assert f"{count:,}" in (ROOT / name).read_text(encoding="utf-8")


def test_every_budget_is_for_something_in_the_readme():
    text = "".join(text for _, text in blocks()) + "".join(COMMANDS)
    assert [said for said in BUDGETS if said not in text] == []
