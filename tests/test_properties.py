"""What must hold for any input at all: hypothesis makes them up, and cuts one that fails down to its core.

Everything is drawn from fixed seeds, so that two runs try the same inputs.
"""

import contextlib
import dataclasses
import io
import json
import math
import re
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from experiments.ablation import whole_words
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import convbert
from convbert import UserError

VOCAB = Path(convbert.ROOT) / "vocab/kowiki.model"
SPECIAL = ["[PAD]", "[UNK]", "[BOS]", "[EOS]", "[SEP]", "[CLS]", "[MASK]"]


def examples(count):
    """How many inputs a test tries. None is too slow, since the machine may be busy."""
    return settings(max_examples=count, deadline=None, derandomize=True, database=None,
                    suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("properties")


# ---- reviews

LINES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\t\n\r"), max_size=20)
LINES |= st.text('" ,\\ㅋ가a0', max_size=8)  # quotes among them
LABELS = st.sampled_from("01")
REVIEWS = st.lists(st.tuples(LINES, LABELS), min_size=2, max_size=6)


def quoted(text):
    """By the rule of CSV, which quotes what holds a quote."""
    return '"' + text.replace('"', '""') + '"' if '"' in text else text


def table(folder, rows, newline="\n", encoding="utf-8"):
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
    check_reviews(table(folder, twice, newline, encoding), rows)


@examples(150)
@given(rows=REVIEWS)
def test_reviews_that_are_not_quoted_come_back_as_written(folder, rows):
    rows = [("x" + text if re.fullmatch('".*"', text, re.S) else text, label) for text, label in rows]
    check_reviews(table(folder, rows), rows)


@examples(100)
@given(rows=REVIEWS, wrong=LINES.filter(lambda label: label not in ("0", "1")), place=st.integers(0, 6))
def test_a_wrong_label_is_told_with_its_line(folder, rows, wrong, place):
    rows.insert(place, ("글", wrong))
    line = 2 + min(place, len(rows) - 1)
    with pytest.raises(UserError, match=rf"reviews\.txt, line {line}: "):
        convbert.read_reviews(table(folder, rows))


@examples(100)
@given(rows=REVIEWS, places=st.sets(st.integers(0, 5), min_size=1),
       tail=st.sampled_from(["", "0", "1", "글"]))
def test_a_tab_too_many_is_refused(folder, rows, places, tail):
    """Even where all rows have one: it may stand in the document, and the label be another column."""
    places = places if min(places) < len(rows) else {0}
    rows = [(text, f"{label}\t{tail}" if i in places else label) for i, (text, label) in enumerate(rows)]
    with pytest.raises(UserError, match=r"reviews\.txt"):
        convbert.read_reviews(table(folder, rows))


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


# ---- corpora

ANY_LINE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), max_size=12)
ANY_LINE |= st.sampled_from(["", " ", "　", "\r", "한국어 위키백과", "[MASK] [SEP]", "▁", "ﬁ㎏"])
CORPUS_LINES = st.lists(ANY_LINE, min_size=1, max_size=8)
NOT_UTF8 = st.sampled_from([b"\xff", b"\xed\xa0\x80", b"\xc0\xaf", b"\xb0\xa1", b"\xe3\x80"])


def corpus(folder, content):
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
    path = corpus(folder, ("\n".join(lines) + ("\n" if ended or not lines[-1] else "")).encode())
    with in_blocks(size):
        tokens = convbert.token_file(path, tokenizer).tolist()
    sep = processor.piece_to_id("[SEP]")
    assert tokens == [i for line in lines for i in processor.encode(line.strip()) or [sep]]


@examples(60)
@given(lines=CORPUS_LINES, length=st.integers(8, 20))
def test_rows_are_the_tokens_but_for_a_rest(folder, tokenizer, lines, length):
    path = corpus(folder, "".join(line + "\n" for line in lines).encode())
    tokens = convbert.token_file(path, tokenizer)
    if len(tokens) < 2 * (length - 2):
        with pytest.raises(UserError, match="too short"):
            convbert.corpus_rows([path], tokenizer, length)
        return
    rows = convbert.corpus_rows([path, path], tokenizer, length)
    kept = tokens[: len(tokens) // (length - 2) * (length - 2)].tolist()
    assert rows.shape[1] == length - 2 and rows.ravel().tolist() == kept * 2


@examples(60)
@given(lines=CORPUS_LINES, bad=NOT_UTF8, place=st.integers(0, 8), size=st.integers(1, 40))
def test_the_first_line_that_is_not_utf8_is_told(folder, tokenizer, lines, bad, place, size):
    raw = [line.encode() for line in lines]
    place = min(place, len(raw))
    raw[place:place] = [b"a" + bad, "나".encode() + bad]
    with in_blocks(size), pytest.raises(UserError, match=rf"text\.txt, line {place + 1}: "):
        convbert.token_file(corpus(folder, b"\n".join(raw)), tokenizer)
    assert not (folder / "text.txt.tokens").exists()


# ---- masking

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


# ---- batches

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


# ---- configurations

SMALL = dict(vocab_size=30, embedding_size=8, hidden_size=16, num_hidden_layers=1, num_attention_heads=4,
             intermediate_size=32, conv_kernel_size=3, max_position_embeddings=12, generator_ratio=2)
FIELDS = [field.name for field in dataclasses.fields(convbert.ConvBertConfig)]
PLAIN = st.integers(-1, 12) | st.sampled_from([16, 24, 32]) | st.floats(0, 1)
NAMES = st.sampled_from(["gelu", "sdconv", "dynamic", "light", "noconv", "relu", ""])
WILD = (st.none() | st.booleans() | st.floats() | st.text(max_size=3) | st.binary(max_size=2)
        | st.lists(st.integers(), max_size=2) | st.complex_numbers()
        | st.dictionaries(st.text(max_size=1), st.integers(), max_size=1))
CONFIGS = st.dictionaries(st.sampled_from(FIELDS), PLAIN | PLAIN | NAMES | WILD, max_size=4)


def run_once(cls, config, labels):
    """A forward and a backward pass; returns the logits."""
    model = cls(config).train()
    ids = torch.arange(2 * min(5, config.max_position_embeddings)).view(2, -1) % config.vocab_size
    mask = torch.ones_like(ids)
    mask[1, 1:] = 0
    output = model(ids, mask, labels=ids if labels == "tokens" else torch.tensor([0, 1]))
    output.loss.backward()
    return output.logits


@examples(200)
@given(values=CONFIGS)
@example(values={})
@example(values={"initializer_range": 0.0})
@example(values={"initializer_range": 0})
@example(values={"num_groups": 2, "conv_type": "light", "head_ratio": 9})
def test_a_config_is_refused_or_makes_a_model_that_runs(values):
    try:
        config = convbert.ConvBertConfig(**SMALL | values)
    except UserError as error:
        assert str(error).startswith("config: ") and len(str(error).splitlines()) == 1
        return
    tokens = 2 * min(5, config.max_position_embeddings)
    assert run_once(convbert.ConvBertForMaskedLM, config, "tokens").shape == (tokens, config.vocab_size)
    assert run_once(convbert.ConvBertForSequenceClassification, config, "classes").shape == (2, 2)
    try:
        assert run_once(convbert.ConvBertForPreTraining, config, "tokens").numel() == tokens
    except UserError as error:  # of the generator, which is narrower
        assert str(error).startswith("config: ")


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
                    lambda inner: st.lists(inner, max_size=3)
                    | st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=4), inner, max_size=3))


@examples(150)
@given(content=st.binary(max_size=40) | JSON.map(lambda value: json.dumps(value).encode()))
def test_a_config_file_that_is_none_is_refused(folder, content):
    (folder / "config.json").write_bytes(content)
    with pytest.raises(UserError, match=r"config\.json: "):
        convbert.ConvBertConfig.from_pretrained(folder)


@pytest.mark.parametrize("piece, count", [("[", 100_000), ('{"a":', 100_000), ("9", 5000)])
def test_a_config_file_beyond_reason_is_refused(folder, piece, count):
    (folder / "config.json").write_text('{"vocab_size": ' + piece * count)
    with pytest.raises(UserError, match=r"config\.json: "):
        convbert.ConvBertConfig.from_pretrained(folder)


# ---- options

def usage():
    """What --help prints, up to the first blank line: each option once."""
    out = io.StringIO()
    with (mock.patch("sys.argv", ["convbert.py", "--help"]), mock.patch("sys.stdout", out),
          contextlib.suppress(SystemExit)):
        convbert.parse_options()
    return out.getvalue().partition("\n\n")[0]


OPTIONS = sorted(set(re.findall(r"(?<=[ \[(])--[\w-]+", usage())) - {"--help"})
CHOICES = {"task": ["pretrain", "finetune", "evaluate", "predict", "visualize"], "objective": ["mlm", "rtd"],
           "size": [None, "tiny", "small", "medium-small", "base"], "precision": ["auto", "fp32", "bf16"]}
LIMITS = {"seed": (0, 1e9), "max_seq_length": (8, 1e5), "max_train_samples": (2, 1e9),
          "warmup_ratio": (0, 0.99), "mlm_probability": (0.01, 0.9), "weight_decay": (0, 1)}
VALUES = (st.integers(-2, 200).map(str) | st.integers().map(str) | st.floats().map(str) | st.text(max_size=5)
          | st.sampled_from([name for names in CHOICES.values() for name in names if name])
          | st.sampled_from(["", "-", "--", "nan", "1e400", "１２", "1_0", "0x1", "a\nb", "\udcff", "%s",
                             "9" * 5000]))
GIVEN = (st.tuples(st.sampled_from(OPTIONS), VALUES) | st.tuples(st.sampled_from(OPTIONS))
         | st.tuples(st.sampled_from(OPTIONS), VALUES).map(lambda pair: ("=".join(pair),))
         | st.tuples(VALUES | st.sampled_from(["--help", "--tas", "-t"])))
LINES_OF_OPTIONS = st.lists(GIVEN, max_size=5).map(lambda parts: [word for part in parts for word in part])


def check_options(args):
    """All numbers are within their limits, all names among their choices, no two alternatives are given."""
    for name, value in vars(args).items():
        if type(value) in (int, float):
            low, high = LIMITS.get(name, (1 if type(value) is int else 0, 2**31))
            assert math.isfinite(value) and low <= value <= high, (name, value)
    assert all(getattr(args, name) in known for name, known in CHOICES.items())
    assert len(vars(args)) >= 30
    for group in (("model_name_or_path", "config_name", "size"),
                  ("max_steps", "num_train_epochs", "max_minutes")):
        assert sum(getattr(args, name) is not None for name in group) <= 1


@examples(500)
@given(task=st.sampled_from([[], ["--task", "pretrain"], ["--task", "finetune"]]), line=LINES_OF_OPTIONS)
@example(task=["--task", "pretrain"], line=["a\nb"])
def test_options_are_refused_in_one_line_or_within_their_limits(task, line):
    out = io.StringIO()
    with mock.patch("sys.argv", ["convbert.py", *task, *line]), mock.patch("sys.stdout", out):
        try:
            args = convbert.parse_options()
        except UserError as error:
            assert str(error) and "\n" not in str(error)
        except SystemExit as end:
            assert end.code == 0 and "--help" in line and out.getvalue()
        else:
            check_options(args)
