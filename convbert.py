"""ConvBERT for Korean in one file: model, pretraining, fine-tuning.

Jiang et al., "ConvBERT: Improving BERT with Span-based Dynamic Convolution", NeurIPS 2020, arXiv 2008.02496.
Many heads of BERT's self-attention only ever look at their neighbours, at the full price of T² scores.
ConvBERT halves the width of attention and gives the other half to a convolution whose kernel is made anew at
every position, from the span of tokens around it. The ideas, in the order in which they stand below:

    span-based dynamic    ks_t = Σ_j dw_j ⊙ x_{t+j−p} · W_pw + b        key of the span around t   (section 2)
    convolution           w_t  = softmax_K( (q_t ⊙ ks_t) · W_f )        one kernel per position and head
                          o_t  = Σ_j w_{t,j} u_{t+j−p},   u = x · W_u   applied to values of its own
    mixed attention       y    = [ softmax(q kᵀ/√D) v ; o ] · W_o       both halves, side by side
    grouped linear        feed-forward weights are G diagonal blocks, 1/G of the parameters        (section 3)
    pretraining           masked language modelling or ELECTRA's replaced token detection          (section 4)
A shape stands at the end of the line that makes it, in these letters:
    B batch     T length     V vocabulary    E embedding_size    H hidden_size    I intermediate_size
    K conv_kernel_size, p = (K−1)/2          γ head_ratio        G num_groups     M labelled positions
    N heads in each half = heads/γ           D head size         A = N·D, the width of each half

Departures from the authors' code: padding is kept out of both convolutions (`conv_padding_mask: false` lets
it in again); 30 % of the tokens are masked, not 15, and 80/10/10 for masked language modelling; no dropout in
pretraining; the classifier's hidden layer, and the size of heads where γ ≠ 2 and in the generator, are
Hugging Face's, as all names are; Adam corrects its bias; dropout is in steps of 1/256.
The machine and what a run leaves on disk are in runs.py, what is drawn in pictures.py: no part of the paper.
"""

import argparse
import contextlib
import functools
import hashlib
import json
import math
import os
import sys
import time
from argparse import Namespace
from collections import namedtuple
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import sentencepiece
import torch
import torch.nn.functional as F
from numpy import ndarray as Array
from numpy.random import Generator
from safetensors.torch import load_file, save_file
from setproctitle import setproctitle
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.optim import AdamW, Optimizer
from torch.utils.checkpoint import checkpoint
from tqdm import tqdm

import pictures
import runs
from runs import RANK, WORLD, UserError, replacing, write_json

ROOT = Path(__file__).resolve().parent
IGNORE = -100  # the label of a position that has none; PyTorch's convention
LABELS = ("negative", "positive")


def recomputed(f: Callable, x: Tensor, *more: Tensor, **options: Any) -> Tensor:
    """f(x, ...), x [B, ..., T, D], without its intermediate results, which the backward pass computes again:
    saves memory where that is cheap. For functions without dropout, which would be drawn anew."""
    if x.is_cuda or x.size(0) * x.size(-2) < 2048:  # B·T, or m² of logits [m, V]: not worth the time
        return f(x, *more, **options)
    return checkpoint(f, x, *more, use_reentrant=False, preserve_rng_state=False, **options)


# ---- 1. Configuration --------------------------------------------------------------------------------------
SIZES: dict[str, dict] = {  # as published, but for tiny; what is not named is as in small
    "tiny": dict(embedding_size=32, hidden_size=64, intermediate_size=128, num_hidden_layers=2),
    "small": dict(),
    "medium-small": dict(hidden_size=384, num_attention_heads=8, intermediate_size=1536, num_groups=2),
    "base": dict(embedding_size=768, hidden_size=768, num_attention_heads=12, intermediate_size=3072,
                 generator_ratio=3),
}


@dataclass
class ConvBertConfig:
    """Hyper-parameters under Hugging Face's names, small by default. UserError if they make no model."""

    vocab_size: int = 8007
    embedding_size: int = 128
    hidden_size: int = 256
    num_hidden_layers: int = 12
    num_attention_heads: int = 4
    intermediate_size: int = 1024
    head_ratio: int = 2
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
    conv_type: str = "sdconv"  # from here on not in Hugging Face; see ConvBertSelfAttention
    conv_padding_mask: bool = True  # off: padding leaks through the convolutions, as in the published code
    generator_ratio: int = 4  # replaced token detection: how many times narrower the generator is

    def __post_init__(self) -> None:
        for name, default in vars(type(self)).items():
            value, kind = getattr(self, name), type(default)
            low, high = {int: (int(name != "pad_token_id"), 10**6), bool: (0, 1)}.get(kind, (0, 0.99))
            if kind in (int, float, bool) and not (type(value) in (kind, int) and low <= value <= high):
                raise UserError(f"config: {name} must be {kind.__name__} from {low} to {high}, not {value!r}")
        H, h, G, K = self.hidden_size, self.num_attention_heads, self.num_groups, self.conv_kernel_size
        halves = 1 if self.conv_type == "noconv" else 2
        self.num_heads = max(1, h // self.head_ratio) if halves == 2 else h  # N
        self.head_size = H // self.num_heads // halves  # D
        for wrong, why in (
            (self.conv_type not in ("sdconv", "dynamic", "light", "noconv"), f"no {self.conv_type!r}"),
            (self.hidden_act != "gelu", f"hidden_act must be gelu, not {self.hidden_act!r}"),
            (K % 2 == 0, f"conv_kernel_size {K} must be odd"),
            (H % h or H % (self.num_heads * halves), f"hidden_size {H} must divide by {h} heads, in halves"),
            (H % G or self.intermediate_size % G, f"hidden and intermediate size must divide by {G} groups"),
            (self.pad_token_id >= self.vocab_size, f"pad_token_id {self.pad_token_id} is no piece"),
            (self.initializer_range == 0, "initializer_range must not be 0"),
        ):
            if wrong:
                raise UserError(f"config: {why}")

    @classmethod
    def from_pretrained(cls, path: Path | str) -> "ConvBertConfig":
        """Reads config.json: the file, or the folder that holds it."""
        path = Path(path) / "config.json" if Path(path).is_dir() else Path(path)
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if values.get("model_type", "convbert") != "convbert":
                raise UserError("not a ConvBERT model's")
            names = [field.name for field in fields(cls)]
            if missing := [name for name in names[: names.index("hidden_act")] if name not in values]:
                raise UserError(f"lacks {', '.join(missing)}")
            return cls(**{name: values[name] for name in names if name in values})
        except FileNotFoundError:
            raise UserError(f"{path}: not there; train it, or see --model_name_or_path, --size") from None
        except (UserError, OSError, ValueError, AttributeError, RecursionError) as error:
            raise UserError(f"{path}: {error}") from None


# ---- 2. Convolutions: three ways to make a kernel, one to apply it -----------------------------------------
def convolve(values: Tensor, kernels: Tensor) -> Tensor:
    """out[b,n,t] = Σ_j kernels[b,n,t,j] · values[b,n,t+j−p], with zeros beyond the ends of the sequence.
    values [B, N, T, D], kernels [B or 1, N, T, K]: one per head and position, shared by its D channels."""
    T, K = kernels.shape[-2:]
    if T > 256:
        padded = F.pad(values, (0, 0, K // 2, K // 2))  # [B, N, T+K-1, D]
        terms = (kernels[..., j : j + 1] * padded[:, :, j : j + T] for j in range(K))  # [B, N, T, D] each
        return functools.reduce(torch.add, terms)
    # A short sequence goes faster as one product with a band matrix, whose row t holds kernel t around the
    # diagonal: rows written T+K apart and read T+K−1 apart move one step to the right each.
    rows = F.pad(kernels, (0, T)).flatten(2)[..., : T * (T + K - 1)]  # [B, N, T·(T+K−1)]
    band = rows.unflatten(2, (T, T + K - 1))[..., K // 2 : K // 2 + T]  # [B, N, T, T]
    return band @ values  # [B, N, T, D]


class SeparableConv1D(nn.Module):
    """The span key (paper, section 3.2): each channel over its K neighbours, then H -> A by position."""

    def __init__(self, config: ConvBertConfig, width: int):
        super().__init__()
        H, K = config.hidden_size, config.conv_kernel_size
        self.depthwise = nn.Conv1d(H, H, K, padding=K // 2, groups=H, bias=False)
        self.pointwise = nn.Conv1d(H, width, 1, bias=False)
        self.bias = nn.Parameter(torch.zeros(width, 1))

    def forward(self, x: Tensor) -> Tensor:  # [B, T, H]
        spans = self.taps(x) if x.is_cuda and torch.compiler.is_compiling() else self.image(x)  # [B, T, H]
        return F.linear(spans, self.pointwise.weight.squeeze(-1), self.bias.squeeze(-1))  # [B, T, A]

    def taps(self, x: Tensor) -> Tensor:
        """Σ_j depthwise_j ⊙ x_{t+j−p} as it reads; torch.compile makes one kernel of it on a GPU."""
        weight = self.depthwise.weight.squeeze(1).to(x.dtype)  # [H, K]
        T, K = x.size(1), weight.size(1)
        padded = F.pad(x, (0, 0, K // 2, K // 2))  # [B, T+K-1, H]
        return functools.reduce(torch.add, (padded[:, j : j + T] * weight[:, j] for j in range(K)))

    def image(self, x: Tensor) -> Tensor:
        """The same, depthwise(x.mT).mT, over an image one pixel high: no copies; in fp32, whose gradient is
        faster on CPUs. On a GPU its gradient takes several times as long as that of compiled taps."""
        with torch.autocast(x.device.type, enabled=False):
            weight = self.depthwise.weight.unflatten(1, (1, 1))  # [H, 1, 1, K]
            row = x.to(weight.dtype).mT[:, :, None]  # [B, H, 1, T]
            spans = F.conv2d(row, weight, padding=(0, weight.size(-1) // 2), groups=x.size(-1))
        return spans.squeeze(2).mT.to(x.dtype)  # [B, T, H]


class Dropout(nn.Dropout):
    """Draws one random byte an element where PyTorch's own draws a number: p is rounded to 1/256."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        lost = round(256 * self.p)
        words = torch.empty(x.numel() // 8 + 1, dtype=torch.int64, device=x.device).random_(-(2**63), None)
        keep = words.view(torch.uint8)[: x.numel()].view(x.shape) >= lost
        return x * keep.view(torch.uint8) / (1 - lost / 256)  # a product with bool takes four times as long


class ConvBertSelfAttention(nn.Module):
    """Mixed attention (paper, section 3.3): N heads of self-attention beside N of convolution -> [B, T, 2A].

    `conv_type` says what a kernel is made of:
        light    nothing: one learned kernel a head (Wu et al. 2019, LightConv)
        dynamic  the token itself (Wu et al. 2019, DynamicConv)
        sdconv   the query times the key of the span around it (the paper)
    Wu et al. gate the convolved values by a GLU. `noconv` is BERT: attention alone, at full width A = H."""

    def __init__(self, config: ConvBertConfig):
        super().__init__()
        self.N, self.D, self.conv_type = config.num_heads, config.head_size, config.conv_type
        H, A, K = config.hidden_size, self.N * self.D, config.conv_kernel_size
        self.width = A if self.conv_type == "noconv" else 2 * A  # of what forward returns
        self.mask_padding = config.conv_padding_mask
        self.query, self.key, self.value = (nn.Linear(H, A) for _ in range(3))
        self.dropout = Dropout(config.attention_probs_dropout_prob)
        if self.conv_type != "noconv":
            self.conv_out_layer = nn.Linear(H, A if self.conv_type == "sdconv" else 2 * A)
        if self.conv_type in ("sdconv", "dynamic"):
            self.conv_kernel_layer = nn.Linear(A, self.N * K)
        if self.conv_type == "sdconv":
            self.key_conv_attn_layer = SeparableConv1D(config, A)
        if self.conv_type == "light":
            self.conv_kernel = nn.Parameter(nn.init.xavier_uniform_(torch.empty(self.N, K)))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:  # [B, T, H], bool [B, T]
        layers = [self.query, self.key, self.value]  # and the values to convolve: four layers, one product
        layers += [] if self.conv_type == "noconv" else [self.conv_out_layer]
        weight, bias = (torch.cat([getattr(layer, name) for layer in layers]) for name in ("weight", "bias"))
        q, k, v, *u = F.linear(x, weight, bias).split([layer.out_features for layer in layers], -1)  # [B,T,A]
        q, k, v = (self.split_heads(part) for part in (q, k, v))  # [B, N, T, D]; gated, u is [B, T, 2A]
        keep = None if mask is None else mask[:, None, None]  # [B, 1, 1, T]
        if x.is_cuda:
            attended = F.scaled_dot_product_attention(q, k, v, keep, self.dropout.p * self.training)
        else:  # on a CPU this is faster than the fused kernel
            scores = q @ k.mT * self.D**-0.5  # [B, N, T, T]
            scores = scores if keep is None else scores.masked_fill(~keep, torch.finfo(scores.dtype).min)
            attended = self.dropout(scores.softmax(-1)) @ v  # [B, N, T, D]
        convolved = [self.convolution(x, q, values, mask) for values in u]  # [B, N, T, D]; noconv has none
        return torch.cat([half.transpose(1, 2) for half in (attended, *convolved)], 2).flatten(2)  # [B,T,2A]

    def split_heads(self, x: Tensor) -> Tensor:  # [B, T, A] -> [B, N, T, D]
        return x.unflatten(-1, (self.N, self.D)).transpose(1, 2).contiguous()

    def convolution(self, x: Tensor, q: Tensor, u: Tensor, mask: Tensor | None) -> Tensor:
        """o_t = Σ_j w_{t,j} u_{t+j−p} (paper, section 3.2), the kernels w by conv_type: [B, N, T, D].
        x [B, T, H], q [B, N, T, D], mask bool [B, T]; u [B, T, A], or [B, T, 2A] where it is gated."""
        u = u if self.conv_type == "sdconv" else F.glu(u)  # [B, T, A]
        if mask is not None and self.mask_padding:  # u after its projection, whose bias must go too
            x, u = x * mask[..., None], u * mask[..., None]
        if self.conv_type == "light":
            kernels = self.conv_kernel[None, None].expand(1, x.size(1), -1, -1)  # [1, T, N, K]
        else:
            source = u  # dynamic: the token's own gated values
            if self.conv_type == "sdconv":
                ks = recomputed(self.key_conv_attn_layer, x).unflatten(-1, (self.N, self.D))  # [B, T, N, D]
                source = (q.transpose(1, 2) * ks).flatten(2)  # [B, T, A]
            kernels = self.conv_kernel_layer(source).unflatten(-1, (self.N, -1))  # [B, T, N, K]
        return recomputed(convolve, self.split_heads(u), kernels.softmax(-1).transpose(1, 2))


# ---- 3. Model ----------------------------------------------------------------------------------------------
class GroupedLinear(nn.Module):
    """Block-diagonal linear layer (paper, section 3.3): G blocks of in/G x out/G that never mix."""

    def __init__(self, in_features: int, out_features: int, G: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(G, in_features // G, out_features // G))
        self.bias = nn.Parameter(torch.zeros(out_features))

    def forward(self, x: Tensor) -> Tensor:  # [..., in]
        x = x.unflatten(-1, (self.weight.size(0), -1))  # [..., G, in/G]
        return torch.einsum("...gi,gio->...go", x, self.weight).flatten(-2) + self.bias  # [..., out]


class ConvBertLayer(nn.Module):
    """Mixed attention, then the feed-forward network, each in LayerNorm(x + f(x)), post-norm as in BERT."""

    def __init__(self, config: ConvBertConfig):
        super().__init__()
        H, I, G = config.hidden_size, config.intermediate_size, config.num_groups
        linear = nn.Linear if G == 1 else functools.partial(GroupedLinear, G=G)
        norms = [nn.LayerNorm(H, eps=config.layer_norm_eps) for _ in range(2)]
        mixed = ConvBertSelfAttention(config)
        output = nn.ModuleDict({"dense": nn.Linear(mixed.width, H), "LayerNorm": norms[0]})
        self.attention = nn.ModuleDict({"self": mixed, "output": output})  # ModuleDict: for HF's names
        self.intermediate = nn.ModuleDict({"dense": linear(H, I)})
        self.output = nn.ModuleDict({"dense": linear(I, H), "LayerNorm": norms[1]})
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:  # [B, T, H] -> [B, T, H]
        output: Any = self.attention["output"]  # a ModuleDict
        x = output["LayerNorm"](x + self.dropout(output["dense"](self.attention["self"](x, mask))))
        y = self.intermediate["dense"](x)  # [B, T, I]; its GELU is cheaper done twice than kept
        y = recomputed(lambda y: self.output["dense"](F.gelu(y)), y)  # [B, T, H]
        return self.output["LayerNorm"](x + self.dropout(y))


class ConvBertEmbeddings(nn.Module):
    """Word + position + segment, normalised; E may be smaller than H (factorised, as in ELECTRA)."""

    def __init__(self, config: ConvBertConfig):
        super().__init__()
        E = config.embedding_size
        self.word_embeddings = nn.Embedding(config.vocab_size, E, padding_idx=config.pad_token_id)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, E)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, E)
        self.LayerNorm = nn.LayerNorm(E, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor | None = None) -> Tensor:  # -> [B, T, E]
        x = self.word_embeddings(input_ids) + self.position_embeddings.weight[: input_ids.size(1)]
        types = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        return self.dropout(self.LayerNorm(x + self.token_type_embeddings(types)))


@torch.no_grad()
def init_weights(module: nn.Module, std: float) -> None:
    """Normal(0, std) cut off at two std, as in BERT; depthwise kernels 1/K, or spans would begin near 0."""
    if isinstance(module, (nn.Linear, nn.Embedding, nn.Conv1d, GroupedLinear)):
        std = 1 / module.kernel_size[0] if isinstance(module, nn.Conv1d) and module.groups > 1 else std
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

    @classmethod
    def from_pretrained(cls, folder: Path | str, new_head: bool = True) -> "ConvBertPreTrainedModel":
        """The model of a local folder, prefixed or not; stderr gets what is new or unused; else UserError."""
        model = cls(ConvBertConfig.from_pretrained(folder))
        prefix, backbone = "convbert." if hasattr(model, "convbert") else "", ("embeddings", "encoder")
        path = Path(folder, "model.safetensors")
        path = path if path.exists() else Path(folder, "pytorch_model.bin")  # pickled, but runs no code here
        try:
            read = torch.load(path, "cpu", weights_only=True) if path.suffix == ".bin" else load_file(path)
            weights = {name.removeprefix("convbert."): tensor for name, tensor in read.items()}
            weights.pop("embeddings.position_ids", None)  # a constant
            weights = {prefix + k if k.startswith(backbone) else k: tensor for k, tensor in weights.items()}
            missing, unused = model.load_state_dict(weights, strict=False)
        except Exception as error:  # reading a damaged file can raise almost anything
            raise UserError(f"{path}: damaged or unfit ({' '.join(str(error).split())})") from None
        new = [n for n in missing if "lm_head.weight" not in n and "generator.convbert.emb" not in n]  # tied
        if any(name.removeprefix(prefix).startswith(backbone) or not new_head for name in new):
            raise UserError(f"{path}: no {cls.__name__}, lacks {', '.join(new)[:200]}")
        if new or unused:
            print(f"{path}: new are {new or 'none'}; not used are {unused or 'none'}", file=sys.stderr)
        return model

    def save_pretrained(self, folder: Path | str) -> None:
        """Writes config.json and model.safetensors; each is complete at every moment."""
        config = {"model_type": "convbert", "architectures": [type(self).__name__], **asdict(self.config)}
        labels = {"id2label": dict(enumerate(LABELS)), "label2id": {name: i for i, name in enumerate(LABELS)}}
        write_json(Path(folder, "config.json"), config | labels)
        weights = {k: v.contiguous() for k, v in self.state_dict().items() if k != "generator_lm_head.weight"}
        with replacing(Path(folder, "model.safetensors")) as temporary:
            save_file(weights, temporary, metadata={"format": "pt"})


class ConvBertModel(ConvBertPreTrainedModel):
    """The backbone: model(input_ids [B, T], attention_mask=None, token_type_ids=None) -> [B, T, H]."""

    def __init__(self, config: ConvBertConfig, embeddings: ConvBertEmbeddings | None = None):
        super().__init__(config)
        self.embeddings = embeddings or ConvBertEmbeddings(config)
        if config.embedding_size != config.hidden_size:
            self.embeddings_project = nn.Linear(config.embedding_size, config.hidden_size)
        layers = nn.ModuleList(ConvBertLayer(config) for _ in range(config.num_hidden_layers))
        self.encoder = nn.ModuleDict({"layer": layers})
        self.apply(functools.partial(init_weights, std=config.initializer_range))

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None,
                token_type_ids: Tensor | None = None) -> Tensor:
        mask = None if attention_mask is None else attention_mask.bool()
        x = self.embeddings(input_ids, token_type_ids)  # [B, T, E]
        if hasattr(self, "embeddings_project"):
            x = self.embeddings_project(x)  # [B, T, H]
        for layer in self.encoder["layer"].children():
            x = layer(x, mask)
        return x


# ---- 4. Objectives -----------------------------------------------------------------------------------------
ModelOutput = namedtuple("ModelOutput", "loss logits")  # loss is None without labels


class ConvBertForMaskedLM(ConvBertPreTrainedModel):
    """Words behind masks (Devlin et al. 2019): loss and logits [M, V], at labels [B, T] other than -100 only;
    without labels logits [B, T, V]. positions [M], where those are among the B·T, spares it the search."""

    def __init__(self, config: ConvBertConfig, embeddings: ConvBertEmbeddings | None = None):
        super().__init__(config)
        H, E = config.hidden_size, config.embedding_size
        self.convbert = ConvBertModel(config, embeddings)
        norm = nn.LayerNorm(E, eps=config.layer_norm_eps)
        self.generator_predictions = nn.ModuleDict({"dense": nn.Linear(H, E), "LayerNorm": norm})
        self.generator_lm_head = nn.Linear(E, config.vocab_size)
        self.apply(functools.partial(init_weights, std=config.initializer_range))
        self.generator_lm_head.weight = self.convbert.embeddings.word_embeddings.weight

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None,
                token_type_ids: Tensor | None = None, labels: Tensor | None = None,
                positions: Tensor | None = None) -> ModelOutput:
        hidden = self.convbert(input_ids, attention_mask, token_type_ids)  # [B, T, H]
        if labels is not None:
            labels = labels.flatten()  # [B·T]
            positions = (labels != IGNORE).nonzero().squeeze(1) if positions is None else positions  # [M]
            hidden, labels = hidden.flatten(0, 1)[positions], labels[positions]  # [M, H], [M]
        hidden = F.gelu(self.generator_predictions["dense"](hidden))  # [B, T, E] or [M, E]
        logits = self.generator_lm_head(self.generator_predictions["LayerNorm"](hidden))
        if labels is None:
            return ModelOutput(None, logits)
        most = 2**15 if logits.is_cuda else 128  # M x V numbers in fp32 would be the peak of memory
        parts = zip(logits.split(most), labels.split(most))
        loss = sum(recomputed(F.cross_entropy, *part, reduction="sum") for part in parts)
        return ModelOutput(loss / (labels != IGNORE).sum().clamp(min=1), logits)


class ConvBertForPreTraining(ConvBertPreTrainedModel):
    """Replaced token detection (Clark et al. 2020, ELECTRA), the paper's objective: loss = MLM + 50 · RTD.
    A narrow generator fills the masks by sampling, which passes no gradient on; the model proper, which alone
    is saved, tells which tokens were replaced: logits [B, T] above 0. The two share their embeddings."""

    def __init__(self, config: ConvBertConfig):
        super().__init__(config)
        H, r = config.hidden_size, config.generator_ratio
        self.convbert = ConvBertModel(config)
        head = {"dense": nn.Linear(H, H), "dense_prediction": nn.Linear(H, 1)}
        self.discriminator_predictions = nn.ModuleDict(head)
        h = max(1, config.num_attention_heads // r)
        narrow = replace(config, hidden_size=H // r, intermediate_size=4 * (H // r), num_attention_heads=h)
        self.generator = ConvBertForMaskedLM(narrow, self.convbert.embeddings)
        self.discriminator_predictions.apply(functools.partial(init_weights, std=config.initializer_range))

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None,
                token_type_ids: Tensor | None = None, *, labels: Tensor,
                positions: Tensor | None = None) -> ModelOutput:
        labelled = labels != IGNORE
        original = torch.where(labelled, labels, input_ids)
        guess = self.generator(input_ids, attention_mask, token_type_ids, labels, positions)
        gumbel = -torch.empty_like(guess.logits, dtype=torch.float32).exponential_().log()
        drawn = (guess.logits + gumbel).argmax(-1)  # [M] a draw from the softmax of the logits
        corrupted = original.masked_scatter(labelled, drawn)  # [B, T]
        hidden = self.convbert(corrupted, attention_mask, token_type_ids)  # [B, T, H]
        hidden = F.gelu(self.discriminator_predictions["dense"](hidden))
        logits = self.discriminator_predictions["dense_prediction"](hidden).squeeze(-1).float()  # [B, T]
        real = torch.ones_like(logits) if attention_mask is None else attention_mask.float()
        replaced = (corrupted != original).float()  # a lucky guess counts as original
        rtd_loss = F.binary_cross_entropy_with_logits(logits, replaced, real, reduction="sum") / real.sum()
        return ModelOutput(guess.loss + 50.0 * rtd_loss, logits)

    def save_pretrained(self, folder: Path | str) -> None:
        self.convbert.save_pretrained(folder)


class ConvBertForSequenceClassification(ConvBertPreTrainedModel):
    """The class of a text, off the vector of [CLS]: model(..., labels=None [B]) -> loss, logits [B, 2]."""

    def __init__(self, config: ConvBertConfig):
        super().__init__(config)
        H = config.hidden_size
        self.convbert = ConvBertModel(config)
        self.classifier = nn.ModuleDict({"dense": nn.Linear(H, H), "out_proj": nn.Linear(H, len(LABELS))})
        self.dropout = Dropout(config.hidden_dropout_prob)
        self.classifier.apply(functools.partial(init_weights, std=config.initializer_range))

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None,
                token_type_ids: Tensor | None = None, labels: Tensor | None = None) -> ModelOutput:
        x = self.convbert(input_ids, attention_mask, token_type_ids)[:, 0]  # [B, H]
        x = F.gelu(self.classifier["dense"](self.dropout(x)))
        logits = self.classifier["out_proj"](self.dropout(x)).float()  # [B, 2]
        return ModelOutput(None if labels is None else F.cross_entropy(logits, labels), logits)


# ---- 5. Text -----------------------------------------------------------------------------------------------
class Tokenizer:
    """A SentencePiece model and what masking must know of its pieces. UserError if it lacks special ones."""

    def __init__(self, path: Path | str):
        try:
            sp = sentencepiece.SentencePieceProcessor(model_file=str(path))
        except (OSError, RuntimeError) as error:
            raise UserError(f"{path}: not a SentencePiece model ({str(error).splitlines()[0]})") from None
        ids, pieces = range(len(sp)), sp.id_to_piece(list(range(len(sp))))
        needed = ("[PAD]", "[CLS]", "[SEP]", "[MASK]")
        if any(piece not in pieces for piece in needed) or len(pieces) > 2**16:
            raise UserError(f"{path}: needs the pieces {', '.join(needed)}, and at most 65,536 in all")
        self.path, self.size, self.pieces = path, len(pieces), pieces
        self.pad, self.cls, self.sep, self.mask = map(pieces.index, needed)
        self.is_special = np.array([sp.is_control(i) or sp.is_unknown(i) or pieces[i] in needed for i in ids])
        self.encode = functools.partial(sp.encode, return_type="numpy")  # list of arrays


def token_file(text: Path | str, tokenizer: Tokenizer) -> np.memmap:
    """uint16 memmap of a text's tokens; a blank line, the end of a document, becomes [SEP]. Made once, as
    FILE.tokens with a JSON sidecar, and again when the text or the tokenizer has changed."""
    if not os.path.isfile(text) or not os.path.getsize(text):
        raise UserError(f"{text}: no such corpus, or an empty one")
    tokens, sidecar = Path(f"{text}.tokens"), Path(f"{text}.tokens.json")
    source = {f"{name}_sha256": hashlib.sha256(np.memmap(path, np.uint8, "r").data).hexdigest()
              for name, path in (("text", text), ("tokenizer", tokenizer.path))}
    with contextlib.suppress(OSError, ValueError, AttributeError):  # not there yet, or damaged: made anew
        known = json.loads(sidecar.read_text())
        if source.items() <= known.items() and tokens.stat().st_size == 2 * known["tokens"]:
            return np.memmap(tokens, np.uint16, "r")
    lines, count, documents = 0, 0, 1
    with replacing(tokens) as temporary, open(text, "rb") as file, open(temporary, "wb") as out:
        while block := file.readlines(8 << 20):  # bytes
            try:
                paragraphs = [line.decode().strip() for line in block]
            except UnicodeDecodeError as error:
                raise UserError(f"{text}, line {lines + block.index(error.object) + 1}: not UTF-8") from None
            ids = np.concatenate([p if len(p) else [tokenizer.sep] for p in tokenizer.encode(paragraphs)])
            ids.astype(np.uint16).tofile(out)
            lines, count, documents = lines + len(block), count + len(ids), documents + paragraphs.count("")
    write_json(sidecar, source | {"dtype": "uint16", "lines": lines, "documents": documents, "tokens": count})
    return np.memmap(tokens, np.uint16, "r")


def data_file(given: Path | str | None, name: str) -> Path:
    """The file given, or else the one web-crawler/ leaves, or else its namesake in the bundled sample."""
    path = Path(given or ROOT / "web-crawler" / name)
    if not given and not path.exists():
        print(f"no {path}: the bundled sample stands in for it; web-crawler/ gets it", file=sys.stderr)
        path = ROOT / "web-crawler/sample" / path.name
    return path


def corpus_rows(texts: list, tokenizer: Tokenizer, length: int) -> Array:
    """The texts as one uint16 array of full rows, length−2 tokens each; [CLS] and [SEP] go around them."""
    files = [token_file(text, tokenizer) for text in texts]
    rows = [tokens[: len(tokens) // (length - 2) * (length - 2)].reshape(-1, length - 2) for tokens in files]
    if sum(map(len, rows)) < 2:
        raise UserError(f"{texts[0]}: too short for two rows of --max_seq_length {length}")
    return rows[0] if len(rows) == 1 else np.concatenate(rows)


def read_reviews(path: Path | str, limit: int | None = None) -> tuple[Array, Array]:
    """(texts, labels) of a file in NSMC's format: tab-separated, with the columns document and label. Two
    layers of CSV quotes come off documents that hold a quote. UserError, with the line, for what is amiss."""
    import pandas  # here, because --help and pretraining need not wait for it
    try:
        table = pandas.read_csv(path, sep="\t", dtype=str, quoting=3, keep_default_na=False, nrows=limit,
                                skip_blank_lines=False, encoding="utf-8-sig")
    except ValueError as error:  # pandas' own, or UnicodeDecodeError
        raise UserError(f"{path}: not a readable table ({str(error).splitlines()[0]})") from None
    if missing := {"document", "label"} - set(table.columns):
        raise UserError(f"{path}, line 1: lacks the tab-separated column {' and '.join(sorted(missing))}")
    if not isinstance(table.index, pandas.RangeIndex):  # what has no name was taken for one
        raise UserError(f"{path}, line 2: more tabs than in line 1")
    for i in np.flatnonzero(~table["label"].isin(["0", "1"])):
        raise UserError(f"{path}, line {i + 2}: the label must be 0 or 1, not {table['label'][i]!r}")
    if len(table) < 2:
        raise UserError(f"{path}: fewer than two reviews in it")
    texts = table["document"]
    for _ in range(2):
        texts = texts.mask(texts.str.fullmatch('".*"'), texts.str[1:-1].str.replace('""', '"'))
    return texts.to_numpy(object), table["label"].to_numpy(np.int64)


# ---- 6. Batches --------------------------------------------------------------------------------------------
def choose_tokens(ids: Array, tokenizer: Tokenizer, share: float, rng: Generator) -> Array:
    """Marks `share` of each row's ordinary tokens at random, an exact count and at least one: bool [B, T]."""
    ordinary = ~tokenizer.is_special[ids]
    count = np.maximum(1, np.rint(share * ordinary.sum(1, keepdims=True)))  # [B, 1]
    draw = np.where(ordinary, rng.random(ids.shape), 1)  # [B, T] special ones come last
    rank = draw.argsort(axis=1).argsort(axis=1)  # [B, T] the place of each draw in its row's order
    return ordinary & (rank < count)


def mask_rows(rows: Array, tokenizer: Tokenizer, share: float, rng: Generator, mask_share: float,
              random_share: float) -> dict[str, Tensor]:
    """Dynamic masking of corpus rows: input_ids and labels, int64 [B, T], labels -100 where nothing is asked;
    positions of the labels, int64 [M], of one length for batches of one shape (see ConvBertForMaskedLM).
    Of the chosen tokens mask_share become [MASK], random_share an ordinary token at random, the rest stay."""
    ids = np.pad(rows.astype(int), ((0, 0), (1, 1)), constant_values=[(0, 0), (tokenizer.cls, tokenizer.sep)])
    chosen = choose_tokens(ids, tokenizer, share, rng)
    draw = rng.random(ids.shape)  # one draw splits the chosen three ways
    inputs = np.where(chosen & (draw < mask_share), tokenizer.mask, ids)
    randoms = rng.choice(np.flatnonzero(~tokenizer.is_special), ids.shape)
    inputs = np.where(chosen & (draw >= 1 - random_share), randoms, inputs)
    found, most = np.flatnonzero(chosen), len(ids) * max(1, round(share * rows.shape[1]))
    positions = np.pad(found, (0, most - len(found)))  # special tokens leave less: 0 is a [CLS], unlabelled
    arrays = {"input_ids": inputs, "labels": np.where(chosen, ids, IGNORE), "positions": positions}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def bucketed(lengths: Array, batch_size: int, rng: Generator, window: int = 50) -> list:
    """Indices in batches of like length: shuffled, sorted within windows of 50 batches, batches shuffled."""
    order, step = rng.permutation(len(lengths)), window * batch_size
    windows = np.split(order, range(step, len(order), step))
    order = np.concatenate([part[np.argsort(lengths[part], kind="stable")] for part in windows])
    batches = np.split(order, range(batch_size, len(order), batch_size))
    return [batches[i] for i in rng.permutation(len(batches))]


class Reviews:
    """Encoded texts, cut to max_seq_length with [CLS] and [SEP], and their labels."""

    def __init__(self, texts: Iterable[str], labels: Array | list, tokenizer: Tokenizer, max_seq_length: int,
                 pad_to_multiple_of: int = 1):
        self.ids = [torch.tensor([tokenizer.cls, *ids[: max_seq_length - 2], tokenizer.sep])
                    for ids in tokenizer.encode(list(texts))]
        self.labels, self.pad, self.multiple = torch.as_tensor(labels), tokenizer.pad, pad_to_multiple_of
        self.lengths = np.array([len(ids) for ids in self.ids])

    def batch(self, indices: Array) -> dict[str, Tensor]:
        """Padded to the longest: input_ids, attention_mask [B, T], labels [B]."""
        ids = pad_sequence([self.ids[i] for i in indices], batch_first=True, padding_value=self.pad)
        ids = F.pad(ids, (0, -ids.size(1) % self.multiple), value=self.pad)
        return {"input_ids": ids, "attention_mask": (ids != self.pad).long(), "labels": self.labels[indices]}


# ---- 7. Optimisation ---------------------------------------------------------------------------------------
def make_optimizer(model: ConvBertPreTrainedModel, args: Namespace) -> Optimizer:
    """AdamW; biases and LayerNorms are not decayed, layer_decay < 1 slows lower layers down as in ELECTRA."""
    groups: dict[tuple, dict] = {}
    top = model.config.num_hidden_layers + 2
    for name, parameter in model.named_parameters():
        decay = 0.0 if name.endswith("bias") or "LayerNorm" in name else args.weight_decay
        layer = name.partition("encoder.layer.")[2].partition(".")[0]
        depth = int(layer) + 1 if layer else 0 if "embeddings" in name else top
        key = {"weight_decay": decay, "scale": args.layer_decay ** (top - depth)}
        groups.setdefault(tuple(key.values()), {"params": []} | key)["params"].append(parameter)
    return AdamW(list(groups.values()), eps=1e-6, fused=args.device.type in ("cpu", "cuda"))


def schedule(args: Namespace, state: dict) -> tuple[float, float]:
    """(share of the run that is over, learning rate of the coming step): linear warmup, linear decay to 0."""
    by_step = (state["step"] + 0.5) / (args.max_steps or 1)  # the middle of the step
    over = state["seconds"] / (60 * args.max_minutes) if args.max_minutes else by_step
    factor = over / args.warmup_ratio if over < args.warmup_ratio else (1 - over) / (1 - args.warmup_ratio)
    return min(over, 1.0), args.learning_rate * factor


def run_model(model: nn.Module, batch: dict[str, Tensor], args: Namespace) -> ModelOutput:
    """The model's output for a batch, on the device and in the precision of the run."""
    with torch.autocast(args.device.type, torch.bfloat16, enabled=args.precision == "bf16"):
        return model(**{name: tensor.to(args.device, non_blocking=True) for name, tensor in batch.items()})


class Gradients:
    """gradients(batch, seed) adds those of the loss to .grad and returns the loss, as its share of an update.
    On a GPU both passes are recorded for every shape of batch and then replayed (a CUDA graph): launching
    their thousands of kernels one by one takes the CPU longer than it takes to run them."""

    def __init__(self, model: nn.Module, args: Namespace):
        self.args, self.replay = args, args.device.type == "cuda" and WORLD == 1
        self.replays: dict[tuple, Callable] = {}
        for layer in model.modules():  # one by one: what is compiled for a layer serves all of its shape
            if args.compile and isinstance(layer, ConvBertLayer):
                layer.compile(dynamic=False)
        for parameter in model.parameters() if self.replay else ():
            parameter.grad = torch.zeros_like(parameter)  # where what is recorded will always write
        self.model = nn.parallel.DistributedDataParallel(model) if WORLD > 1 else model

    def __call__(self, batch: dict[str, Tensor], seed: int) -> Tensor:
        shapes = tuple(tensor.shape for tensor in batch.values())
        if self.replay and shapes not in self.replays:
            self.replays[shapes] = runs.record(self.loss, batch, self.args.device, self.model.parameters())
        torch.manual_seed(seed)  # of dropout and sampling
        if self.replay:
            return self.replays[shapes](batch)
        loss = self.loss(batch)
        loss.backward()
        return loss.detach()

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        self.model.train(self.args.task == "finetune")  # for dropout: there is none in pretraining
        return run_model(self.model, batch, self.args).loss * WORLD / self.args.gradient_accumulation_steps

    def zero(self) -> None:
        self.model.zero_grad(set_to_none=not self.replay)


def training_step(gradients: Gradients, optimizer: Optimizer, batches: list, step: int) -> float:
    """One update from this process's batches; returns their loss, or raises UserError if it is not finite."""
    first = gradients.args.seed * 1_000_003 + (step * WORLD + RANK) * len(batches)  # one for each batch
    losses = [gradients(batch, seed).clone() for seed, batch in enumerate(batches, first)]
    norm = nn.utils.clip_grad_norm_(gradients.model.parameters(), 1.0)
    optimizer.step()
    gradients.zero()
    loss, norm = torch.stack([torch.stack(losses).sum(), norm]).tolist()  # here the CPU waits for the GPU
    if not math.isfinite(loss + norm):
        raise UserError(f"step {step + 1}: loss {loss}, gradient norm {norm}; the last checkpoint is kept")
    return loss


# ---- 8. The loop of both trainings -------------------------------------------------------------------------
def settle(args: Namespace, config: ConvBertConfig, updates: float) -> None:
    """What depends on the number of updates in an epoch, and on the model, where no option says it."""
    epochs, least = (args.num_train_epochs, 1) if args.num_train_epochs else (args.epochs, args.least)
    args.max_steps = args.max_steps or max(least, math.ceil(epochs * updates))
    args.eval_steps = args.eval_steps or math.ceil(updates)
    args.learning_rate = args.learning_rate or args.rate / config.hidden_size


def train(args: Namespace, model: ConvBertPreTrainedModel, epoch_of: Callable, batch_of: Callable,
          evaluate: Callable) -> dict:
    """Runs the schedule, from the last checkpoint of the same run if there is one; returns the final state.
    epoch_of(rng) gives an epoch's batches as index arrays, batch_of(indices, rng) the tensors of one; rng is
    seeded by --seed and the number of the epoch or batch: a resumed run draws the same. evaluate: scores."""
    order = functools.lru_cache(maxsize=1)(lambda epoch: epoch_of(np.random.default_rng([args.seed, epoch])))
    accumulate, per_epoch = args.gradient_accumulation_steps, len(order(0))
    settle(args, model.config, per_epoch / accumulate)
    optimizer, pad = make_optimizer(model, args), model.config.pad_token_id

    def batches_of(step: int) -> list:
        numbers = step * accumulate + np.split(np.arange(accumulate), WORLD)[RANK]  # this process's share
        rngs = [np.random.default_rng([args.seed, n, 1]) for n in numbers]
        return [batch_of(order(n // per_epoch)[n % per_epoch], rng) for n, rng in zip(numbers, rngs)]

    state = runs.find_state(args, model.config)
    if "model" in state:
        model.load_state_dict(state.pop("model"))
        optimizer.load_state_dict(state.pop("optimizer"))
    runs.mean_over_processes(0, device=args.device)  # all have read the folder before process 0 changes it
    log = open(os.devnull, "w") if RANK else runs.open_log(args, state)  # noqa: SIM115
    stop = runs.catch_signals()  # the loop saves and leaves at the end of a step
    gradients = Gradients(model, args)
    if args.compile:  # takes a minute that shall not count, least of all as warmup
        gradients(batches_of(state["step"])[0], args.seed)
        gradients.zero()
    if not state["evals"]:  # nor shall this
        runs.keep_score(evaluate, model, state, log)
    background = ThreadPoolExecutor(1)  # makes the batches of the next step during this one
    coming = background.submit(batches_of, state["step"])
    began, (over, rate) = time.perf_counter() - state["seconds"], schedule(args, state)
    bar = tqdm(total=1.0, initial=over, desc=args.task, mininterval=1 if sys.stderr.isatty() else 30,
               bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining} {postfix}")
    with bar, log:
        while over < 1:
            for group in optimizer.param_groups:
                group["lr"] = rate * group["scale"]
            batches, coming = coming.result(), background.submit(batches_of, state["step"] + 1)
            tokens = sum(batch["input_ids"].ne(pad).sum().item() for batch in batches) * WORLD
            loss = training_step(gradients, optimizer, batches, state["step"])
            loss, tokens, seconds, leave = runs.mean_over_processes(
                loss, tokens, time.perf_counter() - began, len(stop), device=args.device)
            state["losses"].append(loss)
            state |= {"step": state["step"] + 1, "tokens": state["tokens"] + tokens, "seconds": seconds}
            used, (over, rate), step = rate, schedule(args, state), state["step"]
            bar.update(over - bar.n)
            if over == 1 or step % args.logging_steps == 0:
                bar.set_postfix_str(text := runs.keep_metrics(state, used, log), refresh=False)
                setproctitle(f"convbert {args.task} step {step} {text}")
            if over == 1 or step % args.eval_steps == 0:
                runs.keep_score(evaluate, model, state, log)
            if over == 1 or leave or step % args.save_steps == 0:
                if RANK == 0:
                    runs.save_checkpoint(args, model, optimizer, state)
                if leave and over < 1:
                    runs.leave(stop, step)
    runs.release_signals()
    if RANK:  # the rest is for process 0 alone
        raise SystemExit(0)
    return state


# ---- 9. Tasks ----------------------------------------------------------------------------------------------
def make_model(cls: type[ConvBertPreTrainedModel], args: Namespace) -> tuple:
    """(model, tokenizer) by --model_name_or_path, --size or --config_name. UserError if they do not fit."""
    torch.manual_seed(args.seed)
    tokenizer = Tokenizer(args.vocab_file)
    if args.model_name_or_path is not None:
        model = cls.from_pretrained(args.model_name_or_path, new_head=args.task in ("pretrain", "finetune"))
    elif args.size:
        model = cls(ConvBertConfig(vocab_size=tokenizer.size, pad_token_id=tokenizer.pad, **SIZES[args.size]))
    else:
        model = cls(ConvBertConfig.from_pretrained(args.config_name or ROOT / "config.json"))
    if (size := model.config.vocab_size) != tokenizer.size:
        raise UserError(f"--vocab_file {args.vocab_file}: {tokenizer.size} pieces, but the model has {size}")
    if args.max_seq_length > (most := model.config.max_position_embeddings):
        raise UserError(f"--max_seq_length {args.max_seq_length}: the model has only {most} positions")
    return model.to(args.device), tokenizer


def pretrain(args: Namespace) -> None:
    """Masked language modelling or replaced token detection, on rows masked anew each time they come up."""
    B, mlm = args.batch_size, args.objective == "mlm"
    model, tokenizer = make_model(ConvBertForMaskedLM if mlm else ConvBertForPreTraining, args)
    args.corpus = args.corpus or [data_file(None, "kowiki/kowiki.txt")]
    rows = corpus_rows(args.corpus, tokenizer, args.max_seq_length)[: args.max_train_samples]
    if args.valid_file:
        valid = corpus_rows([args.valid_file], tokenizer, args.max_seq_length)
    else:  # the last twentieth, at most 1,000 rows, is held out
        rows, valid = np.split(rows, [-min(1000, max(1, len(rows) // 20))])
    valid = valid[: args.max_eval_samples]
    mask = functools.partial(mask_rows, tokenizer=tokenizer, mask_share=0.8 if mlm else 0.85,
                             random_share=0.1 if mlm else 0.0)  # as BERT does, as ELECTRA does

    @torch.no_grad()
    def evaluate(model: nn.Module) -> dict:  # always with the same 15 % masked, whatever the batch_size
        model.eval()
        torch.manual_seed(0)
        losses: list[float] = []
        for part in np.split(valid, range(16, len(valid), 16)):
            batch = mask(part, share=0.15, rng=np.random.default_rng(len(losses)))
            losses += [run_model(model, batch, args).loss.item()] * len(part)
        return {"eval_loss": float(np.mean(losses)), "eval_samples": len(valid)}

    def epoch_of(rng: Generator) -> list:  # all of one shape, which is compiled and recorded once
        batches = bucketed(np.zeros(len(rows)), B, rng)
        return [batch for batch in batches if len(batch) == B] or batches

    state = train(args, model, epoch_of,
                  lambda indices, rng: mask(rows[indices], share=args.mlm_probability, rng=rng), evaluate)
    first, last = state["evals"][0], state["evals"][-1]
    runs.finish(args, model, state, {"eval_loss_at_start": first["eval_loss"]} | last)


@torch.no_grad()
def classify(model: nn.Module, reviews: Reviews, args: Namespace) -> Tensor:
    """Logits of all the reviews, in their order: [n, 2]."""
    model.eval()
    order = np.argsort(reviews.lengths, kind="stable")
    parts = np.split(order, range(args.batch_size, len(order), args.batch_size))
    logits = torch.cat([run_model(model, reviews.batch(part), args).logits.cpu() for part in parts])
    return logits[torch.from_numpy(np.argsort(order))]


def score_reviews(model: nn.Module, reviews: Reviews, args: Namespace) -> dict:
    """Accuracy, F1 of label 1, loss, count, and the confusion matrix with a row for each true label."""
    logits, labels = classify(model, reviews, args), reviews.labels
    tn, fp, fn, tp = torch.bincount(labels * 2 + logits.argmax(-1), minlength=4).tolist()
    return {"eval_accuracy": (tn + tp) / len(labels), "eval_f1": 2 * tp / max(1, 2 * tp + fp + fn),
            "eval_loss": F.cross_entropy(logits, labels).item(), "eval_samples": len(labels),
            "confusion_matrix": [[tn, fp], [fn, tp]]}


def hold_out(count: int, seed: int) -> tuple[Array, Array]:
    """Of the indices below count, those to train on and a random twentieth (50 to 5,000, at most half)."""
    order = np.random.default_rng(seed).permutation(count)
    cut = min(5000, max(50, count // 20), count // 2)
    return order[cut:], order[:cut]


def finetune(args: Namespace) -> None:
    """Sentiment of reviews; those held out of the training file pick the best of the evaluated models."""
    model, tokenizer = make_model(ConvBertForSequenceClassification, args)
    encoded = functools.partial(Reviews, tokenizer=tokenizer, max_seq_length=args.max_seq_length,
                                pad_to_multiple_of=8 if args.device.type == "cuda" else 1)  # few shapes
    args.train_file = data_file(args.train_file, "nsmc/ratings_train.txt")
    texts, labels = read_reviews(args.train_file, args.max_train_samples)
    reviews, dev = (encoded(texts[part], labels[part]) for part in hold_out(len(texts), args.seed))
    test = encoded(*read_reviews(data_file(args.test_file, "nsmc/ratings_test.txt"), args.max_eval_samples))
    state = train(args, model, lambda rng: bucketed(reviews.lengths, args.batch_size, rng),
                  lambda indices, rng: reviews.batch(indices), lambda model: score_reviews(model, dev, args))
    model.load_state_dict(state["best"]["model"])
    picked = {"dev_accuracy": state["best"]["eval_accuracy"], "step": state["best"]["step"]}
    runs.finish(args, model, state, picked | score_reviews(model, test, args))


def evaluate(args: Namespace) -> None:
    """Scores a fine-tuned model on the test file."""
    model, tokenizer = make_model(ConvBertForSequenceClassification, args)
    test = read_reviews(data_file(args.test_file, "nsmc/ratings_test.txt"), args.max_eval_samples)
    scores = score_reviews(model, Reviews(*test, tokenizer, args.max_seq_length), args)
    write_json(args.output_dir / "eval_results.json", scores)
    print(json.dumps(scores))


def predict(args: Namespace) -> None:
    """One JSON object a line for every --text, or line of stdin: text, label, score (its probability)."""
    model, tokenizer = make_model(ConvBertForSequenceClassification, args)
    sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")  # type: ignore[union-attr]
    texts = [text.rstrip("\n").encode(errors="replace").decode() for text in args.text or sys.stdin]
    reviews = Reviews(texts, [0] * len(texts), tokenizer, args.max_seq_length)  # the labels are not known
    for text, p in zip(texts, classify(model, reviews, args).softmax(-1).tolist() if texts else []):
        score = {"label": LABELS[p.index(max(p))], "score": max(p)}
        print(json.dumps({"text": text} | score, ensure_ascii=False))


def visualize(args: Namespace) -> None:
    """Draws for every --text what both halves of mixed attention look at in --layer."""
    model, tokenizer = make_model(ConvBertModel, args)
    layer = args.layer or model.config.num_hidden_layers
    if not args.text or layer > model.config.num_hidden_layers:
        raise UserError(f"visualize needs --text, and a --layer from 1 to {model.config.num_hidden_layers}")
    for n, ids in enumerate(Reviews(args.text, [0] * len(args.text), tokenizer, args.max_seq_length).ids, 1):
        path = args.output_dir / f"layer-{layer}-text-{n}.png"
        pictures.mixed_attention(model.eval(), ids, [tokenizer.pieces[i] for i in ids], layer, path)
        print(path)


# ---- 10. Command line --------------------------------------------------------------------------------------
TASKS = {task.__name__: task for task in (pretrain, finetune, evaluate, predict, visualize)}
DEFAULTS: dict[str, Any] = {  # by task; a run given no length takes epochs, but at least so many steps
    "pretrain": dict(rate=0.256, layer_decay=1.0, batch_size=16, eval_steps=500, epochs=1, least=100),
    "finetune": dict(rate=0.1024, layer_decay=0.9, epochs=2, least=600, model_name_or_path="runs/pretrain"),
} | {task: dict(model_name_or_path="runs/finetune") for task in ("evaluate", "predict", "visualize")}
RANGES = {"seed": (0, 1e9), "max_seq_length": (8, 1e5), "max_train_samples": (2, 1e9),
          "warmup_ratio": (0, 0.99), "mlm_probability": (0.01, 0.9), "weight_decay": (0, 1)}


def parse_options() -> Namespace:
    def fail(message: str) -> NoReturn:  # in one line, without the usage
        raise UserError(" ".join(message.split()))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.error, add = fail, parser.add_argument  # type: ignore[method-assign]
    add("--task", choices=TASKS, required=True, help="What to do.")
    add("--seed", type=int, default=42, help="Decides initial weights, order, masks and dropout.")
    add("--device", help="cpu, cuda or mps; the best there is if not given.")
    add("--precision", choices=("auto", "fp32", "bf16"), default="auto", help="auto: bf16 where it is fast.")
    add("--num_threads", type=int, help="CPU threads; all cores if not given.")
    add("--compile", action="store_true", help="Pretrains faster on a GPU, after a minute of torch.compile.")
    add = parser.add_argument_group("model, one of").add_mutually_exclusive_group().add_argument
    add("--model_name_or_path", help="Model folder to start from; default runs/pretrain or runs/finetune.")
    add("--config_name", help="The config.json of a new model; default the one beside this file.")
    add("--size", choices=SIZES, help="Makes a new model of a published size.")
    add = parser.add_argument_group("data").add_argument
    add("--vocab_file", default=ROOT / "vocab/kowiki.model", help="The SentencePiece model.")
    add("--corpus", action="append", help="Text to pretrain on; may be repeated.")
    add("--valid_file", help="Held-out text to pretrain by; a part of the corpus if not given.")
    add("--train_file", help="Reviews to fine-tune on, in NSMC's format.")
    add("--test_file", help="Reviews to test on.")
    add("--text", action="append", help="A text to predict (else stdin) or visualize; may be repeated.")
    add("--layer", type=int, help="The layer to visualize, from 1; the last if not given.")
    add("--max_seq_length", type=int, default=128, help="Tokens in a row of text or, at most, in a review.")
    add("--max_train_samples", type=int, help="Uses only the first so many training rows or reviews.")
    add("--max_eval_samples", type=int, help="Uses only the first so many held-out rows, or test reviews.")
    add = parser.add_argument_group("training").add_argument
    add("--objective", choices=("mlm", "rtd"), default="mlm", help="Masked LM or replaced token detection.")
    add("--mlm_probability", type=float, default=0.3, help="Share of tokens to be predicted.")
    add("--batch_size", type=int, help="Rows or reviews in a batch; 16 to pretrain, otherwise 32.")
    add("--gradient_accumulation_steps", type=int, default=1, help="Batches in an update.")
    add("--learning_rate", type=float, help="Peak; 0.256/H to pretrain (rtd: half), 0.1024/H to fine-tune.")
    add("--warmup_ratio", type=float, default=0.1, help="Share of the run in which the rate rises.")
    add("--weight_decay", type=float, default=0.01, help="AdamW's; spares biases and LayerNorms.")
    add("--layer_decay", type=float, help="Learning rate of a layer over that of the next; 0.9 to fine-tune.")
    add = parser.add_argument_group("length of the run, one of").add_mutually_exclusive_group().add_argument
    add("--max_steps", type=int, help="Updates.")
    add("--num_train_epochs", type=float, help="Passes over the data; 1 or, to fine-tune, 2.")
    add("--max_minutes", type=float, help="Minutes; the learning rate reaches 0 as they end.")
    add = parser.add_argument_group("output").add_argument
    add("--output_dir", type=Path, help="Folder for model, checkpoints and results; default runs/TASK.")
    add("--overwrite_output_dir", action="store_true", help="Starts anew in a folder that holds a run.")
    add("--resume", action=argparse.BooleanOptionalAction, default=True, help="Goes on from a checkpoint.")
    add("--logging_steps", type=int, default=10, help="Updates between lines of metrics.jsonl.")
    add("--eval_steps", type=int, help="Updates between evaluations; 500 or, to fine-tune, an epoch.")
    add("--save_steps", type=int, default=500, help="Updates between checkpoints.")
    add("--save_total_limit", type=int, default=2, help="Checkpoints to keep.")
    args = parser.parse_args()
    for name, value in vars(args).items():
        low, high = RANGES.get(name, (1 if type(value) is int else 1e-12, 2**31))
        if type(value) in (int, float) and not low <= value <= high:
            raise UserError(f"--{name} {value}: not between {low} and {high}")
    return args


def fill_in(args: Namespace) -> None:
    """Settles what depends on the task and on the files there are."""
    defaults = {"output_dir": Path("runs") / args.task, "batch_size": 32} | DEFAULTS.get(args.task, {})
    if args.task == "finetune" and (args.size or args.config_name):
        del defaults["model_name_or_path"]  # a new model
    if args.task == "pretrain" and args.objective == "rtd":
        defaults["rate"] = 0.128  # as in ELECTRA; twice as much has gone wrong
    if args.compile and args.task != "pretrain":
        raise UserError("--compile: only for --task pretrain, whose batches have one shape")
    new = not (args.config_name or args.model_name_or_path or "model_name_or_path" in defaults)
    real = "kowiki/kowiki.txt" if args.task == "pretrain" else "nsmc/ratings_train.txt"
    if new and not (args.corpus or args.train_file or Path(ROOT, "web-crawler", real).exists()):
        defaults["size"] = "tiny"  # all that the bundled sample can teach
    vars(args).update({name: value for name, value in defaults.items() if getattr(args, name, None) is None})


def main() -> None:
    with runs.one_line_errors():
        args = parse_options()
        fill_in(args)
        runs.choose_hardware(args)
        setproctitle(f"convbert {args.task}")
        TASKS[args.task](args)


if __name__ == "__main__":
    main()
