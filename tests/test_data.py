"""Part 5: text, its tokens, masking, reviews and batches."""

import csv
import io
import json
import os
import re
import shutil
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import sentencepiece
import torch
from experiments.ablation import whole_words
from helpers import SAMPLE, examples
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import convbert
from convbert import UserError

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


# ---- The token file

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


ANY_LINE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), max_size=12)
ANY_LINE |= st.sampled_from(["", " ", "　", "\r", "한국어 위키백과", "[MASK] [SEP]", "▁", "ﬁ㎏"])
CORPUS_LINES = st.lists(ANY_LINE, min_size=1, max_size=8)
NOT_UTF8 = st.sampled_from([b"\xff", b"\xed\xa0\x80", b"\xc0\xaf", b"\xb0\xa1", b"\xe3\x80"])


def text_file(folder, content):
    """A text that no tokens lie beside."""
    for name in ("tokens", "tokens.json"):
        (folder / f"text.txt.{name}").unlink(missing_ok=True)
    (folder / "text.txt").write_bytes(content)
    return folder / "text.txt"


def in_blocks(size):
    """Has convbert read its files in blocks of so many bytes, a line more or less."""
    class Blocks(io.BufferedReader):
        def readlines(self, _):
            return super().readlines(size)

    def small(path, mode):
        return Blocks(io.FileIO(path)) if mode == "rb" else open(path, mode)

    return mock.patch.object(convbert, "open", small, create=True)


@examples(150)
@given(lines=CORPUS_LINES, size=st.integers(1, 40), ended=st.booleans())
def test_tokens_are_those_of_sentencepiece_line_by_line(folder, tokenizer, processor, lines, size, ended):
    path = text_file(folder, ("\n".join(lines) + ("\n" if ended or not lines[-1] else "")).encode())
    with in_blocks(size):
        tokens = convbert.token_file(path, tokenizer).tolist()
    sep = processor.piece_to_id("[SEP]")
    assert tokens == [i for line in lines for i in processor.encode(line.strip()) or [sep]]


@examples(60)
@given(lines=CORPUS_LINES, bad=NOT_UTF8, place=st.integers(0, 8), size=st.integers(1, 40))
def test_the_first_line_that_is_not_utf8_is_told(folder, tokenizer, lines, bad, place, size):
    raw = [line.encode() for line in lines]
    place = min(place, len(raw))
    raw[place:place] = [b"a" + bad, "나".encode() + bad]
    with in_blocks(size), pytest.raises(UserError, match=rf"text\.txt, line {place + 1}: "):
        convbert.token_file(text_file(folder, b"\n".join(raw)), tokenizer)
    assert not (folder / "text.txt.tokens").exists()


# ---- Rows

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


@examples(60)
@given(lines=CORPUS_LINES, length=st.integers(8, 20))
def test_rows_are_the_tokens_but_for_a_rest(folder, tokenizer, lines, length):
    path = text_file(folder, "".join(line + "\n" for line in lines).encode())
    tokens = convbert.token_file(path, tokenizer)
    if len(tokens) < 2 * (length - 2):
        with pytest.raises(UserError, match="too short"):
            convbert.corpus_rows([path], tokenizer, length)
        return
    rows = convbert.corpus_rows([path, path], tokenizer, length)
    kept = tokens[: len(tokens) // (length - 2) * (length - 2)].tolist()
    assert rows.shape[1] == length - 2 and rows.ravel().tolist() == kept * 2


# ---- Masking

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


def test_tokens_are_chosen_one_by_one(rows, tokenizer):
    """A token's neighbour is chosen with it as often as any other, however many pieces the word has."""
    ids, rng = with_ends(rows, tokenizer), np.random.default_rng(3)
    chosen = np.concatenate([convbert.choose_tokens(ids, tokenizer, 0.3, rng) for _ in range(3)])
    ordinary = np.tile(~tokenizer.is_special[ids], (3, 1))
    for distance in (1, 2, 40):
        both = ordinary[:, :-distance] & ordinary[:, distance:]
        pairs = chosen[:, :-distance] & chosen[:, distance:]
        assert pairs.sum() / both.sum() == pytest.approx(0.3**2, abs=0.005)


IDS = st.integers(0, 8006) | st.integers(0, 6)  # the first seven are the special ones
ROWS = arrays.arrays(np.uint16, st.tuples(st.integers(1, 4), st.integers(1, 24)), elements=IDS)
SHARES, SEEDS = st.floats(0.01, 0.9), st.integers(0, 2**32)


@examples(200)
@given(rows=ROWS, share=SHARES, seed=SEEDS)
def test_just_the_share_is_chosen_and_nothing_special(tokenizer, processor, rows, share, seed):
    chosen = convbert.choose_tokens(rows, tokenizer, share, np.random.default_rng(seed))
    assert chosen.shape == rows.shape and chosen.dtype == bool
    for row, marks in zip(rows, chosen):
        ordinary = np.array([piece not in SPECIAL for piece in map(processor.id_to_piece, row.tolist())])
        assert not (marks & ~ordinary).any()
        assert marks.sum() == min(ordinary.sum(), max(1, round(share * ordinary.sum())))


def words(row, processor):
    """The positions of the ordinary tokens of each word; a piece with ▁ begins one."""
    found = [[]]
    for position, piece in enumerate(map(processor.id_to_piece, row.tolist())):
        if piece.startswith("▁"):
            found.append([])
        if piece not in SPECIAL:
            found[-1].append(position)
    return found


@examples(200)
@given(rows=ROWS, share=SHARES, seed=SEEDS)
def test_the_ablation_chooses_whole_words_but_for_one(tokenizer, processor, rows, share, seed):
    chosen = whole_words(rows, tokenizer, share, np.random.default_rng(seed))
    assert chosen.shape == rows.shape and chosen.dtype == bool
    for row, marks in zip(rows, chosen):
        parts = [marks[word] for word in words(row, processor)]
        ordinary = sum(map(len, parts))
        assert marks.sum() == sum(part.sum() for part in parts)  # no special one
        assert marks.sum() == min(ordinary, max(1, round(share * ordinary)))
        assert sum(part.any() and not part.all() for part in parts) <= 1


@examples(150)
@given(rows=ROWS, share=SHARES, seed=SEEDS, split=st.tuples(st.floats(0, 0.8), st.floats(0, 0.2)))
def test_masked_rows_hold_what_they_held_or_what_is_asked(tokenizer, processor, rows, share, seed, split):
    def masked():
        rng = np.random.default_rng(seed)
        batch = convbert.mask_rows(rows, tokenizer, share, rng, mask_share=split[0], random_share=split[1])
        return batch["input_ids"], batch["labels"]

    before, (inputs, labels) = rows.copy(), masked()
    np.random.seed(0)
    torch.manual_seed(1)
    assert all(map(torch.equal, masked(), (inputs, labels)))  # by its rng alone
    assert np.array_equal(rows, before)
    cls, sep, mask = map(processor.piece_to_id, ("[CLS]", "[SEP]", "[MASK]"))
    ids = torch.tensor([[cls, *row, sep] for row in rows.tolist()])
    asked = labels != -100
    assert torch.equal(labels[asked], ids[asked]) and torch.equal(inputs[~asked], ids[~asked])
    assert not set(labels[asked].tolist()) & set(processor.piece_to_id(SPECIAL))
    assert not set(inputs[asked].tolist()) & (set(processor.piece_to_id(SPECIAL)) - {mask})
    if split[1] == 0:
        assert ((inputs == ids) | (inputs == mask)).all()


# ---- Reviews

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


LINES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\t\n\r"), max_size=20)
LINES |= st.text('" ,\\ㅋ가a0', max_size=8)  # quotes among them
LABELS = st.sampled_from("01")
REVIEWS = st.lists(st.tuples(LINES, LABELS), min_size=2, max_size=6)


def quoted(text):
    """By the rule of CSV, which quotes what holds a quote."""
    return '"' + text.replace('"', '""') + '"' if '"' in text else text


def reviews_file(folder, rows, newline="\n", encoding="utf-8"):
    lines = ["id\tdocument\tlabel", *(f"{i}\t{text}\t{label}" for i, (text, label) in enumerate(rows)), ""]
    (folder / "reviews.txt").write_bytes(newline.join(lines).encode(encoding))
    return folder / "reviews.txt"


def check_reviews(path, rows):
    texts, labels = convbert.read_reviews(path)
    assert list(zip(texts.tolist(), labels.tolist())) == [(text, int(label)) for text, label in rows]


@examples(150)
@given(rows=REVIEWS, newline=st.sampled_from(["\n", "\r\n"]),
       encoding=st.sampled_from(["utf-8", "utf-8-sig"]))
def test_reviews_quoted_twice_come_back_as_written(folder, rows, newline, encoding):
    twice = [(quoted(quoted(text)), label) for text, label in rows]
    check_reviews(reviews_file(folder, twice, newline, encoding), rows)


@examples(150)
@given(rows=REVIEWS)
def test_reviews_that_are_not_quoted_come_back_as_written(folder, rows):
    rows = [("x" + text if re.fullmatch('".*"', text, re.S) else text, label) for text, label in rows]
    check_reviews(reviews_file(folder, rows), rows)


@examples(100)
@given(rows=REVIEWS, wrong=LINES.filter(lambda label: label not in ("0", "1")), place=st.integers(0, 6))
def test_a_wrong_label_is_told_with_its_line(folder, rows, wrong, place):
    rows.insert(place, ("글", wrong))
    line = 2 + min(place, len(rows) - 1)
    with pytest.raises(UserError, match=rf"reviews\.txt, line {line}: "):
        convbert.read_reviews(reviews_file(folder, rows))


@examples(100)
@given(rows=REVIEWS, places=st.sets(st.integers(0, 5), min_size=1),
       tail=st.sampled_from(["", "0", "1", "글"]))
def test_a_tab_too_many_is_refused(folder, rows, places, tail):
    """Even where all rows have one: it may stand in the document, and the label be another column."""
    places = places if min(places) < len(rows) else {0}
    rows = [(text, f"{label}\t{tail}" if i in places else label) for i, (text, label) in enumerate(rows)]
    with pytest.raises(UserError, match=r"reviews\.txt"):
        convbert.read_reviews(reviews_file(folder, rows))


PIECES = st.sampled_from([b"\t", b"\t", b"\n", b"\n", b"\r", b'"', b"0", b"1", b"\0", b"\xff", b"#", b"\x1a",
                          "글".encode(), b"document", b"label", b"\xef\xbb\xbf", b"1\tgood\t1\n"])
GARBAGE = st.binary(max_size=100) | st.lists(PIECES, max_size=30).map(b"".join)


@examples(300)
@given(head=st.sampled_from([b"", b"id\tdocument\tlabel\n", b"label\tdocument\n"]), garbage=GARBAGE)
def test_garbage_is_refused_or_read(folder, head, garbage):
    (folder / "garbage.txt").write_bytes(head + garbage)
    try:
        texts, labels = convbert.read_reviews(folder / "garbage.txt")
    except UserError as error:
        assert "garbage.txt" in str(error) and len(str(error).splitlines()) == 1
    else:
        assert len(texts) == len(labels) >= 2
        assert set(labels.tolist()) <= {0, 1} and {type(text) for text in texts} == {str}


# ---- Batches

@pytest.fixture
def lengths():
    return np.random.default_rng(0).integers(3, 120, 1003)


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


@examples(150)
@given(lengths=st.lists(st.integers(2, 50), min_size=1, max_size=120).map(np.array), B=st.integers(1, 20),
       window=st.integers(1, 5), seed=SEEDS)
def test_batches_hold_each_index_once_and_are_sorted(lengths, B, window, seed):
    batches = convbert.bucketed(lengths, B, np.random.default_rng(seed), window)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    rest = [len(lengths) % B] if len(lengths) % B else []
    assert sorted(map(len, batches)) == rest + [B] * (len(lengths) // B)
    assert all((np.diff(lengths[batch]) >= 0).all() for batch in batches)
    again = convbert.bucketed(lengths, B, np.random.default_rng(seed), window)
    assert all(map(np.array_equal, batches, again))


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
