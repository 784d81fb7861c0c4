"""Pictures of a run and of what a model looks at. convbert.py trains without matplotlib and
tensorboard, too.

    curves.png, confusion_matrix.png  loss, accuracy, learning rate; the test set  needs matplotlib
    tensorboard/                      the same numbers, for TensorBoard            needs tensorboard
    mixed_attention()                 both halves of mixed attention, for one text needs matplotlib
Letters as in convbert.py: T tokens, N heads in each half, K neighbours, p = (K−1)/2.
"""

import contextlib
import functools
import json
import math
import os
import shutil
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:  # matplotlib may be missing, and nothing here needs convbert.py to run
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from convbert import ConvBertModel

BLUE, ORANGE, GREY = "#1f5fa8", "#d9631e", "#70757a"
FONTS = ("NanumGothic.", "NotoSansCJK-Regular", "NotoSansKR", "AppleSDGothicNeo",
         "malgun.")  # best first


@contextlib.contextmanager
def drawing(path: Path, width: float, height: float) -> Iterator["Figure"]:
    """Yields a matplotlib Figure, in inches; it is written to path, whole or not at all, at
    the end."""
    from matplotlib.figure import Figure  # without pyplot: no window, no global state
    yield (figure := Figure((width, height), dpi=150, layout="constrained"))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(f"{path}.tmp")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # what no font holds is drawn as a box
        figure.savefig(temporary, format="png", bbox_inches="tight")
    os.replace(temporary, path)


# ---- Mixed attention -----------------------------------------------------------------------------
@torch.no_grad()
def look(model: "ConvBertModel", ids: Sequence[int] | torch.Tensor, layer: int) -> tuple:
    """What layer 1, 2, ... of a ConvBertModel in eval mode looks at in the token ids [T] of a text:
    attention [N, T, T] and kernels [N, T, K], each row a distribution; kernels is None for
    noconv."""
    layers: Any = model.encoder.layer  # PyTorch's hints know no more than that it is a Module
    mixed = layers[layer - 1].attention.self
    seen: list[torch.Tensor] = []
    hook = mixed.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    model(torch.as_tensor(ids, device=next(model.parameters()).device)[None])
    hook.remove()
    x = seen[0]  # [1, T, H]
    q, k = mixed.split_heads(mixed.query(x)), mixed.split_heads(mixed.key(x))  # [1, N, T, D]
    attention = mixed.attention(q, k, None)[0].cpu().numpy()  # [N, T, T]
    if mixed.branches == 1:  # attention alone
        return attention, None
    kernels = mixed.kernel_logits(x, q, mixed.conv_values(x)).softmax(-1)  # [1, N, T, K]
    return attention, kernels[0].cpu().numpy()


def mixed_attention(model: "ConvBertModel", ids: Sequence[int] | torch.Tensor, pieces: list[str],
                    layer: int, path: Path) -> None:
    """Draws look(model, ids, layer), with the SentencePiece pieces of the T tokens as labels: in
    every map a row for the token that looks; beside each head of attention the convolution of the
    same number."""
    attention, kernels = look(model, ids, layer)
    (N, T), K = attention.shape[:2], 0 if kernels is None else kernels.shape[-1]
    if K:
        neighbour = np.arange(T)[:, None] + np.arange(K) - K // 2  # [T, K]
        kernels = np.where((neighbour >= 0) & (neighbour < T), kernels, np.nan)
    across = math.ceil(math.sqrt(N / 2))  # heads side by side
    down, cell = math.ceil(N / across), min(0.25, 10 / T)  # inches
    font = dict(fontfamily=label_fonts(), fontsize=min(9, 44 * cell))
    size = cell * (T + K) + (4 if K else 2.5), cell * T + 1.5
    with drawing(path, across * size[0], down * size[1] + 0.4) as figure:
        figure.suptitle(f"Mixed attention, layer {layer} of {model.config.num_hidden_layers}",
                        weight="bold")
        parts = figure.subfigures(down, across, squeeze=False).flat
        for head, part in zip(range(N), parts):
            left, *right = np.atleast_1d(
                part.subplots(1, 2 if K else 1, width_ratios=(T, K) if K else None))
            weight_map(left, attention, head, "Blues", pieces, font)
            left.set(title=f"Attention, head {head + 1}")
            left.set_xticks(np.arange(T) + 0.5, pieces, rotation=90, **font)
            for axes in right:
                weight_map(axes, kernels, head, "Oranges", pieces, font)
                axes.set(title=f"Kernel, head {head + 1}", xlabel="neighbour")
                steps = [f"{j:+d}".replace("-", "−") if j else "0"
                         for j in range(-(K // 2), K // 2 + 1)]
                axes.set_xticks(np.arange(K) + 0.5, steps, fontsize=font["fontsize"])


def weight_map(axes: "Axes", weights: np.ndarray, head: int, colours: str, pieces: list[str],
               font: dict) -> None:
    """One head of weights [N, T, ...], coloured on a scale common to all; grey is beyond the
    text."""
    mesh = axes.pcolormesh(weights[head], cmap=colours, vmin=0, vmax=np.nanmax(weights),
                           edgecolors="white", linewidth=0.4)
    axes.set(aspect="equal", facecolor="0.9")
    axes.invert_yaxis()  # the first token on top
    axes.set_yticks(np.arange(len(pieces)) + 0.5, pieces, **font)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = axes.figure.colorbar(mesh, ax=axes, shrink=0.8, aspect=25, pad=0.03)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, length=2)


@functools.cache
def label_fonts() -> list[str]:
    """Font families for pieces: one of the system's that holds Hangul, if any, and DejaVu Sans
    for ▁."""
    from matplotlib import font_manager, ft2font
    rank = lambda path: ([name in path for name in FONTS] + [True]).index(True)  # noqa: E731
    for path in sorted(sorted(font_manager.findSystemFonts()), key=rank):
        with contextlib.suppress(RuntimeError, OSError):  # nothing matplotlib can read
            font = ft2font.FT2Font(path)
            if font.get_char_index(ord("가")):
                font_manager.fontManager.addfont(path)  # its list may be older than the font
                return [font.family_name, "DejaVu Sans"]
    print("no font with Hangul found: its letters become boxes; install fonts-nanum or "
          "fonts-noto-cjk (Linux; macOS and Windows bring one)", file=sys.stderr)
    return ["DejaVu Sans"]


# ---- Runs ----------------------------------------------------------------------------------------
def read_metrics(folder: Path) -> list[dict]:
    """The records of a run's metrics.jsonl, in order."""
    return [json.loads(line)
            for line in Path(folder, "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def curves(folder: Path) -> None:
    """curves.png: loss, accuracy where there is one, and learning rate by step; and
    confusion_matrix.png."""
    records = read_metrics(folder)
    names = [name for name in ("loss", "eval_accuracy", "learning_rate")
             if any(name in r for r in records)]
    with drawing(Path(folder, "curves.png"), 8, 2.5 + 1.5 * len(names)) as figure:
        ratios = [3 if name == "loss" else 1 for name in names]
        rows = figure.subplots(len(names), 1, sharex=True, squeeze=False,
                               height_ratios=ratios)[:, 0]
        for axes, name in zip(rows, names):
            axes.set(ylabel=name.removeprefix("eval_").replace("_", " "))
            axes.grid(color="0.9")
            axes.spines[["top", "right"]].set_visible(False)
            plot(axes, records, name)
        rows[-1].set(xlabel="step")
        figure.align_ylabels()
    confusion_matrix(folder)


def plot(axes: "Axes", records: list[dict], name: str) -> None:
    """Draws a column of the records by step; for the loss also its running mean and eval_loss."""
    def points(name: str) -> np.ndarray:
        return np.array([(r["step"], r[name]) for r in records if name in r]).T.reshape(2, -1)
    steps, values = points(name)
    if name == "learning_rate":
        axes.plot(steps, values, color=GREY)
        axes.ticklabel_format(axis="y", scilimits=(0, 0))
    elif name == "eval_accuracy":
        axes.plot(steps, values, "o-", color=ORANGE, markersize=4)
        axes.annotate(f"{values.max():.4f}", (steps[values.argmax()], values.max()), (0, -14),
                      textcoords="offset points", ha="center", fontsize=9, color=ORANGE)
    else:
        width = 1 + len(values) // 50  # records in the running mean
        axes.plot(steps, values, color=BLUE, alpha=0.3 if width > 1 else 1, linewidth=0.8)
        mean = np.convolve(values, np.ones(width) / width, "valid")
        axes.plot(steps[width // 2 :][: len(mean)], mean, color=BLUE, label="training")
        axes.plot(*points("eval_loss"), "o-", color=ORANGE, markersize=4, label="evaluation")
        axes.legend(frameon=False)


def confusion_matrix(folder: Path) -> None:
    """confusion_matrix.png of eval_results.json, if there is such a matrix: counts and shares of
    each row."""
    scores = json.loads(Path(folder, "eval_results.json").read_text(encoding="utf-8"))
    if "confusion_matrix" not in scores:
        return
    counts = np.array(scores["confusion_matrix"])
    shares = counts / np.maximum(1, counts.sum(1, keepdims=True))
    config = json.loads(Path(folder, "config.json").read_text(encoding="utf-8"))
    labels = list(config["id2label"].values())
    C, few = len(labels), len(labels) < 4
    side = min(20.0, 2 + 0.9 * C)  # inches
    names = [name if len(name) <= 20 else name[:19] + "…" for name in labels]
    font: dict[str, Any] = dict(parse_math=False, fontsize=min(11, 900 / C))
    if not "".join(names).isascii():
        font["fontfamily"] = label_fonts()
    with drawing(Path(folder, "confusion_matrix.png"), side + 0.4, side) as figure:
        axes = figure.subplots()
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), share in np.ndenumerate(shares) if C <= 20 else ():
            axes.text(column, row, f"{counts[row, column]:,}\n{share:.1%}", ha="center",
                      va="center", fontsize=13 if few else 10,
                      color="white" if share > 0.5 else "black")
        axes.set_xticks(range(C), names, rotation=0 if few else 90, **font)
        axes.set_yticks(range(C), names, rotation=90 if few else 0, va="center", **font)
        axes.set(xlabel="predicted", ylabel="true")
        axes.set_title(f"accuracy {scores['eval_accuracy']:.4f}, F1 {scores['eval_f1']:.4f}",
                       fontsize=11)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)


def events(folder: Path) -> None:
    """tensorboard/: the numbers of metrics.jsonl as events, in place of an older set."""
    from torch.utils.tensorboard import SummaryWriter
    records = read_metrics(folder)
    path, temporary = Path(folder, "tensorboard"), Path(folder, "tensorboard.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    seconds, total = 0.0, max((r.get("seconds", 0) for r in records), default=0)
    began = Path(folder, "metrics.jsonl").stat().st_mtime - total
    with SummaryWriter(temporary) as writer:
        for record in records:
            seconds = record.get("seconds", seconds)  # evaluations have none of their own
            for name, value in record.items():
                if name not in ("step", "seconds") and isinstance(value, (int, float)):
                    tag = (name.replace("eval_", "eval/") if name.startswith("eval_")
                           else f"train/{name}")
                    writer.add_scalar(tag, value, record["step"], began + seconds)
    shutil.rmtree(path, ignore_errors=True)
    temporary.rename(path)


def of_run(folder: Path) -> None:
    """Curves and events of a finished run. Never fails: what goes wrong is one line on stderr."""
    for draw, hint in ((curves, f"pip install matplotlib would draw {folder}/curves.png"),
                       (events, "")):
        try:
            draw(folder)
        except ModuleNotFoundError:
            print(hint, end="\n" if hint else "", file=sys.stderr)
        except Exception as error:  # the training is done and saved
            reason = " ".join(str(error).split())
            print(f"{folder}: no {draw.__name__} ({type(error).__name__}: {reason})",
                  file=sys.stderr)
