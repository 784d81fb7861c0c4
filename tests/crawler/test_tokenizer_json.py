"""tokenizer.json: an unmodified `transformers` gives SentencePiece's ids, from the files of a model
that kowiki.py has made, and no other model gets such files."""

import contextlib
import hashlib
import io
import itertools
import json
import os
import random
import shutil
import sys
import unicodedata
from pathlib import Path
from unittest import mock

import pytest
import sentencepiece

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "web-crawler"))
import common
import tokenizer_json
import vocabulary

os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}  # read as it is imported
transformers = pytest.importorskip("transformers")

ROOT = Path(__file__).resolve().parents[2]
SAMPLE, VOCAB = ROOT / "web-crawler/sample", ROOT / "vocab"
MODEL = VOCAB / "kowiki.model"
FILES = ("tokenizer.json", "tokenizer_config.json")
ROLES = ("pad", "unk", "bos", "eos", "sep", "cls", "mask")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """The shipped files beside the config.json of a model, which has a say in the class."""
    folder = tmp_path_factory.mktemp("shipped")
    for name in FILES:
        shutil.copy(VOCAB / name, folder)
    (folder / "config.json").write_text('{"model_type": "convbert", "vocab_size": 8007}')
    return transformers.AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def processor():
    return sentencepiece.SentencePieceProcessor(model_file=str(MODEL))


# ---- Ids

def plain_ids(tokenizer, texts):
    return tokenizer(texts, add_special_tokens=False)["input_ids"]


def same_ids(tokenizer, processor, texts):
    """With special tokens, without, and cut to 12 as convbert.py cuts."""
    begin, end = processor.piece_to_id(["[CLS]", "[SEP]"])
    plain, marked = plain_ids(tokenizer, texts), tokenizer(texts)["input_ids"]
    cut = tokenizer(texts, truncation=True, max_length=12)["input_ids"]
    for i, (text, ids) in enumerate(zip(texts, processor.encode(texts))):
        assert plain[i] == ids, f"{text!a}: {processor.encode(text, out_type=str)}"
        assert marked[i] == [begin, *ids, end]
        assert cut[i] == [begin, *ids[:10], end]


ODD = {
    "nothing": ["", " ", "   ", "\n", "\t \r\n", "\u3000", "\u200b", "\x00", "\x01", " \x7f ", "▁",
                "▁▁ ▁"],
    "spaces": [" 앞", "뒤 ", "  둘   사이  ", "탭\t과\n줄\r\n바꿈", "\n\n가\n\n",
               "가\u00a0나\u2003다\u3000라", "가\x0b나\x0c다\x85라", "가\x85", "\x85 가"],
    "no width": ["가\u200b나", "가\u200c나\u200d다", "\ufeff가", "가\u2060나", "가\u00ad나",
                 "a\u200d \u200db"],
    "control": ["가\x00나", "\x01 가", "가\x1f \x1f나", "\x1b[31m빨강\x1b[0m", "\x8f\x9f가\x80",
                "e\x01\u0301"],
    "emoji": ["👍", "좋아요👍👍🏽", "👨\u200d👩\u200d👧 가족", "🇰🇷", "1\ufe0f\u20e3 ♥\ufe0f",
              "ㅋㅋ😂😂😂ㅋㅋ", "½\u200d"],
    "jamo": ["ㅋㅋㅋㅋㅋ", "ㅋㅠㅋㅠ", "ㅠㅠㅠ", "ㅇㅇ ㄴㄴ ㅇㅋ", "ㄱㅏㄱㅏ", "ㄱㅏㄳ",
             "아ㅏㅏㅏㅏ", "가ㄴ", "ﾡￂ"],
    "jamo behind a syllable": ["개ㄳ", "가ㅄ", "나\u11a8", "가ﾣ", "각ㄺ", "과ㄵ ㄶ"],
    "old Hangul": ["나랏말ᄊᆞ미 듀ᇰ귁에달아", "ᄒᆞᆫ글", "ㆍ ㅿ ㆁ ㆆ", "\u115f\u1160",
                   "\u1112\u119e\u11ab"],
    "compatibility": ["ＡＢＣ　１２３！？", "ａ\u0301", "～ 〜 ~", "①② ㈜ ㎏ ½ ™", "ﬁ ﷺ", "ｶﾞｷﾞ",
                      "豈 金"],
    "marks": ["e\u0301 é", "a\u0323\u0302", "\u0301가", "q\u0323\u0307", "Ç C\u0327",
              "が か\u3099"],
    "symbols": ["[SEP]", "[MASK]", "[CLS] 가 [SEP]", "나는 [MASK] 간다", "나는[MASK] 간다",
                "[MASK][MASK]은", "［MASK］", "[mask] [MASK", "[SEP]▁[SEP]",
                "[MASK]가나다라 [SEP]이다", "\n[SEP]\n"],
    "names that are no symbols": ["[PAD]", "[UNK] 가", "가[BOS]", "[EOS]나", "[PAD][PAD]",
                                  "[SEP][UNK][CLS]",
                                  "[MASK][PAD]", "[[PAD]]", "<s></s><unk>"],
    "literal space marks": ["▁가", "가▁나", "가 ▁ 나", "가▁", "▁▁가▁▁"],
    "long": ["가나다라" * 500, "ㅋ" * 3000, "!" * 999, "." * 1000, "뷁" * 500, "a" * 777,
             "12345" * 300],
    "bytes": ["<0x41>", "가<0x41>", "[MASK]<0x41>", "[MASK]<0x41> 나", "[MASK]<0x41>[SEP]",
              "[SEP]<0x00><0xFF>", "[MASK]<0xff>", "[MASK]<0x4", "<0x41>[CLS]<0xEA>", "▁<0xEA>"],
    "stand-ins": ["\ufdd0", "\ufdd0ㅋ", "\ufdd1\ufdd0～", "ㅋ\ufdd2", "\ufffe\uffff",
                  "\ue000ㅋ\uf8ff", "\x01ㅋ\x02", "\x01\u110f", "\x01ᄏ\x02\x01\u1161", "\ufdd0一"],
    "kept": ["～", "a～\u0303", "ㅋ\u1161", "\u1100ㅏ", "ㅋ\u0301", "가ㄱㅏ\u11a8", "ㅤ", "ㆎ ㆍ",
             "ㅋ\x01ㅠ", "ㄱ\u1100\u1161ㄱ", "ﾡㅏ", "ㄱￂ"],
    "unknown": ["뷁쀍", "뷁 쀍", "가뷁나", "ꙮ", "䲜䲜 䲜", "가𠮷𠮷나", "Ωß"],
}


def texts_of(name):
    return (SAMPLE / name).read_text(encoding="utf-8").split("\n")


def in_fifties(words):
    """Texts of fifty words, which takes less time than fifty texts."""
    return [" ".join(words[i : i + 50]) for i in range(0, len(words), 50)]


def known_characters():
    """All of Unicode 3.2, which Python keeps for ever."""
    category = unicodedata.ucd_3_2_0.category
    return [chr(i) for i in range(1, 0x110000) if category(chr(i)) not in ("Cn", "Cs", "Co")]


@pytest.mark.parametrize("name", ODD)
def test_odd_texts_have_sentencepieces_ids(tokenizer, processor, name):
    same_ids(tokenizer, processor, ODD[name])


@pytest.mark.parametrize("form", ["NFD", "NFKD"])
def test_decomposed_text_has_sentencepieces_ids(tokenizer, processor, form):
    texts = texts_of("kowiki.txt")[:200] + texts_of("ratings_test.txt")
    same_ids(tokenizer, processor, [unicodedata.normalize(form, text) for text in texts])


@pytest.mark.parametrize("name", ["kowiki.txt", "ratings_train.txt", "ratings_test.txt"])
def test_sample_has_sentencepieces_ids(tokenizer, processor, name):
    same_ids(tokenizer, processor, texts_of(name))


def test_any_character_has_sentencepieces_ids(tokenizer, processor):
    """Between others that are known: as it is, and taken apart."""
    known = known_characters()
    same_ids(tokenizer, processor, in_fifties([f"가{char} {char}나" for char in known]))
    for form in ("NFD", "NFKD"):
        apart = {unicodedata.normalize(form, char) for char in known} - {*known}
        same_ids(tokenizer, processor, in_fifties([f"가{text}나" for text in sorted(apart)]))


def test_every_syllable_has_sentencepieces_ids(tokenizer, processor):
    """11,172 of them: alone, within words, and spelled in conjoining jamo."""
    syllables = [chr(code) for code in range(0xAC00, 0xD7A4)]
    texts = in_fifties([f"{syllable} {syllable}이 가{syllable}" for syllable in syllables])
    assert len(syllables) == 11172
    same_ids(tokenizer, processor, texts)
    same_ids(tokenizer, processor, [unicodedata.normalize("NFD", text) for text in texts])


def test_every_two_jamo_have_sentencepieces_ids(tokenizer, processor):
    """Compatibility jamo, half-width and conjoining ones, and syllables among them."""
    kept = [chr(code) for code in range(0x3131, 0x318F)]
    half = [chr(code) for code in range(0xFFA0, 0xFFDD)]
    conjoining = [chr(code) for code in (*range(0x1100, 0x1115), *range(0x1160, 0x1178),
                                         *range(0x11A8, 0x11C5))]
    letters = [*kept, *half, *conjoining, "가", "각", "a"]
    assert all(processor.unk_id() not in ids for ids in processor.encode(letters))
    pairs = [*itertools.product(letters, [*half, "가"]), *itertools.product(kept, letters)]
    rng = random.Random(0)
    mixtures = [rng.choices(letters, k=6) for _ in range(3000)]
    same_ids(tokenizer, processor, in_fifties(["".join(word) for word in [*pairs, *mixtures]]))


def test_any_piece_has_its_id_where_no_space_is_in_front(tokenizer, processor):
    pieces = processor.id_to_piece(list(range(7, len(processor))))  # names of bytes, too
    same_ids(tokenizer, processor, ["[MASK]" + piece.replace("▁", " ") for piece in pieces])


def test_random_mixtures_have_sentencepieces_ids(tokenizer, processor):
    parts = [text for texts in ODD.values() for text in texts if len(text) < 20]
    parts = [text for text in parts if not unicodedata.combining(text[:1] or " ")]
    letters = "".join(parts) + "[]MASKSEPCLS<0x41>가각힣ㄱㅏᄀ\u1161\u11a8 ㅋㅋ.!?0123abc"
    letters = [char for char in letters if not unicodedata.combining(char)]
    rng = random.Random(0)
    texts = ["".join(rng.choices(letters, k=rng.randrange(1, 12))) for _ in range(3000)]
    texts += [rng.choice(["", " "]).join(rng.sample(parts, 3)) for _ in range(1000)]
    same_ids(tokenizer, processor, texts)


def marked_texts(count):
    """A character, two combining marks and a syllable: (in canonical order, in the other)."""
    marks = [c for c in known_characters()
             if unicodedata.combining(c) and not unicodedata.decomposition(c)]
    plain = [c for c in known_characters() if c.isalpha() and not unicodedata.decomposition(c)]
    rng, sets = random.Random(0), ([], [])
    while len(sets[0]) < count:
        pair = sorted(rng.sample(marks, 2), key=unicodedata.combining)
        if unicodedata.combining(pair[0]) != unicodedata.combining(pair[1]):
            letter = rng.choice(plain)
            sets[0].append(letter + "".join(pair) + "나")
            sets[1].append(letter + "".join(reversed(pair)) + "나")
    return sets


def test_marks_in_canonical_order_have_sentencepieces_ids(tokenizer, processor):
    same_ids(tokenizer, processor, marked_texts(3000)[0])


def test_ids_that_differ_say_an_equivalent_text(tokenizer, processor):
    """What the docstring names: marks out of order, marks behind what NFKC takes apart, and newer
    compatibility characters."""
    apart = [c + mark for c in "㎏㎉½ﬁ㈜℡" for mark in "\u0300\u0301\u0327\u0340\u0344"]
    texts = [*marked_texts(1000)[1], *apart, "q\u0307\u0323", "e\u0340", "\u32ff", "가\u32ff년"]
    ours, theirs = processor.encode(texts), plain_ids(tokenizer, texts)
    assert any(a != b for a, b in zip(ours, theirs))  # else there would be nothing to name
    for text, a, b in zip(texts, ours, theirs):
        normal = [unicodedata.normalize("NFKC", decoder.decode(ids))
                  for decoder, ids in ((processor, a), (tokenizer, b))]
        assert normal[0] == normal[1], ascii(text)


def test_ids_read_back_as_text(tokenizer):
    ids = tokenizer(" 배우들 연기가  정말[MASK] 좋았어요.")["input_ids"]
    assert tokenizer.decode(ids) == "[CLS] 배우들 연기가 정말[MASK] 좋았어요.[SEP]"
    assert tokenizer.decode(ids, skip_special_tokens=True) == "배우들 연기가 정말 좋았어요."


def test_bytes_read_back_as_the_characters_they_spell(tokenizer, processor):
    text = "뷁쀍 👍🏽 𠮷 ㅋㅠ♥"
    ids = plain_ids(tokenizer, [text])[0]
    assert sum(map(processor.is_byte, ids)) == 3 + 3 + 4 + 4 + 4
    assert tokenizer.decode(ids) == processor.decode(ids) == text


def test_special_tokens_are_where_sentencepiece_has_them(tokenizer, processor):
    names = [f"[{role.upper()}]" for role in ROLES]
    assert [getattr(tokenizer, f"{role}_token") for role in ROLES] == names
    assert [getattr(tokenizer, f"{role}_token_id") for role in ROLES] == list(range(7))
    assert processor.piece_to_id(names) == list(range(7))
    assert len(tokenizer) == tokenizer.vocab_size == len(processor) == 8007


def test_bytes_have_the_ids_after_them_and_merge_with_nothing():
    model = json.loads((VOCAB / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    assert [model["vocab"][f"<0x{i:02X}>"] for i in range(256)] == list(range(7, 263))
    assert model["byte_fallback"] is True
    for pair in model["merges"]:
        left, right = pair.split(" ")
        assert min(model["vocab"][piece] for piece in (left, right, left + right)) >= 263


# ---- The files

def command(*options):
    """The last line of stderr, and the status."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (mock.patch("sys.argv", ["tokenizer_json.py", *map(str, options)]),
          contextlib.redirect_stdout(out), contextlib.redirect_stderr(err)):
        try:
            common.run(tokenizer_json.main)
        except SystemExit as end:
            code = end.code
    return err.getvalue().splitlines(), code


def test_shipped_files_are_what_the_shipped_model_gives():
    made = tokenizer_json.tokenizer_files(MODEL.read_bytes(), MODEL)
    assert made == {name: (VOCAB / name).read_bytes() for name in FILES}


def test_files_say_which_model_they_belong_to(tmp_path):
    """By its content, whatever its name; and transformers keeps it when it saves the tokenizer."""
    shutil.copy(MODEL, tmp_path / "mine.spm")
    assert command(tmp_path / "mine.spm") == ([], 0)
    assert sorted(os.listdir(tmp_path)) == ["mine.spm", *FILES]
    name = hashlib.sha256(MODEL.read_bytes()).hexdigest()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path / "saved")
    for folder in (VOCAB, tmp_path, tmp_path / "saved"):
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        assert config["sentencepiece_sha256"] == name


def test_a_tokenizer_saved_by_transformers_gives_the_same_ids(tokenizer, processor, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    again = transformers.AutoTokenizer.from_pretrained(tmp_path)
    same_ids(again, processor, [text for texts in ODD.values() for text in texts])


TRAINING = vocabulary.TRAINING | dict(vocab_size=1300, minloglevel=2)
UNFIT = {
    "unigram": dict(model_type="unigram"),
    "plain NFKC": dict(normalization_rule_name="nfkc"),
    "jamo not kept": dict(normalization_rule_name="nmt_nfkc"),
    "small letters": dict(normalization_rule_name="nmt_nfkc_cf"),
    "spaces kept": dict(remove_extra_whitespaces=False),
    "no space in front": dict(add_dummy_prefix=False),
    "space behind": dict(treat_whitespace_as_suffix=True),
    "no bytes": dict(byte_fallback=False),
    "symbols lack": dict(user_defined_symbols=[]),
    "other names": dict(pad_piece="<pad>"),
}


@pytest.fixture(scope="module")
def fit(tmp_path_factory):
    """A small model of the right kind, and the rules of its normalisation in a file."""
    folder = tmp_path_factory.mktemp("fit")
    model = vocabulary.train([SAMPLE / "ratings_train.txt"], 1300, 0, 0)
    (folder / "fit.model").write_bytes(model)
    vocabulary.write_rules(folder / "rules.tsv")
    return folder


def test_a_small_model_has_sentencepieces_ids(fit, tmp_path):
    shutil.copy(fit / "fit.model", tmp_path / "a.model")
    assert command(tmp_path / "a.model") == ([], 0)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(fit / "fit.model"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    same_ids(tokenizer, processor, [*texts_of("ratings_test.txt"), *texts_of("kowiki.txt")])
    for texts in ODD.values():
        same_ids(tokenizer, processor, texts)


def test_names_are_cut_as_the_model_cuts_them(tmp_path):
    """In a vocabulary with such pieces as <0 and 41>, which no text at hand gives."""
    text = tmp_path / "text.txt"
    words = [f"[{role.upper()}x {a}<0x{a} {a}41>{a}" for role, a in zip(ROLES, "가나다라마바사")]
    lines = [" ".join(words)] * 200 + texts_of("ratings_train.txt")
    text.write_text("\n".join(lines), encoding="utf-8")
    model = vocabulary.train([text], 1500, 0, 0)
    (tmp_path / "a.model").write_bytes(model)
    assert command(tmp_path / "a.model") == ([], 0)
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    assert processor.encode("[MASK]<0x41>", out_type=str)[2:] == ["<0", "x", "41>"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    names = [*tokenizer_json.SPECIAL, *tokenizer_json.BYTES]
    for begin, end in itertools.product(("", "가", "[MASK]"), ("", " 가", "[SEP]", "z")):
        same_ids(tokenizer, processor, [begin + name + end for name in names])


@pytest.mark.parametrize("kind", [*UNFIT, "cut", "text", "empty", "absent", "folder"])
def test_a_model_of_another_kind_is_told_in_one_line(kind, fit, tmp_path):
    path = tmp_path / "a.model"
    if kind in UNFIT:
        rules = {} if "normalization_rule_name" in UNFIT[kind] else dict(
            normalization_rule_tsv=str(fit / "rules.tsv"))
        sentencepiece.SentencePieceTrainer.train(
            input=str(SAMPLE / "ratings_train.txt"), model_prefix=str(tmp_path / "a"),
            **TRAINING | rules | UNFIT[kind])
    elif kind == "folder":
        path.mkdir()
    elif kind != "absent":
        data = MODEL.read_bytes()
        path.write_bytes({"cut": data[:5000], "text": "가나다\n".encode() * 99, "empty": b""}[kind])
    lines, code = command(path)
    assert code == 2
    assert len(lines) == 1
    assert "a.model" in lines[0]
    assert not any((tmp_path / name).exists() for name in FILES)


def test_the_test_of_kinds_would_take_the_right_one(fit, tmp_path):
    sentencepiece.SentencePieceTrainer.train(
        input=str(SAMPLE / "ratings_train.txt"), model_prefix=str(tmp_path / "a"),
        normalization_rule_tsv=str(fit / "rules.tsv"), **TRAINING)
    assert command(tmp_path / "a.model") == ([], 0)


def test_command_without_a_model_says_what_it_needs():
    for options in ([], ["--colour"], ["a", "b"]):
        lines, code = command(*options)
        assert (len(lines), code) == (1, 2)
        assert "kowiki.model" in lines[0]


def test_help_is_no_mistake(capsys):
    with mock.patch("sys.argv", ["tokenizer_json.py", "--help"]):
        tokenizer_json.main()
    assert "tokenizer_json.py ../vocab/kowiki.model" in capsys.readouterr().out
