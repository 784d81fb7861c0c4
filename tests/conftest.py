"""Fixtures of several test modules."""

import json
import sys
from pathlib import Path

import pytest
import sentencepiece
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from helpers import MODEL, ROOT, SAMPLE
from helpers import copy_project as copy_project  # which test_crawler.py takes from here

import convbert

torch.set_num_threads(1)
# Small models start from nothing.  tests/test_weights.py is about the bundled weights.
convbert.BACKBONE = convbert.CLASSIFIER = ROOT / "no weights"


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def tokenizer():
    return convbert.Tokenizer(ROOT / "vocab/kowiki.model")


@pytest.fixture(scope="session")
def processor():
    return sentencepiece.SentencePieceProcessor(model_file=str(ROOT / "vocab/kowiki.model"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """For tests that write the same few files again and again."""
    return tmp_path_factory.mktemp("folder")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Texts of their own, cut down, and a config.json."""
    folder = tmp_path_factory.mktemp("data")
    for name, lines in (("kowiki.txt", 300), ("ratings_train.txt", 250), ("ratings_test.txt", 41)):
        text = (SAMPLE / name).read_text(encoding="utf-8").splitlines(True)
        (folder / name).write_text("".join(text[:lines]), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(MODEL))
    return folder


@pytest.fixture(scope="module")
def models(data, tokenizer, tmp_path_factory):
    """A folder of two hardly trained models: tuned/, and plain/, which has no classifier."""
    folder = tmp_path_factory.mktemp("models")
    config = convbert.ConvBertConfig(**convbert.SIZES["tiny"])
    for name, cls in (("plain", convbert.ConvBertForMaskedLM),
                      ("tuned", convbert.ConvBertForSequenceClassification)):
        cls(config).save_pretrained(folder / name)
        tokenizer.save(folder / name)
    return folder
