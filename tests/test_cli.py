"""Sections 10 (tasks) and 11 (command line) from outside, and the size of the file.

Most commands run in this process, which saves the seconds of a start; some run for real.
"""

import ast
import contextlib
import io
import itertools
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
import sentencepiece
import torch
from safetensors.torch import load_file

import convbert

ROOT = Path(convbert.__file__).resolve().parent
SCRIPT, SAMPLE = ROOT / "convbert.py", ROOT / "web-crawler/sample"
CHEAP = ["--device", "cpu", "--num_threads", "1", "--precision", "fp32", "--max_seq_length", "32"]


def run(*options, stdin=b""):
    """main() in this process: code, out, err. Only SystemExit is caught: all else would be a traceback."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with (mock.patch("sys.argv", ["convbert.py", *map(str, options)]), contextlib.redirect_stdout(out),
          contextlib.redirect_stderr(err), mock.patch("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin)))):
        try:
            convbert.main()
        except SystemExit as end:
            code = end.code or 0
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    return SimpleNamespace(code=code, out=out.getvalue(), err=err.getvalue())


def start(*command, stdin=b"", cwd=None):
    """Python with these arguments, in a process of its own."""
    env = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, *command], input=stdin, cwd=cwd, env=env, capture_output=True,
                          timeout=300)
    return SimpleNamespace(code=done.returncode, out=done.stdout.decode(), err=done.stderr.decode())


def check_error(result, *names):
    """The last line, it alone, says what is wrong and names it; the status is 2 and stdout is empty."""
    lines = [line for line in result.err.splitlines() if "error:" in line]
    assert (result.code, len(lines), result.out) == (2, 1, ""), result.err
    assert result.err.splitlines()[-1] == lines[0]
    assert "Traceback" not in result.err
    for name in names:
        assert name in lines[0]


def read_json(path):
    return json.loads(Path(path).read_text(encoding="utf-8"))


def answers(result):
    """The lines of stdout as JSON objects, after a check of what each holds."""
    assert result.code == 0, result.err
    found = [json.loads(line) for line in result.out.split("\n")[:-1]]
    for answer in found:
        assert set(answer) == {"text", "label", "score"}
        assert answer["label"] in ("negative", "positive")
        assert 0.5 <= answer["score"] <= 1
    return found


# ---- material

@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Cut down copies, so that no token files appear in the repository."""
    folder = tmp_path_factory.mktemp("data")
    for name, lines in (("kowiki.txt", 300), ("ratings_train.txt", 141), ("ratings_test.txt", 41)):
        text = (SAMPLE / name).read_text(encoding="utf-8").splitlines(True)
        (folder / name).write_text("".join(text[:lines]), encoding="utf-8")
    return folder


def pretraining(data, folder, *more):
    return ["--task", "pretrain", "--size", "tiny", "--corpus", data / "kowiki.txt", *CHEAP,
            "--output_dir", folder, *more]


def finetuning(data, folder, *more):
    return ["--task", "finetune", "--train_file", data / "ratings_train.txt", *CHEAP,
            "--test_file", data / "ratings_test.txt", "--output_dir", folder, *more]


@pytest.fixture(scope="module", params=["mlm", "rtd"])
def pipeline(request, data, tmp_path_factory):
    """pretrain -> finetune -> evaluate in folders of these names, and the result of each."""
    folder = tmp_path_factory.mktemp(request.param)
    pretrain = run(*pretraining(data, folder / "pretrain", "--objective", request.param, "--max_steps", 30,
                                "--learning_rate", "2e-3", "--max_eval_samples", 16))
    finetune = run(*finetuning(data, folder / "finetune", "--model_name_or_path", folder / "pretrain",
                               "--learning_rate", "2e-3", "--layer_decay", 1, "--num_train_epochs", 3))
    evaluate = run("--task", "evaluate", "--model_name_or_path", folder / "finetune", *CHEAP,
                   "--test_file", data / "ratings_test.txt", "--output_dir", folder / "evaluate")
    return SimpleNamespace(folder=folder, pretrain=pretrain, finetune=finetune, evaluate=evaluate)


@pytest.fixture(scope="module")
def models(data, tmp_path_factory):
    """A folder of two hardly trained models: tuned/, and plain/, which has no classifier."""
    folder = tmp_path_factory.mktemp("models")
    config = convbert.ConvBertConfig(**convbert.SIZES["tiny"])
    convbert.ConvBertForMaskedLM(config).save_pretrained(folder / "plain")
    convbert.ConvBertForSequenceClassification(config).save_pretrained(folder / "tuned")
    return folder


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


# ---- bad input: one line, status 2, nothing touched

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
    check_error(start(SCRIPT, "--task", "predict", "--model_name_or_path", bad / "truncated", "--text", "a",
                      cwd=tmp_path), "truncated/model.safetensors")


@pytest.mark.skipif(os.name == "nt", reason="arguments are no bytes there")
def test_argument_that_is_not_utf8_is_no_traceback(models, tmp_path):
    result = start(SCRIPT, "--task", "predict", "--model_name_or_path", models / "tuned", *CHEAP,
                   "--text", b"\xff\xfe", cwd=tmp_path)
    assert "Traceback" not in result.err
    assert result.code == 2 or len(answers(result)) == 1


# ---- a loss that is not finite

def test_loss_that_becomes_nan_stops_the_run_and_keeps_the_last_checkpoint(data, tmp_path, monkeypatch):
    real, calls = convbert.run_model, []

    def breaking(model, batch, args):
        output = real(model, batch, args)
        calls.extend([1] * torch.is_grad_enabled())
        return output._replace(loss=output.loss * (float("nan") if len(calls) == 4 else 1))

    monkeypatch.setattr(convbert, "run_model", breaking)
    options = pretraining(data, tmp_path / "out", "--max_steps", 6, "--save_steps", 1, "--eval_steps", 100)
    result = run(*options)
    check_error(result, "step 4", "nan")
    checkpoints = {path.name for path in (tmp_path / "out").glob("checkpoint*")}
    assert checkpoints == {"checkpoint-2", "checkpoint-3"}
    weights = load_file(tmp_path / "out/checkpoint-3/model.safetensors")
    assert all(weight.isfinite().all() for weight in weights.values())
    monkeypatch.setattr(convbert, "run_model", real)
    again = run(*options)
    assert again.code == 0, again.err
    assert "checkpoint-3" in again.err


def test_rate_beyond_reason_stops_the_run_with_its_step(data, tmp_path):
    result = run(*pretraining(data, tmp_path / "out", "--max_steps", 5, "--learning_rate", "1e9"))
    check_error(result, "step 2")
    assert not (tmp_path / "out/train_results.json").exists()


def test_run_broken_by_its_last_step_is_no_success(data, tmp_path):
    result = run(*pretraining(data, tmp_path / "out", "--max_steps", 1, "--learning_rate", "1e9"))
    check_error(result, "step 1")
    assert not (tmp_path / "out/train_results.json").exists()


def test_batch_with_nothing_to_predict_does_not_stop_the_run(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("\n" * 400 + "광합성은 식물이 양분을 만드는 과정이다.\n" * 20, encoding="utf-8")
    result = run("--task", "pretrain", "--size", "tiny", *CHEAP, "--corpus", text, "--batch_size", 1,
                 "--max_steps", 5, "--output_dir", tmp_path / "out")
    assert result.code == 0, result.err


# ---- help and import

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
    result = start("-c", code, cwd=tmp_path)
    assert (result.code, result.out, result.err) == (0, "", "")
    assert not list(tmp_path.iterdir())


# ---- from end to end

def test_training_leaves_its_files(pipeline):
    for task in ("pretrain", "finetune"):
        assert getattr(pipeline, task).code == 0, getattr(pipeline, task).err
        names = {path.name for path in (pipeline.folder / task).iterdir()}
        assert names >= {"config.json", "model.safetensors", "metrics.jsonl", "train_results.json",
                         "eval_results.json"}
        assert not [name for name in names if "tmp" in name]


def test_metrics_are_json_lines_in_the_order_of_the_steps(pipeline):
    for task in ("pretrain", "finetune"):
        text = (pipeline.folder / task / "metrics.jsonl").read_text()
        records = [json.loads(line) for line in text.splitlines()]
        steps = [record["step"] for record in records]
        assert steps == sorted(steps)
        for name in ("loss", "learning_rate", "eval_loss"):
            assert any(name in record for record in records), name


def test_loss_of_pretraining_is_lower_at_the_end(pipeline):
    evals = read_json(pipeline.folder / "pretrain/train_results.json")["evals"]
    assert (evals[0]["step"], evals[-1]["step"]) == (0, 30)
    assert evals[-1]["eval_loss"] < evals[0]["eval_loss"]


@pytest.mark.parametrize("task", ["finetune", "evaluate"])
def test_scores_are_complete_and_agree_with_each_other(pipeline, task):
    scores = read_json(pipeline.folder / task / "eval_results.json")
    (tn, fp), (fn, tp) = scores["confusion_matrix"]
    assert scores["eval_samples"] == tn + fp + fn + tp == 40
    assert scores["eval_accuracy"] == (tn + tp) / 40
    assert scores["eval_f1"] == pytest.approx(2 * tp / (2 * tp + fp + fn))
    assert 0 < scores["eval_loss"] < 5


def test_evaluate_repeats_the_scores_of_finetune(pipeline):
    files = (pipeline.folder / task / "eval_results.json" for task in ("finetune", "evaluate"))
    first, again = map(read_json, files)
    assert pipeline.evaluate.code == 0, pipeline.evaluate.err
    assert json.loads(pipeline.evaluate.out) == again
    for name in ("eval_accuracy", "eval_f1", "eval_loss", "eval_samples", "confusion_matrix"):
        assert first[name] == again[name]


def test_finetune_starts_from_the_pretrained_backbone(pipeline):
    notes = [line for line in pipeline.finetune.err.splitlines() if "model.safetensors" in line]
    assert len(notes) == 1
    new = notes[0].partition("not used")[0]
    assert "classifier" in new
    assert "encoder" not in new


def test_finetune_learns_the_bundled_reviews(tmp_path):
    result = run(*finetuning(SAMPLE, tmp_path, "--size", "tiny", "--max_seq_length", 48, "--layer_decay", 1,
                             "--learning_rate", "2e-3", "--num_train_epochs", 10))
    assert result.code == 0, result.err
    assert read_json(tmp_path / "eval_results.json")["eval_accuracy"] >= 0.65
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = [record["loss"] for record in records if "loss" in record]
    assert losses[-1] < losses[0] - 0.2


def predicting(models, *more, stdin=b""):
    return run("--task", "predict", "--model_name_or_path", models / "tuned", *CHEAP, *more, stdin=stdin)


def test_predict_answers_each_text(models):
    texts = ["배우들 연기가 정말 좋았어요", '따옴표 "와" \\ 역사선', "", "긴 글 " * 100]
    options = [part for text in texts for part in ("--text", text)]
    found = answers(predicting(models, *options))
    assert [answer["text"] for answer in found] == texts


def test_predict_answers_each_line_of_stdin_in_order(models):
    lines = [f"{n}번째 {'긴 ' * (n % 7)}글" for n in range(70)]  # more than two batches
    lines[5] = ""
    by_line = answers(predicting(models, stdin="".join(f"{line}\n" for line in lines).encode()))
    assert [answer["text"] for answer in by_line] == lines
    alone = answers(predicting(models, "--text", lines[69]))[0]
    assert by_line[69]["score"] == pytest.approx(alone["score"], abs=1e-5)


def test_predict_needs_no_line_end_at_the_end(models):
    found = answers(predicting(models, stdin="좋다\n싫다".encode()))
    assert [answer["text"] for answer in found] == ["좋다", "싫다"]


def test_only_line_ends_part_the_lines_of_stdin(models):
    text = "좋다\u2028정말\x0b\x85좋다"
    found = answers(predicting(models, stdin=f"{text}\n싫다\r\n".encode()))
    assert [answer["text"] for answer in found] == [text, "싫다"]


def test_predict_of_nothing_answers_nothing(models):
    assert answers(predicting(models, stdin=b"")) == []


def test_bytes_that_are_not_utf8_on_stdin_do_not_hurt_the_other_lines(models, tmp_path):
    result = start(SCRIPT, "--task", "predict", "--model_name_or_path", models / "tuned", *CHEAP,
                   stdin=b"\xff\xfe bad\n\n" + "좋다\n".encode(), cwd=tmp_path)
    found = answers(result)
    assert [answer["text"] for answer in found[1:]] == ["", "좋다"]
    assert found[0]["text"].endswith(" bad")
    assert not list(tmp_path.iterdir())


def test_finetune_without_a_pretrained_model_says_so(data, tmp_path):
    options = finetuning(data, tmp_path / "out", "--max_steps", 1)
    check_error(start(SCRIPT, *map(str, options), cwd=tmp_path), "runs/pretrain", "--model_name_or_path")
    assert not (tmp_path / "out").exists()


def test_loss_on_held_out_text_does_not_depend_on_the_batch_size(data, tmp_path):
    losses = []
    for size in ("8", "32"):
        assert run(*pretraining(data, tmp_path / size, "--max_steps", 1, "--batch_size", size)).code == 0
        losses.append(read_json(tmp_path / size / "eval_results.json")["eval_loss_at_start"])
    assert losses[0] == losses[1]


def test_first_evaluation_takes_none_of_the_minutes(data, tmp_path, monkeypatch):
    clock, real = itertools.count(0, 20), convbert.runs.keep_score
    waiting = []

    def keep_score(*arguments):  # takes an hour
        waiting.append(3600)
        real(*arguments)

    monkeypatch.setattr(convbert, "time", SimpleNamespace(perf_counter=lambda: next(clock) + sum(waiting)))
    monkeypatch.setattr(convbert.runs, "keep_score", keep_score)
    assert run(*pretraining(data, tmp_path, "--max_minutes", 1)).code == 0
    assert read_json(tmp_path / "train_results.json")["step"] == 3


def test_bundled_sample_stands_in_for_missing_data(tmp_path):
    for name in ("convbert.py", "config.json", "vocab/kowiki.model", "web-crawler/sample/kowiki.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    result = start(tmp_path / "convbert.py", "--task", "pretrain", "--size", "tiny", *CHEAP,
                   "--max_steps", "1", "--max_train_samples", "40", cwd=tmp_path)
    assert result.code == 0, result.err
    assert "bundled sample" in result.err
    assert (tmp_path / "runs/pretrain/model.safetensors").exists()


# ---- the size of the file

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
