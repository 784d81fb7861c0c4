"""On a GPU: the numbers of a CPU; and recorded updates are those whose kernels are launched one by one."""

from argparse import Namespace

import numpy as np
import pytest
import torch

import convbert

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU with CUDA")
CLASSES = {"mlm": convbert.ConvBertForMaskedLM, "rtd": convbert.ConvBertForPreTraining,
           "finetune": convbert.ConvBertForSequenceClassification}


def make(job, **changes):
    torch.manual_seed(0)
    fields = dict(num_hidden_layers=3, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    return CLASSES[job](convbert.ConvBertConfig(**fields | changes)).eval()


def batches_of(job, tokenizer, count, B=4, T=64):
    """Batches of random tokens; in fine-tuning with padding."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        rows = rng.integers(7, 8007, (B, T - 2)).astype(np.uint16)
        batch = convbert.mask_rows(rows, tokenizer, 0.15, rng, mask_share=0.8, random_share=0.1)
        if job == "finetune":
            mask = (torch.arange(T) < torch.from_numpy(rng.integers(1, T + 1, B))[:, None]).long()
            labels = torch.from_numpy(rng.integers(0, 2, B))
            batch = {"input_ids": batch["input_ids"] * mask, "attention_mask": mask, "labels": labels}
        yield batch


@pytest.mark.parametrize("T", [64, 300])  # each in a form of its own, see convolve
@pytest.mark.parametrize("size", ["small", "medium-small"])
@pytest.mark.parametrize("job", ["mlm", "finetune"])
def test_loss_and_gradients_in_fp32_are_those_of_a_cpu(job, size, T, tokenizer, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    on_cpu = make(job, **convbert.SIZES[size])
    on_gpu = make(job, **convbert.SIZES[size]).cuda()
    [batch] = batches_of(job, tokenizer, 1, T=T)
    for model, device in ((on_cpu, "cpu"), (on_gpu, "cuda")):
        loss = model(**{name: tensor.to(device) for name, tensor in batch.items()}).loss
        loss.backward()
    scale = max(parameter.grad.norm() for parameter in on_cpu.parameters())
    for ours, theirs in zip(on_gpu.parameters(), on_cpu.parameters()):
        assert (ours.grad.cpu() - theirs.grad).norm() <= 1e-4 * (theirs.grad.norm() + 0.01 * scale)


def losses(job, tokenizer, replay, precision, compiled=False, dropout=0.1, accumulate=1, steps=8):
    """Of some updates, in batches of two shapes."""
    args = Namespace(device=torch.device("cuda"), precision=precision, seed=42, task=job, weight_decay=0.01,
                     gradient_accumulation_steps=accumulate, layer_decay=1.0, compile=compiled)
    fields = dict(hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout)
    gradients = convbert.Gradients(make(job, **fields).cuda(), args)
    gradients.replay &= replay
    optimizer, found = convbert.make_optimizer(gradients.model, args), []
    for step in range(steps):
        batches = list(batches_of(job, tokenizer, accumulate, T=(64, 48)[step // 2 % 2]))
        found.append(convbert.training_step(gradients, optimizer, batches, step))
    return found


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("precision, tolerance", [("fp32", 1e-4), ("bf16", 0.02)])
@pytest.mark.parametrize("job", CLASSES)
def test_recorded_updates_are_those_of_single_kernels(job, precision, tolerance, accumulate, tokenizer):
    """Dropout too, which finetune has, and sampling, which rtd has: the seed decides them."""
    recorded, single = (losses(job, tokenizer, replay, precision, accumulate=accumulate)
                        for replay in (True, False))
    assert recorded == pytest.approx(single, rel=tolerance)
    assert len(set(recorded)) > 1


@pytest.mark.parametrize("job", ["mlm", "rtd"])
def test_compiled_updates_are_those_of_single_kernels(job, tokenizer):
    compiled = losses(job, tokenizer, True, "fp32", compiled=True, steps=4)
    assert compiled[:2] == pytest.approx(losses(job, tokenizer, False, "fp32", steps=4)[:2], rel=1e-3)
