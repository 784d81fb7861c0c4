"""NSMC without a neural network: TF-IDF of character n-grams and logistic regression.

Needs scikit-learn.  The 5,000 reviews held out are those that `--task finetune` holds out; they
choose how much to regularise.  The test file is scored once.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import convbert


def features_of():
    return TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), min_df=2, sublinear_tf=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train_file", required=True, help="Reviews in NSMC's format.")
    parser.add_argument("--test_file", required=True, help="Reviews to score.")
    parser.add_argument("--output", type=Path, help="JSON file for the result.")
    options, began = parser.parse_args(), time.perf_counter()
    texts, labels = convbert.read_reviews(options.train_file)
    training, held_out = convbert.hold_out(len(texts))
    features = features_of()
    X, dev = features.fit_transform(texts[training]), features.transform(texts[held_out])
    models = {C: LogisticRegression(C=C, solver="liblinear").fit(X, labels[training])
              for C in (1, 3, 10)}
    scores = {C: model.score(dev, labels[held_out]) for C, model in models.items()}
    best = max(scores, key=scores.get)
    texts, labels = convbert.read_reviews(options.test_file)
    result = {"features": X.shape[1], "dev_accuracy": scores, "C": best,
              "eval_accuracy": models[best].score(features.transform(texts), labels),
              "eval_samples": len(texts), "seconds": round(time.perf_counter() - began)}
    print(json.dumps(result))
    if options.output:
        convbert.write_json(options.output, result)


if __name__ == "__main__":
    main()
