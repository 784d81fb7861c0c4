"""Beside an unmodified `transformers`: its models give our numbers, and it opens folders written here."""

import argparse
import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import (
    answer,
    gradients,
    length_mask,
    make,
    models,
    random_ids,
    random_labels,
    randomise,
    same,
    same_gradients,
    saved,
    some_inputs,
    tiny,
)

import convbert
from convbert import (
    IGNORE,
    SIZES,
    ConvBertConfig,
    ConvBertForMaskedLM,
    ConvBertForPreTraining,
    ConvBertForSequenceClassification,
    ConvBertModel,
)

os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}  # read as it is imported
transformers = pytest.importorskip("transformers")

ROOT = Path(__file__).resolve().parents[1]
SAMPLE, VOCAB = ROOT / "web-crawler/sample", ROOT / "vocab"
FILES = ("tokenizer.json", "tokenizer_config.json")
REVIEWS = ["배우들 연기가 정말 좋았어요", "시간이 아깝다", "ㅋㅋㅋ 최고!!! 👍", "", "보다가   졸았음… ★",
           "영화 " * 200]


def open_tokenizer(folder):
    """AutoTokenizer of a folder: the copies beside a model go with its config.json."""
    return transformers.AutoTokenizer.from_pretrained(folder)


def copy_files(source, folder):
    for name in FILES:
        shutil.copy(source / name, folder)


@pytest.fixture(scope="module")
def config():
    return convbert.ConvBertConfig(**convbert.SIZES["tiny"])


# ---- Hidden states, losses and gradients

def published_size(size):
    return SIZES[size] | dict(num_hidden_layers=2, vocab_size=200)


SMALL = dict(vocab_size=200, embedding_size=24, hidden_size=24, num_hidden_layers=2, num_attention_heads=4,
             intermediate_size=48, max_position_embeddings=310)
PARITY = {  # name: configuration, length
    "small": (published_size("small"), 20),
    "medium-small": (published_size("medium-small"), 20),
    "base": (published_size("base"), 12),
    "two groups": (SMALL | dict(num_groups=2), 20),
    "four groups": (SMALL | dict(num_groups=4), 20),
    "E is not H": (SMALL | dict(embedding_size=10), 20),
    "three layers": (SMALL | dict(num_hidden_layers=3), 20),
    "one head": (SMALL | dict(num_attention_heads=1), 20),
    "head ratio 4": (SMALL | dict(head_ratio=4), 20),
    "wide kernel": (SMALL | dict(conv_kernel_size=15), 20),
    "kernel of one": (SMALL | dict(conv_kernel_size=1), 20),
    "odd length": (SMALL, 17),
    "shorter than the kernel": (SMALL, 5),
    "one token": (SMALL, 1),
    "longer than 256": (SMALL, 300),
}
parity = pytest.mark.parametrize("case", PARITY)
inputs_given = pytest.mark.parametrize("given", ["ids", "mask", "types", "all"])


def hf_config(config):
    names = [field.name for field in dataclasses.fields(config)]
    values = dataclasses.asdict(config)
    shared = names[: names.index("layer_norm_eps") + 1]
    return transformers.ConvBertConfig(**{name: values[name] for name in shared})


def pair(cls, case):
    """A model, Hugging Face's with the same weights, and the length to try."""
    values, T = PARITY[case]
    model = randomise(cls(ConvBertConfig(**values, conv_padding_mask=False))).eval()
    other = getattr(transformers, cls.__name__)(hf_config(model.config)).eval()
    other.load_state_dict(model.state_dict(), strict=True)
    return model, other, T


def parity_inputs(T, given):
    inputs = dict(input_ids=random_ids(3, T, vocab_size=200))
    if given in ("mask", "all"):
        inputs["attention_mask"] = length_mask([T, max(1, T // 2), max(1, T - 3)], T)
    if given in ("types", "all"):
        inputs["token_type_ids"] = torch.randint(2, (3, T))
    return inputs


@parity
@inputs_given
def test_hidden_state_is_hugging_faces(case, given):
    model, other, T = pair(ConvBertModel, case)
    inputs = parity_inputs(T, given)
    with torch.no_grad():
        same(model(**inputs), other(**inputs).last_hidden_state)


@parity
@pytest.mark.parametrize("given", ["ids", "all"])
def test_mlm_is_hugging_faces(case, given):
    model, other, T = pair(ConvBertForMaskedLM, case)
    inputs = parity_inputs(T, given)
    labels = random_labels(inputs["input_ids"])
    ours, theirs = model(**inputs, labels=labels), other(**inputs, labels=labels)
    same(ours.loss, theirs.loss)
    same(ours.logits, theirs.logits[labels != IGNORE])
    same(model(**inputs).logits, theirs.logits)
    assert model(**inputs).loss is None
    same_gradients(gradients(model, ours.loss), gradients(other, theirs.loss))


@parity
def test_classifier_is_hugging_faces(case):
    model, other, T = pair(ConvBertForSequenceClassification, case)
    inputs, labels = parity_inputs(T, "all"), torch.tensor([1, 0, 1])
    ours, theirs = model(**inputs, labels=labels), other(**inputs, labels=labels)
    same(ours.loss, theirs.loss)
    same(ours.logits, theirs.logits)
    same(model(**inputs).logits, theirs.logits)
    assert model(**inputs).loss is None
    same_gradients(gradients(model, ours.loss), gradients(other, theirs.loss))


# ---- Folders

@models
@pytest.mark.parametrize("groups", [1, 2])
def test_state_dicts_are_hugging_faces_in_both_directions(cls, groups):
    model = make(cls, embedding_size=8, num_groups=groups)
    other = getattr(transformers, cls.__name__)(hf_config(model.config))
    other.load_state_dict(model.state_dict(), strict=True)
    fresh = cls(model.config)
    fresh.load_state_dict(other.state_dict(), strict=True)
    inputs = some_inputs()
    assert torch.equal(answer(fresh, **inputs), answer(model, **inputs))


@models
def test_hugging_face_opens_a_folder_saved_here(tmp_path, cls):
    model = make(cls, embedding_size=8, num_groups=2, pad_token_id=3)
    folder = saved(model, tmp_path)
    other, report = getattr(transformers, cls.__name__).from_pretrained(folder, output_loading_info=True)
    assert not any(report.values()), report
    assert transformers.AutoConfig.from_pretrained(folder).pad_token_id == 3
    inputs = some_inputs()
    same(answer(other, **inputs), answer(model, **inputs))


@models
def test_a_folder_saved_by_hugging_face_opens_here(tmp_path, capsys, cls):
    other = randomise(getattr(transformers, cls.__name__)(hf_config(tiny(embedding_size=8, num_groups=2))))
    other.save_pretrained(tmp_path)
    capsys.readouterr()
    model = cls.from_pretrained(tmp_path, new_head=False)
    assert capsys.readouterr().err == ""
    inputs = some_inputs()
    same(answer(model, **inputs), answer(other, **inputs))


def test_hugging_face_opens_what_replaced_token_detection_saves(tmp_path):
    model, ids = make(ConvBertForPreTraining, embedding_size=8), random_ids(2, 11)
    saved(model, tmp_path)
    other, report = transformers.ConvBertModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    same(answer(other, input_ids=ids), answer(model.convbert, input_ids=ids))


# ---- Ids

def same_ids(tokenizer, processor, texts):
    """With special tokens, without, and cut to 12 as convbert.py cuts."""
    begin, end = processor.piece_to_id(["[CLS]", "[SEP]"])
    expected = processor.encode(texts)
    plain, marked, cut = (tokenizer(texts, **options)["input_ids"] for options in (
        {"add_special_tokens": False}, {}, {"truncation": True, "max_length": 12}))
    for i, (text, ids) in enumerate(zip(texts, expected)):
        assert plain[i] == ids, f"{text!a}: {processor.encode(text, out_type=str)}"
        assert marked[i] == [begin, *ids, end]
        assert cut[i] == [begin, *ids[:10], end]


ODD = {
    "nothing": ["", " ", "   ", "\n", "\t \r\n", "\u3000", "\u200b", "\x00", "\x01", " \x7f ", "▁", "▁▁ ▁"],
    "spaces": [" 앞", "뒤 ", "  둘   사이  ", "탭\t과\n줄\r\n바꿈", "\n\n가\n\n",
               "가\u00a0나\u2003다\u3000라", "가\x0b나\x0c다\x85라", "가\x85", "\x85 가"],
    "no width": ["가\u200b나", "가\u200c나\u200d다", "\ufeff가", "가\u2060나", "가\u00ad나",
                 "a\u200d \u200db"],
    "control": ["가\x00나", "\x01 가", "가\x1f \x1f나", "\x1b[31m빨강\x1b[0m", "\x8f\x9f가\x80",
                "e\x01\u0301"],
    "emoji": ["👍", "좋아요👍👍🏽", "👨\u200d👩\u200d👧 가족", "🇰🇷", "1\ufe0f\u20e3 ♥\ufe0f",
              "ㅋㅋ😂😂😂ㅋㅋ", "½\u200d"],
    "jamo": ["ㅋㅋㅋㅋㅋ", "ㅋㅠㅋㅠ", "ㅠㅠㅠ", "ㅇㅇ ㄴㄴ ㅇㅋ", "ㄱㅏㄱㅏ", "ㄱㅏㄳ", "아ㅏㅏㅏㅏ",
             "가ㄴ", "ﾡￂ"],
    "jamo behind a syllable": ["개ㄳ", "가ㅄ", "나\u11a8", "가ﾣ", "각ㄺ", "과ㄵ ㄶ"],
    "old Hangul": ["나랏말ᄊᆞ미 듀ᇰ귁에달아", "ᄒᆞᆫ글", "ㆍ ㅿ ㆁ ㆆ", "\u115f\u1160",
                   "\u1112\u119e\u11ab"],
    "compatibility": ["ＡＢＣ　１２３！？", "ａ\u0301", "～ 〜 ~", "①② ㈜ ㎏ ½ ™", "ﬁ ﷺ", "ｶﾞｷﾞ",
                      "豈 金"],
    "marks": ["e\u0301 é", "a\u0323\u0302", "\u0301가", "q\u0307\u0323", "Ç C\u0327", "が か\u3099"],
    "symbols": ["[SEP]", "[MASK]", "[CLS] 가 [SEP]", "나는 [MASK] 간다", "나는[MASK] 간다", "[MASK][MASK]은",
                "［MASK］", "[mask] [MASK", "[SEP]▁[SEP]", "[MASK]가나다라 [SEP]이다", "\n[SEP]\n"],
    "names that are no symbols": ["[PAD]", "[UNK] 가", "가[BOS]", "[EOS]나", "[PAD][PAD]", "[SEP][UNK][CLS]",
                                  "[MASK][PAD]", "[[PAD]]", "<s></s><unk>"],
    "literal space marks": ["▁가", "가▁나", "가 ▁ 나", "가▁", "▁▁가▁▁"],
    "long": ["가나다라" * 500, "ㅋ" * 3000, "!" * 999, "." * 1000, "뷁" * 500, "a" * 777, "12345" * 300],
    "unknown": ["뷁쀍", "뷁 쀍", "가뷁나", "ꙮ", "䲜䲜 䲜", "가𠮷𠮷나", "Ωß"],
}


@pytest.mark.parametrize("name", ODD)
def test_odd_texts_have_sentencepieces_ids(tokenizer, processor, name):
    same_ids(tokenizer, processor, ODD[name])


def test_decomposed_text_has_sentencepieces_ids(tokenizer, processor):
    lines = (SAMPLE / "kowiki.txt").read_text(encoding="utf-8").splitlines()[:200]
    for form in ("NFD", "NFKD"):
        same_ids(tokenizer, processor, [unicodedata.normalize(form, line) for line in lines])


@pytest.mark.parametrize("name", ["kowiki.txt", "ratings_train.txt", "ratings_test.txt"])
def test_sample_has_sentencepieces_ids(tokenizer, processor, name):
    lines = (SAMPLE / name).read_text(encoding="utf-8").split("\n")
    same_ids(tokenizer, processor, lines)


def test_any_character_has_sentencepieces_ids(tokenizer, processor):
    """All of Unicode 3.2, which Python keeps for ever, between others that are known."""
    category = unicodedata.ucd_3_2_0.category
    known = [chr(i) for i in range(1, 0x110000) if category(chr(i)) not in ("Cn", "Cs", "Co")]
    texts = [f"가{char} {char}나" for char in known]
    same_ids(tokenizer, processor, ["".join(texts[i : i + 50]) for i in range(0, len(texts), 50)])


def test_any_piece_has_its_id_where_no_space_is_in_front(tokenizer, processor):
    pieces = processor.id_to_piece(list(range(7, len(processor))))
    same_ids(tokenizer, processor, ["[MASK]" + piece.replace("▁", " ") for piece in pieces])


def test_random_mixtures_have_sentencepieces_ids(tokenizer, processor):
    parts = [text for texts in ODD.values() for text in texts if len(text) < 20]
    parts = [text for text in parts if not unicodedata.combining(text[:1] or " ")]
    letters = "".join(parts) + "[]MASKSEPCLS가각힣ㄱㅏᄀ\u1161\u11a8 ㅋㅋ.!?0123abc"
    letters = [char for char in letters if not unicodedata.combining(char)]
    rng = random.Random(0)
    texts = ["".join(rng.choices(letters, k=rng.randrange(1, 12))) for _ in range(3000)]
    texts += [rng.choice(["", " "]).join(rng.sample(parts, 3)) for _ in range(1000)]
    same_ids(tokenizer, processor, texts)


def test_ids_read_back_as_text(tokenizer):
    ids = tokenizer(" 배우들 연기가  정말[MASK] 좋았어요.")["input_ids"]
    assert tokenizer.decode(ids) == "[CLS] 배우들 연기가 정말[MASK] 좋았어요.[SEP]"
    assert tokenizer.decode(ids, skip_special_tokens=True) == "배우들 연기가 정말 좋았어요."


def test_special_tokens_are_where_convbert_has_them(tokenizer):
    ours = convbert.Tokenizer(VOCAB / "kowiki.model")
    roles = ("pad", "unk", "bos", "eos", "sep", "cls", "mask")
    ids = [getattr(tokenizer, f"{role}_token_id") for role in roles]
    assert ids == [ours.pad, 1, 2, 3, ours.sep, ours.cls, ours.mask]
    assert len(tokenizer) == tokenizer.vocab_size == ours.size


# ---- The files

def test_shipped_files_are_what_the_shipped_model_gives(processor):
    made = huggingface.tokenizer_files(processor)
    assert made == {name: (VOCAB / name).read_bytes() for name in FILES}


def command(module, *options):
    with mock.patch("sys.argv", [f"{module.__name__}.py", *map(str, options)]):
        common.run(module.main)


def test_a_vocabulary_of_ones_own_comes_with_its_files(tmp_path):
    shutil.copy(SAMPLE / "kowiki.txt", tmp_path)
    command(kowiki, "--stage", "vocab", "--output_dir", tmp_path, "--vocab_dir", tmp_path / "vocab",
            "--vocab_size", 1500)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "vocab/kowiki.model"))
    tokenizer = open_tokenizer(tmp_path / "vocab")
    same_ids(tokenizer, processor, (SAMPLE / "ratings_test.txt").read_text(encoding="utf-8").split("\n"))
    written = [(tmp_path / "vocab" / name).read_bytes() for name in FILES]
    for name in FILES:
        (tmp_path / "vocab" / name).unlink()
    command(huggingface, tmp_path / "vocab/kowiki.model")  # and by itself, for a model that is there
    assert written == [(tmp_path / "vocab" / name).read_bytes() for name in FILES]


TRAINING = dict(vocab_size=800, minloglevel=2, pad_id=0, pad_piece="[PAD]", unk_id=1, unk_piece="[UNK]",
                bos_id=2, bos_piece="[BOS]", eos_id=3, eos_piece="[EOS]")
SYMBOLS = dict(user_defined_symbols="[SEP],[CLS],[MASK]", model_type="bpe")
UNFIT = {
    "unigram": SYMBOLS | dict(model_type="unigram"),
    "plain NFKC": SYMBOLS | dict(normalization_rule_name="nfkc"),
    "small letters": SYMBOLS | dict(normalization_rule_name="nmt_nfkc_cf"),
    "spaces kept": SYMBOLS | dict(remove_extra_whitespaces=False),
    "no space in front": SYMBOLS | dict(add_dummy_prefix=False),
    "space behind": SYMBOLS | dict(treat_whitespace_as_suffix=True),
    "bytes": SYMBOLS | dict(byte_fallback=True, vocab_size=1200),
    "pieces lack": dict(model_type="bpe"),
}


@pytest.mark.parametrize("kind", [*UNFIT, "cut", "text", "empty", "absent"])
def test_a_model_of_another_kind_is_told_in_one_line(kind, tmp_path, capsys):
    path = tmp_path / "a.model"
    if kind in UNFIT:
        sentencepiece.SentencePieceTrainer.train(input=str(SAMPLE / "ratings_train.txt"),
                                                 model_prefix=str(tmp_path / "a"), **TRAINING | UNFIT[kind])
    elif kind != "absent":
        data = (VOCAB / "kowiki.model").read_bytes()
        path.write_bytes({"cut": data[:5000], "text": "가나다\n".encode() * 99, "empty": b""}[kind])
    with pytest.raises(SystemExit) as end:
        command(huggingface, path)
    lines = capsys.readouterr().err.splitlines()
    assert end.value.code == 2
    assert len(lines) == 1
    assert "a.model" in lines[0]
    assert not any((tmp_path / name).exists() for name in FILES)


# ---- Pipelines



# ---- Pipelines ---------------------------------------------------------------------------------------------
@torch.no_grad()
def stirred(model):
    """Random weights far enough from those of the start for the outputs to differ from text to text."""
    for name, p in model.named_parameters():
        if p.ndim > 1:
            p.normal_(0, 1 if "embeddings" in name else 2 * p[0].numel() ** -0.5)
    return model.eval()


@pytest.fixture(scope="module")
def stirred_folders(config, tmp_path_factory):
    """What --task pretrain and finetune write, but with random weights."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("stirred")
    for name, cls in (("pretrain", convbert.ConvBertForMaskedLM),
                      ("finetune", convbert.ConvBertForSequenceClassification)):
        stirred(cls(config)).save_pretrained(folder / name)
        copy_files(VOCAB, folder / name)
    return folder


@pytest.fixture(scope="module")
def trained_folders(tmp_path_factory):
    """From the command line, as they are."""
    folder = tmp_path_factory.mktemp("trained")
    for name, lines in (("kowiki.txt", 300), ("ratings_train.txt", 141)):
        text = (SAMPLE / name).read_text(encoding="utf-8").splitlines(True)
        (folder / name).write_text("".join(text[:lines]), encoding="utf-8")
    options_of_both = ["--device", "cpu", "--num_threads", "1", "--precision", "fp32", "--max_steps", "20"]
    for task, *options in (("pretrain", "--size", "tiny", "--corpus", "kowiki.txt", "--max_seq_length", "32"),
                           ("finetune", "--train_file", "ratings_train.txt", "--test_file",
                            "ratings_train.txt", "--learning_rate", "0.002")):
        subprocess.run([sys.executable, ROOT / "convbert.py", "--task", task, "--output_dir", f"runs/{task}",
                        *options, *options_of_both], cwd=folder, check=True, capture_output=True, timeout=300)
    return folder / "runs"


@pytest.fixture(params=["stirred", "trained"])
def folders(request):
    return request.getfixturevalue(f"{request.param}_folders")


def our_probabilities(folder, texts):
    """By convbert.classify: [n, 2]."""
    model = convbert.ConvBertForSequenceClassification.from_pretrained(folder, new_head=False)
    reviews = convbert.Reviews(texts, [0] * len(texts), convbert.Tokenizer(VOCAB / "kowiki.model"), 128)
    args = argparse.Namespace(device=torch.device("cpu"), precision="fp32", batch_size=4)
    return convbert.classify(model, reviews, args).softmax(-1).tolist()


def test_classification_pipeline_gives_our_probabilities(folders):
    folder = folders / "finetune"
    pipeline = transformers.pipeline("text-classification", str(folder), device="cpu")
    theirs = pipeline(REVIEWS, top_k=None, truncation=True, max_length=128)
    ours = our_probabilities(folder, REVIEWS)
    assert len({round(p[0], 6) for p in ours}) > 3  # it is the text that decides
    for p, scores in zip(ours, theirs):
        found = {score["label"]: score["score"] for score in scores}
        assert found == pytest.approx({"negative": p[0], "positive": p[1]}, abs=1e-5)


def test_config_says_what_auto_classes_ask(folders):
    config = transformers.AutoConfig.from_pretrained(folders / "finetune")
    assert config.id2label == {0: "negative", 1: "positive"}
    assert (config.num_labels, config.pad_token_id, config.model_type) == (2, 0, "convbert")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folders / "finetune")
    assert type(model).__name__ == "ConvBertForSequenceClassification"
    assert model.dtype == torch.float32


def test_fill_mask_pipeline_gives_our_probabilities(folders):
    pipeline = transformers.pipeline("fill-mask", str(folders / "pretrain"), device="cpu")
    model = convbert.ConvBertForMaskedLM.from_pretrained(folders / "pretrain", new_head=False).eval()
    ours = convbert.Tokenizer(VOCAB / "kowiki.model")
    for text in ("대한민국의 수도는[MASK]이다.", "[MASK] 좋았어요"):
        ids = torch.tensor([[ours.cls, *ours.encode([text])[0], ours.sep]])
        with torch.no_grad():
            best = model(ids).logits[ids == ours.mask][0].softmax(-1).topk(5)
        theirs = pipeline(text)
        assert [answer["score"] for answer in theirs] == pytest.approx(best.values.tolist(), abs=1e-5)
        assert [answer["token"] for answer in theirs] == best.indices.tolist()


# ---- A published model

PUBLISHED = {  # config.json of the published small model, but for the number of layers
    "attention_probs_dropout_prob": 0.1, "bos_token_id": 0, "conv_kernel_size": 9, "embedding_size": 128,
    "eos_token_id": 2, "head_ratio": 2, "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": 256,
    "initializer_range": 0.02, "intermediate_size": 1024, "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512, "model_type": "convbert", "num_attention_heads": 4, "num_groups": 1,
    "num_hidden_layers": 2, "pad_token_id": 0, "type_vocab_size": 2, "vocab_size": 30522}


def published(folder):
    """config.json, vocab.txt, and pytorch_model.bin as of older versions, with a head; returns the words."""
    (folder / "config.json").write_text(json.dumps(PUBLISHED))
    words = ["[PAD]", *(f"[unused{i}]" for i in range(99)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words += ["the", "film", "was", "good", "##ly", "."]
    words += [f"word{i}" for i in range(30522 - len(words))]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    model = stirred(transformers.ConvBertModel(transformers.ConvBertConfig.from_pretrained(folder)))
    weights = {f"convbert.{name}": tensor for name, tensor in model.state_dict().items()}
    weights |= {"convbert.embeddings.position_ids": torch.arange(512)[None],
                "discriminator_predictions.dense.weight": torch.zeros(256, 256)}
    torch.save(weights, folder / "pytorch_model.bin")
    return words


def test_an_english_folder_in_the_published_layout_opens_here(tmp_path, capsys):
    torch.manual_seed(0)
    words = published(tmp_path)
    ours = convbert.ConvBertModel.from_pretrained(tmp_path).eval()
    new, unused = capsys.readouterr().err.split("not used are")
    assert "new are none" in new
    assert "discriminator_predictions" in unused
    assert "position_ids" not in unused
    batch = open_tokenizer(tmp_path)("The film was goodly.", return_tensors="pt")
    pieces = ["[CLS]", "the", "film", "was", "good", "##ly", ".", "[SEP]"]
    assert batch["input_ids"].tolist() == [[words.index(piece) for piece in pieces]]
    theirs = transformers.AutoModel.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        torch.testing.assert_close(ours(**batch), theirs(**batch).last_hidden_state, atol=1e-5, rtol=1e-5)
