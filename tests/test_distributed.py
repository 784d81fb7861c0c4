"""Several processes, started by torchrun, do what one does: on CPUs here, so by gloo."""

import os
import signal
import subprocess
import sys
import time
from argparse import Namespace

import pytest
import torch.distributed
from helpers import SCRIPT, check_error, command, finish, losses, refusal, run_python

import convbert

pytestmark = pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="needs gloo")
ACCUMULATE = ("--gradient_accumulation_steps", "2")


def torchrun(options, folder, processes=2):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone",
               f"--nproc_per_node={processes}", convbert.__file__, *options,
               "--output_dir", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env=os.environ | {"OMP_NUM_THREADS": "1"})


def finish_torchrun(options, folder):
    process = torchrun(options, folder)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


@pytest.mark.parametrize("job", ["mlm", "rtd", "finetune"])
def test_two_processes_give_the_losses_of_one(job, data, tmp_path):
    options = command(job, data, *ACCUMULATE)
    finish(options, tmp_path / "one")
    out = finish_torchrun(options, tmp_path / "two")
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=1e-4)
    assert out.count("\n") == 1  # process 0 alone speaks, and writes:
    one, two = ({str(path.relative_to(folder)) for path in folder.rglob("*")}
                for folder in (tmp_path / "one", tmp_path / "two"))
    assert one == two


def last_worker(process, folder):
    """The pid of the worker started last, once the run has a checkpoint."""
    while not convbert.checkpoints(folder) and process.poll() is None:
        time.sleep(0.02)
    ps = ["ps", "-A", "-o", "ppid=,pid="]
    children = subprocess.run(ps, capture_output=True, text=True).stdout
    family = [tuple(map(int, line.split())) for line in children.splitlines()]
    return max(pid for parent, pid in family if parent == process.pid)


def test_run_with_a_dead_process_says_so_and_goes_on_with_one_process(data, tmp_path):
    options = command("mlm", data, *ACCUMULATE, "--max_steps", "60", "--save_steps", "1")
    finish(options, tmp_path / "whole")
    process = torchrun(options, tmp_path / "killed")
    os.kill(last_worker(process, tmp_path / "killed"), signal.SIGKILL)
    _, err = process.communicate(timeout=300)
    assert process.returncode != 0
    assert "convbert.py: error: a process of the run has died or failed" in err
    assert 'convbert.py", line' not in err  # no traceback
    assert not (tmp_path / "killed" / "train_results.json").exists()
    finish(options, tmp_path / "killed")  # alone
    assert losses(tmp_path / "killed") == pytest.approx(losses(tmp_path / "whole"), abs=1e-4)


DYING = """
import os, signal, convbert
try:
    with convbert.heard_signals():
        raise RuntimeError("Connection closed by peer")
except RuntimeError:
    os.kill(os.getpid(), signal.SIGTERM)  # torchrun's, when another process has died
    print("alive")
"""


def test_sigterm_after_a_death_does_not_cut_off_the_error():
    environment = os.environ | {"PYTHONPATH": str(convbert.ROOT)}
    for world, code in (("2", 0), ("1", -signal.SIGTERM)):
        run = subprocess.run([sys.executable, "-c", DYING], capture_output=True, text=True,
                             env=environment | {"WORLD_SIZE": world}, timeout=120)
        assert run.returncode == code, run.stderr
        assert ("alive" in run.stdout) == (world == "2")


def test_batches_that_processes_cannot_share_are_told(data, tmp_path):
    process = torchrun(command("mlm", data), tmp_path / "run")
    _, err = process.communicate(timeout=300)
    assert process.returncode != 0
    assert err.count("error: --gradient_accumulation_steps 1: no multiple of the 2 processes") == 1
    assert not (tmp_path / "run").exists()
    assert 'convbert.py", line' not in err


@pytest.mark.parametrize("environment", [
    {"RANK": "1"}, {"RANK": "-1"}, {"RANK": "0", "WORLD_SIZE": "2"}])
def test_variables_that_torchrun_has_not_set_are_told(environment, data, tmp_path, monkeypatch):
    options = map(str, command("mlm", data, "--gradient_accumulation_steps", "2"))
    for name in ("MASTER_ADDR", "RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    result = run_python(SCRIPT, *options, "--output_dir", tmp_path / "run")
    check_error(result, "not by torchrun")  # no traceback either
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("task, device, why", [
    ("predict", "cpu", "--task predict is for one process"),
    ("evaluate", "cpu", "--task evaluate is for one process"),
    ("pretrain", "mps", "several processes need --device cpu or cuda"),
])
def test_what_several_processes_cannot_do_is_told(task, device, why, monkeypatch):
    """Processes that share stdin would each predict a part of its lines."""
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    monkeypatch.setattr(convbert, "WORLD", 2)
    args = Namespace(task=task, device=torch.device(device), gradient_accumulation_steps=2)
    assert why in refusal(convbert.start_processes, args)
