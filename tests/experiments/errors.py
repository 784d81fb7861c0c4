"""Where a classifier of NSMC is right: by length, by its score, and a sample of its errors.

    python convbert.py --task predict --test_file ratings_test.txt --output_file predictions.jsonl
    python tests/experiments/errors.py predictions.jsonl
"""

import argparse
import itertools
import json
import random
from pathlib import Path

LENGTHS = (0, 10, 20, 40, 80, 1000)  # characters: from one to below the next
SCORES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.01)


def shares(rows, value, edges):
    """Lines of a table: from, to, reviews, and the share of them that is right in %."""
    lines = []
    for low, high in itertools.pairwise(edges):
        part = [right for row, right in rows if low <= value(row) < high]
        if part:
            share = 100 * sum(part) / len(part)
            lines.append(f"{low} to {high}: {len(part):,} reviews, {share:.1f} % right")
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("predictions", type=Path, help="What predict wrote, with labels 0 and 1.")
    parser.add_argument("--errors", type=int, default=70, help="Errors to show.  [70]")
    options = parser.parse_args()
    rows = [json.loads(line) for line in options.predictions.read_text("utf-8").splitlines()]
    names = {"0": "negative", "1": "positive"}
    rows = [(row, names[row["label"]] == row["predicted_label"]) for row in rows]
    print("by characters", *shares(rows, lambda row: len(row["document"]), LENGTHS), sep="\n  ")
    print("by score", *shares(rows, lambda row: row["score"], SCORES), sep="\n  ")
    wrong = [row for row, right in rows if not right]
    print(f"errors: {len(wrong):,} of {len(rows):,}; a random sample")
    for row in random.Random(42).sample(wrong, min(options.errors, len(wrong))):
        answer = f"{row['predicted_label']} {row['score']:.2f}"
        print(f"  {names[row['label']]}, not {answer}: {row['document']}")


if __name__ == "__main__":
    main()
