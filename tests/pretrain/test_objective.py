"""The objective's switches: what each one changes, and that what is switched off costs nothing."""

from dataclasses import replace

import pytest
import torch

from matpac.errors import MatpacError
from matpac.model.vit import Encoder, EncoderConfig
from matpac.pretrain import Objective, ObjectiveConfig, Temperatures
from matpac.pretrain.classification import Center, ClassificationHead, HeadConfig
from matpac.pretrain.masking import mask_noise, split_by_noise
from matpac.pretrain.predictor import PredictorConfig

CONFIG = ObjectiveConfig(
    encoder=EncoderConfig(width=32, depth=2, heads=2, frames=96),
    predictor=PredictorConfig(width=16, depth=1, heads=2, hypotheses=3),
    head=HeadConfig(hidden=24, bottleneck=16, classes=20),
)
ONE_HYPOTHESIS = replace(CONFIG, alpha=1.0, predictor=replace(CONFIG.predictor, hypotheses=1))
TEMPERATURES = Temperatures(0.1, 0.04)


def forward(objective: Objective, batch: int = 2):
    torch.manual_seed(0)
    config = objective.config
    noise = mask_noise(batch, config.encoder.tokens, (1,))
    logmel = torch.randn(batch, config.encoder.mels, config.encoder.frames)
    return objective(logmel, split_by_noise(noise, config.mask_ratio), TEMPERATURES)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
def test_loss_is_the_weighted_sum_of_the_tasks(alpha):
    output = forward(Objective(replace(CONFIG, alpha=alpha)))
    expected = 0.0
    if output.prediction is not None:
        expected += alpha * output.prediction.mean()
    if output.classification is not None:
        expected += (1 - alpha) * output.classification.mean()
    torch.testing.assert_close(output.loss.detach(), torch.as_tensor(expected))


def test_without_classification_there_is_no_head():
    objective = Objective(replace(CONFIG, alpha=1.0))
    output = forward(objective)
    assert objective.head is None
    assert objective.center is None
    assert objective.teacher.head is None
    assert (output.classification, output.probabilities, output.student_logits) == (None, None, None)
    output.loss.backward()
    objective.update_teacher(0.9, 0.9)


def test_classification_alone_computes_no_prediction_loss(monkeypatch):
    one = replace(CONFIG, alpha=0.0, predictor=replace(CONFIG.predictor, hypotheses=1))

    def never(*_):
        raise AssertionError("the prediction loss was computed")

    monkeypatch.setattr("matpac.pretrain.objective.hypothesis_losses", never)
    monkeypatch.setattr("matpac.pretrain.objective.multiple_choice_loss", never)
    output = forward(Objective(one))
    assert output.prediction is None
    output.loss.backward()


def test_classification_alone_chooses_the_winner_without_gradient():
    objective = Objective(replace(CONFIG, alpha=0.0))
    output = forward(objective)
    assert set(output.winner.unique().tolist()) <= {0, 1, 2}
    assert len(output.winner.unique()) > 1
    output.loss.backward()
    assert all(p.grad is not None for p in objective.parameters() if p.requires_grad)


def test_every_learning_parameter_has_a_gradient_and_the_teacher_none():
    objective = Objective(CONFIG)
    forward(objective).loss.backward()
    for name, parameter in objective.named_parameters():
        assert (parameter.grad is None) == name.startswith("teacher."), name


def test_the_student_does_not_see_masked_patches():
    objective = Objective(ONE_HYPOTHESIS).eval()  # of several, the winner depends on the target
    split = split_by_noise(mask_noise(1, 30, (5,)), 0.7)
    logmel = torch.randn(1, 80, 96)
    changed = logmel.clone()
    f, t = divmod(int(split.masked[0, 0]), 6)
    changed[0, 16 * f : 16 * f + 16, 16 * t : 16 * t + 16] += 1
    first, second = objective(logmel, split, TEMPERATURES), objective(changed, split, TEMPERATURES)
    assert torch.equal(first.predictions, second.predictions)
    assert not torch.equal(first.targets, second.targets)


def test_the_teacher_sees_masked_patches_alone():
    objective = Objective(replace(CONFIG, alpha=1.0)).eval()
    split = split_by_noise(mask_noise(1, 30, (5,)), 0.7)
    logmel = torch.randn(1, 80, 96)
    changed = logmel.clone()
    f, t = divmod(int(split.visible[0, 0]), 6)
    changed[0, 16 * f : 16 * f + 16, 16 * t : 16 * t + 16] += 1
    first, second = objective(logmel, split, TEMPERATURES), objective(changed, split, TEMPERATURES)
    assert torch.equal(first.targets, second.targets)
    assert not torch.equal(first.predictions, second.predictions)


@pytest.mark.parametrize("ratio", [0.3, 0.7, 0.9])
def test_mask_ratio_sets_how_much_is_predicted(ratio):
    output = forward(Objective(replace(CONFIG, mask_ratio=ratio)))
    assert output.winner.shape[1] == 30 - int(30 * (1 - ratio))


@pytest.mark.parametrize("hypotheses", [1, 2, 5])
def test_hypotheses_share_all_but_their_last_layer(hypotheses):
    objective = Objective(replace(CONFIG, predictor=replace(CONFIG.predictor, hypotheses=hypotheses)))
    output = forward(objective)
    assert objective.predictor.hypotheses.out_features == hypotheses * 32
    assert output.winner.max() < hypotheses


def test_every_hypothesis_starts_as_a_layer_of_its_own():
    """Xavier's bound is that of one layer, not of the matrix they share."""
    config = replace(CONFIG, predictor=replace(CONFIG.predictor, hypotheses=5))
    weight = Objective(config).predictor.hypotheses.weight
    bound = (6 / (16 + 32)) ** 0.5
    assert 0.95 * bound < weight.abs().max() <= bound


def test_sizes_frames_and_bands_are_free():
    encoder = EncoderConfig(width=16, depth=1, heads=1, mels=64, frames=48)
    output = forward(Objective(replace(CONFIG, encoder=encoder)))
    assert output.targets.shape == (2, 12 - 3, 16)


def test_teacher_starts_apart_with_the_last_layer_of_the_head_shared():
    torch.manual_seed(0)
    objective = Objective(CONFIG)
    assert objective.head is not None
    assert objective.teacher.head is not None
    student, teacher = objective.student.transformer, objective.teacher.transformer
    first = "blocks.0.mlp.fc1.weight"
    assert not torch.equal(student.get_parameter(first), teacher.get_parameter(first))
    mine, its = objective.head.get_parameter("mlp.0.weight"), objective.teacher.head.get_parameter("mlp.0.weight")
    assert not torch.equal(mine, its)
    assert torch.equal(objective.head.direction, objective.teacher.head.direction)


def test_teacher_may_start_as_a_copy():
    objective = Objective(replace(CONFIG, teacher_starts_as_copy=True))
    assert objective.head is not None
    assert objective.teacher.head is not None
    for mine, its in (
        (objective.student.transformer, objective.teacher.transformer),
        (objective.head, objective.teacher.head),
    ):
        assert all(torch.equal(a, b) for a, b in zip(mine.parameters(), its.parameters(), strict=True))


def test_teacher_is_a_running_average():
    objective = Objective(CONFIG)
    assert objective.head is not None
    assert objective.teacher.head is not None
    before = [p.clone() for p in objective.teacher.parameters()]
    objective.update_teacher(0.9, 0.75)
    student = [*objective.student.transformer.parameters(), *objective.head.parameters()]
    decays = [0.9] * len(list(objective.student.transformer.parameters())) + [0.75] * len(
        list(objective.head.parameters())
    )
    for old, value, decay, now in zip(before, student, decays, objective.teacher.parameters(), strict=True):
        torch.testing.assert_close(now, decay * old + (1 - decay) * value)


@pytest.mark.parametrize("center_on", ["probabilities", "logits"])
def test_centre_is_the_running_mean_of_what_it_is_told(center_on):
    config = replace(CONFIG, head=replace(CONFIG.head, center_on=center_on))
    objective = Objective(config).eval()
    output = forward(objective)
    assert objective.teacher.head is not None
    assert objective.center is not None
    assert output.center_batch is not None
    logits = objective.teacher.head(output.targets.flatten(0, 1))
    value = [0.0] * 20
    for token in range(len(logits)):
        row = logits[token] if center_on == "logits" else torch.softmax(logits[token] / 0.04, dim=-1)
        for k in range(20):
            value[k] += float(row[k]) / len(logits)
    torch.testing.assert_close(output.center_batch, torch.tensor(value), atol=1e-5, rtol=1e-4)
    objective.center.value.fill_(1.0)
    objective.center.update(output.center_batch)
    expected = torch.tensor([0.9 + 0.1 * v for v in value])
    torch.testing.assert_close(objective.center.value, expected, atol=1e-5, rtol=1e-4)


def test_the_centre_moves_the_targets():
    objective = Objective(CONFIG).eval()
    assert objective.center is not None
    before = forward(objective).probabilities
    objective.center.value[3] += 1.0
    after = forward(objective).probabilities
    assert before is not None
    assert after is not None
    assert (after[:, 3] < before[:, 3]).all()


def test_heads_last_layer_is_a_cosine_times_a_gain():
    head = ClassificationHead(8, CONFIG.head)
    x = torch.randn(3, 8)
    logits = head(x)
    bottleneck = head.mlp(x)
    for token in range(3):
        for k in range(20):
            expected = torch.cosine_similarity(bottleneck[token], head.direction[k], dim=0)
            torch.testing.assert_close(logits[token, k], expected, atol=1e-5, rtol=1e-4)
    with torch.no_grad():
        head.gain.mul_(2)
    torch.testing.assert_close(head(x), 2 * logits)


def test_a_centre_starts_at_zero():
    assert not Center(CONFIG.head).value.any()


def test_impossible_objectives_are_refused():
    with pytest.raises(MatpacError, match=r"alpha must be between 0 and 1, not 1\.5"):
        ObjectiveConfig(alpha=1.5)
    with pytest.raises(MatpacError, match="leaves 0 of 30 patches visible"):
        replace(CONFIG, mask_ratio=0.99)
    with pytest.raises(MatpacError, match="mask_ratio nan leaves 0 of 30"):
        replace(CONFIG, mask_ratio=float("nan"))
    for name in ("width", "depth", "heads", "hypotheses"):
        with pytest.raises(MatpacError, match=rf"predictor\.{name} must be at least 1, not 0"):
            replace(CONFIG.predictor, **{name: 0})
    for name in ("hidden", "bottleneck", "classes"):
        with pytest.raises(MatpacError, match=rf"head\.{name} must be at least 1, not 0"):
            replace(CONFIG.head, **{name: 0})
    with pytest.raises(MatpacError, match=r"head\.center_momentum must be between 0 and 1, not 1\.5"):
        replace(CONFIG.head, center_momentum=1.5)


def test_the_same_encoder_as_alone():
    """The student within the objective is the encoder that embeds later."""
    objective = Objective(CONFIG).eval()
    encoder = Encoder(CONFIG.encoder).eval()
    encoder.load_state_dict(objective.student.state_dict())
    logmel = torch.randn(1, 80, 96)
    assert torch.equal(encoder(logmel), objective.student(logmel))
