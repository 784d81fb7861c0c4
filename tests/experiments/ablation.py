"""What the parts of ConvBERT buy: the small model with one change at a time, at equal tokens.

Every variant is pretrained from scratch and then fine-tuned for one epoch on the first reviews of
the training file; scored are the last 10,000 of that file, and never the official test set.  A
table in Markdown follows.  Two runs go on at a time, with one thread each.  Killed, the same
command goes on where they were.
"""

import argparse
import functools
import json
import re
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import convbert
from pictures import read_metrics


def small_depthwise(init=convbert.init_weights):
    """The standard deviation of depthwise kernels becomes 0.02 in place of 1/K."""
    def init_weights(module, std):
        init(module, std)
        if isinstance(module, convbert.nn.Conv1d) and module.groups > 1:
            module.weight.data *= std * module.kernel_size[0]

    convbert.init_weights = init_weights


def whole_words(ids, tokenizer, share, rng):
    """As convbert.choose_tokens, but every word, from one ▁ to the next, has its turn, at random.

    The count is exact: a word too long for what is left is passed over; where none fits, one is
    cut.
    """
    starts_word = np.array([piece.startswith("▁") for piece in tokenizer.pieces])
    B, T = ids.shape
    ordinary = ~tokenizer.is_special[ids]
    word = np.cumsum(starts_word[ids], axis=1)  # [B, T] number of the token's word in the row
    turns = rng.random((B, T + 1)).argsort(axis=1)  # [B, T + 1] the turn of each word
    turn = np.take_along_axis(turns, word, axis=1)  # [B, T] that of each token's word
    size = np.zeros((B, T + 1), int)  # [B, turns] ordinary tokens of the word whose turn it is
    np.add.at(size, (np.arange(B)[:, None], turn), ordinary)
    left = np.maximum(1, np.rint(share * ordinary.sum(1, keepdims=True))).astype(int)  # [B, 1]
    taken = np.zeros((B, T + 1), bool)
    while (fits := ~taken & (size > 0) & (size <= left)).any():  # up to the first too long one
        new = fits & (np.cumsum(size * fits, axis=1) <= left)
        taken, left = taken | new, left - (size * new).sum(1, keepdims=True)
    chosen = ordinary & np.take_along_axis(taken, turn, axis=1)
    rest = ordinary & ~chosen
    return chosen | rest & (np.cumsum(rest, axis=1) <= left)


def mask_words(choose=convbert.choose_tokens):
    """Training chooses whole words; evaluation, known by its share, still single tokens."""
    def choose_words(ids, tokenizer, share, rng):
        return (choose if share == 0.15 else whole_words)(ids, tokenizer, share, rng)

    convbert.choose_tokens = choose_words


PADDING = "sdconv, padding not masked"  # pretrained as the first one: there is no padding then
VARIANTS = {  # what differs from the first: fields of config.json, or what patches convbert
    "sdconv": {},
    "noconv": {"conv_type": "noconv"},
    "dynamic": {"conv_type": "dynamic"},
    "light": {"conv_type": "light"},
    "sdconv, kernel of 3": {"conv_kernel_size": 3},
    "sdconv, kernel of 17": {"conv_kernel_size": 17},
    "sdconv, depthwise init 0.02": small_depthwise,
    "sdconv, whole words masked": mask_words,
    PADDING: {"conv_padding_mask": False},
}


def config_of(variant, size):
    change = VARIANTS[variant]
    return convbert.ConvBertConfig(**convbert.SIZES[size] | ({} if callable(change) else change))


def chosen(options):
    return [name for name in VARIANTS if re.search(options.only, name)]


def folder_of(options, task, variant, seed):
    return options.output_dir / f"{task}-{variant.replace(', ', '-').replace(' ', '-')}-{seed}"


def run(options, task, variant, seed, *arguments):
    """convbert.py with the variant's patch, in a process of its own, which writes FOLDER.log."""
    folder = folder_of(options, task, variant, seed)
    command = [sys.executable, __file__, "--child", variant, "--task", task, "--seed", seed,
               *arguments, "--num_threads", 1, "--logging_steps", 50, "--save_total_limit", 1,
               "--output_dir", folder]
    with open(f"{folder}.log", "a", encoding="utf-8") as log:
        subprocess.run(list(map(str, command)), stderr=log, stdout=log, check=True)


def pretrain(options, variant, seed):
    if variant == PADDING:
        return
    file = Path(f"{folder_of(options, 'config', variant, seed)}.json")
    config = convbert.asdict(config_of(variant, options.size))
    convbert.write_json(file, {"model_type": "convbert", **config})
    run(options, "pretrain", variant, seed, "--config_name", file, "--corpus", options.corpus,
        "--valid_file", options.valid_file, "--max_eval_samples", 384,
        "--max_steps", options.max_steps, "--batch_size", 16)


def finetune(options, variant, seed):
    """From the variant's pretrained folder; for PADDING from the first one's, with its config."""
    start = folder_of(options, "pretrain", variant, seed)
    if variant == PADDING:
        first = folder_of(options, "pretrain", "sdconv", seed)
        model = convbert.ConvBertForMaskedLM.from_pretrained(first, conv_padding_mask=False)
        model.save_pretrained(start)
        convbert.Tokenizer(first / convbert.Tokenizer.FILE).save(start)
    run(options, "finetune", variant, seed, "--model_name_or_path", start, "--num_train_epochs", 1,
        "--train_file", options.output_dir / "train.txt",
        "--test_file", options.output_dir / "dev.txt")


def split(options):
    """Writes train.txt, the first reviews of the file, and dev.txt: the last 10,000, or half."""
    with open(options.train_file, encoding="utf-8", newline="\n") as file:
        head, *lines = file.readlines()
    cut = max(len(lines) - 10_000, len(lines) // 2)
    parts = {"train.txt": lines[:cut][: options.max_train_samples], "dev.txt": lines[cut:]}
    for name, part in parts.items():
        (options.output_dir / name).write_text(head + "".join(part), encoding="utf-8")


def result(options, variant, seed):
    """What is known of a variant's runs with a seed, as far as they have come."""
    found = {}
    for task in ("pretrain", "finetune"):
        folder = folder_of(options, task, variant, seed)
        if not (folder / "train_results.json").exists():
            continue
        found[task] = {name: value for file in ("train_results.json", "eval_results.json")
                       for name, value in json.loads((folder / file).read_text("utf-8")).items()}
        speeds = [line["tokens_per_second"] for line in read_metrics(folder) if "loss" in line]
        found[task] |= {"tokens_per_second": statistics.median(speeds)}
    return found


def collect(results, task, key):
    return [result[task][key] for result in results if task in result]


def cell(values, digits):
    """Mean, and in brackets each seed's."""
    each = ", ".join(f"{value:.{digits}f}" for value in values)
    return f"{statistics.mean(values):.{digits}f} ({each})" if values else ""


def table(options):
    """Prints the table and writes all that it comes from to --output."""
    results = {variant: {seed: result(options, variant, seed) for seed in options.seeds}
               for variant in chosen(options)}
    print("| | parameters | tokens/s | held-out loss | accuracy |\n|---|--:|--:|--:|--:|")
    for variant, runs in results.items():
        of = functools.partial(collect, list(runs.values()))
        model = convbert.ConvBertForMaskedLM(config_of(variant, options.size))
        count = sum(p.numel() for p in model.parameters())
        speed = of("pretrain", "tokens_per_second")
        accuracy = [100 * share for share in of("finetune", "eval_accuracy")]
        print(f"| {variant} | {count:,} | {statistics.mean(speed or [0]):,.0f} | "
              f"{cell(of('pretrain', 'eval_loss'), 3)} | {cell(accuracy, 2)} |")
    if options.output:
        lengths = {name: getattr(options, name) for name in ("max_steps", "max_train_samples")}
        convbert.write_json(options.output, lengths | {"results": results})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--corpus", required=True, help="Text to pretrain on.")
    add("--valid_file", required=True, help="Held-out text.")
    add("--train_file", required=True, help="Reviews in NSMC's format.")
    add("--max_steps", type=int, default=2442, help="Updates of 2,048 tokens.  [2442: 5 million]")
    add("--max_train_samples", type=int, default=40_000, help="Reviews to fine-tune on.")
    add("--only", default="", help="Variants whose name matches this regular expression.")
    add("--seeds", type=int, nargs="+", default=[42, 43])
    add("--size", choices=convbert.SIZES, default="small", help="To try the rest with a tiny one.")
    add("--output_dir", type=Path, default=Path("runs/ablation"), help="Folder for all the runs.")
    add("--output", type=Path, help="JSON file for all the numbers.")
    options = parser.parse_args()
    options.output_dir.mkdir(parents=True, exist_ok=True)
    split(options)
    for task in (pretrain, finetune):
        with ThreadPoolExecutor(2) as pool:
            jobs = [pool.submit(task, options, variant, seed)
                    for variant in chosen(options) for seed in options.seeds]
        for job in jobs:
            job.result()  # raises what the job raised
        table(options)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        variant = sys.argv[2]
        sys.argv[1:3] = []
        if callable(VARIANTS[variant]):
            VARIANTS[variant]()
        convbert.main()
    else:
        main()
