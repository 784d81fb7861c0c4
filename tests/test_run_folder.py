"""Part 8, the run folder: whenever a training is killed, the same command run again ends in the same bytes.

Most runs take place in this process. Those that are to be killed are forked off a server that has imported
all there is to import, which saves the seconds of a start.
"""

import itertools
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from multiprocessing import forkserver
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from helpers import (
    MODEL,
    SIGNALS,
    Harm,
    at_call,
    checkpoints,
    command,
    crash,
    finish,
    listing,
    losses,
    plain,
    records,
    results,
    steps,
    train,
    zipped,
)

import convbert
import runs


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
    """The command line in a process of its own. At every change a copy of the folder goes into snapshots."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.argv = ["convbert.py", *options, "--output_dir", str(folder)]
    if snapshots:
        take_snapshots(folder, snapshots)
    convbert.main()


def take_snapshots(folder, snapshots):
    """Python tells an audit hook of each change before it is made: a kill then leaves what is there."""
    last, busy = None, False

    def hook(event, args):
        nonlocal last, busy
        if busy or event not in ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree"):
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
    """start(options, folder, log, ...) -> a running process; in_child tells what it does."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["convbert", "pandas", "pytest", "torch._dynamo"])  # AdamW needs the last
    with mock.patch.dict(os.environ, PYTHONPATH=f"{convbert.ROOT}{os.pathsep}{Path(__file__).parent}"):
        forkserver.ensure_running()
    processes = []

    def start(*args):
        processes.append(context.Process(target=in_child, args=args))
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
    """A function that says whether the process now started has come to that point of its total steps."""
    metrics, temporary = folder / "metrics.jsonl", folder / "checkpoint.tmp"
    newest = max(checkpoints(folder), default=0)
    old_metrics, old_temporary, step = stamp(metrics), stamp(temporary), newest + rng.integers(1, 4)

    def last():
        known = [] if stamp(metrics) in (None, old_metrics) else records(folder)
        return known[-1] if known else {"step": -1}

    return {
        "start": lambda: True,
        "step": lambda: last()["step"] >= step,
        "evaluation": lambda: last()["step"] % 5 == 0 and ("learning_rate" in last() or last()["step"] == 0),
        "checkpoint": lambda: stamp(temporary) not in (None, old_temporary),
        "rotation": lambda: max(checkpoints(folder), default=0) > newest,
        "finish": lambda: last()["step"] == total,
    }[kind]


def kinds_of_kills(kills, rng):
    """Moments in random order; the last is when the last checkpoint and the results are written."""
    kinds = ["start", "step", "evaluation", "checkpoint", "rotation"]
    rounds = (kinds[i] for _ in range(kills) for i in rng.permutation(len(kinds)))
    return [*itertools.islice(rounds, kills - 1), "finish"]


JOBS = [f"{job}{variant}" for variant in ("", " wrap", " bf16") for job in ("mlm", "rtd", "finetune")]
MANY = [pytest.param(job, 17, marks=pytest.mark.slow) for job in JOBS[:3]]


@pytest.mark.parametrize("job, kills", [*((job, 3) for job in JOBS), *MANY])
def test_killed_at_random_and_run_again_gives_the_bytes_of_an_uninterrupted_run(
        job, kills, data, tmp_path, start, reference):
    total = 6 * kills
    options = command(job, data, "--max_steps", total)
    expected = reference(options)
    folder, log, rng = tmp_path / "run", tmp_path / "log", np.random.default_rng([kills, JOBS.index(job)])
    killed = []
    for kind in kinds_of_kills(kills, rng):
        arrived = moment(kind, folder, total, rng)
        for tokens in data.glob("*.tokens*") if kind == "start" else ():
            tokens.unlink()  # to be made again
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
    return {"config.json", "model.safetensors", "training_state.pt"} == {
        path.name for path in (folder / f"checkpoint-{step}").glob("*")}


def has(folder, *names):
    return [(folder / name).exists() for name in names] == [True] * len(names)


POINTS = {
    "before the first log": lambda f: not records(f),
    "before the first checkpoint": lambda f: steps(f) and not checkpoints(f),
    "in the middle of a checkpoint": lambda f: has(f, "checkpoint.tmp/model.safetensors.tmp"),
    "before it is renamed": lambda f: has(f, "checkpoint.tmp/training_state.pt") and not whole(f, 4),
    "after it is renamed": lambda f: whole(f, 2) and whole(f, 4),
    "while the old one is removed": lambda f: has(f, "checkpoint-2") and not whole(f, 2) and whole(f, 4),
    "before the model": lambda f: whole(f, 4) and not has(f, "model.safetensors"),
    "before eval_results.json": lambda f: has(f, "model.safetensors") and not has(f, "eval_results.json"),
    "before train_results.json": lambda f: has(f, "eval_results.json") and not has(f, "train_results.json"),
}


def test_killed_between_two_changes_of_files_gives_the_same_bytes(killed_everywhere, reference, tmp_path):
    options, snapshots = killed_everywhere
    assert [point for point in POINTS if not any(map(POINTS[point], snapshots))] == []
    for snapshot in snapshots:
        folder = shutil.copytree(snapshot, tmp_path / snapshot.name)
        finish(options, folder)
        assert results(folder) == reference(options), snapshot


# ---- Signals

@pytest.mark.parametrize("number", [*SIGNALS, signal.SIGKILL])
def test_signal_to_the_real_command_line(number, data, tmp_path, reference):
    options, save_steps = command("mlm", data, "--max_steps", 80), "1000" if number in SIGNALS else "3"
    argv = [sys.executable, convbert.__file__, *options, "--output_dir", tmp_path / "run"]
    argv += ["--save_steps", save_steps]
    process = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
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
    ("mlm", "training_step", 4, 4), ("rtd", "training_step", 4, 4), ("finetune", "training_step", 4, 4),
    ("mlm", "run_model", 1, 1),  # the first evaluation
    ("mlm", "keep_score", 2, 6), ("mlm", "save_checkpoint", 2, 7),  # after a step: at the end of the next
])
def test_signal_saves_at_the_end_of_the_step(number, job, name, call, step, data, tmp_path, reference):
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
    with at_call("training_step", 12, lambda: os.kill(os.getpid(), number)):
        finish(options, tmp_path / "run")
    assert results(tmp_path / "run") == reference(options)


def test_sigint_while_the_results_are_written_stops_and_can_be_resumed(data, tmp_path, reference):
    options = command("finetune", data)
    with at_call("finish", 1, lambda: os.kill(os.getpid(), signal.SIGINT)):
        assert train(options, tmp_path / "run")[0] == 130
    assert not (tmp_path / "run/train_results.json").exists()
    finish(options, tmp_path / "run")
    assert results(tmp_path / "run") == reference(options)


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
    """The run ends with one line on stderr, which holds these words, and has changed no file."""
    before = listing(folder)
    status, out, err = train(options, folder)
    assert status == 2 and out == "" and len(err.splitlines()) == 1, err
    assert err.startswith("convbert.py: error: ") and all(word in err for word in words), err
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
    refused((*options, "--learning_rate", "1e-3"), folder, "learning_rate", "--overwrite_output_dir")
    refused((*options, "--max_steps", "20"), folder, "max_steps")


OTHER = dict(learning_rate="1e-3", seed="7", max_steps="20", batch_size="5", objective="rtd",
             weight_decay="0.5", warmup_ratio="0.5", mlm_probability="0.2", gradient_accumulation_steps="2",
             max_seq_length="24", precision="bf16", eval_steps="4", max_eval_samples="6",
             max_train_samples="20", layer_decay="0.9")


@pytest.mark.parametrize("name", OTHER)
def test_another_option_is_refused(name, unfinished):
    options, folder = unfinished
    refused((*options, f"--{name}", OTHER[name]), folder, name)


def test_another_corpus_is_refused(unfinished, data):
    options, folder = unfinished
    other = shutil.copy(data / "kowiki.txt", data / "other.txt")
    refused((*options, "--corpus", str(other)), folder, "corpus")  # one more
    refused([option.replace("kowiki.txt", "other.txt") for option in options], folder, "corpus")


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
    refused((*options[:at], "--size", "tiny", *options[at + 2 :]), folder, "size", "config")


def test_no_resume_is_refused_where_there_are_checkpoints(unfinished, finished):
    for options, folder in (unfinished, finished):
        refused((*options, "--no-resume"), folder, "--overwrite_output_dir")


def test_no_resume_runs_in_an_empty_folder(data, tmp_path, reference):
    options = command("mlm", data)
    finish((*options, "--no-resume"), tmp_path)
    assert results(tmp_path) == reference(options)


def test_a_folder_with_other_files_is_refused(data, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    refused(command("mlm", data), tmp_path, "thesis.tex")


def test_refused_commands_have_not_hurt_the_run(unfinished, tmp_path, reference):
    options, folder = unfinished
    folder = shutil.copytree(folder, tmp_path / "run")
    assert "going on from" in finish(options, folder)
    assert results(folder) == reference(options)


@pytest.mark.parametrize("more", [
    ("--save_steps", "2"), ("--save_steps", "1000"), ("--save_total_limit", "1"), ("--save_total_limit", "9"),
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
        assert "going on from" in finish((*options, "--num_threads", "2"), tmp_path)
    finally:
        torch.set_num_threads(threads)
    assert steps(tmp_path) == list(range(1, 13))


def test_a_run_may_be_moved_to_another_folder(unfinished, tmp_path, reference):
    options, folder = unfinished
    shutil.copytree(folder, tmp_path / "elsewhere/run")
    finish(options, tmp_path / "elsewhere/run")
    assert results(tmp_path / "elsewhere/run") == reference(options)


@pytest.mark.parametrize("updates", [0, 5])
def test_overwrite_starts_anew(updates, data, tmp_path, reference):
    options, other = command("mlm", data), command("mlm", data, "--seed", "7", "--save_steps", "1")
    crash(other, tmp_path, updates) if updates else finish(other, tmp_path)
    assert "going on" not in finish((*options, "--overwrite_output_dir"), tmp_path)
    assert results(tmp_path) == reference(options)
    assert checkpoints(tmp_path) == [9, 12]


def test_after_an_overwrite_the_old_run_never_comes_back(data, tmp_path, reference):
    """Killed before its first checkpoint, the new run must not go on from, or be taken for, the old one."""
    options = command("mlm", data)
    finish(command("mlm", data, "--seed", "7"), tmp_path)
    crash((*options, "--overwrite_output_dir"), tmp_path, 2)
    assert checkpoints(tmp_path) == [] and not (tmp_path / "train_results.json").exists()
    crash((*options, "--overwrite_output_dir"), tmp_path, 8)
    finish(options, tmp_path)
    assert results(tmp_path) == reference(options)


# ---- Checkpoints

@pytest.mark.parametrize("limit, kept", [(1, [12]), (2, [9, 12]), (3, [6, 9, 12]), (9, [3, 6, 9, 12])])
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
    ("mlm", convbert.ConvBertForMaskedLM), ("mlm", convbert.ConvBertModel), ("rtd", convbert.ConvBertModel),
    ("finetune", convbert.ConvBertForSequenceClassification), ("finetune", convbert.ConvBertModel),
])
def test_a_checkpoint_is_a_model_folder(job, cls, data, tmp_path):
    crash(command(job, data), tmp_path, 8)
    for step in (3, 6):
        folder = tmp_path / f"checkpoint-{step}"
        model, saved = cls.from_pretrained(folder, new_head=False), torch.load(folder / "training_state.pt")
        assert saved["step"] == step
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, saved["model"][name if name in saved["model"] else f"convbert.{name}"])


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
    assert "checkpoint-6: damaged" in errors and "going on from" in errors and "checkpoint-3" in errors
    assert results(folder) == reference(options)
    assert (folder / "checkpoint-6.damaged").is_dir()


def test_a_checkpoint_that_another_process_has_set_aside_is_passed_over(unfinished, tmp_path):
    """All processes of a run read the folder at the same time."""
    folder = shutil.copytree(unfinished[1], tmp_path / "run")
    found = runs.checkpoints(folder)
    (folder / "checkpoint-6").rename(folder / "checkpoint-6.damaged")
    assert runs.last_state(found)["step"] == 3


def test_run_without_a_readable_checkpoint_is_told(unfinished, tmp_path):
    options, folder = unfinished
    folder = shutil.copytree(folder, tmp_path / "run")
    for number in (3, 6):
        (folder / f"checkpoint-{number}/training_state.pt").write_bytes(b"")
    status, _, err = train(options, folder)
    assert status == 2 and "no checkpoint can be read; --overwrite_output_dir" in err.splitlines()[-1]


def test_losses_logged_are_those_of_an_uninterrupted_run(unfinished, data, tmp_path, reference):
    """The means span the interruption: steps 5 and 6 stand in the checkpoint, 7 and 8 come after it."""
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


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="needs a C++ compiler")
@pytest.mark.parametrize("job", ["mlm", "rtd"])
def test_compiled_run_killed_and_run_again_has_the_losses_of_a_plain_one(job, data, tmp_path):
    """Not its bytes: what is compiled depends on the shapes that came first, and rounds differently."""
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
    assert status == 2 and "no checkpoint can be read" in err.splitlines()[-1]
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
    before = {path: known for path, known in listing(tmp_path).items() if "checkpoint-" in str(path)}
    most = (tmp_path / "checkpoint-6" / file).stat().st_size - 1000
    status, err = run_with_little_room(most, options, tmp_path)
    errors = [line for line in err.splitlines() if "rror" in line]
    assert status == 2 and len(errors) == 1 and errors[0].startswith("convbert.py: error: "), err
    assert "Traceback" not in err and file in errors[0]
    assert before.items() <= listing(tmp_path).items() and checkpoints(tmp_path) == [3, 6]
    assert "checkpoint-6" in finish(options, tmp_path)
    assert results(tmp_path) == reference(options)
