import sys
from pathlib import Path

import pytest
import sentencepiece
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def tokenizer():
    import convbert
    return convbert.Tokenizer(ROOT / "vocab/kowiki.model")


@pytest.fixture(scope="session")
def processor():
    return sentencepiece.SentencePieceProcessor(model_file=str(ROOT / "vocab/kowiki.model"))
