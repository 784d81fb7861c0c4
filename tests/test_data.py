"""Text and batches: the rows of a corpus, masking, NSMC's reviews, and padding."""

import csv
import io
import itertools
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
        input=str(SAMPLE / "kowiki.txt"), model_prefix=str(prefix), vocab_size=1500,
        model_type="bpe", pad_id=0, pad_piece="[PAD]", unk_id=1, unk_piece="[UNK]", bos_id=2,
        bos_piece="[BOS]", eos_id=3, eos_piece="[EOS]", user_defined_symbols="[SEP],[CLS],[MASK]",
        num_threads=1, minloglevel=2)
    return convbert.Tokenizer(f"{prefix}.model")


@pytest.fixture
def corpus(tmp_path):
    return Path(shutil.copy(SAMPLE / "kowiki.txt", tmp_path))


@pytest.fixture(scope="module")
def rows(tokenizer):
    """More than 100,000 tokens of real text."""
    return np.concatenate([convbert.corpus_rows([SAMPLE / "kowiki.txt"], tokenizer, LENGTH)] * 4)


@pytest.fixture(scope="module")
def masked(rows, tokenizer):
    """(ids with [CLS] and [SEP], inputs, labels), as numpy, of MLM masking."""
    batch = convbert.mask_rows(rows, tokenizer, 0.15, np.random.default_rng(1), **MLM)
    return with_ends(rows, tokenizer), batch["input_ids"].numpy(), batch["labels"].numpy()


def with_ends(rows, tokenizer):
    column = np.ones((len(rows), 1), int)
    ends = column * tokenizer.cls, column * tokenizer.sep
    return np.concatenate([ends[0], rows.astype(int), ends[1]], axis=1)


def reference_tokens(path, processor):
    """[SEP] for a blank line, and one for several."""
    sep, tokens = processor.piece_to_id("[SEP]"), []
    for line in path.read_text(encoding="utf-8").splitlines():
        tokens += processor.encode(line) or [sep][: tokens[-1:] != [sep]]
    return tokens


def all_tokens(rows, tokens):
    """The rows must hold the tokens, but for a rest that fills no row."""
    assert rows.dtype == np.uint16
    assert rows.ravel().tolist() == tokens[: len(tokens) // rows.shape[1] * rows.shape[1]]
    return True


# ---- The tokens of a text

def test_tokens_are_those_of_sentencepiece_with_sep_for_a_blank_line(corpus, tokenizer, processor):
    tokens = reference_tokens(corpus, processor)
    assert all_tokens(convbert.corpus_rows([corpus], tokenizer, LENGTH), tokens)
    assert tokens.count(tokenizer.sep) == 125  # between 126 documents


def test_the_folder_of_a_corpus_is_left_as_it_was(corpus, tokenizer):
    """It may be read-only, as Kaggle's is, and others may read it at the same time."""
    corpus.parent.chmod(0o500)
    before = corpus.parent.stat().st_mtime_ns  # root, too, would change it by a file that goes
    convbert.corpus_rows([corpus], tokenizer, LENGTH)
    assert corpus.parent.stat().st_mtime_ns == before
    corpus.parent.chmod(0o700)
    assert [*corpus.parent.iterdir()] == [corpus]


def test_two_that_read_a_corpus_at_the_same_time_get_their_own_tokens(
        corpus, tokenizer, other_tokenizer):
    """The second one begins and ends while the first is in the middle of the text."""
    expected = [convbert.corpus_rows([corpus], t, LENGTH) for t in (tokenizer, other_tokenizer)]
    encode, found, calls = tokenizer.encode, [], itertools.count(1)

    def interrupted(lines):
        if next(calls) == 2:
            found.append(convbert.corpus_rows([corpus], other_tokenizer, LENGTH))
        return encode(lines)

    with in_blocks(1000), mock.patch.object(tokenizer, "encode", interrupted):
        found.insert(0, convbert.corpus_rows([corpus], tokenizer, LENGTH))
    assert next(calls) > 4 and all(map(np.array_equal, found, expected))


def test_another_tokenizer_gives_its_own_tokens(corpus, tokenizer, other_tokenizer):
    convbert.corpus_rows([corpus], tokenizer, LENGTH)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(other_tokenizer.path))
    rows = convbert.corpus_rows([corpus], other_tokenizer, LENGTH)
    assert all_tokens(rows, reference_tokens(corpus, processor))


def test_crlf_and_other_encodings_give_the_same_tokens(corpus, tokenizer, capsys):
    plain, raw = convbert.corpus_rows([corpus], tokenizer, LENGTH), corpus.read_bytes()
    text = "".join(c for c in raw.decode() if c in "\n " or "가" <= c <= "힣")  # cp949 has these
    corpus.write_text(text, encoding="utf-8")
    hangul = convbert.corpus_rows([corpus], tokenizer, LENGTH)
    assert capsys.readouterr().err == ""
    for encoding in ("utf-8-sig", "utf-16", "cp949"):
        corpus.write_bytes(text.encode(encoding))
        assert np.array_equal(convbert.corpus_rows([corpus], tokenizer, LENGTH), hangul)
        assert ("read as cp949" in capsys.readouterr().err) == (encoding == "cp949")
    corpus.write_bytes(raw.replace(b"\n", b"\r\n"))
    assert np.array_equal(convbert.corpus_rows([corpus], tokenizer, LENGTH), plain)


def test_several_blocks_equal_the_small_result(corpus, tokenizer, processor):
    one, raw = reference_tokens(corpus, processor), corpus.read_bytes()
    times = (8 << 20) // len(raw.decode()) + 2
    corpus.write_bytes(raw * times)
    assert all_tokens(convbert.corpus_rows([corpus], tokenizer, LENGTH), one * times)


def test_no_more_is_encoded_than_a_limit_needs(corpus, tokenizer):
    first = convbert.corpus_rows([corpus], tokenizer, LENGTH)[:3]
    corpus.write_bytes(corpus.read_bytes() * 100)
    with in_blocks(1000), mock.patch.object(tokenizer, "encode", wraps=tokenizer.encode) as encode:
        assert np.array_equal(convbert.corpus_rows([corpus], tokenizer, LENGTH, 3), first)
    assert encode.call_count < 5


@pytest.mark.parametrize("before, line", [
    (b"", 1), (b"a\n\nb\n", 4), (b" " * (8 << 20) + b"\nb\n", 3)],
    ids=["first line", "after a blank line", "second block"])
def test_text_in_no_known_encoding_is_refused_with_its_line(tmp_path, tokenizer, before, line):
    text = tmp_path / "text.txt"
    text.write_bytes(before + "한국어\n".encode("euc-kr") + b"c\n\xff\n")
    with pytest.raises(UserError, match=rf"text\.txt, line {line}\b"):
        convbert.corpus_rows([text], tokenizer, LENGTH)


def test_damaged_utf16_is_refused(corpus, tokenizer):
    corpus.write_bytes(corpus.read_text(encoding="utf-8").encode("utf-16")[:-1])
    with pytest.raises(UserError, match=r"kowiki\.txt"):
        convbert.corpus_rows([corpus], tokenizer, LENGTH)


@pytest.mark.parametrize("content", [None, b""])
def test_missing_or_empty_corpus_is_refused(tmp_path, tokenizer, content):
    if content is not None:
        (tmp_path / "text.txt").write_bytes(content)
    with pytest.raises(UserError, match=r"text\.txt"):
        convbert.corpus_rows([tmp_path / "text.txt"], tokenizer, LENGTH)


ANY_LINE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r"), max_size=12)
ANY_LINE |= st.sampled_from(["", " ", "　", "한국어 위키백과", "[MASK] [SEP]", "▁", "ﬁ㎏"])
CORPUS_LINES = st.lists(ANY_LINE, min_size=1, max_size=8)
IN_NO_ENCODING = st.sampled_from([b"\xff", b"\xed\xa0\x80", b"\xe3\x80"])


def text_file(folder, content):
    (folder / "text.txt").write_bytes(content)
    return folder / "text.txt"


def in_blocks(size):
    """Has convbert read its texts in blocks of so many characters, a line more or less."""
    class Blocks(io.TextIOWrapper):
        def readlines(self, _):
            return super().readlines(size)

    def small(path, mode="r", encoding=None):
        return open(path, mode) if "b" in mode else Blocks(io.FileIO(path), encoding=encoding)

    return mock.patch.object(convbert, "open", small, create=True)


def row_tokens(lines, processor):
    """What rows are cut from: the pieces of each line, and [SEP] where lines are blank."""
    sep, tokens = processor.piece_to_id("[SEP]"), []
    for line in lines:
        pieces = processor.encode(line.strip()) or [sep]
        tokens += pieces[1:] if pieces[0] == sep == (tokens or [sep])[-1] else pieces
    return tokens


@examples(150)
@given(lines=CORPUS_LINES, size=st.integers(1, 40), ended=st.booleans())
def test_tokens_are_those_of_sentencepiece_line_by_line(
        folder, tokenizer, processor, lines, size, ended):
    lines = [line.replace("[SEP]", "") for line in lines] * 3  # written out, it is a [SEP] too
    path = text_file(folder, ("\n".join(lines) + "\n" * (ended or not lines[-1])).encode())
    one_block = tokens_or_refusal(path, tokenizer)
    with in_blocks(size):
        blocks = tokens_or_refusal(path, tokenizer)
    tokens = row_tokens(lines, processor)
    assert one_block == (None if len(tokens) < 12 else tokens[: len(tokens) // 6 * 6])
    assert blocks == one_block


def tokens_or_refusal(path, tokenizer):
    """What rows of six tokens hold; None where it is too little."""
    try:
        return convbert.corpus_rows([path], tokenizer, 8).ravel().tolist()
    except UserError as error:
        assert "too short" in str(error)


@examples(60)
@given(lines=CORPUS_LINES, bad=IN_NO_ENCODING, place=st.integers(0, 8))
def test_the_first_line_that_is_not_utf8_is_told(folder, tokenizer, lines, bad, place):
    raw = [line.encode() for line in lines]
    place = min(place, len(raw))
    raw[place:place] = [b"a" + bad, "나".encode() + bad]
    with pytest.raises(UserError, match=rf"text\.txt, line {place + 1}: "):
        convbert.corpus_rows([text_file(folder, b"\n".join(raw))], tokenizer, 8)


def test_a_document_does_not_go_on_in_the_next_corpus(folder, tokenizer, processor):
    paths = [folder / name for name in ("one.txt", "two.txt", "three.txt")]
    for path, text in zip(paths, ("\n\n하나 둘 셋\n", "넷 다섯\n\n\n", "\n여섯 일곱")):
        path.write_text(text, encoding="utf-8")
    tokens = convbert.corpus_rows(paths, tokenizer, 5).ravel().tolist()
    parts = [processor.encode(text) for text in ("하나 둘 셋", "넷 다섯", "여섯 일곱")]
    expected = [*parts[0], tokenizer.sep, *parts[1], tokenizer.sep, *parts[2]]
    assert tokens == expected[: len(tokens)] and len(expected) - len(tokens) < 3


# ---- Rows

def test_rows_are_full_and_in_the_order_of_the_text(corpus, tokenizer, processor):
    tokens = reference_tokens(corpus, processor)
    rows = convbert.corpus_rows([corpus], tokenizer, LENGTH)
    assert rows.shape == (len(tokens) // (LENGTH - 2), LENGTH - 2)
    assert np.array_equal(rows.ravel(), tokens[: rows.size])
    assert not (rows == tokenizer.pad).any()


def test_rows_of_two_corpora_follow_each_other(corpus, tokenizer, processor, tmp_path):
    second = tmp_path / "second.txt"
    second.write_text("영화는 정말 재미있었다.\n" * 100, encoding="utf-8")
    tokens = reference_tokens(corpus, processor)
    tokens += [tokenizer.sep] * (tokens[-1] != tokenizer.sep) + reference_tokens(second, processor)
    assert all_tokens(convbert.corpus_rows([corpus, second], tokenizer, 34), tokens)


def test_too_short_a_corpus_is_refused(tmp_path, tokenizer):
    text = tmp_path / "short.txt"
    text.write_text("한 줄뿐인 글이다.\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"short\.txt: too short"):
        convbert.corpus_rows([text], tokenizer, LENGTH)


@examples(60)
@given(lines=CORPUS_LINES, length=st.integers(8, 20), limit=st.none() | st.integers(2, 9))
def test_rows_are_the_tokens_but_for_a_rest(folder, tokenizer, lines, length, limit):
    path = text_file(folder, ("a\n" + "".join(line + "\n" for line in lines)).encode())
    every = tokens_or_refusal(path, tokenizer)
    if every is None:
        return
    try:
        rows = convbert.corpus_rows([path], tokenizer, length, limit)
    except UserError as error:
        assert "too short" in str(error) and len(every) < 2 * (length - 2) + 6
    else:
        assert rows.shape[1] == length - 2 and len(rows) <= (limit or len(rows))
        same = min(rows.size, len(every))
        assert rows.ravel()[:same].tolist() == every[:same]
        assert same > len(every) - 18 or len(rows) == limit


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
    other = (inputs != tokenizer.mask) & (inputs != ids)
    assert other[chosen].mean() == pytest.approx(0.1, abs=0.01)


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
def test_no_end_of_a_row_is_asked_and_all_rows_have_a_label(share, rows, tokenizer):
    batch = convbert.mask_rows(rows[:32], tokenizer, share, np.random.default_rng(0), **MLM)
    asked = batch["labels"] != -100
    assert set(batch) == {"input_ids", "labels"}
    assert not asked[:, [0, -1]].any() and asked.any(1).all()


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
    """A token's neighbour is chosen with it as often as any other, also within a word."""
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
        pieces = map(processor.id_to_piece, row.tolist())
        ordinary = np.array([piece not in SPECIAL for piece in pieces])
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
def test_masked_rows_hold_what_they_held_or_what_is_asked(
        tokenizer, processor, rows, share, seed, split):
    def masked():
        rng = np.random.default_rng(seed)
        batch = convbert.mask_rows(rows, tokenizer, share, rng, *split)
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
    '그 "명작" 맞다', '"', '""', '"명작" 인정 "진짜"', 'a"b', '"시작만', '끝만"', 'ㄱ"""ㄴ', "없음",
    ""])
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


@pytest.mark.parametrize("label", ["2", "-1", "1.0", "", "0.83", "good"])
def test_bad_label_is_refused_with_its_line(tmp_path, label):
    with pytest.raises(UserError, match=r"reviews\.txt, line 4\b"):
        convbert.read_reviews(table(tmp_path, "1\ta\t1", "2\tb\t0", f"3\tc\t{label}", "4\td\t1"))


def test_missing_column_is_named(tmp_path):
    said = r"reviews\.txt: no column 'document'; --text_column_name .* 'text', 'label'"
    with pytest.raises(UserError, match=said):
        convbert.read_reviews(table(tmp_path, "1\ta\t1", head="id\ttext\tlabel"))


LETTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0\t\n\r")
LINES = st.text(LETTERS, max_size=20)
LINES |= st.text('" ,\\ㅋ가a0', max_size=8)  # quotes among them
LABELS = st.sampled_from("01")
REVIEWS = st.lists(st.tuples(LINES, LABELS), min_size=2, max_size=6)


def quoted(text):
    """By the rule of CSV, which quotes what holds a quote."""
    return '"' + text.replace('"', '""') + '"' if '"' in text else text


def reviews_file(folder, rows, newline="\n", encoding="utf-8"):
    lines = [f"{i}\t{text}\t{label}" for i, (text, label) in enumerate(rows)]
    text = newline.join(["id\tdocument\tlabel", *lines, ""])
    (folder / "reviews.txt").write_bytes(text.encode(encoding))
    return folder / "reviews.txt"


def check_reviews(path, rows):
    texts, labels = convbert.read_reviews(path)
    found = list(zip(texts.tolist(), labels.tolist()))
    assert found == [(text, int(label)) for text, label in rows]


@examples(150)
@given(rows=REVIEWS, newline=st.sampled_from(["\n", "\r\n"]),
       encoding=st.sampled_from(["utf-8", "utf-8-sig"]))
def test_reviews_quoted_twice_come_back_as_written(folder, rows, newline, encoding):
    twice = [(quoted(quoted(text)), label) for text, label in rows]
    check_reviews(reviews_file(folder, twice, newline, encoding), rows)


@examples(150)
@given(rows=REVIEWS)
def test_reviews_that_are_not_quoted_come_back_as_written(folder, rows):
    rows = [("x" + text if re.fullmatch('".*"', text, re.S) else text, label)
            for text, label in rows]
    check_reviews(reviews_file(folder, rows), rows)


@examples(100)
@given(rows=REVIEWS, place=st.integers(0, 6),
       wrong=LINES.filter(lambda x: x.strip() not in ("0", "1", "negative", "positive")))
def test_a_wrong_label_is_told_with_its_line(folder, rows, place, wrong):
    rows.insert(place, ("글", wrong))
    line = 2 + min(place, len(rows) - 1)
    with pytest.raises(UserError, match=rf"reviews\.txt, line {line}: "):
        convbert.read_reviews(reviews_file(folder, rows))


@examples(100)
@given(rows=REVIEWS, places=st.sets(st.integers(0, 5), min_size=1),
       tail=st.sampled_from(["", "0", "1", "글"]))
def test_a_tab_too_many_is_refused(folder, rows, places, tail):
    """Even where all rows have one: it may stand in the document."""
    places = places if min(places) < len(rows) else {0}
    rows = [(text, f"{label}\t{tail}" if i in places else label)
            for i, (text, label) in enumerate(rows)]
    with pytest.raises(UserError, match=r"reviews\.txt"):
        convbert.read_reviews(reviews_file(folder, rows))


PIECES = st.sampled_from([b"\t", b"\t", b"\n", b"\n", b"\r", b'"', b"0", b"1", b"\0", b"\xff", b"#",
                          b"\x1a", b"{}", "글".encode(), b"document", b"label", b"\xef\xbb\xbf",
                          b"1\tgood\t1\n", b'{"document": "a", "label": 1}\n', b"\xff\xfe"])
GARBAGE = st.binary(max_size=100) | st.lists(PIECES, max_size=30).map(b"".join)


@examples(300)
@given(head=st.sampled_from([b"", b"id\tdocument\tlabel\n", b"label\tdocument\n",
                             b"document,label\n", b'{"document": "a", "label": 1}\n']),
       garbage=GARBAGE)
def test_garbage_is_refused_or_read(folder, head, garbage):
    (folder / "garbage.txt").write_bytes(head + garbage)
    try:
        texts, labels = convbert.read_reviews(folder / "garbage.txt")
    except UserError as error:
        assert "garbage.txt" in str(error) and len(str(error).splitlines()) == 1
    else:
        assert len(texts) == len(labels) >= 1
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
    first, again, other = (
        convbert.bucketed(lengths, 16, np.random.default_rng([42, n])) for n in (0, 0, 1))
    assert all(map(np.array_equal, first, again))
    assert {frozenset(part.tolist()) for part in first} != {frozenset(b.tolist()) for b in other}


def test_buckets_come_in_random_order(lengths):
    batches = convbert.bucketed(lengths, 16, np.random.default_rng(0))
    longest = [lengths[batch].max() for batch in batches]
    assert abs(np.corrcoef(longest, range(len(longest)))[0, 1]) < 0.5


def test_one_batch_holds_all_where_the_batch_is_larger(lengths):
    (batch,) = convbert.bucketed(lengths[:5], 16, np.random.default_rng(0))
    assert sorted(batch.tolist()) == list(range(5))


@examples(150)
@given(lengths=st.lists(st.integers(2, 50), min_size=1, max_size=120).map(np.array),
       B=st.integers(1, 20), window=st.integers(1, 5), seed=SEEDS)
def test_batches_hold_each_index_once_and_are_sorted(lengths, B, window, seed):
    batches = convbert.bucketed(lengths, B, np.random.default_rng(seed), window)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    rest = [len(lengths) % B] if len(lengths) % B else []
    assert sorted(map(len, batches)) == rest + [B] * (len(lengths) // B)
    assert all((np.diff(lengths[batch]) >= 0).all() for batch in batches)
    again = convbert.bucketed(lengths, B, np.random.default_rng(seed), window)
    assert all(map(np.array_equal, batches, again))


TEXTS = ["좋다", "", "배우들 연기가 정말 좋았어요", "지루한 영화 " * 40]


@pytest.fixture
def encoded(tokenizer):
    return convbert.encode_texts(TEXTS, tokenizer, 32)[0]


def test_batch_is_padded_little_and_masked_there(encoded, tokenizer):
    for indices in ([0], [1, 0], [2, 1, 0], [3, 2]):
        lengths = [len(encoded[i]) for i in indices]
        batch = convbert.collate([encoded[i] for i in indices], tokenizer.pad)
        assert batch["input_ids"].shape == (len(indices), max(lengths))
        assert batch["attention_mask"].shape == batch["input_ids"].shape
        assert batch["attention_mask"].sum(1).tolist() == lengths
        assert torch.equal(batch["attention_mask"] == 0, batch["input_ids"] == tokenizer.pad)


def test_batch_holds_cls_text_sep(encoded, tokenizer, processor):
    text = processor.encode(TEXTS[2])
    ids = convbert.collate([encoded[2], encoded[1]], tokenizer.pad)["input_ids"].tolist()
    assert ids[0] == [tokenizer.cls, *text, tokenizer.sep]
    assert ids[1][:3] == [tokenizer.cls, tokenizer.sep, tokenizer.pad]


def test_long_text_is_cut_between_cls_and_sep_and_counted(tokenizer, processor):
    ids, cut = convbert.encode_texts(TEXTS, tokenizer, 32)
    assert cut == 1
    assert ids[3].tolist() == [tokenizer.cls, *processor.encode(TEXTS[3])[:30], tokenizer.sep]
    just = len(processor.encode(TEXTS[2])) + 2
    assert convbert.encode_texts(TEXTS[2:3], tokenizer, just)[1] == 0
    assert convbert.encode_texts(TEXTS[2:3], tokenizer, just - 1)[1] == 1
