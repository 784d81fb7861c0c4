"""The bundled weights: they answer at once, here and in transformers."""

import json
import re

import pytest
import torch
from helpers import ROOT, SAMPLE, SCRIPT, answers, run_python
from safetensors.torch import load_file

import convbert

BACKBONE = ROOT / "weights/convbert-small-ko"
CLASSIFIER = ROOT / "weights/convbert-small-ko-nsmc"
REVIEWS = {
    "배우들 연기가 정말 좋았어요": "positive",
    "시간이 아깝다": "negative",
    "두 번 봐도 재밌다 ㅋㅋㅋ": "positive",
    "지루해서 중간에 나왔네요 ㅡㅡ": "negative",
    "올해 본 영화 중 최고 ♥": "positive",
    "스토리도 엉망, 연기도 엉망": "negative",
}


@pytest.mark.parametrize("folder", [BACKBONE, CLASSIFIER])
def test_weights_are_small_and_in_half_precision(folder):
    weights = load_file(folder / "model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float16}
    assert sum(weight.numel() for weight in weights.values()) <= 14_000_000
    assert sum(path.stat().st_size for path in folder.iterdir()) < 32_000_000
    bundled = (ROOT / "vocab/kowiki.model").read_bytes()
    assert (folder / convbert.Tokenizer.FILE).read_bytes() == bundled


def test_the_program_answers_without_any_option(tmp_path):
    texts = [option for text in REVIEWS for option in ("--text", text)]
    result = run_python(SCRIPT, "--task", "predict", *texts, cwd=tmp_path)
    assert f"model: {CLASSIFIER}" in result.err
    assert {row["text"]: row["label"] for row in answers(result)} == REVIEWS


def test_fine_tuning_starts_from_the_backbone(tmp_path):
    result = run_python(SCRIPT, "--task", "finetune", "--train_file", SAMPLE / "ratings_train.txt",
                        "--max_train_samples", "60", "--max_steps", "1", cwd=tmp_path)
    assert result.code == 0, result.err
    assert f"model: {BACKBONE}" in result.err
    assert "begins anew: classification head; not used: masked LM head" in result.err


def test_transformers_gives_the_same_answers():
    transformers = pytest.importorskip("transformers")
    theirs = transformers.pipeline("text-classification", str(CLASSIFIER), device="cpu")
    ours = convbert.Classifier.from_pretrained(CLASSIFIER, device="cpu")
    assert theirs.model.dtype == torch.float32
    for text, answer in zip(REVIEWS, ours([*REVIEWS])):
        (other,) = theirs(text)
        assert other["label"] == answer["label"]
        assert other["score"] == pytest.approx(answer["score"], abs=1e-5)


def test_transformers_fills_masks_as_this_model_does():
    transformers = pytest.importorskip("transformers")
    fill = transformers.pipeline("fill-mask", str(BACKBONE), device="cpu", top_k=5)
    tokenizer = convbert.Tokenizer(BACKBONE / convbert.Tokenizer.FILE)
    model = convbert.ConvBertForMaskedLM.from_pretrained(BACKBONE, new_head=False)
    ids, _ = convbert.encode_texts(["대한민국의 수도는[MASK]이다."], tokenizer, 128)
    with torch.no_grad():
        logits = model(ids[0][None]).logits[0]
    chances = logits[ids[0].tolist().index(tokenizer.mask)].softmax(-1)
    for guess in fill("대한민국의 수도는[MASK]이다."):
        assert guess["score"] == pytest.approx(chances[guess["token"]].item(), abs=1e-5)


def test_the_cards_figures_are_those_of_the_logs():
    card = (CLASSIFIER / "README.md").read_text(encoding="utf-8")
    scores = json.loads((ROOT / "tests/results/shipped/evaluate/eval_results.json").read_text())
    assert f"{100 * scores['eval_accuracy']:.2f} %" in card
    for folder in (BACKBONE, CLASSIFIER):
        assert re.match(r"---\nlanguage: ko\nlicense: ", (folder / "README.md").read_text("utf-8"))
