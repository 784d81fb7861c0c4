"""Part 9, the run folder: a training that is killed ends, run again, in the same bytes.

Most runs take place in this process.  Those that are to be killed are forked off a server that has
imported all there is to import, which saves the seconds of a start.
"""

import contextlib
import errno
import fcntl
import functools
import itertools
import json
import multiprocessing
import os
import pty
import shutil
import signal
import subprocess
import sys
import termios
import threading
import time
import types
from argparse import Namespace
from multiprocessing import forkserver
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from helpers import (
    AT_UPDATE,
    MODEL,
    SIGNALS,
    Crash,
    Harm,
    at_call,
    checkpoints,
    command,
    crash,
    finish,
    listing,
    losses,
    plain,
    pretraining,
    records,
    results,
    run,
    steps,
    train,
    zipped,
)

import convbert


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The results of a run that nothing interrupts, in a folder of its own; each is run once."""
    known = {}

    def of(options):
        if options not in known:
            known[options] = tmp_path_factory.mktemp("reference")
            finish(options, known[options])
            last = max(steps(known[options]))
            assert steps(known[options]) == list(range(1, last + 1))
        return results(known[options])

    return of


# ---- Processes that are killed

def in_child(options, folder, log, snapshots=None):
    """The command line in a process of its own.

    At every change a copy of the folder goes into snapshots.
    """
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.argv = ["convbert.py", *options, "--output_dir", str(folder)]
    if snapshots:
        take_snapshots(folder, snapshots)
    convbert.main()


def take_snapshots(folder, snapshots):
    """Python tells an audit hook of each change before it is made: that is what a kill leaves."""
    changes = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree")
    last, busy = None, False

    def hook(event, args):
        nonlocal last, busy
        if busy or event not in changes:
            return
        busy = True
        stats = [(str(path), path.stat()) for path in sorted(folder.rglob("*"))]
        now = [(path, stat.st_ino, stat.st_size, stat.st_mtime_ns) for path, stat in stats]
        if now != last:
            last = now
            shutil.copytree(folder, snapshots / f"{len(list(snapshots.iterdir())):03}")
        busy = False

    sys.addaudithook(hook)


@pytest.fixture(scope="module")
def start():
    """start(options, folder, log, ...) -> a running process, which does what in_child does."""
    context = multiprocessing.get_context("forkserver")
    # AdamW needs the last:
    context.set_forkserver_preload(["convbert", "pytest", "torch._dynamo"])
    path = f"{convbert.ROOT}{os.pathsep}{Path(__file__).parent}"
    with mock.patch.dict(os.environ, PYTHONPATH=path):
        forkserver.ensure_running()
    processes = []

    def start(*args, target=in_child):
        processes.append(context.Process(target=target, args=args))
        processes[-1].start()
        return processes[-1]

    yield start
    for process in processes:
        process.kill()


def stamp(path):
    try:
        return path.stat().st_ino, path.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def moment(kind, folder, total, rng):
    """A function that says whether the process now started has come to that point of all steps."""
    metrics, temporary = folder / "metrics.jsonl", folder / "checkpoint.tmp"
    newest = max(checkpoints(folder), default=0)
    old_metrics, old_temporary, step = stamp(metrics), stamp(temporary), newest + rng.integers(1, 4)

    def last():
        known = [] if stamp(metrics) in (None, old_metrics) else records(folder)
        return known[-1] if known else {"step": -1}

    return {
        "start": lambda: True,
        "step": lambda: last()["step"] >= step,
        "evaluation": lambda: last()["step"] == 0 or (
            last()["step"] % 5 == 0 and "learning_rate" in last()),
        "checkpoint": lambda: stamp(temporary) not in (None, old_temporary),
        "rotation": lambda: max(checkpoints(folder), default=0) > newest,
        "finish": lambda: last()["step"] == total,
    }[kind]


def kinds_of_kills(kills, rng):
    """Moments in random order; the last is when the last checkpoint and the results are written."""
    kinds = ["start", "step", "evaluation", "checkpoint", "rotation"]
    rounds = (kinds[i] for _ in range(kills) for i in rng.permutation(len(kinds)))
    return [*itertools.islice(rounds, kills - 1), "finish"]


JOBS = [f"{job}{variant}" for variant in ("", " wrap", " bf16")
        for job in ("mlm", "rtd", "finetune")]
MANY = [pytest.param(job, 17, marks=pytest.mark.slow) for job in JOBS[:3]]


@pytest.mark.parametrize("job, kills", [*((job, 3) for job in JOBS), *MANY])
def test_killed_at_random_and_run_again_gives_the_bytes_of_an_uninterrupted_run(
        job, kills, data, tmp_path, start, reference):
    total = 6 * kills
    options = command(job, data, "--max_steps", total)
    expected = reference(options)
    folder, log = tmp_path / "run", tmp_path / "log"
    rng, killed = np.random.default_rng([kills, JOBS.index(job)]), []
    for kind in kinds_of_kills(kills, rng):
        arrived = moment(kind, folder, total, rng)
        process, deadline = start(options, folder, log), time.monotonic() + 120
        while process.is_alive() and not arrived():
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.002)
        process.join(rng.uniform(0, {"start": 0.15, "finish": 0.06}.get(kind, 0.02)))
        process.kill()
        process.join()
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL, log.read_text()
        killed.append((kind, max(steps(folder), default=0)))
    print(f"{job}: killed at", *killed)
    assert killed
    finish(options, folder)
    assert results(folder) == expected


@pytest.fixture(scope="module", params=["mlm", "rtd", "finetune"])
def killed_everywhere(request, data, tmp_path_factory, start):
    """(options, folders): what a kill leaves, between any two changes of files in a short run."""
    options = command(request.param, data, "--max_steps", 4, "--save_steps", 2, "--eval_steps", 3,
                      "--save_total_limit", 1)
    folder, snapshots = tmp_path_factory.mktemp("run"), tmp_path_factory.mktemp("snapshots")
    process = start(options, folder, snapshots.parent / "log", snapshots)
    process.join(120)
    assert process.exitcode == 0, (snapshots.parent / "log").read_text()
    yield options, sorted(snapshots.iterdir())
    shutil.rmtree(snapshots)


def whole(folder, step):
    return {path.name for path in (folder / f"checkpoint-{step}").glob("*")} == {
        "config.json", "model.safetensors", "spiece.model", "tokenizer.json",
        "tokenizer_config.json", "training_state.pt"}


def has(folder, *names):
    return [(folder / name).exists() for name in names] == [True] * len(names)


POINTS = {
    "before the first log": lambda f: not records(f),
    "before the first checkpoint": lambda f: steps(f) and not checkpoints(f),
    "in the middle of a checkpoint": lambda f: [*f.glob("checkpoint.tmp/model.safetensors.*")],
    "before its state": lambda f: (
        has(f, "checkpoint.tmp/tokenizer_config.json")
        and not has(f, "checkpoint.tmp/training_state.pt")),
    "before it is renamed": lambda f: (
        has(f, "checkpoint.tmp/training_state.pt") and not whole(f, 4)),
    "after it is renamed": lambda f: whole(f, 2) and whole(f, 4),
    "while the old one is removed": lambda f: (
        has(f, "checkpoint-2") and not whole(f, 2) and whole(f, 4)),
    "before the model": lambda f: whole(f, 4) and not has(f, "model.safetensors"),
    "before eval_results.json": lambda f: (
        has(f, "model.safetensors") and not has(f, "eval_results.json")),
    "before train_results.json": lambda f: (
        has(f, "eval_results.json") and not has(f, "train_results.json")),
}


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_killed_between_two_changes_of_files_gives_the_same_bytes(
        every, killed_everywhere, reference, tmp_path):
    """At one moment of each kind, or at every one."""
    options, snapshots = killed_everywhere
    found = {point: [*filter(POINTS[point], snapshots)] for point in POINTS}
    assert [point for point in POINTS if not found[point]] == []
    for snapshot in snapshots if every else sorted({first for first, *_ in found.values()}):
        folder = shutil.copytree(snapshot, tmp_path / snapshot.name)
        finish(options, folder)
        assert results(folder) == reference(options), snapshot


# ---- Signals

def hear_signals():
    """In a child: nohup and shells may have had whoever runs the tests ignore some."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)


@pytest.mark.parametrize("number", [*SIGNALS, signal.SIGKILL])
def test_signal_to_the_real_command_line(number, data, tmp_path, reference):
    options = command("mlm", data, "--max_steps", 80)
    argv = [sys.executable, convbert.__file__, *options, "--output_dir", tmp_path / "run"]
    argv += ["--save_steps", "1000" if number in SIGNALS else "3"]
    process = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, preexec_fn=hear_signals)
    deadline = time.monotonic() + 120
    while process.poll() is None and max(steps(tmp_path / "run"), default=0) < 4:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    if number in SIGNALS:
        assert process.returncode == 128 + number
        assert f"{number.name}: saved at step {checkpoints(tmp_path / 'run')[-1]};" in err
    assert "Traceback" not in err
    assert "going on from" in finish(options, tmp_path / "run")
    assert results(tmp_path / "run") == reference(options)


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("job, name, call, step", [
    ("mlm", AT_UPDATE, 4, 4), ("rtd", AT_UPDATE, 4, 4), ("finetune", AT_UPDATE, 4, 4),
    ("mlm", "run_model", 1, 1),  # the first evaluation
    ("mlm", "RunFolder.keep_scores", 2, 6),  # after an update: at the end of the next
    ("mlm", "RunFolder.save_checkpoint", 2, 7),
])
def test_signal_saves_at_the_end_of_the_step(
        number, job, name, call, step, data, tmp_path, reference):
    options, folder = command(job, data), tmp_path / "run"
    with at_call(name, call, lambda: os.kill(os.getpid(), number)):
        status, _, err = train(options, folder)
    assert status == 128 + number
    assert f"{number.name}: saved at step {step};" in err
    assert checkpoints(folder)[-1] == step
    finish(options, folder)
    assert results(folder) == reference(options)


@pytest.mark.parametrize("number", SIGNALS)
def test_signal_in_the_last_step_lets_the_run_finish(number, data, tmp_path, reference):
    options = command("mlm", data)
    with at_call(AT_UPDATE, 12, lambda: os.kill(os.getpid(), number)):
        finish(options, tmp_path / "run")
    assert results(tmp_path / "run") == reference(options)


def test_sigint_while_the_results_are_written_stops_and_can_be_resumed(data, tmp_path, reference):
    options = command("finetune", data)
    with at_call("finish", 1, lambda: os.kill(os.getpid(), signal.SIGINT)):
        assert train(options, tmp_path / "run")[0] == 130
    assert not (tmp_path / "run/train_results.json").exists()
    finish(options, tmp_path / "run")
    assert results(tmp_path / "run") == reference(options)


def twice(number, pause):
    """Both come in this process, and the first one is said before the second."""
    os.kill(os.getpid(), number)
    assert f"{number.name}: saving after this update; once more ends" in sys.stderr.getvalue()
    time.sleep(pause)
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("name, call", [("run_model", 1), (AT_UPDATE, 8)])  # evaluation, update
def test_the_first_signal_is_said_at_once_and_the_second_ends_at_once(
        number, name, call, data, tmp_path, reference):
    options = command("mlm", data)
    with at_call(name, call, lambda: twice(number, 1.2)):
        assert train(options, tmp_path)[0] == 128 + number
    assert checkpoints(tmp_path) == ([] if name == "run_model" else [3, 6])
    assert len(records(tmp_path)) == (0 if name == "run_model" else 9)  # none is made any more
    finish(options, tmp_path)
    assert results(tmp_path) == reference(options)


@pytest.mark.parametrize("number", SIGNALS)
def test_two_signals_at_the_same_time_count_as_one(number, data, tmp_path):
    """A terminal that closes sends two, and so does `timeout`; none is a user who has waited."""
    with at_call(AT_UPDATE, 4, lambda: twice(number, 0)):
        status, _, err = train(command("mlm", data), tmp_path)
    assert (status, checkpoints(tmp_path)) == (128 + number, [3, 4])
    assert err.count("saving after this update") == 1


def test_an_ignored_sighup_stays_ignored(data, tmp_path, reference):
    """So it is under nohup."""
    options, before = command("mlm", data), signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with at_call(AT_UPDATE, 4, lambda: os.kill(os.getpid(), signal.SIGHUP)):
            convbert.main([*options, "--output_dir", str(tmp_path)])
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert results(tmp_path) == reference(options)


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
@pytest.mark.parametrize("shell", [("-c",), ("--norc", "-i")], ids=["alone", "from a shell"])
def test_a_terminal_that_closes_saves(shell, data, tmp_path):
    """Nothing can be printed any more, and an interactive shell passes its own SIGHUP on."""
    options = command("mlm", data, "--max_steps", 2000, "--save_steps", 1000)
    line = " ".join([sys.executable, convbert.__file__, *options, "--output_dir", str(tmp_path)])
    master, slave = pty.openpty()
    process = subprocess.Popen(
        ["bash", *shell, *([line] if shell == ("-c",) else [])], stdin=slave, stdout=slave,
        stderr=slave, start_new_session=True,
        preexec_fn=lambda: (hear_signals(), fcntl.ioctl(0, termios.TIOCSCTTY, 0)))
    os.close(slave)
    os.set_blocking(master, False)
    if "-i" in shell:
        os.write(master, f"{line}\n".encode())
    deadline = time.monotonic() + 120
    while max(steps(tmp_path), default=0) < 4:
        assert time.monotonic() < deadline
        with contextlib.suppress(BlockingIOError):
            os.read(master, 1 << 16)
        time.sleep(0.02)
    os.close(master)
    process.wait(60)
    deadline = time.monotonic() + 30
    while not checkpoints(tmp_path) and time.monotonic() < deadline:  # it outlives the shell
        time.sleep(0.1)
    assert checkpoints(tmp_path) == [max(steps(tmp_path))]


@pytest.mark.parametrize("failure", [Crash, RuntimeError, convbert.UserError, None])
def test_handlers_are_those_from_before_after_a_training(failure, data, tmp_path):
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    action = mock.Mock(side_effect=failure and failure("it fails"))
    expected = {None: contextlib.nullcontext(), convbert.UserError: pytest.raises(SystemExit)}
    with at_call(AT_UPDATE, 3, action), expected.get(failure) or pytest.raises(failure):
        convbert.main([*command("mlm", data), "--output_dir", str(tmp_path)])
    assert {number: signal.getsignal(number) for number in SIGNALS} == handlers


def test_a_handler_that_is_not_pythons_becomes_the_systems():
    """signal.getsignal gives None for one, which signal.signal does not take."""
    found = mock.Mock(return_value=None)
    with mock.patch.object(convbert.signal, "signal", found), convbert.heard_signals():
        pass
    restored = found.call_args_list[len(found.call_args_list) // 2 :]
    assert {call.args[1] for call in restored} == {signal.SIG_DFL}


def test_a_training_in_a_thread_has_no_handlers(data, tmp_path, reference):
    options, seen = command("mlm", data), []
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    note = lambda: seen.append({n: signal.getsignal(n) for n in SIGNALS})  # noqa: E731
    thread = threading.Thread(
        target=convbert.main, args=([*options, "--output_dir", str(tmp_path)],))
    with at_call(AT_UPDATE, 4, note):
        thread.start()
        thread.join()
    assert seen == [handlers]
    assert results(tmp_path) == reference(options)


# ---- What --resume takes for the same run

@pytest.fixture(scope="module", params=["mlm", "finetune"])
def finished(request, data, tmp_path_factory):
    options, folder = command(request.param, data), tmp_path_factory.mktemp("finished")
    finish(options, folder)
    return options, folder


@pytest.fixture(scope="module")
def unfinished(data, tmp_path_factory):
    options, folder = command("mlm", data), tmp_path_factory.mktemp("unfinished")
    crash(options, folder, 8)
    assert checkpoints(folder) == [3, 6]
    return options, folder


def refused(options, folder, *words):
    """The last line says why, with these words, and no file has changed."""
    before = listing(folder)
    status, out, err = train(options, folder)
    errors = [line for line in err.splitlines() if "error:" in line]
    assert status == 2 and out == "" and err.splitlines()[-1:] == errors, err
    assert errors[0].startswith("convbert.py: error: "), err
    assert all(word in errors[0] for word in words), err
    assert listing(folder) == before


def test_a_finished_run_says_so_and_touches_nothing(finished):
    options, folder = finished
    before = listing(folder)
    for more in ((), ("--logging_steps", "7"), ("--resume",)):
        status, out, err = train((*options, *more), folder)
        assert status == 0 and out == "" and "finished" in err
        assert listing(folder) == before


def test_a_finished_run_is_not_taken_for_one_with_other_options(finished):
    options, folder = finished
    other = (*options, "--learning_rate", "1e-3")
    refused(other, folder, "learning_rate", "--overwrite_output_dir")
    refused((*options, "--max_steps", "20"), folder, "max_steps")


OTHER = dict(learning_rate="1e-3", seed="7", max_steps="20", batch_size="5", objective="rtd",
             weight_decay="0.5", warmup_ratio="0.5", mlm_probability="0.2",
             gradient_accumulation_steps="2", max_seq_length="24", eval_steps="4",
             max_eval_samples="6", max_train_samples="20", layer_decay="0.9", max_minutes="1")


@pytest.mark.parametrize("name", OTHER)
def test_another_option_is_refused(name, unfinished):
    options, folder = unfinished
    refused((*options, f"--{name}", OTHER[name]), folder, name)


def test_another_corpus_is_refused(unfinished, data):
    options, folder = unfinished
    other, text = data / "other.txt", (data / "kowiki.txt").read_text(encoding="utf-8")
    other.write_text(text.replace("다", "나", 1), encoding="utf-8")
    refused((*options, "--corpus", str(other)), folder, "corpus")  # one more
    refused([option.replace("kowiki.txt", "other.txt") for option in options], folder, "corpus")
    refused((*options, "--valid_file", str(other)), folder, "validation_file")


def test_another_model_to_start_from_is_refused(data, tmp_path):
    options = list(command("mlm", data))
    at = options.index("--config_name")
    finish(command("mlm", data, "--max_steps", "1"), tmp_path / "one")
    finish(command("mlm", data, "--max_steps", "2"), tmp_path / "two")
    for name in ("one", "two"):
        options[at : at + 2] = ["--model_name_or_path", str(tmp_path / name)]
        if name == "one":
            crash(options, tmp_path / "run", 8)
    refused(options, tmp_path / "run", "model_name_or_path")


def test_a_checkpoint_of_before_that_began_with_random_weights_is_no_other_run(data, tmp_path):
    """Its options have no model_name_or_path."""
    options, folder = command("mlm", data), tmp_path / "run"
    crash(options, folder, 8)
    finish(command("mlm", data, "--max_steps", "1"), tmp_path / "one")
    for path in folder.glob("checkpoint-*/training_state.pt"):
        state = torch.load(path, weights_only=True)
        del state["progress"]["options"]["model_name_or_path"]
        torch.save(state, path)
    at = options.index("--config_name")
    other = [*options[:at], "--model_name_or_path", str(tmp_path / "one"), *options[at + 2 :]]
    refused(other, folder, "model_name_or_path")
    assert "going on from" in finish(options, folder)


def test_another_config_is_refused(unfinished, data):
    options, folder = unfinished
    path = data / "config.json"
    try:
        path.write_text(json.dumps(MODEL | {"conv_kernel_size": 5}))
        refused(options, folder, "config")
        path.write_text(json.dumps(MODEL | {"layer_norm_eps": 1e-6}))  # which changes no shape
        refused(options, folder, "config")
    finally:
        path.write_text(json.dumps(MODEL))
    at = options.index("--config_name")
    refused((*options[:at], "--size", "tiny", *options[at + 2 :]), folder, "config")


def test_another_optimizer_is_refused(unfinished, monkeypatch):
    def sgd(model, args):
        optimizer = torch.optim.SGD(model.parameters(), momentum=0.9)
        for group in optimizer.param_groups:
            group["scale"] = 1.0
        return optimizer

    monkeypatch.setattr(convbert, "make_optimizer", sgd)
    refused(*unfinished, "optimizer")


def test_the_same_optimizer_with_other_settings_is_refused(unfinished, monkeypatch):
    """It would be given those of the checkpoint back, without a word."""
    monkeypatch.setattr(convbert, "AdamW", functools.partial(convbert.AdamW, betas=(0.5, 0.6)))
    refused(*unfinished, "optimizer")


def test_a_run_of_other_code_goes_on_with_a_line(unfinished, tmp_path, monkeypatch, reference):
    options, folder = unfinished
    folder = shutil.copytree(folder, tmp_path / "run")
    (tmp_path / "other.py").write_text(Path(convbert.__file__).read_text("utf-8") + "\n", "utf-8")
    monkeypatch.setattr(convbert, "__file__", str(tmp_path / "other.py"))
    told = [line for line in finish(options, folder).splitlines() if "has changed" in line]
    assert len(told) == 1 and "begin in another --output_dir" in told[0]
    assert results(folder) == reference(options)


def test_code_with_a_layer_of_other_weights_is_refused(unfinished, monkeypatch):
    monkeypatch.setitem(convbert.CONVOLUTIONS, "sdconv", convbert.LightConvolution)
    refused(*unfinished, "of another model or optimizer", "--overwrite_output_dir")


def test_an_option_that_is_new_since_the_checkpoint_is_no_other_run(unfinished, tmp_path,
                                                                    reference):
    options, folder = unfinished
    folder = shutil.copytree(folder, tmp_path / "run")
    for path in folder.glob("checkpoint-*/training_state.pt"):
        state = torch.load(path, weights_only=True)
        del state["progress"]["options"]["hard_label_share"]
        torch.save(state, path)
    assert "going on from" in finish(options, folder)
    assert results(folder) == reference(options)


def test_another_pytorch_model_bin_to_start_from_is_refused(data, tmp_path):
    options, folder = list(command("mlm", data)), tmp_path / "start"
    finish(command("mlm", data, "--max_steps", "1"), folder)
    weights = convbert.load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    at = options.index("--config_name")
    options[at : at + 2] = ["--model_name_or_path", str(folder)]
    torch.save(weights, folder / "pytorch_model.bin")
    crash(options, tmp_path / "run", 8)
    torch.save({name: 2 * weight for name, weight in weights.items()}, folder / "pytorch_model.bin")
    refused(options, tmp_path / "run", "model_name_or_path")


def test_no_resume_is_refused_where_there_are_checkpoints(unfinished, finished):
    for options, folder in (unfinished, finished):
        refused((*options, "--no-resume"), folder, "--overwrite_output_dir")


def test_no_resume_runs_in_an_empty_folder(data, tmp_path, reference):
    options = command("mlm", data)
    finish((*options, "--no-resume"), tmp_path)
    assert results(tmp_path) == reference(options)


STRANGERS = (".DS_Store", "train.log", "notes.tmp", "data.v2.2024.tmp", "thesis.tex",
             "checkpoint-149 2/config.json", "checkpoint-best1/model.safetensors", "checkpoint-/a",
             "checkpoint-best/a", "checkpoint-1e3", "checkpoint-5.damaged/training_state.pt")


def test_files_of_others_are_left_alone(data, tmp_path, reference):
    """Those of file managers, a log that the shell redirects here, or anything else."""
    options = command("mlm", data)
    for name in STRANGERS:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("years of work")
    crash(options, tmp_path, 8)
    found = [path.name for path in convbert.checkpoints(tmp_path)]
    assert found == ["checkpoint-3", "checkpoint-6"]
    finish(options, tmp_path)
    assert results(tmp_path) == reference(options)
    finish((*options, "--overwrite_output_dir"), tmp_path)
    assert results(tmp_path) == reference(options)
    assert {(tmp_path / name).read_text() for name in STRANGERS} == {"years of work"}


def test_refused_commands_have_not_hurt_the_run(unfinished, tmp_path, reference):
    options, folder = unfinished
    folder = shutil.copytree(folder, tmp_path / "run")
    assert "going on from" in finish(options, folder)
    assert results(folder) == reference(options)


@pytest.mark.parametrize("more", [
    ("--save_steps", "2"), ("--save_steps", "1000"),
    ("--save_total_limit", "1"), ("--save_total_limit", "9"),
])
def test_options_of_saving_may_change(more, unfinished, tmp_path, reference):
    options, folder = unfinished
    folder = shutil.copytree(folder, tmp_path / "run")
    assert "going on from" in finish((*options, *more), folder)
    assert results(folder) == reference(options)


def test_logging_steps_may_change(unfinished, tmp_path, reference):
    options, folder = unfinished
    folder = shutil.copytree(folder, tmp_path / "run")
    finish((*options, "--logging_steps", "4"), folder)
    assert steps(folder) == [1, 2, 3, 4, 5, 6, 8, 12]
    assert results(folder) | {"metrics.jsonl": 0} == reference(options) | {"metrics.jsonl": 0}


def test_num_threads_may_change(data, tmp_path):
    options, threads = command("mlm", data, "--save_steps", "11"), torch.get_num_threads()
    crash(options, tmp_path, 12)
    try:
        err = finish((*options, "--num_threads", "2"), tmp_path)
    finally:
        torch.set_num_threads(threads)
    assert "going on from" in err and "2 threads: the run goes on" in err and INEXACT in err
    assert steps(tmp_path) == list(range(1, 13))


INEXACT = "no longer exact to the byte"
TOKENIZER = ("tokenizer.json", "tokenizer_config.json")


def without(options, name):
    at = options.index(name)
    return (*options[:at], *options[at + 2 :])


def test_a_run_may_be_moved_to_another_folder(unfinished, tmp_path, reference):
    options, folder = unfinished
    shutil.copytree(folder, tmp_path / "elsewhere/run")
    assert INEXACT not in finish(options, tmp_path / "elsewhere/run")
    assert results(tmp_path / "elsewhere/run") == reference(options)


def test_files_may_have_moved(unfinished, data, tmp_path, reference):
    options, folder = unfinished
    folder = shutil.copytree(folder, tmp_path / "run")
    for name in ("kowiki.txt", "config.json"):
        shutil.copy(data / name, tmp_path / f"other-{name}")
    moved = [option.replace(f"{data}/", f"{tmp_path}/other-") for option in options]
    moved += ["--vocab_file", shutil.copy(convbert.ROOT / "vocab/kowiki.model", tmp_path / "v")]
    err = finish(moved, folder)
    assert "going on from" in err and INEXACT not in err
    assert results(folder) == reference(options)


@pytest.mark.parametrize("given", [(), ("--precision", "auto")])
def test_auto_precision_is_that_of_the_checkpoint(given, unfinished, tmp_path, reference):
    options, folder = unfinished
    folder = shutil.copytree(folder, tmp_path / "run")
    with mock.patch.object(convbert, "choose_precision", return_value="bf16"):
        err = finish((*without(options, "--precision"), *given), folder)
    assert "going on from" in err and INEXACT not in err
    assert results(folder) == reference(options)


def test_settled_rate_and_evaluations_are_those_of_the_checkpoint(unfinished, tmp_path, reference):
    """They come from the data and the model where they are not given."""
    options, folder = unfinished
    folder = shutil.copytree(folder, tmp_path / "run")
    for name in ("--max_steps", "--eval_steps"):
        options = without(options, name)
    assert INEXACT not in finish(options, folder)
    assert results(folder) == reference(unfinished[0])


@pytest.mark.parametrize("more, names", [
    (("--precision", "bf16"), ["precision was fp32 and is bf16"]),
    (("--batch_size", "2", "--gradient_accumulation_steps", "2"),
     ["batch_size was 4 and is 2", "gradient_accumulation_steps was 1 and is 2"]),
    (("--batch_size", "1", "--gradient_accumulation_steps", "4"),
     ["batch_size was 4 and is 1", "gradient_accumulation_steps was 1 and is 4"]),
    ((), ["machine was"]),
])
def test_what_changes_the_rounding_alone_goes_on_with_a_line(more, names, unfinished, tmp_path):
    options, folder = unfinished
    folder = shutil.copytree(folder, tmp_path / "run")
    capability = "AVX3" if not more else torch.backends.cpu.get_cpu_capability()
    with mock.patch("torch.backends.cpu.get_cpu_capability", return_value=capability):
        err = finish((*without(options, "--max_steps"), *more), folder)
    said = [line for line in err.splitlines() if INEXACT in line]
    assert len(said) == len(names) and all(name in err for name in names), err
    assert steps(folder) == list(range(1, 13))  # as many updates as the run began with


@pytest.mark.parametrize("updates", [0, 5])
def test_overwrite_starts_anew(updates, data, tmp_path, reference):
    options, other = command("mlm", data), command("mlm", data, "--seed", "7", "--save_steps", "1")
    crash(other, tmp_path, updates) if updates else finish(other, tmp_path)
    assert "going on" not in finish((*options, "--overwrite_output_dir"), tmp_path)
    assert results(tmp_path) == reference(options)
    assert checkpoints(tmp_path) == [9, 12]


def test_after_an_overwrite_the_old_run_never_comes_back(data, tmp_path, reference):
    """Killed before its first checkpoint, the new run does not go on from the old one."""
    options = command("mlm", data)
    finish(command("mlm", data, "--seed", "7"), tmp_path)
    crash((*options, "--overwrite_output_dir"), tmp_path, 2)
    assert {path.name for path in tmp_path.iterdir()} <= {".lock", "metrics.jsonl", "curves.png",
                                                          "spiece.model", *TOKENIZER}
    crash((*options, "--overwrite_output_dir"), tmp_path, 8)
    finish(options, tmp_path)
    assert results(tmp_path) == reference(options)


def test_a_run_that_would_delete_its_own_beginning_is_refused(data, tmp_path):
    finish(command("mlm", data), tmp_path)
    before = listing(tmp_path)
    options = [*without(command("mlm", data), "--config_name"), "--overwrite_output_dir"]
    for start in (tmp_path, tmp_path / "checkpoint-12"):
        code, _, err = train((*options, "--model_name_or_path", start), tmp_path)
        assert code == 2 and "would delete or replace" in err
    assert listing(tmp_path) == before


def test_a_new_run_leaves_its_own_config_and_the_folder_of_another(data, tmp_path):
    """The model to start from may lie in a folder below."""
    options = command("mlm", data)
    shutil.copy(data / "config.json", tmp_path)
    own = (*without(options, "--config_name"), "--config_name", str(tmp_path / "config.json"))
    refused((*own, "--overwrite_output_dir"), tmp_path, "would delete or replace", "config.json")
    finish(options, tmp_path / "below")
    more = ("--model_name_or_path", str(tmp_path / "below"), "--overwrite_output_dir")
    finish((*without(options, "--config_name"), *more), tmp_path)
    assert (tmp_path / "below/model.safetensors").exists()


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_config_that_may_not_be_written_can_be_replaced(data, tmp_path):
    finish(command("mlm", data), tmp_path)
    (tmp_path / "config.json").chmod(0o444)
    finish(command("mlm", data, "--seed", "7", "--overwrite_output_dir"), tmp_path)


# ---- Checkpoints

@pytest.mark.parametrize("limit, kept", [
    (1, [12]), (2, [9, 12]), (3, [6, 9, 12]), (9, [3, 6, 9, 12])])
def test_save_total_limit_keeps_the_newest(limit, kept, data, tmp_path):
    finish(command("mlm", data, "--save_total_limit", limit), tmp_path)
    assert checkpoints(tmp_path) == kept


def test_checkpoints_are_ordered_by_number(data, tmp_path, reference):
    options = command("mlm", data, "--save_steps", "1")
    crash(options, tmp_path, 12)
    assert checkpoints(tmp_path) == [10, 11]  # where 9 would come last by the alphabet
    assert "checkpoint-11" in finish(options, tmp_path)
    assert results(tmp_path) == reference(options)


@pytest.mark.parametrize("job, cls", [
    ("mlm", convbert.ConvBertForMaskedLM), ("mlm", convbert.ConvBertModel),
    ("rtd", convbert.ConvBertForPreTraining), ("rtd", convbert.ConvBertModel),
    ("finetune", convbert.ConvBertForSequenceClassification), ("finetune", convbert.ConvBertModel),
])
def test_a_checkpoint_is_a_model_folder(job, cls, data, tmp_path):
    crash(command(job, data), tmp_path, 8)
    for step in (3, 6):
        folder = tmp_path / f"checkpoint-{step}"
        model = cls.from_pretrained(folder, new_head=False)
        saved = torch.load(folder / "training_state.pt")
        assert saved["progress"]["step"] == step
        for name, tensor in model.state_dict().items():
            name = name if name in saved["model"] else f"convbert.{name}"
            assert torch.equal(tensor, saved["model"][name])
        assert convbert.Tokenizer(folder / "spiece.model").size == model.config.vocab_size


def half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("cut", ["config.json", "model.safetensors", "training_state.pt"])
def test_a_checkpoint_that_was_being_written_is_passed_over(cut, unfinished, tmp_path, reference):
    options, folder = unfinished
    folder = shutil.copytree(folder, tmp_path / "run")
    stale = shutil.copytree(folder / "checkpoint-6", folder / "checkpoint.tmp")
    (stale / "left over.tmp").write_text("")
    half(stale / cut)
    assert "checkpoint-6" in finish(options, folder)
    assert results(folder) == reference(options)
    assert not (folder / "checkpoint.tmp").exists()
    assert not list(folder.glob("checkpoint-*/left over.tmp"))


def test_a_damaged_checkpoint_is_set_aside_for_the_one_before(unfinished, tmp_path, reference):
    options, folder = unfinished
    folder = shutil.copytree(folder, tmp_path / "run")
    half(folder / "checkpoint-6/training_state.pt")
    errors = finish(options, folder)
    assert "checkpoint-6: damaged" in errors
    assert "going on from" in errors and "checkpoint-3" in errors
    assert results(folder) == reference(options)
    assert (folder / "checkpoint-6.damaged").is_dir()


def test_a_checkpoint_of_changed_bytes_is_set_aside(unfinished, tmp_path, reference):
    """As after a bad disk: the file has its length, and PyTorch would open it."""
    options, folder = unfinished
    folder = shutil.copytree(folder, tmp_path / "run")
    path = folder / "checkpoint-6/training_state.pt"
    contents = bytearray(path.read_bytes())
    middle = len(contents) // 2
    contents[middle : middle + 40] = bytes(255 - byte for byte in contents[middle : middle + 40])
    path.write_bytes(contents)
    errors = finish(options, folder)
    assert "checkpoint-6: damaged" in errors and "checkpoint-3" in errors
    assert results(folder) == reference(options)


def test_a_checkpoint_may_be_damaged_twice(unfinished, tmp_path, reference):
    options, folder = unfinished
    folder = shutil.copytree(folder, tmp_path / "run")
    shutil.copytree(folder / "checkpoint-6", folder / "checkpoint-6.damaged")
    half(folder / "checkpoint-6/training_state.pt")
    assert "checkpoint-3" in finish(options, folder)
    assert results(folder) == reference(options)


@pytest.mark.parametrize("lost", [True, False])
def test_a_log_that_lost_lines_gets_no_zeros(lost, unfinished, tmp_path):
    """As after a power cut, or where only the checkpoints were copied."""
    options, folder = unfinished
    folder = shutil.copytree(folder, tmp_path / "run")
    log = folder / "metrics.jsonl"
    log.unlink() if lost else half(log)
    finish(options, folder)
    assert b"\0" not in log.read_bytes()
    assert steps(folder)[-6:] == list(range(7, 13))


def test_a_checkpoint_that_another_process_has_set_aside_is_passed_over(unfinished, tmp_path):
    """All processes of a run read the folder at the same time."""
    folder = shutil.copytree(unfinished[1], tmp_path / "run")
    found = convbert.checkpoints(folder)
    (folder / "checkpoint-6").rename(folder / "checkpoint-6.damaged")
    assert convbert.last_state(found)[0].step == 3
    assert (folder / "checkpoint-6.damaged").is_dir()


def test_run_without_a_readable_checkpoint_is_told(unfinished, tmp_path):
    options, folder = unfinished
    folder = shutil.copytree(folder, tmp_path / "run")
    for number in (3, 6):
        (folder / f"checkpoint-{number}/training_state.pt").write_bytes(b"")
    for _ in range(2):  # the second time, too: it must not begin anew
        refused(options, folder, "checkpoint-6: damaged (", "no other checkpoint can be read")


def test_a_lack_of_memory_is_no_damage(unfinished, monkeypatch):
    options, folder = unfinished
    for error in (MemoryError("none left"), RuntimeError("DefaultCPUAllocator: not enough memory")):
        monkeypatch.setattr(torch, "load", mock.Mock(side_effect=error))
        refused(options, folder, "try a smaller --batch_size")


def test_a_refused_or_finished_command_sets_nothing_aside(finished, tmp_path):
    options, folder = finished
    folder = shutil.copytree(folder, tmp_path / "run")
    half(folder / "checkpoint-12/training_state.pt")
    before = listing(folder)
    assert train((*options, "--seed", "7"), folder)[0] == 2
    assert "finished" in train(options, folder)[2]
    assert listing(folder) == before


def test_a_finished_run_whose_model_is_gone_makes_it_again(finished, tmp_path):
    options, folder = finished
    folder = shutil.copytree(folder, tmp_path / "run")
    before = results(folder)
    (folder / "model.safetensors").unlink()
    assert "checkpoint-12" in finish(options, folder)
    assert (folder / "model.safetensors").read_bytes() == before["model.safetensors"]


def test_a_corpus_that_changes_while_it_is_read_is_another_one(data, tmp_path, monkeypatch):
    """As one that a crawler is still writing: what was read is neither the old nor the new one."""
    corpus = shutil.copy(data / "kowiki.txt", tmp_path / "corpus.txt")
    options = command("mlm", data, "--corpus", corpus)
    options = [*options[: options.index("--corpus")], *options[options.index("--corpus") + 2 :]]
    original = convbert.corpus_rows

    def grows(*arguments):
        rows = original(*arguments)
        with open(corpus, "a", encoding="utf-8") as file:
            print("새 글이다.", file=file)
        return rows

    with monkeypatch.context() as patch:
        patch.setattr(convbert, "corpus_rows", grows)
        crash(options, tmp_path / "run", 8)
    refused(options, tmp_path / "run", "run of other corpus")


@pytest.mark.parametrize("link", [False, True])
@pytest.mark.parametrize("inside", ["checkpoint-3/corpus.txt", "checkpoint-6/config.json"])
def test_what_a_run_reads_is_not_deleted_with_it(inside, link, unfinished, data, tmp_path):
    options, folder = unfinished
    folder = shutil.copytree(folder, tmp_path / "run")
    name = "--corpus" if "corpus" in inside else "--config_name"
    if name == "--corpus":
        shutil.copy(data / "kowiki.txt", folder / inside)
    options = [*options]
    path = folder / inside
    if link:
        path = tmp_path / path.name
        path.symlink_to(folder / inside)
    options[options.index(name) + 1] = path
    refused((*options, "--overwrite_output_dir"), folder, "would delete", str(path))


def test_a_log_of_another_program_is_kept(data, tmp_path):
    log = tmp_path / "metrics.jsonl"
    log.write_text("years of work\n")
    refused(command("mlm", data), tmp_path, "metrics.jsonl")
    log.write_text('{"step": 1, "loss": 9.0}\n')  # of a run that ended before its first checkpoint
    finish(command("mlm", data), tmp_path)
    assert steps(tmp_path) == list(range(1, 13))


def test_settings_of_the_checkpoint_are_told(data, tmp_path):
    options = [*command("finetune", data)]
    more = ("--learning_rate", "0.01", "--eval_steps", "4")
    crash((*options, *more), tmp_path, 8)
    del options[options.index("--eval_steps") : options.index("--eval_steps") + 2]
    errors = finish(options, tmp_path)
    assert "going on from" in errors and "max_steps" not in errors
    assert "; eval_steps 4 as before; learning_rate 0.01 as before" in errors


def test_a_test_file_that_is_not_used_makes_no_other_run(data, tmp_path):
    options = command("finetune", data, "--no-test")
    crash(options, tmp_path, 8)
    at = options.index("--test_file")
    assert "going on from" in finish([*options[:at], *options[at + 2 :]], tmp_path)


def test_the_file_of_a_running_prediction_is_left_alone(data, tmp_path):
    (tmp_path / "answers.jsonl.convbert-1.tmp").write_text("half of the answers")
    (tmp_path / "config.json.convbert-1.tmp").write_text("of a killed run")
    finish(command("mlm", data), tmp_path)
    assert [path.name for path in tmp_path.glob("*.tmp")] == ["answers.jsonl.convbert-1.tmp"]


@pytest.mark.parametrize("change", [
    lambda state: state["progress"].update(unheard_of=1), lambda state: state.update(progress=5),
    lambda state: state.pop("optimizer"), lambda state: state.clear(),
])
def test_a_checkpoint_of_another_program_is_passed_over(change, unfinished, tmp_path, reference):
    options, folder = unfinished
    folder = shutil.copytree(folder, tmp_path / "run")
    path = folder / "checkpoint-6/training_state.pt"
    state = torch.load(path, weights_only=True)
    change(state)
    torch.save(state, path)
    errors = finish(options, folder)
    assert "checkpoint-6: damaged" in errors and "going on from" in errors
    assert results(folder) == reference(options)


def test_processes_that_see_different_folders_are_refused(unfinished, tmp_path, monkeypatch):
    """As on two machines that share no disk: one goes on, the other would begin anew."""
    options, folder = unfinished
    monkeypatch.setattr(convbert, "mean_over_processes",
                        lambda *numbers, device: [number / 2 for number in numbers])
    refused(options, folder, "must be one folder for all processes")


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "curves.png",
                                  "confusion_matrix.png"])
def test_a_file_of_another_program_is_not_replaced(name, data, tmp_path):
    (tmp_path / name).write_text("years of work")
    refused(command("mlm", data), tmp_path, name)


def test_an_option_that_is_not_used_makes_no_other_run(data, tmp_path, reference):
    options = command("mlm", data)
    crash((*options, "--hard_label_share", "0.5"), tmp_path, 8)
    assert "going on from" in finish(options, tmp_path)
    assert results(tmp_path) == reference(options)


def test_losses_logged_are_those_of_an_uninterrupted_run(unfinished, data, tmp_path, reference):
    """The means span the interruption: steps 5 and 6 are in the checkpoint, 7 and 8 come later."""
    options = (*unfinished[0], "--logging_steps", "4")
    for folder in (tmp_path / "whole", tmp_path / "run"):
        if folder.name == "run":
            crash(options, folder, 8)
        finish(options, folder)
    assert results(tmp_path / "run") == results(tmp_path / "whole")


def test_a_checkpoint_that_was_being_removed_is_passed_over(unfinished, tmp_path, reference):
    options, folder = unfinished
    folder = shutil.copytree(folder, tmp_path / "run")
    (folder / "checkpoint-3/training_state.pt").unlink()
    assert "checkpoint-6" in finish(options, folder)
    assert results(folder) == reference(options)
    assert checkpoints(folder) == [9, 12]


COMPILER = shutil.which("g++") or shutil.which("clang++")


@pytest.mark.skipif(not COMPILER, reason="needs a C++ compiler")
@pytest.mark.parametrize("job", ["mlm", "rtd"])
def test_compiled_run_killed_and_run_again_has_the_losses_of_a_plain_one(job, data, tmp_path):
    """Not its bytes: what is compiled depends on the shapes that came first, and so rounds."""
    from torch._inductor import config
    options = command(job, data)
    finish(options, tmp_path / "plain")
    with config.patch(fallback_random=True):  # or its draws are others
        crash((*options, "--compile"), tmp_path / "compiled", 9)
        assert "going on from" in finish((*options, "--compile"), tmp_path / "compiled")
    assert losses(tmp_path / "compiled") == pytest.approx(losses(tmp_path / "plain"), abs=1e-4)


# ---- Checkpoints of others, and no room for one's own

@pytest.mark.parametrize("write", [zipped, plain])
def test_code_in_a_checkpoint_is_never_run(write, data, tmp_path):
    options, made = command("mlm", data), tmp_path / "made"
    crash(options, tmp_path / "run", 8)
    for step in (3, 6):
        write(Harm(made), tmp_path / f"run/checkpoint-{step}/training_state.pt")
    status, _, err = train(options, tmp_path / "run")
    assert status == 2 and "no other checkpoint can be read" in err.splitlines()[-1]
    assert not made.exists()
    write(Harm(made), tmp_path / "known")()["harm"].close()
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
def test_no_room_for_a_checkpoint_is_told_and_the_one_before_stays(file, data, tmp_path, reference):
    options = command("mlm", data)
    crash(options, tmp_path, 8)
    assert checkpoints(tmp_path) == [3, 6]
    before = {path: known for path, known in listing(tmp_path).items()
              if "checkpoint-" in str(path)}
    most = (tmp_path / "checkpoint-6" / file).stat().st_size - 1000
    status, err = run_with_little_room(most, options, tmp_path)
    errors = [line for line in err.splitlines() if "rror" in line]
    assert status == 2 and len(errors) == 1 and errors[0].startswith("convbert.py: error: "), err
    assert "Traceback" not in err and file in errors[0]
    assert before.items() <= listing(tmp_path).items() and checkpoints(tmp_path) == [3, 6]
    assert "checkpoint-6" in finish(options, tmp_path)
    assert results(tmp_path) == reference(options)


# ---- The disk

def test_all_is_on_the_disk_before_it_gets_its_name(data, tmp_path, monkeypatch):
    """What os.fsync has not had may be lost with the power, whatever it is called by then."""
    events, fsync = [], os.fsync
    log = tmp_path / "metrics.jsonl"

    def flushed(file):
        number = file if isinstance(file, int) else file.fileno()
        fsync(number)
        path = Path(os.readlink(f"/proc/self/fd/{number}"))
        events.append(("flush", path, path.stat().st_size))

    def noted(call):
        def renamed(old, new):
            files = {path: path.stat().st_size for path in (Path(old), *Path(old).rglob("*"))}
            if Path(old).is_dir():  # a checkpoint, whose log_size counts on that many bytes
                files[log] = log.stat().st_size
            if Path(new).suffix != ".png":  # curves can be drawn again
                events.append(("rename", Path(new), files))
            return call(old, new)

        return renamed

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "replace", noted(os.replace))
    rename = noted(os.rename)  # in Python 3.10 a Path keeps the os.rename of its import
    monkeypatch.setattr(Path, "rename", lambda path, new: rename(path, new))
    finish(command("finetune", data), tmp_path)
    names = {path.name for kind, path, _ in events if kind == "rename"}
    assert names >= {"checkpoint-3", "checkpoint-12", "training_state.pt", "model.safetensors",
                     "spiece.model", "tokenizer.json", "config.json", "eval_results.json",
                     "train_results.json"}
    safe, open_names = {}, []  # {path: its bytes that are on the disk}; folders of new names
    for kind, path, what in events:
        if kind == "flush":
            safe[path] = what
            open_names = [folder for folder in open_names if folder != path]
            continue
        assert open_names == [], path  # a name is on the disk before the next one is given
        assert {old: safe.get(old) for old in what} == what, path
        size = what[min(what)]
        for old in set(what) - {log}:  # no longer under that name
            del safe[old]
        safe[path] = size
        open_names.append(path.parent)
    assert open_names == []


def test_folders_are_not_flushed_where_the_system_cannot(tmp_path, monkeypatch):
    windows = types.SimpleNamespace(name="nt", open=mock.Mock(side_effect=PermissionError))
    monkeypatch.setattr(convbert, "os", windows)
    convbert.flush_folder(tmp_path)


def test_what_a_killed_process_was_writing_goes(data, tmp_path):
    left = tmp_path / "model.safetensors.convbert-4711.tmp"
    left.write_text("half")
    finish(command("mlm", data), tmp_path)
    assert not left.exists()


def test_a_file_that_is_not_written_to_its_end_gets_no_name(tmp_path):
    (tmp_path / "file").write_text("before")
    with pytest.raises(Crash), convbert.replacing(tmp_path / "file") as temporary:
        temporary.write_text("half")
        raise Crash
    assert (tmp_path / "file").read_text() == "before"


# ---- One run at a time in a folder

BUSY = "another run is writing there"


def test_of_two_runs_at_once_the_second_is_refused(data, tmp_path, start, reference):
    options, folder = command("mlm", data, "--max_steps", 40), tmp_path / "run"
    process, deadline = start(options, folder, tmp_path / "log"), time.monotonic() + 120
    while not checkpoints(folder):
        assert process.is_alive() and time.monotonic() < deadline, (tmp_path / "log").read_text()
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGSTOP)  # it holds the folder, and its files stay as they are
    before = listing(folder)
    for more in ((), ("--overwrite_output_dir",), ("--seed", "7", "--no-resume")):
        status, out, err = train((*options, *more), folder)
        assert (status, out) == (2, "") and BUSY in err.splitlines()[-1], err
        assert listing(folder) == before
    process.kill()
    process.join()
    assert "going on from" in finish(options, folder)  # the lock has gone with its process
    assert results(folder) == reference(options)


def test_the_folder_is_locked_until_its_results_are_written(data, tmp_path, monkeypatch):
    tried = []

    def finish_beside(args, *rest, original=convbert.finish):
        with pytest.raises(convbert.UserError, match=BUSY), convbert.run_folder(args):
            pass
        tried.append(args.task)
        original(args, *rest)

    monkeypatch.setattr(convbert, "finish", finish_beside)
    for job in ("mlm", "finetune"):
        finish(command(job, data), tmp_path / job)
    assert tried == ["pretrain", "finetune"]


def test_two_folders_hold_two_runs(data, tmp_path):
    """Which read the same corpus at the same time."""
    with convbert.run_folder(Namespace(task="pretrain", output_dir=tmp_path / "one")):
        finish(command("mlm", data), tmp_path / "two")


def no_locks(number):
    """As on Lustre, and some FUSE and NFS file systems."""
    return mock.patch("fcntl.flock", side_effect=OSError(number, os.strerror(number)))


@pytest.mark.parametrize("left", [None, "", "4604\nnode17\n1378907206127206259\n"],
                         ids=["nothing", "by a run with locks", "on another machine"])
@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK])
def test_a_file_system_without_locks_is_said_and_trained_on(number, left, data, tmp_path):
    if left is not None:
        (tmp_path / ".lock").write_text(left)
    with no_locks(number):
        err = finish(command("mlm", data, "--max_steps", "2"), tmp_path)
    said = [line for line in err.splitlines() if "lock" in line]
    assert said == [f"{tmp_path}: cannot be locked; start no second run in it"]


def test_any_other_error_of_a_lock_is_told(data, tmp_path):
    with no_locks(errno.EIO):
        status, _, err = train(command("mlm", data), tmp_path)
    assert status == 2 and os.strerror(errno.EIO) in err.splitlines()[-1]


def killed_without_locks(*args):
    kill = mock.Mock(side_effect=lambda: os.kill(os.getpid(), signal.SIGKILL))
    with no_locks(errno.ENOSYS), at_call(AT_UPDATE, 8, kill):
        in_child(*args)


@pytest.mark.parametrize("then", [no_locks(errno.ENOSYS), contextlib.nullcontext()],
                         ids=["again without locks", "moved to a disk with locks"])
def test_a_kill_leaves_no_lock_where_there_are_none(then, data, tmp_path, start, reference):
    options = command("mlm", data)
    process = start(options, tmp_path / "run", tmp_path / "log", target=killed_without_locks)
    process.join(120)
    assert process.exitcode == -signal.SIGKILL, (tmp_path / "log").read_text()
    with then:
        assert "going on from" in finish(options, tmp_path / "run")
    assert results(tmp_path / "run") == reference(options)


# ---- The machine

@pytest.mark.parametrize("native", [True, False])
def test_auto_takes_no_bf16_that_a_gpu_emulates(native):
    """On a T4 or V100 PyTorch says that bf16 is supported, and means: by emulation."""
    def supported(including_emulation=True):
        return including_emulation or native

    with mock.patch("torch.cuda.is_bf16_supported", supported):
        precision = convbert.choose_precision(torch.device("cuda"))
    assert precision == ("bf16" if native else "fp32")


@pytest.mark.parametrize("device, fast, expected", [
    ("cpu", True, "bf16"), ("cpu", False, "fp32"), ("cpu", None, "fp32"), ("mps", True, "fp32")])
def test_auto_takes_bf16_where_a_processor_has_it(device, fast, expected, monkeypatch):
    if fast is None:
        monkeypatch.delattr("torch.cpu._is_avx512_bf16_supported", raising=False)
    else:
        monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: fast, raising=False)
    assert convbert.choose_precision(torch.device(device)) == expected


@pytest.mark.parametrize("size, given, device, threads, said", [
    ("tiny", None, "cpu", 1, True), ("small", None, "cpu", 8, False),
    ("tiny", 2, "cpu", 2, False), ("small", 2, "cpu", 2, False), ("tiny", None, "cuda", 8, False)])
def test_a_small_job_gets_one_thread_and_is_told(size, given, device, threads, said, capsys):
    args = Namespace(num_threads=given, batch_size=16, max_seq_length=128,
                     device=torch.device(device))
    used = [8]
    with (mock.patch("torch.get_num_threads", lambda: used[-1]),
          mock.patch("torch.set_num_threads", used.append)):
        convbert.choose_threads(args, convbert.ConvBertConfig(**convbert.SIZES[size]))
    assert used[-1] == threads
    assert ("one CPU thread" in capsys.readouterr().err) == said


def test_the_command_line_tells_of_one_thread(data, tmp_path):
    options = pretraining(data, tmp_path, "--max_steps", 1)
    at = options.index("--num_threads")
    with (mock.patch("torch.get_num_threads", lambda: 8),
          mock.patch("torch.set_num_threads") as chosen):
        result = run(*options[:at], *options[at + 2 :])
    assert result.code == 0 and "one CPU thread" in result.err
    chosen.assert_called_once_with(1)
