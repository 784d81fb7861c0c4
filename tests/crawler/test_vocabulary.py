"""The vocabulary: the one that is shipped, and those that `kowiki.py --stage vocab` makes."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import unicodedata
from pathlib import Path
from unittest import mock

import pytest
import sentencepiece

from crawler import helpers
from crawler.helpers import CRAWLER, ROOT, SAMPLE, check_success, kowiki, run, vocabulary

MODEL = ROOT / "vocab/kowiki.model"
SPECIAL = ["[PAD]", "[UNK]", "[BOS]", "[EOS]", "[SEP]", "[CLS]", "[MASK]"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
JAMO_OF_TODAY = [chr(code) for code in range(0x3131, 0x3164)]
PUBLISHED = ["▁겨울 이 ▁되어 서 ▁날 씨 가 ▁무 척 ▁추 워 요 .",
             "▁이번 ▁성 탄 절 은 ▁화 이트 ▁크리스 마 스가 ▁될 까 요 ?",
             "▁겨울 에 ▁감 기 ▁조 심 하 시 고 ▁행 복 한 ▁연 말 ▁되 세 요 ."]


@pytest.fixture(autouse=True)
def no_reviews(tmp_path, monkeypatch):
    """Those of whoever runs the tests are not for them."""
    monkeypatch.setattr(vocabulary, "REVIEWS", tmp_path / "nsmc/reviews.txt")


@pytest.fixture(scope="module", autouse=True)
def rules_once():
    """They take seconds, and are the same every time."""
    rules = vocabulary.normalisation_rules()
    with mock.patch.object(vocabulary, "normalisation_rules", lambda: rules):
        yield


@pytest.fixture
def corpus(tmp_path):
    shutil.copy(SAMPLE / "kowiki.txt", tmp_path / "kowiki.txt")
    return tmp_path


@pytest.fixture(scope="module")
def shipped():
    return sentencepiece.SentencePieceProcessor(model_file=str(MODEL))


def vocab(folder, *more):
    return run(kowiki, "--stage", "vocab", "--output_dir", folder, "--vocab_dir", folder,
               "--vocab_size", 2000, *more)


def check_error(result, *names):
    """One line on stderr, and nothing before it."""
    assert len(result.err.splitlines()) == 1
    helpers.check_error(result, *names)


def pieces_of(path):
    """Those of a .vocab file."""
    return [line.split("\t")[0] for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def read_model(path):
    return sentencepiece.SentencePieceProcessor(model_file=str(path))


def about(folder):
    return json.loads((folder / "kowiki.model.json").read_text(encoding="utf-8"))


# ---- The shipped model

def test_shipped_model_gives_the_published_pieces(capsys):
    vocabulary.show_examples(MODEL)
    shown = capsys.readouterr().out.split("\n")
    assert [line.strip() for line in shown[2::4]] == PUBLISHED
    numbers = {piece: i for i, piece in enumerate(pieces_of(MODEL.with_suffix(".vocab")))}
    ids = [[str(numbers[piece]) for piece in line.split()] for line in PUBLISHED]
    assert [line.split() for line in shown[3::4]] == ids


def test_shipped_pieces_are_special_ones_then_bytes_then_all_else(shipped):
    pieces = shipped.id_to_piece(list(range(len(shipped))))
    assert pieces == pieces_of(MODEL.with_suffix(".vocab"))
    assert pieces[:263] == [*SPECIAL, *BYTES]
    assert [i for i in range(len(shipped)) if shipped.is_byte(i)] == list(range(7, 263))
    assert len(pieces) == len(set(pieces)) == 8007
    assert {*JAMO_OF_TODAY, *"♥♡★☆"} <= {*pieces}


def test_no_text_loses_a_character(shipped):
    """Not one of all planes, surrogates and what is dropped or a space aside, becomes [UNK]."""
    characters = [chr(code) for code in range(1, 0x110000) if not 0xD800 <= code < 0xE000]
    texts = ["".join(characters[i : i + 1000]) for i in range(0, len(characters), 1000)]
    ids = shipped.encode(texts)
    assert not any(shipped.unk_id() in line for line in ids)
    assert shipped.decode(ids) == [shipped.normalize(text)[1:].replace("▁", " ") for text in texts]


@pytest.mark.parametrize("name", ["kowiki.txt", "ratings_train.txt", "ratings_test.txt"])
def test_bytes_are_few_in_the_sample(shipped, name):
    ids = shipped.encode((SAMPLE / name).read_text(encoding="utf-8"))
    assert shipped.unk_id() not in ids
    assert sum(map(shipped.is_byte, ids)) <= 0.003 * len(ids)


def test_compatibility_jamo_stay_what_they_are(shipped):
    for text in ("ㅋㅠ", "ㅋㅋㅋㅠㅠ", "ㄱㅏ", "가ㄴ", "ㅇㅋ", "ㄳ", "ㆎㆍ"):
        assert shipped.normalize(text) == "▁" + text
        assert shipped.decode(shipped.encode(text)) == text


@pytest.mark.parametrize("path", sorted((ROOT / "vocab").iterdir()), ids=lambda path: path.name)
def test_no_shipped_file_names_a_folder(path):
    """A model keeps the names of what it was made from, as they were given."""
    data = path.read_bytes()
    for name in (b"/home", b"/tmp", b"/data", b"/root", b"/work", b"/Users", b"C:\\", b"/usr"):
        assert name not in data


# ---- Making one

def trained_plainly(folder, *texts):
    """By SentencePiece itself, from files, with options that are spelled out here."""
    vocabulary.write_rules(folder / "rules.tsv")
    sentencepiece.SentencePieceTrainer.train(
        input=[str(text) for text in texts], model_prefix=str(folder / "plain"), model_type="bpe",
        vocab_size=2000, max_sentence_length=999999, byte_fallback=True,
        normalization_rule_tsv=str(folder / "rules.tsv"),
        required_chars="".join(JAMO_OF_TODAY) + "♥♡★☆", pad_id=0, pad_piece="[PAD]", unk_id=1,
        unk_piece="[UNK]", bos_id=2, bos_piece="[BOS]", eos_id=3, eos_piece="[EOS]",
        user_defined_symbols="[SEP],[CLS],[MASK]", minloglevel=2)
    return (folder / "plain.vocab").read_bytes()


def test_vocabulary_is_that_of_the_trainer_and_kept(corpus):
    check_success(vocab(corpus))
    assert (corpus / "kowiki.vocab").read_bytes() == trained_plainly(corpus, corpus / "kowiki.txt")
    pieces = pieces_of(corpus / "kowiki.vocab")
    processor = read_model(corpus / "kowiki.model")
    assert [processor.id_to_piece(i) for i in range(2000)] == pieces
    assert pieces[:263] == [*SPECIAL, *BYTES]
    assert {*JAMO_OF_TODAY, *"♥♡★☆"} <= {*pieces}
    first = (corpus / "kowiki.model").read_bytes()
    assert "kept" in check_success(vocab(corpus, "--vocab_size", 1900)).out
    assert (corpus / "kowiki.model").read_bytes() == first
    check_success(vocab(corpus, "--overwrite"))
    assert (corpus / "kowiki.model").read_bytes() == first  # again the same
    models_need_it = run(kowiki, "--dump", SAMPLE / "kowiki-sample.xml", "--overwrite",
                         "--output_dir", corpus, "--vocab_dir", corpus, "--vocab_size", 1900)
    assert "kept" in check_success(models_need_it).out
    assert (corpus / "kowiki.model").read_bytes() == first


def test_vocabulary_is_made_from_the_reviews_too_where_they_are_there(corpus):
    vocabulary.REVIEWS.parent.mkdir()
    reviews = (SAMPLE / "ratings_train.txt").read_text(encoding="utf-8").split("\n")
    vocabulary.REVIEWS.write_text("\n\n".join(reviews) + "\n\n", encoding="utf-8")
    check_success(vocab(corpus))
    assert about(corpus)["texts"] == ["kowiki.txt", "reviews.txt"]
    assert (corpus / "kowiki.vocab").read_bytes() == trained_plainly(
        corpus, corpus / "kowiki.txt", vocabulary.REVIEWS)
    check_success(vocab(corpus, "--overwrite", "--vocab_text", corpus / "kowiki.txt"))
    assert about(corpus)["texts"] == ["kowiki.txt"]
    assert (corpus / "kowiki.vocab").read_bytes() == trained_plainly(corpus, corpus / "kowiki.txt")


def test_vocabulary_from_other_texts_needs_no_kowiki(tmp_path):
    texts = [SAMPLE / "ratings_train.txt", SAMPLE / "kowiki.txt"]
    check_success(vocab(tmp_path, "--vocab_text", *texts))
    assert (tmp_path / "kowiki.vocab").read_bytes() == trained_plainly(tmp_path, *texts)
    described, model = about(tmp_path), (tmp_path / "kowiki.model").read_bytes()
    assert described["texts"] == [text.name for text in texts]
    assert described["texts_sha1"] == [hashlib.sha1(t.read_bytes()).hexdigest() for t in texts]
    assert described["sha256"] == hashlib.sha256(model).hexdigest()


def test_vocabulary_from_relative_paths_leaves_the_current_folder_as_it_was(corpus, monkeypatch):
    monkeypatch.chdir(corpus)
    check_success(vocab(Path("."), "--vocab_text", "kowiki.txt"))
    assert Path.cwd() == corpus
    made = ["kowiki.model", "kowiki.model.json", "kowiki.vocab", "tokenizer.json",
            "tokenizer_config.json"]
    assert sorted(os.listdir(corpus)) == sorted([*made, "kowiki.txt"])
    data = (corpus / "kowiki.model").read_bytes()
    for name in (str(corpus), tempfile.gettempdir(), "kowiki.txt", str(Path.home())):
        assert name.encode() not in data


def test_made_files_for_transformers_belong_to_the_made_model(corpus):
    check_success(vocab(corpus))
    config = json.loads((corpus / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert config["sentencepiece_sha256"] == about(corpus)["sha256"]
    assert config["sentencepiece_sha256"] != hashlib.sha256(MODEL.read_bytes()).hexdigest()


def test_made_model_normalises_as_the_shipped_one(corpus, shipped):
    check_success(vocab(corpus))
    made = read_model(corpus / "kowiki.model")
    known = [chr(i) for i in range(1, 0x30000)
             if unicodedata.ucd_3_2_0.category(chr(i)) not in ("Cn", "Cs", "Co")]
    texts = [f"a{char}b" for char in known]
    texts += [unicodedata.normalize("NFD", char) for char in known]
    texts += [char + mark for char in "ｶﾊカハａＡé①㎏가"
              for mark in "ﾞﾟ\u3099\u0301\u0341\u0327\u11a8"]
    assert made.normalize(texts) == shipped.normalize(texts)


def test_line_ends_of_windows_change_nothing(corpus):
    data = (SAMPLE / "kowiki.txt").read_bytes()
    (corpus / "crlf.txt").write_bytes(data.replace(b"\n", b"\r\n"))
    check_success(vocab(corpus))
    first = (corpus / "kowiki.model").read_bytes()
    check_success(vocab(corpus, "--overwrite", "--vocab_text", corpus / "crlf.txt"))
    assert (corpus / "kowiki.model").read_bytes() == first


def test_vocabulary_from_a_sample_depends_on_the_seed_alone(corpus):
    models = []
    for seed in (1, 1, 2):
        check_success(vocab(corpus, "--overwrite", "--sample_sentences", 400, "--seed", seed))
        models.append((corpus / "kowiki.vocab").read_bytes())
    assert models[0] == models[1] != models[2]


def test_a_sample_is_about_as_large_as_asked(corpus):
    texts = [corpus / "kowiki.txt", SAMPLE / "ratings_train.txt"]
    lines = [*vocabulary.sentences(texts, 0, 0)]
    assert lines == [line for text in texts for line in text.read_bytes().split(b"\n") if line]
    drawn = [*vocabulary.sentences(texts, 600, 0)]
    assert len(drawn) == pytest.approx(600, rel=0.15)
    assert {*drawn} < {*lines}


@pytest.mark.parametrize("line, times", [("뷁뷁 " * 200_000, 1), ("뷁뷁 ▅ 뷁", 500)],
                         ids=["1.4 MB", "a sign that SentencePiece keeps for itself"])
def test_no_line_is_left_out(line, times, corpus):
    assert "뷁" not in (corpus / "kowiki.txt").read_text(encoding="utf-8")
    with open(corpus / "kowiki.txt", "a", encoding="utf-8") as file:
        file.write(f"\n{line}" * times)
    check_success(vocab(corpus))
    assert "뷁" in pieces_of(corpus / "kowiki.vocab")


# ---- Faults

@pytest.mark.parametrize("text, why", [("", "no text"), ("\n\n", "no text"),
                                       (" \n\u3000\n▅\n", "no text"),
                                       ("가나\n" * 20, "2000 pieces (Vocabulary size too high")])
def test_vocabulary_beyond_the_text_is_told(text, why, corpus):
    (corpus / "kowiki.txt").write_text(text, encoding="utf-8")
    check_error(vocab(corpus), "kowiki.txt", why)
    assert os.listdir(corpus) == ["kowiki.txt"]


def test_vocabulary_too_small_for_bytes_and_required_characters_is_told(corpus):
    result = vocab(corpus, "--vocab_size", 200)
    check_error(result, "200 pieces (Vocabulary size is smaller")
    assert "--character_coverage" not in result.err  # no option of ours


def test_text_that_is_not_there_is_told(corpus):
    texts = [corpus / "kowiki.txt", corpus / "none.txt"]
    check_error(vocab(corpus, "--vocab_text", *texts), "none.txt")
    check_error(vocab(corpus, "--vocab_text", corpus), corpus, "--vocab_text")
    vocabulary.REVIEWS.parent.mkdir()
    shutil.copy(SAMPLE / "kowiki.txt", vocabulary.REVIEWS)
    (corpus / "kowiki.txt").unlink()
    check_error(vocab(corpus), "kowiki.txt", "--stage extract")  # reviews alone are not the default


@pytest.mark.parametrize("name", ["kowiki.vocab", "tokenizer.json", "tokenizer_config.json",
                                  "kowiki.model.json"])
def test_file_of_others_is_not_replaced(name, corpus):
    (corpus / name).write_text('{"mine": 1}')
    check_error(vocab(corpus), name, "there already, without kowiki.model",
                "--stage vocab --overwrite")
    assert sorted(os.listdir(corpus)) == sorted([name, "kowiki.txt"])
    assert (corpus / name).read_text() == '{"mine": 1}'
    check_success(vocab(corpus, "--overwrite"))
    assert b"mine" not in (corpus / name).read_bytes()[:9]


def test_file_beside_a_manifest_of_others_is_not_replaced(corpus):
    (corpus / "kowiki.model.json").write_text("{}")
    (corpus / "tokenizer.json").write_text("mine")
    check_error(vocab(corpus), "tokenizer.json", "there already, without kowiki.model")
    assert (corpus / "tokenizer.json").read_text() == "mine"


def test_file_of_others_is_told_before_the_first_stage(tmp_path):
    (tmp_path / "tokenizer.json").write_text("mine")
    result = run(kowiki, "--dump", SAMPLE / "kowiki-sample.xml", "--processes", 1,
                 "--output_dir", tmp_path, "--vocab_dir", tmp_path)
    check_error(result, "tokenizer.json", "there already, without kowiki.model")
    assert os.listdir(tmp_path) == ["tokenizer.json"]


def test_text_in_another_encoding_is_told_with_its_line(corpus):
    (corpus / "kowiki.txt").write_bytes("제목\n\n".encode() + "본문\n".encode("cp949"))
    check_error(vocab(corpus), "kowiki.txt", "line 3", "cp949")
    assert os.listdir(corpus) == ["kowiki.txt"]


def test_model_that_is_none_is_told(corpus):
    (corpus / "kowiki.model").write_text("가나다\n" * 99)
    result = vocab(corpus)
    assert result.code == 2
    assert "kowiki.model" in result.err
    assert "not a SentencePiece model" in result.err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no disk that is always full")
def test_full_disk_is_told(corpus):
    (corpus / "kowiki.vocab.tmp").symlink_to("/dev/full")
    check_error(vocab(corpus), "kowiki.vocab.tmp", "No space left")
    assert not (corpus / "kowiki.model").exists()


KILLED = """
import json, os, signal, sys
import vocabulary
with open(sys.argv.pop(1), encoding="utf-8") as file:
    rules = json.load(file)
vocabulary.normalisation_rules = lambda: rules
left, real = int(sys.argv.pop(1)), os.replace
def replace(*names):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    real(*names)
os.replace = replace
import kowiki
kowiki.common.run(kowiki.main)
"""


def test_stage_killed_at_any_rename_is_made_good(corpus):
    options = ["--vocab_text", corpus / "kowiki.txt"]
    check_success(vocab(corpus / "whole", *options))
    names = ["kowiki.model", "kowiki.vocab", "tokenizer.json", "tokenizer_config.json"]
    rules = corpus / "rules.json"
    rules.write_text(json.dumps(vocabulary.normalisation_rules()), encoding="utf-8")
    for count in range(5):
        folder = corpus / str(count)
        line = ["--stage", "vocab", "--output_dir", folder, "--vocab_dir", folder,
                "--vocab_size", 2000, *options]
        killed = subprocess.run([sys.executable, "-c", KILLED, rules, str(count), *map(str, line)],
                                capture_output=True, timeout=300,
                                env=os.environ | {"PYTHONPATH": str(CRAWLER)})
        assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
        assert not (folder / "kowiki.model").exists()
        check_success(vocab(folder, *options))
        assert sorted(os.listdir(folder)) == sorted([*names, "kowiki.model.json"])
        for name in names:
            assert (folder / name).read_bytes() == (corpus / "whole" / name).read_bytes()
