"""Part 10: the options, and what is told about mistakes.

Most commands run in this process, which saves the seconds of a start; some run for real.
"""

import ast
import contextlib
import io
import json
import math
import os
import re
import shutil
import statistics
from unittest import mock

import pytest
import sentencepiece
import torch
from helpers import (
    CHEAP,
    SAMPLE,
    SCRIPT,
    answers,
    check_error,
    examples,
    finetuning,
    pretraining,
    read_json,
    run,
    run_python,
)
from hypothesis import example, given
from hypothesis import strategies as st

import convbert
from convbert import UserError


def train_vocabulary(prefix, text, **special):
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(prefix), vocab_size=1500, model_type="bpe", num_threads=1,
        minloglevel=2, **special)


@pytest.fixture(scope="module")
def bad(models, tmp_path_factory):
    """Everything that can be wrong with a file."""
    folder = tmp_path_factory.mktemp("mistakes") / "bad"
    (folder / "folder").mkdir(parents=True)
    (folder / "empty").write_bytes(b"")
    (folder / "short.txt").write_text("짧다\n", encoding="utf-8")
    (folder / "euckr.txt").write_bytes("첫 줄\n둘째 줄\n".encode() + "셋째 줄\n".encode("euc-kr"))
    (folder / "text.model").write_text("no model\n" * 100)
    train_vocabulary(folder / "plain", SAMPLE / "kowiki.txt")
    train_vocabulary(folder / "other", SAMPLE / "kowiki.txt", pad_id=0, pad_piece="[PAD]", unk_id=1,
                     unk_piece="[UNK]", bos_id=2, bos_piece="[BOS]", eos_id=3, eos_piece="[EOS]",
                     user_defined_symbols="[SEP],[CLS],[MASK]")
    config = read_json(models / "tuned/config.json")
    configs = {"nojson": "{not json", "list": "[]", "bert": json.dumps(config | {"model_type": "bert"}),
               "nofield": json.dumps({name: config[name] for name in config if name != "hidden_size"}),
               "nonsense": json.dumps(config | {"hidden_size": "wide"}),
               "wide": json.dumps(config | {"hidden_size": 128})}
    for name in (*configs, "truncated", "noweights"):
        shutil.copytree(models / "tuned", folder / name)
    for name, text in configs.items():
        (folder / name / "config.json").write_text(text)
    os.truncate(folder / "truncated/model.safetensors", 5000)
    (folder / "noweights/model.safetensors").unlink()
    (folder / "columns.tsv").write_text("id\ttext\tlabel\n1\ta\t0\n2\tb\t1\n")
    (folder / "labels.tsv").write_text("id\tdocument\tlabel\n1\ta\t0\n2\tb\tgood\n3\tc\t1\n")
    (folder / "euckr.tsv").write_bytes("id\tdocument\tlabel\n1\t좋다\t0\n2\tb\t1\n".encode("euc-kr"))
    (folder / "head.tsv").write_text("id\tdocument\tlabel\n")
    return folder


@pytest.fixture
def used(tmp_path):
    """An output folder with files of someone's; no command may change them."""
    folder = tmp_path / "used"
    folder.mkdir()
    for name in ("eval_results.json", "keep.txt"):
        (folder / name).write_text("mine")
    yield folder
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        "eval_results.json": "mine", "keep.txt": "mine"}


# ---- Bad input: one line, status 2, nothing touched

TEXT = "--task pretrain --size tiny --max_steps 1 --corpus "
NEW = TEXT + "{data}/kowiki.txt "
TUNE = "--task finetune --size tiny --max_steps 1 --test_file {data}/ratings_test.txt --train_file "
TEST = "--task evaluate --model_name_or_path {models}/tuned --test_file "
LOAD = "--task evaluate --test_file {data}/ratings_test.txt --model_name_or_path "
MISTAKES = {  # name: the options, and what the message must contain
    "missing corpus": (TEXT + "{bad}/none.txt", "bad/none.txt"),
    "second corpus missing": (NEW + "--corpus {bad}/none.txt", "bad/none.txt"),
    "empty corpus": (TEXT + "{bad}/empty", "bad/empty"),
    "corpus not UTF-8": (TEXT + "{bad}/euckr.txt", "bad/euckr.txt, line 3"),
    "corpus a folder": (TEXT + "{bad}/folder", "bad/folder"),
    "corpus too short": (TEXT + "{bad}/short.txt", "bad/short.txt"),
    "held-out text missing": (NEW + "--valid_file {bad}/none.txt", "bad/none.txt"),
    "vocabulary of another size": (LOAD + "{models}/tuned --vocab_file {bad}/other.model", "bad/other.model"),
    "no special pieces": (NEW + "--vocab_file {bad}/plain.model", "bad/plain.model", "[MASK]"),
    "tokenizer no model": (NEW + "--vocab_file {bad}/text.model", "bad/text.model"),
    "tokenizer empty": (NEW + "--vocab_file {bad}/empty", "bad/empty"),
    "tokenizer missing": (NEW + "--vocab_file {bad}/none.model", "bad/none.model"),
    "tokenizer a folder": (NEW + "--vocab_file {bad}/folder", "bad/folder"),
    "config not JSON": (LOAD + "{bad}/nojson", "nojson/config.json"),
    "config a list": (LOAD + "{bad}/list", "list/config.json"),
    "config lacks a field": (LOAD + "{bad}/nofield", "nofield/config.json", "hidden_size"),
    "config of another model": (LOAD + "{bad}/bert", "bert/config.json"),
    "config of a wrong type": (LOAD + "{bad}/nonsense", "nonsense/config.json", "hidden_size"),
    "config missing": ("--task pretrain --corpus {data}/kowiki.txt --config_name {bad}/none", "bad/none"),
    "weights do not fit": (LOAD + "{bad}/wide", "wide/model.safetensors"),
    "weights truncated": (LOAD + "{bad}/truncated", "truncated/model.safetensors"),
    "weights missing": (LOAD + "{bad}/noweights", "bad/noweights"),
    "model missing": (LOAD + "{bad}/none", "bad/none"),
    "model folder empty": (LOAD + "{bad}/folder", "bad/folder"),
    "no such columns": (TUNE + "{bad}/columns.tsv", "columns.tsv, line 1", "document"),
    "labels no integers": (TUNE + "{bad}/labels.tsv", "labels.tsv, line 3", "good"),
    "reviews missing": (TUNE + "{bad}/none.tsv", "bad/none.tsv"),
    "reviews empty": (TUNE + "{bad}/empty", "bad/empty"),
    "reviews a folder": (TUNE + "{bad}/folder", "bad/folder"),
    "reviews not UTF-8": (TUNE + "{bad}/euckr.tsv", "bad/euckr.tsv"),
    "no reviews": (TUNE + "{bad}/head.tsv", "bad/head.tsv"),
    "test file of finetune": (TUNE + "{data}/ratings_train.txt --test_file {bad}/labels.tsv",
                              "labels.tsv, line 3"),
    "test file missing": (TEST + "{bad}/none.tsv", "bad/none.tsv"),
    "test file empty": (TEST + "{bad}/empty", "bad/empty"),
    "test file without columns": (TEST + "{bad}/columns.tsv", "columns.tsv, line 1"),
    "no classifier to evaluate": (LOAD + "{models}/plain", "plain/model.safetensors", "classifier"),
    "no classifier to predict": ("--task predict --text a --model_name_or_path {models}/plain",
                                 "plain/model.safetensors", "classifier"),
    "beyond the positions": (NEW + "--max_seq_length 513", "--max_seq_length 513", "512"),
    "no steps": (NEW + "--max_steps 0", "--max_steps 0"),
    "no batch": (NEW + "--batch_size 0", "--batch_size 0"),
    "batch no number": (NEW + "--batch_size many", "--batch_size", "many"),
    "no threads": (NEW + "--num_threads 0", "--num_threads 0"),
    "rate nan": (NEW + "--learning_rate nan", "--learning_rate nan"),
    "rate infinite": (NEW + "--learning_rate inf", "--learning_rate inf"),
    "rate negative": (NEW + "--learning_rate -1", "--learning_rate -1"),
    "epochs infinite": ("--task pretrain --size tiny --corpus {data}/kowiki.txt --num_train_epochs inf",
                        "--num_train_epochs inf"),
    "unknown device": (NEW + "--device tpu", "--device tpu"),
    "unknown option": (NEW + "--learning_rat 1", "--learning_rat"),
    "unknown task": ("--task train", "--task", "train"),
    "no task": ("--size tiny", "--task"),
    "size and model": (NEW + "--model_name_or_path {models}/plain", "--model_name_or_path", "--size"),
    "steps and minutes": (NEW + "--max_minutes 1", "--max_minutes", "--max_steps"),
    "compiled for all lengths": (TUNE + "{data}/ratings_train.txt --compile", "--compile"),
    "files of someone's": (NEW, "--output_dir", "eval_results.json"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_is_told_in_one_line_and_touches_nothing(mistake, data, models, bad, used):
    line, *names = MISTAKES[mistake]
    options = [part.format(data=data, models=models, bad=bad) for part in line.split()]
    check_error(run(*CHEAP, "--output_dir", used, *options), *names)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_missing_gpu_is_told(data, used):
    check_error(run(*pretraining(data, used, "--device", "cuda")), "--device cuda")


def output_commands(data, models, folder):
    return {"pretrain": pretraining(data, folder, "--max_steps", 1),
            "finetune": finetuning(data, folder, "--max_steps", 1, "--size", "tiny"),
            "evaluate": ["--task", "evaluate", "--model_name_or_path", models / "tuned", *CHEAP,
                         "--test_file", data / "ratings_test.txt", "--output_dir", folder]}


@pytest.mark.parametrize("task", ["pretrain", "finetune", "evaluate"])
@pytest.mark.parametrize("below", ["", "below"])
def test_output_folder_that_is_a_file_is_told(task, below, data, models, used):
    folder = used / "keep.txt" / below
    check_error(run(*output_commands(data, models, folder)[task]), "used/keep.txt")


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 0)() == 0, reason="root may write anywhere")
@pytest.mark.parametrize("task", ["pretrain", "finetune", "evaluate"])
def test_output_folder_without_permission_is_told(task, data, models, tmp_path):
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o500)
    check_error(run(*output_commands(data, models, folder)[task]), "closed")
    assert not list(folder.iterdir())


def test_real_command_line_tells_a_truncated_model(bad, tmp_path):
    result = run_python(SCRIPT, "--task", "predict", "--model_name_or_path", bad / "truncated", "--text", "a",
                        cwd=tmp_path)
    check_error(result, "truncated/model.safetensors")


@pytest.mark.skipif(os.name == "nt", reason="arguments are no bytes there")
def test_argument_that_is_not_utf8_is_no_traceback(models, tmp_path):
    result = run_python(SCRIPT, "--task", "predict", "--model_name_or_path", models / "tuned", *CHEAP,
                        "--text", b"\xff\xfe", cwd=tmp_path)
    assert "Traceback" not in result.err
    assert result.code == 2 or len(answers(result)) == 1


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\n..."),
                                   RuntimeError("DefaultCPUAllocator: can't allocate memory"), MemoryError()])
def test_lack_of_memory_is_told(error, monkeypatch, data, tmp_path):
    monkeypatch.setattr(convbert, "run_model", mock.Mock(side_effect=error))
    options = ("--corpus", data / "kowiki.txt", "--size", "tiny", "--output_dir", tmp_path / "run", *CHEAP)
    check_error(run("--task", "pretrain", *options), "--batch_size")


def test_other_trouble_with_memory_keeps_its_traceback(monkeypatch, data, tmp_path):
    error = RuntimeError("CUDA error: an illegal memory access was encountered")
    monkeypatch.setattr(convbert, "run_model", mock.Mock(side_effect=error))
    with pytest.raises(RuntimeError, match="illegal"):
        run("--task", "pretrain", "--corpus", data / "kowiki.txt", "--size", "tiny", "--output_dir",
            tmp_path / "run", *CHEAP)


# ---- Any options at all

def usage():
    """What --help prints, up to the first blank line: each option once."""
    out = io.StringIO()
    with (mock.patch("sys.argv", ["convbert.py", "--help"]), mock.patch("sys.stdout", out),
          contextlib.suppress(SystemExit)):
        convbert.parse_options()
    return out.getvalue().partition("\n\n")[0]


OPTIONS = sorted(set(re.findall(r"(?<=[ \[(])--[\w-]+", usage())) - {"--help"})
CHOICES = {"task": ["pretrain", "finetune", "evaluate", "predict", "visualize"], "objective": ["mlm", "rtd"],
           "size": [None, "tiny", "small", "medium-small", "base"], "precision": ["auto", "fp32", "bf16"]}
LIMITS = {"seed": (0, 1e9), "max_seq_length": (8, 1e5), "max_train_samples": (2, 1e9),
          "warmup_ratio": (0, 0.99), "mlm_probability": (0.01, 0.9), "weight_decay": (0, 1)}
VALUES = (st.integers(-2, 200).map(str) | st.integers().map(str) | st.floats().map(str) | st.text(max_size=5)
          | st.sampled_from([name for names in CHOICES.values() for name in names if name])
          | st.sampled_from(["", "-", "--", "nan", "1e400", "１２", "1_0", "0x1", "a\nb", "\udcff", "%s",
                             "9" * 5000]))
GIVEN = (st.tuples(st.sampled_from(OPTIONS), VALUES) | st.tuples(st.sampled_from(OPTIONS))
         | st.tuples(st.sampled_from(OPTIONS), VALUES).map(lambda pair: ("=".join(pair),))
         | st.tuples(VALUES | st.sampled_from(["--help", "--tas", "-t"])))
LINES_OF_OPTIONS = st.lists(GIVEN, max_size=5).map(lambda parts: [word for part in parts for word in part])


def check_options(args):
    """All numbers are within their limits, all names among their choices, no two alternatives are given."""
    for name, value in vars(args).items():
        if type(value) in (int, float):
            low, high = LIMITS.get(name, (1 if type(value) is int else 0, 2**31))
            assert math.isfinite(value) and low <= value <= high, (name, value)
    assert all(getattr(args, name) in known for name, known in CHOICES.items())
    assert len(vars(args)) >= 30
    for group in (("model_name_or_path", "config_name", "size"),
                  ("max_steps", "num_train_epochs", "max_minutes")):
        assert sum(getattr(args, name) is not None for name in group) <= 1


@examples(500)
@given(task=st.sampled_from([[], ["--task", "pretrain"], ["--task", "finetune"]]), line=LINES_OF_OPTIONS)
@example(task=["--task", "pretrain"], line=["a\nb"])
def test_options_are_refused_in_one_line_or_within_their_limits(task, line):
    out = io.StringIO()
    with mock.patch("sys.argv", ["convbert.py", *task, *line]), mock.patch("sys.stdout", out):
        try:
            args = convbert.parse_options()
        except UserError as error:
            assert str(error) and "\n" not in str(error)
        except SystemExit as end:
            assert end.code == 0 and "--help" in line and out.getvalue()
        else:
            check_options(args)


# ---- Help and import

def test_help_is_grouped_and_every_option_explained(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    result = run("--help")
    assert (result.code, result.err) == (0, "")
    groups = re.findall(r"^(\S.*):$", result.out, re.M)
    for group in ("model", "data", "training", "length", "output"):
        assert any(title.startswith(group) for title in groups), group
    entries = re.findall(r"^  (-.*(?:\n   .*)*)", result.out, re.M)
    own = [entry for entry in entries if not entry.startswith("-h, --help")]  # argparse's text has no period
    assert len(own) == result.out.count("\n  --") > 30
    assert [entry for entry in own if not entry.endswith(".")] == []


def test_import_has_no_side_effects(tmp_path):
    code = """
import os, setproctitle, signal, sys
def look():
    return sys.argv[:], setproctitle.getproctitle(), os.getcwd(), signal.getsignal(2), signal.getsignal(15)
sys.argv = ["x", "--nonsense"]
before = look()
import convbert
assert look() == before
"""
    result = run_python("-c", code, cwd=tmp_path)
    assert (result.code, result.out, result.err) == (0, "", "")
    assert not list(tmp_path.iterdir())


# ---- The size of the file

@pytest.fixture(scope="module")
def source():
    return SCRIPT.read_text(encoding="utf-8")


def test_file_has_at_most_1000_lines_of_110(source):
    lines = source.splitlines()
    assert len(lines) <= 1000
    assert max(map(len, lines)) <= 110


def test_functions_are_short(source):
    lengths = {f"{node.name}, line {node.lineno}": node.end_lineno - node.lineno + 1
               for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)}
    assert statistics.median(lengths.values()) <= 12
    assert [name for name, length in lengths.items() if length > 60] == []


def test_module_does_little_beside_definitions(source):
    def is_plain(node):
        targets = getattr(node, "targets", [getattr(node, "target", None)])
        constant = isinstance(node, (ast.Assign, ast.AnnAssign)) and all(
            isinstance(target, ast.Name) and target.id.isupper() for target in targets)
        definition = isinstance(node, (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef))
        return constant or definition or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))

    assert sum(not is_plain(node) for node in ast.parse(source).body) <= 10
