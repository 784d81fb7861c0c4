"""Sections 5 (text), 6 (batches), the schedule and the optimiser's groups of 7, and the scores of 10."""

import csv
import io
import json
import math
import os
import shutil
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import sentencepiece
import torch

import convbert
from convbert import UserError

ROOT = Path(convbert.__file__).resolve().parent
VOCAB, SAMPLE = ROOT / "vocab/kowiki.model", ROOT / "web-crawler/sample"
MLM, RTD = dict(mask_share=0.8, random_share=0.1), dict(mask_share=0.85, random_share=0.0)
SPECIAL = ["[PAD]", "[UNK]", "[BOS]", "[EOS]", "[SEP]", "[CLS]", "[MASK]"]
LENGTH = 128


@pytest.fixture(scope="module")
def other_tokenizer(tmp_path_factory):
    prefix = tmp_path_factory.mktemp("vocab") / "other"
    sentencepiece.SentencePieceTrainer.train(
        input=str(SAMPLE / "kowiki.txt"), model_prefix=str(prefix), vocab_size=1500, model_type="bpe",
        pad_id=0, pad_piece="[PAD]", unk_id=1, unk_piece="[UNK]", bos_id=2, bos_piece="[BOS]", eos_id=3,
        eos_piece="[EOS]", user_defined_symbols="[SEP],[CLS],[MASK]", num_threads=1, minloglevel=2)
    return convbert.Tokenizer(f"{prefix}.model")


@pytest.fixture
def corpus(tmp_path):
    return Path(shutil.copy(SAMPLE / "kowiki.txt", tmp_path))


@pytest.fixture(scope="module")
def rows(tokenizer, tmp_path_factory):
    """More than 100,000 tokens of real text."""
    text = shutil.copy(SAMPLE / "kowiki.txt", tmp_path_factory.mktemp("text"))
    return np.concatenate([convbert.corpus_rows([text], tokenizer, LENGTH)] * 4)


@pytest.fixture(scope="module")
def masked(rows, tokenizer):
    """(ids with [CLS] and [SEP], inputs, labels), as numpy, of MLM masking."""
    batch = convbert.mask_rows(rows, tokenizer, 0.15, np.random.default_rng(1), **MLM)
    return with_ends(rows, tokenizer), batch["input_ids"].numpy(), batch["labels"].numpy()


def with_ends(rows, tokenizer):
    column = np.ones((len(rows), 1), int)
    return np.concatenate([column * tokenizer.cls, rows.astype(int), column * tokenizer.sep], axis=1)


def sidecar(text):
    return json.loads(Path(f"{text}.tokens.json").read_text())


def reference_tokens(path, processor):
    sep = processor.piece_to_id("[SEP]")
    lines = path.read_text(encoding="utf-8").splitlines()
    return [i for line in lines for i in (processor.encode(line) if line else [sep])]


# ---- the token file

def test_tokens_are_those_of_sentencepiece_with_sep_for_a_blank_line(corpus, tokenizer, processor):
    tokens = convbert.token_file(corpus, tokenizer)
    assert tokens.dtype == np.uint16
    assert tokens.tolist() == reference_tokens(corpus, processor)


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}"])
def test_tokens_with_a_damaged_sidecar_are_made_again(damage, corpus, tokenizer):
    tokens, counts = convbert.token_file(corpus, tokenizer).tolist(), sidecar(corpus)
    Path(f"{corpus}.tokens.json").write_text(damage)
    assert convbert.token_file(corpus, tokenizer).tolist() == tokens and sidecar(corpus) == counts


def test_sidecar_tells_lines_documents_and_tokens(corpus, tokenizer):
    tokens, text = convbert.token_file(corpus, tokenizer), corpus.read_text(encoding="utf-8")
    counts = {name: sidecar(corpus)[name] for name in ("lines", "documents", "tokens")}
    assert counts == {"lines": text.count("\n"), "documents": text.count("\n\n") + 1, "tokens": len(tokens)}
    assert counts["documents"] == 132  # as web-crawler/sample/README.md says


def test_second_call_does_not_rebuild(corpus, tokenizer):
    convbert.token_file(corpus, tokenizer)
    for name in ("tokens", "tokens.json"):
        os.utime(f"{corpus}.{name}", ns=(10**18, 10**18))
    convbert.token_file(corpus, tokenizer)
    for name in ("tokens", "tokens.json"):
        assert os.stat(f"{corpus}.{name}").st_mtime_ns == 10**18


def test_changed_text_rebuilds(corpus, tokenizer, processor):
    convbert.token_file(corpus, tokenizer)
    corpus.write_text(corpus.read_text(encoding="utf-8").replace("광합성", "호흡작용"), encoding="utf-8")
    assert convbert.token_file(corpus, tokenizer).tolist() == reference_tokens(corpus, processor)


def test_change_that_keeps_size_and_time_rebuilds(corpus, tokenizer):
    before, raw = os.stat(corpus), corpus.read_bytes()
    old = convbert.token_file(corpus, tokenizer).tolist()
    corpus.write_bytes(raw[len(raw) // 2 :].split(b"\n", 1)[1].ljust(len(raw), b"1"))
    os.utime(corpus, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert convbert.token_file(corpus, tokenizer).tolist() != old


def test_other_tokenizer_rebuilds(corpus, tokenizer, other_tokenizer):
    convbert.token_file(corpus, tokenizer)
    tokens = convbert.token_file(corpus, other_tokenizer)
    processor = sentencepiece.SentencePieceProcessor(model_file=other_tokenizer.path)
    assert tokens.tolist() == reference_tokens(corpus, processor)


def test_truncated_token_file_rebuilds(corpus, tokenizer):
    whole, tokens = convbert.token_file(corpus, tokenizer).tolist(), Path(f"{corpus}.tokens")
    tokens.write_bytes(tokens.read_bytes()[:-2])
    assert convbert.token_file(corpus, tokenizer).tolist() == whole


def test_crlf_gives_the_same_tokens(corpus, tokenizer):
    tokens, counts = convbert.token_file(corpus, tokenizer).tolist(), sidecar(corpus)
    corpus.write_bytes(corpus.read_bytes().replace(b"\n", b"\r\n"))
    assert convbert.token_file(corpus, tokenizer).tolist() == tokens
    assert sidecar(corpus) == counts | {"text_sha256": sidecar(corpus)["text_sha256"]}


def test_several_blocks_equal_the_small_result(corpus, tokenizer):
    one, counts, raw = np.array(convbert.token_file(corpus, tokenizer)), sidecar(corpus), corpus.read_bytes()
    times = (8 << 20) // len(raw) + 2
    corpus.write_bytes(raw * times)
    assert np.array_equal(convbert.token_file(corpus, tokenizer), np.tile(one, times))
    assert sidecar(corpus)["lines"] == counts["lines"] * times
    assert sidecar(corpus)["tokens"] == counts["tokens"] * times


@pytest.mark.parametrize("before, line", [(b"", 1), (b"a\n\nb\n", 4), (b" " * (8 << 20) + b"\nb\n", 3)],
                         ids=["first line", "after a blank line", "second block"])
def test_text_that_is_not_utf8_is_refused_with_its_line(tmp_path, tokenizer, before, line):
    text = tmp_path / "text.txt"
    text.write_bytes(before + "한국어\n".encode("euc-kr") + b"c\n")
    with pytest.raises(UserError, match=rf"text\.txt, line {line}\b"):
        convbert.token_file(text, tokenizer)
    assert not Path(f"{text}.tokens").exists()


@pytest.mark.parametrize("content", [None, b""])
def test_missing_or_empty_corpus_is_refused(tmp_path, tokenizer, content):
    if content is not None:
        (tmp_path / "text.txt").write_bytes(content)
    with pytest.raises(UserError, match=r"text\.txt"):
        convbert.token_file(tmp_path / "text.txt", tokenizer)


# ---- rows

def test_rows_are_full_and_in_the_order_of_the_text(corpus, tokenizer):
    tokens = convbert.token_file(corpus, tokenizer)
    rows = convbert.corpus_rows([corpus], tokenizer, LENGTH)
    assert rows.shape == (len(tokens) // (LENGTH - 2), LENGTH - 2)
    assert np.array_equal(rows.ravel(), tokens[: rows.size])
    assert not (rows == tokenizer.pad).any()


def test_rows_of_two_corpora_follow_each_other(corpus, tokenizer, tmp_path):
    second = tmp_path / "second.txt"
    second.write_text("영화는 정말 재미있었다.\n" * 100, encoding="utf-8")
    each = [convbert.corpus_rows([text], tokenizer, 34) for text in (corpus, second)]
    both = convbert.corpus_rows([corpus, second], tokenizer, 34)
    assert np.array_equal(both, np.concatenate(each))


def test_too_short_a_corpus_is_refused(tmp_path, tokenizer):
    text = tmp_path / "short.txt"
    text.write_text("한 줄뿐인 글이다.\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"short\.txt: too short"):
        convbert.corpus_rows([text], tokenizer, LENGTH)


# ---- masking

@pytest.mark.parametrize("share", [0.05, 0.15, 0.4])
def test_share_of_chosen_is_exact_in_every_row(rows, tokenizer, share):
    ids = with_ends(rows[:300], tokenizer)
    chosen = convbert.choose_tokens(ids, tokenizer, share, np.random.default_rng(0))
    ordinary = (~tokenizer.is_special[ids]).sum(1).tolist()
    assert chosen.sum(1).tolist() == [round(share * n) for n in ordinary]


def test_specials_are_never_chosen(masked, processor):
    ids, _, labels = masked
    special = processor.piece_to_id(SPECIAL)
    assert np.isin(ids, special).any(axis=0).sum() > 2  # some stand inside rows too
    assert not np.isin(labels, special).any()


def test_no_position_is_neglected(rows, tokenizer):
    ids, rng = with_ends(rows, tokenizer), np.random.default_rng(2)
    chosen = np.concatenate([convbert.choose_tokens(ids, tokenizer, 0.15, rng) for _ in range(3)])
    share = chosen.sum(0)[1:-1] / np.tile(~tokenizer.is_special[ids], (3, 1)).sum(0)[1:-1]
    assert share.min() > 0.11
    assert share.max() < 0.19


def test_mlm_splits_the_chosen_80_10_10(masked, tokenizer):
    ids, inputs, labels = masked
    chosen = labels != -100
    assert (inputs == tokenizer.mask)[chosen].mean() == pytest.approx(0.8, abs=0.01)
    assert (inputs == ids)[chosen].mean() == pytest.approx(0.1, abs=0.01)
    assert ((inputs != tokenizer.mask) & (inputs != ids))[chosen].mean() == pytest.approx(0.1, abs=0.01)


def test_rtd_splits_the_chosen_85_15_0(rows, tokenizer):
    batch = convbert.mask_rows(rows, tokenizer, 0.15, np.random.default_rng(5), **RTD)
    ids = with_ends(rows, tokenizer)
    inputs, chosen = batch["input_ids"].numpy(), batch["labels"].numpy() != -100
    assert (inputs == tokenizer.mask)[chosen].mean() == pytest.approx(0.85, abs=0.01)
    assert ((inputs == tokenizer.mask) | (inputs == ids)).all()


def test_random_ids_are_ordinary_and_from_all_the_vocabulary(masked, tokenizer):
    ids, inputs, _ = masked
    drawn = inputs[(inputs != ids) & (inputs != tokenizer.mask)]
    assert not tokenizer.is_special[drawn].any()
    quarters = np.histogram(drawn, bins=4, range=(0, tokenizer.size))[0] / len(drawn)
    assert quarters == pytest.approx([0.25] * 4, abs=0.05)


def test_labels_are_the_originals_and_unchosen_inputs_stay(masked):
    ids, inputs, labels = masked
    chosen = labels != -100
    assert np.array_equal(labels[chosen], ids[chosen])
    assert np.array_equal(inputs[~chosen], ids[~chosen])
    assert 0.1 < chosen.mean() < 0.16


@pytest.mark.parametrize("share", [0.001, 0.15, 0.5])
def test_positions_are_those_of_the_labels_and_always_as_many(share, rows, tokenizer):
    """Rows of special tokens have fewer labels, but there are as many positions: some of the first token."""
    special = rows[:16].copy()
    special[::2, ::3] = tokenizer.sep
    counts = set()
    for part in (rows[:16], rows[16:32], special):
        batch = convbert.mask_rows(part, tokenizer, share, np.random.default_rng(0), **MLM)
        labels, positions = batch["labels"].flatten(), batch["positions"]
        found = (labels != -100).nonzero().squeeze(1)
        assert torch.equal(positions[: len(found)], found) and not positions[len(found) :].any()
        assert labels[0] == -100
        counts.add(len(positions))
    assert len(counts) == 1


def test_masks_depend_on_seed_and_number_alone(rows, tokenizer):
    def batch(*seed):
        return convbert.mask_rows(rows[:8], tokenizer, 0.15, np.random.default_rng(seed), **MLM)

    before, first, again = rows[:8].copy(), batch(42, 7, 1), batch(42, 7, 1)
    assert all(torch.equal(first[name], again[name]) for name in ("input_ids", "labels"))
    for other in (batch(42, 8, 1), batch(43, 7, 1)):
        assert not torch.equal(first["labels"], other["labels"])
    assert np.array_equal(rows[:8], before)


def test_row_of_specials_has_nothing_to_choose(tokenizer):
    rows = np.full((2, 10), tokenizer.sep)
    batch = convbert.mask_rows(rows, tokenizer, 0.15, np.random.default_rng(0), **MLM)
    assert (batch["labels"] == -100).all()
    assert np.array_equal(batch["input_ids"], with_ends(rows, tokenizer))


def test_single_token_is_chosen(tokenizer):
    row = with_ends(np.array([[100]]), tokenizer)
    chosen = convbert.choose_tokens(row, tokenizer, 0.15, np.random.default_rng(0))
    assert chosen.tolist() == [[False, True, False]]


def test_tokens_are_chosen_one_by_one(rows, tokenizer):
    """A token's neighbour is chosen with it as often as any other, however many pieces the word has."""
    ids, rng = with_ends(rows, tokenizer), np.random.default_rng(3)
    chosen = np.concatenate([convbert.choose_tokens(ids, tokenizer, 0.3, rng) for _ in range(3)])
    ordinary = np.tile(~tokenizer.is_special[ids], (3, 1))
    for distance in (1, 2, 40):
        both = ordinary[:, :-distance] & ordinary[:, distance:]
        pairs = chosen[:, :-distance] & chosen[:, distance:]
        assert pairs.sum() / both.sum() == pytest.approx(0.3**2, abs=0.005)


# ---- reviews

def table(tmp_path, *lines, head="id\tdocument\tlabel", newline="\n", encoding="utf-8"):
    path = tmp_path / "reviews.txt"
    path.write_bytes(newline.join([head, *lines, ""]).encode(encoding))
    return path


def csv_quoted(text):
    out = io.StringIO()
    csv.writer(out, delimiter="\t", lineterminator="").writerow([text])
    return out.getvalue()


def test_bundled_reviews_are_read_whole_and_balanced():
    for name, count in (("ratings_train.txt", 640), ("ratings_test.txt", 200)):
        texts, labels = convbert.read_reviews(SAMPLE / name)
        assert len(texts) == len(labels) == count
        assert labels.sum() == count // 2
        assert all(isinstance(text, str) for text in texts)


def test_limit_takes_the_first_reviews():
    texts, labels = convbert.read_reviews(SAMPLE / "ratings_train.txt", 5)
    every = convbert.read_reviews(SAMPLE / "ratings_train.txt")
    assert (texts.tolist(), labels.tolist()) == (every[0][:5].tolist(), every[1][:5].tolist())


def test_both_layers_of_quotes_come_off(tmp_path):
    path = table(tmp_path, '1\t"""그 """"명작"""" 맞다"""\t1', "2\t별로\t0")
    assert convbert.read_reviews(path)[0].tolist() == ['그 "명작" 맞다', "별로"]


@pytest.mark.parametrize("text", [
    '그 "명작" 맞다', '"', '""', '"명작" 인정 "진짜"', 'a"b', '"시작만', '끝만"', 'ㄱ"""ㄴ', "없음", ""])
def test_text_quoted_twice_is_read_back(tmp_path, text):
    twice = csv_quoted(csv_quoted(text)) if text else ""
    assert convbert.read_reviews(table(tmp_path, f"1\t{twice}\t1", "2\tx\t0"))[0][0] == text


def test_lone_quote_swallows_nothing(tmp_path):
    path = table(tmp_path, '1\t"시작\t1', '2\t"\t0', '3\t끝"\t1', "4\t보통\t0")
    texts, labels = convbert.read_reviews(path)
    assert texts.tolist() == ['"시작', '"', '끝"', "보통"]
    assert labels.tolist() == [1, 0, 1, 0]


def test_empty_documents_and_words_for_nothing_are_texts(tmp_path):
    path = table(tmp_path, "1\t\t1", "2\tNA\t0", "3\tnull\t1", "4\t007\t0")
    assert convbert.read_reviews(path)[0].tolist() == ["", "NA", "null", "007"]


def test_crlf_and_bom_change_nothing(tmp_path):
    lines = ("1\t좋다\t1", '2\t"""그 """"명작"""""\t0', "3\t\t1")
    plain = convbert.read_reviews(table(tmp_path, *lines))
    other = convbert.read_reviews(table(tmp_path, *lines, newline="\r\n", encoding="utf-8-sig"))
    assert [a.tolist() for a in plain] == [a.tolist() for a in other]


def test_columns_go_by_their_names(tmp_path):
    path = table(tmp_path, "1\t좋다\ta", "0\t싫다\tb", head="label\tdocument\tid")
    assert [a.tolist() for a in convbert.read_reviews(path)] == [["좋다", "싫다"], [1, 0]]


@pytest.mark.parametrize("lines", [
    ("1\t좋다\t1", "2\t싫다"), ("1\t좋다", "2\t싫다\t0"), ("1\t좋다\t1", "2\t싫다\t더\t0"),
    ("1\t좋다\t더\t1", "2\t싫다\t0"), ("1\t좋다\t더\t1", "2\t싫다\t더\t0")],
    ids=["too few", "too few in the first", "too many", "too many in the first", "too many in all"])
def test_wrong_count_of_tabs_is_refused(tmp_path, lines):
    with pytest.raises(UserError, match=r"reviews\.txt.*line [23]"):
        convbert.read_reviews(table(tmp_path, *lines))


@pytest.mark.parametrize("label", ["2", "-1", "1.0", "", "positive", " 1"])
def test_bad_label_is_refused_with_its_line(tmp_path, label):
    with pytest.raises(UserError, match=r"reviews\.txt, line 4\b"):
        convbert.read_reviews(table(tmp_path, "1\ta\t1", "2\tb\t0", f"3\tc\t{label}", "4\td\t1"))


def test_missing_column_is_named(tmp_path):
    with pytest.raises(UserError, match=r"reviews\.txt, line 1: .*document"):
        convbert.read_reviews(table(tmp_path, "1\ta\t1", head="id\ttext\tlabel"))


# ---- batches

@pytest.fixture
def lengths():
    return np.random.default_rng(0).integers(3, 120, 1003)


def test_buckets_cover_each_index_once(lengths):
    batches = convbert.bucketed(lengths, 16, np.random.default_rng(0))
    assert sorted(np.concatenate(batches).tolist()) == list(range(1003))
    assert sorted(map(len, batches)) == [1003 % 16] + [16] * (1003 // 16)


def test_buckets_need_less_padding(lengths):
    def padded(batches):
        return sum(lengths[batch].max() * len(batch) - lengths[batch].sum() for batch in batches)

    order = np.random.default_rng(1).permutation(1003)
    unsorted = np.split(order, range(16, 1003, 16))
    assert padded(convbert.bucketed(lengths, 16, np.random.default_rng(0))) < padded(unsorted) / 4


def test_buckets_follow_their_rng(lengths):
    first, again, other = (convbert.bucketed(lengths, 16, np.random.default_rng([42, n])) for n in (0, 0, 1))
    assert all(map(np.array_equal, first, again))
    assert {frozenset(batch.tolist()) for batch in first} != {frozenset(batch.tolist()) for batch in other}


def test_buckets_come_in_random_order(lengths):
    longest = [lengths[batch].max() for batch in convbert.bucketed(lengths, 16, np.random.default_rng(0))]
    assert abs(np.corrcoef(longest, range(len(longest)))[0, 1]) < 0.5


def test_one_batch_holds_all_where_the_batch_is_larger(lengths):
    (batch,) = convbert.bucketed(lengths[:5], 16, np.random.default_rng(0))
    assert sorted(batch.tolist()) == list(range(5))


@pytest.fixture
def reviews(tokenizer):
    texts = ["좋다", "", "배우들 연기가 정말 좋았어요", "지루한 영화 " * 40]
    return convbert.Reviews(texts, np.array([1, 0, 1, 0]), tokenizer, 32)


def test_review_batch_is_padded_little_and_masked_there(reviews, tokenizer):
    for indices in ([0], [1, 0], [2, 1, 0], [3, 2]):
        batch, longest = reviews.batch(np.array(indices)), max(reviews.lengths[indices])
        assert batch["input_ids"].shape[0] == len(indices)
        assert longest <= batch["input_ids"].shape[1] < longest + 8
        assert batch["attention_mask"].shape == batch["input_ids"].shape
        assert batch["attention_mask"].sum(1).tolist() == reviews.lengths[indices].tolist()
        assert torch.equal(batch["attention_mask"] == 0, batch["input_ids"] == tokenizer.pad)
        assert batch["labels"].tolist() == [[1, 0, 1, 0][i] for i in indices]


def test_review_batch_holds_cls_text_sep(reviews, tokenizer, processor):
    text = processor.encode("배우들 연기가 정말 좋았어요")
    ids = reviews.batch(np.array([2, 1]))["input_ids"].tolist()
    assert ids[0][: len(text) + 2] == [tokenizer.cls, *text, tokenizer.sep]
    assert ids[1][:3] == [tokenizer.cls, tokenizer.sep, tokenizer.pad]


def test_long_review_is_cut_between_cls_and_sep(reviews, tokenizer, processor):
    ids = reviews.batch(np.array([3]))["input_ids"][0].tolist()
    assert ids == [tokenizer.cls, *processor.encode("지루한 영화 " * 40)[:30], tokenizer.sep]


# ---- schedule

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


# ---- the optimiser's groups

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


# ---- scores

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
