"""Part 7: the optimiser, the schedule, and the loop."""

import itertools
import json
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch
from helpers import (
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
    """(share of the run that is over, rate) of each update, and of the one after the last."""
    args = SimpleNamespace(max_minutes=minutes, max_steps=steps, learning_rate=1e-3,
                           warmup_ratio=warmup)
    states = [convbert.Progress({}, step=n, seconds=60 * (minutes or 0) * n / steps)
              for n in range(steps + 1)]
    both = [(state.share(args), convbert.learning_rate(args, state)) for state in states]
    return np.array(both).T


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
    args = SimpleNamespace(max_minutes=1.0, max_steps=None)
    assert convbert.Progress({}, step=5, seconds=61.0).share(args) == 1.0


# ---- The optimiser's groups

def options(**values):
    known = dict(weight_decay=0.01, layer_decay=0.8, device=torch.device("cpu"))
    return SimpleNamespace(**known | values)


def by_name(model, args):
    """{parameter: its group}, after checking that each parameter is in one group exactly."""
    optimizer = convbert.make_optimizer(model, args)
    pairs = [(id(parameter), group) for group in optimizer.param_groups
             for parameter in group["params"]]
    assert sorted(key for key, _ in pairs) == sorted(map(id, model.parameters()))
    groups = dict(pairs)
    return {name: groups[id(parameter)] for name, parameter in model.named_parameters()}


@pytest.fixture
def config():
    values = convbert.SIZES["tiny"] | {"num_hidden_layers": 3, "vocab_size": 50}
    return convbert.ConvBertConfig(**values)


def test_biases_and_layer_norms_are_not_decayed(config):
    model = convbert.ConvBertForSequenceClassification(config)
    for name, group in by_name(model, options()).items():
        spared = name.split(".")[-1] == "bias" or "LayerNorm" in name
        assert group["weight_decay"] == (0.0 if spared else 0.01), name


def test_layers_learn_at_the_rates_of_electra(config):
    L, model = config.num_hidden_layers, convbert.ConvBertForSequenceClassification(config)
    for name, group in by_name(model, options()).items():
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

def test_loss_that_becomes_nan_stops_the_run_and_keeps_the_last_checkpoint(
        data, tmp_path, monkeypatch):
    real, calls = convbert.run_model, []

    def breaking(model, batch, precision):
        output = real(model, batch, precision)
        calls.extend([1] * torch.is_grad_enabled())
        return output._replace(loss=output.loss * (float("nan") if len(calls) == 4 else 1))

    monkeypatch.setattr(convbert, "run_model", breaking)
    options = pretraining(data, tmp_path / "out", "--max_steps", 6, "--save_steps", 1,
                          "--eval_steps", 100)
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


@pytest.mark.parametrize("objective", ["mlm", "rtd"])
def test_batch_with_nothing_to_predict_does_not_stop_the_run(objective, tmp_path):
    """Rows of [MASK], of which none can be chosen, are most of this corpus."""
    lines = ["[MASK]" * 400, *["광합성은 식물이 양분을 만드는 과정이다."] * 20]
    (tmp_path / "kowiki.txt").write_text("\n".join(lines), encoding="utf-8")
    result = run(*pretraining(tmp_path, tmp_path / "out", "--batch_size", 1, "--max_steps", 5,
                              "--objective", objective))
    assert result.code == 0, result.err


# ---- Dropout

@pytest.mark.parametrize("job, more", [("mlm", ()), ("mlm", ("--compile",)), ("rtd", ()),
                                       ("finetune", ())])
def test_dropout_is_for_fine_tuning_alone(job, more, data, tmp_path, monkeypatch):
    """Of the update before the clock starts, which compiles, as well."""
    run_model, modes = convbert.run_model, set()

    def noted(model, batch, precision):
        drops = {module.training and module.p > 0 for module in model.modules()
                 if isinstance(module, torch.nn.Dropout)}
        modes.update((torch.is_grad_enabled(), drop) for drop in drops)
        return run_model(model, batch, precision)

    monkeypatch.setattr(convbert, "run_model", noted)
    monkeypatch.setattr(convbert.ConvBertLayer, "compile", lambda layer, dynamic: None)
    finish((*command(job, data), *more), tmp_path)
    assert modes == {(True, job == "finetune"), (False, False)}
    for folder in (tmp_path, *convbert.checkpoints(tmp_path)):  # for whoever fine-tunes it
        assert read_json(folder / "config.json")["hidden_dropout_prob"] == 0.1


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_dropout_on_a_cpu_keeps_its_share_and_the_mean(p):
    dropout, x = convbert.Dropout(p), torch.ones(1000, 333, requires_grad=True)
    y = dropout(x)
    lost = round(256 * p) / 256
    assert (y == 0).float().mean().item() == pytest.approx(lost, abs=0.005)
    assert torch.equal(y[y != 0], torch.full_like(y[y != 0], 1 / (1 - lost)))
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())
    assert torch.equal(dropout.eval()(x), x)


def test_dropout_draws_its_bytes_on_a_cpu_alone():
    """Other devices, here one that has no numbers, have nn.Dropout: MPS refused such draws."""
    with mock.patch.object(torch.Tensor, "random_", side_effect=AssertionError):
        y = convbert.Dropout(0.1)(torch.ones(4, 5, device="meta"))
    assert (y.device.type, y.shape) == ("meta", (4, 5))


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
    peak = max(record["learning_rate"] for record in train)
    assert 0 <= train[-1]["learning_rate"] < 2e-4 < peak <= 1e-3
    assert all("eval_loss" in records(tmp_path)[at] for at in (0, -1))
    assert "finished" in finish(options, tmp_path)


def test_max_minutes_takes_at_least_one_step(data, tmp_path):
    finish(minutes(data, "mlm", 1e-9), tmp_path)
    assert steps(tmp_path) == [1] and checkpoints(tmp_path) == [1]


def test_max_minutes_goes_on_counting_after_an_interruption(data, tmp_path):
    options = minutes(data, "mlm", 0.03)
    crash(options, tmp_path, 8)
    spent = torch.load(tmp_path / "checkpoint-6/training_state.pt")["progress"]["seconds"]
    finish(options, tmp_path)
    seconds = [record["seconds"] for record in records(tmp_path) if "seconds" in record]
    assert spent > 0 and seconds == sorted(seconds)
    assert steps(tmp_path) == list(range(1, len(seconds) + 1))
    assert seconds[-1] >= 0.03 * 60


def test_first_evaluation_takes_none_of_the_minutes(data, tmp_path, monkeypatch):
    clock, real = itertools.count(0, 20), convbert.RunFolder.keep_scores
    waiting = []

    def keep_scores(*arguments):  # takes an hour
        waiting.append(3600)
        real(*arguments)

    stopwatch = SimpleNamespace(perf_counter=lambda: next(clock) + sum(waiting))
    monkeypatch.setattr(convbert, "time", stopwatch)
    monkeypatch.setattr(convbert.RunFolder, "keep_scores", keep_scores)
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


def test_one_row_may_be_held_out(data, tmp_path):
    more = ("--validation_file", data / "kowiki.txt", "--max_eval_samples", "1")
    finish(command("mlm", data, *more), tmp_path)
    assert read_json(tmp_path / "eval_results.json")["eval_samples"] == 1
