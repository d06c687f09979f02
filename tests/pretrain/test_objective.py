"""The objective's switches: what each one changes, and that what is switched off costs nothing."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from matpac.errors import MatpacError
from matpac.model.vit import EncoderConfig
from matpac.pretrain import Objective, ObjectiveConfig, PretextOutput, Temperatures
from matpac.pretrain.classification import ClassificationHead, HeadConfig
from matpac.pretrain.masking import mask_noise, split_by_noise
from matpac.pretrain.predictor import PredictorConfig

CONFIG = ObjectiveConfig(
    encoder=EncoderConfig(width=32, depth=2, heads=2, frames=96),
    predictor=PredictorConfig(width=16, depth=1, heads=2, hypotheses=3),
    head=HeadConfig(hidden=24, bottleneck=16, classes=20),
)
ONE_HYPOTHESIS = replace(CONFIG.predictor, hypotheses=1)
TEMPERATURES = Temperatures(0.1, 0.04)


def forward(objective: Objective, batch: int = 2, change: Tensor | None = None) -> PretextOutput:
    """The output for one random batch, to which `change` is added."""
    config = objective.config
    split = split_by_noise(mask_noise(batch, config.encoder.tokens, (1,)), config.mask_ratio)
    generator = torch.Generator().manual_seed(0)
    logmel = torch.randn(batch, config.encoder.mels, config.encoder.frames, generator=generator)
    return objective(logmel if change is None else logmel + change, split, TEMPERATURES)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_loss_is_the_weighted_sum_of_the_tasks(alpha: float) -> None:
    output = forward(Objective(replace(CONFIG, alpha=alpha)))
    losses = zip((alpha, 1 - alpha), (output.prediction, output.classification), strict=True)
    assert [loss is None for loss in (output.prediction, output.classification)] == [alpha == 0, alpha == 1]
    expected = sum(weight * loss.mean() for weight, loss in losses if loss is not None)
    torch.testing.assert_close(output.loss.detach(), torch.as_tensor(expected))


def test_without_classification_there_is_no_head() -> None:
    objective = Objective(replace(CONFIG, alpha=1.0))
    output = forward(objective)
    assert (objective.head, objective.center, objective.teacher.head) == (None, None, None)
    assert (output.classification, output.probabilities, output.student_logits) == (None, None, None)
    output.loss.backward()
    objective.update_teacher(0.9, 0.9)


def test_classification_alone_computes_no_prediction_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("matpac.pretrain.objective.hypothesis_losses", None)  # is not called
    monkeypatch.setattr("matpac.pretrain.objective.multiple_choice_loss", None)
    forward(Objective(replace(CONFIG, alpha=0.0, predictor=ONE_HYPOTHESIS))).loss.backward()


def test_classification_alone_chooses_the_winner_without_gradient() -> None:
    objective = Objective(replace(CONFIG, alpha=0.0))
    output = forward(objective)
    assert 1 < len(output.winner.unique()) <= 3
    output.loss.backward()
    assert all(p.grad is not None for p in objective.parameters() if p.requires_grad)


def test_every_learning_parameter_has_a_gradient_and_the_teacher_none() -> None:
    objective = Objective(CONFIG)
    forward(objective).loss.backward()
    for name, parameter in objective.named_parameters():
        assert (parameter.grad is None) == name.startswith("teacher."), name


@pytest.mark.parametrize("part", ["visible", "masked"])
def test_the_student_sees_visible_patches_alone_and_the_teacher_masked_ones(part: str) -> None:
    # of several hypotheses, the winner depends on the target
    objective = Objective(replace(CONFIG, alpha=1.0, predictor=ONE_HYPOTHESIS)).eval()
    f, t = divmod(int(getattr(split_by_noise(mask_noise(1, 30, (1,)), 0.7), part)[0, 0]), 6)
    change = torch.zeros(1, 80, 96)
    change[0, 16 * f : 16 * f + 16, 16 * t : 16 * t + 16] = 1
    first, second = forward(objective, 1), forward(objective, 1, change)
    assert torch.equal(first.predictions, second.predictions) == (part == "masked")
    assert torch.equal(first.targets, second.targets) == (part == "visible")


@pytest.mark.parametrize("ratio", [0.3, 0.9])
def test_mask_ratio_sets_how_much_is_predicted_whatever_the_size(ratio: float) -> None:
    encoder = EncoderConfig(width=16, depth=1, heads=1, mels=64, frames=48)
    output = forward(Objective(replace(CONFIG, mask_ratio=ratio, encoder=encoder)))
    assert output.targets.shape == (2, 12 - int(12 * (1 - ratio)), 16)


def test_every_hypothesis_starts_as_a_layer_of_its_own() -> None:
    """Xavier's bound is that of one layer, not of the matrix they share."""
    predictor = Objective(CONFIG).predictor
    assert predictor.hypotheses.out_features == 3 * 32
    bound = (6 / (16 + 32)) ** 0.5
    assert 0.95 * bound < predictor.hypotheses.weight.abs().max() <= bound


@pytest.mark.parametrize("copied", [False, True])
def test_teacher_starts_apart_with_the_last_layer_of_the_head_shared_or_as_a_copy(copied: bool) -> None:
    torch.manual_seed(0)
    objective = Objective(replace(CONFIG, teacher_starts_as_copy=copied))
    weights = objective.state_dict()
    first = ("transformer.blocks.0.mlp.fc1.weight", "head.mlp.0.weight", "head.direction")
    pairs = [(weights.get(f"student.{name}", weights.get(name)), weights[f"teacher.{name}"]) for name in first]
    same = [one is not None and torch.equal(one, other) for one, other in pairs]
    assert same == [copied, copied, True]


def test_teacher_is_a_running_average() -> None:
    objective = Objective(CONFIG)
    before = {name: p.clone() for name, p in objective.teacher.named_parameters()}
    objective.update_teacher(0.9, 0.75)
    student = objective.state_dict()
    for name, now in objective.teacher.named_parameters():
        decay = 0.75 if name.startswith("head") else 0.9
        value = student[name if name.startswith("head") else f"student.{name}"]
        torch.testing.assert_close(now, decay * before[name] + (1 - decay) * value)


@pytest.mark.parametrize("center_on", ["probabilities", "logits"])
def test_centre_is_a_running_mean_from_zero(center_on: Any) -> None:
    objective = Objective(replace(CONFIG, head=replace(CONFIG.head, center_on=center_on))).eval()
    output = forward(objective)
    assert objective.teacher.head is not None
    assert objective.center is not None
    assert output.center_batch is not None
    assert not objective.center.value.any()
    logits = objective.teacher.head(output.targets.flatten(0, 1))
    value = [0.0] * 20
    for row in logits:
        row = row if center_on == "logits" else torch.softmax(row / 0.04, dim=-1)
        value = [sum_ + float(share) / len(logits) for sum_, share in zip(value, row, strict=True)]
    torch.testing.assert_close(output.center_batch, torch.tensor(value), atol=1e-5, rtol=1e-4)
    objective.center.value.fill_(1.0)
    objective.center.update(output.center_batch)
    expected = torch.tensor([0.9 + 0.1 * v for v in value])
    torch.testing.assert_close(objective.center.value, expected, atol=1e-5, rtol=1e-4)


def test_the_centre_moves_the_targets() -> None:
    objective = Objective(CONFIG).eval()
    assert objective.center is not None
    before = forward(objective).probabilities
    objective.center.value[3] += 1.0
    after = forward(objective).probabilities
    assert before is not None
    assert after is not None
    assert (after[:, 3] < before[:, 3]).all()


def test_heads_last_layer_is_a_cosine_times_a_gain() -> None:
    head, x = ClassificationHead(8, CONFIG.head), torch.randn(3, 8)
    logits, bottleneck = head(x), head.mlp(x)
    for token in range(3):
        for k in range(20):
            expected = torch.cosine_similarity(bottleneck[token], head.direction[k], dim=0)
            torch.testing.assert_close(logits[token, k], expected, atol=1e-5, rtol=1e-4)
    with torch.no_grad():
        head.gain.mul_(2)
    torch.testing.assert_close(head(x), 2 * logits)


@pytest.mark.parametrize(
    ("config", "change", "named"),
    [
        (CONFIG, {"alpha": 1.5}, r"alpha must be between 0 and 1, not 1\.5"),
        (CONFIG, {"mask_ratio": 0.99}, r"mask_ratio 0\.99 leaves 0 of 30"),
        (CONFIG, {"mask_ratio": float("nan")}, "mask_ratio nan leaves 0 of 30"),
        *[(CONFIG.predictor, {name: 0}, name) for name in ("width", "depth", "heads", "hypotheses")],
        *[(CONFIG.head, {name: 0}, name) for name in ("hidden", "bottleneck", "classes")],
        (CONFIG.head, {"center_momentum": 1.5}, r"head\.center_momentum"),
    ],
)
def test_impossible_objectives_are_refused(config: Any, change: dict[str, float], named: str) -> None:
    with pytest.raises(MatpacError, match=named):
        replace(config, **change)
