"""Heads and losses against their formulas, `torch.nn.Linear` and autograd."""

import numpy as np
import pytest
import torch

from matpac.probe.heads import AttentionPooling, GatedPrototypes, LayerMixture, LinearHead, draw_start
from matpac.probe.inputs import Batch, Inputs, Scaler
from matpac.probe.targets import binary_cross_entropy_gradient, cross_entropy_gradient

LENGTHS = (4, 1, 3)


def test_the_start_is_what_nn_linear_draws():
    torch.manual_seed(7)
    linear = torch.nn.Linear(13, 4)
    weight, bias = draw_start(4, 13, torch.Generator().manual_seed(7))
    assert torch.equal(weight, linear.weight)
    assert torch.equal(bias, linear.bias)


@pytest.mark.parametrize("partial", [None, 0.0, 0.5])
def test_gradients_of_losses_are_autograds(partial):
    torch.manual_seed(0)
    logits = torch.randn(2, 6, 3, 5, requires_grad=True)
    labels, targets = torch.randint(0, 5, (2, 6)), torch.randint(0, 2, (2, 6, 5), dtype=torch.uint8)
    heads = [(group, rate) for group in range(2) for rate in range(3)]
    cross_entropy = torch.nn.functional.cross_entropy
    loss = torch.stack([cross_entropy(logits[g, :, r], labels[g]) for g, r in heads]).sum()
    (expected,) = torch.autograd.grad(loss, logits)
    found = cross_entropy_gradient(logits.detach(), labels, torch.tensor([6, 6]))
    torch.testing.assert_close(found, expected)

    known = None if partial is None else torch.rand(2, 6, 5) < partial
    mask = torch.ones(2, 6, 5, dtype=torch.bool) if known is None else known
    loss = logits.sum() * 0.0
    for g, r in heads:
        if mask[g].any():
            bce = torch.nn.functional.binary_cross_entropy_with_logits
            loss = loss + bce(logits[g, :, r][mask[g]], targets[g][mask[g]].float())
    (expected,) = torch.autograd.grad(loss, logits)
    count = mask.sum(dim=(1, 2)).clamp(min=1)
    torch.testing.assert_close(binary_cross_entropy_gradient(logits.detach(), targets, known, count), expected)


def linear_by_hand(parameters, values):
    return parameters["weight"] @ values[0, 0] + parameters["bias"]


def mixture_by_hand(parameters, values):
    shares = parameters["mixture"].exp() / parameters["mixture"].exp().sum()
    mixed = sum(share * layer[0] for share, layer in zip(shares, values, strict=True))
    return parameters["weight"] @ mixed + parameters["bias"]


def attention_by_hand(parameters, values):
    scores = torch.stack([(token @ parameters["query"]) / 5**0.5 for token in values[-1]]).exp()
    pooled = sum(score / scores.sum() * token for score, token in zip(scores, values[-1], strict=True))
    return parameters["weight"] @ pooled + parameters["bias"]


def prototypes_by_hand(parameters, values):
    layers, tokens, _ = values.shape
    logits = []
    for number in range(2):
        total = parameters["bias"][number]
        for prototype in (3 * number, 3 * number + 1, 3 * number + 2):
            gates = parameters["gates"][prototype].exp() / parameters["gates"][prototype].exp().sum()
            evidence = []
            for token in range(tokens):
                found = torch.zeros((), dtype=torch.float64)
                for layer in range(layers):
                    one, other = parameters["prototypes"][prototype, layer], values[layer, token]
                    found = found + gates[layer] * (one @ other) / one.norm() / other.norm()
                evidence.append(parameters["log_scale"][prototype].exp() * found)
            shares = torch.stack([(parameters["sharpness"][prototype] * one).exp() for one in evidence])
            total = total + sum(s / shares.sum() * e for s, e in zip(shares, evidence, strict=True))
        logits.append(total)
    return torch.stack(logits)


HEADS = [
    (LinearHead(2, 5), 1, linear_by_hand),
    (LayerMixture(2, 3, 5), 3, mixture_by_hand),
    (AttentionPooling(2, 5), 2, attention_by_hand),
    (GatedPrototypes(2, 3, 5, 3), 3, prototypes_by_hand),
]


@pytest.mark.parametrize(("head", "layers", "by_hand"), HEADS)
def test_heads_are_their_formula_and_gradients_are_right(head, layers, by_hand):
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(2, layers, 3, 4, 5, generator=generator, dtype=torch.float64)
    present = torch.arange(4) < torch.tensor(LENGTHS)[:, None]
    batch = Batch(values * present[:, :, None], present.expand(2, -1, -1))
    parameters = {
        name: torch.randn(2, 2, *value.shape, generator=generator, dtype=torch.float64)
        for name, value in head.start(generator).items()
    }
    logits = head.logits(parameters, batch)
    assert logits.shape == (2, 3, 2, 2)
    for group, rate in np.ndindex(2, 2):
        one = {name: value[group, rate] for name, value in parameters.items()}
        for clip, length in enumerate(LENGTHS):
            wanted = by_hand(one, batch.values[group, :, clip, :length])
            torch.testing.assert_close(logits[group, clip, rate], wanted)
    inputs = [value.requires_grad_() for value in parameters.values()]
    assert torch.autograd.gradcheck(
        lambda *tensors: head.logits(dict(zip(parameters, tensors, strict=True)), batch), inputs
    )


@pytest.mark.parametrize("head", [AttentionPooling(4, 10), GatedPrototypes(4, 1, 10, 1)])
def test_clips_padded_in_a_batch_are_what_they_are_alone(head):
    values = np.random.default_rng(0).normal(size=(2, 1, 6, 10)).astype(np.float32)
    inputs = Inputs(values, np.array([1, 6]))
    parameters = {name: value[None, None] for name, value in head.start(torch.Generator().manual_seed(0)).items()}
    scaler = Scaler(torch.zeros(1, 1, 10), torch.ones(1, 1, 10))

    def logits(*clips):
        return head.logits(parameters, inputs.batch(torch.tensor([clips]), scaler))

    torch.testing.assert_close(logits(0, 1), torch.cat([logits(0), logits(1)], dim=1))
