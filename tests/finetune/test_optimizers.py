"""Groups by depth: which layer learns how fast; LARS against the paper's formula; the library it needs."""

import math
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from matpac.errors import MatpacError
from matpac.finetune.augmentations import AugmentationConfig
from matpac.finetune.optimizers import OptimizerConfig, build_optimizer, layerwise_groups, set_learning_rate
from matpac.finetune.recipes import FinetuneRecipe
from matpac.model.heads import Tagger
from matpac.model.vit import Encoder, EncoderConfig


def parts(depth: int = 3) -> tuple[Encoder, Tagger]:
    torch.manual_seed(0)
    return Encoder(EncoderConfig(width=16, depth=depth, heads=2, mels=16, frames=32)), Tagger(16, 3)


@pytest.mark.parametrize("kind", ["adamw", "sgd", "lars"])
def test_rates_fall_with_depth_and_follow_the_schedule(kind: str) -> None:
    encoder, head = parts(depth=3)
    config = OptimizerConfig(kind, 0.1, weight_decay=0.05, momentum=0.7, layer_decay=0.5)  # type: ignore[arg-type]
    optimizer = build_optimizer(encoder, head, config)
    named = nn.ModuleDict({"encoder": encoder, "head": head}).named_parameters()
    names = {id(parameter): name for name, parameter in named}
    groups = {names[id(p)]: group for group in optimizer.param_groups for p in group["params"]}
    scales = {
        "encoder.cls_token": 1 / 16,
        "encoder.patch_embed.weight": 1 / 16,
        "encoder.transformer.blocks.0.attn.qkv.weight": 1 / 8,
        "encoder.transformer.blocks.1.norm1.bias": 1 / 4,
        "encoder.transformer.blocks.2.mlp.fc2.weight": 1 / 2,
        "encoder.transformer.norm.weight": 1.0,
        "head.linear.weight": 1.0,
        "head.linear.bias": 1.0,
    }
    for rate in (0.1, 0.4):
        set_learning_rate(optimizer, rate)
        for name, scale in scales.items():
            assert groups[name]["lr"] == pytest.approx(rate * scale), name
    assert groups["head.linear.weight"]["weight_decay"] == 0.05
    assert groups["head.linear.bias"]["weight_decay"] == 0.0
    if kind == "adamw":
        assert groups["head.linear.bias"]["betas"] == (0.9, 0.999)
    else:
        assert groups["head.linear.bias"]["momentum"] == 0.7


@settings(deadline=None, max_examples=20)
@given(depth=st.integers(1, 4), decay=st.floats(0.1, 1))
def test_every_parameter_is_in_one_group_and_equal_groups_are_one(depth: int, decay: float) -> None:
    encoder, head = parts(depth)
    groups = layerwise_groups(encoder, head, OptimizerConfig(layer_decay=decay, weight_decay=0.05))
    found = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(found) == sorted(id(parameter) for part in (encoder, head) for parameter in part.parameters())
    for group in groups:
        assert all(group["weight_decay"] == (0.05 if p.ndim > 1 else 0) for p in group["params"])
    assert len(groups) == 2 * (1 if decay == 1 else depth + 2)
    assert [group["lr_scale"] for group in groups] == sorted(group["lr_scale"] for group in groups)


# --- LARS --------------------------------------------------------------------------------------------------


def lars(parameters: list[nn.Parameter], decay: float = 0.0, momentum: float = 0.9) -> torch.optim.Optimizer:
    """The optimizer as fine-tuning builds it, over parameters of a test's own."""
    config = OptimizerConfig("lars", 1.0, weight_decay=decay, momentum=momentum)
    optimizer = build_optimizer(*parts(depth=1), config)
    options = {key: value for key, value in optimizer.param_groups[0].items() if key != "params"}
    optimizer.param_groups.clear()
    optimizer.add_param_group({**options, "params": parameters, "weight_decay": decay})
    return optimizer


def gradients(parameters: list[Tensor], step: int) -> list[np.ndarray]:
    rng = np.random.default_rng([7, step])
    return [rng.normal(size=tuple(p.shape)).astype(np.float32) for p in parameters]


def lars_by_hand(weights: list[np.ndarray], rates: list[float], decay: float, momentum: float) -> list[np.ndarray]:
    """The paper's formula, tensor by tensor, with vectors as plain SGD."""
    weights = [w.astype(np.float64) for w in weights]
    velocity = [np.zeros_like(w) for w in weights]
    for step, rate in enumerate(rates):
        for n, gradient in enumerate(gradients([torch.from_numpy(w) for w in weights], step)):
            w, g = weights[n], gradient.astype(np.float64)
            if w.ndim > 1:
                norm_w, norm_g = math.sqrt((w**2).sum()), math.sqrt((g**2).sum())
                g = (g + decay * w) * (1e-3 * norm_w / (norm_g + decay * norm_w) if norm_w else 1.0)
            velocity[n] = momentum * velocity[n] + g
            weights[n] = w - rate * velocity[n]
    return weights


@pytest.mark.parametrize(("decay", "momentum"), [(0.0, 0.9), (0.05, 0.9), (0.05, 0.0)])
def test_lars_is_the_papers_formula(decay: float, momentum: float) -> None:
    torch.manual_seed(1)
    weights = [torch.randn(4, 3), torch.randn(5), torch.zeros(2, 2), torch.randn(2, 3, 2)]
    parameters = [nn.Parameter(w.clone()) for w in weights]
    optimizer = lars(parameters, decay, momentum)
    rates = [2.0, 2.0, 1.5]
    for step, rate in enumerate(rates):
        for parameter, gradient in zip(parameters, gradients(weights, step), strict=True):
            parameter.grad = torch.from_numpy(gradient)
        set_learning_rate(optimizer, rate)
        optimizer.step()
    expected = lars_by_hand([w.numpy() for w in weights], rates, decay, momentum)
    for parameter, value in zip(parameters, expected, strict=True):
        np.testing.assert_allclose(parameter.detach().numpy(), value, rtol=1e-5, atol=1e-6)


def test_one_step_of_lars_worked_out() -> None:
    """‖w‖ = 5, ‖∇‖ = 10: the step is 2 · 0.001 · 5/10 of the gradient; of a vector, twice the gradient."""
    matrix, vector = nn.Parameter(torch.tensor([[3.0, 4.0]])), nn.Parameter(torch.tensor([3.0, 4.0]))
    optimizer = lars([matrix, vector])
    set_learning_rate(optimizer, 2.0)
    matrix.grad, vector.grad = torch.tensor([[6.0, -8.0]]), torch.tensor([6.0, -8.0])
    optimizer.step()
    torch.testing.assert_close(matrix.data, torch.tensor([[3.0 - 0.006, 4.0 + 0.008]]))
    torch.testing.assert_close(vector.data, torch.tensor([3.0 - 12.0, 4.0 + 16.0]))


def test_lars_is_imported_late_and_its_library_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_optimizer.optimizer.lars", None)
    build_optimizer(*parts(depth=1), OptimizerConfig("sgd"))
    with pytest.raises(MatpacError, match=r"LARS is not installed .*matpac\[finetune\]"):
        build_optimizer(*parts(depth=1), OptimizerConfig("lars"))


@pytest.mark.parametrize(
    ("config", "change"),
    [
        *[(OptimizerConfig, {name: -1.0}) for name in ("final_learning_rate", "warmup_epochs", "weight_decay")],
        (OptimizerConfig, {"clip": -1.0}),
        (OptimizerConfig, {"learning_rate": 0.0}),
        (OptimizerConfig, {"learning_rate": np.nan}),
        (OptimizerConfig, {"momentum": -0.1}),
        (OptimizerConfig, {"beta1": 1.0}),
        (OptimizerConfig, {"beta2": 1.5}),
        (OptimizerConfig, {"layer_decay": 0.0}),
        (AugmentationConfig, {"gain_decibels": np.nan}),
        (AugmentationConfig, {"mixup_alpha": np.nan}),
        (AugmentationConfig, {"mixup_probability": 1.1}),
        (AugmentationConfig, {"patchout": 1.0}),
        (FinetuneRecipe, {"epochs": np.inf}),
        (FinetuneRecipe, {"batch_size": 1}),
        (FinetuneRecipe, {"epoch_clips": 1}),
    ],
)
def test_numbers_that_make_no_sense_are_refused(config: Any, change: dict[str, float]) -> None:
    with pytest.raises(MatpacError, match=f"{next(iter(change))} must be"):
        config(**change)
