"""ConvBERT for Korean in one file: the model of the paper, its pretraining, fine-tuning and use.

Jiang et al., "ConvBERT: Improving BERT with Span-based Dynamic Convolution", NeurIPS 2020,
arXiv 2008.02496.

Why a convolution beside attention?  A head of self-attention compares every token with all T
tokens: T² scores.  Many heads of a trained BERT use only the scores of near tokens.  A convolution
never looks beyond the K nearest tokens: T·K products.  So ConvBERT keeps half of the heads for
what is far away, and puts a convolution in the place of the others.

Why is its kernel made from a span?  An ordinary convolution has one kernel for all positions.
Dynamic convolution (Wu et al. 2019) makes the kernel from the vector at the position alone.  In the
first layer the same token at the same place therefore gets the same kernel in every text.  But 배
is a pear, a boat or a belly, and only the words around it tell.  ConvBERT makes the kernel from the
K tokens around the position, itself included: from what the token means there.  So kernels know
their context from the first layer on.

Pretrained at the cost of ELECTRA-small, the paper's small model is 0.9 points better on GLUE (78.9
and 78.0, table 3).

The letters for sizes:
    B batch    T length    V vocabulary    E embedding_size   H hidden_size    I intermediate_size
    K conv_kernel_size, p = (K−1)/2        G num_groups       M chosen tokens  C classes
    N heads of attention, and as many of convolution          D head size
    A = N·D = H/2, or H without convolution
A line of code that changes a shape ends with the new one, in these letters.

The equations of a layer.  x_t is the vector of token t, i runs over all tokens, j from 0 to K−1,
and ⊙ multiplies element by element.  3.2 and 3.3 are sections of the paper.

    query, key, value        q = W_q x,  k = W_k x,  v = W_v x          H -> A channels
    values to convolve       u = W_u x                                  H -> A channels, 3.2
    span key                 s_t = W_pw Σ_j dw_j ⊙ x_{t+j−p} + b        H -> A channels, 3.2
    kernels                  w_t = softmax_j( W_f (q_t ⊙ s_t) )         K weights for each head, 3.2
    span-based convolution   o_t = Σ_j w_{t,j} u_{t+j−p}                in each head, 3.2
    self-attention           a_t = Σ_i softmax_i( q_t·k_i / √D ) v_i    in each head
    mixed attention          m_t = W_o [ a_t ; o_t ]                    2A -> H channels, 3.3
    grouped linear           z = blockdiag(W_1, ..., W_G) x             in the feed-forward, 3.3

dw_j [H] weighs the channels of a neighbour, and W_pw [A, H] mixes them.  Every other W has a bias
too, which is not written.  The softmax makes o_t a weighted mean of K values, as it makes a_t one
of all T.  Both kinds of heads ask with the same queries.  W_f makes the kernels of a head from the
channels of all heads.  BERT would have 2N heads of attention (at head_ratio 2); the paper calls the
narrower q, k and v a bottleneck.  The paper's text convolves v, the values of attention.  The
authors' code and the paper's counts of parameters have another projection for the convolution, W_u.

Sections 1 to 4 of this file are the paper, and how model folders are read and written.  Sections 5
to 7 train and use the model.  The others are machinery: tables of texts, devices, options.

Departures from the authors' code:
  - Pretraining is a masked language model by default, as BERT's.  Replaced token detection, the
    paper's objective, is --objective rtd.
  - Their convolutions see the padding after a text, so that an answer depends on how much there is.
    Here both convolutions, dw and the span-based one, see zeros there (`conv_padding_mask`).
  - A row of pretraining is one segment and may run over the ends of documents.  Theirs mostly has
    two segments of one document.
  - Exactly 30 % of the tokens of a row are chosen, not about 15 % (`--mlm_probability`).
  - Pretraining has no dropout.  Adam corrects the bias of its moments.  The rate falls after the
    warmup, theirs from the first update on.
  - All names and the classifier's hidden layer follow Hugging Face, and so does A = H/2 for any
    head_ratio: theirs is H/head_ratio, which is the same in all published models.

    python convbert.py --task pretrain       # on Korean Wikipedia, or else on the bundled sample
    python convbert.py --task finetune       # on NSMC's film reviews, or else on the sample
    python convbert.py --task predict --text "배우들 연기가 정말 좋았어요"
"""

import argparse
import contextlib
import csv
import ctypes
import difflib
import errno
import functools
import hashlib
import itertools
import json
import math
import os
import re
import reprlib
import shutil
import signal
import sys
import threading
import time
import unicodedata
import zipfile
from argparse import Namespace
from collections import Counter, namedtuple
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import IO, Any, NamedTuple, NoReturn

import numpy as np
import sentencepiece
import torch
import torch.distributed as dist
import torch.nn.functional as F
from filelock import FileLock, Timeout
from numpy import ndarray as Array
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from setproctitle import setproctitle
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.optim import AdamW, Optimizer
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent
RANK = int(os.environ.get("RANK") or 0)  # set by torchrun: the number of this process
WORLD = int(os.environ.get("WORLD_SIZE") or 1)  # and of how many
IGNORE = -100  # the label of a position that has none: PyTorch's convention
NSMC_LABELS = {0: "negative", 1: "positive"}


class UserError(Exception):
    """Something the user can put right.  The command line prints it as one line, with status 2."""


def brief(error: BaseException) -> str:
    """The first sentence of what a library says of an error."""
    text = " ".join(str(error).split())
    return re.split(r"(?<=[a-z])\. ", text)[0][:300] or type(error).__name__


# ---- 1. Configuration ----------------------------------------------------------------------------
SIZES: dict[str, dict] = {  # as published, but for tiny; what is not named is as in small
    "tiny": dict(embedding_size=32, hidden_size=64, intermediate_size=128, num_hidden_layers=2),
    "small": dict(),
    "medium-small": dict(hidden_size=384, num_attention_heads=8, intermediate_size=1536,
                         num_groups=2),
    "base": dict(embedding_size=768, hidden_size=768, num_attention_heads=12,
                 intermediate_size=3072, generator_ratio=3),
}


@dataclass
class ConvBertConfig:
    """Hyper-parameters under Hugging Face's names, ConvBERT-small by default.

    Raises UserError if they make no model.
    """

    vocab_size: int = 8007
    embedding_size: int = 128
    hidden_size: int = 256
    num_hidden_layers: int = 12
    num_attention_heads: int = 4  # of a BERT this wide; attention keeps N, head_ratio times fewer
    intermediate_size: int = 1024
    head_ratio: int = 2  # another one changes N and D, but A stays H/2, as in Hugging Face
    conv_kernel_size: int = 9
    num_groups: int = 1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    pad_token_id: int = 0  # a config.json must hold the fields up to this one
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    id2label: dict[int, str] = field(default_factory=NSMC_LABELS.copy)
    conv_type: str = "sdconv"  # from here on not in Hugging Face; a key of CONVOLUTIONS
    conv_padding_mask: bool = True  # false: padding leaks through the convolutions, as published
    generator_ratio: int = 4  # replaced token detection: how many times narrower the generator is

    def __post_init__(self) -> None:
        def need(condition: bool, why: str) -> None:
            if not condition:
                raise UserError(f"config: {why}")

        limits = {int: (1, 10**6), float: (0, 0.99), bool: (0, 1)}
        for item in fields(self):
            kind, value = type(item.default), getattr(self, item.name)
            if kind in limits:
                low, high = (0, 10**6) if item.name == "pad_token_id" else limits[kind]
                need(type(value) in (kind, int) and low <= value <= high,
                     f"{item.name} must be {kind.__name__} from {low} to {high}, not {value!r}")
        H, h = self.hidden_size, self.num_attention_heads
        G, K = self.num_groups, self.conv_kernel_size
        need(self.conv_type in [*CONVOLUTIONS],  # a list: the value may be unhashable
             f"conv_type must be one of {[*CONVOLUTIONS]}")
        need(self.hidden_act == "gelu", f"hidden_act must be gelu, not {self.hidden_act!r}")
        need(K % 2 == 1, f"conv_kernel_size {K} must be odd")
        heads = self.num_heads * self.branches  # of attention and of convolution, all of one size
        need(H % h == 0 and H % heads == 0,
             f"hidden_size {H} must divide by num_attention_heads {h}, and by the {heads} heads "
             "that head_ratio leaves")
        need(H % G == 0 and self.intermediate_size % G == 0,
             f"hidden and intermediate size must divide by {G} groups")
        need(self.pad_token_id < self.vocab_size, f"pad_token_id {self.pad_token_id} is no piece")
        need(self.initializer_range > 0, "initializer_range must be more than 0")
        names = self.id2label if isinstance(self.id2label, dict) else {}
        need([*names] == [*range(len(names))] and all(isinstance(n, str) for n in names.values())
             and len(set(names.values())) == len(names) > 1,
             f"id2label must name classes 0, 1, ..., each by another name, not {self.id2label}")

    @property
    def branches(self) -> int:
        """2 where a convolution shares the width H with attention, else 1."""
        return CONVOLUTIONS[self.conv_type].branches

    @property
    def num_heads(self) -> int:
        """N, the heads that head_ratio leaves to attention."""
        h = self.num_attention_heads
        return h if self.branches == 1 else max(1, h // self.head_ratio)

    @property
    def head_size(self) -> int:
        """D, the channels of a head."""
        return self.hidden_size // self.num_heads // self.branches

    @property
    def label2id(self) -> dict[str, int]:
        return {name: number for number, name in self.id2label.items()}

    @classmethod
    def from_pretrained(cls, path: Path | str, **changes: Any) -> "ConvBertConfig":
        """Reads config.json: the file, or the folder that holds it.  `changes` replace its values.

        Raises UserError, with the name of the file.
        """
        path = Path(path)
        if path.suffix != ".json" or path.is_dir():
            path = path / "config.json"
        try:
            values = json.loads(path.read_text(encoding="utf-8-sig"))
            if str(values.get("model_type") or "convbert").partition("-")[0] != "convbert":
                raise UserError("not a ConvBERT model's")
            names = [item.name for item in fields(cls)]
            needed = names[: names.index("pad_token_id") + 1]
            if missing := [name for name in needed if name not in values]:
                raise UserError(f"lacks {', '.join(missing)}")
            for name in values.keys() - {*names}:  # Hugging Face has many that are not used here
                if near := difflib.get_close_matches(name, {*names} - {*values}, 1, cutoff=0.8):
                    raise UserError(f"{name}: did you mean {near[0]}?")
            labels = values.get("id2label") or {0: "LABEL_0", 1: "LABEL_1"}  # as in transformers
            labels = {int(number): str(name) for number, name in labels.items()}
            values["id2label"] = dict(sorted(labels.items()))
            return cls(**{name: values[name] for name in names if name in values} | changes)
        except FileNotFoundError:
            found = checkpoints(path.parent)
            hint = f"unfinished; name {found[-1]}" if found else "name a model folder on this disk"
            raise UserError(f"{path}: no such file; {hint}") from None
        except (UserError, OSError, ValueError, AttributeError, RecursionError) as error:
            raise UserError(f"{path}: {error}") from None


# ---- 2. Mixed attention --------------------------------------------------------------------------
def convolve(values: Tensor, kernels: Tensor) -> Tensor:
    """o_t = Σ_j w_{t,j} u_{t+j−p}, with zeros beyond both ends of the text (section 3.2).

    values u [B, N, T, D], kernels w [B, N, T, K]: a kernel for each head and position, which the D
    channels of the head share, or [1, N, T, K] if all texts share them.  Returns [B, N, T, D].
    """
    if band_is_faster(values):
        return convolve_by_band(values, kernels)  # the same in one product: section 10 of this file
    T, K = kernels.shape[-2:]
    padded = F.pad(values, (0, 0, K // 2, K // 2))  # [B, N, T+K-1, D]
    output = torch.zeros_like(values)
    for j in range(K):
        output = output + kernels[..., j : j + 1] * padded[:, :, j : j + T]  # [B, N, T, D]
    return output


class SeparableConv1D(nn.Module):
    """The key of a span: s_t = W_pw Σ_j dw_j ⊙ x_{t+j−p} + b (section 3.2).

    Two cheap steps, of H·K + H·A weights, in place of one convolution with H·K·A: each channel is
    convolved alone over the K tokens, then the channels are mixed.
    """

    def __init__(self, config: ConvBertConfig, A: int):
        super().__init__()
        H, K = config.hidden_size, config.conv_kernel_size
        # two nn.Conv1d, with faster forms in section 10 of this file
        self.depthwise = DepthwiseConv1d(H, H, K, padding=K // 2, groups=H, bias=False)
        self.pointwise = PointwiseConv1d(H, A, kernel_size=1, bias=False)
        self.bias = nn.Parameter(torch.zeros(A, 1))  # Hugging Face's name and shape

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, H] -> [B, T, A]"""
        spans = self.depthwise(x.transpose(1, 2))  # [B, H, T]
        keys = self.pointwise(spans)  # [B, A, T]
        return (keys + self.bias.to(keys.dtype)).transpose(1, 2)  # [B, T, A]


class SelfAttention(nn.Module):
    """N heads of self-attention: a = softmax(q kᵀ / √D) v.  With conv_type noconv it is BERT's."""

    branches = 1  # attention alone, with all H channels; 2: it shares them with a convolution

    def __init__(self, config: ConvBertConfig):
        super().__init__()
        self.N, self.D, self.K = config.num_heads, config.head_size, config.conv_kernel_size
        H, self.A = config.hidden_size, self.N * self.D
        self.query = nn.Linear(H, self.A)
        self.key = nn.Linear(H, self.A)
        self.value = nn.Linear(H, self.A)
        self.dropout = Dropout(config.attention_probs_dropout_prob)  # as nn.Dropout

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x [B, T, H]; mask, bool [B, T], false at padding -> [B, T, A]"""
        q = self.split_heads(self.query(x))  # [B, N, T, D]
        return self.join_heads(self.attend(q, x, mask))  # [B, T, A]

    def attend(self, q: Tensor, x: Tensor, mask: Tensor | None) -> Tensor:
        """What the queries gather from all tokens: [B, N, T, D]"""
        k = self.split_heads(self.key(x))  # [B, N, T, D]
        v = self.split_heads(self.value(x))  # [B, N, T, D]
        return self.dropout(self.attention(q, k, mask)) @ v  # [B, N, T, D]

    def attention(self, q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor:
        """softmax(q kᵀ / √D) without weight on padding: [B, N, T, T], a row for each query."""
        scores = q @ k.transpose(-1, -2) / math.sqrt(self.D)  # [B, N, T, T]
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None, None], torch.finfo(scores.dtype).min)
        return scores.softmax(-1)

    def split_heads(self, x: Tensor) -> Tensor:
        """[B, T, N·D] -> [B, N, T, D], or K in place of D"""
        B, T, _ = x.shape
        return x.reshape(B, T, self.N, -1).transpose(1, 2)

    def join_heads(self, x: Tensor) -> Tensor:
        """[B, N, T, D] -> [B, T, N·D]"""
        return x.transpose(1, 2).flatten(2)


class ConvBertSelfAttention(SelfAttention):
    """Mixed attention (section 3.3): N heads of self-attention beside N heads of convolution.

    W_o, in ConvBertAttention, mixes the two.  A subclass makes the kernels of the convolution:
    __init__ adds weights, and `kernel_logits` uses them.  A line of CONVOLUTIONS gives it a name,
    by which conv_type in config.json chooses it.  `init_weights` draws every Linear and Conv1d
    anew; anything else keeps what __init__ gives it.
    """

    branches = 2

    def __init__(self, config: ConvBertConfig):
        super().__init__(config)
        self.mask_padding = config.conv_padding_mask
        self.conv_out_layer = nn.Linear(config.hidden_size, self.A)  # W_u

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x [B, T, H]; mask, bool [B, T], false at padding -> [B, T, 2A]"""
        q = self.split_heads(self.query(x))  # [B, N, T, D]
        attended = self.attend(q, x, mask)  # [B, N, T, D]

        visible = None
        if mask is not None and self.mask_padding:
            visible = mask[..., None]  # [B, T, 1] false at padding
            x = x * visible  # so that spans see zeros there
        u = self.conv_values(x)  # [B, T, A]
        if visible is not None:
            u = u * visible  # where the bias of W_u made them nonzero
        w = self.kernel_logits(x, q, u).softmax(-1)  # [B, N, T, K]; [1, ...] if texts share it
        convolved = convolve(self.split_heads(u), w.to(u.dtype))  # [B, N, T, D]

        both = torch.cat([attended, convolved], dim=1)  # [B, 2N, T, D]
        return self.join_heads(both)  # [B, T, 2A]

    def conv_values(self, x: Tensor) -> Tensor:
        """u = W_u x, the values to convolve: [B, T, A]"""
        return self.conv_out_layer(x)

    def kernel_logits(self, x: Tensor, q: Tensor, u: Tensor) -> Tensor:
        """The kernels before softmax: [B, N, T, K], or [1, N, T, K] where all texts share them.

        `split_heads` makes [B, N, T, K] of [B, T, N·K].

        x [B, T, H] is the layer's input, u [B, T, A] are the values.  Both are zero at padding,
        unless conv_padding_mask is false.  A window over them must take zeros beyond both ends,
        too, and come before any layer with a bias: else a text with padding would have another
        answer.  q [B, N, T, D] are the queries.  No window may go over them: they are not zero at
        padding.
        """
        raise NotImplementedError


class SpanBasedDynamicConvolution(ConvBertSelfAttention):
    """The paper's kernel: w_t = softmax( W_f (q_t ⊙ s_t) ), s_t the span's key (section 3.2).

    As in attention, a query meets a key.  There q · k is summed up to one score.  Here W_f turns
    q ⊙ s into K scores for each head.
    """

    def __init__(self, config: ConvBertConfig):
        super().__init__(config)
        self.key_conv_attn_layer = SeparableConv1D(config, self.A)  # makes s
        self.conv_kernel_layer = nn.Linear(self.A, self.N * self.K)  # W_f

    def kernel_logits(self, x: Tensor, q: Tensor, u: Tensor) -> Tensor:
        keys = self.key_conv_attn_layer(x)  # [B, T, A]
        product = self.join_heads(q) * keys  # [B, T, A]
        return self.split_heads(self.conv_kernel_layer(product))  # [B, N, T, K]


class GatedConvolution(ConvBertSelfAttention):
    """What the convolutions of Wu et al. 2019 share: a gated linear unit makes the values."""

    def __init__(self, config: ConvBertConfig):
        super().__init__(config)
        self.conv_out_layer = nn.Linear(config.hidden_size, 2 * self.A)

    def conv_values(self, x: Tensor) -> Tensor:
        return F.glu(self.conv_out_layer(x))  # [B, T, A]


class DynamicConvolution(GatedConvolution):
    """DynamicConv (Wu et al. 2019): w_t = softmax( W_f u_t ), made from the vector u_t alone."""

    def __init__(self, config: ConvBertConfig):
        super().__init__(config)
        self.conv_kernel_layer = nn.Linear(self.A, self.N * self.K)  # W_f

    def kernel_logits(self, x: Tensor, q: Tensor, u: Tensor) -> Tensor:
        return self.split_heads(self.conv_kernel_layer(u))  # [B, N, T, K]


class LightConvolution(GatedConvolution):
    """LightConv (Wu et al. 2019): w = softmax( W ), one kernel a head for all positions."""

    def __init__(self, config: ConvBertConfig):
        super().__init__(config)
        self.conv_kernel = nn.Parameter(nn.init.xavier_uniform_(torch.empty(self.N, self.K)))

    def kernel_logits(self, x: Tensor, q: Tensor, u: Tensor) -> Tensor:
        return self.conv_kernel[None, :, None].expand(-1, -1, x.size(1), -1)  # [1, N, T, K]


CONVOLUTIONS: dict[str, type[SelfAttention]] = {  # by the configuration's conv_type
    "sdconv": SpanBasedDynamicConvolution,
    "dynamic": DynamicConvolution,
    "light": LightConvolution,
    "noconv": SelfAttention,
}


# ---- 3. Model ------------------------------------------------------------------------------------
class GroupedLinear(nn.Module):
    """z = blockdiag(W_1, ..., W_G) x + b, with 1/G of the weights of a dense layer (section 3.3).

    G groups of channels do not mix here.  The dense layers of the next attention mix them.
    """

    def __init__(self, in_features: int, out_features: int, num_groups: int):
        super().__init__()
        in_group, out_group = in_features // num_groups, out_features // num_groups
        self.weight = nn.Parameter(torch.empty(num_groups, in_group, out_group))
        self.bias = nn.Parameter(torch.zeros(out_features))

    def forward(self, x: Tensor) -> Tensor:
        x = x.unflatten(-1, (self.weight.size(0), -1))  # [..., G, in/G]
        z = torch.einsum("...gi,gio->...go", x, self.weight)  # [..., G, out/G]
        return z.flatten(-2) + self.bias  # [..., out]


def feed_forward_linear(in_features: int, out_features: int, config: ConvBertConfig) -> nn.Module:
    if config.num_groups == 1:
        return nn.Linear(in_features, out_features)
    return GroupedLinear(in_features, out_features, config.num_groups)


class ConvBertOutput(nn.Module):
    """LayerNorm(x + dropout(dense(y))): how attention and feed-forward both end, as in BERT."""

    def __init__(self, dense: nn.Module, config: ConvBertConfig):
        super().__init__()
        self.dense = dense
        self.dropout = Dropout(config.hidden_dropout_prob)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        return self.LayerNorm(x + self.dropout(self.dense(y)))  # [B, T, H]


class ConvBertAttention(nn.Module):
    """Mixed attention; then W_o, which mixes both kinds of heads; then residual and LayerNorm."""

    def __init__(self, config: ConvBertConfig):
        super().__init__()
        H = config.hidden_size  # = 2A; without convolution A
        self.self = CONVOLUTIONS[config.conv_type](config)
        self.output = ConvBertOutput(nn.Linear(H, H), config)  # its dense layer is W_o

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.output(self.self(x, mask), x)  # [B, T, H]


class ConvBertIntermediate(nn.Module):
    """gelu(dense(x)), the wide part of the feed-forward network."""

    def __init__(self, config: ConvBertConfig):
        super().__init__()
        self.dense = feed_forward_linear(config.hidden_size, config.intermediate_size, config)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.dense(x))  # [B, T, I]


class ConvBertLayer(nn.Module):
    """A layer of BERT with mixed attention in the place of self-attention."""

    def __init__(self, config: ConvBertConfig):
        super().__init__()
        self.attention = ConvBertAttention(config)
        self.intermediate = ConvBertIntermediate(config)
        dense = feed_forward_linear(config.intermediate_size, config.hidden_size, config)
        self.output = ConvBertOutput(dense, config)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = self.attention(x, mask)  # [B, T, H]
        return self.output(self.intermediate(x), x)  # [B, T, H]


class ConvBertEmbeddings(nn.Module):
    """Word + position + segment, then LayerNorm.  E may be smaller than H, as in ELECTRA."""

    def __init__(self, config: ConvBertConfig):
        super().__init__()
        E = config.embedding_size
        self.word_embeddings = nn.Embedding(config.vocab_size, E, padding_idx=config.pad_token_id)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, E)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, E)
        self.LayerNorm = nn.LayerNorm(E, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """[B, T] -> [B, T, E]"""
        types = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        positions = torch.arange(input_ids.size(1), device=input_ids.device)  # [T]
        x = self.word_embeddings(input_ids) + self.position_embeddings(positions)  # [B, T, E]
        return self.dropout(self.LayerNorm(x + self.token_type_embeddings(types)))


class ConvBertEncoder(nn.Module):
    """The layers, one after the other: [B, T, H] -> [B, T, H]."""

    def __init__(self, config: ConvBertConfig):
        super().__init__()
        self.layer = nn.ModuleList(ConvBertLayer(config) for _ in range(config.num_hidden_layers))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        for layer in self.layer:
            x = layer(x, mask)
        return x  # [B, T, H]


@torch.no_grad()
def init_weights(module: nn.Module, std: float) -> None:
    """Normal(0, std) cut off at two std, as in BERT; biases are 0.

    Depthwise kernels have a std of 1/K, as in the authors' code.  The sum over K independent tokens
    then has about 1/√K of a token's std, 0.3 at K = 9.  With 0.02 it would have 0.05.
    """
    if not isinstance(module, (nn.Linear, nn.Embedding, nn.Conv1d, GroupedLinear)):
        return
    if isinstance(module, nn.Conv1d) and module.groups > 1:
        std = 1 / module.kernel_size[0]
    nn.init.trunc_normal_(module.weight, std=std, a=-2 * std, b=2 * std)
    if (bias := getattr(module, "bias", None)) is not None:
        bias.zero_()
    if isinstance(module, nn.Embedding) and module.padding_idx is not None:
        module.weight[module.padding_idx].zero_()


class ConvBertPreTrainedModel(nn.Module):
    """What all models share: folders with Hugging Face's config.json and model.safetensors."""

    def __init__(self, config: ConvBertConfig):
        super().__init__()
        self.config = config

    def initialise(self, *modules: nn.Module) -> None:
        """Draws the weights of modules."""
        for module in modules:
            module.apply(functools.partial(init_weights, std=self.config.initializer_range))

    @classmethod
    def from_pretrained(cls, folder: Path | str, new_head: bool = True, **changes: Any) -> Any:
        """The model of a local folder, ours or Hugging Face's, in eval mode.

        new_head: a head that the folder lacks begins anew; stderr tells.  `changes` replace values
        of its configuration; for another id2label the classification head begins anew.
        Raises UserError where files are missing, damaged or those of another model.
        """
        saved = ConvBertConfig.from_pretrained(folder)
        model = cls(replace(saved, **changes))
        kind = read_json(Path(folder, "config.json")).get("problem_type")
        usual = kind in (None, "single_label_classification")  # else its scores are no softmax
        if hasattr(model, "classifier") and not new_head and not usual:
            raise UserError(f"{folder}: problem_type {kind}: only single_label_classification")
        path, weights = read_weights(Path(folder))
        # "convbert." may stand before a name or not, in the file as in this model: first all go
        # without it, then each gets the name that this model has, if it has one
        weights = {k.removeprefix("convbert."): v for k, v in weights.items()}
        names = {name.removeprefix("convbert."): name for name in model.tensors()}
        weights = {names.get(k, k): v for k, v in weights.items()}
        if saved.id2label != model.config.id2label or not usual:
            weights = {k: v for k, v in weights.items() if not k.startswith("classifier.")}
        missing = [name for name in names.values() if name not in weights]
        has_head = hasattr(model, "convbert")
        lost = [name for name in missing if not has_head or name.startswith("convbert.")]
        if lost or (missing and not new_head):  # a backbone cannot begin anew
            raise UserError(f"{path}: no {cls.__name__}, lacks {', '.join(missing)[:200]}")
        if hasattr(model, "generator_lm_head") and "generator_lm_head.weight" in weights:
            words = weights["convbert.embeddings.word_embeddings.weight"]
            if not torch.equal(weights["generator_lm_head.weight"], words):
                raise UserError(f"{path}: the output layer's weights are not the word embeddings")
        used = [weights[name] for name, _ in model.named_parameters() if name in weights]
        if not all(weight.is_floating_point() and weight.isfinite().all() for weight in used):
            raise UserError(f"{path}: holds weights that are not finite, or whole numbers")
        try:
            unused = model.load_state_dict(weights, strict=False).unexpected_keys
        except RuntimeError as error:
            raise UserError(f"{path}: does not fit ({brief(error)})") from None
        told = [f"{what}: {modules_of(parts)}"
                for what, parts in (("begins anew", missing), ("not used", unused)) if parts]
        if told:
            print(f"{path}: {'; '.join(told)}", file=sys.stderr)
        return model.eval()

    def tensors(self) -> dict[str, Tensor]:
        """What a model folder holds by name: parameters, and the buffers that a kernel may have."""
        named = itertools.chain(self.named_parameters(), self.named_buffers())
        kept = self.state_dict()  # without buffers that are not persistent
        return {name: tensor for name, tensor in named if name in kept}

    def save_pretrained(self, folder: Path | str) -> None:
        """Writes config.json and model.safetensors.  Each is whole at every moment.

        `Tokenizer.save` adds the vocabulary, without which transformers would make one up.  Another
        conv_type has another model_type, since transformers would open it with random weights.
        """
        kind = self.config.conv_type
        config = {"model_type": "convbert" if kind == "sdconv" else f"convbert-{kind}",
                  "architectures": [type(self).__name__],
                  **asdict(self.config), "label2id": self.config.label2id}
        write_json(Path(folder, "config.json"), config)
        weights = {name: tensor.detach().contiguous() for name, tensor in self.tensors().items()}
        with replacing(Path(folder, "model.safetensors"), SafetensorError) as temporary:
            save_file(weights, temporary, metadata={"format": "pt"})


def read_weights(folder: Path) -> tuple[Path, dict[str, Tensor]]:
    """(file, its tensors): model.safetensors, or else pytorch_model.bin.  Raises UserError."""
    path = folder / "model.safetensors"
    try:
        if path.exists():
            path.open("rb").close()  # of a file that may not be read load_file says: missing
            weights = load_file(path)
        else:
            path = folder / "pytorch_model.bin"  # pickled, but weights_only runs no code
            weights = torch.load(path, "cpu", weights_only=True)
        return path, {k: v for k, v in weights.items() if "position_ids" not in k}
    except FileNotFoundError:
        raise UserError(f"{folder}: holds no model.safetensors") from None
    except Exception as error:
        if not is_damage(error):
            raise
        raise UserError(f"{path}: damaged ({brief(error)})") from None


def is_damage(error: Exception) -> bool:
    """Whether the file is damaged.  An error of the disk or a lack of memory is no damage."""
    return not (isinstance(error, (OSError, MemoryError)) or "CPUAllocator" in str(error))


def modules_of(names: Iterable[str]) -> str:
    """The parts of a model that parameters belong to, in words."""
    words = {"classifier": "classification head", "generator_predictions": "masked LM head",
             "generator_lm_head": "masked LM head", "generator": "generator",
             "discriminator_predictions": "replaced token head"}
    parts = [name.removeprefix("convbert.").partition(".")[0] for name in names]
    return ", ".join(dict.fromkeys(words.get(part, part) for part in parts))


class ConvBertModel(ConvBertPreTrainedModel):
    """The backbone: embeddings, a projection from E to H where they differ, and the layers."""

    def __init__(self, config: ConvBertConfig, embeddings: ConvBertEmbeddings | None = None):
        super().__init__(config)
        self.encoder = ConvBertEncoder(config)
        E, H = config.embedding_size, config.hidden_size
        self.embeddings_project = nn.Linear(E, H) if E != H else nn.Identity()
        self.initialise(self.encoder, self.embeddings_project)
        if embeddings is None:
            embeddings = ConvBertEmbeddings(config)
            self.initialise(embeddings)  # not those of another model, which has drawn them
        self.embeddings = embeddings

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None,
                token_type_ids: Tensor | None = None) -> Tensor:
        """input_ids, attention_mask (0 at padding), token_type_ids [B, T] -> [B, T, H]"""
        mask = None if attention_mask is None else attention_mask.bool()
        x = self.embeddings(input_ids, token_type_ids)  # [B, T, E]
        return self.encoder(self.embeddings_project(x), mask)  # [B, T, H]


# ---- 4. Objectives -------------------------------------------------------------------------------
ModelOutput = namedtuple("ModelOutput", "loss logits")  # loss is None without labels


class ConvBertGeneratorPredictions(nn.Module):
    """LayerNorm(gelu(dense(x))): from H to E, the width of the word embeddings.

    The masked LM's head.  Hugging Face calls it a generator's, because in replaced token detection
    a masked LM generates the tokens to detect.
    """

    def __init__(self, config: ConvBertConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.embedding_size)
        self.LayerNorm = nn.LayerNorm(config.embedding_size, eps=config.layer_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        return self.LayerNorm(F.gelu(self.dense(x)))  # [..., E]


class ConvBertForMaskedLM(ConvBertPreTrainedModel):
    """Masked language model (Devlin et al. 2019): the mean of −log p(original token) where asked.

    The output layer's weights are the word embeddings.
    """

    def __init__(self, config: ConvBertConfig, embeddings: ConvBertEmbeddings | None = None):
        super().__init__(config)
        self.convbert = ConvBertModel(config, embeddings)
        self.generator_predictions = ConvBertGeneratorPredictions(config)
        self.generator_lm_head = nn.Linear(config.embedding_size, config.vocab_size)
        self.initialise(self.generator_predictions, self.generator_lm_head)
        self.generator_lm_head.weight = self.convbert.embeddings.word_embeddings.weight

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None,
                token_type_ids: Tensor | None = None, labels: Tensor | None = None) -> ModelOutput:
        """labels [B, T], −100 where nothing is asked -> loss, logits [M, V] of the positions asked.

        Without labels: logits [B, T, V] of all positions.
        """
        hidden = self.convbert(input_ids, attention_mask, token_type_ids)  # [B, T, H]
        if labels is not None:
            labelled = labels != IGNORE  # [B, T]
            hidden, labels = hidden[labelled], labels[labelled]  # [M, H], [M]
        logits = self.generator_lm_head(self.generator_predictions(hidden))  # [M, V] or [B, T, V]
        if labels is None:
            return ModelOutput(None, logits)
        loss = F.cross_entropy(logits, labels, reduction="sum") / max(1, len(labels))  # mean, or 0
        return ModelOutput(loss, logits)


class ConvBertDiscriminatorPredictions(nn.Module):
    """dense_prediction(gelu(dense(x))): a number a token, above 0 where it looks replaced."""

    def __init__(self, config: ConvBertConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.dense_prediction = nn.Linear(config.hidden_size, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense_prediction(F.gelu(self.dense(x))).squeeze(-1)  # [B, T]


class ConvBertForPreTraining(ConvBertPreTrainedModel):
    """Replaced token detection (Clark et al. 2020, ELECTRA), the paper's objective: MLM + 50 · RTD.

    The generator, a narrower ConvBERT, draws a token from its predictions for each chosen position.
    The discriminator, to be fine-tuned later, tells which tokens were replaced.  So it learns from
    all T positions, not from the masked ones alone.  Both share the embeddings.  No gradient passes
    through the draw.
    """

    def __init__(self, config: ConvBertConfig):
        super().__init__(config)
        self.convbert = ConvBertModel(config)
        self.discriminator_predictions = ConvBertDiscriminatorPredictions(config)
        self.initialise(self.discriminator_predictions)
        width = config.hidden_size // config.generator_ratio
        heads = max(1, config.num_attention_heads // config.generator_ratio)
        try:
            narrow = replace(config, hidden_size=width, intermediate_size=4 * width,
                             num_attention_heads=heads)
        except UserError as error:
            raise UserError(f"generator_ratio {config.generator_ratio}: {error}") from None
        self.generator = ConvBertForMaskedLM(narrow, self.convbert.embeddings)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None,
                token_type_ids: Tensor | None = None, *, labels: Tensor) -> ModelOutput:
        """labels [B, T], −100 where nothing is asked -> loss, logits [B, T] of all positions"""
        guess = self.generator(input_ids, attention_mask, token_type_ids, labels)  # logits [M, V]
        labelled = labels != IGNORE  # [B, T]
        original = torch.where(labelled, labels, input_ids)  # [B, T]
        corrupted = original.clone()  # [B, T]
        # a draw from softmax(logits): the argmax of logits + Gumbel noise
        corrupted[labelled] = F.gumbel_softmax(guess.logits.detach().float()).argmax(-1)  # [M]
        replaced = corrupted != original  # [B, T] false where the draw is the original token

        hidden = self.convbert(corrupted, attention_mask, token_type_ids)  # [B, T, H]
        logits = self.discriminator_predictions(hidden).float()  # [B, T]
        losses = F.binary_cross_entropy_with_logits(logits, replaced.float(), reduction="none")
        real = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        rtd_loss = (losses * real).sum() / real.sum()
        loss = guess.loss + 50.0 * rtd_loss  # rtd_loss is small beside the generator's
        return ModelOutput(loss, logits)


class ConvBertClassificationHead(nn.Module):
    """out_proj(gelu(dense(x))), with dropout before both layers, as in Hugging Face."""

    def __init__(self, config: ConvBertConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = Dropout(config.hidden_dropout_prob)
        self.out_proj = nn.Linear(config.hidden_size, len(config.id2label))

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.dense(self.dropout(x)))  # [B, H]
        return self.out_proj(self.dropout(x))  # [B, C]


class ConvBertForSequenceClassification(ConvBertPreTrainedModel):
    """The class of a text, read off the vector of [CLS]; config.id2label names the classes."""

    def __init__(self, config: ConvBertConfig):
        super().__init__(config)
        self.convbert = ConvBertModel(config)
        self.classifier = ConvBertClassificationHead(config)
        self.initialise(self.classifier)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None,
                token_type_ids: Tensor | None = None, labels: Tensor | None = None) -> ModelOutput:
        """labels: classes, int64 [B], or probabilities, float [B, C] -> loss, logits [B, C]"""
        hidden = self.convbert(input_ids, attention_mask, token_type_ids)  # [B, T, H]
        logits = self.classifier(hidden[:, 0]).float()  # [B, C]
        loss = None if labels is None else F.cross_entropy(logits, labels)
        return ModelOutput(loss, logits)


# ---- 5. Text and batches -------------------------------------------------------------------------
class Tokenizer:
    """A SentencePiece model, and what masking must know of its pieces.

    Raises UserError if the file is none, or lacks [PAD], [CLS], [SEP] or [MASK].
    """

    FILE = "spiece.model"  # its name in a model folder

    def __init__(self, path: Path | str):
        self.path = Path(path)
        try:
            self.model = self.path.read_bytes()
            sp = sentencepiece.SentencePieceProcessor(model_proto=self.model)
        except (OSError, RuntimeError) as error:
            raise UserError(f"{path}: not a SentencePiece model ({brief(error)})") from None
        ids = range(len(sp))
        self.size, self.pieces = len(sp), sp.id_to_piece(list(ids))
        needed = ("[PAD]", "[CLS]", "[SEP]", "[MASK]")
        if any(piece not in self.pieces for piece in needed) or self.size > 2**16:
            raise UserError(f"{path}: needs the pieces {', '.join(needed)}, at most 65,536 in all")
        self.pad, self.cls, self.sep, self.mask = map(self.pieces.index, needed)
        self.is_special = np.array([sp.is_control(i) or sp.is_unknown(i) or self.pieces[i] in needed
                                    for i in ids])
        self.encode = functools.partial(sp.encode, return_type="numpy")  # texts -> arrays
        self.files = {self.FILE: self.model} | self.files_for_transformers()

    def files_for_transformers(self) -> dict[str, bytes]:
        """{name: contents}: the same tokenizer for transformers, if it lies beside the model.

        tokenizer_config.json holds the hash of the model that tokenizer.json was made from.  If it
        is another model, the configuration makes transformers fail.  Without any configuration
        transformers would make up a tokenizer of five pieces.
        """
        config = self.path.with_name("tokenizer_config.json")
        digest = hashlib.sha256(self.model).hexdigest()
        tokenizer = self.path.with_name("tokenizer.json")
        if (read_json(config).get("sentencepiece_sha256") != digest
                or not os.access(tokenizer, os.R_OK)):
            return {config.name: b'{"tokenizer_class": "PreTrainedTokenizerFast"}\n'}
        return {tokenizer.name: tokenizer.read_bytes(), config.name: config.read_bytes()}

    def save(self, folder: Path) -> bool:
        """Writes the tokenizer's files.  Returns whether one for transformers is among them."""
        if "tokenizer.json" not in self.files:
            (folder / "tokenizer.json").unlink(missing_ok=True)
        for name, contents in self.files.items():
            with replacing(folder / name) as temporary:
                temporary.write_bytes(contents)
        return "tokenizer.json" in self.files


def encode_texts(texts: Iterable[str], tokenizer: Tokenizer,
                 length: int) -> tuple[list[Tensor], int]:
    """(the ids of [CLS] text [SEP] for each text, cut to `length`; the number of texts cut)"""
    texts = [text.encode(errors="replace").decode() for text in texts]  # half a pair becomes "?"
    pieces = tokenizer.encode(texts)
    ids = [torch.tensor([tokenizer.cls, *p[: length - 2], tokenizer.sep]) for p in pieces]
    return ids, sum(len(p) > length - 2 for p in pieces)


def corpus_rows(paths: list, tokenizer: Tokenizer, length: int, limit: int | None = None) -> Array:
    """The tokens of all files, one after another, cut into rows: uint16 [rows, length−2].

    Blank lines end a document and become one [SEP].  [CLS] and [SEP] go around each row later.  No
    more is read than `limit` rows need.  Raises UserError for a missing file or too little text.
    """
    tokens = bytearray()  # two for a token: it grows without a second copy
    before = np.array([tokenizer.sep])  # the token before a block of lines: a document has ended
    width = length - 2
    most = 2 * width * (limit or sys.maxsize)  # bytes
    for path in paths:
        with open(path, encoding=text_encoding(path)) as file:
            lines = [""]  # as after a blank line: a document ends where a file does
            while len(tokens) < most and lines:
                pieces = tokenizer.encode([line.strip() for line in lines])
                ids = np.concatenate([before, *(p if len(p) else [tokenizer.sep] for p in pieces)])
                # of several [SEP] in a row the first is kept, also where a block ends between them
                again = (ids[1:] == tokenizer.sep) & (ids[:-1] == tokenizer.sep)
                tokens += ids[1:][~again].astype(np.uint16).tobytes()
                before = ids[-1:]
                lines = file.readlines(1 << 18)  # characters
    count = min(len(tokens), most) // (2 * width)
    if count < min(2, limit or 2):  # one to train on, one held out
        listed = ", ".join(map(str, paths))
        raise UserError(f"{listed}: too short for two rows of --max_seq_length {length}")
    return np.frombuffer(tokens, np.uint16, count * width).reshape(count, width)


def text_encoding(path: Path | str) -> str:
    """utf-8-sig; utf-16 where a byte order mark says so; or cp949, which stderr tells.

    Raises UserError for a file in none of them, with the number of the line unless it is UTF-16.
    """
    if not os.path.isfile(path):  # a pipe cannot be read twice
        why = "a folder or a pipe; name a file" if os.path.exists(path) else "no such file"
        raise UserError(f"{path}: {why}")
    with open(path, "rb") as file:
        head = file.read(4)
    if head.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0", b"\x1f\x8b", b"\xff\xfe\0\0")):
        raise UserError(f"{path}: an Excel workbook, a compressed file or UTF-32; save it as text "
                        "or CSV (UTF-8)")
    marked = head[:2] in (b"\xff\xfe", b"\xfe\xff")
    for encoding in ("utf-16",) if marked else ("utf-8-sig", "cp949"):
        with contextlib.suppress(UnicodeDecodeError), open(path, encoding=encoding) as text:
            while text.read(1 << 24):
                pass
            if encoding == "cp949":
                print(f"{path}: not UTF-8; read as cp949", file=sys.stderr)
            return encoding
    if marked:
        raise UserError(f"{path}: damaged UTF-16; save it as UTF-8")
    with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as text:
        # a bad byte is U+DC80 to U+DCFF
        number = next(n for n, line in enumerate(text, 1) if re.search("[\udc80-\udcff]", line))
    raise UserError(f"{path}, line {number}: neither UTF-8 nor cp949; save it as UTF-8")


def choose_tokens(ids: Array, tokenizer: Tokenizer, share: float,
                  rng: np.random.Generator) -> Array:
    """Marks `share` of each row's ordinary tokens, an exact count and at least one: bool [B, T]."""
    ordinary = ~tokenizer.is_special[ids]  # [B, T]
    count = np.maximum(1, np.rint(share * ordinary.sum(1, keepdims=True)))  # [B, 1]
    chance = np.where(ordinary, rng.random(ids.shape), 1)  # [B, T] special tokens come last
    rank = chance.argsort(axis=1).argsort(axis=1)  # [B, T] the place of each in its row's order
    return ordinary & (rank < count)


def mask_rows(rows: Array, tokenizer: Tokenizer, share: float, rng: np.random.Generator,
              mask_share: float = 0.8, random_share: float = 0.1) -> dict[str, Tensor]:
    """Dynamic masking: rows [B, T−2] -> input_ids, labels, int64 [B, T], −100 where not asked.

    Chooses `share` of the tokens: 30 %, not BERT's 15 %, gives more labels a row, at the price of
    less context.  mask_share of them become [MASK], random_share any ordinary token, and the rest
    stay.  Fine-tuning never shows [MASK], so BERT's 80/10/10 forces a model to keep a good vector
    for every token.  ELECTRA has 85/0/15: its discriminator never sees [MASK], because the
    generator has replaced it, and so no random tokens are needed.
    """
    ends = [(0, 0), (tokenizer.cls, tokenizer.sep)]
    ids = np.pad(rows.astype(np.int64), ((0, 0), (1, 1)), constant_values=ends)  # [B, T]
    chosen = choose_tokens(ids, tokenizer, share, rng)  # [B, T]
    chance = rng.random(ids.shape)  # low ones: [MASK]; high ones: any token; between: unchanged
    inputs = np.where(chosen & (chance < mask_share), tokenizer.mask, ids)
    randoms = rng.choice(np.flatnonzero(~tokenizer.is_special), ids.shape)
    inputs = np.where(chosen & (chance >= 1 - random_share), randoms, inputs)
    labels = np.where(chosen, ids, IGNORE)
    return {"input_ids": torch.from_numpy(inputs), "labels": torch.from_numpy(labels)}


def bucketed(lengths: Array, batch_size: int, rng: np.random.Generator,
             window: int = 50) -> list[Array]:
    """Indices in batches of like length, which need little padding.

    All are shuffled, sorted by length in windows of `window` batches, and the batches are shuffled.
    """
    order, step = rng.permutation(len(lengths)), window * batch_size
    parts = np.split(order, range(step, len(order), step))
    order = np.concatenate([part[np.argsort(lengths[part], kind="stable")] for part in parts])
    batches = np.split(order, range(batch_size, len(order), batch_size))
    return [batches[i] for i in rng.permutation(len(batches))]


def collate(ids: list[Tensor], pad: int) -> dict[str, Tensor]:
    """A batch as long as its longest text: input_ids and attention_mask, int64 [B, T]."""
    batch = pad_sequence(ids, batch_first=True, padding_value=pad)  # [B, T]
    return {"input_ids": batch, "attention_mask": (batch != pad).long()}


# ---- 6. Optimisation and the loop ----------------------------------------------------------------
def make_optimizer(model: ConvBertPreTrainedModel, args: Namespace) -> Optimizer:
    """AdamW, which spares biases and LayerNorms from decay.

    The rate of a layer is layer_decay times that of the next one.  The head has the full rate and
    the last layer layer_decay² of it: one power is skipped, as in ELECTRA's code.  Low layers hold
    what is general, and fine-tuning changes them least.

    Another torch.optim.Optimizer can take the place of AdamW in the last line, with the same parts.
    The loop sets the lr of a group to its `scale` times the rate of the moment, and calls step
    without a closure.  The defaults of --learning_rate and --weight_decay are AdamW's, whose decay
    is decoupled: NAdam needs decoupled_weight_decay=True, and SGD --weight_decay 0.
    """
    groups: dict[tuple[float, float], list] = {}
    top = model.config.num_hidden_layers + 2
    for name, parameter in model.named_parameters():
        spared = name.endswith("bias") or "LayerNorm" in name
        layer = re.search(r"encoder\.layer\.(\d+)\.", name)
        depth = 0 if "embeddings" in name else top  # the head is the top
        if layer:
            depth = int(layer[1]) + 1
        key = (0.0 if spared else args.weight_decay, args.layer_decay ** (top - depth))
        groups.setdefault(key, []).append(parameter)
    parts = [{"params": group, "weight_decay": decay, "scale": scale}
             for (decay, scale), group in groups.items()]
    return AdamW(parts, eps=1e-6, fused=args.device.type in ("cpu", "cuda"))


@dataclass
class Progress:
    """How far a training is; a checkpoint holds it beside the weights and the optimizer's state."""

    options: dict[str, Any]  # what decides the result, see compare_options
    step: int = 0  # updates made
    seconds: float = 0.0
    evals: list[dict] = field(default_factory=list)
    best: dict = field(default_factory=dict)  # the evaluation of highest accuracy, and its weights
    log_size: int = 0  # bytes of metrics.jsonl
    losses: list[float] = field(default_factory=list)  # of the updates since its last line
    tokens: int = 0  # of these updates
    logged: float = 0.0  # `seconds` at its last line

    def share(self, args: Namespace) -> float:
        """How much of the run is over, 0 to 1."""
        if args.max_minutes:
            return min(1.0, self.seconds / (60 * args.max_minutes))
        return min(1.0, self.step / args.max_steps)


def learning_rate(args: Namespace, progress: Progress) -> float:
    """The rate of the coming update: linear warmup to the peak, then linear decay to 0."""
    done = progress.share(args)
    if not args.max_minutes:
        done += 0.5 / args.max_steps  # amid the update: else the first one would have rate 0
    if done < args.warmup_ratio:
        return args.learning_rate * done / args.warmup_ratio
    return args.learning_rate * (1 - done) / (1 - args.warmup_ratio)


class Batches:
    """The batches of a training.  Batch n depends only on --seed and n.

    So a resumed run sees the batches it would have seen, and each process makes its own share of an
    update.  epoch_of(rng) returns the batches of an epoch, as arrays of row numbers.
    batch_of(rows, rng) makes one batch of them.
    """

    def __init__(self, args: Namespace, epoch_of: Callable, batch_of: Callable):
        self.seed, self.accumulate = args.seed, args.gradient_accumulation_steps
        self.epoch = functools.lru_cache(1)(
            lambda number: epoch_of(np.random.default_rng([self.seed, number])))
        self.per_epoch = len(self.epoch(0))
        self.batch_of = batch_of

    def of_update(self, step: int) -> list[tuple[int, dict[str, Tensor]]]:
        """(seed of its dropout, batch) for this process's share of an update."""
        numbers = range(step * self.accumulate, (step + 1) * self.accumulate)
        batches = []
        for n in numbers[RANK::WORLD]:
            indices = self.epoch(n // self.per_epoch)[n % self.per_epoch]
            batch = self.batch_of(indices, np.random.default_rng([self.seed, n, 1]))
            batches.append((self.seed * 1_000_003 + n, batch))  # runs of other --seed share none
        return batches


def run_model(model: nn.Module, batch: dict[str, Tensor], precision: str) -> ModelOutput:
    """The model's output for a batch, on the model's device, in fp32 or bf16."""
    device = next(model.parameters()).device
    batch = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
        return model(**batch)


def train(args: Namespace, folder: "RunFolder", model: ConvBertPreTrainedModel,
          tokenizer: Tokenizer, batches: Batches, evaluate: Callable) -> Progress:
    """Trains to the end of the schedule, from the last checkpoint of the folder if there is one.

    evaluate(model) returns scores.  Raises UserError where a loss is not finite, SystemExit where a
    signal ends the program or the run is finished already.
    """
    optimizer, pad = make_optimizer(model, args), model.config.pad_token_id
    with heard_signals() as heard, ThreadPoolExecutor(1) as background:
        progress = folder.resume(model, optimizer, batches.per_epoch)  # settles args.max_steps, too
        parallel = prepare(model, args, batches)
        if not progress.evals:  # the scores at the start, to compare with
            folder.keep_scores(progress, model, evaluate)
        began = time.perf_counter() - progress.seconds
        coming = background.submit(batches.of_update, progress.step)

        while progress.share(args) < 1:
            rate = learning_rate(args, progress)
            for group in optimizer.param_groups:
                group["lr"] = rate * group["scale"]
            parts = coming.result()
            coming = background.submit(batches.of_update, progress.step + 1)  # while this one runs

            model.train()
            losses = []
            for seed, batch in parts:
                torch.manual_seed(seed)  # of dropout and of what a generator draws
                loss = run_model(parallel, batch, args.precision).loss / len(parts)
                loss.backward()
                losses.append(loss.detach())
            norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            loss, norm = torch.stack([sum(losses), norm]).tolist()  # one wait for the device
            if not math.isfinite(loss + norm):
                raise UserError(f"step {progress.step + 1}: loss {loss}, gradient norm {norm}; "
                                "this is not saved; try a lower --learning_rate")
            optimizer.step()
            optimizer.zero_grad()

            tokens = sum(batch["input_ids"].ne(pad).sum().item() for _, batch in parts)
            # all processes must agree on the clock, which ends the run, and on whether to leave
            loss, tokens, progress.seconds, leave = mean_over_processes(
                loss, tokens, time.perf_counter() - began, len(heard), device=args.device)
            progress.step += 1
            progress.losses.append(loss)
            progress.tokens += round(tokens * WORLD)  # the mean times the processes
            last = progress.share(args) == 1
            folder.show(progress)
            if last or progress.step % args.logging_steps == 0:
                folder.keep_metrics(progress, rate)
            if last or progress.step % args.eval_steps == 0:
                folder.keep_scores(progress, model, evaluate)
            if last or leave or progress.step % args.save_steps == 0:
                folder.save_checkpoint(progress, model, optimizer, tokenizer)
            if leave and not last:
                folder.leave(heard, progress.step)
    folder.close()
    return progress


def prepare(model: nn.Module, args: Namespace, batches: Batches) -> nn.Module:
    """The model to run: compiled if so asked, and averaging its gradients over all processes."""
    parallel = nn.parallel.DistributedDataParallel(model) if WORLD > 1 else model
    if args.compile:
        for module in model.modules():
            if isinstance(module, ConvBertLayer):
                module.compile(dynamic=False)
        _, batch = batches.of_update(0)[0]
        model.train()
        run_model(parallel, batch, args.precision).loss.backward()  # compiles before the clock runs
        model.zero_grad()
    return parallel


# ---- 7. Tasks ------------------------------------------------------------------------------------
def make_model(cls: type[Any], args: Namespace, **changes: Any) -> tuple[Any, Tokenizer]:
    """(model, tokenizer) by --model_name_or_path, --size or --config_name.  Raises UserError."""
    torch.manual_seed(args.seed)
    tokenizer = Tokenizer(vocabulary_of(args))
    if args.model_name_or_path is not None:
        new_head = args.task in TRAININGS
        model = cls.from_pretrained(args.model_name_or_path, new_head, **changes)
    elif args.size:
        changes |= {"vocab_size": tokenizer.size, "pad_token_id": tokenizer.pad}
        model = cls(ConvBertConfig(**SIZES[args.size] | changes))
    else:
        path = args.config_name or ROOT / "config.json"
        model = cls(ConvBertConfig.from_pretrained(path, **changes))
    check_vocabulary(model.config, tokenizer)
    positions = model.config.max_position_embeddings
    if (length := args.max_seq_length) > positions:
        raise UserError(f"--max_seq_length {length}: the model has only {positions} positions")
    choose_threads(args, model.config)
    return model.to(args.device), tokenizer


def check_vocabulary(config: ConvBertConfig, tokenizer: Tokenizer) -> None:
    if config.vocab_size != tokenizer.size:
        raise UserError(f"{tokenizer.path}: {tokenizer.size} pieces, but the model has "
                        f"{config.vocab_size}")
    if config.pad_token_id != tokenizer.pad:
        raise UserError(f"{tokenizer.path}: [PAD] is piece {tokenizer.pad}, but the model's "
                        f"pad_token_id is {config.pad_token_id}")


def vocabulary_of(args: Namespace) -> Path:
    """The SentencePiece model of the model folder, or else the given or the bundled one."""
    if args.model_name_or_path is None:
        return Path(args.vocab_file or ROOT / "vocab/kowiki.model")
    own = Path(args.model_name_or_path, Tokenizer.FILE)
    if own.parent.is_file():
        raise UserError(f"{own.parent}: a file; name the model's folder")
    if not own.exists():
        ConvBertConfig.from_pretrained(own.parent)  # tells first where there is no model at all
        if args.vocab_file is None:
            raise UserError(f"{own.parent}: holds no {own.name}; name the SentencePiece model that "
                            "it was trained with by --vocab_file")
        return Path(args.vocab_file)
    if args.vocab_file is not None and Path(args.vocab_file).read_bytes() != own.read_bytes():
        raise UserError(f"--vocab_file {args.vocab_file}: differs from {own}, the model's own")
    return own


def pretrain(args: Namespace) -> None:
    """Masked LM or replaced token detection, on rows masked anew each time they come up."""
    if args.objective == "mlm":
        model, tokenizer = make_model(ConvBertForMaskedLM, args)
        mask = functools.partial(mask_rows, tokenizer=tokenizer)
    else:
        model, tokenizer = make_model(ConvBertForPreTraining, args)
        mask = functools.partial(mask_rows, tokenizer=tokenizer, mask_share=0.85, random_share=0.0)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # few passes over the text do not overfit; config.json keeps 0.1

    length = args.max_seq_length
    rows = corpus_rows(args.corpus, tokenizer, length, args.max_train_samples)
    if args.validation_file:
        valid = corpus_rows([args.validation_file], tokenizer, length, args.max_eval_samples)
    else:
        held_out = min(1000, max(1, len(rows) // 20))
        print(f"the last {held_out:,} rows of the corpus are held out", file=sys.stderr)
        rows, valid = rows[:-held_out], rows[-held_out:][: args.max_eval_samples]

    @torch.no_grad()
    def held_out_loss(model: nn.Module) -> dict:
        """The mean loss of the held-out rows.

        The same tokens are chosen in every run, and 15 % as in BERT, so that losses can be compared
        whatever --mlm_probability is.
        """
        model.eval()
        torch.manual_seed(0)
        total = 0.0
        for first in range(0, len(valid), 16):
            part = valid[first : first + 16]
            batch = mask(part, share=0.15, rng=np.random.default_rng(first))
            total += run_model(model, batch, args.precision).loss.item() * len(part)
        return {"eval_loss": total / len(valid), "eval_samples": len(valid)}

    def epoch_of(rng: np.random.Generator) -> list[Array]:
        """All rows once, in batches of one size: what is left over waits for the next epoch."""
        B = min(args.batch_size, len(rows))
        order = rng.permutation(len(rows))[: len(rows) // B * B]
        return list(order.reshape(-1, B))

    def batch_of(indices: Array, rng: np.random.Generator) -> dict[str, Tensor]:
        return mask(rows[indices], share=args.mlm_probability, rng=rng)

    batches = Batches(args, epoch_of, batch_of)
    with run_folder(args) as folder:
        progress = train(args, folder, model, tokenizer, batches, held_out_loss)
        before, after = progress.evals[0]["eval_loss"], progress.evals[-1]
        finish(args, model, tokenizer, progress, {"eval_loss_at_start": before} | after)


@torch.no_grad()
def classify(model: ConvBertPreTrainedModel, ids: list[Tensor], batch_size: int,
             precision: str) -> Tensor:
    """Logits of encoded texts, in their order: float [n, C].

    Texts of like length run together; one by one where the convolutions would see the padding.
    """
    model.eval()
    size = batch_size if model.config.conv_padding_mask else 1
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    logits = torch.empty(len(ids), len(model.config.id2label))
    for start in range(0, len(order), size):
        part = order[start : start + size]
        batch = collate([ids[i] for i in part], model.config.pad_token_id)
        logits[part] = run_model(model, batch, precision).logits.cpu()
    return logits


def scores_of(logits: Tensor, targets: Tensor) -> dict:
    """Accuracy, F1 (of class 1; of more than two classes the mean of those that occur), loss,
    count, and the confusion matrix with a row for each true class.  logits [n, C], targets [n]."""
    C = logits.size(1)
    matrix = torch.bincount(targets * C + logits.argmax(-1), minlength=C * C).view(C, C)
    right = matrix.diagonal()
    counts = matrix.sum(0) + matrix.sum(1)  # [C] as answers and as labels
    f1 = 2 * right.double() / counts.clamp(min=1)  # [C]
    return {"eval_accuracy": right.sum().item() / len(targets),
            "eval_f1": (f1[1] if C == 2 else f1[counts > 0].mean()).item(),
            "eval_loss": F.cross_entropy(logits, targets).item(),
            "eval_samples": len(targets), "confusion_matrix": matrix.tolist()}


def about_classes(names: dict[int, str]) -> dict:
    """What the F1 and the rows of the confusion matrix of `scores_of` belong to."""
    return {"f1_of": names[1] if len(names) == 2 else "mean", "classes": [*names.values()]}


def finetune(args: Namespace) -> None:
    """A classifier of texts.  The dev rows pick the best of the evaluated models."""
    parts, names = split_examples(args)
    # bad labels are told before a model is made
    answers = {name: hard_targets(part, names) for name, part in parts.items() if name != "train"}
    model, tokenizer = make_model(ConvBertForSequenceClassification, args, id2label=names)
    ids = {}
    for name, part in parts.items():
        texts = [row.text for row in part]
        ids[name], cut = encode_texts(texts, tokenizer, args.max_seq_length)
        say_cut(cut, len(part), f"{name} texts", args)
    lengths = np.array([len(row) for row in ids["train"]])
    targets = class_targets(parts["train"], names, args.hard_label_share)

    def score(name: str, model: ConvBertForSequenceClassification) -> dict:
        logits = classify(model, ids[name], args.batch_size, args.precision)
        return scores_of(logits, answers[name])

    def epoch_of(rng: np.random.Generator) -> list[Array]:
        return bucketed(lengths, args.batch_size, rng)

    def batch_of(indices: Array, rng: np.random.Generator) -> dict[str, Tensor]:
        batch = collate([ids["train"][i] for i in indices], tokenizer.pad)
        return batch | {"labels": targets[indices]}

    batches = Batches(args, epoch_of, batch_of)
    with run_folder(args) as folder:
        progress = train(args, folder, model, tokenizer, batches, functools.partial(score, "dev"))
        model.load_state_dict(progress.best["model"])
        scores = {"dev_accuracy": progress.best["eval_accuracy"], "step": progress.best["step"]}
        if progress.best["step"] == 0:
            print("training made nothing better; the saved model is the one from before it",
                  file=sys.stderr)
        if "test" in parts:
            kept = Path(args.test_file or args.output_dir / "test.jsonl")
            scores |= score("test", model) | about_classes(names)
            scores["test_file"] = os.path.abspath(kept)
            if not args.test_file and not RANK:
                keep_examples(parts["test"], kept)
        finish(args, model, tokenizer, progress, scores)


def say_cut(cut: int, count: int, what: str, args: Namespace) -> None:
    if cut:
        print(f"{cut:,} of {count:,} {what} were longer than --max_seq_length "
              f"{args.max_seq_length} and were cut", file=sys.stderr)


def evaluate(args: Namespace) -> None:
    """Scores a fine-tuned model on a test file."""
    path = args.output_dir / "eval_results.json"
    if is_of_model(path) or path.with_name("metrics.jsonl").exists():
        raise UserError(f"--output_dir {args.output_dir}: holds a training or a model; name "
                        "another folder")
    args.output_dir.mkdir(parents=True, exist_ok=True)
    model, tokenizer = make_model(ConvBertForSequenceClassification, args)
    test = read_examples(args.test_file, args, args.max_eval_samples)
    answers = hard_targets(test, model.config.id2label)
    ids, cut = encode_texts([row.text for row in test], tokenizer, args.max_seq_length)
    say_cut(cut, len(test), "texts", args)
    scores = scores_of(classify(model, ids, args.batch_size, args.precision), answers)
    scores |= about_classes(model.config.id2label)
    scores |= {"model": os.path.abspath(args.model_name_or_path),
               "test_file": os.path.abspath(args.test_file)}
    write_json(path, scores)
    print(f"scores: {path}", file=sys.stderr)
    print(json.dumps(scores, ensure_ascii=False))


class Classifier:
    """A fine-tuned model for use from Python.

    >>> classify = Classifier.from_pretrained("runs/finetune")
    >>> classify("배우들 연기가 정말 좋았어요")
    [{'label': 'positive', 'score': 0.99}]

    Takes a text or a list of texts.  Returns for each its class and the probability of it, in the
    form of transformers' pipeline.  The answer does not depend on what else is in the list.
    `cut` counts the texts that were longer than max_seq_length and lost their end.
    """

    def __init__(self, model: ConvBertForSequenceClassification, tokenizer: Tokenizer,
                 max_seq_length: int = 128, batch_size: int = 32, precision: str = "fp32"):
        if max_seq_length < 3 or batch_size < 1 or precision not in ("fp32", "bf16"):
            raise UserError("max_seq_length must be 3 or more, batch_size 1 or more, precision "
                            "fp32 or bf16")
        self.model, self.tokenizer = model, tokenizer
        self.max_seq_length = min(max_seq_length, model.config.max_position_embeddings)
        self.batch_size, self.precision = batch_size, precision
        self.cut = 0

    @classmethod
    def from_pretrained(cls, folder: Path | str, device: str | None = None,
                        vocab_file: Path | str | None = None, **options: Any) -> "Classifier":
        """The classifier of a folder, on the best device if none is given.  Raises UserError.

        vocab_file: its SentencePiece model, for a folder that holds none.
        """
        model = ConvBertForSequenceClassification.from_pretrained(folder, new_head=False)
        given = Namespace(model_name_or_path=folder, vocab_file=vocab_file)
        tokenizer = Tokenizer(vocabulary_of(given))
        check_vocabulary(model.config, tokenizer)
        return cls(model.to(choose_device(device)), tokenizer, **options)

    def __call__(self, texts: str | list[str], all_scores: bool = False) -> list[dict]:
        """[{"label": class, "score": its probability}]; all_scores adds "scores" of all classes."""
        one = isinstance(texts, (str, bytes, dict)) or not isinstance(texts, Iterable)
        if one or hasattr(texts, "columns"):  # of a table its columns' names would be taken
            texts = [texts]  # type: ignore[list-item]
        texts = list(texts)
        for number, text in enumerate(texts):
            check_text(text, f"text {number}")
        ids, cut = encode_texts(texts, self.tokenizer, self.max_seq_length)
        self.cut += cut
        logits = classify(self.model, ids, self.batch_size, self.precision)  # [n, C]
        names = self.model.config.id2label
        answers: list[dict] = []
        for row in logits.softmax(-1).tolist():
            best = row.index(max(row))
            answers.append({"label": names[best], "score": row[best]})
            if all_scores:
                answers[-1]["scores"] = {names[i]: p for i, p in enumerate(row)}
        return answers


def predict(args: Namespace) -> None:
    """A JSON object a line for every text, in their order: its columns, label, score."""
    if args.output_file and is_same_file(args.output_file, args.test_file or 0):  # 0: stdin
        raise UserError(f"--output_file {args.output_file}: holds the texts; name another")
    if args.output_file and is_of_model(Path(args.output_file)):
        raise UserError(f"--output_file {args.output_file}: is a file of a model; name another")
    if not args.output_file and sys.stdout is None:
        raise UserError("there is no stdout; give --output_file")
    model, tokenizer = make_model(ConvBertForSequenceClassification, args)
    classifier = Classifier(model, tokenizer, args.max_seq_length, args.batch_size, args.precision)
    count = 0
    with contextlib.ExitStack() as stack:
        out: IO[str] = sys.stdout
        if args.output_file:
            temporary = stack.enter_context(replacing(Path(args.output_file)))
            out = stack.enter_context(open(temporary, "w", encoding="utf-8", errors="replace"))
        taken: set[str] = set()  # columns that the file has of its own
        names: dict[str, str] = {}
        for column, rows in texts_to_predict(args):
            columns = {name for row in rows for name in row}
            taken |= {clean_name(name).lower() for name in columns}
            before, names = names, new_names(taken)
            if count and names != before:
                print(f"from text {count + 1:,} on, answers are called {', '.join(names.values())}",
                      file=sys.stderr)
            answers = classifier([row[column] for row in rows], args.all_scores)
            for row, answer in zip(rows, answers):
                new = {names[name]: value for name, value in answer.items()}
                print(json.dumps(row | new, ensure_ascii=False), file=out)
            out.flush()
            count += len(rows)
        if count == 0 and args.output_file:
            raise UserError(f"there was no text to predict; {args.output_file} stays as it was")
    if count == 0:
        print("there was no text to predict", file=sys.stderr)
    say_cut(classifier.cut, count, "texts", args)


def visualize(args: Namespace) -> None:
    """Draws for every --text what the heads of attention and of convolution in --layer look at."""
    try:
        import pictures
    except ImportError as error:
        raise UserError(f"visualize needs pictures.py beside convbert.py ({error})") from None
    model, tokenizer = make_model(ConvBertModel, args)
    count = model.config.num_hidden_layers
    layer = args.layer or count
    if not args.text or layer > count:
        raise UserError(f"visualize needs --text, and a --layer from 1 to {count}")
    ids, cut = encode_texts(args.text, tokenizer, args.max_seq_length)
    say_cut(cut, len(ids), "texts", args)
    for number, row in enumerate(ids, 1):
        path = args.output_dir / f"layer-{layer}-text-{number}.png"
        pictures.mixed_attention(model.eval(), row, [tokenizer.pieces[i] for i in row], layer, path)
        print(path)


# ---- 8. Files of texts ---------------------------------------------------------------------------
CHUNK = 2048  # rows that are read, and texts that are predicted, at a time
TEXT_COLUMNS = ("document", "text", "sentence", "review", "comment", "content",
                "리뷰", "문장", "본문", "내용", "텍스트", "댓글", "후기")
LABEL_COLUMNS = ("label", "labels", "class", "category", "sentiment", "target",
                 "라벨", "레이블", "분류", "감정", "감성", "카테고리", "정답")


class Example(NamedTuple):
    """A text and what is known of its class, before the names of classes become numbers."""

    where: str  # its file and line
    text: str
    label: str  # "" where it has scores alone
    scores: dict[str, float]  # {class: probability}, mostly {}


def read_table(path: Path | str, limit: int | None = None) -> Iterator[tuple[list[str], list]]:
    """Yields (the columns so far, up to 2,048 rows).  A row is (its line, {column: value}).

    The file holds tab-separated or comma-separated values or JSON lines, in an encoding of
    `text_encoding`.  Blank lines are no rows.  Raises UserError.
    """
    with open(path, encoding=text_encoding(path), newline="") as file:
        header = next(filter(str.strip, file), "").rstrip("\r\n")
        file.seek(0)  # all lines are counted
        if re.match(r"\s*({|\[\s*({|$))", header):
            found = read_json_lines(path, file)
        else:
            found = read_csv(path, file, header)
        rows = itertools.islice(found, limit)
        columns: dict[str, None] = {}
        while part := list(itertools.islice(rows, CHUNK)):
            columns |= dict.fromkeys(name for _, row in part for name in row)
            yield [*columns], part
    if not columns:
        raise UserError(f"{path}: has no rows; the first line of a table names its columns")


def read_json_lines(path: Path | str, lines: Iterable[str]) -> Iterator[tuple]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, parse_constant=lambda name: None)  # NaN, as pandas writes it
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise UserError(f"{path}, line {number}: not a JSON object; write JSON lines, an "
                            "object a line (in pandas orient='records', lines=True)")
        yield number, row


def read_csv(path: Path | str, lines: Iterable[str], header: str) -> Iterator[tuple]:
    """The rows of a table below its header, the first line that is not blank.

    In a file with NSMC's header (id, document, label) a quotation mark is a character.
    """
    separator = next((mark for mark in "\t,;" if mark in header), ",")
    nsmc = header.split("\t") == ["id", "document", "label"]
    quoting = csv.QUOTE_NONE if nsmc else csv.QUOTE_MINIMAL
    rows = csv_rows(path, lines, {"delimiter": separator, "quoting": quoting})
    number, names = next(((n, row) for n, row in rows if any(map(str.strip, row))), (1, []))
    names = [name or f"Unnamed: {i}" for i, name in enumerate(names)]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise UserError(f"{path}, line {number}: two columns are named {twice[0]!r}")
    told = False
    empty = 0
    for line, values in rows:
        if not any(map(str.strip, values)) and not len(values) == len(names) == 1:
            empty += len(values) > 1  # a blank line is no row, but "" is
            continue
        if len(values) > len(names):
            mark = {"\t": "a tab", ";": "a semicolon"}.get(separator, "a comma")
            raise UserError(f"{path}, line {line}: {len(values)} fields, but {len(names)} columns; "
                            f"put quotation marks around a text that holds {mark}, and do not end "
                            f"a line with {mark}")
        if len(values) < len(names) and nsmc and '"' in "".join(values):
            raise UserError(f"{path}, line {line}: {len(values)} fields, but {len(names)} columns; "
                            "with the columns of NSMC a row is one line, and quotation marks are "
                            "characters: if yours are not, rename the columns")
        if len(values) < len(names) and not told:  # so Excel may leave out empty ones at the end
            told = True
            print(f"{path}, line {line}: {len(values)} fields, but {len(names)} columns; if a text "
                  "holds a line break, put quotation marks around it", file=sys.stderr)
        row = dict(zip(names, values))
        if nsmc and "document" in row:
            row["document"] = unquoted(row["document"])
        yield line, row
    if empty:
        print(f"{path}: {empty:,} rows of empty fields are left out", file=sys.stderr)


def csv_rows(path: Path | str, lines: Iterable[str],
             form: dict[str, Any]) -> Iterator[tuple[int, list[str]]]:
    """(number of its first line, fields) of each row.

    A quotation mark that joins lines by mistake is an error, if that can be seen.  One within a
    line is told, once.
    """
    csv.field_size_limit(2**31 - 1)
    told = False
    tall: list[tuple[int, int]] = []  # (lines beyond the first, number of the first) of a row
    lines = (line := text.replace("\0", "\ufffd") for text in lines)  # Python 3.10 takes no NUL
    reader = csv.reader(lines, strict=True, **form)
    while True:
        first = reader.line_num + 1
        try:
            fields = next(reader, None)
        except csv.Error as error:
            what = (f"{path}, line {reader.line_num}: a quotation mark is stray ({error}); double "
                    "it, and quote the field")
            if reader.line_num > first:
                raise UserError(f"{what}; this row begins in line {first}") from None
            if not told:
                print(what, file=sys.stderr)
            told = True
            fields = next(csv.reader([line], **form))  # as well as it can be read
        if fields is None:
            break
        if form["delimiter"] == "\t" and any("\t" in text for text in fields):
            raise UserError(f"{path}, line {first}: a quotation mark opens a field that holds a "
                            "tab; double it, or quote the field")
        if reader.line_num > first:
            tall.append((reader.line_num - first, first))
        yield first, fields
    if tall:
        more, first = max(tall)
        print(f"{path}: rows with line breaks: {len(tall):,}.  Is the longest, lines {first} to "
              f"{first + more}, one row, or is a quotation mark too many?", file=sys.stderr)


def unquoted(text: str) -> str:
    """One of NSMC's documents without the two layers of CSV quotes that those with a quote have."""
    for _ in range(2):
        if len(text) > 1 and text[0] == text[-1] == '"':
            text = text[1:-1].replace('""', '"')
    return text


def clean_name(name: Any) -> str:
    """A name as it looks: Hangul composed, as macOS may not have it, and no blanks around it."""
    blank = r"[\s\u200b\ufeff]+"  # also those without width
    return re.sub(f"^{blank}|{blank}$", "", unicodedata.normalize("NFC", str(name)))


def pick_column(names: list[str], given: str | None, usual: tuple, option: str, path: Any) -> str:
    """The column that an option names, or the one with a usual name.  UserError if in doubt."""
    if given:
        found = [name for name in names if clean_name(name) == clean_name(given)]
        why = f"no column {given!r}"
    else:
        found = [name for name in names if clean_name(name).lower() in usual]
        why = (f"is it {' or '.join(found)}?" if found else
               "no column has a usual name; a table must begin with a line of names")
    if len(found) != 1:
        listed = ", ".join(map(repr, names[:20]))
        raise UserError(f"{path}: {why}; {option} must name one of {listed}")
    return found[0]


def read_examples(path: Path | str, args: Namespace, limit: int | None = None) -> list[Example]:
    """The labelled texts of a file; stderr tells the columns.  Raises UserError, with the line."""
    examples: list[Example] = []
    told: tuple = ("document", "label", False)  # NSMC's columns go without saying
    for columns, rows in read_table(path, limit):
        text = pick_column(columns, args.text_column_name, TEXT_COLUMNS, "--text_column_name", path)
        soft = "scores" in columns
        label = args.label_column_name
        if label or not soft or {clean_name(name).lower() for name in columns} & {*LABEL_COLUMNS}:
            label = pick_column(columns, label, LABEL_COLUMNS, "--label_column_name", path)
        if (text, label, soft) != told:
            told = text, label, soft
            found = ", ".join(repr(name) for name in (label, "scores" if soft else None) if name)
            print(f"{path}: texts from {text!r}, labels from {found}", file=sys.stderr)
            score = rows[0][1].get("score")  # predict writes JSON, so that its own is a float
            if label == "label" and type(score) is float and not args.label_column_name:
                print(f"{path}: is its label what predict has answered?  --label_column_name names "
                      "another column", file=sys.stderr)
        for line, row in rows:
            where = f"{path}, line {line}"
            scores = clean_scores(row.get("scores"), where)
            name = clean_label(row.get(label), where, may_lack=bool(scores))
            examples.append(Example(where, check_text(row.get(text), where), name, scores))
    return examples


def check_text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        shown = " ".join(reprlib.repr(value).split())  # of a table in one line
        raise UserError(f"{where}: has no text, but {shown}")
    return value


def clean_label(value: Any, where: str, may_lack: bool) -> str:
    """A label as a name.  UserError for none, and for a number with a decimal point."""
    if isinstance(value, (list, dict)):
        raise UserError(f"{where}: label {reprlib.repr(value)} is neither a word nor a number")
    name = "" if value is None else clean_name(value)
    if not name and not may_lack:
        raise UserError(f"{where}: has no label")
    if re.fullmatch(r"[+-]?(\d+\.\d*|\.\d+)([eE][+-]?\d+)?", name):
        raise UserError(f"{where}: label {name} may be a class or a probability; write classes as "
                        "whole numbers or words, and probabilities as JSON lines with scores: "
                        "{class: probability}")
    return name


def clean_scores(value: Any, where: str) -> dict[str, float]:
    """Soft labels, {class: probability}, made to sum to exactly 1; {} for none.  UserError."""
    if value is None:
        return {}
    try:
        scores = {clean_name(name): float(p) for name, p in value.items()}
        total = sum(scores.values())
        if not (min(scores.values()) >= 0 and 0.98 < total < 1.02):
            raise ValueError
    except (AttributeError, TypeError, ValueError, OverflowError):
        raise UserError(f"{where}: scores must be {{class: probability}} that sum to 1, in JSON "
                        "lines; another column needs another name") from None
    return {name: p / total for name, p in scores.items()}


def class_names(examples: list[Example]) -> dict[int, str]:
    """id2label by a training file: NSMC's for 0 and 1; whole numbers by value; words sorted.

    Raises UserError where there is one class, or one example of a class.
    """
    counts = Counter(row.label for row in examples if row.label)
    soft = {name for row in examples for name in row.scores}
    names = {*counts, *soft}
    if soft == set(NSMC_LABELS.values()):  # predicted by a model of NSMC, whose labels are 0 and 1
        names -= {"0", "1"}
    if len(names) < 2:
        raise UserError(f"{examples[0].where}: all rows have the label {min(names)!r}")
    for row in examples:
        if counts[row.label] == 1 and not soft:
            raise UserError(f"{row.where}: the only example of {row.label!r}; give two")
    if names <= {"0", "1"}:
        return dict(NSMC_LABELS)
    whole = all(re.fullmatch(r"[+-]?\d{1,18}", name) for name in names)
    return dict(enumerate(sorted(names, key=lambda name: (int(name) if whole else 0, name))))


def class_numbers(names: dict[int, str]) -> dict[str, int]:
    """{what a label may be: its class}, of id2label."""
    numbers = {clean_name(name): number for number, name in names.items()}
    return numbers | ({"0": 0, "1": 1} if names == NSMC_LABELS else {})


def class_targets(examples: list[Example], names: dict[int, str],
                  hard_share: float = 0.0) -> Tensor:
    """Classes, int64 [n]; or probabilities, float [n, C], where there are soft labels.

    A row with label and scores becomes hard_share · label + (1 − hard_share) · scores.
    Raises UserError, with the line, for a label that is none of the names.
    """
    numbers = class_numbers(names)
    for row in examples:
        if unknown := {row.label, *row.scores} - {"", *numbers}:
            listed = ", ".join([*names.values()][:20])
            raise UserError(f"{row.where}: label {min(unknown)!r} is none of the classes {listed}")
    both = any(row.scores and row.label for row in examples)
    if hard_share and not both:
        print("--hard_label_share: not used, since no row has a label and scores", file=sys.stderr)
    if both and not hard_share:
        print("of rows with a label and scores only the scores count; see --hard_label_share",
              file=sys.stderr)
    if not any(row.scores for row in examples):
        return torch.tensor([numbers[row.label] for row in examples])
    targets = np.zeros((len(examples), len(names)), np.float32)
    for target, row in zip(targets, examples):
        share = 1.0 if not row.scores else hard_share if row.label else 0.0
        for name, p in row.scores.items():
            target[numbers[name]] += (1 - share) * p
        if row.label:
            target[numbers[row.label]] += share
    return torch.from_numpy(targets)


def hard_targets(examples: list[Example], names: dict[int, str]) -> Tensor:
    """Classes, int64 [n], of rows to score a model on.  UserError where one has none."""
    for row in examples:
        if not row.label:
            raise UserError(f"{row.where}: has no label to compare with; give rows with labels by "
                            "--validation_file and --test_file, or --no-test")
    return class_targets([row._replace(scores={}) for row in examples], names)


def read_reviews(path: Path | str, limit: int | None = None) -> tuple[Array, Array]:
    """(texts, labels) of a file in NSMC's format: arrays of str and of 0 and 1.  UserError."""
    args = Namespace(text_column_name="document", label_column_name="label")
    examples = read_examples(path, args, limit)
    texts = np.array([row.text for row in examples], object)
    return texts, hard_targets(examples, NSMC_LABELS).numpy()


def hold_out(count: int) -> tuple[Array, Array]:
    """(rows to train on, rows held out), of `count` rows.

    A random twentieth is held out: at least 50 and at most 5,000, but no more than a fifth.
    The split has a seed of its own.  So models of different --seed held out the same rows, and may
    be averaged, or teach each other, without having seen them.
    """
    order = np.random.default_rng(42).permutation(count)
    cut = min(5000, max(count // 20, min(50, math.ceil(count / 5))), count // 2)
    return order[cut:], order[:cut]


def split_examples(args: Namespace) -> tuple[dict[str, list[Example]], dict[int, str]]:
    """({"train", "dev", "test"}, names of the classes) of a fine-tuning.

    dev is --validation_file, or else a part of the training file.  test is --test_file, or else
    another part, which the output folder keeps; --no-test leaves it out.  Raises UserError.
    """
    parts = {"train": read_examples(args.train_file, args, args.max_train_samples)}
    names = class_names(parts["train"])
    limit = args.max_eval_samples
    for name, path in (("test", args.test_file), ("dev", args.validation_file)):
        if name == "test" and not args.test:
            continue
        if path:
            parts[name] = read_examples(path, args, limit)
        else:
            train = parts["train"]
            rest, cut = hold_out(len(train))
            parts[name] = [train[i] for i in cut[:limit]]
            parts["train"] = [train[i] for i in rest]
    if empty := [name for name, part in parts.items() if not len(part)]:
        raise UserError(f"{args.train_file}: too few rows to cut {' and '.join(empty)} from it")
    describe_parts(args, parts, names)
    return parts, names


def some(names: list[str], most: int) -> str:
    """The first names of a list, and dots if there are more."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def describe_parts(args: Namespace, parts: dict[str, list[Example]],
                   names: dict[int, str]) -> None:
    """Says on stderr how large the parts are, what stands in two, and which classes are rare."""
    sizes = ", ".join(f"{len(part):,} {name}" for name, part in parts.items())
    print(f"{args.train_file}: {len(names)} classes ({some([*names.values()], 20)}); rows: {sizes}",
          file=sys.stderr)
    numbers = class_numbers(names)
    labels = {row.label for part in parts.values() for row in part if row.label in numbers}
    if names == NSMC_LABELS and labels & {"0", "1"}:
        print("labels 0 and 1 are called negative and positive", file=sys.stderr)
    for name, part in parts.items():
        if empty := sum(not row.text.strip() for row in part):
            print(f"{empty:,} of the {name} texts are empty", file=sys.stderr)
    for one, other in itertools.combinations(parts, 2):
        known = {row.text for row in parts[one] if row.text.strip()}
        if shared := sum(row.text in known for row in parts[other]):
            print(f"{shared:,} of the {other} texts stand in {one} too", file=sys.stderr)
    counts = Counter(row.label for row in parts["train"] if row.label)
    for which, rows in parts.items():
        # beside scores a label to train on has no weight, unless --hard_label_share gives it some
        weighed = which != "train" or args.hard_label_share
        seen = {name for row in rows for name in row.scores}
        seen |= {row.label for row in rows if weighed or not row.scores}
        if lost := {numbers[name] for name in labels} - {numbers.get(name) for name in seen}:
            shown = some([repr(names[number]) for number in sorted(lost)], 5)
            print(f"classes without a {which} row: {len(lost)} of {len(names)} ({shown})",
                  file=sys.stderr)
    if counts and max(counts.values()) > 10 * min(counts.values()):
        listed = ", ".join(f"{name} {count:,}" for name, count in counts.most_common())
        print(f"classes of very unequal size: {listed}", file=sys.stderr)


def keep_examples(examples: list[Example], path: Path) -> None:
    """Writes a part that was cut from a file, as JSON lines, where `evaluate` finds it."""
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        for row in examples:
            print(json.dumps({"text": row.text, "label": row.label}), file=file)


def new_names(taken: set[str]) -> dict[str, str]:
    """What the columns of answers are called, so that none of a file's own is overwritten."""
    names = {}
    for answer in ("label", "score", "scores"):
        name = answer
        while name in taken or (name == "label" and taken & set(LABEL_COLUMNS)):
            name = f"predicted_{name}"
        names[answer] = name
    return names


def texts_to_predict(args: Namespace) -> Iterator[tuple[str, list[dict]]]:
    """(the column of the text, up to 2,048 rows), again and again: --text, --test_file or stdin."""
    if args.text:
        yield "text", [{"text": text} for text in args.text]
    elif args.test_file:
        path, given = args.test_file, args.text_column_name
        for number, (columns, rows) in enumerate(read_table(path)):
            column = pick_column(columns, given, TEXT_COLUMNS, "--text_column_name", path)
            if number == 0 and column != "document":  # NSMC's column goes without saying
                print(f"{path}: texts from {column!r}", file=sys.stderr)
            for line, row in rows:
                check_text(row.get(column), f"{path}, line {line}")
            yield column, [row for _, row in rows]
    else:
        for lines in lines_of_stdin():
            yield "text", [{"text": line} for line in lines]


def lines_of_stdin() -> Iterator[list[str]]:
    """Lists of the lines that have come so far: whoever types gets answers."""
    if sys.stdin is None:
        raise UserError("there is no stdin; give --text or --test_file")
    if sys.stdin.isatty():
        print("a text a line; Ctrl-D (on Windows Ctrl-Z, Enter) ends", file=sys.stderr)
    stdin: Any = sys.stdin
    odd: Counter[str] = Counter()  # lines by their encoding; "?": without any letter
    rest, block = b"", b"\n"  # the beginning of a line, and what comes next
    while block:
        try:
            block = stdin.buffer.read1(64 * CHUNK)  # what has come so far; b"" at the end
        except OSError as error:
            raise UserError(f"stdin cannot be read ({error})") from None
        if not odd and b"\0" in block and block.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise UserError("stdin is UTF-16; give it as UTF-8, or as a file by --test_file")
        *lines, rest = (rest + block).split(b"\n")
        if rest and not block:  # the last line: if it is the only one, \r may end its lines
            lines = [rest] if odd else rest.rstrip(b"\r").split(b"\r")
        texts = []
        for line in lines:
            text, encoding = decoded(line)
            texts.append(text.rstrip("\r"))
            odd[encoding] += 1
            odd["?"] += "?" in text and not any(letter.isalpha() for letter in text)
        if texts:
            yield texts
    for encoding in odd.keys() - {"utf-8-sig", "?"}:
        print(f"stdin: {odd[encoding]:,} lines are not UTF-8; read as {encoding}", file=sys.stderr)
    if odd["?"]:  # so Windows PowerShell pipes Korean
        print(f"stdin: {odd['?']:,} lines hold question marks and no letter; if the shell has made "
              "them, use --text or --test_file", file=sys.stderr)


def decoded(line: bytes) -> tuple[str, str]:
    """(the text of a line, its encoding): what is neither UTF-8 nor cp949 has a mark for it."""
    for encoding in ("utf-8-sig", "cp949"):
        with contextlib.suppress(UnicodeDecodeError):
            return line.decode(encoding), encoding
    return line.decode("utf-8", errors="replace"), "damaged UTF-8"


# ---- 9. The run folder and the machine -----------------------------------------------------------
# One run at a time writes to a folder, and a killed one goes on from its checkpoint:
#
#     config.json, model.safetensors   the trained model: the last, or finetune's best evaluated
#     spiece.model, tokenizer*.json    its tokenizer, for this file and for transformers
#     metrics.jsonl                    a line every --logging_steps updates and for every evaluation
#     eval_results.json, test.jsonl    the scores of that model; a test part cut from one's own file
#     train_results.json               comes last: the run is finished
#     checkpoint-STEP/                 a model folder, and training_state.pt with what goes on
#
# A file or a folder gets its name only when it is whole.  Nothing loaded runs code (weights_only).
RESULTS = ("config.json", "model.safetensors", "eval_results.json", "train_results.json",
           "test.jsonl", Tokenizer.FILE, "tokenizer.json", "tokenizer_config.json", "curves.png",
           "confusion_matrix.png")
FREE = {  # options that may differ between two parts of a run; the model itself is compared
    "config_name", "size", "device", "num_threads", "output_dir", "overwrite_output_dir", "resume",
    "logging_steps", "save_steps", "save_total_limit", "given", "contents"}
INEXACT = {"precision", "batch_size", "gradient_accumulation_steps", "compile", "machine", "code"}


@contextlib.contextmanager
def replacing(path: Path, *failures: type[Exception]) -> Iterator[Path]:
    """Yields FILE.convbert-PROCESS.tmp.  At the end it is flushed to the disk and becomes FILE.

    An error of the kinds `failures` becomes a UserError: so torch and safetensors tell a full disk.
    """
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: a folder or a device; name a file")
    path = Path(os.path.realpath(path))  # through a link, which stays
    temporary = Path(f"{path}.convbert-{os.getpid()}.tmp")  # two processes may write to one FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        temporary.touch()
        mode = (path if path.exists() else temporary).stat().st_mode
        yield temporary  # safetensors writes for the owner alone
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        if os.name == "posix":
            temporary.chmod(mode)
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, failures) or getattr(error, "errno", None) == errno.ENOSPC:
            raise UserError(f"{path}: cannot be written ({brief(error)})") from None
        raise
    flush_folder(path.parent)


def flush_folder(folder: Path) -> None:
    """Brings the names in a folder to the disk, where the system can: Windows cannot."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
        os.close(descriptor)


def write_json(path: Path, value: dict) -> None:
    with replacing(path) as temporary:
        text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
        # names of files can hold half a surrogate pair, for which JSON has a spelling
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def read_json(path: Path) -> dict:
    """The object in a JSON file; {} if there is none, or a damaged one."""
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
        return value if isinstance(value, dict) else {}
    except (OSError, ValueError):
        return {}


def is_same_file(path: Path | str, other: Path | str | int) -> bool:
    return os.path.exists(path) and os.path.exists(other) and os.path.samefile(path, other)


def is_of_model(path: Path) -> bool:
    """Whether a path names a file of a model folder."""
    weights = ("model.safetensors", "pytorch_model.bin")
    known = path.name in (*RESULTS, *weights, "metrics.jsonl")
    return known and any(path.with_name(name).exists() for name in weights)


def checkpoints(folder: Path) -> list[Path]:
    """The folders checkpoint-STEP, by step."""
    names = "checkpoint-([0-9]+)"  # and not "checkpoint-149 2", which file managers make
    found = [p for p in folder.glob("checkpoint-*") if re.fullmatch(names, p.name) and p.is_dir()]
    return sorted(found, key=lambda path: int(path.name.partition("-")[2]))


@contextlib.contextmanager
def run_folder(args: Namespace) -> Iterator["RunFolder"]:
    """The output folder, locked for this run.  UserError if another run writes there."""
    args.output_dir.mkdir(parents=True, exist_ok=True)
    lock = FileLock(args.output_dir / ".lock", fallback_to_soft=False)  # that outlives a kill
    try:
        if not RANK:  # process 0 alone writes
            lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"--output_dir {args.output_dir}: another run is writing there") from None
    except (NotImplementedError, OSError) as error:
        if getattr(error, "errno", errno.ENOSYS) not in (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK):
            raise
        print(f"{args.output_dir}: cannot be locked; start no second run in it", file=sys.stderr)
    try:
        with contextlib.closing(RunFolder(args)) as folder:
            yield folder
    finally:
        lock.release()


class RunFolder:
    """The output folder of a training: its log, its checkpoints, and the way back from them."""

    log: IO[str] | None = None  # metrics.jsonl, which process 0 writes

    def __init__(self, args: Namespace):
        self.args, self.path = args, args.output_dir
        self.bar = tqdm(total=1.0, desc=args.task, mininterval=1 if sys.stderr.isatty() else 30,
                        bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining} "
                                   "{postfix}", delay=1)  # an error comes without a bar

    def resume(self, model: ConvBertPreTrainedModel, optimizer: Optimizer,
               batches_per_epoch: int) -> Progress:
        """The progress of the last checkpoint, whose weights are loaded, or that of a new run.

        Raises UserError where two runs would mix or files be overwritten, SystemExit if finished.
        """
        args, here, found = self.args, f"--output_dir {self.path}", checkpoints(self.path)
        if found and args.resume and not args.overwrite_output_dir:
            progress, weights, moments, damaged = last_state(found)
            taken = settle_length(args, model.config, batches_per_epoch, progress.options)
            compare_options(progress.options, run_options(args, model.config, optimizer), here)
            ended = ("model.safetensors", "train_results.json")
            if all((self.path / name).exists() for name in ended):
                print(f"{self.path}: finished; --overwrite_output_dir starts anew", file=sys.stderr)
                raise SystemExit(0)
            try:
                model.load_state_dict(weights)
                optimizer.load_state_dict(moments)
            except (RuntimeError, ValueError, TypeError, KeyError) as error:
                raise UserError(f"{here}: of another model or optimizer ({brief(error)}); choose "
                                "another folder, or --overwrite_output_dir") from None
            print(f"going on from {self.path}/checkpoint-{progress.step}", *taken, sep="; ",
                  file=sys.stderr)
            if args.device.type != "cpu":
                print("a GPU may sum in another order: the run goes on, but not to the byte",
                      file=sys.stderr)
        else:
            damaged = []
            self.check_new(found)
            settle_length(args, model.config, batches_per_epoch, {})
            progress = Progress(run_options(args, model.config, optimizer))
        self.check_inputs(found)
        # here all processes have read the folder, and process 0 has not changed it yet
        if mean_over_processes(progress.step, device=args.device) != [progress.step]:
            raise UserError(f"{here}: must be one folder for all processes")
        if not RANK:
            self.clear(found, damaged)
            path = self.path / "metrics.jsonl"
            self.log = open(path, "a", encoding="utf-8")  # noqa: SIM115
            known = path.read_bytes()[: progress.log_size]  # what came later will come again
            self.log.truncate(known.rfind(b"\n") + 1)
        return progress

    def check_new(self, found: list[Path]) -> None:
        """UserError where a new run would overwrite files without --overwrite_output_dir."""
        names = {path.name for path in found}
        names |= {name for name in RESULTS if (self.path / name).exists()}
        log = self.path / "metrics.jsonl"
        if log.exists() and not re.match(rb'{"step": |\Z', log.read_bytes()):  # another program's
            names.add(log.name)
        if names and not self.args.overwrite_output_dir:
            raise UserError(f"--output_dir {self.path} holds {min(names)}: choose another folder, "
                            "or --overwrite_output_dir")

    def check_inputs(self, found: list[Path]) -> None:
        """UserError where the run would delete or replace what it reads."""
        args, again = self.args, self.args.overwrite_output_dir
        read = [args.train_file, args.validation_file, args.test_file, *(args.corpus or []),
                args.config_name, args.vocab_file]
        if args.model_name_or_path:
            read.append(Path(args.model_name_or_path, "config.json"))
        lost = [self.path / name for name in (RESULTS if again else ("test.jsonl",))]
        lost += [self.path / "metrics.jsonl", *(found if again else ())]
        for path in map(Path, filter(None, read)):
            above = (path, *path.resolve().parents)
            if any(is_same_file(one, other) for one in above for other in lost):
                raise UserError(f"--output_dir {self.path}: the run would delete or replace "
                                f"{path}, which it reads: choose another folder")

    def clear(self, found: list[Path], damaged: list[tuple[Path, str]]) -> None:
        """Deletes what killed processes and an overwritten run left, sets damaged ones aside."""
        for name in RESULTS:  # of a process that was killed
            for path in self.path.glob(f"{name}.convbert-*.tmp"):
                path.unlink()
        for folder, why in damaged:
            shutil.rmtree(f"{folder}.damaged", ignore_errors=True)  # of the last time
            folder.rename(f"{folder}.damaged")
            print(f"{folder}: damaged, set aside ({why})", file=sys.stderr)
        if self.args.overwrite_output_dir:
            for folder in found:
                shutil.rmtree(folder)
            for name in RESULTS:
                (self.path / name).unlink(missing_ok=True)

    def show(self, progress: Progress) -> None:
        with contextlib.suppress(OSError):  # the terminal is gone
            self.bar.update(progress.share(self.args) - self.bar.n)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.bar.close()
        if self.log:
            self.log.close()

    def write_log(self, record: dict) -> None:
        if self.log:
            print(json.dumps(record), file=self.log, flush=True)

    def keep_metrics(self, progress: Progress, rate: float) -> None:
        """Logs and shows the updates since the last time: mean loss, rate, speed."""
        record = {"step": progress.step, "loss": float(np.mean(progress.losses)),
                  "learning_rate": rate, "seconds": progress.seconds,
                  "tokens_per_second": progress.tokens / (progress.seconds - progress.logged)}
        self.write_log(record)
        progress.losses, progress.tokens, progress.logged = [], 0, progress.seconds
        text = "loss {loss:.4f} lr {learning_rate:.1e} {tokens_per_second:,.0f} tokens/s"
        self.bar.set_postfix_str(text.format(**record), refresh=False)
        setproctitle(f"convbert {self.args.task} step {progress.step} {text.format(**record)}")

    def keep_scores(self, progress: Progress, model: nn.Module, evaluate: Callable) -> None:
        """Logs evaluate(model); progress.best is the best so far by accuracy, with its weights."""
        with torch.compiler.set_stance("force_eager"):  # its shapes are not worth compiling for
            scores = evaluate(model)
        if not math.isfinite(scores["eval_loss"]):
            raise UserError(f"step {progress.step}: eval_loss {scores['eval_loss']}; this is "
                            "not saved; try a lower --learning_rate")
        record = {"step": progress.step} | scores
        progress.evals.append(record)
        self.write_log(record)
        if "eval_accuracy" in scores:  # of equal ones the best has the lower loss
            best = max(progress.evals, key=lambda e: (e["eval_accuracy"], -e["eval_loss"]))
            if best is record:
                weights = {name: w.to("cpu", copy=True) for name, w in model.state_dict().items()}
                progress.best = record | {"model": weights}

    def save_checkpoint(self, progress: Progress, model: ConvBertPreTrainedModel,
                        optimizer: Optimizer, tokenizer: Tokenizer) -> None:
        """Writes checkpoint-STEP.  Of the older ones, those beyond --save_total_limit go."""
        if not self.log:
            return
        temporary = self.path / "checkpoint.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        model.save_pretrained(temporary)
        tokenizer.save(temporary)
        os.fsync(self.log.fileno())  # the checkpoint counts on what is in it
        progress.log_size = os.fstat(self.log.fileno()).st_size
        state = {"progress": vars(progress), "model": model.state_dict(),
                 "optimizer": optimizer.state_dict()}
        with replacing(temporary / "training_state.pt", RuntimeError) as path:
            torch.save(state, path)
        temporary.rename(self.path / f"checkpoint-{progress.step}")
        flush_folder(self.path)
        for old in checkpoints(self.path)[: -self.args.save_total_limit]:
            shutil.rmtree(old, ignore_errors=True)  # NFS and Windows keep what others read

    def leave(self, heard: list[signal.Signals], step: int) -> NoReturn:
        """Ends the program by a signal, after a checkpoint."""
        number = heard[0] if heard else signal.SIGTERM  # it came to another process
        self.close()
        with contextlib.suppress(OSError):  # the terminal is gone
            anew = " without --overwrite_output_dir" if self.args.overwrite_output_dir else ""
            print(f"{number.name}: saved at step {step}; the same command{anew} goes on",
                  file=sys.stderr)
        raise SystemExit(128 + number)


def last_state(found: list[Path]) -> tuple[Progress, dict, dict, list[tuple[Path, str]]]:
    """(progress, weights, optimizer's state) of the newest checkpoint that can be read, and why
    those that are newer cannot.

    Raises UserError if none can be read.
    """
    if not any((folder / "training_state.pt").exists() for folder in found):
        raise UserError(f"{found[-1]}: holds no training_state.pt to go on from; choose another "
                        "--output_dir")
    damaged = []
    for folder in reversed(found):
        try:
            path = folder / "training_state.pt"
            state = torch.load(path, map_location="cpu", weights_only=True)
            with zipfile.ZipFile(path) as file:
                if file.testzip():
                    raise ValueError("its contents have changed")
            progress = Progress(**state["progress"])
            weights, moments = state["model"], state["optimizer"]
        except Exception as error:
            if not (is_damage(error) or isinstance(error, FileNotFoundError)):
                raise
            damaged.append((folder, brief(error)))
        else:
            return progress, weights, moments, damaged
    raise UserError(f"{found[-1]}: damaged ({damaged[0][1]}), and no other checkpoint can be read; "
                    "--overwrite_output_dir starts anew")


def run_options(args: Namespace, config: ConvBertConfig, optimizer: Optimizer) -> dict[str, Any]:
    """What decides the result of a run: options by value, files by content, the machine by kind."""
    options = {k: v for k, v in vars(args).items() if k not in FREE}
    settings = {name: value for name, value in optimizer.defaults.items() if name != "fused"}
    options |= {"config": str(config), "optimizer": f"{type(optimizer).__name__} {settings}"}
    options["code"] = file_sha256(__file__)
    examples = args.batch_size * args.gradient_accumulation_steps  # of an update
    options["batch_size x gradient_accumulation_steps"] = examples
    capability = torch.backends.cpu.get_cpu_capability()
    options["machine"] = f"torch {torch.__version__}, {WORLD} x {args.device.type}, {capability}"
    if args.device.type == "cpu":  # another number rounds otherwise
        options["machine"] += f", {torch.get_num_threads()} threads"
    return options | args.contents


def contents_of(args: Namespace) -> dict[str, str]:
    """Hashes of what the files of a run hold, since files may move.

    It is called before they are read: a file that changes meanwhile then counts as another one.
    """
    start = ("model.safetensors", "pytorch_model.bin") if args.model_name_or_path else ()
    files = {"vocab_file": [vocabulary_of(args)], "corpus": args.corpus or [],
             "train_file": [args.train_file], "test_file": [args.test_file],
             "validation_file": [args.validation_file],
             "model_name_or_path": [Path(args.model_name_or_path, name) for name in start]}
    return {name: " ".join(file_sha256(path) for path in paths if path and os.path.isfile(path))
            for name, paths in files.items()}


def file_sha256(path: Path | str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def compare_options(old: dict[str, Any], new: dict[str, Any], here: str) -> None:
    """UserError where it is another run; a line where it is the same, but no longer to the byte."""
    old = {"model_name_or_path": ""} | old  # checkpoints of before lack it for random weights
    different = [name for name in new if name in old and old[name] != new[name]
                 and (name != "test_file" or new["test"])]  # --no-test reads none
    if fatal := [name for name in different if name not in INEXACT]:
        raise UserError(f"{here} holds a run of other {', '.join(fatal)}; "
                        "--overwrite_output_dir deletes it and starts anew")
    for name in different:
        change = f"{name} was {old[name]} and is {new[name]}"
        if name == "code":
            change = ("convbert.py has changed since the checkpoint; if the model or the loss has, "
                      "begin in another --output_dir")
        print(f"{change}: the run goes on, no longer exact to the byte", file=sys.stderr)


def finish(args: Namespace, model: ConvBertPreTrainedModel, tokenizer: Tokenizer,
           progress: Progress, scores: dict) -> None:
    """Writes the result of a training; train_results.json comes last: the run is finished."""
    if RANK:  # the rest is for process 0 alone
        return
    model.save_pretrained(args.output_dir)
    if not tokenizer.save(args.output_dir):
        print(f"{args.output_dir}: transformers cannot read its tokenizer; python web-crawler/"
              f"tokenizer_json.py {args.output_dir / Tokenizer.FILE} helps", file=sys.stderr)
    write_json(args.output_dir / "eval_results.json", scores)
    results = {"step": progress.step, "seconds": progress.seconds, "evals": progress.evals}
    write_json(args.output_dir / "train_results.json", results)
    try:
        import pictures

        pictures.of_run(args.output_dir)
    except ImportError as error:
        print(f"no curves are drawn: {error}", file=sys.stderr)
    print(f"{args.output_dir} after {progress.step} steps, {progress.seconds:.0f} s: "
          f"{json.dumps(scores, ensure_ascii=False)}")


@contextlib.contextmanager
def heard_signals() -> Iterator[list[signal.Signals]]:
    """The signals that ask the program to end; the loop looks at them at the end of an update.

    The second one ends the program at once.  An ignored one (nohup) stays ignored.  In a thread,
    where Python allows no handlers, there are none.
    """
    heard: list[signal.Signals] = []
    first = 0.0  # second of the first one

    def hear(number: int, frame: Any) -> None:
        nonlocal first
        if not heard:
            first = time.monotonic()
            heard.append(signal.Signals(number))
            with contextlib.suppress(OSError, RuntimeError):  # the terminal is gone; amid a print
                print(f"\n{heard[0].name}: saving after this update; once more ends at once",
                      file=sys.stderr)
        elif time.monotonic() >= first + 1:  # a terminal that closes sends two at a time
            raise SystemExit(128 + number)

    with contextlib.ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGINT", "SIGTERM", "SIGHUP"):
                number = getattr(signal, name, None)  # Windows has no SIGHUP
                if number and signal.getsignal(number) != signal.SIG_IGN:
                    before = signal.signal(number, hear)  # None: one that is not Python's
                    stack.callback(signal.signal, number, before or signal.SIG_DFL)
        try:
            yield heard
        except Exception:
            if WORLD > 1:  # torchrun's SIGTERM after a death must not outrun the error's line
                stack.pop_all()
            raise


def mean_over_processes(*numbers: float, device: torch.device) -> list[float]:
    """The means of what the processes give.  It is a barrier too: each waits here for all."""
    if WORLD == 1:
        return list(numbers)
    total = torch.tensor(numbers, dtype=torch.float64, device=device)
    dist.all_reduce(total)
    return (total / WORLD).tolist()


def start_processes(args: Namespace) -> None:
    """Joins the processes that torchrun has started."""
    if not 0 <= RANK < WORLD or (WORLD > 1 and "MASTER_ADDR" not in os.environ):
        raise UserError(f"RANK {RANK} and WORLD_SIZE {WORLD} are set, but not by torchrun: unset "
                        "them")
    if WORLD == 1:
        return
    if args.task not in TRAININGS:
        raise UserError(f"--task {args.task} is for one process: start it without torchrun")
    if args.device.type not in ("cpu", "cuda"):
        raise UserError(f"several processes need --device cpu or cuda, not {args.device.type}")
    if (shared := args.gradient_accumulation_steps) % WORLD:
        raise UserError(f"--gradient_accumulation_steps {shared}: no multiple of the {WORLD} "
                        "processes")
    dist.init_process_group("nccl" if args.device.type == "cuda" else "gloo")


def choose_device(name: str | None = None) -> torch.device:
    """The device of that name, or else the best there is.  UserError if it cannot be had."""
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    best = "cuda" if cuda else "mps" if mps else "cpu"
    try:
        device = torch.device(name or best)
        if device.type == "cuda":
            number = int(os.environ.get("LOCAL_RANK", 0)) if device.index is None else device.index
            torch.cuda.set_device(number)
        torch.zeros(1, device=device).item()
        return device
    except Exception as error:  # each kind of device has its own
        raise UserError(f"--device {name or best}: cannot be used ({brief(error)}); the best is "
                        f"{best}") from None


def choose_precision(device: torch.device) -> str:
    """bf16 where the hardware has it, else fp32."""
    if device.type == "cuda":  # older GPUs, such as the T4, emulate it slowly
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        ask = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
        fast = device.type == "cpu" and ask()
    return "bf16" if fast else "fp32"


def choose_threads(args: Namespace, config: ConvBertConfig) -> None:
    """--num_threads, or one for a small job, whose threads would mostly wait for each other."""
    if args.num_threads:
        torch.set_num_threads(args.num_threads)
        return
    product = args.batch_size * args.max_seq_length * config.hidden_size**2  # of a dense layer
    if product < 2**26 and torch.get_num_threads() > 1 and args.device.type == "cpu":
        print("one CPU thread, since the job is small; see --num_threads", file=sys.stderr)
        torch.set_num_threads(1)


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """What goes wrong ends the program with one line; status 2 where the user can put it right."""
    if RANK or sys.stderr is None:  # where it is closed, print would take stdout in its place
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    if RANK:  # process 0 speaks for all, except of errors
        sys.stdout = sys.stderr
    if hasattr(sys.stdout, "reconfigure"):  # not cp949, which Windows would redirect in
        sys.stdout.reconfigure(encoding="utf-8", errors="replace")
    try:
        yield
        if dist.is_initialized():
            dist.destroy_process_group()
    except BrokenPipeError:
        os._exit(1)  # whoever read stdout has gone, as `head` does
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        sys.stderr = sys.__stderr__ if RANK else sys.stderr  # each process tells its own errors
        text = str(error).partition("\n")[0]
        if isinstance(error, MemoryError) or "out of memory" in text or "CPUAllocator" in text:
            text = f"try a smaller --batch_size ({text})"
        elif WORLD > 1 and re.search("gloo|nccl|connection", text, re.IGNORECASE):
            text = f"a process of the run has died or failed ({text})"
        elif not isinstance(error, (UserError, OSError, ModuleNotFoundError)):
            raise  # a fault of this program
        who = f"process {RANK}: " if RANK else ""
        print(f"convbert.py: error: {who}{text}", file=sys.stderr)
        sys.exit(2)


# ---- 10. The same, faster ------------------------------------------------------------------------
def band_is_faster(values: Tensor) -> bool:
    """On a CPU, for short texts: 5 to 9 % of an update of small, rows of 128, two threads."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False  # a branch on the length would fix it for good
    return values.device.type == "cpu" and values.size(2) <= 256


def convolve_by_band(values: Tensor, kernels: Tensor) -> Tensor:
    """`convolve` as a product with a band matrix, whose row t holds kernel t around the diagonal.

    Rows that are written T+K apart and read T+K−1 apart move one step to the right each.
    """
    T, K = kernels.shape[-2:]
    rows = F.pad(kernels, (0, T)).flatten(2)[..., : T * (T + K - 1)]  # [B, N, T·(T+K−1)]
    band = rows.unflatten(2, (T, T + K - 1))[..., K // 2 : K // 2 + T]  # [B, N, T, T]
    return band @ values  # [B, N, T, D]


class DepthwiseConv1d(nn.Conv1d):
    """nn.Conv1d with one channel a group, in other forms where its own gradient is slow."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, H, T] -> [B, H, T]"""
        traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
        if x.device.type == "cpu" and not traced:
            return depthwise_by_image(x, self.weight)
        if x.is_cuda and traced:
            return depthwise_by_sum(x, self.weight)
        return super().forward(x)


def depthwise_by_image(x: Tensor, weight: Tensor) -> Tensor:
    """The convolution of an image one pixel high: 5 to 9 % of an update of small, 16 rows of 128.

    In fp32, whose gradient is the faster one on a CPU.
    """
    with torch.autocast("cpu", enabled=False):
        image, kernels = x.to(weight.dtype)[:, :, None], weight[:, :, None]  # [B, H, 1, T]
        padding = (0, weight.size(-1) // 2)
        convolved = F.conv2d(image, kernels, padding=padding, groups=x.size(1))
    return convolved.squeeze(2).to(x.dtype)  # [B, H, T]


def depthwise_by_sum(x: Tensor, weight: Tensor) -> Tensor:
    """The sum of K terms, of which a compiler makes one kernel for a GPU.

    The gradient of nn.Conv1d takes several times as long there.
    """
    T, K = x.size(2), weight.size(2)
    kernels = weight.squeeze(1).to(x.dtype)  # [H, K]
    padded = F.pad(x.mT, (0, 0, K // 2, K // 2))  # [B, T+K-1, H]
    terms = (padded[:, j : j + T] * kernels[:, j] for j in range(K))
    return functools.reduce(torch.add, terms).mT  # [B, H, T]


class PointwiseConv1d(nn.Conv1d):
    """nn.Conv1d with a kernel of one token, as a matrix product: 5 to 7 % of an update of small."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, H, T] -> [B, A, T]"""
        return F.linear(x.transpose(1, 2), self.weight.squeeze(-1)).transpose(1, 2)  # [B, A, T]


class Dropout(nn.Dropout):
    """nn.Dropout; on a CPU by a random byte an element, p rounded to 1/256: 8 % of an update."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0 or x.device.type != "cpu":
            return super().forward(x)
        lost = round(256 * self.p)
        words = torch.empty(x.numel() // 8 + 1, dtype=torch.int64).random_(-(2**63), None)
        keep = words.view(torch.uint8)[: x.numel()].view(x.shape) >= lost
        return x * keep.view(torch.uint8) / (1 - lost / 256)  # times bool is four times slower


def keep_freed_memory() -> None:
    """Has glibc keep what is freed, since fresh pages cost: 11 % of an update, 32 rows of 128."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        for option, value in ((-4, 0), (-2, 1 << 26), (-1, 2**31 - 1)):
            libc.mallopt(option, value)  # M_MMAP_MAX, M_TOP_PAD, M_TRIM_THRESHOLD


# ---- 11. Command line ----------------------------------------------------------------------------
TASKS = {task.__name__: task for task in (pretrain, finetune, evaluate, predict, visualize)}
TRAININGS = ("pretrain", "finetune")  # those that make a model
BACKBONE = ROOT / "weights/convbert-small-ko"  # weights that come with this file, where they do
CLASSIFIER = ROOT / "weights/convbert-small-ko-nsmc"
# A title names the tasks that use the group, or else all do; ONLY has the exceptions.
OPTIONS: dict[str, dict[str, tuple[Any, Any, str]]] = {  # kind, default, help
    "general": {
        "task": ([*TASKS], None, "What to do."),
        "seed": (int, 42, "Decides initial weights, order, masks and dropout."),
        "device": (str, None, "cpu, cuda or mps.  [the best there is]"),
        "precision": (["auto", "fp32", "bf16"], "auto", "auto: bf16 where it is fast."),
        "num_threads": (int, None, "CPU threads.  [all cores; 1 for a small job]"),
        "max_seq_length": (int, 128, "Tokens of a row; longer texts are cut."),
        "batch_size": (int, 32, "Rows or texts in a batch."),
        "vocab_file": (str, None, "SentencePiece model.  [the model's own, or vocab/kowiki.model]"),
        "max_eval_samples": (int, None, "Uses only the first so many rows or texts to score."),
    },
    "model, one of": {
        "model_name_or_path": (str, None, "Folder to start from or to use.  [printed]"),
        "config_name": (str, None, "config.json of a new model.  [the one beside this file]"),
        "size": ([*SIZES], None, "Makes a new model; all but tiny are published sizes."),
    },
    "pretrain": {
        "corpus": (list, None, "Text to learn from; may be repeated.  [kowiki.txt]"),
        "objective": (["mlm", "rtd"], "mlm", "Masked LM or replaced token detection."),
        "mlm_probability": (float, 0.3, "Share of the tokens to be predicted."),
        "compile": (bool, False, "Compiles the layers, for a GPU."),
    },
    "finetune, evaluate, predict": {
        "train_file": (str, None, "Labelled texts: TSV, CSV or JSON lines.  [NSMC's]"),
        "test_file": (str, None, "Texts to score or predict.  [NSMC's; a part of --train_file]"),
        "test": (bool, True, "Scores the test part when trained."),
        "text_column_name": (str, None, "Column of the texts.  [the one with a usual name]"),
        "label_column_name": (str, None, "Column of the labels.  [the one with a usual name]"),
        "hard_label_share": (float, 0.0, "Weight of the label where a row has scores too."),
    },
    "predict, visualize": {
        "text": (list, None, "A text; may be repeated.  [lines of stdin]"),
        "output_file": (str, None, "File for the predictions, JSON lines.  [stdout]"),
        "all_scores": (bool, False, "Adds the scores of all classes."),
        "layer": (int, None, "Layer to draw, from 1.  [the last]"),
    },
    "training (pretrain, finetune)": {
        "validation_file": (str, None, "Held-out texts.  [a part of those to train on]"),
        "max_train_samples": (int, None, "Uses only the first so many rows or texts."),
        "gradient_accumulation_steps": (int, 1, "Batches in an update."),
        "learning_rate": (float, None, "Peak.  [0.256 / hidden_size; rtd 0.128 / hidden_size; "
                          "finetune 0.1024 / hidden_size]"),
        "warmup_ratio": (float, 0.1, "Share of the run in which the rate rises."),
        "weight_decay": (float, 0.01, "AdamW's; spares biases and LayerNorms."),
        "layer_decay": (float, None, "Rate of a layer over that above.  [1; finetune 0.9]"),
    },
    "length (pretrain, finetune), one of": {
        "max_steps": (int, None, "Updates."),
        "num_train_epochs": (float, None, "Passes over the data.  [1, but at least 100 updates; "
                             "finetune 2, but at least 600]"),
        "max_minutes": (float, None, "Minutes; the learning rate reaches 0 as they end."),
    },
    "output (pretrain, finetune)": {
        "output_dir": (Path, None, "Folder for all results.  [runs/TASK; runs/sample/TASK]"),
        "overwrite_output_dir": (bool, False, "Deletes the run in the folder and starts anew."),
        "resume": (bool, True, "Goes on from a checkpoint."),
        "logging_steps": (int, 10, "Updates between lines of metrics.jsonl."),
        "eval_steps": (int, None, "Updates between evaluations.  [500, finetune an epoch]"),
        "save_steps": (int, 500, "Updates between checkpoints."),
        "save_total_limit": (int, 2, "Checkpoints to keep."),
    },
}
RANGES = {"seed": (0, 1e9), "max_seq_length": (8, 1e5), "max_train_samples": (2, 1e9),
          "num_threads": (1, 1024),
          "warmup_ratio": (0, 0.99), "mlm_probability": (0.01, 0.9), "weight_decay": (0, 1),
          "hard_label_share": (0, 1)}
ONLY = {  # tasks that use an option, where they are not those of its group
    "train_file": "finetune", "test": "finetune", "hard_label_share": "finetune",
    "label_column_name": "finetune, evaluate", "layer": "visualize", "output_file": "predict",
    "all_scores": "predict", "max_eval_samples": "pretrain, finetune, evaluate",
    "output_dir": "pretrain, finetune, evaluate, visualize",
    "size": "pretrain, finetune", "config_name": "pretrain, finetune",
}


def make_parser() -> argparse.ArgumentParser:
    """A parser in which every option is None where it is not given; `settle` fills in defaults."""
    parser = argparse.ArgumentParser(
        usage="convbert.py --task TASK [options]", description=__doc__.splitlines()[0],
        epilog="examples:\n" + __doc__.rpartition("\n\n")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.error = complain  # type: ignore[method-assign]
    for title, options in OPTIONS.items():
        group: Any = parser.add_argument_group(title)
        if title.endswith("one of"):
            group = group.add_mutually_exclusive_group()
        for name, (kind, default, text) in options.items():
            if kind is bool:
                how: dict[str, Any] = {"action": argparse.BooleanOptionalAction}
                default = "yes" if default else "no"
            elif kind is list:
                how = {"action": "append"}
            else:
                how = {"choices": kind} if isinstance(kind, list) else {"type": kind}
            names = [f"--{name}", "--valid_file"] if name == "validation_file" else [f"--{name}"]
            shown = "" if default is None else f"  [{default}]"
            group.add_argument(*names, help=text + shown, default=None, **how)
    return parser


def complain(message: str) -> NoReturn:
    """argparse's complaint as a UserError, in one line."""
    if "expected one argument" in message:
        message += '; a value that begins with "-" is written --option=VALUE'
    raise UserError(" ".join(message.split()))


def check_values(argv: list[str]) -> None:
    """UserError where an option has no value; stderr tells of those that are given twice."""
    names = Counter(word.partition("=")[0].replace("--no-", "--") for word in argv
                    if word.startswith("--"))
    for name, count in names.items():
        if count > 1 and name not in ("--text", "--corpus"):
            print(f"{name}: given {count} times; the last one counts", file=sys.stderr)
    for word, following in itertools.pairwise([*argv, "the end"]):
        name, written, value = word.partition("=")
        if not written:
            value = following
        empty = not value.strip() and name != "--text"
        if name.startswith("--") and (empty or value == "--"):  # of -- argparse makes an empty list
            raise UserError(f"{name}: has no value")


def parse_options(argv: list[str] | None = None) -> Namespace:
    """The options as given; args.given names those that were.  Raises UserError."""
    parser = make_parser()
    argv = sys.argv[1:] if argv is None else argv
    check_values(argv)
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        word = unknown[0].partition("=")[0].strip("-")
        known = [name[2:] for name in parser._option_string_actions if name.startswith("--")]
        near = [name for name in known if word and name.startswith(word)]
        if len(word) > 3:
            near = near or difflib.get_close_matches(word, known, 1, cutoff=0.54)
        hint = f"did you mean --{' or --'.join(near[:3])}?" if near else "--help lists them"
        complain(f"{unknown[0]}: no such option; {hint}")
    if args.task is None:
        raise UserError(f"--task is missing: one of {', '.join(TASKS)}")
    args.given = [name for name, value in vars(args).items() if value not in (None, "auto")]
    for name, value in vars(args).items():
        low, high = RANGES.get(name, (1 if type(value) is int else 1e-12, 2**31))
        if type(value) in (int, float) and not low <= value <= high:
            raise UserError(f"--{name} {value}: not between {low} and {high}")
    return args


def settle(args: Namespace) -> None:
    """Fills in what depends on the task and on the files there are; stderr tells.

    An option that the task does not use gets its default.  --size, --config_name and --compile are
    errors then: they ask for another task.
    """
    for title, group in OPTIONS.items():
        for name, (_, default, _) in group.items():
            tasks = [task for task in TASKS if task in ONLY.get(name, title)] or [*TASKS]
            if name in args.given and args.task not in tasks:
                if name in ("size", "config_name", "compile") and getattr(args, name):
                    raise UserError(f"--{name}: only for --task {' and '.join(tasks)}")
                print(f"--{name}: not used by --task {args.task}", file=sys.stderr)
                setattr(args, name, None)
            if getattr(args, name) is None:
                setattr(args, name, default)
    args.layer_decay = args.layer_decay or (0.9 if args.task == "finetune" else 1.0)
    if args.test_file and not args.test:
        print("--test_file: not used with --no-test", file=sys.stderr)
        args.test_file = None
    if args.text and args.test_file:
        raise UserError("--text and --test_file: predict takes one of them")
    if args.text_column_name and not args.test_file and args.task == "predict":
        raise UserError("--text_column_name: there is no --test_file whose column it could name")
    sample = settle_data(args)
    args.output_dir = args.output_dir or Path("runs/sample" if sample else "runs", args.task)
    if not (args.size or args.config_name or args.model_name_or_path):
        settle_start(args, sample)
    if args.task == "finetune" and args.model_name_or_path is None:
        print("model: none is pretrained; training begins with random weights", file=sys.stderr)
    if args.task == "evaluate" and not args.test_file:
        settle_test_file(args)
    if args.task in TRAININGS:
        args.contents = contents_of(args)
    args.device = choose_device(args.device)
    if args.precision == "auto" and args.task != "visualize":  # which draws in fp32
        args.precision = choose_precision(args.device)
        print(f"precision: {args.precision}", file=sys.stderr)


def settle_data(args: Namespace) -> bool:
    """Chooses the files to train on where none are named; true if they are the sample's."""
    if args.task == "pretrain" and not args.corpus:
        path = data_file("kowiki/kowiki.txt")
        valid = path.with_name("valid.txt")
        args.corpus = [path]
        args.validation_file = args.validation_file or (valid if valid.exists() else None)
    elif args.task == "finetune" and not args.train_file:
        path = args.train_file = data_file("nsmc/ratings_train.txt")
        if args.test and not args.test_file:
            args.test_file = data_file("nsmc/ratings_test.txt")
    else:
        return False
    return path.parent.name == "sample"


def data_file(name: str) -> Path:
    """The file that web-crawler/ leaves, or else its namesake in the bundled sample."""
    path = ROOT / "web-crawler" / name
    sample = ROOT / "web-crawler/sample" / path.name
    if path.exists():
        return path
    if not sample.exists():
        raise UserError(f"{path}: no such file; web-crawler/ fetches it; or name your own file")
    print(f"no {path}: the bundled sample takes its place", file=sys.stderr)
    return sample


def settle_start(args: Namespace, sample: bool) -> None:
    """Chooses the model to start from or to use: of this folder's runs, or the one shipped."""
    folders = {"pretrain": [], "finetune": [Path("runs/pretrain"), BACKBONE]}.get(
        args.task, [Path("runs/finetune"), CLASSIFIER])
    if sample and args.task == "finetune":
        folders.append(Path("runs/sample/pretrain"))
    for folder in folders:
        if (folder / "config.json").exists():
            args.model_name_or_path = folder
            print(f"model: {folder}", file=sys.stderr)
            return
        if checkpoints(folder):
            print(f"{folder}: its training is not finished, so it is passed over", file=sys.stderr)
    if args.task not in TRAININGS:
        raise UserError(f"{folders[0]}: no model there; run --task finetune, or name a folder by "
                        "--model_name_or_path")
    if sample:  # it can teach no more
        args.size = "tiny"
        print("model: --size tiny, for the sample; or name a --config_name", file=sys.stderr)


def settle_test_file(args: Namespace) -> None:
    """Chooses what `evaluate` scores on: what the model's own run was tested on."""
    folder = Path(args.model_name_or_path)
    run = folder.parent if folder in checkpoints(folder.parent) else folder
    known = read_json(run / "eval_results.json").get("test_file")
    found = [path for path in (run / "test.jsonl", known) if path and os.path.exists(path)]
    if not found and is_same_file(folder, CLASSIFIER):
        found = [data_file("nsmc/ratings_test.txt")]
    if not found:
        gone = f"{known} is gone" if known else f"{folder} keeps no test part"
        raise UserError(f"{gone}; name a file by --test_file")
    args.test_file = found[0]
    print(f"test file: {args.test_file}", file=sys.stderr)


def settle_length(args: Namespace, config: ConvBertConfig, batches: int, old: dict) -> list[str]:
    """Settles updates and peak rate by the batches of an epoch; in a resumed run as they were.

    Returns in words what was taken from `old`, the options of the checkpoint.
    """
    updates = batches / args.gradient_accumulation_steps
    least, epochs = (100, 1) if args.task == "pretrain" else (600, 2)
    if args.num_train_epochs:
        least, epochs = 1, args.num_train_epochs
    if not (args.max_minutes or args.max_steps):
        args.max_steps = max(least, math.ceil(epochs * updates))
    rate = {"mlm": 0.256, "rtd": 0.128}[args.objective]  # twice as much for rtd has gone wrong
    rate = rate if args.task == "pretrain" else 0.1024
    args.eval_steps = args.eval_steps or (500 if args.task == "pretrain" else math.ceil(updates))
    args.learning_rate = args.learning_rate or rate / config.hidden_size
    taken = []
    for name in ("max_steps", "eval_steps", "learning_rate", "precision"):
        value = old.get(name)
        if name not in args.given and value not in (None, getattr(args, name)):
            setattr(args, name, value)
            taken.append(f"{name} {value} as before")
    return taken


def main(argv: list[str] | None = None) -> None:
    with one_line_errors():
        args = parse_options(argv)
        settle(args)
        setproctitle(f"convbert {args.task}")
        keep_freed_memory()
        start_processes(args)
        TASKS[args.task](args)


if __name__ == "__main__":
    main()
