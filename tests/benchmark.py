"""Speed and peak memory beside Hugging Face's ConvBERT: python tests/benchmark.py

Both train the same model (--size) on the same random batch, 15 % of its tokens labelled, with fused AdamW;
or, with --task inference, run its backbone. Each measurement is a process of its own, the two take turns, and
the table holds medians. Memory is the peak resident size above what the process had after its imports. Needs
transformers; not collected by pytest.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import torch

sys.path.insert(0, str(Path(__file__).parent.parent))
import convbert


def peak_memory():
    """Peak resident memory of this process so far, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def make_model(who, options):
    torch.manual_seed(0)
    dropout = dict(hidden_dropout_prob=options.dropout, attention_probs_dropout_prob=options.dropout)
    config = convbert.ConvBertConfig(**convbert.SIZES[options.size] | dropout)
    name = "ConvBertForMaskedLM" if options.task == "train" else "ConvBertModel"
    if who == "ours":
        return getattr(convbert, name)(config)
    import transformers

    theirs = transformers.ConvBertConfig()
    for field, value in vars(config).items():
        if hasattr(theirs, field):
            setattr(theirs, field, value)
    return getattr(transformers, name)(theirs)


def train(model, ids, options, args):
    """Seconds of each update but the first, in which memory is claimed."""
    optimizer = convbert.make_optimizer(model, args)
    for group in optimizer.param_groups:
        group["lr"] = 1e-4
    labels = torch.where(torch.rand(ids.shape) < 0.15, ids, -100)
    batches, seconds = [{"input_ids": ids, "labels": labels}], []
    for step in range(options.steps + 1):
        begin = time.perf_counter()
        convbert.training_step(model, optimizer, batches, args, step)
        seconds.append(time.perf_counter() - begin)
    return seconds[1:]


@torch.no_grad()
def infer(model, ids, options, args):
    """Seconds of each pass but the first."""
    model.eval()
    seconds = []
    for _ in range(options.steps + 1):
        begin = time.perf_counter()
        convbert.run_model(model, {"input_ids": ids}, args)
        seconds.append(time.perf_counter() - begin)
    return seconds[1:]


def measure(who, options):
    """Tokens/s (of the median step) and peak memory in MB."""
    if who == "hf":
        import transformers  # noqa: F401  so that both baselines hold their own library
    args = SimpleNamespace(device=torch.device("cpu"), precision=options.precision, num_threads=None, seed=0,
                           weight_decay=0.01, layer_decay=1.0)
    if who == "ours":
        convbert.choose_hardware(args)  # as the command line does; among the rest, it has glibc keep memory
    baseline = peak_memory()
    model = make_model(who, options)
    ids = torch.randint(7, 8007, (options.batch_size, options.seq_length))
    seconds = (train if options.task == "train" else infer)(model, ids, options, args)
    return {"speed": ids.numel() / statistics.median(seconds), "memory": peak_memory() - baseline}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", choices=("train", "inference"), default="train")
    parser.add_argument("--size", choices=convbert.SIZES, default="small")
    parser.add_argument("--rounds", type=int, default=3, help="Measurements of each.")
    parser.add_argument("--steps", type=int, default=4, help="Timed steps of each, after one to warm up.")
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--seq_length", type=int, default=128)
    parser.add_argument("--who", choices=("ours", "hf"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.who:
        print(json.dumps(measure(options.who, options)))
        return
    runs = {"ours": [], "hf": []}
    for _ in range(options.rounds):
        for who, results in runs.items():
            command = [sys.executable, __file__, *sys.argv[1:], "--who", who]
            results.append(json.loads(subprocess.check_output(command, text=True).splitlines()[-1]))
    print("| | tokens/s | range | peak memory, MB |\n|---|--:|--:|--:|")
    median = {}
    for who, results in runs.items():
        speeds = sorted(result["speed"] for result in results)
        memory = statistics.median(result["memory"] for result in results)
        median[who] = statistics.median(speeds), memory
        print(f"| {who} | {median[who][0]:,.0f} | {speeds[0]:,.0f}-{speeds[-1]:,.0f} | {memory:,.0f} |")
    speed, memory = (ours / theirs for ours, theirs in zip(median["ours"], median["hf"]))
    print(f"| ours / hf | {speed:.2f} | | {memory:.2f} |")


if __name__ == "__main__":
    main()
