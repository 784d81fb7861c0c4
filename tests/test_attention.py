"""Part 2: convolutions and mixed attention, from their equations."""

import math
from unittest import mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import (
    answer,
    command,
    conv_types,
    finish,
    gradients,
    length_mask,
    losses,
    make,
    random_ids,
    randomise,
    read_json,
    same,
    same_gradients,
    tiny,
)
from torch import nn

import convbert
import pictures
from convbert import CONVOLUTIONS


def looped_convolution(values, kernels):
    """out[t] = Σ_j kernels[t, j] · values[t + j − p] in the text; [B, T, N, D], [B, T, N, K]."""
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
    """ConvBertSelfAttention from its weights; with a mask, padding counts as beyond the end."""
    [conv_type] = [name for name, cls in CONVOLUTIONS.items() if type(module) is cls]
    q, k, v = module.query(x), module.key(x), module.value(x)
    N = module.N
    attended = looped_attention(q, k, v, N, mask)
    if conv_type == "noconv":
        return attended
    u, real = module.conv_out_layer(x), 1 if mask is None else mask[..., None]
    if conv_type != "sdconv":
        content, gate = u.chunk(2, dim=-1)
        u = content * torch.sigmoid(gate)
    u = u * real
    if conv_type == "light":
        kernels = module.conv_kernel.softmax(-1).expand(*x.shape[:2], -1, -1)
    else:
        source = u
        if conv_type == "sdconv":
            source = q * looped_separable(module.key_conv_attn_layer, x * real)
        weight, bias = module.conv_kernel_layer.weight, module.conv_kernel_layer.bias
        logits = torch.einsum("bta,ka->btk", source, weight) + bias
        kernels = torch.stack([head.softmax(-1) for head in heads_of(logits, N)], dim=2)
        assert kernels.std() > 0.03  # far from flat
    convolved = looped_convolution(torch.stack(heads_of(u, N), dim=2), kernels)
    return torch.cat([attended, *convolved.unbind(2)], dim=-1)


def mixed_attention(**changes):
    config = tiny(**changes)
    return randomise(CONVOLUTIONS[config.conv_type](config)).double().eval()


def plain_convolution(values, kernels):
    """`convolve` as the sum of its K terms, whatever would be faster."""
    with mock.patch.object(convbert, "band_is_faster", lambda values: False):
        return convbert.convolve(values, kernels)


@pytest.mark.parametrize("convolve", [convbert.convolve, plain_convolution,
                                      convbert.convolve_by_band])
@pytest.mark.parametrize("T", [1, 7, 20, 300])
@pytest.mark.parametrize("K", [1, 9, 15])
@pytest.mark.parametrize("kernel_rows", [1, 2])
def test_convolve_is_its_equation(T, K, kernel_rows, convolve):
    values = torch.randn(2, T, 3, 4, dtype=torch.double, requires_grad=True)
    kernels = torch.randn(kernel_rows, T, 3, K, dtype=torch.double, requires_grad=True)
    ours = convolve(values.transpose(1, 2), kernels.transpose(1, 2)).transpose(1, 2)
    expected = looped_convolution(values, kernels)
    same(ours, expected, 1e-10)
    weights = torch.randn_like(ours)
    got = torch.autograd.grad((ours * weights).sum(), (values, kernels))
    wanted = torch.autograd.grad((expected * weights).sum(), (values, kernels))
    for a, b in zip(got, wanted):
        same(a, b, 1e-10)


@pytest.mark.parametrize("T, by_band", [(256, 1), (257, 0)])
def test_short_texts_are_convolved_by_the_band(T, by_band, monkeypatch):
    counted = mock.Mock(wraps=convbert.convolve_by_band)
    monkeypatch.setattr(convbert, "convolve_by_band", counted)
    values, kernels = torch.randn(2, 3, T, 4), torch.randn(2, 3, T, 5).softmax(-1)
    same(convbert.convolve(values, kernels), plain_convolution(values, kernels))
    assert counted.call_count == by_band


@pytest.mark.parametrize("convolve", [plain_convolution, convbert.convolve_by_band])
def test_convolve_of_one_tap_moves_the_sequence(convolve):
    """Tap 0 of three reads the token before, the last one the token after; the ends read zeros."""
    values = torch.arange(1.0, 6.0).view(1, 1, 5, 1)
    for tap, expected in ((0, [0, 1, 2, 3, 4]), (1, [1, 2, 3, 4, 5]), (2, [2, 3, 4, 5, 0])):
        kernels = F.one_hot(torch.full((1, 1, 5), tap), 3).float()
        assert convolve(values, kernels).flatten().tolist() == expected


@pytest.mark.parametrize("T", [1, 7, 20])
def test_separable_convolution_is_its_equation(T):
    layer = randomise(convbert.SeparableConv1D(tiny(), 10)).double()
    x = torch.randn(2, T, 24, dtype=torch.double)
    same(layer(x), looped_separable(layer, x), 1e-10)


@pytest.mark.parametrize("form", [convbert.depthwise_by_sum, convbert.depthwise_by_image])
@pytest.mark.parametrize("dtype", [torch.double, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("T", [1, 7, 20])
def test_all_forms_of_the_depthwise_convolution_are_one(T, dtype, form):
    x = torch.randn(2, 24, T, dtype=dtype, requires_grad=True)
    weight = torch.randn(24, 1, 5, dtype=dtype, requires_grad=True)
    same_with_gradients(form(x, weight), F.conv1d(x, weight, padding=2, groups=24), (x, weight))


@pytest.mark.parametrize("dtype", [torch.double, torch.float32, torch.bfloat16], ids=str)
def test_the_pointwise_convolution_is_that_of_torch(dtype):
    ours = convbert.PointwiseConv1d(24, 10, 1, bias=False).to(dtype)
    x = torch.randn(2, 24, 7, dtype=dtype, requires_grad=True)
    same_with_gradients(ours(x), F.conv1d(x, ours.weight), (x, ours.weight))


def same_with_gradients(ours, plain, leaves):
    assert ours.dtype == plain.dtype and ours.shape == plain.shape
    tolerance = {torch.double: 1e-10, torch.float32: 1e-5, torch.bfloat16: 0.05}[ours.dtype]
    assert (ours - plain).abs().max() <= tolerance * plain.abs().max()
    out = torch.randn_like(ours)
    for got, wanted in zip(*(torch.autograd.grad(y, leaves, out) for y in (ours, plain))):
        assert (got - wanted).abs().max() <= tolerance * wanted.abs().max()


def test_the_form_of_the_depthwise_convolution_depends_on_where_it_is_made(monkeypatch):
    layer, x = convbert.SeparableConv1D(tiny(), 10), torch.zeros(1, 2, 24)
    by_image = mock.Mock(wraps=convbert.depthwise_by_image)
    monkeypatch.setattr(convbert, "depthwise_by_image", by_image)
    layer(x)
    layer.to("meta")(x.to("meta"))
    assert by_image.call_count == 1
    with monkeypatch.context() as patch:
        patch.setattr(torch.compiler, "is_compiling", lambda: True)
        convbert.SeparableConv1D(tiny(), 10)(x)
    assert by_image.call_count == 1


def test_hooks_on_both_steps_of_a_span_key_are_called():
    layer, seen = convbert.SeparableConv1D(tiny(), 10), []
    for step in (layer.depthwise, layer.pointwise):
        step.register_forward_hook(lambda module, args, output: seen.append(module))
    layer(torch.zeros(1, 2, 24))
    assert seen == [layer.depthwise, layer.pointwise]


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
    got = gradients(module, (ours * weights).sum())
    wanted = gradients(module, (expected * weights).sum())
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


@conv_types
def test_dropout_of_attention_spares_the_convolution(conv_type):
    module = mixed_attention(conv_type=conv_type, attention_probs_dropout_prob=0.5).train()
    x = torch.randn(2, 12, 24, dtype=torch.double)
    half = 24 if conv_type == "noconv" else 12
    first, second = module(x), module(x)
    assert not torch.equal(first[..., :half], second[..., :half])
    assert torch.equal(first[..., half:], second[..., half:])


# ---- A kind of kernel of one's own

class MeanOfSpan(convbert.ConvBertSelfAttention):
    """w_t = softmax( W_f · mean of the span around t )."""

    def __init__(self, config):
        super().__init__(config)
        self.conv_kernel_layer = nn.Linear(config.hidden_size, self.N * self.K)

    def kernel_logits(self, x, q, u):
        means = F.avg_pool1d(x.transpose(1, 2), self.K, stride=1, padding=self.K // 2)
        return self.split_heads(self.conv_kernel_layer(means.transpose(1, 2)))


@pytest.fixture
def mean_of_span(monkeypatch):
    monkeypatch.setitem(CONVOLUTIONS, "mean", MeanOfSpan)


def test_a_new_kind_of_kernel_makes_a_model(mean_of_span, tmp_path):
    model = convbert.ConvBertForMaskedLM(tiny(conv_type="mean"))
    ids = random_ids(2, 12)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = model(ids, labels=ids).loss
    before.backward()
    for name, p in model.named_parameters():
        assert p.grad.any() or name.endswith("key.bias"), name
    optimizer.step()
    assert model(ids, labels=ids).loss < before

    model.eval().save_pretrained(tmp_path)
    again = convbert.ConvBertForMaskedLM.from_pretrained(tmp_path, new_head=False)
    assert torch.equal(again(ids).logits, model(ids).logits)
    alone, beside = again(ids).logits, again(F.pad(ids, (0, 9)), length_mask([12, 12], 21)).logits
    same(beside[:, :12], alone)


@pytest.mark.parametrize("job", ["mlm", "rtd"])
def test_a_new_kind_of_kernel_is_trained_by_the_command_line(mean_of_span, job, data, tmp_path):
    config = read_json(data / "config.json") | {"conv_type": "mean"}
    convbert.write_json(tmp_path / "config.json", config)
    options = command(job, data, "--config_name", tmp_path / "config.json", "--max_steps", "2")
    finish(options, tmp_path / "run")
    assert read_json(tmp_path / "run/config.json")["conv_type"] == "mean"
    assert len(losses(tmp_path / "run")) == 4  # two updates between two evaluations


def test_a_new_kind_of_kernel_is_drawn(mean_of_span, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is optional")
    model, ids = randomise(convbert.ConvBertModel(tiny(conv_type="mean"))).eval(), random_ids(7)
    attention, kernels = pictures.look(model, ids, 1)
    x = model.embeddings(ids[None])[0]
    padded = F.pad(x, (0, 0, 4, 4))
    means = torch.stack([padded[t : t + 9].mean(0) for t in range(7)])
    layer = model.encoder.layer[0].attention.self.conv_kernel_layer
    expected = layer(means).view(7, 2, 9).transpose(0, 1).softmax(-1).detach().numpy()
    assert attention.shape == (2, 7, 7)
    assert np.abs(kernels - expected).max() < 1e-5
    pictures.mixed_attention(model, ids, list("긴영화를보았다"), 1, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


class NormedKernel(CONVOLUTIONS["dynamic"]):
    """With buffers: the statistics of its batches."""

    def __init__(self, config):
        super().__init__(config)
        self.norm = nn.BatchNorm1d(self.N * self.K)
        self.register_buffer("places", torch.arange(self.K), persistent=False)

    def kernel_logits(self, x, q, u):
        return self.split_heads(self.norm(self.conv_kernel_layer(u).mT).mT)


@pytest.mark.parametrize("cls", [convbert.ConvBertModel, convbert.ConvBertForMaskedLM])
def test_buffers_of_a_kernel_are_saved_and_opened(cls, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(CONVOLUTIONS, "normed", NormedKernel)
    model, ids = make(cls, conv_type="normed"), random_ids(3, 12)
    model.train()(ids)  # moves the statistics
    model.save_pretrained(tmp_path)
    same(answer(cls.from_pretrained(tmp_path), input_ids=ids), answer(model, input_ids=ids))
    assert capsys.readouterr().err == ""
