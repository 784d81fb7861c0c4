"""The tasks, from outside; the commands run in this process, which saves the seconds of a start."""

import json
import math
import shutil
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from helpers import (
    CHEAP,
    MODEL,
    ROOT,
    SAMPLE,
    answers,
    command,
    crash,
    finetuning,
    finish,
    pretraining,
    read_json,
    results,
    run,
)

import convbert


@pytest.fixture(scope="module", params=["mlm", "rtd"])
def pipeline(request, data, tmp_path_factory):
    """pretrain -> finetune -> evaluate in folders of these names, and the result of each."""
    folder = tmp_path_factory.mktemp(request.param)
    pretrain = run(*pretraining(
        data, folder / "pretrain", "--objective", request.param, "--max_steps", 30,
        "--learning_rate", "2e-3", "--max_eval_samples", 16))
    finetune = run(*finetuning(
        data, folder / "finetune", "--model_name_or_path", folder / "pretrain",
        "--learning_rate", "2e-3", "--layer_decay", 1, "--num_train_epochs", 3))
    evaluate = run("--task", "evaluate", "--model_name_or_path", folder / "finetune", *CHEAP,
                   "--test_file", data / "ratings_test.txt", "--output_dir", folder / "evaluate")
    return SimpleNamespace(folder=folder, pretrain=pretrain, finetune=finetune, evaluate=evaluate)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to work in, beside a convbert.py with a small config.json and no weights."""
    code = tmp_path / "code"
    (code / "web-crawler").mkdir(parents=True)
    shutil.copytree(ROOT / "vocab", code / "vocab")
    shutil.copytree(SAMPLE, code / "web-crawler/sample")
    (code / "config.json").write_text(json.dumps(MODEL))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(convbert, "ROOT", code)
    monkeypatch.setattr(convbert, "BACKBONE", code / "weights/backbone")
    monkeypatch.setattr(convbert, "CLASSIFIER", code / "weights/classifier")
    return tmp_path / "work"


# ---- From pretraining to scores

def test_training_leaves_its_files(pipeline):
    for task in ("pretrain", "finetune"):
        assert getattr(pipeline, task).code == 0, getattr(pipeline, task).err
        names = {path.name for path in (pipeline.folder / task).iterdir()}
        assert names >= {"config.json", "model.safetensors", "metrics.jsonl", "train_results.json",
                         "eval_results.json", "spiece.model"}
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


def test_finetune_says_in_words_what_it_starts_from(pipeline):
    err = pipeline.finetune.err
    (note,) = [line for line in err.splitlines() if "begins anew" in line]
    new, _, unused = note.partition("not used")
    assert "pretrain/model.safetensors" in new and new.count("classification head") == 1
    assert not {"encoder", "embeddings", "masked", "['"} & set(new.replace(",", " ").split())
    assert "masked LM head" in unused or "generator" in unused


def test_loss_on_held_out_text_does_not_depend_on_the_batch_size(data, tmp_path):
    losses = []
    for size in ("8", "32"):
        options = pretraining(data, tmp_path / size, "--max_steps", 1, "--batch_size", size)
        assert run(*options).code == 0
        losses.append(read_json(tmp_path / size / "eval_results.json")["eval_loss_at_start"])
    assert losses[0] == losses[1]


# ---- What it starts from

SHORT = [*CHEAP, "--max_steps", 1, "--max_train_samples", 60, "--max_eval_samples", 8]


def small_model(cls, folder, **changes):
    cls(convbert.ConvBertConfig(**MODEL | changes)).save_pretrained(folder)
    convbert.Tokenizer(ROOT / "vocab/kowiki.model").save(folder)
    return folder


def started(task, *more):
    """(model folder, its size, output folder, stderr) that a task settles on."""
    result = {}

    def note(args):
        result.update(model=args.model_name_or_path, size=args.size, out=args.output_dir)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(convbert.TASKS, task, note)
        done = run("--task", task, "--device", "cpu", *more)
    assert done.code == 0, done.err
    return result["model"], result["size"], str(result["out"]), done.err


def test_bundled_sample_stands_in_for_missing_data_and_its_toy_keeps_apart(here, data):
    result = run("--task", "pretrain", *SHORT)
    assert result.code == 0, result.err
    assert "bundled sample" in result.err
    assert [str(path) for path in here.glob("runs/*/*")] == [str(here / "runs/sample/pretrain")]
    result = run("--task", "finetune", *SHORT)
    assert result.code == 0, result.err
    assert "model: runs/sample/pretrain" in result.err
    assert (here / "runs/sample/finetune/model.safetensors").exists()
    # no toy is the default start of another run, nor the default answer
    own = ["--train_file", data / "ratings_train.txt"]
    model, _, out, err = started("finetune", *own)
    assert (model, out) == (None, "runs/finetune") and "random weights" in err
    assert "error: runs/finetune: no model there" in run("--task", "predict", "--text", "a").err


def test_finetune_starts_from_the_last_pretraining_or_the_shipped_weights(here, data):
    own = ["--train_file", data / "ratings_train.txt"]
    shipped = small_model(convbert.ConvBertForMaskedLM, convbert.BACKBONE)
    model, _, _, err = started("finetune", *own)
    assert model == shipped and f"model: {shipped}" in err
    model, _, _, err = started("finetune")  # on the sample
    assert model == shipped
    small_model(convbert.ConvBertForMaskedLM, here / "runs/pretrain")
    model, _, _, err = started("finetune", *own)
    assert str(model) == "runs/pretrain" and "model: runs/pretrain" in err
    assert started("finetune", *own, "--size", "tiny")[:2] == (None, "tiny")


def test_finetune_from_nothing_says_so(here, data):
    result = run("--task", "finetune", "--train_file", data / "ratings_train.txt", *SHORT)
    assert result.code == 0, result.err
    assert "random weights" in result.err and "none is pretrained" in result.err
    assert read_json(here / "runs/finetune/config.json")["hidden_size"] == MODEL["hidden_size"]


@pytest.mark.parametrize("task", ["predict", "evaluate"])
def test_answers_come_from_the_last_fine_tuning_or_the_shipped_classifier(task, here, data):
    test = ["--test_file", data / "ratings_test.txt"]
    more = test if task == "evaluate" else ["--text", "a"]
    refused = run("--task", task, *more)
    assert refused.code == 2
    assert "runs/finetune: no model there" in refused.err and "--task finetune" in refused.err
    cls = convbert.ConvBertForSequenceClassification
    small_model(cls, convbert.CLASSIFIER)
    result = run("--task", task, *CHEAP, *more)
    assert result.code == 0 and f"model: {convbert.CLASSIFIER}" in result.err
    small_model(cls, here / "runs/finetune")
    result = run("--task", task, *CHEAP, *more)
    assert result.code == 0 and "model: runs/finetune" in result.err
    small_model(cls, here / "mine")
    result = run("--task", task, *CHEAP, *more, "--model_name_or_path", "mine")
    assert result.code == 0 and "model: " not in result.err


def test_missing_model_is_told_in_words_to_act_on(here):
    for options in (["--task", "predict", "--text", "a"], ["--task", "finetune"]):
        result = run(*options, "--model_name_or_path", "gone", *SHORT)
        assert result.code == 2
        (line,) = [line for line in result.err.splitlines() if "error:" in line]
        assert "gone/config.json: no such file" in line


# ---- Scores

class Oracle(torch.nn.Module):
    """Logits from the first token of the text alone, so that each text can be scored by hand."""

    def __init__(self):
        super().__init__()
        self.config = convbert.ConvBertConfig(**MODEL)
        self.nothing = torch.nn.Parameter(torch.zeros(1))

    def forward(self, input_ids, attention_mask, labels=None):
        score = (input_ids[:, 1] % 7 - 3).float()
        return convbert.ModelOutput(None, torch.stack([torch.zeros_like(score), score], dim=1))


def scored(tokenizer, texts, labels):
    ids, _ = convbert.encode_texts(texts, tokenizer, 64)
    logits = convbert.classify(Oracle(), ids, 4, "fp32")
    return convbert.scores_of(logits, torch.tensor(labels))


def test_scores_equal_a_count_by_hand(tokenizer, processor):
    texts, labels = convbert.read_reviews(SAMPLE / "ratings_test.txt", 50)
    scores = [processor.encode(text)[0] % 7 - 3 for text in texts]
    count = Counter((label, int(score > 0)) for label, score in zip(labels.tolist(), scores))
    precision = count[1, 1] / (count[1, 1] + count[0, 1])
    recall = count[1, 1] / (count[1, 1] + count[1, 0])
    losses = [math.log1p(math.exp(-score if label else score))
              for label, score in zip(labels, scores)]
    result = scored(tokenizer, texts, labels)
    matrix = [[count[0, 0], count[0, 1]], [count[1, 0], count[1, 1]]]
    assert result["confusion_matrix"] == matrix
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


def test_scores_of_three_classes_equal_a_count_by_hand():
    answers, guesses = [0, 0, 0, 1, 1, 2, 2, 2], [0, 0, 1, 1, 2, 2, 2, 0]
    logits = torch.eye(3)[guesses] * 5
    result = convbert.scores_of(logits, torch.tensor(answers))
    assert result["confusion_matrix"] == [[2, 1, 0], [0, 1, 1], [1, 0, 2]]
    assert result["eval_accuracy"] == 5 / 8
    assert result["eval_f1"] == pytest.approx((4 / 6 + 2 / 4 + 4 / 6) / 3)  # the mean of the three
    right, wrong = -math.log(math.exp(5) / (math.exp(5) + 2)), math.log(math.exp(5) + 2)
    assert result["eval_loss"] == pytest.approx((5 * right + 3 * wrong) / 8)


def test_f1_of_classes_that_do_not_occur_does_not_count():
    result = convbert.scores_of(torch.eye(4)[[0, 2]], torch.tensor([0, 2]))
    assert (result["eval_accuracy"], result["eval_f1"]) == (1, 1)


def test_logits_come_in_the_order_of_the_texts(tokenizer, processor):
    texts = list(convbert.read_reviews(SAMPLE / "ratings_test.txt", 30)[0])
    ids, _ = convbert.encode_texts(texts, tokenizer, 64)
    logits = convbert.classify(Oracle(), ids, 7, "fp32")
    assert logits[:, 1].tolist() == [processor.encode(text)[0] % 7 - 3 for text in texts]


# ---- The best epoch

@pytest.fixture
def overtrained(data, monkeypatch):
    """(options, list) of a fine-tuning that gets easy texts right and unlearns it after step 20.

    The list holds (ids, answers) of what was scored: the dev rows again and again, last the test.
    """
    rows = [f"{i}\t{('좋아요', '싫어요')[i % 2]}\t{1 - i % 2}" for i in range(80)]
    text = "\n".join(["id\tdocument\tlabel", *rows, ""])
    (data / "easy.txt").write_text(text, encoding="utf-8")
    soon = dict(initializer_range=0.3, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    (data / "easy.json").write_text(json.dumps(MODEL | soon))  # for it to learn soon
    make_optimizer, classify, scores_of = (
        convbert.make_optimizer, convbert.classify, convbert.scores_of)
    scored = []

    def optimizer_that_unlearns(model, args):
        def unlearn(optimizer, *_):
            (step,) = {int(state["step"]) for state in optimizer.state.values()}
            if step > 20:
                with torch.no_grad():
                    model.classifier.out_proj.weight.zero_()

        optimizer = make_optimizer(model, args)
        optimizer.register_step_post_hook(unlearn)
        return optimizer

    def noted_classify(model, ids, *more):
        scored.append([ids])
        return classify(model, ids, *more)

    def noted_scores(logits, targets):
        scored[-1].append(targets)
        return scores_of(logits, targets)

    monkeypatch.setattr(convbert, "make_optimizer", optimizer_that_unlearns)
    monkeypatch.setattr(convbert, "classify", noted_classify)
    monkeypatch.setattr(convbert, "scores_of", noted_scores)
    options = command("finetune", data, "--train_file", data / "easy.txt", "--seed", "0",
                      "--config_name", data / "easy.json", "--batch_size", "8", "--max_steps", "30",
                      "--learning_rate", "1e-2", "--layer_decay", "1")
    return options, scored


def best_step(folder, dev):
    """The step of the best evaluation; the model in the folder must score the same on dev rows."""
    evals = json.loads((folder / "train_results.json").read_text())["evals"]
    best = max(evals, key=lambda scores: (scores["eval_accuracy"], -scores["eval_loss"]))
    assert best["eval_accuracy"] > max(evals[0]["eval_accuracy"], evals[-1]["eval_accuracy"])
    model = convbert.ConvBertForSequenceClassification.from_pretrained(folder, new_head=False)
    ids, targets = dev
    scores = convbert.scores_of(convbert.classify(model, ids, 8, "fp32"), targets)
    assert {"step": best["step"]} | scores == best
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
    return run("--task", "predict", "--model_name_or_path", models / "tuned", *CHEAP, *more,
               stdin=stdin)


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


def test_bytes_that_are_not_utf8_on_stdin_do_not_hurt_the_other_lines(
        models, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = answers(predicting(models, stdin=b"\xff\xfe bad\n\n" + "좋다\n".encode()))
    assert [answer["text"] for answer in found[1:]] == ["", "좋다"]
    assert found[0]["text"].endswith(" bad")
    assert not list(tmp_path.iterdir())
