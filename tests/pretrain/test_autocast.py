"""Under bfloat16 autocast, by a CPU as a stand-in for a GPU: what stays float32, and how near the losses come."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from matpac.model.logmel import LogMel
from matpac.model.vit import EncoderConfig
from matpac.pretrain import Objective, PretextOutput, Temperatures
from matpac.pretrain.classification import HeadConfig
from matpac.pretrain.losses import (
    classification_loss,
    hypothesis_losses,
    multiple_choice_loss,
    teacher_probabilities,
)
from matpac.pretrain.masking import mask_noise, split_by_noise
from matpac.pretrain.objective import ObjectiveConfig
from matpac.pretrain.predictor import PredictorConfig

CONFIG = ObjectiveConfig(
    encoder=EncoderConfig(width=64, depth=2, heads=2, frames=96),
    predictor=PredictorConfig(width=32, depth=2, heads=2, hypotheses=3),
    head=HeadConfig(hidden=64, bottleneck=32, classes=48),
)


def step(objective: Objective, bf16: bool) -> PretextOutput:
    """As the loop does it: log-mel outside, and its values, as Fabric hands them in, in the lower precision."""
    encoder = objective.config.encoder
    frontend = LogMel()
    samples = frontend.config.samples(encoder.frames)
    waveforms = 0.1 * torch.randn(3, samples, generator=torch.Generator().manual_seed(1))
    split = split_by_noise(mask_noise(3, encoder.tokens, (2,)), objective.config.mask_ratio)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        logmel = frontend(waveforms)
        assert logmel.dtype == torch.float32
        output = objective(logmel.bfloat16() if bf16 else logmel, split, Temperatures(0.1, 0.05))
    output.loss.backward()
    return output


@pytest.mark.parametrize(("alpha", "center_on"), [(0.0, "logits"), (0.5, "probabilities"), (1.0, "logits")])
def test_losses_centre_weights_and_gradients_are_float32(alpha: float, center_on: str) -> None:
    torch.manual_seed(0)
    objective = Objective(replace(CONFIG, alpha=alpha, head=replace(CONFIG.head, center_on=center_on)))
    exact = step(objective, bf16=False)
    objective.zero_grad()
    output = step(objective, bf16=True)
    kept = (output.loss, output.prediction, output.classification, output.probabilities, output.center_batch)
    assert {value.dtype for value in kept if value is not None} == {torch.float32}
    assert not torch.equal(output.loss, exact.loss)  # it was another precision
    torch.testing.assert_close(output.loss, exact.loss, rtol=0.01, atol=0)
    if objective.center is not None:
        assert output.center_batch is not None
        assert output.probabilities is not None
        assert (output.probabilities.sum(-1) - 1).abs().max() < 1e-6  # bfloat16 would be off by a thousandth
        objective.center.update(output.center_batch)
    objective.update_teacher(0.9, 0.9)
    assert {tensor.dtype for tensor in objective.state_dict().values()} == {torch.float32}
    assert {p.grad.dtype for p in objective.parameters() if p.grad is not None} == {torch.float32}


def test_losses_of_rounded_tensors_are_computed_in_float32() -> None:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).bfloat16()

    targets, hypotheses, logits, center = draw(2, 3, 8), draw(2, 3, 4, 8), draw(5, 6), torch.randn(6)

    def losses(targets: Tensor, hypotheses: Tensor, logits: Tensor) -> list[Tensor]:
        found = hypothesis_losses(targets, hypotheses)
        probabilities = teacher_probabilities(logits, center, 0.05)
        classes = classification_loss(probabilities, logits)
        return [found, multiple_choice_loss(found, 0.1), probabilities, classes]

    exact = losses(targets.double().float(), hypotheses.float(), logits.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = losses(targets, hypotheses, logits)
    for one, two in zip(exact, found, strict=True):
        assert two.dtype == torch.float32
        torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-6)


def test_tokens_between_blocks_are_float32() -> None:
    """The residual stream: what a block adds is rounded, the sum is not."""
    objective = Objective(CONFIG)
    seen: set[torch.dtype] = set()
    for block in (*objective.student.transformer.blocks, *objective.teacher.transformer.blocks):
        block.register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
    step(objective, bf16=True)
    assert seen == {torch.float32}
