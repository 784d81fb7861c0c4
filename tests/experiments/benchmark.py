"""Speed and memory beside Hugging Face's ConvBERT: python tests/experiments/benchmark.py

Side by side with `transformers` (HF), at the same sizes, batches and dropout; run by hand:
    train     an update of masked language modelling: random tokens, 15 % of them labelled, fused
              AdamW.  The value is that of the median update; the first, in which memory is claimed,
              does not count.  `each default`: each library at its own dropout for pretraining,
              0 here and 0.1 in HF
    infer     the backbone without gradients, at fixed lengths and at those of reviews; padding is
              no token
    finetune  reviews/s over the same reviews in batches of 32, padded to their longest: ours in
              bucketed batches, HF's in random order, as its Trainer has them
Every measurement is a process of its own; the sides take turns for --rounds rounds; tables hold the
median of the rounds and, in brackets, their range.  All sides go through the same loop, which is
that of convbert.train.  "HF compiled" is torch.compile's; the time of compiling does not count.

--other FILE puts another convbert.py, of before or after a change, in the place of HF: it needs the
models and `bucketed` alone.  Seconds are then those that the process had on its processors, and so
depend little on what else the machine does; where it has threads, their seconds add up.

Memory of training, in MB.  `resident`: the peak of the resident size above what is resident after a
single row of 32 tokens has been trained on and freed, so that the pages of libraries, and what they
keep, count for neither side, while weights, gradients and Adam's moments do.  `tensors`: the most
that tensors hold at a time, by PyTorch's profiler (in the first round) or, on CUDA, its allocator.

The GEMM bound is the speed of training if nothing but its matrix products took time, at the rate
that this machine reaches with the matrices of a layer; each round measures it after the two sides.
`share` is ours over it.
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

import numpy as np
import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import convbert

Row = namedtuple("Row", "kind name size precision batch length dropout")  # dropout: ours, HF's
COMPILED = "train small 32x128 bf16 dropout 0.1"  # on a CPU, where that takes minutes, one row is
CLASSES = {"train": "ConvBertForMaskedLM", "infer": "ConvBertModel",
           "finetune": "ConvBertForSequenceClassification"}


# ---- What is measured
def shapes(size, options):
    """(batch, length) of the training rows; on a GPU as many rows as make up --tokens."""
    if options.device == "cpu":
        return [(32, 128), (8, 512)]
    tokens = options.tokens or (1 << 14 if size == "base" else 1 << 16)
    return [(tokens // length, length) for length in (128, 512)]


def make_rows(options):
    """All rows of the tables, in their order.  Length None: that of reviews."""
    sizes = [options.size] if options.size else ["small", "base"]
    size, (B, T), rows = sizes[0], shapes(sizes[0], options)[0], []

    def add(kind, size, precision, B, T, p=(0.1, 0.1), note=""):
        name = f"{kind} {size} {B}x{T or 'reviews'} {precision}{note}"
        rows.append(Row(kind, name, size, precision, B, T, p))

    add("train", size, "bf16", B, T, (0.0, 0.1), " each default")
    for s, precision in itertools.product(sizes, ("bf16", "fp32")):
        for (B, T), p in itertools.product(shapes(s, options), (0.1, 0.0)):
            add("train", s, precision, B, T, (p, p), f" dropout {p:g}")
    large = 64 if options.device == "cpu" else shapes(size, options)[0][0]
    for B, T in itertools.product((large, 1), (128, None)):
        add("infer", size, "bf16", B, T)
    add("finetune", size, "bf16", 32, None)
    return rows


def sides_of(row, options):
    """The measurements of a row, in their turns."""
    sides = ["ours", "other" if options.other else "hf"]
    if options.compile and row.kind != "finetune" and row.length:
        sides += [f"{side} compiled" for side in sides]
    elif row.name == COMPILED and options.device == "cpu" and not options.other:
        sides.append("hf compiled")
    return [*sides, "gemm"] if row.kind == "train" and not options.other else sides


def flop_per_token(config, T):
    """Operations of training on a token: two a multiply-add, and backward twice of forward."""
    H, K, E = config.hidden_size, config.conv_kernel_size, config.embedding_size
    A = config.num_heads * config.head_size
    attention = 3 * H * A + 2 * T * A  # query, key, value; scores and their sum of values
    convolution = 2 * H * A + H * K + A * config.num_heads * K + A * K  # u, ks, kernels, their sum
    dense = 2 * A * H + 2 * H * config.intermediate_size // config.num_groups
    layers = config.num_hidden_layers * (attention + convolution + dense)
    head = 0.15 * (H * E + E * config.vocab_size)  # only labelled positions need it
    return 3 * 2 * (layers + E * H * (E != H) + head)


# ---- Tools
def seconds_of(work, options):
    """Seconds of work(): by CUDA's events, by the clock, or with --other those of the process."""
    if options.device == "cpu":
        clock = time.process_time if options.other else time.perf_counter
        begin = clock()
        work()
        return clock() - begin
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    work()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1000


def resident(field):
    """VmRSS, the resident size of this process, or VmHWM, its peak so far, in MB; NaN elsewhere."""
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


def load(path):
    """Another convbert.py, under a name of its own; what it imports may lie beside it."""
    sys.path.insert(0, str(path.resolve().parent))
    spec = importlib.util.spec_from_file_location("other_convbert", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["other_convbert"] = module
    spec.loader.exec_module(module)
    return module


def make_config(row, side, module=convbert):
    p = row.dropout[side.startswith("hf")]
    dropout = dict(hidden_dropout_prob=p, attention_probs_dropout_prob=p)
    values = convbert.SIZES[row.size] | dropout
    return module.ConvBertConfig(**values | {"vocab_size": convbert.ConvBertConfig().vocab_size})


def make_model(row, side, options):
    """The model of a side, on its device."""
    torch.manual_seed(0)
    if side.startswith("hf"):
        import transformers as module

        config = module.ConvBertConfig()
        for field, value in vars(make_config(row, side)).items():
            if hasattr(config, field):
                setattr(config, field, value)
    else:
        convbert.keep_freed_memory()  # as the command line does
        module = load(options.other) if side.startswith("other") else convbert
        config = make_config(row, side, module)
    model = getattr(module, CLASSES[row.kind])(config).to(options.device)
    return torch.compile(model) if "compiled" in side else model


def load_reviews(options, count):
    """The first `count` reviews of the file, from its start again where it has less, encoded."""
    path = options.train_file or convbert.ROOT / "web-crawler/sample/ratings_train.txt"
    texts, labels = (np.resize(column, count) for column in convbert.read_reviews(path, count))
    tokenizer = convbert.Tokenizer(convbert.ROOT / "vocab/kowiki.model")
    ids, _ = convbert.encode_texts(texts, tokenizer, 128)

    def batch_of(indices, labelled=True):
        batch = convbert.collate([ids[i] for i in indices], tokenizer.pad)
        return batch | ({"labels": torch.from_numpy(labels[indices])} if labelled else {})

    return np.array([len(row) for row in ids]), batch_of


# ---- Measurements: each runs in a process of its own and returns {"value": ...}
def updater(model, row):
    """A function of a batch that trains the model on it, as convbert.train does."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, eps=1e-6, fused=True)

    def update(batch):
        convbert.run_model(model, batch, row.precision).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return update


def train(row, side, shape, steps, options):
    """Seconds of each update but the first, of a new model on a random batch [B, T]."""
    update = updater(model := make_model(row, side, options), row)
    ids = torch.randint(7, model.config.vocab_size, shape)
    labels = torch.where(torch.rand(shape) < 0.15, ids, convbert.IGNORE)
    batch = {"input_ids": ids, "labels": labels}
    return [seconds_of(lambda: update(batch), options) for _ in range(steps + 1)][1:]


def measure_training(row, side, options):
    """Tokens/s of the median update, and the memory of the module's docstring, in MB."""
    if side == "gemm":
        return {"value": gemm_rate(row, options)}
    shape, on_cpu = (row.batch, row.length), options.device == "cpu"
    eager_on_cpu = on_cpu and "compiled" not in side  # else the compiler's own memory would count
    if eager_on_cpu:
        train(row, side, (1, 32), 1, options)
        gc.collect()
        if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
            libc.malloc_trim(0)  # gives back what is freed, which either allocator keeps in part
    before = resident("VmRSS")
    few = row.size == "base" and on_cpu  # base is slow
    seconds = train(row, side, shape, max(2, options.steps // 2) if few else options.steps, options)
    result = {"value": row.batch * row.length / statistics.median(seconds), "seconds": seconds}
    if eager_on_cpu:
        result["resident"] = resident("VmHWM") - before
        if options.child[2] == "0":
            result["tensors"] = tensor_peak(lambda: train(row, side, shape, 1, options))
    elif not on_cpu:
        result["tensors"] = torch.cuda.max_memory_allocated() / 2**20
    return result


def gemm_rate(row, options):
    """FLOP/s of products with the weights of a layer, at the tokens of a batch, medians of 10."""
    config = make_config(row, "ours")
    H, I, A = config.hidden_size, config.intermediate_size, config.num_heads * config.head_size
    kind = torch.bfloat16 if row.precision == "bf16" else torch.float32
    make = functools.partial(torch.randn, device=options.device, dtype=kind)
    flop, seconds = 0, 0.0
    for inputs, outputs in ((H, 4 * A), (H, A), (2 * A, H), (H, I), (I, H)):
        x = make(row.batch * row.length, inputs)
        product = functools.partial(F.linear, x, make(outputs, inputs))
        seconds += statistics.median([seconds_of(product, options) for _ in range(13)][3:])
        flop += 2 * len(x) * inputs * outputs
    return flop / seconds


@torch.no_grad()
def measure_inference(row, side, options):
    """Tokens/s, without padding, of the second pass over some batches; the first claims memory."""
    model = make_model(row, side, options).eval()
    count = options.steps * (20 if row.batch == 1 else 2)
    if row.length:
        ids = torch.randint(7, model.config.vocab_size, (row.batch, row.length))
        batches, tokens = [{"input_ids": ids}] * count, count * row.batch * row.length
    else:
        lengths, batch_of = load_reviews(options, count * row.batch)
        parts = np.split(np.arange(count * row.batch), count)
        batches, tokens = [batch_of(part, labelled=False) for part in parts], int(lengths.sum())

    def run():
        for batch in batches:
            convbert.run_model(model, batch, row.precision)

    run()
    return {"value": tokens / seconds_of(run, options)}


def measure_finetuning(row, side, options):
    """Reviews/s of an epoch, after two batches to warm up.  Encoding is not part of it."""
    update, count = updater(make_model(row, side, options), row), 32 * 16 * options.steps
    lengths, batch_of = load_reviews(options, count)
    rng = np.random.default_rng(0)
    if side == "hf":
        parts = np.split(rng.permutation(count), count // 32)
    else:
        parts = (load(options.other) if side == "other" else convbert).bucketed(lengths, 32, rng)

    def run(parts):
        for part in parts:
            update(batch_of(part))

    run(parts[:2])
    return {"value": count / seconds_of(lambda: run(parts), options)}


MEASURES = {"train": measure_training, "infer": measure_inference, "finetune": measure_finetuning}


# ---- Tables
def median(results, key="value"):
    """Of all rounds that have it; NaN if none has."""
    return statistics.median([result[key] for result in results if key in result] or [math.nan])


def number(value, digits=0):
    return "" if math.isnan(value) else f"{value:,.{digits}f}"


def spread(results):
    """Median and range, as a cell of the table."""
    values = [result["value"] for result in results]
    if not values:
        return "failed"
    low, middle, high = (number(f(values)) for f in (min, statistics.median, max))
    return f"{middle} ({low}-{high})"


def head(kind, options):
    what = {"train": "training, tokens/s", "infer": "inference, tokens/s",
            "finetune": "fine-tuning, reviews/s"}[kind] + " of the processors" * bool(options.other)
    second = "other" if options.other else "HF"
    cells = [what, "ours", second, "ratio"]
    if kind == "train":
        for name in ("resident", "tensors"):
            cells += [f"{name}: ours", second, "ratio"]
        cells += ["GFLOP/s of GEMM", "GEMM bound", "share"]
    return f"\n| {' | '.join(cells)} |\n|---{'|--:' * (len(cells) - 1)}|"


def line(row, name, ours, theirs, gemm):
    """A line of a table, from the results of the two sides and, in training, of the GEMM rate."""
    cells = [name, spread(ours), spread(theirs), number(median(ours) / median(theirs), 2)]
    if row.kind == "train":
        for key in ("resident", "tensors"):
            a, b = median(ours, key), median(theirs, key)
            cells += [number(a), number(b), number(a / b, 2)]
        bound = median(gemm) / flop_per_token(make_config(row, "ours"), row.length)
        cells += [number(median(gemm) / 1e9), number(bound), number(median(ours) / bound, 2)]
    return f"| {' | '.join(cells)} |"


def print_row(row, runs):
    first, second, *more = runs
    gemm = runs.get("gemm", [])
    print(line(row, row.name, runs[first], runs[second], gemm), flush=True)
    compiled = [side for side in more if "compiled" in side]
    if compiled:
        ours, who = (compiled[0], "both") if len(compiled) > 1 else (first, "HF")
        name = f"{row.name}, {who} compiled"
        print(line(row, name, runs[ours], runs[compiled[-1]], gemm), flush=True)


def machine(options):
    """Names of the hardware and versions of the libraries."""
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
        cpu = found[1] if found else cpu
    versions = {} if options.other else {
        "transformers": importlib.metadata.version("transformers")}
    return {"device": torch.cuda.get_device_name() if options.device == "cuda" else cpu,
            "cores": os.cpu_count(), "threads": options.num_threads or torch.get_num_threads(),
            "torch": torch.__version__, **versions, "load at start": os.getloadavg()[0]}


def measure_apart(row, side, count):
    """The result of a measurement in a new process, in a list; an empty one if it failed."""
    command = [sys.executable, __file__, *sys.argv[1:], "--child", row.name, side, str(count)]
    process = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    return [json.loads(process.stdout.splitlines()[-1])] if process.returncode == 0 else []


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--only", default="", help="Measures the rows whose name matches this regular expression.")
    add("--other", type=Path, help="Another convbert.py, to compare with in the place of HF.")
    add("--rounds", type=int, default=3, help="Measurements of each side.")
    add("--steps", type=int, default=4, help="Timed steps of a measurement; some do a multiple.")
    add("--size", choices=convbert.SIZES, help="All rows at this size.  [small and base]")
    add("--train_file", help="Reviews in NSMC's format.  [the bundled sample]")
    add("--device", choices=("cpu", "cuda"), default="cpu")
    add("--num_threads", type=int, help="CPU threads.  [all cores]")
    add("--tokens", type=int, help="Tokens in a batch on CUDA.  [65536; base 16384]")
    add("--compile", action="store_true", help="Also compiles both wherever the shape is fixed.")
    add("--output", type=Path, help="JSON file for all the numbers.")
    add("--child", nargs=3, metavar=("ROW", "SIDE", "ROUND"), help=argparse.SUPPRESS)
    return parser.parse_args()


def main():
    options = parse_options()
    rows = [row for row in make_rows(options) if re.search(options.only, row.name)]
    if options.child:
        row = next(row for row in rows if row.name == options.child[0])
        torch.backends.cuda.matmul.allow_tf32 = True  # for both sides
        torch.set_num_threads(options.num_threads or torch.get_num_threads())
        print(json.dumps(MEASURES[row.kind](row, options.child[1], options)))
        return
    report, kind = {"machine": machine(options), "command": sys.argv[1:], "rows": {}}, None
    print(", ".join(f"{name}: {value}" for name, value in report["machine"].items()))
    for row in rows:
        if row.kind != kind:
            kind = row.kind
            print(head(kind, options), flush=True)
        runs = report["rows"][row.name] = {side: [] for side in sides_of(row, options)}
        for count, (side, results) in itertools.product(range(options.rounds), runs.items()):
            results += measure_apart(row, side, count)
        print_row(row, runs)
        if options.output:  # after every row, so that nothing is lost with the last
            convbert.write_json(options.output, report)


if __name__ == "__main__":
    main()
