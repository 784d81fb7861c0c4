"""Own texts and own labels: files as people have them, any classes, predict, Python, transformers.

The commands run in this process; a few run for real, where a process is what is tested.
"""

import csv
import functools
import io
import json
import os
import random
import re
import select
import shutil
import subprocess
import sys
import threading
import tracemalloc
import unicodedata
from argparse import Namespace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import sentencepiece
import torch
from helpers import (
    CHEAP,
    MODEL,
    ROOT,
    SAMPLE,
    SCRIPT,
    Crash,
    check_error,
    finetuning,
    pretraining,
    read_json,
    refusal,
    run,
    same,
)
from safetensors.torch import load_file, save_file

import convbert
from convbert import Classifier, ConvBertForSequenceClassification

NSMC = {0: "negative", 1: "positive"}
WORDS = {"가격": "값이 비싸다", "배송": "배송이 늦다", "상품": "물건이 좋다"}
ARGS = Namespace(text_column_name=None, label_column_name=None)


def lines_of(path):
    text = path.read_text(encoding="utf-8") if hasattr(path, "read_text") else path
    return [json.loads(line, parse_constant=pytest.fail) for line in text.split("\n") if line]


def texts_of(examples):
    return [row.text for row in examples]


def write_csv(path, rows, encoding="utf-8", sep=",", newline="\n"):
    out = io.StringIO()
    csv.writer(out, delimiter=sep, lineterminator=newline).writerows(rows)
    path.write_bytes(out.getvalue().encode(encoding))
    return path


def write_jsonl(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")
    return path


def shop_rows(count, seed=0):
    """Rows of text and class, which a word of the text tells."""
    rng = random.Random(seed)
    names = [*WORDS] * (count // 3 + 1)
    return [(f"{WORDS[name]}, {rng.randrange(10**6)}번째 글", name) for name in names[:count]]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A config.json of a small model that learns soon."""
    soon = dict(initializer_range=0.3, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    path = tmp_path_factory.mktemp("config") / "config.json"
    path.write_text(json.dumps(MODEL | soon))
    return path


def tuning(config, train_file, folder, *more):
    return ["--task", "finetune", "--config_name", config, "--train_file", train_file, *CHEAP,
            "--batch_size", 8, "--learning_rate", "1e-2", "--layer_decay", 1,
            "--output_dir", folder, *more]


def tuned(*options):
    result = run(*tuning(*options))
    assert result.code == 0, result.err
    return result


def small(folder, tokenizer, **changes):
    """A folder of a small classifier as it begins."""
    torch.manual_seed(0)
    values = MODEL | dict(initializer_range=0.3, vocab_size=tokenizer.size) | changes
    ConvBertForSequenceClassification(convbert.ConvBertConfig(**values)).save_pretrained(folder)
    tokenizer.save(folder)
    return folder


@pytest.fixture(scope="module")
def plain(tokenizer, tmp_path_factory):
    return small(tmp_path_factory.mktemp("plain"), tokenizer)


def predict(folder, *more, stdin=b""):
    result = run("--task", "predict", "--model_name_or_path", folder, *CHEAP, *more, stdin=stdin)
    assert result.code == 0, result.err
    return result


# ---- Three classes with names, from a CSV to transformers

@pytest.fixture(scope="module")
def shop(config, tmp_path_factory):
    """A run on a CSV of Korean columns, labels and file name, and what stderr said."""
    folder = tmp_path_factory.mktemp("shop")
    train = write_csv(folder / "쇼핑 후기.csv", [("번호", "리뷰", "분류"), *(
        (i, *row) for i, row in enumerate(shop_rows(300)))])
    drawn = []
    with pytest.MonkeyPatch.context() as patch:
        try:
            from matplotlib.axes import Axes
        except ImportError:
            pass
        else:
            set_ticks = Axes.set_xticks
            patch.setattr(Axes, "set_xticks", lambda self, ticks, labels=None, **more: (
                drawn.append(labels), set_ticks(self, ticks, labels, **more))[1])
        result = tuned(config, train, folder / "run", "--num_train_epochs", 4)
    return Namespace(folder=folder / "run", train=train, err=result.err, drawn=drawn)


def test_named_classes_are_learned_and_kept(shop):
    config = read_json(shop.folder / "config.json")
    assert config["id2label"] == {"0": "가격", "1": "배송", "2": "상품"}
    assert config["label2id"] == {"가격": 0, "배송": 1, "상품": 2}
    scores = read_json(shop.folder / "eval_results.json")
    assert scores["eval_accuracy"] > 0.9 and scores["eval_f1"] > 0.9
    assert len(scores["confusion_matrix"]) == 3
    assert "texts from '리뷰', labels from '분류'" in shop.err
    assert "3 classes (가격, 배송, 상품); rows: 200 train, 50 test, 50 dev" in shop.err


def test_evaluate_finds_the_test_part_and_repeats_the_scores(shop, tmp_path):
    result = run("--task", "evaluate", "--model_name_or_path", shop.folder, *CHEAP,
                 "--batch_size", 8, "--output_dir", tmp_path)
    assert result.code == 0, result.err
    found, scores = json.loads(result.out), read_json(shop.folder / "eval_results.json")
    assert f"test file: {shop.folder / 'test.jsonl'}" in result.err
    assert scores["test_file"] == found["test_file"] == str(shop.folder / "test.jsonl")
    assert found.pop("model") == str(shop.folder)
    assert found == {name: scores[name] for name in found}
    assert found["eval_samples"] == 50
    assert (found["classes"], found["f1_of"]) == ([*WORDS], "mean")


def test_confusion_matrix_is_drawn_with_the_names(shop):
    pytest.importorskip("matplotlib", reason="matplotlib is optional")
    assert (shop.folder / "confusion_matrix.png").exists()
    assert [*WORDS] in [labels and [*labels] for labels in shop.drawn]


def test_predict_python_and_transformers_give_the_same(shop):
    pipeline = pytest.importorskip("transformers").pipeline
    texts = [text for text, _ in shop_rows(4, seed=1)] + ["", "무관한 글", "ㅋㅋ 😀 긴 " * 9]
    options = [word for text in texts for word in ("--text", text)]
    shell = lines_of(predict(shop.folder, *options, "--all_scores").out)
    python = Classifier.from_pretrained(shop.folder, "cpu", max_seq_length=32)
    theirs = pipeline("text-classification", model=str(shop.folder), device="cpu")
    for text, row in zip(texts, shell):
        assert set(row) == {"text", "label", "score", "scores"} and row["text"] == text
        (ours,) = python(text)
        (other,) = theirs(text, truncation=True, max_length=32)
        assert row["label"] == ours["label"] == other["label"]
        assert row["score"] == pytest.approx(ours["score"], abs=1e-5)
        assert row["score"] == pytest.approx(other["score"], abs=1e-5)
        assert [*row["scores"]] == [*WORDS] and sum(row["scores"].values()) == pytest.approx(1)
        assert max(row["scores"].values()) == row["score"] == row["scores"][row["label"]]
    assert [row["label"] for row in shell[:4]] == ["가격", "배송", "상품", "가격"]


def test_predictions_with_all_scores_are_a_training_file(shop, config, tmp_path):
    rows = [("리뷰",), *((text,) for text, _ in shop_rows(120, seed=2))]
    texts = write_csv(tmp_path / "texts.csv", rows)
    taught = tmp_path / "taught.jsonl"
    predict(shop.folder, "--test_file", texts, "--all_scores", "--output_file", taught)
    result = tuned(config, taught, tmp_path / "run", "--max_steps", 2, "--no-test")
    assert "texts from '리뷰', labels from 'label', 'scores'" in result.err
    assert read_json(tmp_path / "run/config.json")["id2label"] == {
        "0": "가격", "1": "배송", "2": "상품"}


def test_id2label_of_the_folder_names_the_answers(plain, tmp_path):
    folder = shutil.copytree(plain, tmp_path / "named")
    names = {"0": "나쁨", "1": "좋음"}
    config = read_json(folder / "config.json")
    config |= {"id2label": names, "label2id": {name: int(i) for i, name in names.items()}}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (old,), (new,) = (lines_of(predict(path, "--text", "글").out) for path in (plain, folder))
    assert new["label"] == {"negative": "나쁨", "positive": "좋음"}[old["label"]]
    assert new["score"] == old["score"]


# ---- Classes

def names_of(path, rows):
    examples = convbert.read_examples(write_csv(path, [("text", "label"), *rows]), ARGS)
    return convbert.class_names(examples), examples


@pytest.mark.parametrize("labels, names", [
    ("0 1", ["negative", "positive"]), ("1 0", ["negative", "positive"]),
    ("1 2", ["1", "2"]), ("5 4 3 2 1", ["1", "2", "3", "4", "5"]), ("0 1 2", ["0", "1", "2"]),
    ("10 9 -1 100", ["-1", "9", "10", "100"]), ("긍정 부정", ["긍정", "부정"]),
    ("b a 10 9", ["10", "9", "a", "b"])])
def test_labels_of_the_training_file_become_the_classes(labels, names, tmp_path):
    labels = labels.split() * 2
    found, examples = names_of(tmp_path / "a.csv", [(f"글 {i}", x) for i, x in enumerate(labels)])
    assert [*found.items()] == [*enumerate(names)]
    targets = convbert.class_targets(examples, found).tolist()
    back = {"negative": "0", "positive": "1"} if found == NSMC else {}
    assert [back.get(found[i], found[i]) for i in targets] == labels


def test_classes_of_unequal_size_and_texts_in_two_parts_are_said(config, tmp_path):
    rows = [(f"글 {i}", "흔함") for i in range(118)] + [("드문 글", "드묾")] * 6
    train = write_csv(tmp_path / "train.csv", [("text", "label"), *rows])
    dev = write_csv(tmp_path / "dev.csv", [("text", "label"), *rows[:3], ("새 글", "드묾")])
    result = tuned(config, train, tmp_path / "run", "--max_steps", 1, "--no-test",
                   "--validation_file", dev)
    assert "3 of the dev texts stand in train too" in result.err
    assert "classes of very unequal size: 흔함 118, 드묾 6" in result.err
    assert "rows: 124 train, 4 dev" in result.err


def splitting(train_file, validation_file):
    """What split_examples asks for, without a test part."""
    return Namespace(**vars(ARGS), train_file=train_file, validation_file=validation_file,
                     test_file=None, test=False, max_train_samples=None, max_eval_samples=None,
                     hard_label_share=0)


def test_a_class_without_a_row_to_train_on_is_said(tmp_path, capsys):
    rows = [*((f"글 {i}", "흔함") for i in range(30)), ("둘", "드묾"), ("셋", "드묾")]
    path = write_csv(tmp_path / "a.csv", [("text", "label"), *rows])
    args = splitting(path, None)
    parts = np.arange(30), np.arange(30, 32)  # both rows of the rare class are held out
    with mock.patch.object(convbert, "hold_out", lambda count: parts):
        convbert.split_examples(args)
    assert "classes without a train row: 1 of 2 ('드묾')" in capsys.readouterr().err


def test_a_class_that_is_taught_by_its_other_name_is_not_missed(tmp_path, capsys):
    """Scores, and words, are those of classes that the labels to compare with call 0 and 1."""
    scores = [{"text": f"글 {i}", "scores": {"negative": i % 2, "positive": 1 - i % 2}}
              for i in range(20)]
    numbers = [{"text": f"{i}", "label": i % 2} for i in range(9)]
    args = splitting(write_jsonl(tmp_path / "s.jsonl", scores),
                     write_jsonl(tmp_path / "n.jsonl", numbers))
    convbert.split_examples(args)
    assert "without a train row" not in capsys.readouterr().err


def test_names_that_look_alike_are_one(config, tmp_path, capsys):
    """macOS writes Hangul in parts; some editors leave blanks without width."""
    apart = functools.partial(unicodedata.normalize, "NFD")
    names = ["배송", apart("배송"), "\u200b배송", " 배송\ufeff"]
    rows = [*((f"글 {i}", names[i % 4]) for i in range(20)), ("a", "품질"), ("b", "품질")]
    path = write_csv(tmp_path / "a.csv", [(apart("리뷰"), apart("분류")), *rows])
    examples = convbert.read_examples(path, ARGS)
    assert convbert.class_names(examples) == {0: "배송", 1: "품질"}
    named = Namespace(text_column_name="리뷰", label_column_name="분류 ")
    assert convbert.read_examples(path, named) == examples
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "a", "scores": {"배송 ": 1, "품질": 0}}] * 2)
    assert convbert.class_names(convbert.read_examples(path, ARGS)) == {0: "배송", 1: "품질"}
    both = [{"text": "a", "scores": {"배송": 1, "품질": 0}, apart("분류"): "품질"}] * 2
    path = write_jsonl(tmp_path / "both.jsonl", both)
    assert convbert.read_examples(path, ARGS)[0].label == "품질"
    numbers = convbert.class_targets(examples, {0: apart("배송"), 1: "품질"})  # an older model's
    assert numbers.tolist() == [0] * 20 + [1] * 2


def test_empty_texts_and_the_names_of_0_and_1_are_said(tmp_path, capsys):
    rows = [("text", "label"), *((f"글 {i}" if i % 3 else " ", i % 2) for i in range(30))]
    path = write_csv(tmp_path / "a.csv", rows)
    args = splitting(path, path)
    convbert.split_examples(args)
    err = capsys.readouterr().err
    assert "10 of the train texts are empty" in err and "10 of the dev texts are empty" in err
    assert "labels 0 and 1 are called negative and positive" in err
    words = [(text, ("negative", "positive")[int(label)]) for text, label in rows[1:]]
    write_csv(path, [("text", "label"), *words])
    convbert.split_examples(args)
    err = capsys.readouterr().err
    assert "(negative, positive)" in err and "are called" not in err


def test_numbers_that_are_equal_have_one_order():
    rows = [convbert.Example("", "글", label, {}) for label in ("1", "01", "2", "001") * 2]
    assert [*convbert.class_names(rows).values()] == ["001", "01", "1", "2"]


def test_a_label_unknown_to_the_training_file_is_told_with_its_line(config, tmp_path):
    train = write_csv(tmp_path / "train.csv", [("text", "label"), *shop_rows(30)])
    rows = [("text", "label"), ("글\n줄", "가격"), ("글", "환불")]
    other = write_csv(tmp_path / "other.csv", rows)
    for option in ("--validation_file", "--test_file"):
        result = run(*tuning(config, train, tmp_path / "run", option, other))
        check_error(result, "other.csv, line 4", "'환불'", "가격, 배송, 상품")
    assert not (tmp_path / "run").exists()


# ---- Soft labels

def soft(rows, **more):
    return [{"text": text, "scores": {name: float(name == label) for name in WORDS}} | more
            for text, label in rows]


def test_soft_labels_equal_to_hard_ones_give_the_same_loss_and_gradients(tokenizer, tmp_path):
    rows, names = shop_rows(12), dict(enumerate(WORDS))
    hard = convbert.read_examples(
        write_csv(tmp_path / "a.csv", [("text", "label"), *rows]), ARGS)
    same_rows = convbert.read_examples(write_jsonl(tmp_path / "a.jsonl", soft(rows)), ARGS)
    assert texts_of(same_rows) == texts_of(hard) and {row.label for row in same_rows} == {""}
    assert convbert.class_names(hard) == convbert.class_names(same_rows) == names
    targets = [convbert.class_targets(part, names) for part in (hard, same_rows)]
    assert targets[0].dtype == torch.int64 and targets[1].dtype == torch.float32
    config = convbert.ConvBertConfig(**MODEL | {"id2label": names, "initializer_range": 0.3})
    model = ConvBertForSequenceClassification(config).eval()
    batch = convbert.collate(convbert.encode_texts(texts_of(hard), tokenizer, 32)[0], tokenizer.pad)
    found = []
    for labels in targets:
        loss = model(**batch, labels=labels).loss
        found.append([loss.detach(), *torch.autograd.grad(
            loss, [p for name, p in model.named_parameters() if "token_type" not in name])])
    for ours, theirs in zip(*found):
        same(ours, theirs, 1e-6)


def test_hard_label_share_mixes_label_and_scores(tmp_path):
    rows = [{"text": "a", "label": "x", "scores": {"x": 0.5, "y": 0.3, "z": 0.2}},
            {"text": "b", "label": "y", "scores": {"y": 0.1, "x": 0.9}},
            {"text": "c", "label": "z"}, {"text": "d", "scores": {"x": 0.25, "z": 0.75}}]
    examples = convbert.read_examples(write_jsonl(tmp_path / "mixed.jsonl", rows), ARGS)
    names = convbert.class_names(examples)
    assert names == {0: "x", 1: "y", 2: "z"}
    scores = torch.tensor([[0.5, 0.3, 0.2], [0.9, 0.1, 0], [0, 0, 1], [0.25, 0, 0.75]])
    label = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0.25, 0, 0.75]])
    for share in (0.0, 0.3, 1.0):
        targets = convbert.class_targets(examples, names, share)
        same(targets, share * label + (1 - share) * scores, 1e-6)


def test_soft_labels_of_the_nsmc_model_belong_to_labels_0_and_1(tmp_path):
    rows = [{"document": str(i), "label": i % 2, "scores": {"negative": 0.2, "positive": 0.8}}
            for i in range(4)]
    examples = convbert.read_examples(write_jsonl(tmp_path / "a.jsonl", rows), ARGS)
    assert convbert.class_names(examples) == NSMC
    same(convbert.class_targets(examples, NSMC, 0.5)[:2], torch.tensor([[0.6, 0.4], [0.1, 0.9]]))


def test_training_learns_from_scores_alone(config, tmp_path):
    """And reaches the option by the command line: a row's label that is wrong has no weight."""
    rows = shop_rows(240)
    train = soft(rows[:150]) + soft(rows[150:200], label="가격")
    train = write_jsonl(tmp_path / "train.jsonl", train)
    dev = write_csv(tmp_path / "dev.csv", [("text", "label"), *rows[200:]])
    tuned(config, train, tmp_path / "soft", "--validation_file", dev, "--test_file", dev,
                   "--num_train_epochs", 4)
    assert read_json(tmp_path / "soft/eval_results.json")["eval_accuracy"] > 0.9
    hard = write_jsonl(tmp_path / "hard.jsonl", soft(rows[:200], label="가격"))
    wrong = write_jsonl(tmp_path / "dev.jsonl", soft(rows[200:], label="가격"))
    tuned(config, hard, tmp_path / "hard", "--validation_file", wrong, "--test_file", dev,
          "--num_train_epochs", 2, "--hard_label_share", 1)
    (column,) = {tuple(map(bool, row)) for row in
                 read_json(tmp_path / "hard/eval_results.json")["confusion_matrix"]}
    assert column == (True, False, False)  # all are 가격


# ---- Files as people have them

TABLE = [("text", "label"), ("좋은 영화, 정말", "긍정"), ('그가 "최고"라 했다', "부정"),
         ("두 줄에\n걸친 글", "긍정"), ("넷째", "부정"), ("", "긍정")]


def read(path, **changes):
    examples = convbert.read_examples(path, Namespace(**vars(ARGS) | changes))
    lines = [int(row.where.rpartition(" ")[2]) for row in examples]
    return texts_of(examples), [row.label for row in examples], lines


@pytest.mark.parametrize("sep", [",", "\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp949"])
def test_tables_in_all_encodings_with_quoted_fields(sep, newline, encoding, tmp_path, capsys):
    path = write_csv(tmp_path / "표.txt", TABLE, encoding, sep, newline)
    texts, labels, lines = read(path)
    assert list(zip(texts, labels)) == TABLE[1:]
    assert lines == [2, 3, 4, 6, 7]  # the third row has two
    said = capsys.readouterr().err
    assert ("not UTF-8; read as cp949" in said) == (encoding == "cp949")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp949"])
def test_json_lines_in_all_encodings(encoding, tmp_path):
    rows = [{"text": text, "label": label} for text, label in TABLE[1:]]
    text = write_jsonl(tmp_path / "a.jsonl", rows).read_text(encoding="utf-8")
    (tmp_path / "a.jsonl").write_bytes(text.replace("\n", "\r\n\n").encode(encoding))
    texts, labels, lines = read(tmp_path / "a.jsonl")
    assert list(zip(texts, labels)) == TABLE[1:] and lines == [1, 3, 5, 7, 9]


@pytest.mark.parametrize("sep", [",", "\t"])
def test_blank_lines_are_no_rows_and_may_come_before_the_header(sep, tmp_path):
    path = tmp_path / "a.csv"
    table = "\n \n리뷰,분류\n하나,배송\n\n둘,품질\n셋,배송\n".replace(",", sep)
    path.write_text(table, encoding="utf-8")
    assert read(path) == (["하나", "둘", "셋"], ["배송", "품질", "배송"], [4, 6, 7])
    limited = convbert.read_examples(path, ARGS, 2)
    assert texts_of(limited) == ["하나", "둘"]


def test_two_columns_of_one_name_are_told(tmp_path):
    path = write_csv(tmp_path / "a.csv", [("text", "text", "label"), ("a", "b", "1")])
    message = refusal(convbert.read_examples, path, ARGS)
    assert "a.csv, line 1: two columns are named 'text'" in message


def test_semicolons_separate_where_there_is_no_comma(tmp_path):
    path = write_csv(tmp_path / "a.csv", TABLE, sep=";")
    assert list(zip(*read(path)[:2])) == TABLE[1:]


def test_a_quotation_mark_too_many_is_said(tmp_path, capsys):
    rows = [f"글 {i},배송" for i in range(25)]
    rows = ["리뷰,분류", '"최고의 제품,품질', *rows, '또",가격', "끝,가격"]
    (tmp_path / "a.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    read(tmp_path / "a.csv")
    assert "Is the longest, lines 2 to 28, one row, or is" in capsys.readouterr().err


def test_blanks_around_the_name_of_a_column_do_not_matter(tmp_path):
    path = write_csv(tmp_path / "a.csv", [(" 글 ", "부류"), ("하나", "x"), ("둘", "y")])
    assert read(path, text_column_name="글", label_column_name=" 부류")[0] == ["하나", "둘"]


def test_line_numbers_are_right_beyond_a_chunk(tmp_path, monkeypatch):
    monkeypatch.setattr(convbert, "CHUNK", 3)
    rows = [(f"글 {i}" + "\n줄" * (i % 3), "가나"[i % 2]) for i in range(20)]
    path = write_csv(tmp_path / "a.csv", [("text", "label"), *rows])
    texts, labels, lines = read(path)
    assert list(zip(texts, labels)) == rows
    raw = path.read_text(encoding="utf-8").split("\n")
    assert [raw[n - 1].lstrip('"').split(",")[0].rstrip('"') for n in lines] == [
        text.partition("\n")[0] for text in texts]


def test_only_nsmcs_own_header_has_nsmcs_quotes(tmp_path):
    lines = '1\t"""그 """"말"""""\t0\n2\t"시작\t1\n'
    (tmp_path / "nsmc.txt").write_text("id\tdocument\tlabel\n" + lines, encoding="utf-8")
    assert read(tmp_path / "nsmc.txt")[0] == ['그 "말"', '"시작']
    (tmp_path / "own.txt").write_text('id\ttext\tlabel\n1\t"그 ""말"""\t0\n2\tb\t1\n')
    assert read(tmp_path / "own.txt")[0] == ['그 "말"', "b"]


@pytest.mark.parametrize("text, label", [
    ("document", "label"), ("text", "label"), ("sentence", "label"), ("리뷰", "감정"),
    ("Review", "Sentiment"), ("내용", "라벨"), ("댓글", "분류")])
def test_usual_columns_are_found_and_said(text, label, tmp_path, capsys):
    path = write_csv(tmp_path / "a.csv", [("no", label, text), (1, "x", "글"), (2, "y", "말")])
    assert read(path)[:2] == (["글", "말"], ["x", "y"])
    said = capsys.readouterr().err
    assert (f"texts from {text!r}, labels from {label!r}" in said) == (text != "document")


def test_columns_may_be_named(tmp_path, capsys):
    rows = [("text", "review", "label", "점수"), ("a", "b", "x", "1"), ("c", "d", "y", "2")]
    path = write_csv(tmp_path / "a.csv", rows)
    assert read(path, text_column_name="review", label_column_name="점수")[:2] == (
        ["b", "d"], ["1", "2"])
    assert "texts from 'review', labels from '점수'" in capsys.readouterr().err


@pytest.mark.parametrize("task", ["finetune", "evaluate", "predict"])
def test_half_a_character_in_json_is_no_traceback(task, plain, config, tmp_path):
    path = tmp_path / "half.jsonl"
    lines = ['{"text": "\\ud83d 반쪽", "label": 0}', '{"text": "온전", "label": 1}'] * 3
    path.write_text("\n".join(lines), encoding="utf-8")
    if task == "finetune":
        result = run(*tuning(config, path, tmp_path / "run", "--max_steps", 1))
    else:
        out = ["--output_file", tmp_path / "out.jsonl"] if task == "predict" else []
        result = run("--task", task, "--model_name_or_path", plain, *CHEAP, "--test_file", path,
                     "--output_dir", tmp_path / "run", *out)
    assert result.code == 0, result.err


# ---- Splits

def split(tmp_path, name, *more, rows=None):
    """(examples by part, stderr's last lines) of a fine-tuning with these options."""
    path = write_csv(tmp_path / "train.csv", [("text", "label"), *(rows or shop_rows(300))])
    args = convbert.parse_options([
        "--task", "finetune", "--train_file", str(path), "--size", "tiny", "--device", "cpu",
        "--output_dir", str(tmp_path / name), *map(str, more)])
    convbert.settle(args)
    return convbert.split_examples(args)[0]


def test_two_seeds_hold_out_the_same_rows(tmp_path):
    one, other = (split(tmp_path, "a", "--seed", seed) for seed in (1, 2))
    for name in ("train", "dev", "test"):
        assert texts_of(one[name]) == texts_of(other[name])
    assert {name: len(part) for name, part in one.items()} == {
        "train": 200, "test": 50, "dev": 50}
    texts = [set(texts_of(part)) for part in one.values()]
    assert len(set.union(*texts)) == 300  # each row in one part
    order = [convbert.hold_out(1000) for _ in range(2)]
    assert all((a == b).all() for a, b in zip(*order))


def test_two_seeds_hold_out_the_same_rows_through_the_command_line(data, config, tmp_path):
    """The first evaluation, before any update, differs by the weights alone; the rows are one."""
    seen = []
    for seed in (1, 2):
        with mock.patch.object(convbert, "classify", side_effect=convbert.classify) as classify:
            tuned(config, data / "ratings_train.txt", tmp_path / str(seed), "--seed", seed,
                  "--max_steps", 1)
        seen.append([[row.tolist() for row in call.args[1]] for call in classify.call_args_list])
    assert seen[0] == seen[1]
    parts = [(tmp_path / seed / "test.jsonl").read_bytes() for seed in "12"]
    assert parts[0] == parts[1]


def test_test_part_is_kept_whole(shop):
    kept, rows = lines_of(shop.folder / "test.jsonl"), dict(shop_rows(300))
    assert len(kept) == 50
    assert all(rows[row["text"]] == row["label"] for row in kept)


def test_no_test_leaves_testing_out(config, tmp_path):
    train = write_csv(tmp_path / "a.csv", [("text", "label"), *shop_rows(120)])
    result = tuned(config, train, tmp_path / "run", "--max_steps", 1, "--no-test")
    scores = read_json(tmp_path / "run/eval_results.json")
    assert set(scores) == {"dev_accuracy", "step"}
    assert not (tmp_path / "run/test.jsonl").exists()
    assert "rows: 96 train, 24 dev" in result.err
    result = run("--task", "evaluate", "--model_name_or_path", tmp_path / "run", *CHEAP)
    check_error(result, "keeps no test part", "--test_file")


def test_own_labels_0_and_1_are_not_scored_on_nsmc(config, tmp_path):
    """Whether no rows were kept to test on, or the file of those that were is gone."""
    rows = [("text", "label"), *((f"{i}번째 글", i % 2) for i in range(60))]
    train, test = (write_csv(tmp_path / f"{name}.csv", rows) for name in ("train", "test"))
    for why, more in (("keeps no test part", ["--no-test"]), ("is gone", ["--test_file", test])):
        tuned(config, train, tmp_path / "run", "--max_steps", 1, "--overwrite_output_dir", *more)
        test.unlink(missing_ok="--test_file" in more)
        result = run("--task", "evaluate", "--model_name_or_path", tmp_path / "run", *CHEAP)
        check_error(result, why, "--test_file")
        write_csv(test, rows)


def test_a_checkpoint_is_scored_on_the_test_part_of_its_run(shop, tmp_path):
    checkpoint = convbert.checkpoints(shop.folder)[-1]
    result = run("--task", "evaluate", "--model_name_or_path", checkpoint, *CHEAP,
                 "--output_dir", tmp_path)
    assert result.code == 0 and f"test file: {shop.folder / 'test.jsonl'}" in result.err


def test_validation_file_is_dev_and_nothing_is_cut_for_it(tmp_path):
    dev = write_csv(tmp_path / "dev.csv", [("text", "label"), *shop_rows(9, seed=5)])
    for option in ("--validation_file", "--valid_file"):
        parts = split(tmp_path, "a", option, dev)
        assert len(parts["train"]) == 250 and len(parts["test"]) == 50
        assert texts_of(parts["dev"]) == [text for text, _ in shop_rows(9, seed=5)]
    parts = split(tmp_path, "a", "--validation_file", dev, "--test_file", dev)
    assert (len(parts["train"]), texts_of(parts["test"])) == (300, texts_of(parts["dev"]))


def test_a_test_file_is_scored_and_found_again(config, tmp_path):
    train = write_csv(tmp_path / "a.csv", [("text", "label"), *shop_rows(120)])
    test = write_csv(tmp_path / "b.csv", [("text", "label"), *shop_rows(12, seed=3)])
    tuned(config, train, tmp_path / "run", "--max_steps", 1, "--test_file", test)
    assert read_json(tmp_path / "run/eval_results.json")["test_file"] == str(test)
    assert not (tmp_path / "run/test.jsonl").exists()
    result = run("--task", "evaluate", "--model_name_or_path", tmp_path / "run", *CHEAP,
                 "--output_dir", tmp_path / "again")
    assert f"test file: {test}" in result.err
    assert read_json(tmp_path / "again/eval_results.json")["eval_samples"] == 12


def test_nsmcs_test_file_is_for_nsmcs_training_file_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(convbert, "data_file", lambda name: tmp_path / name)
    for given, train, test in ((None, "nsmc/ratings_train.txt", "nsmc/ratings_test.txt"),
                               ("own.csv", "own.csv", None)):
        options = ["--train_file", given] if given else []
        args = convbert.parse_options(["--task", "finetune", "--size", "tiny", *options])
        convbert.settle(args)
        assert (args.train_file, args.test_file) == (
            given or tmp_path / train, test and tmp_path / test)


# ---- Predictions

def test_a_file_keeps_its_columns_and_order(plain, tmp_path, monkeypatch):
    monkeypatch.setattr(convbert, "CHUNK", 7)
    rows = [(str(i), f"{i}번째 {'긴 ' * (i % 5)}글", "01"[i % 2]) for i in range(40)]
    path = write_csv(tmp_path / "a.csv", [("번호", "리뷰", "label"), *rows], "cp949")
    found = lines_of(predict(plain, "--test_file", path).out)
    assert [(row["번호"], row["리뷰"], row["label"]) for row in found] == rows
    assert {frozenset(row) for row in found} == {
        frozenset(["번호", "리뷰", "label", "predicted_label", "score"])}
    alone = [lines_of(predict(plain, f"--text={rows[i][1]}").out)[0] for i in (0, 13, 39)]
    assert [found[i]["predicted_label"] for i in (0, 13, 39)] == [row["label"] for row in alone]
    assert [found[i]["score"] for i in (0, 13, 39)] == pytest.approx(
        [row["score"] for row in alone], abs=1e-5)


def test_columns_of_the_file_are_not_overwritten(plain, tmp_path):
    names = ("text", "Label", "score", "predicted_label")
    rows = [("하나", "1", "0.5", "x"), ("둘", "0", "0.3", "y")]
    path = write_csv(tmp_path / "a.csv", [names, *rows])
    found = lines_of(predict(plain, "--test_file", path).out)
    assert [tuple(row[name] for name in names) for row in found] == rows
    assert [*found[0]] == [*names, "predicted_predicted_label", "predicted_score"]


def test_a_program_error_while_predicting_is_not_called_a_full_disk(plain, tmp_path, monkeypatch):
    def classify(*args):
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(convbert, "classify", classify)
    with pytest.raises(RuntimeError, match="shapes"):
        predict(plain, "--text=a", "--output_file", tmp_path / "a.jsonl")


def test_json_lines_keep_what_each_row_has(plain, tmp_path):
    rows = [{"text": "하나", "n": 1, "more": {"a": [None, True]}}, {"text": "둘"},
            {"text": "셋", "n": 2.5}]
    found = lines_of(predict(plain, "--test_file", write_jsonl(tmp_path / "a.jsonl", rows)).out)
    for row, answer in zip(rows, found, strict=True):
        assert {k: v for k, v in answer.items() if k not in ("label", "score") and (
            k in row or v is not None)} == row


def test_windows_of_lines_keep_the_order(plain, monkeypatch):
    monkeypatch.setattr(convbert, "CHUNK", 16)
    sizes, encode = [], convbert.encode_texts

    def noted(texts, *more):
        sizes.append(len(texts))
        return encode(texts, *more)

    monkeypatch.setattr(convbert, "encode_texts", noted)
    lines = [f"{i} {'긴 ' * (i * 7 % 11)}글" for i in range(100)]
    result = predict(plain, stdin="\n".join(lines).encode())
    assert [row["text"] for row in lines_of(result.out)] == lines
    assert len(sizes) > 1 and sum(sizes) == 100


def test_a_pipe_answers_before_it_is_closed(plain):
    answers_read, answers_written = os.pipe()
    texts_read, texts_written = os.pipe()
    options = ["--task", "predict", "--model_name_or_path", str(plain), *CHEAP]
    with (open(texts_read, encoding="utf-8") as stdin,
          open(answers_written, "w", encoding="utf-8") as stdout,
          mock.patch("sys.stdin", stdin), mock.patch("sys.stdout", stdout)):
        thread = threading.Thread(target=convbert.main, args=[options], daemon=True)
        thread.start()
        for text in ("좋다", "싫다 😀"):
            os.write(texts_written, f"{text}\n".encode())
            assert select.select([answers_read], [], [], 60)[0], "no answer"
            assert json.loads(os.read(answers_read, 10000))["text"] == text
        os.close(texts_written)
        thread.join(60)
    assert not thread.is_alive() and os.read(answers_read, 10000) == b""
    os.close(answers_read)


class Endless(io.RawIOBase):
    """A stdin of so many lines, of which none is made before it is read."""

    def __init__(self, count):
        self.lines, self.rest = (f"{i}번째 글\n".encode() for i in range(count)), b""

    def readable(self):
        return True

    def readinto(self, buffer):
        while len(self.rest) < 1000 and (line := next(self.lines, b"")):
            self.rest += line
        part, self.rest = self.rest[: len(buffer)], self.rest[len(buffer) :]
        buffer[: len(part)] = part
        return len(part)


def test_memory_does_not_grow_with_the_number_of_lines(plain, tmp_path, monkeypatch):
    monkeypatch.setattr(convbert, "CHUNK", 256)
    peaks = []
    for count in (300, 2000, 8000):  # the first makes what is kept for good
        out = tmp_path / f"{count}.jsonl"
        options = ["--task", "predict", "--model_name_or_path", str(plain), *CHEAP,
                   "--output_file", str(out)]
        with mock.patch("sys.stdin", io.TextIOWrapper(io.BufferedReader(Endless(count)))):
            tracemalloc.start()
            convbert.main(options)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        assert out.read_bytes().count(b"\n") == count
    assert peaks[2] < 1.2 * peaks[1]


def test_output_file_is_whole_or_not_there(plain, tmp_path, monkeypatch):
    out = tmp_path / "new/answers.jsonl"
    result = predict(plain, "--text", "하나", "--text", "둘 😀", "--output_file", out)
    assert result.out == ""
    assert [row["text"] for row in lines_of(out)] == ["하나", "둘 😀"]
    before, calls = out.read_bytes(), []

    def dies(*args):
        calls.append(args)
        if len(calls) == 3:
            raise Crash
        return classify(*args)

    classify = convbert.classify
    monkeypatch.setattr(convbert, "classify", dies)
    monkeypatch.setattr(convbert, "CHUNK", 4)
    for path, content in ((out, before), (tmp_path / "other.jsonl", None)):
        calls.clear()
        with pytest.raises(Crash):
            predict(plain, "--output_file", path, stdin="글\n".encode() * 200)
        assert (path.read_bytes() if path.exists() else None) == content


def test_cut_texts_are_counted(plain, tmp_path, config):
    long = "정말 긴 글입니다 " * 30
    result = predict(plain, "--text", long, "--text", "짧다", "--text", long)
    assert "2 of 3 texts were longer than --max_seq_length 32 and were cut" in result.err
    assert "were cut" not in predict(plain, "--text", "짧다").err
    rows = [(f"{i} {long * (i == 5)}", "01"[i % 2]) for i in range(110)]
    train = write_csv(tmp_path / "a.csv", [("text", "label"), *rows])
    result = tuned(config, train, tmp_path / "run", "--max_steps", 1, "--no-test")
    assert result.err.count("were cut") == 1
    assert re.search(r"1 of \d+ (train|dev) texts", result.err)


def test_text_that_looks_like_an_option(plain):
    (row,) = lines_of(predict(plain, "--text=--실망--").out)
    assert row["text"] == "--실망--"
    result = run("--task", "predict", "--model_name_or_path", plain, "--text", "--실망--")
    check_error(result, "--text", "--option=VALUE")


def answered(plain, *options, redirect="", **environment):
    """What the command prints; `redirect` is the shell's way to close one of its streams."""
    command = [sys.executable, str(SCRIPT), "--task", "predict", "--model_name_or_path", str(plain),
               *CHEAP, *options]
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {redirect}', "sh", *command], capture_output=True, timeout=300,
        stdin=subprocess.DEVNULL, env=os.environ | {"PYTHONUTF8": "1"} | environment)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode("utf-8")


def test_answers_are_utf8_where_output_is_redirected_on_a_korean_windows(plain):
    out = answered(plain, "--text=좋아요 😀", PYTHONIOENCODING="cp949")
    assert json.loads(out)["text"] == "좋아요 😀"


def test_a_text_is_answered_without_stdin(plain):
    assert json.loads(answered(plain, "--text=좋아요", redirect="<&-"))["text"] == "좋아요"


def test_stdout_holds_answers_alone_where_stderr_is_closed(plain):
    out = answered(plain, "--text=좋아요", "--layer=1", redirect="2>&-")
    assert json.loads(out)["text"] == "좋아요"


def test_two_may_write_to_one_output_file(plain, tmp_path):
    out = tmp_path / "out.jsonl"
    with convbert.replacing(out) as temporary:
        temporary.write_text("the first one's")
        answered(plain, "--text=좋아요", f"--output_file={out}")
        assert [row["text"] for row in lines_of(out.read_text("utf-8"))] == ["좋아요"]
    assert out.read_text() == "the first one's" and [*tmp_path.iterdir()] == [out]


def test_no_stdin_and_no_text_is_told(plain, monkeypatch):
    monkeypatch.setattr(convbert.sys, "stdin", None)
    options = ["--task", "predict", "--model_name_or_path", str(plain), *CHEAP]
    err = io.StringIO()
    with mock.patch("sys.stderr", err), pytest.raises(SystemExit) as end:
        convbert.main(options)
    assert end.value.code == 2
    assert "there is no stdin; give --text or --test_file" in err.getvalue()


def test_stdin_in_another_encoding_is_read_and_said(plain):
    text = "다시 보고 싶은 영화"
    result = predict(plain, stdin=f"{text}\n".encode("cp949") + f"{text}\n".encode())
    assert [row["text"] for row in lines_of(result.out)] == [text, text]
    assert "stdin: 1 lines are not UTF-8; read as cp949" in result.err
    result = predict(plain, stdin=f"{text}\n".encode() + b"\xff\xff\n")
    assert [row["text"] for row in lines_of(result.out)] == [text, "\ufffd\ufffd"]
    assert "stdin: 1 lines are not UTF-8; read as damaged UTF-8" in result.err


def test_question_marks_in_the_place_of_korean_are_told(plain):
    result = predict(plain, stdin=b"???? ??? 10.\r\n\n what?\n??")
    assert [row["text"] for row in lines_of(result.out)] == ["???? ??? 10.", "", " what?", "??"]
    assert "stdin: 2 lines hold question marks and no letter" in result.err
    assert "question marks" not in predict(plain, stdin="좋아요?\n".encode()).err


def test_no_text_at_all_is_said(plain, tmp_path):
    assert "no text" in predict(plain).err
    (tmp_path / "out.jsonl").write_text("answers")
    result = run("--task", "predict", "--model_name_or_path", plain, *CHEAP, "--output_file",
                 tmp_path / "out.jsonl")
    check_error(result, "no text to predict")
    assert (tmp_path / "out.jsonl").read_text() == "answers"


def test_stdin_that_cannot_be_read_ends_the_program(plain, tmp_path):
    """And does not let it wait for ever: here it is open for writing only."""
    options = ["--task", "predict", "--model_name_or_path", str(plain), *CHEAP]
    codes, err = [], io.StringIO()

    def command():
        try:
            convbert.main(options)
        except SystemExit as end:
            codes.append(end.code)

    with (open(tmp_path / "out", "w") as stdin, mock.patch("sys.stdin", stdin),
          mock.patch("sys.stderr", err)):
        thread = threading.Thread(target=command, daemon=True)
        thread.start()
        thread.join(30)
    assert codes == [2] and "stdin cannot be read" in err.getvalue()


# ---- From Python

def test_classifier_answers_as_its_docstring_says(plain):
    classify = Classifier.from_pretrained(plain)
    found = classify("배우들 연기가 정말 좋았어요")
    assert isinstance(found, list) and len(found) == 1 and [*found[0]] == ["label", "score"]
    assert found[0]["label"] in ("negative", "positive")
    assert isinstance(found[0]["score"], float) and 0.5 <= found[0]["score"] <= 1
    assert classify([]) == [] and not classify.model.training
    assert classify.model.classifier.out_proj.weight.device.type == convbert.choose_device().type


def test_docstring_example_runs(plain, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(plain, "runs/finetune")
    lines = [line.strip() for line in Classifier.__doc__.splitlines()]
    first, second = [line[4:] for line in lines if line.startswith(">>> ")]
    scope = {"Classifier": Classifier}
    exec(first, scope)
    (answer,), (shown,) = eval(second, scope), eval(lines[lines.index(">>> " + second) + 1])
    assert {k: type(v) for k, v in answer.items()} == {k: type(v) for k, v in shown.items()}


def test_a_classifier_may_be_given_its_vocabulary(plain, tmp_path):
    bare = shutil.copytree(plain, tmp_path / "bare")
    (bare / "spiece.model").unlink()
    assert "--vocab_file" in refusal(Classifier.from_pretrained, bare)
    classify = Classifier.from_pretrained(bare, vocab_file=ROOT / "vocab/kowiki.model")
    assert classify("글") == Classifier.from_pretrained(plain)("글")
    assert refusal(classify, ["글", None]).startswith("text 1")


@pytest.mark.parametrize("mask", [True, False])
def test_answers_do_not_depend_on_the_batch(mask, tokenizer, tmp_path):
    folder = small(tmp_path / "model", tokenizer, conv_padding_mask=mask)
    classify = Classifier.from_pretrained(folder, "cpu", max_seq_length=32, batch_size=8)
    texts = [f"{i} {'긴 ' * (i * 7 % 11)}글" for i in range(20)]
    together = classify(texts, all_scores=True)
    for text, answer in zip(texts, together):
        (alone,) = classify(text, all_scores=True)
        assert alone["scores"] == pytest.approx(answer["scores"], abs=1e-6)


def test_models_come_in_eval_mode(plain, models):
    assert not ConvBertForSequenceClassification.from_pretrained(plain).training
    for cls in (convbert.ConvBertModel, convbert.ConvBertForMaskedLM):
        assert not cls.from_pretrained(models / "plain").training


# ---- The vocabulary belongs to the model's folder

@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Two vocabularies in a folder: of 1,500 pieces, and kowiki's with two pieces exchanged.

    Beside them lie kowiki's files for transformers, which belong to neither.
    """
    folder = tmp_path_factory.mktemp("vocab")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(ROOT / "vocab" / name, folder)
    sentencepiece.SentencePieceTrainer.train(
        input=str(SAMPLE / "kowiki.txt"), model_prefix=str(folder / "own"), vocab_size=1500,
        model_type="bpe", pad_id=0, pad_piece="[PAD]", unk_id=1, unk_piece="[UNK]", bos_id=2,
        bos_piece="[BOS]", eos_id=3, eos_piece="[EOS]", user_defined_symbols="[SEP],[CLS],[MASK]",
        num_threads=1, minloglevel=2)
    raw = (ROOT / "vocab/kowiki.model").read_bytes()
    one, two = "▁음악".encode(), "▁좋아".encode()
    assert raw.count(one) == raw.count(two) == 1
    raw = raw.replace(one, b"@" * 9).replace(two, one).replace(b"@" * 9, two)
    (folder / "swapped.model").write_bytes(raw)
    return folder


def model_folders(folder):
    return [path.parent for path in folder.rglob("model.safetensors")]


@pytest.mark.parametrize("task", ["pretrain", "finetune"])
def test_every_model_folder_holds_its_vocabulary(task, data, tmp_path):
    job = {"pretrain": pretraining, "finetune": finetuning}[task]
    result = run(*job(data, tmp_path / "run", "--max_steps", 2, "--save_steps", 1, "--size", "tiny",
                      "--max_train_samples", 60))
    assert result.code == 0, result.err
    folders = model_folders(tmp_path)
    assert len(folders) == 3  # the run's and two checkpoints'
    for folder in folders:
        for name, own in (("kowiki.model", "spiece.model"), ("tokenizer.json", "tokenizer.json")):
            assert (folder / own).read_bytes() == (ROOT / "vocab" / name).read_bytes()
        assert read_json(folder / "tokenizer_config.json") == read_json(
            ROOT / "vocab/tokenizer_config.json")
    assert "transformers cannot read" not in result.err


def test_a_vocabulary_that_goes_during_a_run_is_in_its_folders_all_the_same(tmp_path):
    shutil.copytree(ROOT / "vocab", tmp_path / "vocab")
    tokenizer = convbert.Tokenizer(tmp_path / "vocab/kowiki.model")
    shutil.rmtree(tmp_path / "vocab")
    assert tokenizer.save(tmp_path / "model")
    for name, kept in (("spiece.model", "kowiki.model"), ("tokenizer.json", "tokenizer.json")):
        assert (tmp_path / "model" / name).read_bytes() == (ROOT / "vocab" / kept).read_bytes()


def test_transformers_fails_on_a_folder_without_files_for_it(data, other, tmp_path):
    transformers = pytest.importorskip("transformers")
    result = run(*finetuning(data, tmp_path / "run", "--size", "tiny", "--max_steps", 1,
                             "--vocab_file", other / "own.model", "--max_train_samples", 60))
    assert result.code == 0, result.err
    assert "tokenizer_json.py" in result.err and str(tmp_path / "run/spiece.model") in result.err
    for folder in model_folders(tmp_path):
        assert (folder / "spiece.model").read_bytes() == (other / "own.model").read_bytes()
        assert not (folder / "tokenizer.json").exists()
        with pytest.raises(Exception):  # noqa: B017  of which kind is transformers' business
            transformers.AutoTokenizer.from_pretrained(folder)
    # a fine-tuning from that folder goes on with its vocabulary, and so do predict and evaluate
    result = run(*finetuning(data, tmp_path / "next", "--model_name_or_path", tmp_path / "run",
                             "--max_steps", 1, "--max_train_samples", 60))
    assert result.code == 0, result.err
    assert (tmp_path / "next/spiece.model").read_bytes() == (other / "own.model").read_bytes()
    assert lines_of(predict(tmp_path / "run", "--text", "글").out)[0]["text"] == "글"


def test_the_vocabulary_of_the_folder_decides(plain, other, tmp_path):
    """Though the bundled one has the same size."""
    folder = shutil.copytree(plain, tmp_path / "model")
    shutil.copy(other / "swapped.model", folder / "spiece.model")
    ours = lines_of(predict(folder, "--text", "음악", "--text", "좋아").out)
    bundled = lines_of(predict(plain, "--text", "좋아", "--text", "음악").out)
    assert [row["score"] for row in ours] == [row["score"] for row in bundled]
    assert ours[0]["score"] != ours[1]["score"]
    test = ["--test_file", SAMPLE / "ratings_test.txt", "--output_dir", tmp_path / "out"]
    for task, more in (("predict", ["--text", "글"]), ("evaluate", test)):
        options = ["--task", task, "--model_name_or_path", folder, *CHEAP, *more]
        given = ROOT / "vocab/kowiki.model"
        check_error(run(*options, "--vocab_file", given), str(given), str(folder / "spiece.model"))
        result = run(*options, "--vocab_file", other / "swapped.model")  # the same by content
        assert result.code == 0, result.err
        (folder / "spiece.model").unlink()
        check_error(run(*options), "holds no spiece.model", "--vocab_file")
        result = run(*options, "--vocab_file", other / "swapped.model")
        assert result.code == 0, result.err
        shutil.copy(other / "swapped.model", folder / "spiece.model")


# ---- What is lost or taken for something else, said

def test_a_stray_quotation_mark_that_joins_rows_is_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('text,label\n"좋다,1\n나쁘다,0\n"아,1\n그래,0\n', encoding="utf-8")
    with pytest.raises(convbert.UserError, match=r"a\.csv, line 4: a quotation mark is stray"):
        list(convbert.read_table(path))


def test_a_stray_quotation_mark_within_a_row_is_told(tmp_path, capsys):
    path = tmp_path / "a.tsv"
    path.write_text('text\tlabel\n"최고" 라는 말\t1\n그래\t0\n', encoding="utf-8")
    (table,) = convbert.read_table(path)
    assert [row["text"] for _, row in table[1]] == ["최고 라는 말", "그래"]
    assert "a.tsv, line 2: a quotation mark is stray" in capsys.readouterr().err


@pytest.mark.parametrize("table, why", [
    ("text,label\na,1\nb,c,1\n", "line 3: 3 fields, but 2 columns"),
    ("text\tlabel\na\t1\nb\nc\t0\n", "line 3: has no label"),  # a line break in b
    ("label\ttext\n1\ta\n1\tb\nc\n", "line 4: has no text"),  # the same
    ('text\tlabel\na\t0\n"b\t1\nc"\t0\n', "line 3: a quotation mark opens a field that holds"),
    ('text,label\na,1\n"b,1\nc,1\n', "line 4: a quotation mark is stray (unexpected end of data)"),
    ('{"text": "a", "label": 1}\n["text", "b"]\n', "line 2: not a JSON object")])
def test_rows_that_are_none_are_told_with_their_line(table, why, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(table, encoding="utf-8")
    assert f"a.csv, {why}" in refusal(convbert.read_examples, path, ARGS)
    (first,) = convbert.read_table(path, 1)  # reads no further than it has to
    assert [row["text"] for _, row in first[1]] == ["a"]


def test_empty_columns_at_the_end_may_lack_but_are_told(plain, tmp_path):
    """Excel may leave them out; a line break in a text looks the same."""
    path = tmp_path / "a.csv"
    path.write_text("text,memo,label\n가,,1\n나\n다\n", encoding="utf-8")
    result = predict(plain, "--test_file", path)
    assert [row["text"] for row in lines_of(result.out)] == ["가", "나", "다"]
    assert result.err.count("fields, but 3 columns; if a text holds a line break") == 1
    assert "a.csv, line 3: 1 fields" in result.err


def test_a_header_may_have_lines_and_unnamed_columns(tmp_path):
    rows = [("", "리뷰\n(고객)", "", "분류"), ("1", "좋다", "", "x"), ("2", "나쁘다", "", "y")]
    path = write_csv(tmp_path / "a.csv", rows)
    texts, labels, lines = read(path, text_column_name="리뷰\n(고객)")
    assert (texts, labels, lines) == (["좋다", "나쁘다"], ["x", "y"], [3, 4])
    (table,) = convbert.read_table(path)
    assert table[0] == ["Unnamed: 0", "리뷰\n(고객)", "Unnamed: 2", "분류"]


def test_a_nul_is_no_end_of_a_table(tmp_path):
    (tmp_path / "a.csv").write_bytes("text,label\n가\0나,x\n다,y\n".encode())
    assert read(tmp_path / "a.csv")[:2] == (["가\ufffd나", "다"], ["x", "y"])


def test_nan_in_json_lines_is_nothing(plain, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "n": NaN}\n{"text": "b", "n": 1}\n', encoding="utf-8")
    found = lines_of(predict(plain, "--test_file", path).out)  # refuses NaN, which is no JSON
    assert [row["n"] for row in found] == [None, 1]
    path.write_text('{"text": "a", "label": NaN}\n', encoding="utf-8")
    assert "line 1: has no label" in refusal(convbert.read_examples, path, ARGS)


def test_an_empty_text_of_a_single_column_is_answered(plain, tmp_path):
    (tmp_path / "a.csv").write_text('text\n좋다\n""\n나쁘다\n\n', encoding="utf-8")
    found = lines_of(predict(plain, "--test_file", tmp_path / "a.csv").out)
    assert [row["text"] for row in found] == ["좋다", "", "나쁘다"]


def test_what_would_be_overwritten_is_kept(plain, config, tmp_path):
    """The table that is read, one's own test.jsonl, a link's target's place, a run's scores."""
    path = write_csv(tmp_path / "a.csv", [("text", "label"), *shop_rows(120)])
    before = path.read_bytes()
    task = ["--task", "predict", "--model_name_or_path", plain, *CHEAP, "--test_file", path]
    check_error(run(*task, "--output_file", path), "holds the texts")
    with open(path, "rb") as stdin:
        done = subprocess.run([sys.executable, SCRIPT, *map(str, task[:-2]), "--output_file", path],
                              stdin=stdin, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "") and "holds the texts" in done.stderr
    check_error(run(*task, "--output_file", tmp_path), "a folder or a device")
    (tmp_path / "link").symlink_to(tmp_path / "real.jsonl")
    predict(plain, "--text", "글", "--output_file", tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and len(lines_of(tmp_path / "real.jsonl")) == 1
    own = write_jsonl(tmp_path / "data/test.jsonl", [{"text": "a", "label": "가격"}] * 3)
    for more in ([], ["--overwrite_output_dir", "--test_file", own]):
        check_error(run(*tuning(config, path, own.parent, "--max_steps", 1, *more)), "test.jsonl")
    assert len(lines_of(own)) == 3 and path.read_bytes() == before
    tuned(config, path, tmp_path / "run", "--max_steps", 1)
    scores = read_json(tmp_path / "run/eval_results.json")
    check_error(run("--task", "evaluate", "--model_name_or_path", tmp_path / "run", *CHEAP,
                    "--output_dir", tmp_path / "run"), "holds a training")
    assert read_json(tmp_path / "run/eval_results.json") == scores


def test_checkpoints_of_another_program_are_left_alone(config, tmp_path):
    path = write_csv(tmp_path / "a.csv", [("text", "label"), *shop_rows(120)])
    (tmp_path / "run/checkpoint-10").mkdir(parents=True)
    result = run(*tuning(config, path, tmp_path / "run", "--max_steps", 1))
    check_error(result, "checkpoint-10: holds no training_state.pt")
    assert (tmp_path / "run/checkpoint-10").exists()


def test_a_pipe_or_utf16_in_its_place_is_refused(plain, tmp_path):
    task = ["--task", "predict", "--model_name_or_path", plain, *CHEAP]
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        check_error(run(*task, "--test_file", tmp_path / "pipe"), "a folder or a pipe")
    check_error(run(*task, stdin="좋다\n나쁘다\n".encode("utf-16")), "stdin is UTF-16")


def test_empty_and_repeated_values_of_options_are_told(plain, tmp_path):
    task = ["--task", "predict", "--model_name_or_path", plain, *CHEAP, "--text", "a"]
    for empty in (["--test_file", ""], ["--output_file="], ["--model_name_or_path", " "]):
        check_error(run(*task, *empty), f"{empty[0].strip('=')}: has no value")
    result = run(*task, "--text", "", "--batch_size", 1, "--batch_size", 2)
    assert result.code == 0 and "--batch_size: given 2 times; the last one counts" in result.err


def test_weights_and_classifier_that_cannot_be_used(plain, tmp_path):
    folder = shutil.copytree(plain, tmp_path / "model")
    assert (folder / "model.safetensors").stat().st_mode == (folder / "config.json").stat().st_mode
    (folder / "tokenizer.json").unlink()  # is for transformers alone
    assert lines_of(predict(folder, "--text", "글").out)
    for options in ({"batch_size": 0}, {"max_seq_length": 2}, {"precision": "fp16"}):
        assert "must be" in refusal(Classifier.from_pretrained, folder, **options)
    assert "has no text" in refusal(Classifier.from_pretrained(folder), {"text": "글"})
    model = ConvBertForSequenceClassification.from_pretrained(folder)
    model.classifier.out_proj.bias.data[0] = float("nan")
    model.save_pretrained(folder)
    check_error(run("--task", "predict", "--model_name_or_path", folder, *CHEAP, "--text", "글"),
                "not finite")


def test_labels_of_some_rows_are_not_mixed_with_answers(plain, tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "a"}, {"text": "b", "label": "0"}])
    for row in lines_of(predict(plain, "--test_file", path).out):
        assert row.get("label", "0") == "0"
        assert row["predicted_label"] in ("negative", "positive") and "score" in row
    rows = [{"text": "a"}] * convbert.CHUNK + [{"text": "b", "label": "0"}]
    result = predict(plain, "--test_file", write_jsonl(path, rows))
    assert "from text 2,049 on, answers are called predicted_label, score, scores" in result.err


def test_an_iterator_of_texts_is_classified(plain):
    classify = convbert.Classifier.from_pretrained(plain, device="cpu")
    assert classify(text for text in ("a", "b")) == classify(["a", "b"])


def test_a_vocabulary_that_does_not_fit_is_refused(plain, tmp_path):
    folder = shutil.copytree(plain, tmp_path / "model")
    for name, value, why in (("pad_token_id", 3, "is piece 0, but the model's pad_token_id is 3"),
                             ("vocab_size", 9000, "pieces, but the model has 9000")):
        changed = convbert.ConvBertConfig.from_pretrained(plain, **{name: value})
        ConvBertForSequenceClassification(changed).save_pretrained(folder)
        with pytest.raises(convbert.UserError, match=why):
            convbert.Classifier.from_pretrained(folder)
        result = run("--task", "predict", "--model_name_or_path", folder, *CHEAP, "--text", "a")
        assert result.code == 2 and why in result.err


@pytest.mark.parametrize("options", [
    ["--layer", "1"], ["--train_file", "a.tsv"], ["--max_eval_samples", "1"],
    ["--output_dir", "out"], ["--no-test"], ["--save_steps", "3"], ["--label_column_name", "a"]])
def test_an_option_that_predict_does_not_use_is_told(options, plain):
    result = predict(plain, "--text", "a", *options)
    name = options[0].replace("--no-", "--")
    assert f"{name}: not used by --task predict" in result.err


def test_predict_takes_texts_or_a_file(plain, tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "a"}])
    result = run("--task", "predict", "--model_name_or_path", plain, *CHEAP, "--text", "b",
                 "--test_file", path)
    assert (result.code, result.out) == (2, "") and "takes one of them" in result.err


def test_a_test_part_that_is_cut_from_a_file_is_limited_too(config, tmp_path):
    path = write_csv(tmp_path / "a.csv", [("text", "label"), *shop_rows(300)])
    result = run(*tuning(config, path, tmp_path / "run", "--max_steps", "1", "--max_eval_samples",
                         "7"))
    assert result.code == 0, result.err
    assert read_json(tmp_path / "run/eval_results.json")["eval_samples"] == 7
    assert read_json(tmp_path / "run/train_results.json")["evals"][0]["eval_samples"] == 7


@pytest.mark.parametrize("count", [3, convbert.CHUNK])
def test_columns_that_change_on_the_way_are_refused(count, plain, tmp_path):
    """In a large file as in a small one."""
    rows = [{"text": "a", "label": "x"}] * count + [{"review": "b", "category": "y"}] * count
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    assert "is it text or review?" in refusal(convbert.read_examples, path, ARGS)
    result = run("--task", "predict", "--model_name_or_path", plain, *CHEAP, "--test_file", path,
                 "--output_file", tmp_path / "out.jsonl")
    check_error(result, "is it text or review?")
    assert not (tmp_path / "out.jsonl").exists()


def test_rows_with_scores_alone_may_follow_rows_with_labels(tmp_path):
    rows = [{"text": "a", "등급": "x"}] * convbert.CHUNK
    rows += [{"text": "b", "scores": {"x": 0.2, "y": 0.8}}] * convbert.CHUNK
    args = Namespace(text_column_name=None, label_column_name="등급")
    examples = convbert.read_examples(write_jsonl(tmp_path / "a.jsonl", rows), args)
    assert [(row.label, bool(row.scores)) for row in examples[:: convbert.CHUNK]] == [
        ("x", False), ("", True)]


def test_the_column_that_is_predicted_is_told(plain, tmp_path):
    for name, told in (("댓글", 1), ("document", 0)):
        path = write_jsonl(tmp_path / "a.jsonl", [{name: "글"}] * (convbert.CHUNK + 1))
        result = predict(plain, "--test_file", path)
        assert result.err.count(f"texts from {name!r}") == told


def test_a_column_that_is_named_without_a_table_is_refused(plain):
    result = run("--task", "predict", "--model_name_or_path", plain, *CHEAP,
                 "--text_column_name", "리뷰", stdin="리뷰,분류\n좋다,1\n".encode())
    check_error(result, "--text_column_name", "--test_file")


def test_a_share_of_labels_without_scores_is_told(config, tmp_path):
    path = write_csv(tmp_path / "a.csv", [("text", "label"), *shop_rows(60)])
    result = tuned(config, path, tmp_path / "run", "--max_steps", 1, "--hard_label_share", 0.5)
    assert "--hard_label_share: not used" in result.err


def test_a_share_of_labels_that_are_not_read_is_told(config, tmp_path):
    rows = [{"text": text, "등급": name, "scores": {name: 0.9, other: 0.1}}
            for text, name in shop_rows(90)
            for other in [next(word for word in WORDS if word != name)]]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    dev = write_csv(tmp_path / "dev.csv", [("text", "label"), *shop_rows(30, seed=1)])
    options = ("--max_steps", 1, "--hard_label_share", 0.5, "--no-test")
    result = tuned(config, path, tmp_path / "run", *options, "--validation_file", dev)
    assert "--hard_label_share: not used" in result.err
    result = tuned(config, path, tmp_path / "used", *options, "--label_column_name", "등급")
    assert "not used" not in result.err


def test_an_output_folder_may_be_called_like_a_file(config, tmp_path):
    path = write_csv(tmp_path / "a.csv", [("text", "label"), *shop_rows(60)])
    tuned(config, path, tmp_path / "mine.json", "--max_steps", 1)
    assert lines_of(predict(tmp_path / "mine.json", "--text", "a").out)[0]["label"] in WORDS


@pytest.mark.skipif(os.name == "nt", reason="permissions are others there")
def test_a_file_that_is_replaced_keeps_its_permissions(plain, tmp_path):
    path = tmp_path / "secret.jsonl"
    path.touch(0o600)
    predict(plain, "--text", "a", "--output_file", path)
    assert path.stat().st_mode & 0o777 == 0o600 and len(lines_of(path)) == 1


def test_lines_may_end_as_on_old_macs(plain):
    found = lines_of(predict(plain, stdin="하나\r둘\r셋\r".encode()).out)
    assert [row["text"] for row in found] == ["하나", "둘", "셋"]
    for stdin in ("하나\r둘\n셋\r\n", "하나\r둘\n셋\r"):  # where others end them \r ends none
        found = lines_of(predict(plain, stdin=stdin.encode()).out)
        assert [row["text"] for row in found] == ["하나\r둘", "셋"]
    found = lines_of(predict(plain, stdin="하나\n둘\r셋".encode()).out)
    assert [row["text"] for row in found] == ["하나", "둘\r셋"]


def test_a_test_file_that_is_not_scored_is_told(config, tmp_path):
    path = write_csv(tmp_path / "a.csv", [("text", "label"), *shop_rows(60)])
    result = tuned(config, path, tmp_path / "run", "--max_steps", 1, "--test_file", path,
                   "--no-test")
    assert "--test_file: not used with --no-test" in result.err


def test_the_shipped_classifier_is_scored_on_nsmc():
    if not (convbert.CLASSIFIER / "config.json").exists():
        pytest.skip("needs weights/")
    args = Namespace(model_name_or_path=convbert.CLASSIFIER)
    convbert.settle_test_file(args)
    assert args.test_file.name == "ratings_test.txt"


def test_classifier_refuses_what_is_no_text(plain):
    pandas = pytest.importorskip("pandas")
    classify = Classifier.from_pretrained(plain, device="cpu")
    for value in (pandas.DataFrame({"a": ["글"], "b": ["글"]}), None, 5, {"text": "글"}, b"a"):
        assert "text 0: has no text" in refusal(classify, value)
    assert len(classify(pandas.Series(["글", "말"]))) == 2


def test_a_text_that_is_cut_for_its_picture_is_told(plain, tmp_path):
    pytest.importorskip("matplotlib")
    result = run("--task", "visualize", "--model_name_or_path", plain, *CHEAP, "--text", "글 " * 99,
                 "--output_dir", tmp_path)
    assert result.code == 0 and "1 of 1 texts were longer" in result.err


@pytest.mark.skipif(os.name == "nt", reason="names are no bytes there")
def test_a_test_file_whose_name_is_no_utf8_is_no_traceback(plain, tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xc5\xd7.csv"))
    write_csv(path, [("text", "label"), ("a", "0"), ("b", "1")])
    result = run("--task", "evaluate", "--model_name_or_path", plain, *CHEAP, "--test_file", path,
                 "--output_dir", tmp_path / "out")
    assert result.code == 0, result.err
    assert read_json(tmp_path / "out/eval_results.json")["test_file"] == str(path)


def test_a_label_that_the_scores_rule_out_is_told_with_its_line(config, tmp_path):
    """Scores of a model of NSMC have no place for a third class beside its two."""
    scores = {"negative": 0.5, "positive": 0.5}
    rows = [{"text": f"글 {i}", "label": i % 3, "scores": scores} for i in range(300)]
    result = run(*tuning(config, write_jsonl(tmp_path / "a.jsonl", rows), tmp_path / "run"))
    check_error(result, "is none of the classes 2, negative, positive")
    assert re.search(r"a\.jsonl, line \d+: label '[01]' is none of", result.err)


def test_a_score_beyond_all_numbers_is_told(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "a", "scores": {"a": 10**400, "b": 0}}])
    assert "line 1: scores must be" in refusal(convbert.read_examples, path, ARGS)


def test_rows_of_separators_above_the_header_are_skipped(tmp_path):
    (tmp_path / "a.csv").write_text(",,\n\ntext,label,\na,x,\nb,y,\n", encoding="utf-8")
    examples = convbert.read_examples(tmp_path / "a.csv", ARGS)
    assert [(row.text, row.label, row.where[-6:]) for row in examples] == [
        ("a", "x", "line 4"), ("b", "y", "line 5")]


def test_utf32_is_refused(tmp_path):
    (tmp_path / "a.csv").write_bytes("text,label\n글,x\n".encode("utf-32"))
    assert "UTF-32" in refusal(convbert.read_examples, tmp_path / "a.csv", ARGS)


def test_random_weights_are_told_however_they_come(data, config, tmp_path):
    for number, start in enumerate((["--config_name", config], ["--size", "tiny"])):
        result = run(*finetuning(data, tmp_path / str(number), *start, "--max_steps", 1))
        assert result.code == 0 and "begins with random weights" in result.err
    result = run(*finetuning(data, tmp_path / "2", "--model_name_or_path", tmp_path / "0",
                             "--max_steps", 1))
    assert result.code == 0 and "random weights" not in result.err


def test_scores_name_the_model_and_the_file(plain, tmp_path, monkeypatch):
    path = write_csv(tmp_path / "a.csv", [("text", "label"), ("a", "0"), ("b", "1")])
    shutil.copytree(plain, tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    result = run("--task", "evaluate", "--model_name_or_path", "model", *CHEAP,
                 "--test_file", "a.csv", "--output_dir", "out")
    scores = read_json(tmp_path / "out/eval_results.json")
    assert scores == json.loads(result.out)
    assert (scores["classes"], scores["f1_of"]) == (["negative", "positive"], "positive")
    assert (scores["model"], scores["test_file"]) == (str(tmp_path / "model"), str(path))


@pytest.mark.parametrize("kind", ["multi_label_classification", "regression"])
def test_a_model_whose_scores_are_no_softmax_is_refused(kind, plain, tmp_path, capsys):
    folder = shutil.copytree(plain, tmp_path / "model")
    values = read_json(folder / "config.json")
    for problem_type in (kind, "single_label_classification", None):
        (folder / "config.json").write_text(json.dumps(values | {"problem_type": problem_type}))
        result = run("--task", "predict", "--model_name_or_path", folder, *CHEAP, "--text", "a")
        if problem_type == kind:
            check_error(result, f"problem_type {kind}")
            mine = write_csv(tmp_path / "mine.csv", [("text", "label"), *shop_rows(30)])
            result = run("--task", "finetune", "--model_name_or_path", folder, *CHEAP,
                         "--max_steps", 1, "--train_file", mine, "--output_dir", tmp_path / "run")
            assert "begins anew: classification head" in result.err
            ConvBertForSequenceClassification.from_pretrained(folder)
            assert "begins anew: classification head" in capsys.readouterr().err
        assert result.code == 0, result.err


def test_weights_in_whole_numbers_are_refused(plain, tmp_path):
    """As a model that was quantized to int8 has them, whose scales are elsewhere."""
    folder = shutil.copytree(plain, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    weights["classifier.dense.weight"] = weights["classifier.dense.weight"].to(torch.int8)
    save_file(weights, folder / "model.safetensors")
    assert "whole numbers" in refusal(Classifier.from_pretrained, folder)


def test_answers_do_not_replace_a_file_of_a_model(plain, tmp_path):
    folder = shutil.copytree(plain, tmp_path / "model")
    for name in ("model.safetensors", "config.json", "test.jsonl"):
        before = (folder / name).read_bytes() if (folder / name).exists() else None
        result = run("--task", "predict", "--model_name_or_path", plain, *CHEAP, "--text", "a",
                     "--output_file", folder / name)
        check_error(result, "is a file of a model")
        assert before is None or (folder / name).read_bytes() == before
    predict(folder, "--text", "a", "--output_file", folder / "answers.jsonl")
    check_error(run("--task", "evaluate", "--model_name_or_path", folder, *CHEAP, "--test_file",
                    SAMPLE / "ratings_test.txt", "--output_dir", folder), "or a model")


@pytest.mark.parametrize("text", ["", "배우들 연기가 좋았다\n", "text,label\n"])
def test_a_table_without_rows_is_refused_and_keeps_the_answers(text, plain, tmp_path):
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    (tmp_path / "out.jsonl").write_text("answers")
    for task in (["--task", "predict", "--output_file", tmp_path / "out.jsonl"],
                 ["--task", "evaluate", "--output_dir", tmp_path / "out"]):
        result = run(*task, "--model_name_or_path", plain, *CHEAP, "--test_file",
                     tmp_path / "a.csv")
        check_error(result, "has no rows; the first line of a table names its columns")
    assert (tmp_path / "out.jsonl").read_text() == "answers"


def test_rows_of_several_lines_and_rows_of_nothing_are_told(plain, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('text,label\n"하나\n둘",x\n,\n셋,y\n"넷\n다섯\n여섯",y\n\n', encoding="utf-8")
    result = predict(plain, "--test_file", path)
    assert len(lines_of(result.out)) == 3
    assert "rows with line breaks: 2.  Is the longest, lines 6 to 8, one row" in result.err
    assert "1 rows of empty fields are left out" in result.err


def test_quotation_marks_of_pandas_around_nsmcs_columns_are_told(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text('id\tdocument\tlabel\n1\t"좋다\n정말"\t1\n', encoding="utf-8")
    assert "line 2: 2 fields" in (said := refusal(convbert.read_examples, path, ARGS))
    assert "quotation marks are characters" in said
    path.write_text("id\tdocument\tlabel\n1\t좋다\n2\t싫다\t0\n", encoding="utf-8")  # no label yet
    found = [row for _, rows in convbert.read_table(path) for _, row in rows]
    assert found == [{"id": "1", "document": "좋다"}, {"id": "2", "document": "싫다", "label": "0"}]


def test_predictions_taken_for_labels_are_told(plain, tmp_path):
    own = write_csv(tmp_path / "own.csv", [("text", "mine"), ("좋다", "negative")])
    predict(plain, "--test_file", own, "--output_file", tmp_path / "answers.jsonl")
    task = ["--task", "evaluate", "--model_name_or_path", plain, *CHEAP, "--output_dir",
            tmp_path / "out", "--test_file"]
    result = run(*task, tmp_path / "answers.jsonl")
    assert "what predict has answered?" in result.err
    result = run(*task, tmp_path / "answers.jsonl", "--label_column_name", "mine")
    assert result.code == 0 and "what predict has answered?" not in result.err
    rated = write_csv(tmp_path / "rated.csv", [("text", "label", "score"), ("좋다", "negative", 5)])
    assert "what predict has answered?" not in run(*task, rated).err
    own = write_csv(tmp_path / "own.csv", [("text", "정답"), ("좋다", "negative")])
    assert "predicted_label" in lines_of(predict(plain, "--test_file", own).out)[0]


def test_labels_without_weight_beside_scores_are_told(config, tmp_path):
    rows = [{"text": text, "label": name, "scores": {"x": 0.5, "y": 0.5}}
            for text, name in shop_rows(90)]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    result = tuned(config, path, tmp_path / "run", "--max_steps", 1)
    assert "of rows with a label and scores only the scores count" in result.err
    assert "classes without a train row: 3 of 5 ('가격', '배송', '상품')" in result.err
    result = tuned(config, path, tmp_path / "share", "--max_steps", 1, "--hard_label_share", 0.5)
    assert "only the scores count" not in result.err and "without a train" not in result.err


def test_a_class_without_a_row_to_score_is_told(config, tmp_path):
    rows = [*shop_rows(90), ("드문 글", "희귀"), ("드문 말", "희귀")]
    path = write_csv(tmp_path / "a.csv", [("text", "label"), *rows])
    dev = write_csv(tmp_path / "dev.csv", [("text", "label"), *shop_rows(30, seed=1)])
    result = tuned(config, path, tmp_path / "run", "--max_steps", 1, "--validation_file", dev,
                   "--test_file", path)
    assert "classes without a dev row: 1 of 4 ('희귀')" in result.err
    assert "without a test row" not in result.err


def test_an_unfinished_training_that_is_passed_over_is_told(plain, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(convbert, "CLASSIFIER", plain)
    Path("runs/finetune/checkpoint-6").mkdir(parents=True)
    result = run("--task", "predict", *CHEAP, "--text", "a")
    assert result.code == 0 and "runs/finetune: its training is not finished" in result.err


def test_a_training_that_made_nothing_better_is_told(config, tmp_path):
    path = write_csv(tmp_path / "a.csv", [("text", "label"), *shop_rows(60)])
    worse = [{"eval_accuracy": 0.5 - n, "eval_loss": 1.0, "eval_samples": 9} for n in range(3)]
    with mock.patch.object(convbert, "scores_of", side_effect=worse):
        result = tuned(config, path, tmp_path / "run", "--max_steps", 1, "--no-test")
    assert "training made nothing better" in result.err
