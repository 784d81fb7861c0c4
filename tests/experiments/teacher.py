"""One model from several: a shared start, the average of their weights, soft labels of a blend.

    teacher.py start   --models runs/reviews --output_dir runs/start
    teacher.py average --models runs/42 runs/43 runs/44 --train_file ratings_train.txt \
                       --output_dir runs/average
    teacher.py label   --models runs/42 runs/43 --train_file ratings_train.txt \
                       --texts reviews.txt --output soft.jsonl
    teacher.py ship    --models runs/average --output_dir weights/convbert-small-ko-nsmc

Only models with the same start can be averaged: with the same head, drawn once, but another --seed
for the order and dropout (Wortsman et al. 2022, arXiv 2203.05482).  `average` writes into
eval_results.json how many of the rows are right that `--task finetune` holds out.  `label` adds up
the mean logits of the models and those of a regression on character n-grams, which needs
scikit-learn, and divides them by --temperature.  It writes soft.jsonl for `--task finetune
--train_file`, the training rows last, and dev.jsonl for its `--validation_file`: the rows held out.
They teach nobody, and the accuracy on them is printed.

`ship` writes the weights in float16, half the size; config.json tells transformers to compute in
float32.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import convbert
from convbert import Classifier, ConvBertForSequenceClassification


def start(options):
    """A classifier with a new head, from which all seeds begin."""
    torch.manual_seed(42)
    save(ConvBertForSequenceClassification.from_pretrained(
        options.models[0], id2label=convbert.NSMC_LABELS), options)


def average(options):
    """The mean of each weight."""
    models = [ConvBertForSequenceClassification.from_pretrained(folder, new_head=False)
              for folder in options.models]
    weights = [model.state_dict() for model in models]
    mean = {name: torch.stack([w[name] for w in weights]).mean(0) for name in weights[0]}
    models[0].load_state_dict(mean)
    save(models[0], options)
    texts, labels = convbert.read_reviews(options.train_file)
    held_out = convbert.hold_out(len(texts))[1]
    right = (logits_of([options.output_dir], texts[held_out]) > 0) == labels[held_out]
    scores = {"dev_accuracy": float(right.mean())}
    convbert.write_json(options.output_dir / "eval_results.json", scores)
    print(json.dumps(scores))


def save(model, options):
    model.save_pretrained(options.output_dir)
    convbert.Tokenizer(options.models[0] / convbert.Tokenizer.FILE).save(options.output_dir)


def ship(options):
    folder = options.models[0]
    options.output_dir.mkdir(parents=True, exist_ok=True)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    convbert.write_json(options.output_dir / "config.json", config | {"dtype": "float32"})
    half = {name: weight.half() for name, weight in convbert.read_weights(folder)[1].items()}
    assert all(weight.isfinite().all() for weight in half.values()), "too large for float16"
    save_file(half, options.output_dir / "model.safetensors", metadata={"format": "pt"})
    convbert.Tokenizer(folder / convbert.Tokenizer.FILE).save(options.output_dir)


def logits_of(folders, texts):
    """log p(positive) - log p(negative), the mean over the models: float [n]."""
    total = np.zeros(len(texts))
    precision = convbert.choose_precision(convbert.choose_device())
    for folder in folders:
        classify = Classifier.from_pretrained(folder, batch_size=128, precision=precision)
        for first in range(0, len(texts), convbert.CHUNK):
            part = [*texts[first : first + convbert.CHUNK]]
            scores = [answer["scores"] for answer in classify(part, all_scores=True)]
            p = np.clip([score["positive"] for score in scores], 1e-6, 1 - 1e-6)
            total[first : first + len(part)] += np.log(p / (1 - p))
    return total / len(folders)


def label(options):
    from baseline import features_of  # needs scikit-learn
    from sklearn.linear_model import LogisticRegression

    texts, labels = convbert.read_reviews(options.train_file)
    training, held_out = convbert.hold_out(len(texts))
    features = features_of()
    X = features.fit_transform(texts[training])
    regression = LogisticRegression(C=options.C, solver="liblinear").fit(X, labels[training])

    def blend(some):
        ngrams = regression.decision_function(features.transform(some))
        return (logits_of(options.models, some) + options.weight * ngrams) / options.temperature

    right = (blend(texts[held_out]) > 0) == labels[held_out]
    print(f"dev accuracy of the blend: {right.mean():.4f}")
    held = [convbert.Example("", texts[i], str(labels[i]), {}) for i in held_out]
    convbert.keep_examples(held, options.output.with_name("dev.jsonl"))
    lines = [line.strip() for line in options.texts.read_text(encoding="utf-8").splitlines()]
    known = set(texts[held_out])
    lines = [line for line in lines if line and line not in known]
    rows = [{"text": line} for line in lines]
    rows += [{"text": texts[i], "label": int(labels[i])} for i in training]
    p = 1 / (1 + np.exp(-blend(np.array([row["text"] for row in rows], object))))
    with convbert.replacing(options.output) as path, open(path, "w", encoding="utf-8") as file:
        for row, positive in zip(rows, p.tolist()):
            row["scores"] = {"negative": 1 - positive, "positive": positive}
            print(json.dumps(row, ensure_ascii=False), file=file)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("step", choices=["start", "average", "label", "ship"])
    add("--models", type=Path, nargs="+", required=True, help="Folders of models.")
    add("--output_dir", type=Path, help="Folder for the model of start, average or ship.")
    add("--train_file", help="NSMC's training set.")
    add("--texts", type=Path, help="Texts to label, one a line; blank lines do not matter.")
    add("--output", type=Path, help="JSON lines with scores.")
    add("--weight", type=float, default=0.5, help="Of the regression's logits.  [0.5]")
    add("--temperature", type=float, default=1.75, help="Divides the sum of logits.  [1.75]")
    add("--C", type=float, default=10.0, help="Inverse of its regularisation.  [10]")
    options = parser.parse_args()
    {"start": start, "average": average, "label": label, "ship": ship}[options.step](options)


if __name__ == "__main__":
    main()
