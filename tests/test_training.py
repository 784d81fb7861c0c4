"""Part 6: the optimiser, the schedule, and the loop."""

import itertools
import json
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch
from helpers import (
    CHEAP,
    check_error,
    checkpoints,
    command,
    crash,
    finish,
    pretraining,
    read_json,
    records,
    results,
    run,
    steps,
)
from safetensors.torch import load_file

import convbert

# ---- The schedule

def rates(warmup, minutes=None, steps=200):
    args = SimpleNamespace(max_minutes=minutes, max_steps=steps, learning_rate=1e-3, warmup_ratio=warmup)
    states = [{"step": n, "seconds": 60 * (minutes or 0) * n / steps} for n in range(steps + 1)]
    return np.array([convbert.schedule(args, state) for state in states]).T


@pytest.mark.parametrize("minutes", [None, 3.0])
@pytest.mark.parametrize("warmup", [0.1, 0.5])
def test_rate_rises_to_its_peak_and_falls_to_nothing(warmup, minutes):
    over, rate = rates(warmup, minutes)
    peak = round(200 * warmup)
    assert rate[0] < 0.05e-3
    assert rate.max() == pytest.approx(1e-3, rel=0.05)
    assert abs(rate.argmax() - peak) <= 1
    assert np.diff(rate[: peak - 1]) == pytest.approx(1e-3 / peak)
    assert np.diff(rate[peak + 1 : 200]) == pytest.approx(-1e-3 / (200 - peak))
    assert rate[199] < 0.02e-3
    assert over == pytest.approx(np.linspace(0, 1, 201), abs=0.003)
    assert over[199] < over[200] == 1


@pytest.mark.parametrize("minutes", [None, 3.0])
@pytest.mark.parametrize("warmup", [0.0, 0.1])
def test_rate_is_positive_before_the_end(warmup, minutes):
    over, rate = rates(warmup, minutes)
    begun = 1 if minutes else 0  # by the clock the very first step has rate 0
    assert (rate[begun:][over[begun:] < 1] > 0).all()
    assert (rate[over < 1] <= 1e-3).all()


def test_run_by_the_clock_is_over_once_its_time_is():
    args = SimpleNamespace(max_minutes=1.0, max_steps=None, learning_rate=1e-3, warmup_ratio=0.1)
    assert convbert.schedule(args, {"step": 5, "seconds": 61.0})[0] == 1.0


# ---- The optimiser's groups

def options(**values):
    return SimpleNamespace(**dict(weight_decay=0.01, layer_decay=0.8, device=torch.device("cpu")) | values)


def by_name(model, args):
    """{parameter: its group}, after checking that each parameter is in one group exactly."""
    optimizer = convbert.make_optimizer(model, args)
    pairs = [(id(parameter), group) for group in optimizer.param_groups for parameter in group["params"]]
    assert sorted(key for key, _ in pairs) == sorted(map(id, model.parameters()))
    groups = dict(pairs)
    return {name: groups[id(parameter)] for name, parameter in model.named_parameters()}


@pytest.fixture
def config():
    return convbert.ConvBertConfig(**{**convbert.SIZES["tiny"], "num_hidden_layers": 3, "vocab_size": 50})


def test_biases_and_layer_norms_are_not_decayed(config):
    for name, group in by_name(convbert.ConvBertForSequenceClassification(config), options()).items():
        spared = name.split(".")[-1] == "bias" or "LayerNorm" in name
        assert group["weight_decay"] == (0.0 if spared else 0.01), name


def test_layers_learn_at_the_rates_of_electra(config):
    L = config.num_hidden_layers
    for name, group in by_name(convbert.ConvBertForSequenceClassification(config), options()).items():
        parts = name.split(".")
        if "layer" in parts:
            power = L + 1 - int(parts[parts.index("layer") + 1])  # 2 at the top
        else:
            power = 0 if name.startswith("classifier.") else L + 2
        assert group["scale"] == pytest.approx(0.8**power), name


@pytest.mark.parametrize("kind", ["ConvBertForMaskedLM", "ConvBertForPreTraining"])
def test_layers_learn_alike_without_layer_decay(config, kind):
    groups = by_name(getattr(convbert, kind)(config), options(layer_decay=1.0))
    assert {group["scale"] for group in groups.values()} == {1.0}


# ---- A loss that is not finite

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


# ---- Dropout

@pytest.mark.parametrize("job, more", [("mlm", ()), ("mlm", ("--compile",)), ("rtd", ()), ("finetune", ())])
def test_dropout_is_for_fine_tuning_alone(job, more, data, tmp_path, monkeypatch):
    """Of the update before the clock starts, which compiles, as well."""
    run_model, modes = convbert.run_model, set()

    def noted(model, batch, args):
        modes.add((torch.is_grad_enabled(), model.training))
        return run_model(model, batch, args)

    monkeypatch.setattr(convbert, "run_model", noted)
    monkeypatch.setattr(convbert.ConvBertLayer, "compile", lambda layer, dynamic: None)
    finish((*command(job, data), *more), tmp_path)
    assert modes == {(True, job == "finetune"), (False, False)}


# ---- Runs by the clock

def minutes(data, job, number, *more):
    options = command(job, data, "--eval_steps", "100000", *more)
    at = options.index("--max_steps")
    return (*options[:at], "--max_minutes", str(number), *options[at + 2 :])


@pytest.mark.parametrize("job", ["mlm", "finetune"])
def test_max_minutes_ends_with_a_learning_rate_near_zero(job, data, tmp_path):
    options = minutes(data, job, 0.05, "--learning_rate", "1e-3")
    finish(options, tmp_path)
    train = [record for record in records(tmp_path) if "learning_rate" in record]
    assert steps(tmp_path) == list(range(1, len(train) + 1))
    assert 0 <= train[-1]["learning_rate"] < 2e-4 < max(record["learning_rate"] for record in train) <= 1e-3
    assert all("eval_loss" in record for record in (records(tmp_path)[0], records(tmp_path)[-1]))
    assert "finished" in finish(options, tmp_path)


def test_max_minutes_takes_at_least_one_step(data, tmp_path):
    finish(minutes(data, "mlm", 1e-9), tmp_path)
    assert steps(tmp_path) == [1] and checkpoints(tmp_path) == [1]


def test_max_minutes_goes_on_counting_after_an_interruption(data, tmp_path):
    options = minutes(data, "mlm", 0.03)
    crash(options, tmp_path, 8)
    spent = torch.load(tmp_path / "checkpoint-6/training_state.pt")["seconds"]
    finish(options, tmp_path)
    seconds = [record["seconds"] for record in records(tmp_path) if "seconds" in record]
    assert spent > 0 and seconds == sorted(seconds) and steps(tmp_path) == list(range(1, len(seconds) + 1))
    assert seconds[-1] >= 0.03 * 60


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
