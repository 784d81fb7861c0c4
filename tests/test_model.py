"""The model: configuration, convolutions, layers, objectives, and the folders they are kept in."""

import argparse
import dataclasses
import json
import math
import pickle
import zipfile

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import nn

import convbert
from convbert import (
    IGNORE,
    SIZES,
    ConvBertConfig,
    ConvBertForMaskedLM,
    ConvBertForPreTraining,
    ConvBertForSequenceClassification,
    ConvBertModel,
    UserError,
)

CONV_TYPES = ("sdconv", "dynamic", "light", "noconv")
MODELS = (ConvBertModel, ConvBertForMaskedLM, ConvBertForSequenceClassification)  # those Hugging Face has too
models = pytest.mark.parametrize("cls", MODELS, ids=lambda cls: cls.__name__)
conv_types = pytest.mark.parametrize("conv_type", CONV_TYPES)
MASK = 4  # the id that stands for [MASK] here


@pytest.fixture
def hf():
    return pytest.importorskip("transformers")


def tiny(**changes):
    values = dict(vocab_size=50, embedding_size=24, hidden_size=24, num_hidden_layers=2, intermediate_size=48,
                  max_position_embeddings=320, generator_ratio=2, hidden_dropout_prob=0,
                  attention_probs_dropout_prob=0)
    return ConvBertConfig(**values | changes)


@torch.no_grad()
def randomise(model):
    """As if trained: kernels are far from flat, and no bias or norm could be left out unseen."""
    for name, p in model.named_parameters():
        if "LayerNorm.weight" in name:
            p.normal_(1, 0.2)
        elif name.endswith("bias"):
            p.normal_(0, 0.2)
        else:  # a grouped weight is [G, in, out], all others are [out, in ...]
            gain = 2 if "conv_kernel" in name else 1
            p.normal_(0, gain * (p.size(1) if "dense" in name else p[0].numel()) ** -0.5)
    return model


def make(cls, **changes):
    return randomise(cls(tiny(**changes))).eval()


def random_ids(*shape, vocab_size=50):
    return torch.randint(5, vocab_size, shape)


def random_labels(ids, share=0.3):
    """[B, T] labels at about that share of the positions; each row has one."""
    labels = torch.where(torch.rand(ids.shape) < share, random_ids(*ids.shape), IGNORE)
    labels[:, 0] = 5
    return labels


def length_mask(lengths, T):
    return (torch.arange(T) < torch.tensor(lengths)[:, None]).long()


def same(a, b, tolerance=1e-5):
    torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    grads = {name: p.grad for name, p in model.named_parameters()}
    return {name: torch.tensor(0.0) if grad is None else grad.clone() for name, grad in grads.items()}


def same_gradients(ours, theirs):
    assert ours.keys() == theirs.keys()
    scale = max(grad.abs().max() for grad in theirs.values())
    for name, grad in theirs.items():  # the keys' bias has none but rounding, hence the share of the whole
        off, size = (ours[name] - grad).abs().max(), grad.abs().max()
        assert off <= 1e-4 * (size + 0.01 * scale), f"{name}: {off:.1e} off at {size:.1e}"


def refusal(call, *args, **options):
    """The one line of the UserError that a call must end in."""
    with pytest.raises(UserError) as caught:
        call(*args, **options)
    message = str(caught.value)
    assert message.strip() and "\n" not in message
    return message


# ---- Against Hugging Face's implementation -----------------------------------------------------------------

def published(size):
    return SIZES[size] | dict(num_hidden_layers=2, vocab_size=200)


SMALL = dict(vocab_size=200, embedding_size=24, hidden_size=24, num_hidden_layers=2, num_attention_heads=4,
             intermediate_size=48, max_position_embeddings=310)
PARITY = {  # name: configuration, length
    "small": (published("small"), 20),
    "medium-small": (published("medium-small"), 20),
    "base": (published("base"), 12),
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


def hf_config(hf, config):
    names = [field.name for field in dataclasses.fields(config)]
    values = dataclasses.asdict(config)
    return hf.ConvBertConfig(**{name: values[name] for name in names[: names.index("layer_norm_eps") + 1]})


def pair(hf, cls, case):
    """A model, Hugging Face's with the same weights, and the length to try."""
    values, T = PARITY[case]
    model = randomise(cls(ConvBertConfig(**values, conv_padding_mask=False))).eval()
    other = getattr(hf, cls.__name__)(hf_config(hf, model.config)).eval()
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
def test_hidden_state_is_hugging_faces(hf, case, given):
    model, other, T = pair(hf, ConvBertModel, case)
    inputs = parity_inputs(T, given)
    with torch.no_grad():
        same(model(**inputs), other(**inputs).last_hidden_state)


@parity
@pytest.mark.parametrize("given", ["ids", "all"])
def test_mlm_is_hugging_faces(hf, case, given):
    model, other, T = pair(hf, ConvBertForMaskedLM, case)
    inputs = parity_inputs(T, given)
    labels = random_labels(inputs["input_ids"])
    ours, theirs = model(**inputs, labels=labels), other(**inputs, labels=labels)
    same(ours.loss, theirs.loss)
    same(ours.logits, theirs.logits[labels != IGNORE])
    same(model(**inputs).logits, theirs.logits)
    assert model(**inputs).loss is None
    same_gradients(gradients(model, ours.loss), gradients(other, theirs.loss))


@parity
def test_classifier_is_hugging_faces(hf, case):
    model, other, T = pair(hf, ConvBertForSequenceClassification, case)
    inputs, labels = parity_inputs(T, "all"), torch.tensor([1, 0, 1])
    ours, theirs = model(**inputs, labels=labels), other(**inputs, labels=labels)
    same(ours.loss, theirs.loss)
    same(ours.logits, theirs.logits)
    same(model(**inputs).logits, theirs.logits)
    assert model(**inputs).loss is None
    same_gradients(gradients(model, ours.loss), gradients(other, theirs.loss))


# ---- Folders -----------------------------------------------------------------------------------------------

def answer(model, **inputs):
    """The hidden state or the logits, of a model from here or from Hugging Face."""
    with torch.no_grad():
        output = model.eval()(**inputs)
    if isinstance(output, torch.Tensor):
        return output
    return output.logits if hasattr(output, "logits") else output.last_hidden_state


def some_inputs():
    return dict(input_ids=random_ids(2, 11), token_type_ids=torch.randint(2, (2, 11)))


def saved(model, folder):
    model.save_pretrained(folder)
    return folder


def rewrite(folder, change):
    """Passes the weights of a folder through a function."""
    path = folder / "model.safetensors"
    safetensors.torch.save_file(change(safetensors.torch.load_file(path)), path)


@models
@pytest.mark.parametrize("groups", [1, 2])
def test_state_dicts_are_hugging_faces_in_both_directions(hf, cls, groups):
    model = make(cls, embedding_size=8, num_groups=groups)
    other = getattr(hf, cls.__name__)(hf_config(hf, model.config))
    other.load_state_dict(model.state_dict(), strict=True)
    fresh = cls(model.config)
    fresh.load_state_dict(other.state_dict(), strict=True)
    inputs = some_inputs()
    assert torch.equal(answer(fresh, **inputs), answer(model, **inputs))


@models
def test_hugging_face_opens_a_folder_saved_here(hf, tmp_path, cls):
    model = make(cls, embedding_size=8, num_groups=2, pad_token_id=3)
    folder = saved(model, tmp_path)
    other, report = getattr(hf, cls.__name__).from_pretrained(folder, output_loading_info=True)
    assert not any(report.values()), report
    assert hf.AutoConfig.from_pretrained(folder).pad_token_id == 3
    inputs = some_inputs()
    same(answer(other, **inputs), answer(model, **inputs))


@models
def test_a_folder_saved_by_hugging_face_opens_here(hf, tmp_path, capsys, cls):
    other = randomise(getattr(hf, cls.__name__)(hf_config(hf, tiny(embedding_size=8, num_groups=2))))
    other.save_pretrained(tmp_path)
    capsys.readouterr()
    model = cls.from_pretrained(tmp_path, new_head=False)
    assert capsys.readouterr().err == ""
    inputs = some_inputs()
    same(answer(model, **inputs), answer(other, **inputs))


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


def test_code_in_a_bin_is_never_run(tmp_path):
    (saved(make(ConvBertModel), tmp_path) / "model.safetensors").unlink()
    made = tmp_path / "made"
    code = f"cbuiltins\nopen\n(V{made}\nVw\ntR."  # a pickle that calls open(made, "w")
    (tmp_path / "pytorch_model.bin").write_text(code)
    refusal(ConvBertModel.from_pretrained, tmp_path)
    assert not made.exists()
    pickle.loads(code.encode())  # and it would have
    assert made.exists()


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


# ---- Padding -----------------------------------------------------------------------------------------------

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


# ---- Convolutions, attention, grouped linear, from their equations -----------------------------------------

def looped_convolution(values, kernels):
    """out[t] = Σ_j kernels[t, j] · values[t + j − p] within the sequence; [B, T, N, D], [B, T, N, K]."""
    values, kernels, K, rows = values.unbind(1), kernels.unbind(1), kernels.size(-1), []
    for t in range(len(values)):
        row = torch.zeros_like(values[t])
        for j in range(K):
            s = t + j - (K - 1) // 2
            if 0 <= s < len(values):
                row = row + kernels[t][..., j, None] * values[s]
        rows.append(row)
    return torch.stack(rows, dim=1)


def heads_of(x, n):
    """[B, T, N·D] -> list of N tensors [B, T, D]; the channels of a head are neighbours."""
    return x.chunk(n, dim=-1)


def looped_attention(q, k, v, N, mask):
    outputs = []
    for query, key, value in zip(heads_of(q, N), heads_of(k, N), heads_of(v, N)):
        scores = torch.einsum("btd,bsd->bts", query, key) / math.sqrt(query.size(-1))
        if mask is not None:
            scores = scores.masked_fill(mask[:, None] == 0, -math.inf)
        outputs.append(scores.softmax(-1) @ value)
    return torch.cat(outputs, dim=-1)


def looped_separable(layer, x):
    """Each channel of x [B, T, H] over its neighbours, with a kernel of its own; then H -> A."""
    kernels = layer.depthwise.weight[:, 0].expand(*x.shape[:2], -1, -1)  # [B, T, H, K]
    spans = looped_convolution(x[..., None], kernels).squeeze(-1)
    return torch.einsum("bth,ah->bta", spans, layer.pointwise.weight[..., 0]) + layer.bias[:, 0]


def looped_mixed_attention(module, x, mask=None):
    """ConvBertSelfAttention from its weights; with a mask, what is padding counts as beyond the end."""
    q, k, v = module.query(x), module.key(x), module.value(x)
    N = module.N
    attended = looped_attention(q, k, v, N, mask)
    if module.conv_type == "noconv":
        return attended
    u, real = module.conv_out_layer(x), 1 if mask is None else mask[..., None]
    if module.conv_type != "sdconv":
        content, gate = u.chunk(2, dim=-1)
        u = content * torch.sigmoid(gate)
    u = u * real
    if module.conv_type == "light":
        kernels = module.conv_kernel.softmax(-1).expand(*x.shape[:2], -1, -1)
    else:
        source = u
        if module.conv_type == "sdconv":
            source = q * looped_separable(module.key_conv_attn_layer, x * real)
        weight, bias = module.conv_kernel_layer.weight, module.conv_kernel_layer.bias
        logits = torch.einsum("bta,ka->btk", source, weight) + bias
        kernels = torch.stack([head.softmax(-1) for head in heads_of(logits, N)], dim=2)
        assert kernels.std() > 0.03  # far from flat
    convolved = looped_convolution(torch.stack(heads_of(u, N), dim=2), kernels)
    return torch.cat([attended, *convolved.unbind(2)], dim=-1)


def mixed_attention(**changes):
    config = tiny(**changes)
    return randomise(convbert.ConvBertSelfAttention(config)).double().eval()


@pytest.mark.parametrize("T", [1, 7, 20, 300])
@pytest.mark.parametrize("K", [1, 9, 15])
@pytest.mark.parametrize("kernel_rows", [1, 2])
def test_convolve_is_its_equation(T, K, kernel_rows):
    values = torch.randn(2, T, 3, 4, dtype=torch.double, requires_grad=True)
    kernels = torch.randn(kernel_rows, T, 3, K, dtype=torch.double, requires_grad=True)
    ours = convbert.convolve(values.transpose(1, 2), kernels.transpose(1, 2)).transpose(1, 2)  # heads first
    expected = looped_convolution(values, kernels)
    same(ours, expected, 1e-10)
    weights = torch.randn_like(ours)
    got = torch.autograd.grad((ours * weights).sum(), (values, kernels))
    wanted = torch.autograd.grad((expected * weights).sum(), (values, kernels))
    for a, b in zip(got, wanted):
        same(a, b, 1e-10)


def test_convolve_of_one_tap_moves_the_sequence():
    """Tap 0 of three reads the token before, the last one the token after; the ends read zeros."""
    values = torch.arange(1.0, 6.0).view(1, 1, 5, 1)
    for tap, expected in ((0, [0, 1, 2, 3, 4]), (1, [1, 2, 3, 4, 5]), (2, [2, 3, 4, 5, 0])):
        kernels = F.one_hot(torch.full((1, 1, 5), tap), 3).float()
        assert convbert.convolve(values, kernels).flatten().tolist() == expected


@pytest.mark.parametrize("T", [1, 7, 20])
def test_separable_convolution_is_its_equation(T):
    layer = randomise(convbert.SeparableConv1D(tiny(), 10)).double()
    x = torch.randn(2, T, 24, dtype=torch.double)
    same(layer(x), looped_separable(layer, x), 1e-10)


@pytest.mark.parametrize("dtype", [torch.double, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("T", [1, 7, 20])
def test_both_forms_of_the_depthwise_convolution_are_one(T, dtype):
    layer = randomise(convbert.SeparableConv1D(tiny(), 10))
    layer = layer.double() if dtype == torch.double else layer
    x = torch.randn(2, T, 24, dtype=dtype, requires_grad=True)
    ours, plain = layer.image(x), layer.taps(x)
    assert ours.dtype == plain.dtype == dtype and plain.shape == (2, T, 24)
    tolerance = {torch.double: 1e-10, torch.float32: 1e-5, torch.bfloat16: 0.05}[dtype]
    same(ours, plain, tolerance)
    leaves, out = (x, layer.depthwise.weight), torch.randn_like(ours)
    for got, wanted in zip(*(torch.autograd.grad(y, leaves, out) for y in (ours, plain))):
        assert (got - wanted).abs().max() <= tolerance * wanted.abs().max()


@conv_types
@pytest.mark.parametrize("T", [1, 5, 20, 260])
@pytest.mark.parametrize("heads", [2, 4, 12])
def test_mixed_attention_is_its_equations(conv_type, T, heads):
    module = mixed_attention(conv_type=conv_type, num_attention_heads=heads)
    x = torch.randn(2, T, 24, dtype=torch.double)
    ours, expected = module(x), looped_mixed_attention(module, x)
    assert ours.shape == (2, T, 24)
    same(ours, expected, 1e-10)
    weights = torch.randn_like(ours)
    got, wanted = gradients(module, (ours * weights).sum()), gradients(module, (expected * weights).sum())
    same_gradients(got, wanted)


@conv_types
@pytest.mark.parametrize("T", [20, 260])
def test_masked_mixed_attention_is_its_equations(conv_type, T):
    module, mask = mixed_attention(conv_type=conv_type), length_mask([T, 13], T)
    x, real = torch.randn(2, T, 24, dtype=torch.double), mask.bool()
    same(module(x, real)[real], looped_mixed_attention(module, x, mask)[real], 1e-10)


@pytest.mark.parametrize("lengths", [None, [20, 13]], ids=["plain", "padded"])
def test_noconv_is_multi_head_attention(lengths):
    module = mixed_attention(conv_type="noconv")
    mask = None if lengths is None else length_mask(lengths, 20).bool()
    x = torch.randn(2, 20, 24, dtype=torch.double)
    projections = (layer(x) for layer in (module.query, module.key, module.value))
    q, k, v = (torch.stack(heads_of(projection, 4), dim=1) for projection in projections)
    out = F.scaled_dot_product_attention(q, k, v, None if mask is None else mask[:, None, None])
    same(module(x, mask), torch.cat(out.unbind(1), dim=-1), 1e-10)
    assert not any("conv" in name for name in module.state_dict())


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


@conv_types
def test_dropout_of_attention_spares_the_convolution(conv_type):
    module = mixed_attention(conv_type=conv_type, attention_probs_dropout_prob=0.5).train()
    x = torch.randn(2, 12, 24, dtype=torch.double)
    half = 24 if conv_type == "noconv" else 12
    first, second = module(x), module(x)
    assert not torch.equal(first[..., :half], second[..., :half])
    assert torch.equal(first[..., half:], second[..., half:])


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


# ---- Sizes and initialisation ------------------------------------------------------------------------------

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


# ---- Objectives --------------------------------------------------------------------------------------------

def test_mlm_output_weights_are_the_word_embeddings(tmp_path):
    first = make(ConvBertForMaskedLM)
    for model in (first, ConvBertForMaskedLM.from_pretrained(saved(first, tmp_path))):
        assert model.generator_lm_head.weight is model.convbert.embeddings.word_embeddings.weight
    assert "generator_lm_head.weight" not in safetensors.torch.load_file(tmp_path / "model.safetensors")


def masked_batch(B=3, T=14):
    """Inputs with [MASK] at a third of the positions, and the labels there."""
    original = random_ids(B, T)
    labelled = torch.rand(B, T) < 0.3
    labelled[:, 1] = True
    return torch.where(labelled, MASK, original), torch.where(labelled, original, IGNORE)


def seen(model, *inputs, labels):
    """(output, the tokens that the discriminator was given)"""
    tokens = []
    handle = model.convbert.register_forward_pre_hook(lambda module, args: tokens.append(args[0]))
    output = model(*inputs, labels=labels)
    handle.remove()
    return output, tokens[-1]


def always_guess(model, token):
    """Makes the generator certain of one token at all positions."""
    with torch.no_grad():
        model.generator.generator_lm_head.bias[token] = 1e4


@pytest.mark.parametrize("lengths", [None, [14, 9, 5]], ids=["plain", "padded"])
def test_rtd_loss_is_that_of_its_parts(lengths):
    model, (ids, labels) = make(ConvBertForPreTraining), masked_batch()
    mask = torch.ones_like(ids) if lengths is None else length_mask(lengths, 14)
    labels = torch.where(mask == 1, labels, IGNORE)
    given = (ids, None if lengths is None else mask)
    torch.manual_seed(7)
    output, corrupted = seen(model, *given, labels=labels)

    mlm_loss = model.generator(*given, labels=labels).loss
    replaced = (labels != IGNORE) & (corrupted != labels)
    assert replaced.any()
    head = model.discriminator_predictions
    hidden = F.gelu(head["dense"](model.convbert(corrupted, given[1])))
    logits = head["dense_prediction"](hidden)[..., 0]
    each = -torch.where(replaced, F.logsigmoid(logits), F.logsigmoid(-logits))
    same(output.logits, logits)
    same(output.loss, mlm_loss + 50 * (each * mask).sum() / mask.sum())

    torch.manual_seed(7)
    assert model(*given, labels=labels).loss == output.loss


@pytest.mark.parametrize("cls", [ConvBertForMaskedLM, ConvBertForPreTraining], ids=lambda cls: cls.__name__)
def test_positions_of_the_labels_change_nothing(cls):
    """Nor do further ones of tokens that have no label."""
    model, (ids, labels) = make(cls), masked_batch()
    labels[0, 0] = IGNORE
    found = (labels != IGNORE).flatten().nonzero().squeeze(1)
    results = []
    for positions in (None, found, F.pad(found, (0, 5))):
        torch.manual_seed(7)
        loss = model(ids, labels=labels, positions=positions).loss
        results.append((loss.detach(), gradients(model, loss)))
    for loss, grads in results[1 : 3 if cls is ConvBertForMaskedLM else 2]:  # 5 more draw more random numbers
        same(loss, results[0][0])
        same_gradients(grads, results[0][1])


def test_a_position_without_label_is_never_changed():
    model, (ids, labels) = make(ConvBertForPreTraining), masked_batch()
    always_guess(model, 6)
    _, corrupted = seen(model, ids, labels=labels)
    assert torch.equal(corrupted, torch.where(labels == IGNORE, ids, 6))


def test_only_a_guess_that_differs_from_the_original_counts_as_replaced():
    model = make(ConvBertForPreTraining)
    ids = torch.tensor([[10, MASK, 11, MASK, 6, 12]])  # the fifth is labelled, but was left as it is
    labels = torch.tensor([[IGNORE, 6, IGNORE, 7, 6, IGNORE]])
    always_guess(model, 6)
    output, corrupted = seen(model, ids, labels=labels)
    assert corrupted.tolist() == [[10, 6, 11, 6, 6, 12]]
    expected = F.binary_cross_entropy_with_logits(output.logits, torch.tensor([[0.0, 0, 0, 1, 0, 0]]))
    mlm_loss = model.generator(ids, labels=labels).loss
    same(output.loss - mlm_loss, 50 * expected, 1e-3)  # the certain generator's loss is in the thousands


@pytest.mark.parametrize("pads", [1, 30])
def test_padding_counts_in_neither_loss(pads):
    model, (ids, labels) = make(ConvBertForPreTraining), masked_batch()
    torch.manual_seed(7)
    alone = model(ids, labels=labels)
    torch.manual_seed(7)
    mask = length_mask([14] * 3, 14 + pads)
    beside = model(F.pad(ids, (0, pads)), mask, labels=F.pad(labels, (0, pads), value=IGNORE))
    same(beside.loss, alone.loss)
    same(beside.logits[:, :14], alone.logits)


def test_tokens_are_drawn_from_the_softmax(monkeypatch):
    model, logits = make(ConvBertForPreTraining), torch.full((50,), -30.0)
    logits[10:14] = torch.tensor([0.5, 0.25, 0.2, 0.05]).log()
    guess = convbert.ModelOutput(torch.tensor(0.0), logits.expand(4000, 50))
    monkeypatch.setattr(model.generator, "forward", lambda *args: guess)
    with torch.no_grad():
        _, corrupted = seen(model, torch.full((40, 100), MASK), labels=torch.full((40, 100), 10))
    shares = torch.bincount(corrupted.flatten(), minlength=50) / 4000
    assert shares[10:14].sum() == 1
    same(shares[10:14], torch.tensor([0.5, 0.25, 0.2, 0.05]), 0.03)


def own_parameters(model):
    """The generator's parameters but for those it shares."""
    shared = {id(p) for p in model.convbert.parameters()}
    return {name: p for name, p in model.generator.named_parameters() if id(p) not in shared}


def test_generator_and_discriminator_share_their_embeddings():
    model = make(ConvBertForPreTraining, embedding_size=8)
    assert model.generator.convbert.embeddings is model.convbert.embeddings
    assert model.generator.generator_lm_head.weight is model.convbert.embeddings.word_embeddings.weight
    assert not any("_embeddings." in name for name in own_parameters(model))


def test_the_generator_learns_from_its_own_loss_alone():
    model, (ids, labels) = make(ConvBertForPreTraining), masked_batch()
    both = gradients(model, model(ids, labels=labels).loss)
    mlm = gradients(model, model.generator(ids, labels=labels).loss)
    names = [f"generator.{name}" for name in own_parameters(model)]
    assert len(names) > 20
    for name in names:
        same(both[name], mlm[name], 1e-7)
    shared = "convbert.embeddings.word_embeddings.weight"
    assert (both[shared] - mlm[shared]).abs().max() > 1e-3


@conv_types
def test_gradient_reaches_every_parameter_of_both(conv_type):
    model, (ids, labels) = make(ConvBertForPreTraining, embedding_size=8, conv_type=conv_type), masked_batch()
    for name, grad in gradients(model, model(ids, labels=labels).loss).items():
        if not name.endswith("key.bias"):  # softmax does not see it
            assert grad.abs().max() > 1e-6, name


def test_a_batch_without_labels_has_a_finite_loss():
    ids = random_ids(2, 9)
    labels = torch.full_like(ids, IGNORE)
    assert make(ConvBertForMaskedLM)(ids, labels=labels).loss == 0
    output, corrupted = seen(make(ConvBertForPreTraining), ids, labels=labels)
    assert torch.equal(corrupted, ids)
    same(output.loss, 50 * F.softplus(output.logits).mean())


def test_replaced_token_detection_saves_an_ordinary_backbone(tmp_path, capsys):
    model, ids = make(ConvBertForPreTraining, embedding_size=8), random_ids(2, 11)
    backbone = ConvBertModel.from_pretrained(saved(model, tmp_path))
    assert capsys.readouterr().err == ""
    assert torch.equal(backbone(ids), model.convbert(ids))
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["ConvBertModel"]


def test_hugging_face_opens_what_replaced_token_detection_saves(hf, tmp_path):
    model, ids = make(ConvBertForPreTraining, embedding_size=8), random_ids(2, 11)
    saved(model, tmp_path)
    other, report = hf.ConvBertModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    same(answer(other, input_ids=ids), answer(model.convbert, input_ids=ids))


def steps_to_overfit(model, ids, labels, at_most):
    """How many steps of Adam until the loss of one batch is below 0.1."""
    # the usual 0.999 does not get over the large gradient of a wrong token drawn late
    optimizer = torch.optim.Adam(model.train().parameters(), lr=3e-3, betas=(0.9, 0.95))
    for step in range(at_most):
        loss = model(ids, labels=labels).loss
        if loss.item() < 0.1:
            return step
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    pytest.fail(f"the loss is {loss.item():.3f} after {at_most} steps")


def overfit_config(**changes):
    return tiny(**dict(vocab_size=30, embedding_size=16, hidden_size=32, intermediate_size=64) | changes)


@conv_types
def test_mlm_overfits_one_batch(conv_type):
    ids = random_ids(4, 10, vocab_size=30)
    labels = torch.where(torch.rand(4, 10) < 0.3, ids, IGNORE)
    masked = torch.where(labels == IGNORE, ids, MASK)
    assert steps_to_overfit(ConvBertForMaskedLM(overfit_config(conv_type=conv_type)), masked, labels, 500) > 3


@conv_types
def test_replaced_token_detection_overfits_one_batch(conv_type):
    ids = random_ids(4, 8, vocab_size=30)
    labels = torch.full_like(ids, IGNORE).scatter(1, torch.tensor([[1], [3], [4], [6]]), 7)
    model = ConvBertForPreTraining(overfit_config(conv_type=conv_type))
    assert steps_to_overfit(model, torch.where(labels == IGNORE, ids, MASK), labels, 1000) > 3


@conv_types
def test_classifier_overfits_one_batch(conv_type):
    ids, labels = random_ids(6, 10, vocab_size=30), torch.tensor([0, 1, 1, 0, 1, 0])
    model = ConvBertForSequenceClassification(overfit_config(conv_type=conv_type))
    assert steps_to_overfit(model, ids, labels, 500) > 3


# ---- Impossible configurations -----------------------------------------------------------------------------

IMPOSSIBLE = [
    dict(conv_kernel_size=8),
    dict(conv_kernel_size=0),
    dict(num_attention_heads=5),
    dict(num_attention_heads=0),
    dict(hidden_size=27, num_attention_heads=1),  # an odd width has no halves
    dict(hidden_size=27, num_attention_heads=3),
    dict(hidden_size=6, num_attention_heads=6, head_ratio=1),  # three channels for six heads
    dict(num_groups=3),
    dict(num_groups=2, intermediate_size=1023),
    dict(hidden_size=255, intermediate_size=1024, num_attention_heads=5, conv_type="noconv", num_groups=2),
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


def test_a_generator_narrower_than_one_channel_is_refused():
    refusal(ConvBertForPreTraining, tiny(generator_ratio=100))


@pytest.mark.parametrize("text", ["", "{", "[]", "[1, 2]", "null", '"convbert"', "3", "{'vocab_size': 5}"])
def test_what_is_no_json_object_is_no_config(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    assert "config.json" in refusal(ConvBertConfig.from_pretrained, tmp_path)


def test_what_is_no_unicode_is_no_config(tmp_path):
    (tmp_path / "config.json").write_bytes(b"\xff\xfe{}")
    assert "config.json" in refusal(ConvBertConfig.from_pretrained, tmp_path)


@pytest.mark.parametrize("name", ["vocab_size", "hidden_size", "head_ratio", "num_groups", "pad_token_id"])
def test_a_config_that_lacks_a_field_is_refused(tmp_path, name):
    values = dataclasses.asdict(ConvBertConfig())
    del values[name]
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert name in refusal(ConvBertConfig.from_pretrained, tmp_path)


def test_a_config_of_another_model_is_refused(tmp_path):
    values = dataclasses.asdict(ConvBertConfig()) | dict(model_type="bert")
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert "config.json" in refusal(ConvBertConfig.from_pretrained, tmp_path)


def test_a_config_is_read_as_it_was_written(tmp_path):
    config = tiny(conv_type="light", num_groups=2, hidden_dropout_prob=0.25, conv_padding_mask=False)
    values = dataclasses.asdict(config) | dict(model_type="convbert", torch_dtype="float32")
    (tmp_path / "some.json").write_text(json.dumps(values))
    assert ConvBertConfig.from_pretrained(tmp_path / "some.json") == config


@pytest.mark.parametrize("size", SIZES)
def test_named_sizes_are_possible(size):
    config = ConvBertConfig(**SIZES[size])
    assert config.hidden_size == 2 * config.num_heads * config.head_size
