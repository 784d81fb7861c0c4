"""The options, and what is told about mistakes; what the file needs to run, and its form.

Most commands run in this process, which saves the seconds of a start; some run for real.
"""

import ast
import io
import json
import math
import os
import re
import shlex
import shutil
import statistics
import sys
from unittest import mock

import pytest
import sentencepiece
import torch
from helpers import (
    CHEAP,
    MODEL,
    ROOT,
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
        input=str(text), model_prefix=str(prefix), vocab_size=1500, model_type="bpe",
        num_threads=1, minloglevel=2, **special)


@pytest.fixture(scope="module")
def bad(models, tmp_path_factory):
    """Everything that can be wrong with a file."""
    folder = tmp_path_factory.mktemp("mistakes") / "bad"
    (folder / "folder").mkdir(parents=True)
    (folder / "empty").write_bytes(b"")
    (folder / "short.txt").write_text("짧다\n", encoding="utf-8")
    (folder / "mixed.txt").write_bytes("첫 줄\n둘째 줄\n".encode() + "셋째 줄\n".encode("cp949"))
    (folder / "utf16.txt").write_bytes("첫 줄\n둘째 줄\n".encode("utf-16")[:-1])
    (folder / "text.model").write_text("no model\n" * 100)
    train_vocabulary(folder / "plain", SAMPLE / "kowiki.txt")
    train_vocabulary(
        folder / "other", SAMPLE / "kowiki.txt", pad_id=0, pad_piece="[PAD]", unk_id=1,
        unk_piece="[UNK]", bos_id=2, bos_piece="[BOS]", eos_id=3, eos_piece="[EOS]",
        user_defined_symbols="[SEP],[CLS],[MASK]")
    config = read_json(models / "tuned/config.json")
    configs = {"nojson": "{not json", "list": "[]",
               "bert": json.dumps(config | {"model_type": "bert"}),
               "nofield": json.dumps({k: v for k, v in config.items() if k != "hidden_size"}),
               "nonsense": json.dumps(config | {"hidden_size": "wide"}),
               "wide": json.dumps(config | {"hidden_size": 128})}
    for name in (*configs, "truncated", "noweights"):
        shutil.copytree(models / "tuned", folder / name)
    for name, text in configs.items():
        (folder / name / "config.json").write_text(text)
    os.truncate(folder / "truncated/model.safetensors", 5000)
    (folder / "noweights/model.safetensors").unlink()
    shutil.copytree(models / "tuned", folder / "novocab")
    (folder / "novocab/spiece.model").unlink()
    for name, text in TABLES.items():
        (folder / name).write_text(text, encoding="utf-8")
    mixed = "id\tdocument\tlabel\n1\t가\t0\n".encode() + b"2\t\xff\t1\n"
    (folder / "mixed.tsv").write_bytes(mixed)
    (folder / "book.xlsx").write_bytes(b"PK\x03\x04" + bytes(99))
    (folder / "unfinished/checkpoint-38").mkdir(parents=True)
    return folder


@pytest.fixture
def used(tmp_path):
    """An output folder with files of someone's; no command may change them."""
    folder = tmp_path / "used"
    folder.mkdir()
    for name in ("eval_results.json", "keep.txt"):
        (folder / name).write_text("mine")
    yield folder
    (folder / ".lock").unlink(missing_ok=True)  # of a run that was refused
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        "eval_results.json": "mine", "keep.txt": "mine"}


# ---- Bad input: one line, status 2, nothing touched

HEAD = "id\tdocument\tlabel\n"
TABLES = {
    "columns.tsv": "id\tcontents\tlabel\n1\ta\t0\n2\tb\t1\n",
    "labels.tsv": HEAD + "1\ta\t0\n2\tb\tgood\n3\tc\t1\n",
    "head.tsv": HEAD,
    "doubt.csv": "text,review,label\na,b,0\nc,d,1\n",
    "oneclass.tsv": HEAD + "1\ta\t1\n2\tb\t1\n3\tc\t1\n",
    "oneexample.tsv": HEAD + "1\ta\t1\n2\tb\t0\n3\tc\t1\n",
    "nolabel.tsv": HEAD + "1\ta\t1\n2\tb\t0\n3\tc\t\n4\td\t0\n",
    "float.csv": "text,label\na,1.0\nb,0.0\nc,1.0\nd,0.0\n",
    "share.csv": "text,label\na,1\nb,0\nc,0.83\nd,0\n",
    "float.jsonl": '{"text": "a", "label": 1}\n{"text": "b", "label": 0.5}\n',
    "lines.csv": 'text,label\n"a\n\nb",0\nc,0\nd,1\ne,\n',
    "tabs.tsv": 'text\tlabel\nx\t1\n"a\t0\nb"\t1\nc\t0\n',
    "more.csv": "text,label\na,0\nb,1,1\nc,0\nd,1\n",
    "broken.jsonl": '{"text": "a", "label": 1}\n{"text": \n',
    "number.jsonl": '{"text": "a", "label": 1}\n{"text": 7, "label": 0}\n',
    "textless.jsonl": '{"text": "a", "label": 1}\n{"label": 0}\n',
    "scores.jsonl": '{"text": "a", "scores": {"x": 0.5, "y": 0.5}}\n'
                    '{"text": "b", "scores": {"x": 0.5, "y": 0.3}}\n',
    "strange.jsonl": '{"text": "a", "scores": {"x": 0.5, "y": 0.5}}\n{"text": "b", "scores": 1}\n',
    "soft.jsonl": "".join(f'{{"text": "{c}", "scores": {{"x": 0.5, "y": 0.5}}}}\n' for c in "abcd"),
    "list.jsonl": '{"text": "a", "label": ["x"]}\n{"text": "b", "label": ["y"]}\n',
    "array.json": '[{"text": "a", "label": 0},\n {"text": "b", "label": 1}]\n',
    "indented.json": '[\n  {"text": "a", "label": 0}\n]\n',
    "twice.csv": "text,label,label\na,0,1\nb,1,0\n",
    "two.jsonl": '{"text": "a", "label": "x", "scores": {"x": 0.9, "y": 0.1}}\n'
                 '{"text": "b", "label": "y", "scores": {"x": 0.1, "y": 0.9}}\n',
}
TEXT = "--task pretrain --size tiny --max_steps 1 --corpus "
NEW = TEXT + "{data}/kowiki.txt "
OWN = "--task finetune --size tiny --max_steps 1 --train_file "
TUNE = "--task finetune --size tiny --max_steps 1 --test_file {data}/ratings_test.txt --train_file "
KNOWN = TUNE + "{data}/ratings_train.txt "
TEST = "--task evaluate --model_name_or_path {models}/tuned --test_file "
LOAD = "--task evaluate --test_file {data}/ratings_test.txt --model_name_or_path "
USE = "--task predict --model_name_or_path "
MISTAKES = {  # name: the options, and what the message must contain
    "missing corpus": (TEXT + "{bad}/none.txt", "bad/none.txt"),
    "second corpus missing": (NEW + "--corpus {bad}/none.txt", "bad/none.txt"),
    "empty corpus": (TEXT + "{bad}/empty", "bad/empty"),
    "corpus not UTF-8": (TEXT + "{bad}/mixed.txt", "bad/mixed.txt, line 3"),
    "corpus half UTF-16": (TEXT + "{bad}/utf16.txt", "bad/utf16.txt"),
    "corpus a folder": (TEXT + "{bad}/folder", "bad/folder"),
    "corpus too short": (TEXT + "{bad}/short.txt", "bad/short.txt"),
    "held-out text missing": (NEW + "--valid_file {bad}/none.txt", "bad/none.txt"),
    "other vocabulary": (LOAD + "{models}/tuned --vocab_file {bad}/other.model", "bad/other.model",
                         "tuned/spiece.model"),
    "no vocabulary": (LOAD + "{bad}/novocab", "bad/novocab", "--vocab_file"),
    "no vocabulary to predict": (USE + "{bad}/novocab --text a", "bad/novocab", "--vocab_file"),
    "vocabulary of another size": (LOAD + "{bad}/novocab --vocab_file {bad}/other.model",
                                   "bad/other.model"),
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
    "config missing": ("--task pretrain --corpus {data}/kowiki.txt --config_name {bad}/none",
                       "bad/none"),
    "weights do not fit": (LOAD + "{bad}/wide", "wide/model.safetensors"),
    "weights truncated": (LOAD + "{bad}/truncated", "truncated/model.safetensors"),
    "weights missing": (LOAD + "{bad}/noweights", "bad/noweights"),
    "model missing": (LOAD + "{bad}/none", "bad/none/config.json: no such file"),
    "model to predict missing": (USE + "{bad}/none --text a", "bad/none/config.json: no such file"),
    "model unfinished": (USE + "{bad}/unfinished --text a", "unfinished/checkpoint-38"),
    "new model to predict with": (USE[: USE.index("--model")] + "--size tiny --text a", "--size"),
    "new model to evaluate": ("--task evaluate --config_name config.json", "--config_name"),
    "model folder empty": (LOAD + "{bad}/folder", "bad/folder"),
    "no such columns": (TUNE + "{bad}/columns.tsv", "columns.tsv", "--text_column_name",
                        "'id', 'contents', 'label'"),
    "two columns of text": (OWN + "{bad}/doubt.csv", "doubt.csv", "--text_column_name",
                            "is it text or review?"),
    "no such column": (KNOWN + "--label_column_name 분류", "ratings_train.txt",
                       "no column '분류'", "--label_column_name", "'id', 'document', 'label'"),
    "label unknown to the model": (TEST + "{bad}/labels.tsv", "labels.tsv, line 3", "'good'",
                                   "negative, positive"),
    "reviews missing": (TUNE + "{bad}/none.tsv", "bad/none.tsv"),
    "reviews empty": (TUNE + "{bad}/empty", "bad/empty"),
    "reviews a folder": (TUNE + "{bad}/folder", "bad/folder"),
    "reviews in no encoding": (TUNE + "{bad}/mixed.tsv", "bad/mixed.tsv, line 3"),
    "no reviews": (TUNE + "{bad}/head.tsv", "bad/head.tsv"),
    "one class": (OWN + "{bad}/oneclass.tsv", "oneclass.tsv", "'1'"),
    "one example of a class": (OWN + "{bad}/oneexample.tsv", "oneexample.tsv, line 3", "'0'"),
    "one example of some classes": (OWN + "{bad}/labels.tsv", "labels.tsv, line 2", "'0'"),
    "empty label": (OWN + "{bad}/nolabel.tsv", "nolabel.tsv, line 4"),
    "labels with a point": (OWN + "{bad}/float.csv", "float.csv, line 2", "1.0", "scores"),
    "a share among labels": (OWN + "{bad}/share.csv", "share.csv, line 4", "0.83"),
    "a share in JSON lines": (OWN + "{bad}/float.jsonl", "float.jsonl, line 2", "0.5"),
    "mistake below a text of lines": (OWN + "{bad}/lines.csv", "lines.csv, line 7"),
    "quotation mark over tabs": (OWN + "{bad}/tabs.tsv", "tabs.tsv, line"),
    "a comma too many": (OWN + "{bad}/more.csv", "more.csv", "line 3"),
    "workbook": (OWN + "{bad}/book.xlsx", "book.xlsx", "Excel", "CSV"),
    "JSON array": (OWN + "{bad}/array.json", "array.json", "JSON lines"),
    "JSON array, indented": (OWN + "{bad}/indented.json", "indented.json", "JSON lines"),
    "list for a label": (OWN + "{bad}/list.jsonl", "list.jsonl, line 1", "label ['x']"),
    "two columns of one name": (OWN + "{bad}/twice.csv", "twice.csv, line 1", "'label'"),
    "JSON cut off": (OWN + "{bad}/broken.jsonl", "broken.jsonl, line 2"),
    "a number for a text": (OWN + "{bad}/number.jsonl", "number.jsonl, line 2"),
    "a row without text": (OWN + "{bad}/textless.jsonl", "textless.jsonl, line 2"),
    "scores do not sum to 1": (OWN + "{bad}/scores.jsonl", "scores.jsonl, line 2"),
    "scores no classes": (OWN + "{bad}/strange.jsonl", "strange.jsonl, line 2"),
    "test part of scores alone": (OWN + "{bad}/soft.jsonl", "bad/soft.jsonl, line"),
    "dev part of scores alone": (OWN + "{bad}/soft.jsonl --no-test", "bad/soft.jsonl, line"),
    "too few rows for three parts": (OWN + "{bad}/two.jsonl", "bad/two.jsonl"),
    "test file of finetune": (KNOWN + "--test_file {bad}/labels.tsv", "labels.tsv, line 3", "good"),
    "dev file of finetune": (KNOWN + "--validation_file {bad}/labels.tsv", "labels.tsv, line 3",
                             "good"),
    "test file missing": (TEST + "{bad}/none.tsv", "bad/none.tsv"),
    "test file empty": (TEST + "{bad}/empty", "bad/empty"),
    "test file without columns": (TEST + "{bad}/columns.tsv", "columns.tsv",
                                  "'id', 'contents', 'label'"),
    "test file of numbers": (TEST + "{bad}/float.csv", "float.csv, line 2", "1.0"),
    "no classifier to evaluate": (LOAD + "{models}/plain", "plain/model.safetensors", "classifier"),
    "no classifier to predict": (USE + "{models}/plain --text a", "plain/model.safetensors",
                                 "classifier"),
    "texts missing": (USE + "{models}/tuned --test_file {bad}/none.csv", "bad/none.csv"),
    "texts without columns": (USE + "{models}/tuned --test_file {bad}/columns.tsv", "columns.tsv",
                              "--text_column_name"),
    "text like an option": (USE + "{models}/tuned --text --실망--", "--text", "--option=VALUE"),
    "beyond the positions": (NEW + "--max_seq_length 513", "--max_seq_length 513", "512"),
    "no steps": (NEW + "--max_steps 0", "--max_steps 0"),
    "no batch": (NEW + "--batch_size 0", "--batch_size 0"),
    "batch no number": (NEW + "--batch_size many", "--batch_size", "many"),
    "no threads": (NEW + "--num_threads 0", "--num_threads 0"),
    "rate nan": (NEW + "--learning_rate nan", "--learning_rate nan"),
    "rate infinite": (NEW + "--learning_rate inf", "--learning_rate inf"),
    "rate negative": (NEW + "--learning_rate -1", "--learning_rate -1"),
    "epochs infinite": ("--task pretrain --size tiny --corpus {data}/kowiki.txt "
                        "--num_train_epochs inf", "--num_train_epochs inf"),
    "hard labels too heavy": (KNOWN + "--hard_label_share 1.5", "--hard_label_share 1.5"),
    "unknown device": (NEW + "--device tpu", "--device tpu"),
    "unknown option": (NEW + "--learning_rat 1", "--learning_rat", "did you mean --learning_rate?"),
    "unknown option with a value": (NEW + "--batchsize=3", "did you mean --batch_size?"),
    "no like an option": (NEW + "--no_test", "did you mean --no-test?"),
    "the beginning of an option": (NEW + "--model a", "did you mean --model_name_or_path?"),
    "the beginning of another": (NEW + "--output a", "--output_file or --output_dir?"),
    "threads beyond reason": (NEW + "--num_threads 40000", "--num_threads 40000"),
    "no option at all": (NEW + "--gpu 1", "--gpu: no such option; --help lists them"),
    "option of Hugging Face's": (NEW + "--per_device_train_batch_size 8",
                                 "did you mean --batch_size?"),
    "unlike any option": (NEW + "--qqqqqq", "--qqqqqq", "--help"),
    "unknown task": ("--task train", "--task", "train", "pretrain", "finetune"),
    "no task": ("--size tiny", "--task is missing", "pretrain, finetune, evaluate, predict"),
    "size and model": (NEW + "--model_name_or_path {models}/plain", "--model_name_or_path",
                       "--size"),
    "steps and minutes": (NEW + "--max_minutes 1", "--max_minutes", "--max_steps"),
    "compiled for all lengths": (KNOWN + "--compile", "--compile"),
    "files of someone's": (NEW, "--output_dir", "eval_results.json"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_is_told_in_one_line_and_touches_nothing(mistake, data, models, bad, used):
    line, *names = MISTAKES[mistake]
    options = [part.format(data=data, models=models, bad=bad) for part in line.split()]
    check_error(run(*CHEAP, "--output_dir", used, *options), *names)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_options_that_a_task_does_not_use_are_said(data, models, tmp_path):
    result = run(*pretraining(data, tmp_path / "run", "--max_steps", 1, "--train_file", "mine.csv"))
    assert result.code == 0 and "--train_file: not used by --task pretrain" in result.err
    result = run("--task", "predict", "--model_name_or_path", models / "tuned", *CHEAP, "--text=a",
                 "--mlm_probability", 0.2, "--max_steps", 3)
    assert re.findall(r"--\w+(?=: not used)", result.err) == ["--mlm_probability", "--max_steps"]
    assert "not used" not in run(*finetuning(data, tmp_path / "tuned", "--max_steps", 1,
                                             "--max_eval_samples", 8, "--size", "tiny")).err


def test_missing_gpu_is_told(data, used):
    result = run(*pretraining(data, used, "--device", "cuda"))
    check_error(result, "--device cuda", "cannot be used", "the best is ")


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
    result = run_python(SCRIPT, "--task", "predict", "--model_name_or_path", bad / "truncated",
                        "--text", "a", cwd=tmp_path)
    check_error(result, "truncated/model.safetensors")


@pytest.mark.skipif(os.name == "nt", reason="arguments are no bytes there")
def test_argument_that_is_not_utf8_is_no_traceback(models, tmp_path):
    result = run_python(SCRIPT, "--task", "predict", "--model_name_or_path", models / "tuned",
                        *CHEAP, "--text", b"\xff\xfe", cwd=tmp_path)
    assert "Traceback" not in result.err
    assert result.code == 2 or len(answers(result)) == 1


@pytest.mark.parametrize("error", [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\n..."),
    RuntimeError("DefaultCPUAllocator: can't allocate memory"), MemoryError()])
def test_lack_of_memory_is_told(error, monkeypatch, data, tmp_path):
    monkeypatch.setattr(convbert, "run_model", mock.Mock(side_effect=error))
    check_error(run(*pretraining(data, tmp_path / "run")), "--batch_size")


def test_every_process_tells_its_own_errors(monkeypatch, capfd):
    for rank, said in ((0, "a file is missing"), (1, "process 1: a file is missing")):
        with monkeypatch.context() as patch, pytest.raises(SystemExit):
            patch.setattr(convbert, "RANK", rank)
            patch.setattr(sys, "__stderr__", sys.stderr)
            for name in ("stdout", "stderr"):
                patch.setattr(sys, name, getattr(sys, name))
            with convbert.one_line_errors():
                print("a line of the program")
                raise convbert.UserError("a file is missing")
        out, err = capfd.readouterr()
        assert err.strip() == f"convbert.py: error: {said}"
        assert bool(out) == (rank == 0)


def test_other_trouble_with_memory_keeps_its_traceback(monkeypatch, data, tmp_path):
    error = RuntimeError("CUDA error: an illegal memory access was encountered")
    monkeypatch.setattr(convbert, "run_model", mock.Mock(side_effect=error))
    with pytest.raises(RuntimeError, match="illegal"):
        run(*pretraining(data, tmp_path / "run"))


# ---- Any options at all

OPTIONS = sorted(name for action in convbert.make_parser()._actions
                 for name in action.option_strings if name not in ("-h", "--help"))
CHOICES = {"task": ["pretrain", "finetune", "evaluate", "predict", "visualize"],
           "objective": [None, "mlm", "rtd"], "precision": [None, "auto", "fp32", "bf16"],
           "size": [None, "tiny", "small", "medium-small", "base"]}
LIMITS = {"seed": (0, 1e9), "max_seq_length": (8, 1e5), "max_train_samples": (2, 1e9),
          "warmup_ratio": (0, 0.99), "mlm_probability": (0.01, 0.9), "weight_decay": (0, 1),
          "hard_label_share": (0, 1)}
STRANGE = ["", "-", "--", "nan", "1e400", "１２", "1_0", "0x1", "a\nb", "\udcff", "%s", "9" * 5000]
KNOWN_NAMES = [name for names in CHOICES.values() for name in names if name]
VALUES = (st.integers(-2, 200).map(str) | st.integers().map(str) | st.floats().map(str)
          | st.text(max_size=5) | st.sampled_from(KNOWN_NAMES + STRANGE))
GIVEN = (st.tuples(st.sampled_from(OPTIONS), VALUES) | st.tuples(st.sampled_from(OPTIONS))
         | st.tuples(st.sampled_from(OPTIONS), VALUES).map(lambda pair: ("=".join(pair),))
         | st.tuples(VALUES | st.sampled_from(["--help", "--tas", "-t"])))
LINES_OF_OPTIONS = st.lists(GIVEN, max_size=5).map(
    lambda parts: [word for part in parts for word in part])


def check_options(args):
    """Numbers are within their limits, names among their choices, no two alternatives are given."""
    for name, value in vars(args).items():
        assert type(value) is not list or name in ("corpus", "text", "given"), (name, value)
        if type(value) in (int, float):
            low, high = LIMITS.get(name, (1 if type(value) is int else 0, 2**31))
            assert math.isfinite(value) and low <= value <= high, (name, value)
    assert all(getattr(args, name) in known for name, known in CHOICES.items())
    assert len(vars(args)) >= 30
    for group in (("model_name_or_path", "config_name", "size"),
                  ("max_steps", "num_train_epochs", "max_minutes")):
        assert sum(getattr(args, name) is not None for name in group) <= 1


@examples(500)
@given(task=st.sampled_from([[], ["--task", "pretrain"], ["--task", "finetune"]]),
       line=LINES_OF_OPTIONS)
@example(task=["--task", "pretrain"], line=["a\nb"])
@example(task=[], line=["--task=--"])
@example(task=["--task", "finetune"], line=["--train_file=--"])
@example(task=["--task", "finetune"], line=["--seed=--"])
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
    for group in ("general", "model", "pretrain", "finetune", "predict", "training", "length",
                  "output"):
        assert any(title.startswith(group) for title in groups), group
    entries = re.findall(r"^  (-.*(?:\n   .*)*)", result.out, re.M)
    own = [entry for entry in entries if not entry.startswith("-h, --help")]
    assert len(own) == result.out.count("\n  --") > 30
    explained = re.compile(r"[.](\s+\[[^]]+\])?$")  # a sentence, and the default in brackets
    assert [entry for entry in own if not explained.search(entry)] == []
    assert result.out.count("python convbert.py --task") == 3  # the examples


def test_help_shows_every_default(monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    entries = dict(re.findall(r"^  --(\w+)(.*(?:\n   .*)*)", run("--help").out, re.M))
    options = {name: default for group in convbert.OPTIONS.values()
               for name, (_, default, _) in group.items() if default is not None}
    assert len(options) > 15
    for name, value in options.items():
        shown = entries[name].rpartition("[")[2]
        for one in value.values() if isinstance(value, dict) else [value]:
            assert ("yes" if one is True else "no" if one is False else str(one)) in shown, name


def test_help_examples_are_commands():
    lines = [line for line in convbert.make_parser().epilog.splitlines() if "convbert.py" in line]
    assert len(lines) == 3
    for line in lines:
        assert convbert.parse_options(shlex.split(line, comments=True)[2:]).task in line


def test_import_has_no_side_effects(tmp_path):
    code = """
import os, setproctitle, signal, sys
def look():
    signals = [signal.getsignal(number) for number in (1, 2, 15)]
    return sys.argv[:], setproctitle.getproctitle(), os.getcwd(), signals
sys.argv = ["x", "--nonsense"]
before = look()
import convbert
assert look() == before
"""
    result = run_python("-c", code, cwd=tmp_path)
    assert (result.code, result.out, result.err) == (0, "", "")
    assert not list(tmp_path.iterdir())


# ---- A copy alone

BARE = """
import runpy, signal, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("fcntl", "pictures", "matplotlib"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
if hasattr(signal, "SIGHUP"):
    del signal.SIGHUP
common = "--device cpu --num_threads 1 --precision fp32 --max_seq_length 16 --max_steps 2".split()
for line in sys.stdin:
    sys.argv = ["convbert.py", *line.split(), *common]
    try:
        runpy.run_path("convbert.py", run_name="__main__")
    except SystemExit as end:
        if end.code:
            sys.exit(f"{line} ended with {end.code}")
assert "fcntl" not in sys.modules and "pictures" not in sys.modules
"""


def test_a_copy_alone_does_all_tasks_without_fcntl_pictures_and_matplotlib(tmp_path):
    """Nor SIGHUP: Windows has neither."""
    shutil.copy(SCRIPT, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(MODEL))
    shutil.copytree(ROOT / "vocab", tmp_path / "vocab")
    lines = (SAMPLE / "kowiki.txt").read_text(encoding="utf-8").splitlines(True)[:60]
    (tmp_path / "mine.txt").write_text("".join(lines), encoding="utf-8")
    rows = [f"{word} 영화 {i},{label}" for i in range(30) for word, label in
            (("좋은", "긍정"), ("나쁜", "부정"))]
    (tmp_path / "mine.csv").write_text("\n".join(["text,label", *rows, ""]), encoding="utf-8")
    (tmp_path / "bare.py").write_text(BARE)
    tasks = ["--task pretrain --corpus mine.txt", "--task finetune --train_file mine.csv",
             "--task evaluate", "--task predict --text 좋은"]
    result = run_python("bare.py", stdin="\n".join(tasks).encode(), cwd=tmp_path)
    assert result.code == 0, result.err
    assert result.err.count("no curves are drawn: No module named 'pictures'") == 2
    assert "model: runs/pretrain" in result.err and "model: runs/finetune" in result.err
    assert "test file: runs/finetune/test.jsonl" in result.err
    answer = json.loads(result.out.splitlines()[-1])
    assert answer["text"] == "좋은" and answer["label"] in ("긍정", "부정")
    for task in ("pretrain", "finetune"):
        names = {path.name for path in (tmp_path / "runs" / task).iterdir()}
        assert names >= {"config.json", "model.safetensors", "spiece.model", "train_results.json"}
        assert "curves.png" not in names
    assert (tmp_path / "runs/evaluate/eval_results.json").exists()


def test_requirements_leave_a_choice_of_torch():
    """Whoever has a GPU has a torch for it already."""
    requirements = pytest.importorskip("packaging.requirements")  # which comes with pytest
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    [torch_] = [found for line in lines
                if (found := requirements.Requirement(line)).name == "torch"]
    assert all(version in torch_.specifier for version in ("2.11.0", "2.12.1", "2.13.0+cpu"))
    assert torch.__version__ in torch_.specifier


# ---- The form of the file

@pytest.fixture(scope="module")
def source():
    return SCRIPT.read_text(encoding="utf-8")


def test_lines_have_at_most_100_columns(source):
    assert [line for line in source.splitlines() if len(line) > 100] == []


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
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        return constant or definition or docstring

    assert sum(not is_plain(node) for node in ast.parse(source).body) <= 10
