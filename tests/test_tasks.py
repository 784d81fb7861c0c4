"""Part 7: the tasks, from outside; most commands run in this process, which saves the seconds of a start."""

import json
import math
import shutil
from argparse import Namespace
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import (
    CHEAP,
    MODEL,
    ROOT,
    SAMPLE,
    SCRIPT,
    answers,
    check_error,
    command,
    crash,
    finetuning,
    finish,
    pretraining,
    read_json,
    results,
    run,
    run_python,
)

import convbert


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


# ---- From pretraining to scores

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


def test_finetune_without_a_pretrained_model_says_so(data, tmp_path):
    options = finetuning(data, tmp_path / "out", "--max_steps", 1)
    check_error(run_python(SCRIPT, *map(str, options), cwd=tmp_path), "runs/pretrain", "--model_name_or_path")
    assert not (tmp_path / "out").exists()


def test_loss_on_held_out_text_does_not_depend_on_the_batch_size(data, tmp_path):
    losses = []
    for size in ("8", "32"):
        assert run(*pretraining(data, tmp_path / size, "--max_steps", 1, "--batch_size", size)).code == 0
        losses.append(read_json(tmp_path / size / "eval_results.json")["eval_loss_at_start"])
    assert losses[0] == losses[1]


def test_bundled_sample_stands_in_for_missing_data(tmp_path):
    for name in ("convbert.py", "config.json", "vocab/kowiki.model", "web-crawler/sample/kowiki.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    result = run_python(tmp_path / "convbert.py", "--task", "pretrain", "--size", "tiny", *CHEAP,
                        "--max_steps", "1", "--max_train_samples", "40", cwd=tmp_path)
    assert result.code == 0, result.err
    assert "bundled sample" in result.err
    assert (tmp_path / "runs/pretrain/model.safetensors").exists()


# ---- Scores

class Oracle(torch.nn.Module):
    """Logits from the first token of the text alone, so that each review can be scored by hand."""

    def forward(self, input_ids, attention_mask, labels=None):
        score = (input_ids[:, 1] % 7 - 3).float()
        return convbert.ModelOutput(None, torch.stack([torch.zeros_like(score), score], dim=1))


def scored(tokenizer, texts, labels):
    args = SimpleNamespace(batch_size=4, device=torch.device("cpu"), precision="fp32")
    return convbert.score_reviews(Oracle(), convbert.Reviews(texts, np.array(labels), tokenizer, 64), args)


def test_scores_equal_a_count_by_hand(tokenizer, processor):
    texts, labels = convbert.read_reviews(SAMPLE / "ratings_test.txt", 50)
    scores = [processor.encode(text)[0] % 7 - 3 for text in texts]
    count = Counter((label, int(score > 0)) for label, score in zip(labels.tolist(), scores))
    precision = count[1, 1] / (count[1, 1] + count[0, 1])
    recall = count[1, 1] / (count[1, 1] + count[1, 0])
    losses = [math.log1p(math.exp(-score if label else score)) for label, score in zip(labels, scores)]
    result = scored(tokenizer, texts, labels)
    assert result["confusion_matrix"] == [[count[0, 0], count[0, 1]], [count[1, 0], count[1, 1]]]
    assert result["eval_accuracy"] == (count[0, 0] + count[1, 1]) / 50
    assert result["eval_f1"] == pytest.approx(2 * precision * recall / (precision + recall))
    assert result["eval_loss"] == pytest.approx(sum(losses) / 50)
    assert result["eval_samples"] == 50


def test_f1_is_0_where_nothing_is_positive(tokenizer, processor):
    texts = [text for text in convbert.read_reviews(SAMPLE / "ratings_test.txt")[0]
             if processor.encode(text)[0] % 7 < 3][:6]
    result = scored(tokenizer, texts, [0] * 6)
    assert (result["eval_f1"], result["eval_accuracy"]) == (0, 1)
    assert result["confusion_matrix"] == [[6, 0], [0, 0]]


def test_logits_come_in_the_order_of_the_reviews(tokenizer, processor):
    texts = list(convbert.read_reviews(SAMPLE / "ratings_test.txt", 30)[0])
    args = SimpleNamespace(batch_size=7, device=torch.device("cpu"), precision="fp32")
    logits = convbert.classify(Oracle(), convbert.Reviews(texts, [0] * 30, tokenizer, 64), args)
    assert logits[:, 1].tolist() == [processor.encode(text)[0] % 7 - 3 for text in texts]


# ---- The best epoch

@pytest.fixture
def overtrained(data, monkeypatch):
    """(options, list) of a fine-tuning that gets easy reviews all right and unlearns it after step 20.

    The list is that of the reviews that were scored: the dev split, again and again, and last the test file.
    """
    rows = [f"{i}\t{('좋아요', '싫어요')[i % 2]}\t{1 - i % 2}" for i in range(80)]
    (data / "easy.txt").write_text("\n".join(["id\tdocument\tlabel", *rows, ""]), encoding="utf-8")
    soon = {"initializer_range": 0.3, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (data / "easy.json").write_text(json.dumps(MODEL | soon))  # for it to learn soon
    training_step, score_reviews, scored = convbert.training_step, convbert.score_reviews, []

    def step_that_unlearns(gradients, optimizer, batches, step):
        loss = training_step(gradients, optimizer, batches, step)
        if step >= 20:
            with torch.no_grad():
                gradients.model.classifier["out_proj"].weight.zero_()
        return loss

    def noted_score(model, reviews, args):
        scored.append(reviews)
        return score_reviews(model, reviews, args)

    monkeypatch.setattr(convbert, "training_step", step_that_unlearns)
    monkeypatch.setattr(convbert, "score_reviews", noted_score)
    options = command("finetune", data, "--train_file", data / "easy.txt", "--seed", "0",
                      "--config_name", data / "easy.json", "--batch_size", "8", "--max_steps", "30",
                      "--learning_rate", "1e-2", "--layer_decay", "1")
    return options, scored


def best_step(folder, dev):
    """The step of the best evaluation; the model in the folder must score the same on the dev split."""
    evals = json.loads((folder / "train_results.json").read_text())["evals"]
    best = max(evals, key=lambda scores: scores["eval_accuracy"])  # the first of equals
    assert best["eval_accuracy"] > max(evals[0]["eval_accuracy"], evals[-1]["eval_accuracy"])
    model = convbert.ConvBertForSequenceClassification.from_pretrained(folder, new_head=False)
    args = Namespace(device=torch.device("cpu"), precision="fp32", batch_size=8)
    assert {"step": best["step"]} | convbert.score_reviews(model, dev, args) == best
    return best["step"]


def test_finetune_keeps_the_best_epoch(overtrained, tmp_path):
    options, scored = overtrained
    finish(options, tmp_path)
    assert 0 < best_step(tmp_path, dev=scored[0]) <= 20


@pytest.mark.parametrize("save_steps, crashes", [(3, [29]), (23, [29]), (1, [22, 6]), (1000, [29])])
def test_finetune_keeps_the_best_epoch_through_a_kill(save_steps, crashes, overtrained, tmp_path):
    options, scored = overtrained
    finish(options, tmp_path / "uninterrupted")
    for update in crashes:
        crash((*options, "--save_steps", str(save_steps)), tmp_path / "run", update)
    finish(options, tmp_path / "run")
    assert 0 < best_step(tmp_path / "run", dev=scored[0]) <= 20
    assert results(tmp_path / "run") == results(tmp_path / "uninterrupted")


# ---- Predictions

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
    result = run_python(SCRIPT, "--task", "predict", "--model_name_or_path", models / "tuned", *CHEAP,
                        stdin=b"\xff\xfe bad\n\n" + "좋다\n".encode(), cwd=tmp_path)
    found = answers(result)
    assert [answer["text"] for answer in found[1:]] == ["", "좋다"]
    assert found[0]["text"].endswith(" bad")
    assert not list(tmp_path.iterdir())
