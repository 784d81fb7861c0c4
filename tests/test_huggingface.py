"""Beside an unmodified `transformers`: its models give our numbers, and it opens our folders."""

import dataclasses
import json
import os
import shutil

import pytest
import torch
from helpers import (
    answer,
    finetuning,
    gradients,
    length_mask,
    make,
    models,
    pretraining,
    random_ids,
    random_labels,
    randomise,
    run,
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

REVIEWS = ["배우들 연기가 정말 좋았어요", "시간이 아깝다", "ㅋㅋㅋ 최고!!! 👍", "",
           "보다가   졸았음… ★", "영화 " * 200]


def open_tokenizer(folder):
    """AutoTokenizer of a folder: the copies beside a model go with its config.json."""
    return transformers.AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def config():
    return convbert.ConvBertConfig(**convbert.SIZES["tiny"])


# ---- Hidden states, losses and gradients

def published_size(size):
    return SIZES[size] | dict(num_hidden_layers=2, vocab_size=200)


SMALL = dict(vocab_size=200, embedding_size=24, hidden_size=24, num_hidden_layers=2,
             num_attention_heads=4, intermediate_size=48, max_position_embeddings=310)
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
    theirs = getattr(transformers, cls.__name__)
    other, report = theirs.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values()), report
    assert transformers.AutoConfig.from_pretrained(folder).pad_token_id == 3
    inputs = some_inputs()
    same(answer(other, **inputs), answer(model, **inputs))


@models
def test_a_folder_saved_by_hugging_face_opens_here(tmp_path, capsys, cls):
    config = hf_config(tiny(embedding_size=8, num_groups=2))
    other = randomise(getattr(transformers, cls.__name__)(config))
    other.save_pretrained(tmp_path)
    capsys.readouterr()
    model = cls.from_pretrained(tmp_path, new_head=False)
    assert capsys.readouterr().err == ""
    inputs = some_inputs()
    same(answer(model, **inputs), answer(other, **inputs))


def test_hugging_face_refuses_another_kernel(tmp_path):
    """It has only sdconv, and would draw the weights that it misses at random."""
    model = make(ConvBertForSequenceClassification, conv_type="dynamic")
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="convbert-dynamic"):
        transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path)
    inputs = some_inputs()
    opened = ConvBertForSequenceClassification.from_pretrained(tmp_path)
    same(answer(opened, **inputs), answer(model, **inputs))


def test_hugging_face_opens_what_replaced_token_detection_saves(tmp_path):
    model, ids = make(ConvBertForPreTraining, embedding_size=8), random_ids(2, 11)
    saved(model, tmp_path)
    other, report = transformers.ConvBertModel.from_pretrained(tmp_path, output_loading_info=True)
    unused = report.pop("unexpected_keys")
    assert not any(report.values()), report
    heads = ("generator.", "discriminator_predictions.")
    assert unused and all(name.startswith(heads) for name in unused)
    same(answer(other, input_ids=ids), answer(model.convbert, input_ids=ids))


# ---- Pipelines

@torch.no_grad()
def stirred(model):
    """Random weights far enough from those of the start for outputs to differ by the text."""
    for name, p in model.named_parameters():
        if p.ndim > 1:
            p.normal_(0, 1 if "embeddings" in name else 2 * p[0].numel() ** -0.5)
    return model.eval()


@pytest.fixture(scope="module")
def stirred_folders(config, tokenizer, tmp_path_factory):
    """What --task pretrain and finetune write, but with random weights."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("stirred")
    for name, cls in (("pretrain", convbert.ConvBertForMaskedLM),
                      ("finetune", convbert.ConvBertForSequenceClassification)):
        stirred(cls(config)).save_pretrained(folder / name)
        assert tokenizer.save(folder / name)
    return folder


@pytest.fixture(scope="module")
def trained_folders(data, tmp_path_factory):
    """From the command line, as they are."""
    folder = tmp_path_factory.mktemp("trained")
    length = ["--max_steps", "20"]
    assert run(*pretraining(data, folder / "pretrain", *length)).code == 0
    assert run(*finetuning(data, folder / "finetune", *length, "--size", "tiny",
                           "--max_seq_length", "128", "--learning_rate", "0.002")).code == 0
    return folder


@pytest.fixture(scope="module")
def checkpoint_folders(trained_folders, tmp_path_factory):
    """Checkpoints of these runs."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for name in ("pretrain", "finetune"):
        shutil.copytree(trained_folders / name / "checkpoint-20", folder / name)
    return folder


@pytest.fixture(params=["stirred", "trained", "checkpoint"])
def folders(request):
    return request.getfixturevalue(f"{request.param}_folders")


def our_probabilities(folder, texts):
    """By convbert.Classifier: [n, 2]."""
    classifier = convbert.Classifier.from_pretrained(folder, "cpu", batch_size=4)
    return [list(answer["scores"].values()) for answer in classifier(texts, all_scores=True)]


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
    model = convbert.ConvBertForMaskedLM.from_pretrained(folders / "pretrain", new_head=False)
    ours = convbert.Tokenizer(folders / "pretrain/spiece.model")
    for text in ("대한민국의 수도는[MASK]이다.", "[MASK] 좋았어요"):
        ids = torch.tensor([[ours.cls, *ours.encode([text])[0], ours.sep]])
        with torch.no_grad():
            best = model(ids).logits[ids == ours.mask][0].softmax(-1).topk(5)
        theirs = pipeline(text)
        scores = [answer["score"] for answer in theirs]
        assert scores == pytest.approx(best.values.tolist(), abs=1e-5)
        assert [answer["token"] for answer in theirs] == best.indices.tolist()


def test_transformers_fails_where_the_tokenizer_is_of_another_vocabulary(config, tmp_path):
    """Rather than make one up; and it is said with which command the right one is made."""
    stirred(convbert.ConvBertForSequenceClassification(config)).save_pretrained(tmp_path)
    shutil.copytree(convbert.ROOT / "vocab", tmp_path / "vocab")
    model = tmp_path / "vocab/kowiki.model"
    model.write_bytes(model.read_bytes() + b"\x5a\x00")  # a field that SentencePiece skips
    assert not convbert.Tokenizer(model).save(tmp_path)
    assert (tmp_path / "spiece.model").read_bytes() == model.read_bytes()
    with pytest.raises((ValueError, OSError)):
        open_tokenizer(tmp_path)
    with pytest.raises((ValueError, OSError)):
        transformers.pipeline("text-classification", str(tmp_path), device="cpu")(REVIEWS)
    assert len(our_probabilities(tmp_path, REVIEWS)) == len(REVIEWS)


# ---- A published model

PUBLISHED = {  # config.json of the published small model, but for the number of layers
    "attention_probs_dropout_prob": 0.1, "bos_token_id": 0, "conv_kernel_size": 9,
    "embedding_size": 128, "eos_token_id": 2, "head_ratio": 2, "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1, "hidden_size": 256, "initializer_range": 0.02,
    "intermediate_size": 1024, "layer_norm_eps": 1e-12, "max_position_embeddings": 512,
    "model_type": "convbert", "num_attention_heads": 4, "num_groups": 1, "num_hidden_layers": 2,
    "pad_token_id": 0, "type_vocab_size": 2, "vocab_size": 30522}


def published(folder):
    """config.json, vocab.txt, and an older version's pytorch_model.bin with a head.

    Returns the words.
    """
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
    ours = convbert.ConvBertModel.from_pretrained(tmp_path)
    [line] = capsys.readouterr().err.splitlines()
    assert line.endswith("pytorch_model.bin: not used: replaced token head")
    batch = open_tokenizer(tmp_path)("The film was goodly.", return_tensors="pt")
    pieces = ["[CLS]", "the", "film", "was", "good", "##ly", ".", "[SEP]"]
    assert batch["input_ids"].tolist() == [[words.index(piece) for piece in pieces]]
    theirs = transformers.AutoModel.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        same(ours(**batch), theirs(**batch).last_hidden_state)
