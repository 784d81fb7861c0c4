import shutil
import sys
from pathlib import Path

import pytest
import sentencepiece
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
torch.set_num_threads(1)


def copy_project(folder):
    """All of the project that its commands need, as a clone would hold it."""
    for pattern in ("*.py", "*.md", "config.json", "tests/*.py", "tests/*/*.py",
                    "web-crawler/*.py"):
        for path in ROOT.glob(pattern):
            (folder / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder / path.relative_to(ROOT))
    for name in ("vocab", "web-crawler/sample"):
        shutil.copytree(ROOT / name, folder / name)


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
