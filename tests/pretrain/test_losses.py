"""Losses against slow loops written from the formulas."""

import math

import pytest
import torch

from matpac.pretrain.losses import (
    choose,
    classification_loss,
    hypothesis_losses,
    multiple_choice_loss,
    teacher_probabilities,
)


def cosine(a, b):
    return float(sum(x * y for x, y in zip(a, b, strict=True))) / math.sqrt(
        float(sum(x * x for x in a)) * float(sum(y * y for y in b))
    )


def test_prediction_loss_of_every_hypothesis():
    targets, hypotheses = torch.randn(2, 3, 4), torch.randn(2, 3, 5, 4)
    losses = hypothesis_losses(targets, hypotheses)
    for b in range(2):
        for m in range(3):
            for r in range(5):
                expected = 2 - 2 * cosine(targets[b, m].tolist(), hypotheses[b, m, r].tolist())
                assert losses[b, m, r] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("temperature", [0.5, 0.1, 0.003])
def test_annealed_assignment(temperature):
    losses = torch.rand(2, 3, 4) * 4
    found = multiple_choice_loss(losses, temperature)
    for b in range(2):
        for m in range(3):
            row = losses[b, m].tolist()
            low = min(row)
            weights = [math.exp(-(value - low) / temperature) for value in row]
            expected = sum(w * v for w, v in zip(weights, row, strict=True)) / sum(weights)
            assert found[b, m] == pytest.approx(expected, rel=1e-4)


def test_weights_send_no_gradient():
    losses = torch.rand(1, 1, 4, requires_grad=True)
    multiple_choice_loss(losses, 0.1).sum().backward()
    torch.testing.assert_close(losses.grad, torch.softmax(-losses.detach() / 0.1, dim=-1))


def test_cold_assignment_takes_the_winner_alone():
    losses = torch.tensor([[[3.0, 1.0, 2.0]]], requires_grad=True)
    loss = multiple_choice_loss(losses, 1e-4)
    assert loss.item() == 1.0
    loss.sum().backward()
    assert losses.grad is not None
    assert losses.grad.tolist() == [[[0.0, 1.0, 0.0]]]


@pytest.mark.parametrize("temperature", [0.1, 1e-5])
def test_one_hypothesis_is_the_plain_loss(temperature):
    losses = torch.rand(2, 3, 1)
    assert torch.equal(multiple_choice_loss(losses, temperature), losses[..., 0])


@pytest.mark.parametrize("temperature", [0.1, 0.003, 1.1e-4, 1e-4, 5e-5, 0.0])
def test_a_temperature_on_the_device_is_the_same_as_a_number(temperature):
    """Zero too, of which the form that is not chosen must not spoil the gradient."""
    start = torch.rand(2, 3, 4) * 4
    gradients, values = [], []
    for given in (temperature, torch.tensor(temperature)):
        losses = start.clone().requires_grad_()
        values.append(multiple_choice_loss(losses, given))
        values[-1].sum().backward()
        gradients.append(losses.grad)
    torch.testing.assert_close(values[1], values[0])
    torch.testing.assert_close(gradients[1], gradients[0])
    if temperature > 0:
        logits, center = torch.randn(4, 6), torch.randn(6)
        numbers, tensors = (
            teacher_probabilities(logits, center, given) for given in (temperature, torch.tensor(temperature))
        )
        torch.testing.assert_close(tensors, numbers, rtol=1e-3, atol=1e-6)


def test_choose_gives_the_winner_with_its_gradient():
    hypotheses = torch.randn(2, 3, 4, 5, requires_grad=True)
    winner = torch.randint(0, 4, (2, 3))
    chosen = choose(hypotheses, winner)
    chosen.sum().backward()
    assert hypotheses.grad is not None
    for b in range(2):
        for m in range(3):
            assert torch.equal(chosen[b, m], hypotheses[b, m, winner[b, m]])
            assert hypotheses.grad[b, m].sum(-1).tolist() == [5.0 * (r == winner[b, m]) for r in range(4)]


def test_classification_is_a_cross_entropy():
    teacher, student, center = torch.randn(4, 6), torch.randn(4, 6), torch.randn(6)
    probabilities = teacher_probabilities(teacher, center, 0.05)
    losses = classification_loss(probabilities, student)
    for token in range(4):
        sharp = [math.exp((teacher[token, k] - center[k]) / 0.05 - 100) for k in range(6)]
        target = [value / sum(sharp) for value in sharp]
        soft = [math.exp(student[token, k] / 0.1) for k in range(6)]
        expected = -sum(t * math.log(s / sum(soft)) for t, s in zip(target, soft, strict=True))
        assert losses[token] == pytest.approx(expected, rel=1e-4, abs=1e-6)
