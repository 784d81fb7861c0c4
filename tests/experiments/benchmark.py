"""Speed and memory beside Hugging Face's ConvBERT: python tests/experiments/benchmark.py

Side by side with `transformers` (HF), at the same sizes, batches and dropout; run by hand, not by pytest:
    train       an update of masked language modelling: random tokens, 15 % of them labelled, fused AdamW. The
                value is that of the median step; the first, in which memory is claimed, does not count.
                `each default`: each library at its own dropout for pretraining, 0 here and 0.1 in HF
    infer       the backbone without gradients, at fixed lengths and at those of reviews; padding is no token
    finetune    reviews/s over the same reviews in batches of 32, padded to their longest: ours in bucketed
                batches, HF's by its Trainer at its defaults, in random order. Encoding is not part of it
    operator    milliseconds of one forward and backward pass of an operator, in the form convbert.py has for
                CPUs and in a plain one. A product to width 1 follows the depthwise convolution in both
    profile     where the milliseconds of such an update go, by kind of operator, under PyTorch's profiler;
                also those of inference, and of an update of fine-tuning in our bucketed batches for both
Every measurement is a process of its own; the sides take turns for --rounds rounds; tables hold the median of
the rounds and, in brackets, their range. Both sides go through convbert.training_step and run_model (not HF's
Trainer), under the same autocast; ours is set up by runs.choose_hardware, as by the command line.
"HF compiled" is torch.compile's; the time that compiling takes does not count.

Memory of training, in MB. `resident`: the peak of the resident size above what is resident after a single row
of 32 tokens has been trained on and freed, so that the pages of libraries, and what they keep, count for
neither side, while weights, gradients and Adam's moments do. `tensors`: the most that tensors hold at a time,
by PyTorch's profiler (in the first round) or, on CUDA, by its allocator.

The GEMM bound is the speed of training if nothing but its arithmetic took time, at the rate that this machine
reaches with the matrices of a layer; each round measures that after the two sides. `share` is ours over it.
"""

import argparse
import ctypes
import functools
import gc
import importlib.metadata
import importlib.util
import itertools
import json
import math
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import convbert
import runs

Row = namedtuple("Row", "kind name size precision batch length dropout")  # dropout: of ours, of HF's
COMPILED = "train small 32x128 bf16 dropout 0.1"  # on a CPU compiling takes minutes: HF compiled in one row
CLASSES = {"train": "ConvBertForMaskedLM", "infer": "ConvBertModel",
           "finetune": "ConvBertForSequenceClassification", "profile": "ConvBertForMaskedLM",
           "profile infer": "ConvBertModel", "profile finetune": "ConvBertForSequenceClassification"}
PROFILES = "profile", "profile infer", "profile finetune"
GROUPS = {  # PyTorch's operators by a pattern; each belongs to the first that is found in its name
    "matrix products": "mm|linear",
    "convolution": "conv",
    "GELU": "gelu",
    "softmax": "softmax",
    "LayerNorm": "layer_norm",
    "drawing for dropout": "random|bernoulli|dropout",
    "AdamW, clipping": "adam|norm|foreach",
    "copies, casts, concatenation": "copy|clone|cat|pad|fill|zero",
    "the rest, mostly sums and products": "",
}


# ---- What is measured --------------------------------------------------------------------------------------
def shapes(size, options):
    """(batch, length) of the training rows; on a GPU as many rows as make up --tokens."""
    if options.device == "cpu":
        return [(32, 128), (8, 512)]
    tokens = options.tokens or (1 << 14 if size == "base" else 1 << 16)
    return [(tokens // length, length) for length in (128, 512)]


def make_rows(options):
    """All rows of the tables, in their order. Length None: that of reviews."""
    sizes = [options.size] if options.size else ["small", "base"]
    size, (B, T), rows = sizes[0], shapes(sizes[0], options)[0], []

    def add(kind, what, size, precision, B, T, p=(0.1, 0.1), note=""):
        name = f"{kind} {what or size} {B}x{T or 'reviews'} {precision}{note}"
        rows.append(Row(kind, name, size, precision, B, T, p))

    add("train", "", size, "bf16", B, T, (0.0, 0.1), " each default")
    for s, precision in itertools.product(sizes, ("bf16", "fp32")):
        for (B, T), p in itertools.product(shapes(s, options), (0.1, 0.0)):
            add("train", "", s, precision, B, T, (p, p), f" dropout {p:g}")
    large = 64 if options.device == "cpu" else shapes(size, options)[0][0]
    for B, T in itertools.product((large, 1), (128, None)):
        add("infer", "", size, "bf16", B, T)
    add("finetune", "", size, "bf16", 32, None)
    for name, (B, T) in itertools.product(("convolution", "depthwise", "attention"), shapes(size, options)):
        add("operator", name, size, "bf16", B, T)
    add("profile", "", size, "bf16", *shapes(size, options)[0])
    add("profile infer", "", size, "bf16", large, 128)
    add("profile finetune", "", size, "bf16", 32, None)
    return rows


def sides_of(row, options):
    """The measurements of a row, in their turns."""
    sides = ["ours", "plain" if row.kind == "operator" else "hf"]
    if options.compile and row.kind in ("train", "infer") and row.length:
        sides += ["ours compiled", "hf compiled"]
    elif row.name == COMPILED and options.device == "cpu":
        sides.append("hf compiled")
    return [*sides, "gemm"] if row.kind == "train" else sides


def flop_per_token(config, T):
    """Floating point operations of training on a token: two a multiply-add, and backward twice of forward."""
    H, K, E = config.hidden_size, config.conv_kernel_size, config.embedding_size
    A = config.num_heads * config.head_size
    attention = 3 * H * A + 2 * T * A  # query, key, value; scores and their sum of values
    convolution = H * A + H * K + H * A + A * config.num_heads * K + A * K  # values, span key, kernels, taps
    layer = attention + convolution + 2 * A * H + 2 * H * config.intermediate_size // config.num_groups
    head = 0.15 * (H * E + E * config.vocab_size)  # only labelled positions need it
    return 3 * 2 * (config.num_hidden_layers * layer + E * H * (E != H) + head)


# ---- Tools -------------------------------------------------------------------------------------------------
def seconds_of(work, device):
    """Seconds that work() takes: by CUDA's events on a GPU, else by the clock."""
    if device.type != "cuda":
        begin = time.perf_counter()
        work()
        return time.perf_counter() - begin
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    work()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1000


def resident(field):
    """VmRSS, the resident size of this process, or VmHWM, its peak so far, in MB; NaN where Linux is not."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return math.nan
    return int(re.search(rf"{field}:\s+(\d+) kB", status)[1]) / 1024


def tensor_peak(run):
    """The most that the tensors made in run() hold at a time, in MB."""
    cpu = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=cpu, profile_memory=True) as profile:
        run()
    with tempfile.TemporaryDirectory() as folder:
        profile.export_chrome_trace(f"{folder}/trace.json")
        events = json.loads(Path(folder, "trace.json").read_text())["traceEvents"]
    return max(e["args"]["Total Allocated"] for e in events if e["name"] == "[memory]") / 2**20


def make_args(row, side, options):
    """What convbert's functions want to know, after the process has been set up for its side."""
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = True  # for both sides
    args = SimpleNamespace(device=torch.device(options.device), precision=row.precision, num_threads=None,
                           seed=0, gradient_accumulation_steps=1, weight_decay=0.01,
                           task="finetune",  # with dropout, where the row has some
                           layer_decay=0.8 if row.kind.endswith("finetune") else 1.0)
    if not side.startswith("hf"):  # operators and GEMM too: neither form of them is to pay for fresh memory
        runs.choose_hardware(args)  # among the rest, it has glibc keep what is freed
    return args


def make_config(row, side):
    p = row.dropout[side.startswith("hf")]
    dropout = dict(hidden_dropout_prob=p, attention_probs_dropout_prob=p)
    return convbert.ConvBertConfig(**convbert.SIZES[row.size] | dropout)


def make_model(row, side, args):
    """The model of a side, on its device."""
    config, name = make_config(row, side), CLASSES[row.kind]
    if side.startswith("ours"):
        return getattr(convbert, name)(config).to(args.device)
    import transformers

    theirs = transformers.ConvBertConfig()
    for field, value in vars(config).items():
        if hasattr(theirs, field):
            setattr(theirs, field, value)
    return getattr(transformers, name)(theirs).to(args.device)


def load_reviews(options, count):
    """The first `count` reviews of the file, from its start again where it has less, encoded."""
    path = options.train_file or convbert.ROOT / "web-crawler/sample/ratings_train.txt"
    texts, labels = (np.resize(column, count) for column in convbert.read_reviews(path, count))
    multiple = 8 if options.device == "cuda" else 1  # as in convbert.finetune
    tokenizer = convbert.Tokenizer(convbert.ROOT / "vocab/kowiki.model")
    return convbert.Reviews(texts, labels, tokenizer, 128, multiple)


def make_gradients(model, side, args):
    """What convbert.training_step takes; on CUDA ours is recorded and replayed, as by the command line."""
    args.compile = side == "ours compiled"
    gradients = convbert.Gradients(torch.compile(model) if side == "hf compiled" else model, args)
    gradients.replay &= side.startswith("ours")
    return gradients


# ---- Measurements: each runs in a process of its own and returns {"value": ...} ----------------------------
def make_update(row, side, shape, args):
    """A function of the step that trains a new model on a random batch [B, T]."""
    model = make_model(row, side, args)
    optimizer = convbert.make_optimizer(model, args)
    gradients = make_gradients(model, side, args)
    ids = torch.randint(7, model.config.vocab_size, shape)
    batch = {"input_ids": ids, "labels": torch.where(torch.rand(shape) < 0.15, ids, convbert.IGNORE)}
    if side.startswith("ours"):
        batch["positions"] = (batch["labels"] != convbert.IGNORE).flatten().nonzero().squeeze(1)
    return functools.partial(convbert.training_step, gradients, optimizer, [batch])


def train(row, side, shape, steps, args):
    """Seconds of each update but the first."""
    update = make_update(row, side, shape, args)
    return [seconds_of(functools.partial(update, step), args.device) for step in range(steps + 1)][1:]


def measure_training(row, side, options, args):
    """Tokens/s of the median update, and the memory that the module's docstring defines, in MB."""
    if side == "gemm":
        return {"value": gemm_rate(row, args)}
    shape, on_cpu = (row.batch, row.length), args.device.type == "cpu"
    eager_on_cpu = on_cpu and "compiled" not in side  # else the compiler's own memory would count
    if eager_on_cpu:
        train(row, side, (1, 32), 1, args)
        gc.collect()
        if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
            libc.malloc_trim(0)  # back to the system with what is freed, which either allocator keeps in part
    before = resident("VmRSS")
    steps = max(2, options.steps // 2) if row.size == "base" and on_cpu else options.steps  # base is slow
    seconds = train(row, side, shape, steps, args)
    result = {"value": row.batch * row.length / statistics.median(seconds), "seconds": seconds}
    if eager_on_cpu:
        result["resident"] = resident("VmHWM") - before
        if options.child[2] == "0":
            result["tensors"] = tensor_peak(lambda: train(row, side, shape, 1, args))
    elif not on_cpu:
        result["tensors"] = torch.cuda.max_memory_allocated() / 2**20
    return result


def gemm_rate(row, args):
    """FLOP/s of products with the weights of a layer, as many rows as the batch has tokens, medians of 10."""
    config = make_config(row, "ours")
    H, I, A = config.hidden_size, config.intermediate_size, config.num_heads * config.head_size
    options = dict(device=args.device, dtype=torch.bfloat16 if args.precision == "bf16" else torch.float32)
    flop, seconds = 0, 0.0
    for inputs, outputs in ((H, 4 * A), (H, A), (2 * A, H), (H, I), (I, H)):
        x = torch.randn(row.batch * row.length, inputs, **options)
        product = functools.partial(F.linear, x, torch.randn(outputs, inputs, **options))
        seconds += statistics.median([seconds_of(product, args.device) for _ in range(13)][3:])
        flop += 2 * len(x) * inputs * outputs
    return flop / seconds


@torch.no_grad()
def measure_inference(row, side, options, args):
    """Tokens/s, without padding, of the second pass over some batches; memory is claimed in the first."""
    model = make_model(row, side, args).eval()
    model = torch.compile(model) if "compiled" in side else model
    count = options.steps * (20 if row.batch == 1 else 2)
    if row.length:
        batches = [{"input_ids": torch.randint(7, model.config.vocab_size, (row.batch, row.length))}] * count
        tokens = count * row.batch * row.length
    else:
        reviews = load_reviews(options, count * row.batch)
        batches = [reviews.batch(part) for part in np.split(np.arange(count * row.batch), count)]
        for batch in batches:
            del batch["labels"]
        tokens = int(reviews.lengths.sum())

    def run():
        for batch in batches:
            convbert.run_model(model, batch, args)

    run()
    return {"value": tokens / seconds_of(run, args.device)}


def finetune_ours(model, reviews, args):
    """One epoch as convbert.finetune has it."""
    optimizer, gradients = convbert.make_optimizer(model, args), make_gradients(model, "ours", args)
    for step, indices in enumerate(convbert.bucketed(reviews.lengths, 32, np.random.default_rng(0))):
        convbert.training_step(gradients, optimizer, [reviews.batch(indices)], step)


def finetune_trainer(model, reviews, args):
    """One epoch of HF's Trainer at its defaults; the reviews are encoded before, as on our side."""
    import transformers

    with tempfile.TemporaryDirectory() as folder:
        settings = transformers.TrainingArguments(
            folder, num_train_epochs=1, per_device_train_batch_size=32, bf16=args.precision == "bf16",
            use_cpu=args.device.type == "cpu", save_strategy="no", report_to="none", disable_tqdm=True)
        numbers = range(len(reviews.ids))
        transformers.Trainer(model, settings, data_collator=reviews.batch, train_dataset=numbers).train()


def finetune_loop(model, reviews, args):
    """One epoch doing what Trainer does, where accelerate, without which it does not run, is missing."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, weight_decay=0.0, fused=True)
    for indices in torch.randperm(len(reviews.ids)).split(32):
        convbert.run_model(model, reviews.batch(indices.numpy()), args).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()


def measure_finetuning(row, side, options, args):
    """Reviews/s of an epoch, after one of two batches to warm up."""
    finetune_hf = finetune_trainer if importlib.util.find_spec("accelerate") else finetune_loop
    run = finetune_ours if side == "ours" else finetune_hf
    model, count = make_model(row, side, args), 32 * 16 * options.steps
    run(model, load_reviews(options, 2 * 32), args)
    reviews = load_reviews(options, count)
    return {"value": count / seconds_of(lambda: run(model, reviews, args), args.device), "by": run.__name__}


def convolve_unfolded(values, kernels):
    """What convbert.convolve computes, from a copy of every position's K neighbours, as HF does."""
    (B, N, T, D), K = values.shape, kernels.size(-1)
    image = values.transpose(2, 3).reshape(B, N * D, T, 1)
    windows = F.unfold(image, (K, 1), padding=(K // 2, 0)).view(B, N, D, K, T).permute(0, 1, 4, 2, 3)
    return (windows @ kernels[..., None]).squeeze(-1)  # [B, N, T, D]


def measure_operator(row, side, options, args):
    """Milliseconds of a forward and backward pass, the median."""
    config = make_config(row, "ours")
    shape = row.batch, config.num_heads, row.length, config.head_size
    make = functools.partial(torch.randn, device=args.device, dtype=torch.bfloat16, requires_grad=True)
    q, k, v, x = make(shape), make(shape), make(shape), make(row.batch, row.length, config.hidden_size)
    kernels = make(*shape[:3], config.conv_kernel_size).softmax(-1).detach().requires_grad_()
    conv = convbert.SeparableConv1D(config, width=1).to(args.device)
    narrow = conv.pointwise.weight[0].detach()  # [H, 1]
    form, leaves = {
        "convolution ours": (lambda: convbert.convolve(v, kernels), [v, kernels]),
        "convolution plain": (lambda: convolve_unfolded(v, kernels), [v, kernels]),
        "depthwise ours": (lambda: conv(x), [x, conv.depthwise.weight]),
        "depthwise plain": (lambda: conv.depthwise(x.mT).mT @ narrow, [x, conv.depthwise.weight]),
        "attention ours": (lambda: (q @ k.mT * q.size(-1) ** -0.5).softmax(-1) @ v, [q, k, v]),
        "attention plain": (lambda: F.scaled_dot_product_attention(q, k, v), [q, k, v]),
    }[f"{row.name.split()[1]} {side}"]

    def run():
        with torch.autocast(args.device.type, torch.bfloat16):
            out = form()
        torch.autograd.grad(out, leaves, torch.ones_like(out))

    seconds = [seconds_of(run, args.device) for _ in range(5 * options.steps + 3)][3:]
    return {"value": 1000 * statistics.median(seconds)}


def make_work(row, side, steps, options, args):
    """The function of the step that a profile is of; that of reviews has `steps` batches."""
    if row.kind == "profile":
        return make_update(row, side, (row.batch, row.length), args)
    model = make_model(row, side, args)
    if row.kind == "profile infer":
        batch = {"input_ids": torch.randint(7, model.config.vocab_size, (row.batch, row.length))}
        return torch.no_grad()(lambda step: convbert.run_model(model.eval(), batch, args))
    optimizer, gradients = convbert.make_optimizer(model, args), make_gradients(model, side, args)
    reviews = load_reviews(options, max(50, steps) * row.batch)
    batches = convbert.bucketed(reviews.lengths, row.batch, np.random.default_rng(0))
    update = functools.partial(convbert.training_step, gradients, optimizer)
    return lambda step: update([reviews.batch(batches[step % steps])], step)


def measure_profile(row, side, options, args):
    """Milliseconds of a step by kind of operator, once all shapes have been met (and recorded, on a GPU)."""
    steps = options.steps * (1 if row.length else 5)  # reviews differ in length
    work, groups = make_work(row, side, steps, options, args), dict.fromkeys(GROUPS, 0.0)
    for step in range(steps):
        work(step)
    with torch.profiler.profile() as profile:
        for step in range(steps, 2 * steps):
            work(step)
    field = "self_device_time_total" if args.device.type == "cuda" else "self_cpu_time_total"
    for event in profile.key_averages():
        group = next(name for name, pattern in GROUPS.items() if re.search(pattern, event.key, re.I))
        groups[group] += getattr(event, field) / 1000 / steps
    return {"value": sum(groups.values()), "groups": groups}


MEASURES = {"train": measure_training, "infer": measure_inference, "finetune": measure_finetuning,
            "operator": measure_operator} | dict.fromkeys(PROFILES, measure_profile)


# ---- Tables ------------------------------------------------------------------------------------------------
HEADS = {
    "train": "training, tokens/s | ours | HF | ratio | resident: ours | HF | ratio | tensors: ours | HF "
             "| ratio | GFLOP/s of GEMM | GEMM bound | share",
    "infer": "inference, tokens/s | ours | HF | ratio",
    "finetune": "fine-tuning, reviews/s | ours | HF | ratio",
    "operator": "forward and backward, ms | ours | plain form | ratio",
    "profile": "an update, ms | ours | HF | ratio",
    "profile infer": "inference, ms | ours | HF | ratio",
    "profile finetune": "an update of fine-tuning, ms | ours | HF | ratio",
}


def median(results, key="value"):
    """Of all rounds that have it; NaN if none has."""
    return statistics.median([result[key] for result in results if key in result] or [math.nan])


def number(value, digits=0):
    return "" if math.isnan(value) else f"{value:,.{digits}f}"


def spread(results, digits):
    """Median and range, as a cell of the table."""
    values = [result["value"] for result in results]
    if not values:
        return "failed"
    low, middle, high = (number(f(values), digits) for f in (min, statistics.median, max))
    return f"{middle} ({low}-{high})"


def line(row, name, ours, theirs, gemm):
    """A line of a table, from the results of the two sides and, in training, of the GEMM rate."""
    milliseconds = row.kind == "operator" or row.kind in PROFILES  # less is better
    above, below = (theirs, ours) if milliseconds else (ours, theirs)
    ratio = median(above) / median(below) if median(below) else math.nan  # inference has no AdamW
    digits = 2 * (row.kind == "operator")
    cells = [name, spread(ours, digits), spread(theirs, digits), number(ratio, 2)]
    if row.kind == "train":
        for key in ("resident", "tensors"):
            pair = median(ours, key), median(theirs, key)
            cells += [number(pair[0]), number(pair[1]), number(pair[0] / pair[1], 2)]
        bound = median(gemm) / flop_per_token(make_config(row, "ours"), row.length)
        cells += [number(median(gemm) / 1e9), number(bound), number(median(ours) / bound, 2)]
    return f"| {' | '.join(cells)} |"


def print_row(row, runs):
    first, second, *_ = runs
    gemm = runs.get("gemm", [])
    print(line(row, row.name, runs[first], runs[second], gemm), flush=True)
    if "hf compiled" in runs:
        ours, who = ("ours compiled", "both") if "ours compiled" in runs else ("ours", "HF")
        print(line(row, f"{row.name}, {who} compiled", runs[ours], runs["hf compiled"], gemm), flush=True)
    for group in GROUPS if row.kind in PROFILES else ():
        pair = ([{"value": result["groups"][group]} for result in runs[side]] for side in (first, second))
        print(line(row, group, *pair, gemm), flush=True)
    if any(result["by"] == "finetune_loop" for result in runs[second] if row.kind == "finetune"):
        print("\nHF: a loop that does what Trainer does; Trainer itself needs accelerate, which is missing.")


def machine(options):
    """Names of the hardware and versions of the libraries."""
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
        cpu = found[1] if found else cpu
    return {"device": torch.cuda.get_device_name() if options.device == "cuda" else cpu,
            "cores": os.cpu_count(), "threads": torch.get_num_threads(), "torch": torch.__version__,
            "transformers": importlib.metadata.version("transformers"), "load at start": os.getloadavg()[0]}


def measure_apart(row, side, count):
    """The result of a measurement in a new process, in a list; an empty one if it failed."""
    command = [sys.executable, __file__, *sys.argv[1:], "--child", row.name, side, str(count)]
    process = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    return [json.loads(process.stdout.splitlines()[-1])] if process.returncode == 0 else []


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--only", default="", help="Measures the rows whose name matches this regular expression.")
    add("--rounds", type=int, default=3, help="Measurements of each side.")
    add("--steps", type=int, default=4, help="Timed steps of each measurement; some do a multiple of it.")
    add("--size", choices=convbert.SIZES, help="All rows at this size; small and base if not given.")
    add("--train_file", help="Reviews in NSMC's format; the bundled sample if not given.")
    add("--device", choices=("cpu", "cuda"), default="cpu")
    add("--tokens", type=int, help="Tokens in a batch on CUDA; 16384 for base, else 65536 if not given.")
    add("--compile", action="store_true", help="Also measures both compiled wherever the shape is fixed.")
    add("--output", type=Path, help="JSON file for all the numbers.")
    add("--child", nargs=3, metavar=("ROW", "SIDE", "ROUND"), help=argparse.SUPPRESS)
    return parser.parse_args()


def main():
    options = parse_options()
    rows = [row for row in make_rows(options) if re.search(options.only, row.name)]
    if options.child:
        row, side = next(row for row in rows if row.name == options.child[0]), options.child[1]
        print(json.dumps(MEASURES[row.kind](row, side, options, make_args(row, side, options))))
        return
    report, kind = {"machine": machine(options), "command": sys.argv[1:], "rows": {}}, None
    print(", ".join(f"{name}: {value}" for name, value in report["machine"].items()))
    for row in rows:
        if row.kind != kind:
            kind = row.kind
            print(f"\n| {HEADS[kind]} |\n|---{'|--:' * HEADS[kind].count('|')}|", flush=True)
        runs = report["rows"][row.name] = {side: [] for side in sides_of(row, options)}
        for count, (side, results) in itertools.product(range(options.rounds), runs.items()):
            results += measure_apart(row, side, count)
        print_row(row, runs)
        if options.output:  # after every row, so that nothing is lost with the last
            convbert.write_json(options.output, report)


if __name__ == "__main__":
    main()
