"""Part 3: layers, padding, initialisation, and the folders that models are kept in."""

import argparse
import itertools
import json
import math
import os
import pickle
import re
import subprocess
import sys
import zipfile

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from helpers import (
    CONV_TYPES,
    MODELS,
    Harm,
    answer,
    conv_types,
    gradients,
    length_mask,
    make,
    masked_batch,
    models,
    plain,
    random_ids,
    randomise,
    refusal,
    same,
    same_gradients,
    saved,
    some_inputs,
    tiny,
    zipped,
)
from torch import nn

import convbert
from convbert import (
    SIZES,
    ConvBertConfig,
    ConvBertForMaskedLM,
    ConvBertForPreTraining,
    ConvBertForSequenceClassification,
    ConvBertModel,
)


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("shape", [(12,), (5, 12), (2, 5, 12)])
def test_grouped_linear_is_block_diagonal(groups, shape):
    layer = convbert.GroupedLinear(12, 8, groups)
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    assert layer.weight.numel() == 12 * 8 // groups
    x = torch.randn(shape)
    same(layer(x), x @ torch.block_diag(*layer.weight) + layer.bias)


def test_dropout_is_live_in_training_alone():
    config = tiny(hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1)
    model = randomise(ConvBertModel(config))
    ids = random_ids(2, 12)
    assert not torch.equal(model.train()(ids), model(ids))
    assert torch.equal(model.eval()(ids), model(ids))


# ---- Dropout

@pytest.mark.parametrize("p", [26 / 256, 0.5])  # a random byte decides: in steps of 1/256
def test_dropout_drops_its_share_and_makes_up_for_it(p):
    layer = convbert.ConvBertLayer(tiny(hidden_dropout_prob=p)).train()
    x = torch.ones(200, 200, requires_grad=True)
    for dropout in (layer.output.dropout, layer.attention.output.dropout):
        y = dropout(x)
        assert abs((y == 0).float().mean() - p) < 0.01
        same(y[y != 0], torch.full_like(y[y != 0], 1 / (1 - p)))
        same(torch.autograd.grad(y.sum(), x)[0], y)


@pytest.mark.parametrize("shape", [(1,), (7,), (3, 5), (2, 64, 129)])
def test_dropout_takes_any_shape_and_type(shape):
    layer = convbert.Dropout(0.5).train()
    for dtype in (torch.float32, torch.bfloat16, torch.double):
        y = layer(torch.ones(shape, dtype=dtype))
        assert y.shape == shape and y.dtype == dtype
        assert set(y.unique().tolist()) <= {0.0, 2.0}


@pytest.mark.parametrize("p", [0.1, 0.25, 0.9])
def test_dropout_has_the_statistics_of_pytorchs(p):
    """Mean and spread; independent elements, from neighbour to neighbour and from call to call."""
    def statistics(layer):
        first, second = (layer.train()(torch.ones(1000, 1000)) != 0 for _ in range(2))
        first, second = first.double(), second.double()
        return torch.stack([first.mean(), (first[:, 1:] * first[:, :-1]).mean(),
                            (first[1:] * first[:-1]).mean(), (first * second).mean(),
                            first.mean(0).std(), first.mean(1).std()])

    ours, theirs = statistics(convbert.Dropout(p)), statistics(nn.Dropout(p))
    same(ours, theirs, 0.005)  # p is rounded to 1/256, by up to 0.002
    y = convbert.Dropout(p).train()(torch.ones(1000, 1000))
    same(y.mean(), torch.tensor(1.0), 0.015)


def test_the_seed_decides_dropout():
    layer, x = convbert.Dropout(0.5).train(), torch.ones(50, 50)
    torch.manual_seed(3)
    first, second = layer(x), layer(x)
    torch.manual_seed(3)
    assert torch.equal(layer(x), first) and not torch.equal(first, second)


def test_dropout_drops_nothing_where_it_shall_not():
    x = torch.randn(50, 50)
    assert torch.equal(convbert.Dropout(0.5).eval()(x), x)
    assert torch.equal(convbert.Dropout(0.0).train()(x), x)


def test_all_dropout_is_found_as_pytorchs():
    """Pretraining turns it off by that."""
    model = ConvBertForSequenceClassification(tiny(hidden_dropout_prob=0.3)).train()
    ids = random_ids(2, 12)
    assert not torch.equal(model(ids).logits, model(ids).logits)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    assert torch.equal(model(ids).logits, model(ids).logits)
    assert model.config.hidden_dropout_prob == 0.3


# ---- As PyTorch's modules

class Wrapped(nn.Module):
    """A layer behind another module: who reads its weight from outside finds none."""

    def __init__(self, layer):
        super().__init__()
        self.base = layer

    def forward(self, x):
        return self.base(x)


class LowRank(Wrapped):
    """base(x) + up(down(x)), as in LoRA: the base is frozen, and `up` begins at 0.

    Who reads its weight gets that of the base, as from a layer of peft's.
    """

    weight = property(lambda self: self.base.weight)
    bias = property(lambda self: self.base.bias)
    in_features = property(lambda self: self.base.in_features)
    out_features = property(lambda self: self.base.out_features)

    def __init__(self, layer):
        super().__init__(layer.requires_grad_(False))
        self.down = nn.Linear(layer.in_features, 2, bias=False)
        self.up = nn.Linear(2, layer.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x):
        return self.base(x) + self.up(self.down(x))


def wrap(model, wrapper, kinds, names=None):
    """Puts the wrapper around the model's layers of these kinds and names; returns the wrappers."""
    found = []
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, kinds) and (names is None or name in names):
                found.append(wrapper(child))
                setattr(module, name, found[-1])
    return found


@conv_types
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("name", ["query", "key", "value"])
def test_a_low_rank_adapter_takes_part(conv_type, training, name):
    model, ids = make(ConvBertModel, conv_type=conv_type).train(training), random_ids(2, 12)
    before = model(ids)
    adapters = wrap(model, LowRank, nn.Linear, [name])
    assert len(adapters) == 2
    assert torch.equal(model(ids), before)  # `up` is still 0
    for adapter in adapters:
        nn.init.normal_(adapter.up.weight)
    after = model(ids)
    assert (after - before).abs().max() > 1e-2
    (after * torch.randn_like(after)).sum().backward()
    for adapter in adapters:
        assert adapter.base.weight.grad is None
        assert adapter.up.weight.grad.any() and adapter.down.weight.grad.any()


@conv_types
def test_adapters_of_peft_take_part(conv_type):
    peft = pytest.importorskip("peft", reason="peft is optional")
    model, ids = make(ConvBertForSequenceClassification, conv_type=conv_type), random_ids(2, 12)
    before = model(ids).logits
    config = peft.LoraConfig(r=2, target_modules=["query", "value"], init_lora_weights=False)
    after = peft.inject_adapter_in_model(config, model)(ids).logits
    assert (after - before).abs().max() > 1e-3
    after.square().sum().backward()
    trained = {name for name, p in model.named_parameters() if p.grad is not None}
    adapters = {name for name, p in model.named_parameters() if "lora_" in name}
    assert len(adapters) == 8 and trained == adapters


@conv_types
@pytest.mark.parametrize("cls", [*MODELS, ConvBertForPreTraining], ids=lambda cls: cls.__name__)
def test_no_weight_is_read_around_its_module(cls, conv_type):
    model = make(cls, conv_type=conv_type, num_groups=2, embedding_size=8)
    ids, labels = masked_batch()
    inputs = dict(input_ids=ids, attention_mask=length_mask([14, 9, 5], 14))
    if cls is ConvBertForPreTraining:
        inputs["labels"] = labels

    def output():
        torch.manual_seed(7)  # of what the generator draws
        return answer(model, **inputs)

    before = output()
    kinds = (nn.Linear, nn.Conv1d, nn.LayerNorm, nn.Embedding, convbert.GroupedLinear,
             convbert.SeparableConv1D)
    assert len(wrap(model, Wrapped, kinds)) > 20
    same(output(), before, 1e-6)


@pytest.mark.filterwarnings("ignore:.*torch.ao.quantization:DeprecationWarning")
@conv_types
@pytest.mark.parametrize("cls", MODELS, ids=lambda cls: cls.__name__)
def test_dynamic_quantisation_changes_little(cls, conv_type):
    from torch.ao.quantization import quantize_dynamic

    model = make(cls, conv_type=conv_type, embedding_size=8)
    inputs = some_inputs() | dict(attention_mask=length_mask([11, 6], 11))
    before, small = answer(model, **inputs), quantize_dynamic(model, {nn.Linear})
    attention = small.encoder if cls is ConvBertModel else small.convbert.encoder
    assert "quantized" in type(attention.layer[0].attention.self.query).__module__
    off = (answer(small, **inputs) - before).norm() / before.norm()
    assert 0 < off < 0.1


OTHER_SIZES = [(1, 1), (2, 5), (5, 40), (1, 300)]  # batch, length


def padded_inputs(B, T):
    """Positional: ids, mask, types; each row of a length of its own."""
    lengths = [max(1, T - 2 * row) for row in range(B)]
    return random_ids(B, T), length_mask(lengths, T), torch.randint(2, (B, T))


@conv_types
def test_an_exported_program_takes_any_size(conv_type):
    model = make(ConvBertForSequenceClassification, conv_type=conv_type, num_groups=2,
                 embedding_size=8, num_hidden_layers=1)
    B, T = torch.export.Dim("B", min=1, max=64), torch.export.Dim("T", min=1, max=320)
    names = ("input_ids", "attention_mask", "token_type_ids")
    program = torch.export.export(model, padded_inputs(3, 17),
                                  dynamic_shapes={name: {0: B, 1: T} for name in names})
    exported = program.module()
    for size in OTHER_SIZES:
        inputs = padded_inputs(*size)
        same(exported(*inputs).logits, model(*inputs).logits)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning",
                            "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("cls, conv_type", [
    *((ConvBertForSequenceClassification, name) for name in CONV_TYPES),
    (ConvBertForMaskedLM, "sdconv"), (ConvBertModel, "sdconv")])
def test_an_onnx_file_takes_any_size(cls, conv_type, tmp_path):
    pytest.importorskip("onnx", reason="onnx is optional")
    from onnx.reference import ReferenceEvaluator

    model = make(cls, conv_type=conv_type, num_groups=2, embedding_size=8, num_hidden_layers=1)
    names = ["input_ids", "attention_mask", "token_type_ids"]
    with torch.no_grad():
        torch.onnx.export(model, padded_inputs(3, 17), tmp_path / "model.onnx", dynamo=False,
                          input_names=names, output_names=["output"], opset_version=17,
                          dynamic_axes={name: {0: "B", 1: "T"} for name in names})
    session = ReferenceEvaluator(str(tmp_path / "model.onnx"))
    for size in OTHER_SIZES:
        inputs = padded_inputs(*size)
        given = {name: tensor.numpy() for name, tensor in zip(names, inputs)}
        [theirs] = session.run(None, given)
        same(torch.from_numpy(theirs), answer(model, **dict(zip(names, inputs))))


# ---- Padding

def beside_pads(ids, pads):
    """The inputs for a row of ids with that many pads behind it."""
    T = ids.size(1)
    return F.pad(ids, (0, pads)), length_mask([T], T + pads)


@conv_types
@pytest.mark.parametrize("pads", [1, 8, 112])
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_padding_changes_neither_hidden_states_nor_gradients(conv_type, pads, training):
    model = make(ConvBertModel, conv_type=conv_type, num_groups=2, embedding_size=8).train(training)
    ids, weights = random_ids(1, 12), torch.randn(1, 12, 24)
    alone = model(ids)
    beside = model(*beside_pads(ids, pads))[:, :12]
    same(beside, alone)
    padded = gradients(model, (beside * weights).sum())
    same_gradients(padded, gradients(model, (alone * weights).sum()))


@conv_types
def test_longer_rows_in_the_batch_change_nothing(conv_type):
    model, lengths = make(ConvBertModel, conv_type=conv_type), (3, 12, 31)
    ids, mask = random_ids(3, 31), length_mask(lengths, 31)
    together = model(ids, mask)
    alone = [model(row[None, :n])[0] for row, n in zip(ids, lengths)]
    for row, single, n in zip(together, alone, lengths):
        same(row[:n], single)
    weights = [torch.randn_like(single) for single in alone]
    loss = sum((row[: len(w)] * w).sum() for row, w in zip(together, weights))
    loss_alone = sum((single * w).sum() for single, w in zip(alone, weights))
    same_gradients(gradients(model, loss), gradients(model, loss_alone))


def test_what_stands_in_padding_is_never_read():
    model, (ids, mask) = make(ConvBertModel), beside_pads(random_ids(1, 12), 20)
    other = torch.where(mask.bool(), ids, random_ids(1, 32))
    assert not torch.equal(ids, other)
    assert torch.equal(model(ids, mask)[:, :12], model(other, mask)[:, :12])


def test_a_mask_of_ones_is_no_mask():
    model, ids = make(ConvBertModel), random_ids(2, 12)
    same(model(ids, torch.ones_like(ids)), model(ids))
    as_bool = model(ids, torch.ones(2, 12, dtype=torch.bool))
    assert torch.equal(model(ids, torch.ones_like(ids)), as_bool)


@pytest.mark.parametrize("conv_type", ["sdconv", "dynamic", "light"])
@pytest.mark.parametrize("pads", [1, 8, 112])
def test_without_the_mask_padding_leaks(conv_type, pads):
    """The control of the tests above: a model blind to its neighbours would pass them, too."""
    model = make(ConvBertModel, conv_type=conv_type, conv_padding_mask=False)
    ids = random_ids(1, 12)
    with torch.no_grad():
        off = (model(*beside_pads(ids, pads))[:, :12] - model(ids)).abs().max()
    assert off > 1e-3


# ---- Sizes and initialisation

def on_paper(cls, size):
    """A model of published size without its memory."""
    with torch.device("meta"):
        return cls(ConvBertConfig(**SIZES[size], vocab_size=30522))


@pytest.mark.parametrize("cls, size, count", [
    (ConvBertModel, "small", 13_143_768),
    (ConvBertModel, "medium-small", 17_475_888),
    (ConvBertModel, "base", 105_680_520),
    (ConvBertForMaskedLM, "small", 13_207_442),
    (ConvBertForSequenceClassification, "small", 13_210_074),
])
def test_parameter_counts_of_the_published_sizes(cls, size, count):
    assert sum(p.numel() for p in on_paper(cls, size).parameters()) == count


@pytest.mark.parametrize("size, width, heads", [
    ("small", 64, 1), ("medium-small", 96, 2), ("base", 256, 4)])
def test_generator_is_narrow(size, width, heads):
    generator = on_paper(ConvBertForPreTraining, size).generator
    layer = generator.convbert.encoder.layer[0]
    assert layer.attention.self.query.in_features == width
    assert layer.intermediate.dense.bias.numel() == 4 * width
    assert generator.config.num_attention_heads == heads
    assert len(generator.convbert.encoder.layer) == 12


@pytest.mark.parametrize("cls", [*MODELS, ConvBertForPreTraining], ids=lambda cls: cls.__name__)
@conv_types
@pytest.mark.parametrize("groups", [1, 2])
def test_initialisation(cls, conv_type, groups):
    """Normal cut at two sigma, which leaves 0.88 of the deviation; depthwise kernels at 1/K."""
    K, sizes = 7, dict(vocab_size=500, embedding_size=64, hidden_size=128, intermediate_size=256)
    model = cls(tiny(**sizes, num_hidden_layers=1, num_groups=groups, pad_token_id=3,
                     conv_type=conv_type, conv_kernel_size=K))
    for name, p in model.named_parameters():
        if "LayerNorm.weight" in name:
            assert (p == 1).all(), name
        elif name.endswith("bias"):
            assert (p == 0).all(), name
        elif name.endswith("self.conv_kernel"):  # light: Xavier
            assert 0 < p.abs().max() <= (6 / (p.size(0) + K)) ** 0.5
        else:
            sigma = 1 / K if "depthwise" in name else 0.02
            assert 0 < p.abs().max() <= 2 * sigma, name
            error = 4 / math.sqrt(p.numel())  # more than five standard errors
            assert abs(p.std() / (0.88 * sigma) - 1) < error, name
    for name, p in model.named_parameters():
        if "word_embeddings" in name:
            assert (p[3] == 0).all()
            assert (p[torch.arange(500) != 3] != 0).any(dim=1).all()


def test_initializer_range_is_heeded():
    model = ConvBertForMaskedLM(tiny(initializer_range=0.1, vocab_size=500))
    assert abs(model.convbert.embeddings.word_embeddings.weight.std() - 0.088) < 0.003


# ---- Folders

@models
@conv_types
def test_a_folder_saved_here_opens_here(tmp_path, capsys, cls, conv_type):
    model = make(cls, embedding_size=8, num_groups=2, conv_type=conv_type)
    again = cls.from_pretrained(saved(model, tmp_path), new_head=False)
    assert again.config == model.config and not again.training
    assert capsys.readouterr().err == ""
    inputs = some_inputs()
    assert torch.equal(answer(again, **inputs), answer(model, **inputs))


@models
def test_saving_twice_gives_the_same_bytes_and_nothing_else(tmp_path, cls):
    model = make(cls)
    first, second = saved(model, tmp_path / "first"), saved(model, tmp_path / "second")
    saved(model, second)  # over what is there
    for folder in (first, second):
        found = sorted(path.name for path in folder.iterdir())
        assert found == ["config.json", "model.safetensors"]
    for name in ("config.json", "model.safetensors"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def rewrite(folder, change):
    """Passes the weights of a folder through a function."""
    path = folder / "model.safetensors"
    safetensors.torch.save_file(change(safetensors.torch.load_file(path)), path)


@models
@pytest.mark.parametrize("prefix", ["", "convbert."])
@pytest.mark.parametrize("stray", [False, True])
def test_backbones_load_with_and_without_prefix(tmp_path, cls, prefix, stray):
    backbone = make(ConvBertModel, embedding_size=8)

    def change(weights):
        if stray:  # a buffer that older files hold
            weights["embeddings.position_ids"] = torch.arange(512)[None]
        return {prefix + name: tensor for name, tensor in weights.items()}

    rewrite(saved(backbone, tmp_path), change)
    model = cls.from_pretrained(tmp_path)
    inputs = some_inputs()
    same(answer(getattr(model, "convbert", model), **inputs), answer(backbone, **inputs))


def reported(capsys, folder):
    """What is named as beginning anew, and as not used, in the line on stderr."""
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    file, *told = re.split(r"(?:: |; )(begins anew|not used): ", captured.err.rstrip("\n"))
    assert file == str(folder / "model.safetensors")
    parts = dict(zip(told[::2], told[1::2]))
    return [parts.get(what, "").split(", ") for what in ("begins anew", "not used")]


HEADS = [  # from, to, what begins anew, what is not used
    (ConvBertForMaskedLM, ConvBertForSequenceClassification, ["classification head"],
     ["masked LM head"]),
    (ConvBertForSequenceClassification, ConvBertForMaskedLM, ["masked LM head"],
     ["classification head"]),
    (ConvBertForMaskedLM, ConvBertModel, [""], ["masked LM head"]),
    (ConvBertModel, ConvBertForMaskedLM, ["masked LM head"], [""]),
    (ConvBertForPreTraining, ConvBertModel, [""], ["replaced token head", "generator"]),
    (ConvBertForPreTraining, ConvBertForSequenceClassification, ["classification head"],
     ["replaced token head", "generator"]),
    (ConvBertForMaskedLM, ConvBertForPreTraining, ["replaced token head", "generator"],
     ["masked LM head"]),
]


@pytest.mark.parametrize("source, cls, new, unused", HEADS,
                         ids=lambda value: getattr(value, "__name__", ""))
def test_heads_that_begin_anew_and_that_are_not_used_are_told(source, cls, new, unused, tmp_path,
                                                              capsys):
    saved(make(source, embedding_size=8), tmp_path)
    cls.from_pretrained(tmp_path)
    got = reported(capsys, tmp_path)
    assert [sorted(part) for part in got] == [sorted(new), sorted(unused)]


def test_an_output_layer_of_its_own_is_refused(tmp_path):
    """As Hugging Face's with tie_word_embeddings=False has one."""
    folder = saved(make(ConvBertForMaskedLM), tmp_path)
    head = torch.randn(50, 24)
    rewrite(folder, lambda weights: weights | {"generator_lm_head.weight": head})
    assert "not the word embeddings" in refusal(ConvBertForMaskedLM.from_pretrained, folder)


def test_other_classes_begin_a_new_head(tmp_path, capsys):
    model = make(ConvBertForSequenceClassification)
    names = {0: "a", 1: "b", 2: "c"}
    for changes in (names, {0: "a", 1: "b"}):  # the second of them has the shape of the old head
        saved(model, tmp_path)
        other = ConvBertForSequenceClassification.from_pretrained(tmp_path, id2label=changes)
        assert reported(capsys, tmp_path)[0] == ["classification head"]
        assert other.config.id2label == changes
        assert other.classifier.out_proj.weight.size(0) == len(changes)
        assert not torch.equal(other.classifier.dense.weight, model.classifier.dense.weight)
        refusal(ConvBertForSequenceClassification.from_pretrained, tmp_path, False,
                id2label=changes)
    same_names = dict(model.config.id2label)
    again = ConvBertForSequenceClassification.from_pretrained(tmp_path, id2label=same_names)
    assert torch.equal(again.classifier.dense.weight, model.classifier.dense.weight)
    assert capsys.readouterr().err == ""


def test_a_new_generator_has_the_embeddings_of_the_folder(tmp_path, capsys):
    """They are the discriminator's."""
    backbone = make(ConvBertModel)
    model = ConvBertForPreTraining.from_pretrained(saved(backbone, tmp_path))
    assert torch.equal(model.generator.convbert.embeddings.word_embeddings.weight,
                       backbone.embeddings.word_embeddings.weight)
    new, unused = reported(capsys, tmp_path)
    assert sorted(new) == ["generator", "replaced token head"]  # and no embeddings
    assert unused == [""]


@pytest.mark.parametrize("cls", [ConvBertForMaskedLM, ConvBertForSequenceClassification])
def test_a_missing_head_is_refused_where_one_is_needed(tmp_path, cls):
    saved(make(ConvBertModel), tmp_path)
    cls.from_pretrained(tmp_path)
    assert cls.__name__ in refusal(cls.from_pretrained, tmp_path, new_head=False)


@models
@pytest.mark.parametrize("lost", ["embeddings.LayerNorm.bias",
                                  "layer.1.attention.self.query.weight"])
def test_a_missing_backbone_parameter_is_refused_and_named(tmp_path, cls, lost):
    def change(weights):
        return {name: tensor for name, tensor in weights.items() if not name.endswith(lost)}

    rewrite(saved(make(cls), tmp_path), change)
    assert lost in refusal(cls.from_pretrained, tmp_path)


@models
def test_a_wrong_shape_is_refused_and_named(tmp_path, cls):
    saved(make(cls), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | dict(vocab_size=51)))
    assert "word_embeddings" in refusal(cls.from_pretrained, tmp_path)


@pytest.mark.parametrize("kept", [0, 5, 200, -1])
def test_truncated_safetensors_are_refused(tmp_path, kept):
    path = saved(make(ConvBertModel), tmp_path) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    assert str(path) in refusal(ConvBertModel.from_pretrained, tmp_path)


def test_a_folder_without_weights_is_refused(tmp_path):
    (saved(make(ConvBertModel), tmp_path) / "model.safetensors").unlink()
    assert str(tmp_path) in refusal(ConvBertModel.from_pretrained, tmp_path)


@pytest.mark.parametrize("name", ["", "absent"])
def test_a_folder_without_config_is_refused(tmp_path, name):
    assert str(tmp_path) in refusal(ConvBertModel.from_pretrained, tmp_path / name)


WRITER = """
import itertools, sys
import torch
import convbert
models = []
for heads in (2, 4):
    torch.manual_seed(heads)
    config = convbert.ConvBertConfig(**convbert.SIZES["tiny"], num_attention_heads=heads)
    models.append(convbert.ConvBertForMaskedLM(config))
for model, folder in zip(models, sys.argv[2:]):
    model.save_pretrained(folder)
print("begun", flush=True)
for model in itertools.cycle(models):
    model.save_pretrained(sys.argv[1])
"""


def test_readers_find_whole_files_while_a_model_is_replaced(tmp_path):
    folders = [tmp_path / name for name in ("both", "first", "second")]
    writer = subprocess.Popen([sys.executable, "-c", WRITER, *folders], stdout=subprocess.PIPE,
                              env=os.environ | {"PYTHONPATH": str(convbert.ROOT)})
    seen = {"config.json": set(), "model.safetensors": set()}
    try:
        assert writer.stdout.readline() == b"begun\n"
        known = {name: {(folder / name).read_bytes() for folder in folders[1:]} for name in seen}
        while not all((folders[0] / name).exists() for name in seen):
            assert writer.poll() is None
        for number in itertools.count():
            for name in seen:
                seen[name].add((folders[0] / name).read_bytes())
                assert seen[name] <= known[name]
            if number >= 200 and seen == known:  # by then, both have been there
                break
        assert writer.poll() is None
    finally:
        writer.kill()
        writer.communicate()


# ---- pytorch_model.bin

@models
def test_pytorch_model_bin_is_read(tmp_path, cls):
    model = make(cls)
    (saved(model, tmp_path) / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    inputs = some_inputs()
    assert torch.equal(answer(cls.from_pretrained(tmp_path), **inputs), answer(model, **inputs))


def test_a_bin_saved_on_a_gpu_is_read_without_one(tmp_path):
    model = make(ConvBertModel)
    (saved(model, tmp_path) / "model.safetensors").unlink()
    given, moved = tmp_path / "on_cpu.bin", tmp_path / "pytorch_model.bin"
    torch.save(model.state_dict(), given)
    with zipfile.ZipFile(given) as old, zipfile.ZipFile(moved, "w") as new:
        for name in old.namelist():  # the pickle has each tensor's device, after its length
            new.writestr(name, old.read(name).replace(b"\3\0\0\0cpu", b"\6\0\0\0cuda:0"))
    ids = random_ids(2, 11)
    assert torch.equal(ConvBertModel.from_pretrained(tmp_path)(ids), model(ids))


def bin_of_pickled_object(path):
    torch.save(make(ConvBertModel).state_dict() | {"more": argparse.Namespace()}, path)


def bin_of_plain_pickle(path):
    path.write_bytes(pickle.dumps(argparse.Namespace(), protocol=2))


def bin_of_list(path):
    torch.save([torch.zeros(3)], path)


def bin_of_numbered_tensors(path):
    torch.save({1: torch.zeros(3)}, path)


def bin_of_text(path):
    path.write_text("version https://git-lfs.github.com/spec/v1\n")


def bin_of_nothing(path):
    path.touch()


@pytest.mark.parametrize("write", [bin_of_pickled_object, bin_of_plain_pickle, bin_of_list,
                                   bin_of_numbered_tensors, bin_of_text, bin_of_nothing])
def test_a_bin_without_a_state_dict_is_refused(tmp_path, write):
    (saved(make(ConvBertModel), tmp_path) / "model.safetensors").unlink()
    write(tmp_path / "pytorch_model.bin")
    assert "pytorch_model.bin" in refusal(ConvBertModel.from_pretrained, tmp_path)


@pytest.mark.parametrize("write", [zipped, plain])
def test_code_in_a_bin_is_never_run(write, tmp_path):
    (saved(make(ConvBertModel), tmp_path) / "model.safetensors").unlink()
    made = tmp_path / "made"
    load = write(Harm(made), tmp_path / "pytorch_model.bin")
    assert "pytorch_model.bin" in refusal(ConvBertModel.from_pretrained, tmp_path)
    assert not made.exists()
    load()["harm"].close()
    assert made.exists()  # so it would have been
