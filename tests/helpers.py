"""What several test modules need: small models, the command line, and what its runs leave."""

import contextlib
import io
import itertools
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
import torch

import convbert
from convbert import (
    IGNORE,
    ConvBertConfig,
    ConvBertForMaskedLM,
    ConvBertForSequenceClassification,
    ConvBertModel,
    UserError,
)

ROOT = Path(__file__).resolve().parents[1]
SCRIPT, SAMPLE = ROOT / "convbert.py", ROOT / "web-crawler/sample"


def copy_project(folder):
    """All of the project that its commands need, as a clone would hold it."""
    for pattern in ("*.py", "*.md", "config.json", "tests/**/*.py", "web-crawler/*.py"):
        for path in ROOT.glob(pattern):
            (folder / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder / path.relative_to(ROOT))
    for name in ("vocab", "web-crawler/sample"):
        shutil.copytree(ROOT / name, folder / name)


def read_json(path):
    return json.loads(Path(path).read_text(encoding="utf-8"))


def examples(count):
    """How many inputs hypothesis makes up for a test, from fixed seeds.

    None is too slow: all may be busy.
    """
    from hypothesis import HealthCheck, settings  # missing on some machines with a GPU

    return settings(max_examples=count, deadline=None, derandomize=True, database=None,
                    suppress_health_check=list(HealthCheck))


# ---- Small models

CONV_TYPES = (*convbert.CONVOLUTIONS,)
# those Hugging Face has too:
MODELS = (ConvBertModel, ConvBertForMaskedLM, ConvBertForSequenceClassification)
models = pytest.mark.parametrize("cls", MODELS, ids=lambda cls: cls.__name__)
conv_types = pytest.mark.parametrize("conv_type", CONV_TYPES)
MASK = 4  # the id that stands for [MASK] here


def tiny(**changes):
    values = dict(vocab_size=50, embedding_size=24, hidden_size=24, num_hidden_layers=2,
                  intermediate_size=48, max_position_embeddings=320, generator_ratio=2,
                  hidden_dropout_prob=0, attention_probs_dropout_prob=0)
    return ConvBertConfig(**values | changes)


@torch.no_grad()
def randomise(model):
    """As if trained: kernels are far from flat, and no bias or norm could be left out unseen."""
    for name, p in model.named_parameters():
        if "LayerNorm.weight" in name:
            p.normal_(1, 0.2)
        elif name.endswith("bias"):
            p.normal_(0, 0.2)
        else:  # a grouped weight is [G, in, out], all others are [out, in ...]
            gain = 2 if "conv_kernel" in name else 1
            p.normal_(0, gain * (p.size(1) if "dense" in name else p[0].numel()) ** -0.5)
    return model


def make(cls, **changes):
    return randomise(cls(tiny(**changes))).eval()


def random_ids(*shape, vocab_size=50):
    return torch.randint(5, vocab_size, shape)


def random_labels(ids, share=0.3):
    """[B, T] labels at about that share of the positions; each row has one."""
    labels = torch.where(torch.rand(ids.shape) < share, random_ids(*ids.shape), IGNORE)
    labels[:, 0] = 5
    return labels


def length_mask(lengths, T):
    return (torch.arange(T) < torch.tensor(lengths)[:, None]).long()


def masked_batch(B=3, T=14):
    """Inputs with [MASK] at a third of the positions, and the labels there."""
    original = random_ids(B, T)
    labelled = torch.rand(B, T) < 0.3
    labelled[:, 1] = True
    return torch.where(labelled, MASK, original), torch.where(labelled, original, IGNORE)


def some_inputs():
    return dict(input_ids=random_ids(2, 11), token_type_ids=torch.randint(2, (2, 11)))


def answer(model, **inputs):
    """The hidden state or the logits, of a model from here or from Hugging Face."""
    with torch.no_grad():
        output = model.eval()(**inputs)
    if isinstance(output, torch.Tensor):
        return output
    return output.logits if hasattr(output, "logits") else output.last_hidden_state


def saved(model, folder):
    model.save_pretrained(folder)
    return folder


# ---- What they must do

def same(a, b, tolerance=1e-5):
    torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    grads = {name: p.grad for name, p in model.named_parameters()}
    return {name: torch.tensor(0.0) if grad is None else grad.clone()
            for name, grad in grads.items()}


def same_gradients(ours, theirs):
    assert ours.keys() == theirs.keys()
    scale = max(grad.abs().max() for grad in theirs.values())
    for name, grad in theirs.items():
        off, size = (ours[name] - grad).abs().max(), grad.abs().max()
        # the keys' bias has none but rounding, hence the share of the whole
        assert off <= 1e-4 * (size + 0.01 * scale), f"{name}: {off:.1e} off at {size:.1e}"


def refusal(call, *args, **options):
    """The one line of the UserError that a call must end in."""
    with pytest.raises(UserError) as caught:
        call(*args, **options)
    message = str(caught.value)
    assert message.strip() and "\n" not in message
    return message


# ---- The command line

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
CHEAP = ["--device", "cpu", "--num_threads", "1", "--precision", "fp32", "--max_seq_length", "32"]


def run(*options, stdin=b""):
    """main() in this process: code, out, err.

    Only SystemExit is caught: all else would be a traceback.
    """
    out, err, code = io.StringIO(), io.StringIO(), 0
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:  # one that nobody handles shall not end pytest
        signal.signal(number, signal.default_int_handler)
    with (mock.patch("sys.argv", ["convbert.py", *map(str, options)]),
          mock.patch("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin))),
          contextlib.redirect_stdout(out), contextlib.redirect_stderr(err)):
        try:
            convbert.main()
        except SystemExit as end:
            code = end.code or 0
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    return SimpleNamespace(code=code, out=out.getvalue(), err=err.getvalue())


def run_python(*command, stdin=b"", cwd=None):
    """Python with these arguments, in a process of its own."""
    env = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, *command], input=stdin, cwd=cwd, env=env,
                          capture_output=True, timeout=300)
    out, err = done.stdout.decode(), done.stderr.decode()
    return SimpleNamespace(code=done.returncode, out=out, err=err)


def check_error(result, *names):
    """The last line, it alone, says what is wrong and names it; status 2, and stdout is empty."""
    lines = [line for line in result.err.splitlines() if "error:" in line]
    assert (result.code, len(lines), result.out) == (2, 1, ""), result.err
    assert result.err.splitlines()[-1] == lines[0]
    assert "Traceback" not in result.err
    for name in names:
        assert name in lines[0]


def answers(result):
    """The lines of stdout as JSON objects, after a check of what each holds."""
    assert result.code == 0, result.err
    found = [json.loads(line) for line in result.out.split("\n")[:-1]]
    for answer in found:
        assert set(answer) == {"text", "label", "score"}
        assert answer["label"] in ("negative", "positive")
        assert 0.5 <= answer["score"] <= 1
    return found


def pretraining(data, folder, *more):
    return ["--task", "pretrain", "--size", "tiny", "--corpus", data / "kowiki.txt", *CHEAP,
            "--output_dir", folder, *more]


def finetuning(data, folder, *more):
    return ["--task", "finetune", "--train_file", data / "ratings_train.txt", *CHEAP,
            "--test_file", data / "ratings_test.txt", "--output_dir", folder, *more]


# ---- Small runs, and what they leave

MODEL = dict(vocab_size=8007, embedding_size=8, hidden_size=16, num_hidden_layers=1,
             num_attention_heads=2, intermediate_size=32, head_ratio=2, conv_kernel_size=3,
             num_groups=1, max_position_embeddings=64, type_vocab_size=2, pad_token_id=0,
             generator_ratio=2)


def command(job, data, *more):
    """The options of a small run; of one given twice the last counts."""
    job, _, variant = job.partition(" ")
    options = [*CHEAP, "--batch_size", "4", "--max_eval_samples", "8",
               "--config_name", data / "config.json", "--logging_steps", "1",
               "--eval_steps", "5", "--save_steps", "3", "--max_steps", "12"]
    if job == "finetune":
        options += ["--task", "finetune", "--train_file", data / "ratings_train.txt"]
        options += ["--test_file", data / "ratings_test.txt"]
    else:
        options += ["--task", "pretrain", "--objective", job, "--corpus", data / "kowiki.txt"]
    if variant == "bf16":
        options += ["--precision", "bf16"]
    if variant == "wrap":  # an epoch, of three batches to pretrain, ends in the middle of an update
        options += ["--gradient_accumulation_steps", "2", "--max_train_samples"]
        options += ["70" if job == "finetune" else "13"]
    return tuple(map(str, (*options, *more)))


def train(options, folder):
    """The command line in this process, into that folder: (exit status, stdout, stderr)."""
    result = run(*options, "--output_dir", folder)
    return result.code, result.out, result.err


def finish(options, folder):
    status, _, err = train(options, folder)
    assert status == 0, err
    return err


class Crash(BaseException):
    """An end that nothing in convbert catches."""


def at_call(name, number, action):
    """Patches "function" or "Class.method" of convbert.py: action() comes before that call."""
    owner, _, name = f".{name}".rpartition(".")
    owner = getattr(convbert, owner[1:]) if owner else convbert
    real, calls = getattr(owner, name), itertools.count(1)

    def patched(*args, **kwargs):
        if next(calls) == number:
            action()
        return real(*args, **kwargs)

    return mock.patch.object(owner, name, patched)


AT_UPDATE = "learning_rate"  # what each update begins with a call of


def crash(options, folder, update):
    """Runs into a crash at the beginning of that update, counted from where the run begins."""
    with at_call(AT_UPDATE, update, mock.Mock(side_effect=Crash)), pytest.raises(Crash):
        train(options, folder)


def records(folder):
    path = folder / "metrics.jsonl"
    lines = path.read_text().splitlines(True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def steps(folder):
    return [record["step"] for record in records(folder) if "learning_rate" in record]


def losses(folder):
    """Of training and of evaluations, in their order."""
    return [record.get("loss", record.get("eval_loss")) for record in records(folder)]


def checkpoints(folder):
    return sorted(int(path.name.split("-")[1]) for path in folder.glob("checkpoint-*"))


def results(folder):
    """All that must not depend on interruptions: everything but times."""
    metrics, trained = records(folder), json.loads((folder / "train_results.json").read_text())
    for record in (trained, *metrics):
        record.pop("seconds", None)
        record.pop("tokens_per_second", None)
    names = ("model.safetensors", "config.json", "eval_results.json")
    files = {name: (folder / name).read_bytes() for name in names}
    return files | {"metrics.jsonl": metrics, "train_results.json": trained}


def listing(folder):
    # some versions of filelock empty their file anew when they open it
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


# ---- Files that would do harm

class Harm:
    """An object whose unpickling makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def zipped(harm, path):
    """Writes harm into a file; returns what would do it."""
    torch.save({"harm": harm}, path)
    return lambda: torch.load(path, weights_only=False)


def plain(harm, path):
    path.write_bytes(pickle.dumps({"harm": harm}, protocol=2))
    return lambda: pickle.loads(path.read_bytes())
