"""Part 4: masked language modelling, replaced token detection, classification."""

import json

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from helpers import (
    MASK,
    command,
    conv_types,
    finish,
    gradients,
    length_mask,
    losses,
    make,
    masked_batch,
    random_ids,
    same,
    saved,
    tiny,
)

import convbert
from convbert import (
    IGNORE,
    ConvBertForMaskedLM,
    ConvBertForPreTraining,
    ConvBertForSequenceClassification,
    ConvBertModel,
)

# ---- Masked language modelling

def test_mlm_output_weights_are_the_word_embeddings(tmp_path):
    first = make(ConvBertForMaskedLM)
    for model in (first, ConvBertForMaskedLM.from_pretrained(saved(first, tmp_path))):
        assert model.generator_lm_head.weight is model.convbert.embeddings.word_embeddings.weight
    weights = safetensors.torch.load_file(tmp_path / "model.safetensors")
    assert "generator_lm_head.weight" not in weights


# ---- Replaced token detection

def seen(model, *inputs, labels):
    """(output, the tokens that the discriminator was given)"""
    tokens = []
    handle = model.convbert.register_forward_pre_hook(lambda module, args: tokens.append(args[0]))
    output = model(*inputs, labels=labels)
    handle.remove()
    return output, tokens[-1]


def always_guess(model, token):
    """Makes the generator certain of one token at all positions."""
    with torch.no_grad():
        model.generator.generator_lm_head.bias[token] = 1e4


@pytest.mark.parametrize("lengths", [None, [14, 9, 5]], ids=["plain", "padded"])
def test_rtd_loss_is_that_of_its_parts(lengths):
    model, (ids, labels) = make(ConvBertForPreTraining), masked_batch()
    mask = torch.ones_like(ids) if lengths is None else length_mask(lengths, 14)
    labels = torch.where(mask == 1, labels, IGNORE)
    given = (ids, None if lengths is None else mask)
    torch.manual_seed(7)
    output, corrupted = seen(model, *given, labels=labels)

    mlm_loss = model.generator(*given, labels=labels).loss
    replaced = (labels != IGNORE) & (corrupted != labels)
    assert replaced.any()
    head = model.discriminator_predictions
    hidden = F.gelu(head.dense(model.convbert(corrupted, given[1])))
    logits = head.dense_prediction(hidden)[..., 0]
    each = -torch.where(replaced, F.logsigmoid(logits), F.logsigmoid(-logits))
    same(output.logits, logits)
    same(output.loss, mlm_loss + 50 * (each * mask).sum() / mask.sum())

    torch.manual_seed(7)
    assert model(*given, labels=labels).loss == output.loss


def test_a_position_without_label_is_never_changed():
    model, (ids, labels) = make(ConvBertForPreTraining), masked_batch()
    always_guess(model, 6)
    _, corrupted = seen(model, ids, labels=labels)
    assert torch.equal(corrupted, torch.where(labels == IGNORE, ids, 6))


def test_only_a_guess_that_differs_from_the_original_counts_as_replaced():
    model = make(ConvBertForPreTraining)
    ids = torch.tensor([[10, MASK, 11, MASK, 6, 12]])  # the fifth, labelled, was left as it is
    labels = torch.tensor([[IGNORE, 6, IGNORE, 7, 6, IGNORE]])
    always_guess(model, 6)
    output, corrupted = seen(model, ids, labels=labels)
    assert corrupted.tolist() == [[10, 6, 11, 6, 6, 12]]
    replaced = torch.tensor([[0.0, 0, 0, 1, 0, 0]])
    expected = F.binary_cross_entropy_with_logits(output.logits, replaced)
    mlm_loss = model.generator(ids, labels=labels).loss
    # 1e-3, since the loss of the generator, which is certain, is in the thousands
    same(output.loss - mlm_loss, 50 * expected, 1e-3)


@pytest.mark.parametrize("pads", [1, 30])
def test_padding_counts_in_neither_loss(pads):
    model, (ids, labels) = make(ConvBertForPreTraining), masked_batch()
    torch.manual_seed(7)
    alone = model(ids, labels=labels)
    torch.manual_seed(7)
    mask = length_mask([14] * 3, 14 + pads)
    beside = model(F.pad(ids, (0, pads)), mask, labels=F.pad(labels, (0, pads), value=IGNORE))
    same(beside.loss, alone.loss)
    same(beside.logits[:, :14], alone.logits)


def test_tokens_are_drawn_from_the_softmax(monkeypatch):
    model, logits = make(ConvBertForPreTraining), torch.full((50,), -30.0)
    logits[10:14] = torch.tensor([0.5, 0.25, 0.2, 0.05]).log()
    guess = convbert.ModelOutput(torch.tensor(0.0), logits.expand(4000, 50))
    monkeypatch.setattr(model.generator, "forward", lambda *args: guess)
    with torch.no_grad():
        _, corrupted = seen(model, torch.full((40, 100), MASK), labels=torch.full((40, 100), 10))
    shares = torch.bincount(corrupted.flatten(), minlength=50) / 4000
    assert shares[10:14].sum() == 1
    same(shares[10:14], torch.tensor([0.5, 0.25, 0.2, 0.05]), 0.03)


def own_parameters(model):
    """The generator's parameters but for those it shares."""
    shared = {id(p) for p in model.convbert.parameters()}
    return {name: p for name, p in model.generator.named_parameters() if id(p) not in shared}


def test_generator_and_discriminator_share_their_embeddings():
    model = make(ConvBertForPreTraining, embedding_size=8)
    assert model.generator.convbert.embeddings is model.convbert.embeddings
    words = model.convbert.embeddings.word_embeddings
    assert model.generator.generator_lm_head.weight is words.weight
    assert not any("_embeddings." in name for name in own_parameters(model))


def test_the_generator_learns_from_its_own_loss_alone():
    model, (ids, labels) = make(ConvBertForPreTraining), masked_batch()
    both = gradients(model, model(ids, labels=labels).loss)
    mlm = gradients(model, model.generator(ids, labels=labels).loss)
    names = [f"generator.{name}" for name in own_parameters(model)]
    assert len(names) > 20
    for name in names:
        same(both[name], mlm[name], 1e-7)
    shared = "convbert.embeddings.word_embeddings.weight"
    assert (both[shared] - mlm[shared]).abs().max() > 1e-3


@conv_types
def test_gradient_reaches_every_parameter_of_both(conv_type):
    model = make(ConvBertForPreTraining, embedding_size=8, conv_type=conv_type)
    ids, labels = masked_batch()
    for name, grad in gradients(model, model(ids, labels=labels).loss).items():
        if not name.endswith("key.bias"):  # softmax does not see it
            assert grad.abs().max() > 1e-6, name


def test_a_batch_without_labels_has_a_finite_loss():
    ids = random_ids(2, 9)
    labels = torch.full_like(ids, IGNORE)
    assert make(ConvBertForMaskedLM)(ids, labels=labels).loss == 0
    output, corrupted = seen(make(ConvBertForPreTraining), ids, labels=labels)
    assert torch.equal(corrupted, ids)
    same(output.loss, 50 * F.softplus(output.logits).mean())


def test_replaced_token_detection_saves_a_backbone_and_all_that_was_trained_with_it(tmp_path):
    model = make(ConvBertForPreTraining, embedding_size=8)
    ids, labels = masked_batch()
    backbone = ConvBertModel.from_pretrained(saved(model, tmp_path))
    assert torch.equal(backbone(ids), model.convbert(ids))
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == ["ConvBertForPreTraining"]
    again = ConvBertForPreTraining.from_pretrained(tmp_path, new_head=False)
    results = []
    for each in (model, again):
        torch.manual_seed(7)
        results.append(each(ids, labels=labels))
    assert torch.equal(results[0].loss, results[1].loss)
    assert torch.equal(results[0].logits, results[1].logits)


def test_replaced_token_detection_goes_on_from_a_folder_where_that_ended(data, tmp_path):
    """From that of a run and from a checkpoint: generator and heads are there, too."""
    finish(command("rtd", data), tmp_path / "first")
    ended = losses(tmp_path / "first")[-1]
    options = list(command("rtd", data))
    at = options.index("--config_name")
    for folder in (tmp_path / "first", tmp_path / "first/checkpoint-12"):
        options[at : at + 2] = ["--model_name_or_path", folder]
        err = finish(options, tmp_path / f"from {folder.name}")
        assert "begins anew" not in err
        [began, *_] = losses(tmp_path / f"from {folder.name}")
        assert began == pytest.approx(ended, rel=1e-6)


# ---- One batch, learnt by heart

def steps_to_overfit(model, ids, labels, at_most):
    """How many steps of Adam until the loss of one batch is below 0.1."""
    # the usual 0.999 does not get over the large gradient of a wrong token drawn late
    optimizer = torch.optim.Adam(model.train().parameters(), lr=3e-3, betas=(0.9, 0.95))
    for step in range(at_most):
        loss = model(ids, labels=labels).loss
        if loss.item() < 0.1:
            return step
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    pytest.fail(f"the loss is {loss.item():.3f} after {at_most} steps")


def overfit_config(**changes):
    sizes = dict(vocab_size=30, embedding_size=16, hidden_size=32, intermediate_size=64)
    return tiny(**sizes | changes)


@conv_types
def test_mlm_overfits_one_batch(conv_type):
    ids = random_ids(4, 10, vocab_size=30)
    labels = torch.where(torch.rand(4, 10) < 0.3, ids, IGNORE)
    masked = torch.where(labels == IGNORE, ids, MASK)
    model = ConvBertForMaskedLM(overfit_config(conv_type=conv_type))
    assert steps_to_overfit(model, masked, labels, 500) > 3


@conv_types
def test_replaced_token_detection_overfits_one_batch(conv_type):
    ids = random_ids(4, 8, vocab_size=30)
    labels = torch.full_like(ids, IGNORE).scatter(1, torch.tensor([[1], [3], [4], [6]]), 7)
    model = ConvBertForPreTraining(overfit_config(conv_type=conv_type))
    assert steps_to_overfit(model, torch.where(labels == IGNORE, ids, MASK), labels, 1000) > 3


@conv_types
def test_classifier_overfits_one_batch(conv_type):
    ids, labels = random_ids(6, 10, vocab_size=30), torch.tensor([0, 1, 1, 0, 1, 0])
    model = ConvBertForSequenceClassification(overfit_config(conv_type=conv_type))
    assert steps_to_overfit(model, ids, labels, 500) > 3
