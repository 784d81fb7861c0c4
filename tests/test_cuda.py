"""On a GPU: the numbers of a CPU; and compiled updates are those of the layers as they stand."""

from argparse import Namespace
from types import SimpleNamespace
from unittest import mock

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
            ids = batch["input_ids"] * mask
            batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
        yield batch


@pytest.mark.parametrize("T", [64, 300])  # on a CPU in two forms, see convolve
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


def losses(job, tokenizer, precision, compiled=False, steps=4):
    """Of some updates, without dropout, which a compiled layer draws otherwise."""
    args = Namespace(device=torch.device("cuda"), weight_decay=0.01, layer_decay=1.0,
                     precision=precision, compile=compiled)
    model = make(job).cuda().train()
    batches = list(batches_of(job, tokenizer, steps))
    model_to_run = convbert.prepare(model, args, SimpleNamespace(
        of_update=lambda step: [(step, batches[step])]))
    optimizer, found = convbert.make_optimizer(model, args), []
    for group in optimizer.param_groups:
        group["lr"] = 1e-4
    for step, batch in enumerate(batches):
        torch.manual_seed(step)  # of what a generator draws
        loss = convbert.run_model(model_to_run, batch, precision).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        found.append(loss.item())
    return found


@pytest.mark.parametrize("precision, tolerance", [("fp32", 1e-3), ("bf16", 0.02)])
@pytest.mark.parametrize("job", ["mlm", "rtd"])
def test_compiled_updates_are_those_of_the_layers(job, precision, tolerance, tokenizer):
    with mock.patch.object(convbert, "depthwise_by_sum", wraps=convbert.depthwise_by_sum) as by_sum:
        plain = losses(job, tokenizer, precision)
        assert not by_sum.called  # it is slow where it is not compiled
    compiled = losses(job, tokenizer, precision, compiled=True)
    assert compiled[:2] == pytest.approx(plain[:2], rel=tolerance)
    assert len(set(compiled)) == 4


def test_the_seed_decides_the_dropout_of_a_gpu(tokenizer):
    model = make("finetune", hidden_dropout_prob=0.1).cuda().train()
    [batch] = batches_of("finetune", tokenizer, 1)

    def loss(seed):
        torch.manual_seed(seed)
        return convbert.run_model(model, batch, "fp32").loss.item()

    assert loss(1) == loss(1) != loss(2)
