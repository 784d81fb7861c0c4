"""Part 2: convolutions and mixed attention, from their equations."""

import math

import pytest
import torch
import torch.nn.functional as F
from helpers import conv_types, gradients, length_mask, randomise, same, same_gradients, tiny

import convbert


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


@conv_types
def test_dropout_of_attention_spares_the_convolution(conv_type):
    module = mixed_attention(conv_type=conv_type, attention_probs_dropout_prob=0.5).train()
    x = torch.randn(2, 12, 24, dtype=torch.double)
    half = 24 if conv_type == "noconv" else 12
    first, second = module(x), module(x)
    assert not torch.equal(first[..., :half], second[..., :half])
    assert torch.equal(first[..., half:], second[..., half:])
