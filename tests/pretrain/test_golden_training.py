"""The steps of each paper's training, against files made by running the published code."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch

from helpers.published_files import training_student, training_teacher
from matpac.model.vit import EncoderConfig
from matpac.pretrain import Objective, ObjectiveConfig, Temperatures
from matpac.pretrain.classification import HeadConfig
from matpac.pretrain.masking import MaskSplit, visible_count
from matpac.pretrain.predictor import PredictorConfig
from matpac.train.schedules import exponential, linear

TOLERANCE = 1e-4
ENCODER = EncoderConfig(width=32, depth=2, heads=2, frames=96)


def renamed(golden: Mapping[str, np.ndarray], part: str) -> dict[str, torch.Tensor]:
    """All tensors of `init` or `final` under this project's names."""

    def branch(name: str) -> dict[str, torch.Tensor]:
        prefix = f"{part}/{name}/"
        return {
            key.removeprefix(prefix): torch.from_numpy(golden[key]) for key in golden if key.startswith(prefix)
        }

    teacher = training_teacher(branch("teacher_encoder"), branch("teacher_head"))
    centre = {"center.value": torch.from_numpy(golden[f"{part}/center"]).flatten()}
    return training_student(branch("student")) | teacher | centre


def build(golden: Mapping[str, np.ndarray], hypotheses: int) -> Objective:
    objective = Objective(
        ObjectiveConfig(
            encoder=ENCODER,
            predictor=PredictorConfig(width=16, depth=2, heads=2, hypotheses=hypotheses),
            head=HeadConfig(hidden=48, bottleneck=256, classes=32),
        )
    )
    state = renamed(golden, "init")
    state.pop("predictor.positions")
    objective.load_state_dict(state, strict=True)
    return objective


def close(actual: torch.Tensor, expected: np.ndarray | torch.Tensor, what: str) -> None:
    expected = torch.as_tensor(expected)
    error = (actual.detach().reshape(expected.shape).double() - expected.double()).abs().max()
    scale = expected.double().abs().max().clamp_min(1e-8)
    assert error <= TOLERANCE * scale, f"{what}: off by {error:.2e}, its largest value is {scale:.2e}"


def gradients(golden: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """Step 0's gradients under our names; the table of positions, which has none, is lent by `init`."""
    state = {
        key.removeprefix("step0/grad/"): torch.from_numpy(golden[key])
        for key in golden
        if key.startswith("step0/grad/")
    }
    state["pos_embed"] = torch.from_numpy(golden["init/student/pos_embed"])
    return {name: grad for name, grad in training_student(state).items() if name != "student.positions"}


@pytest.mark.parametrize(
    ("file", "hypotheses", "temperature"),
    [("train_matpac", 1, 0.1), ("train_matpacpp", 3, 0.1), ("train_matpacpp_hard", 3, 5e-5)],
)
def test_training_follows_the_published_code(golden, file, hypotheses, temperature):
    archive = np.load(golden / f"{file}.npz")
    data = {name: archive[name] for name in archive.files}
    objective = build(data, hypotheses)
    optimizer = torch.optim.SGD([p for p in objective.parameters() if p.requires_grad], lr=0.05)
    keep = visible_count(ENCODER.tokens, 0.7)

    center_batch = None
    for step in range(sum(name.endswith("/ids_shuffle") for name in data)):
        if center_batch is not None:
            assert objective.center is not None
            objective.center.update(center_batch)
        shuffle = torch.from_numpy(data[f"step{step}/ids_shuffle"])
        output = objective(
            torch.from_numpy(data[f"step{step}/x"]),
            MaskSplit(shuffle[:, :keep], shuffle[:, keep:]),
            Temperatures(exponential(step, temperature, 0.99997), linear(step, 0.04, 0.07, 4)),
        )
        if step > 0:  # the published order: after the losses, before the optimizer's step
            objective.update_teacher(linear(step, 0.9, 0.99, 10), linear(step, 0.8, 1.0, 10))
        optimizer.zero_grad()
        output.loss.backward()

        assert output.prediction is not None
        assert output.classification is not None
        close(output.prediction, data[f"step{step}/loss_pred"], f"prediction loss of step {step}")
        close(output.classification, data[f"step{step}/loss_cls"], f"classification loss of step {step}")
        close(output.loss, data[f"step{step}/loss"], f"loss of step {step}")
        if step == 0:
            expected = gradients(data)
            found = {n: p.grad for n, p in objective.named_parameters() if p.requires_grad}
            assert found.keys() == expected.keys()
            for name, grad in expected.items():
                mine = found[name]
                assert mine is not None
                close(mine, grad, f"gradient of {name}")
        optimizer.step()
        center_batch = output.center_batch

    expected = renamed(data, "final")
    expected.pop("predictor.positions")
    final = objective.state_dict()
    assert final.keys() == expected.keys()
    for name, tensor in expected.items():
        close(final[name], tensor, f"final {name}")
