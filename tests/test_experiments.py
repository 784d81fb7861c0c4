"""What makes one model of several: averages, and soft labels of a blend."""

import json

import numpy as np
import pytest
import torch
from experiments import teacher
from helpers import ROOT, SAMPLE, finetuning, read_json, run, run_python

import convbert
from convbert import ConvBertForSequenceClassification

PROGRAM = ROOT / "tests/experiments/teacher.py"
ERRORS = ROOT / "tests/experiments/errors.py"


@pytest.fixture(scope="module")
def two(models, tmp_path_factory):
    """Two classifiers with other weights, as folders."""
    folder = tmp_path_factory.mktemp("two")
    model = ConvBertForSequenceClassification.from_pretrained(models / "tuned")
    tokenizer = convbert.Tokenizer(models / "tuned/spiece.model")
    for name in ("one", "other"):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) / 10)
        model.save_pretrained(folder / name)
        tokenizer.save(folder / name)
    return folder / "one", folder / "other"


def weights(folder):
    return ConvBertForSequenceClassification.from_pretrained(folder, new_head=False).state_dict()


def test_average_is_the_mean_of_each_weight(two, tmp_path):
    result = run_python(PROGRAM, "average", "--models", *two, "--output_dir", tmp_path,
                        "--train_file", SAMPLE / "ratings_train.txt")
    assert result.code == 0, result.err
    one, other, mean = map(weights, (*two, tmp_path))
    for name in mean:
        torch.testing.assert_close(mean[name], (one[name] + other[name]) / 2)
    assert (tmp_path / "spiece.model").exists()
    texts, labels = convbert.read_reviews(SAMPLE / "ratings_train.txt")
    held_out = convbert.hold_out(len(texts))[1]
    answers = convbert.Classifier.from_pretrained(tmp_path)([*texts[held_out]])
    right = [(answer["label"] == "positive") == label
             for answer, label in zip(answers, labels[held_out])]
    scores = read_json(tmp_path / "eval_results.json")
    assert scores == json.loads(result.out) == {"dev_accuracy": np.mean(right)}


def test_what_is_shipped_has_half_the_size_and_nearly_the_same_weights(two, tmp_path):
    result = run_python(PROGRAM, "ship", "--models", two[0], "--output_dir", tmp_path / "new")
    assert result.code == 0, result.err
    before, after = weights(two[0]), weights(tmp_path / "new")
    for name in before:
        torch.testing.assert_close(after[name], before[name], rtol=1e-3, atol=1e-6)
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (two[0], tmp_path / "new")]
    assert sizes[1] < 0.55 * sizes[0]
    assert (tmp_path / "new/tokenizer.json").exists() == (two[0] / "tokenizer.json").exists()


def test_all_seeds_begin_with_the_same_head(models, data, tmp_path):
    for name in ("a", "b"):
        result = run_python(PROGRAM, "start", "--models", models / "plain", "--output_dir",
                            tmp_path / name)
        assert result.code == 0, result.err
    a, b = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert all(torch.equal(a[name], b[name]) for name in a)
    tuned = run(*finetuning(data, tmp_path / "tuned", "--model_name_or_path", tmp_path / "a",
                            "--max_steps", 1, "--learning_rate", 1e-12))
    assert tuned.code == 0 and "begins anew" not in tuned.err  # fine-tuning keeps the head
    after = weights(tmp_path / "tuned")
    assert all(torch.allclose(a[name], after[name], atol=1e-6) for name in a)


def test_logits_are_the_mean_of_the_models(two):
    texts = ["좋아요", "나빠요", "그저 그래요"]
    each = [teacher.logits_of([folder], texts) for folder in two]
    assert teacher.logits_of(two, texts) == pytest.approx(np.mean(each, axis=0))
    precision = convbert.choose_precision(convbert.choose_device())
    classify = convbert.Classifier.from_pretrained(two[0], precision=precision)
    answers = classify(texts, all_scores=True)
    p = np.array([answer["scores"]["positive"] for answer in answers])
    assert each[0] == pytest.approx(np.log(p / (1 - p)), abs=1e-4)


def test_soft_labels_leave_out_the_texts_held_out(two, tmp_path):
    pytest.importorskip("sklearn")
    train = SAMPLE / "ratings_train.txt"
    texts, labels = convbert.read_reviews(train)
    training, held_out = convbert.hold_out(len(texts))
    lines = [*(f"{text}\n\n" for text in ("새 글", texts[held_out][0].strip(), "또 새 글"))]
    (tmp_path / "texts.txt").write_text("".join(lines), encoding="utf-8")
    result = run_python(PROGRAM, "label", "--models", *two, "--train_file", train, "--texts",
                        tmp_path / "texts.txt", "--output", tmp_path / "soft.jsonl")
    assert result.code == 0, result.err
    assert result.out.startswith("dev accuracy of the blend: 0.")
    soft, dev = ([json.loads(line) for line in (tmp_path / name).read_text().splitlines()]
                 for name in ("soft.jsonl", "dev.jsonl"))
    assert [row["text"] for row in soft] == ["새 글", "또 새 글", *texts[training]]
    assert [row.get("label") for row in soft] == [None, None, *labels[training]]
    assert all(sum(row["scores"].values()) == pytest.approx(1) for row in soft)
    assert [row["text"] for row in dev] == [*texts[held_out]]


def test_errors_are_counted_by_length_and_by_score(tmp_path):
    rows = [("짧다", "0", "negative", 0.55), ("짧다!", "0", "positive", 0.9),
            ("이것은 열 자가 넘는 리뷰", "1", "positive", 0.995)]
    lines = [json.dumps({"id": "1", "document": text, "label": label, "predicted_label": answer,
                         "score": score}) for text, label, answer, score in rows]
    (tmp_path / "predictions.jsonl").write_text("\n".join(lines), encoding="utf-8")
    result = run_python(ERRORS, tmp_path / "predictions.jsonl")
    assert result.code == 0, result.err
    assert result.out.splitlines() == [
        "by characters",
        "  0 to 10: 2 reviews, 50.0 % right",
        "  10 to 20: 1 reviews, 100.0 % right",
        "by score",
        "  0.5 to 0.6: 1 reviews, 100.0 % right",
        "  0.9 to 0.95: 1 reviews, 0.0 % right",
        "  0.99 to 1.01: 1 reviews, 100.0 % right",
        "errors: 1 of 3; a random sample",
        "  negative, not positive 0.90: 짧다!"]
