"""Part 3: layers, padding, initialisation, and the folders that models are kept in."""

import argparse
import itertools
import json
import math
import os
import pickle
import subprocess
import sys
import zipfile

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from helpers import (
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
    model = randomise(ConvBertModel(tiny(hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1)))
    ids = random_ids(2, 12)
    assert not torch.equal(model.train()(ids), model(ids))
    assert torch.equal(model.eval()(ids), model(ids))


@pytest.mark.parametrize("p", [26 / 256, 0.5])  # a random byte decides: in steps of 1/256
def test_dropout_drops_its_share_and_makes_up_for_it(p):
    layer = convbert.ConvBertLayer(tiny(hidden_dropout_prob=p)).train()
    x = torch.ones(200, 200, requires_grad=True)
    y = layer.dropout(x)
    assert abs((y == 0).float().mean() - p) < 0.01
    same(y[y != 0], torch.full_like(y[y != 0], 1 / (1 - p)))
    same(torch.autograd.grad(y.sum(), x)[0], y)


@pytest.mark.parametrize("rows, calls", [(15, 0), (16, 6)])  # of 128 tokens: 2,048 are where it begins
def test_recomputing_changes_neither_loss_nor_gradients(rows, calls, monkeypatch):
    model = make(ConvBertForMaskedLM, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1).train()
    inputs, labels = masked_batch(rows, 128)
    counted = []

    def run(checkpoint):
        monkeypatch.setattr(convbert, "checkpoint", checkpoint)
        torch.manual_seed(0)  # of dropout
        loss = model(inputs, labels=labels).loss
        return loss, gradients(model, loss)

    def keep(f, *x, use_reentrant, preserve_rng_state, **options):
        counted.append(len(x[0].shape) > 2)  # the loss, of rows [m, V], is recomputed at any size but tiny
        return f(*x, **options)

    (loss, grads), (kept_loss, kept_grads) = run(convbert.checkpoint), run(keep)
    assert torch.equal(loss, kept_loss)
    same_gradients(grads, kept_grads)
    assert sum(counted) == calls  # in each of the two layers: span key, convolution, feed-forward network


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
    same_gradients(gradients(model, (beside * weights).sum()), gradients(model, (alone * weights).sum()))


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
    assert torch.equal(model(ids, torch.ones_like(ids)), model(ids, torch.ones(2, 12, dtype=torch.bool)))


@pytest.mark.parametrize("conv_type", ["sdconv", "dynamic", "light"])
@pytest.mark.parametrize("pads", [1, 8, 112])
def test_without_the_mask_padding_leaks(conv_type, pads):
    """The control of the tests above: were the model blind to its neighbours, they would show nothing."""
    model, ids = make(ConvBertModel, conv_type=conv_type, conv_padding_mask=False), random_ids(1, 12)
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


@pytest.mark.parametrize("size, width, heads", [("small", 64, 1), ("medium-small", 96, 2), ("base", 256, 4)])
def test_generator_is_narrow(size, width, heads):
    generator = on_paper(ConvBertForPreTraining, size).generator
    layer = generator.convbert.encoder["layer"][0]
    assert layer.attention["self"].query.in_features == width
    assert layer.intermediate["dense"].bias.numel() == 4 * width
    assert generator.config.num_attention_heads == heads
    assert len(generator.convbert.encoder["layer"]) == 12


@pytest.mark.parametrize("cls", [*MODELS, ConvBertForPreTraining], ids=lambda cls: cls.__name__)
@conv_types
@pytest.mark.parametrize("groups", [1, 2])
def test_initialisation(cls, conv_type, groups):
    """Normal cut at two sigma, which leaves 0.88 of the deviation; depthwise kernels wide, at 1/K."""
    K, sizes = 7, dict(vocab_size=500, embedding_size=64, hidden_size=128, intermediate_size=256)
    model = cls(tiny(**sizes, num_hidden_layers=1, num_groups=groups, pad_token_id=3, conv_type=conv_type,
                     conv_kernel_size=K))
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
    assert again.config == model.config
    assert capsys.readouterr().err == ""
    inputs = some_inputs()
    assert torch.equal(answer(again, **inputs), answer(model, **inputs))


@models
def test_saving_twice_gives_the_same_bytes_and_nothing_else(tmp_path, cls):
    model = make(cls)
    first, second = saved(model, tmp_path / "first"), saved(model, tmp_path / "second")
    saved(model, second)  # over what is there
    for folder in (first, second):
        assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
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


def reported(capsys):
    """The parameters named as new and as not used in the report on stderr."""
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    new, unused = captured.err.split("not used are")
    return new, unused


def test_new_and_unused_parameters_are_reported(tmp_path, capsys):
    saved(make(ConvBertForMaskedLM), tmp_path)
    ConvBertForSequenceClassification.from_pretrained(tmp_path)
    new, unused = reported(capsys)
    for name in ("dense.weight", "dense.bias", "out_proj.weight", "out_proj.bias"):
        assert f"classifier.{name}" in new
    assert "generator_predictions.dense.weight" in unused
    assert "embeddings" not in new + unused
    assert "encoder" not in new + unused


def test_embeddings_from_a_folder_are_not_reported_as_new(tmp_path, capsys):
    """The generator's embeddings are the discriminator's."""
    backbone = make(ConvBertModel)
    model = ConvBertForPreTraining.from_pretrained(saved(backbone, tmp_path))
    assert torch.equal(model.generator.convbert.embeddings.word_embeddings.weight,
                       backbone.embeddings.word_embeddings.weight)
    new, _ = reported(capsys)
    assert "discriminator_predictions.dense.weight" in new
    assert "generator.convbert.encoder.layer.0.attention.self.query.weight" in new
    assert "embeddings.word_embeddings" not in new
    assert "generator_lm_head.weight" not in new


@pytest.mark.parametrize("cls", [ConvBertForMaskedLM, ConvBertForSequenceClassification])
def test_a_missing_head_is_refused_where_one_is_needed(tmp_path, cls):
    saved(make(ConvBertModel), tmp_path)
    cls.from_pretrained(tmp_path)
    assert cls.__name__ in refusal(cls.from_pretrained, tmp_path, new_head=False)


@models
@pytest.mark.parametrize("lost", ["embeddings.LayerNorm.bias", "layer.1.attention.self.query.weight"])
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
        for name in old.namelist():  # each tensor's device stands in the pickle as a string after its length
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
