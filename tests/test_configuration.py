"""Part 1: what a configuration may be, and the files that hold one."""

import dataclasses
import json
import math

import pytest
import torch
from helpers import examples, refusal, tiny
from hypothesis import example, given
from hypothesis import strategies as st

import convbert
from convbert import SIZES, ConvBertConfig, ConvBertForPreTraining, UserError


@pytest.mark.parametrize("size", SIZES)
def test_named_sizes_are_possible(size):
    config = ConvBertConfig(**SIZES[size])
    assert config.hidden_size == 2 * config.num_heads * config.head_size


def test_a_config_is_read_as_it_was_written(tmp_path):
    config = tiny(conv_type="light", num_groups=2, hidden_dropout_prob=0.25,
                  conv_padding_mask=False, id2label={0: "나쁨", 1: "보통", 2: "좋음"})
    values = dataclasses.asdict(config) | dict(model_type="convbert", torch_dtype="float32")
    for encoding in ("utf-8", "utf-8-sig"):  # as older editors on Windows save it
        (tmp_path / "some.json").write_text(json.dumps(values), encoding=encoding)
        assert ConvBertConfig.from_pretrained(tmp_path / "some.json") == config


def test_a_config_file_without_names_of_classes_has_those_of_transformers(tmp_path):
    values = dataclasses.asdict(tiny())
    del values["id2label"]
    (tmp_path / "config.json").write_text(json.dumps(values))
    names = ConvBertConfig.from_pretrained(tmp_path).id2label
    assert names == {0: "LABEL_0", 1: "LABEL_1"}
    (tmp_path / "config.json").write_text(json.dumps(values | {"id2label": {"0": 3, "1": "b"}}))
    config = ConvBertConfig.from_pretrained(tmp_path)
    assert config.id2label == {0: "3", 1: "b"} and config.label2id == {"3": 0, "b": 1}


def test_changes_replace_the_values_of_a_config_file(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(dataclasses.asdict(tiny())))
    changed = ConvBertConfig.from_pretrained(tmp_path, num_hidden_layers=5)
    assert changed == tiny(num_hidden_layers=5)
    assert "num_groups" not in refusal(ConvBertConfig.from_pretrained, tmp_path, head_ratio=0)
    assert "head_ratio" in refusal(ConvBertConfig.from_pretrained, tmp_path, head_ratio=0)


def test_a_named_kind_of_convolution_is_a_class():
    for name, cls in convbert.CONVOLUTIONS.items():
        config = ConvBertConfig(conv_type=name)
        assert config.branches == cls.branches == (1 if name == "noconv" else 2)
        assert config.hidden_size == config.branches * config.num_heads * config.head_size


# ---- Impossible configurations

IMPOSSIBLE = [
    dict(conv_kernel_size=8),
    dict(conv_kernel_size=0),
    dict(num_attention_heads=5),
    dict(num_attention_heads=0),
    dict(hidden_size=27, num_attention_heads=1),  # an odd width has no half
    dict(hidden_size=27, num_attention_heads=3),
    dict(hidden_size=6, num_attention_heads=6, head_ratio=1),  # three channels for six heads
    dict(num_groups=3),
    dict(num_groups=2, intermediate_size=1023),
    dict(hidden_size=255, intermediate_size=1024, num_attention_heads=5, conv_type="noconv",
         num_groups=2),
    dict(num_hidden_layers=0),
    dict(num_hidden_layers=2.0),
    dict(num_hidden_layers=True),
    dict(vocab_size=-5),
    dict(vocab_size=10**13),
    dict(embedding_size=None),
    dict(hidden_size="256"),
    dict(hidden_size=[256]),
    dict(pad_token_id=8007),
    dict(pad_token_id=-1),
    dict(head_ratio=0),
    dict(hidden_dropout_prob=1.5),
    dict(attention_probs_dropout_prob="0.1"),
    dict(conv_padding_mask="no"),
    dict(initializer_range=math.nan),
    dict(layer_norm_eps=-1e-12),
    dict(conv_type="fixed"),
    dict(conv_type="two\nlines"),
    dict(conv_type=None),
    dict(conv_type=["sdconv"]),
    dict(id2label={0: "alone"}),
    dict(id2label={0: "same", 1: "same"}),
    dict(id2label={1: "begins", 2: "at one"}),
    dict(id2label=["a", "b"]),
    dict(hidden_act="relu"),
    dict(generator_ratio=0),
]
impossible = pytest.mark.parametrize("wrong", IMPOSSIBLE, ids=str)


@impossible
def test_an_impossible_config_is_refused(wrong):
    assert refusal(ConvBertConfig, **wrong).startswith("config: ")


@impossible
def test_an_impossible_config_file_is_refused(tmp_path, wrong):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(dataclasses.asdict(ConvBertConfig()) | wrong))
    assert str(path) in refusal(ConvBertConfig.from_pretrained, tmp_path)


@pytest.mark.parametrize("names", [{}, None, 2, {0: ["a"], 1: ["b"]}], ids=str)
def test_impossible_names_of_classes_are_refused(names):
    assert refusal(ConvBertConfig, id2label=names).startswith("config: ")


def test_a_generator_narrower_than_one_channel_is_refused():
    assert "generator_ratio 100" in refusal(ConvBertForPreTraining, tiny(generator_ratio=100))


def test_a_misspelt_key_is_told_and_those_of_hugging_face_are_not(tmp_path):
    values = tiny().__dict__ | {"classifier_dropout": None, "use_cache": True}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(values))
    ConvBertConfig.from_pretrained(path)
    for wrong, name in (("conv_typ", "conv_type"), ("conv_padding_masks", "conv_padding_mask"),
                        ("hidden_dropout", "hidden_dropout_prob")):
        changed = {key: value for key, value in values.items() if key != name}
        path.write_text(json.dumps(changed | {wrong: values[name]}))
        assert f"{wrong}: did you mean {name}?" in refusal(ConvBertConfig.from_pretrained, path)


@pytest.mark.parametrize("text", ["", "{", "[]", "[1, 2]", "null", '"convbert"', "3",
                                  "{'vocab_size': 5}"])
def test_what_is_no_json_object_is_no_config(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    assert "config.json" in refusal(ConvBertConfig.from_pretrained, tmp_path)


def test_what_is_no_unicode_is_no_config(tmp_path):
    (tmp_path / "config.json").write_bytes(b"\xff\xfe{}")
    assert "config.json" in refusal(ConvBertConfig.from_pretrained, tmp_path)


@pytest.mark.parametrize("name", ["vocab_size", "hidden_size", "head_ratio", "num_groups",
                                  "pad_token_id"])
def test_a_config_that_lacks_a_field_is_refused(tmp_path, name):
    values = dataclasses.asdict(ConvBertConfig())
    del values[name]
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert name in refusal(ConvBertConfig.from_pretrained, tmp_path)


def test_a_config_of_another_model_is_refused(tmp_path):
    values = dataclasses.asdict(ConvBertConfig()) | dict(model_type="bert")
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert "config.json" in refusal(ConvBertConfig.from_pretrained, tmp_path)


@pytest.mark.parametrize("piece, count", [("[", 100_000), ('{"a":', 100_000), ("9", 5000)])
def test_a_config_file_beyond_reason_is_refused(folder, piece, count):
    (folder / "config.json").write_text('{"vocab_size": ' + piece * count)
    with pytest.raises(UserError, match=r"config\.json: "):
        convbert.ConvBertConfig.from_pretrained(folder)


# ---- Any configuration at all

SMALL = dict(vocab_size=30, embedding_size=8, hidden_size=16, num_hidden_layers=1,
             num_attention_heads=4, intermediate_size=32, conv_kernel_size=3,
             max_position_embeddings=12, generator_ratio=2)
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
    logits = run_once(convbert.ConvBertForMaskedLM, config, "tokens")
    assert logits.shape == (tokens, config.vocab_size)
    logits = run_once(convbert.ConvBertForSequenceClassification, config, "classes")
    assert logits.shape == (2, len(config.id2label))
    try:
        assert run_once(convbert.ConvBertForPreTraining, config, "tokens").numel() == tokens
    except UserError as error:  # of the generator, which is narrower
        assert str(error).startswith("config: ")


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                        st.sampled_from(FIELDS) | st.text(max_size=4), inner, max_size=3))


@examples(150)
@given(content=st.binary(max_size=40) | JSON.map(lambda value: json.dumps(value).encode()))
def test_a_config_file_that_is_none_is_refused(folder, content):
    (folder / "config.json").write_bytes(content)
    with pytest.raises(UserError, match=r"config\.json: "):
        convbert.ConvBertConfig.from_pretrained(folder)
