"""Groups by depth: who learns how fast; and LARS against the paper's formula, and through a break."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from matpac.errors import MatpacError
from matpac.files.checkpoint import read_tensors, write_tensors
from matpac.finetune.optimizers import (
    OPTIMIZERS,
    TRUST_COEFFICIENT,
    ParameterGroup,
    build_optimizer,
    layerwise_groups,
    set_learning_rate,
)
from matpac.model.embedder import Tagger
from matpac.model.vit import Encoder, EncoderConfig
from matpac.train.run import load_optimizer_tensors, optimizer_tensors


def parts(depth: int = 3) -> tuple[Encoder, Tagger]:
    torch.manual_seed(0)
    return Encoder(EncoderConfig(width=16, depth=depth, heads=2, mels=16, frames=32)), Tagger(16, 3)


def named(groups: list[ParameterGroup], encoder: Encoder, head: nn.Module) -> dict[str, ParameterGroup]:
    """Group of each parameter, by the parameter's name."""
    of = {id(parameter): group for group in groups for parameter in group["params"]}
    both = nn.ModuleDict({"encoder": encoder, "head": head})
    return {name: of[id(parameter)] for name, parameter in both.named_parameters() if id(parameter) in of}


# --- groups ------------------------------------------------------------------------------------------------


def test_rates_fall_with_depth() -> None:
    encoder, head = parts(depth=3)
    groups = named(layerwise_groups(encoder, head, 0.1, 0.5, 0.05), encoder, head)
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
    for name, scale in scales.items():
        assert groups[name]["lr_scale"] == scale, name
        assert groups[name]["lr"] == pytest.approx(0.1 * scale), name


@settings(deadline=None, max_examples=20)
@given(depth=st.integers(1, 4), decay=st.floats(0.1, 1), everything=st.booleans())
def test_every_parameter_is_in_one_group_and_equals_share_one(depth: int, decay: float, everything: bool) -> None:
    encoder, head = parts(depth)
    groups = layerwise_groups(encoder, head, 1e-3, decay, 0.05, everything)
    found = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(found) == sorted(id(parameter) for part in (encoder, head) for parameter in part.parameters())
    for group in groups:
        assert all(group["weight_decay"] == (0.05 if everything or p.ndim > 1 else 0) for p in group["params"])
    kinds = {(group["lr_scale"], group["weight_decay"]) for group in groups}
    assert len(kinds) == len(groups)
    layers = 1 if decay == 1 else depth + 2
    assert len(groups) == layers * (1 if everything else 2)
    assert [group["lr_scale"] for group in groups] == sorted(group["lr_scale"] for group in groups)


def test_frozen_parts_are_left_out() -> None:
    encoder, head = parts()
    encoder.requires_grad_(False)
    groups = named(layerwise_groups(encoder, head, 1e-3, 0.65, 0.0), encoder, head)
    assert set(groups) == {"head.linear.weight", "head.linear.bias"}
    head.requires_grad_(False)
    with pytest.raises(MatpacError, match="nothing to train: every parameter of encoder and head is frozen"):
        layerwise_groups(encoder, head, 1e-3, 0.65, 0.0)
    with pytest.raises(MatpacError, match="layer decay must be above 0 and at most 1, not 0"):
        layerwise_groups(encoder, head, 1e-3, 0.0, 0.0)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_schedules_rate_is_scaled_and_the_groups_are_left_alone(name: str) -> None:
    encoder, head = parts()
    groups = layerwise_groups(encoder, head, 1e-3, 0.5, 0.05)
    before = [set(group) for group in groups]
    optimizer = build_optimizer(name, groups)
    set_learning_rate(optimizer, 0.4)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert rates[id(head.linear.weight)] == 0.4
    (lowest,) = [p for n, p in encoder.named_parameters() if n == "transformer.blocks.0.mlp.fc1.weight"]
    assert rates[id(lowest)] == pytest.approx(0.05)
    assert [set(group) for group in groups] == before
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decays[id(head.linear.weight)] == 0.05
    assert decays[id(head.linear.bias)] == 0.0


# --- steps -------------------------------------------------------------------------------------------------


def gradients(parameters: list[Tensor], step: int) -> list[np.ndarray]:
    rng = np.random.default_rng([7, step])
    return [rng.normal(size=tuple(p.shape)).astype(np.float32) for p in parameters]


def lars_by_hand(
    weights: list[np.ndarray], steps: int, rates: list[float], decay: float, momentum: float
) -> list[np.ndarray]:
    """The paper's formula, tensor by tensor, with vectors as plain SGD."""
    weights = [w.astype(np.float64) for w in weights]
    velocity = [np.zeros_like(w) for w in weights]
    for step in range(steps):
        for n, gradient in enumerate(gradients([torch.from_numpy(w) for w in weights], step)):
            w, g = weights[n], gradient.astype(np.float64)
            if w.ndim > 1:
                norm_w, norm_g = math.sqrt((w**2).sum()), math.sqrt((g**2).sum())
                g = (g + decay * w) * (1e-3 * norm_w / (norm_g + decay * norm_w) if norm_w else 1.0)
            velocity[n] = momentum * velocity[n] + g
            weights[n] = w - rates[step] * velocity[n]
    return weights


@pytest.mark.parametrize(("decay", "momentum"), [(0.0, 0.9), (0.05, 0.9), (0.05, 0.0)])
def test_lars_is_the_papers_formula(decay: float, momentum: float) -> None:
    assert TRUST_COEFFICIENT == 1e-3
    torch.manual_seed(1)
    weights = [torch.randn(4, 3), torch.randn(5), torch.zeros(2, 2), torch.randn(2, 3, 2)]
    parameters = [nn.Parameter(w.clone()) for w in weights]
    group = {"params": parameters, "lr": 1.0, "lr_scale": 1.0, "weight_decay": decay}
    optimizer = build_optimizer("lars", [group], momentum=momentum)
    rates = [2.0, 2.0, 1.5]
    for step, rate in enumerate(rates):
        for parameter, gradient in zip(parameters, gradients(weights, step), strict=True):
            parameter.grad = torch.from_numpy(gradient)
        set_learning_rate(optimizer, rate)
        optimizer.step()
    expected = lars_by_hand([w.numpy() for w in weights], 3, rates, decay, momentum)
    for parameter, value in zip(parameters, expected, strict=True):
        np.testing.assert_allclose(parameter.detach().numpy(), value, rtol=1e-5, atol=1e-6)


def test_one_step_of_lars_worked_out() -> None:
    """‖w‖ = 5, ‖∇‖ = 10: the step is 2 · 0.001 · 5/10 of the gradient; of a vector, twice the gradient."""
    matrix, vector = nn.Parameter(torch.tensor([[3.0, 4.0]])), nn.Parameter(torch.tensor([3.0, 4.0]))
    group = {"params": [matrix, vector], "lr": 2.0, "lr_scale": 1.0, "weight_decay": 0.0}
    optimizer = build_optimizer("lars", [group])
    matrix.grad, vector.grad = torch.tensor([[6.0, -8.0]]), torch.tensor([6.0, -8.0])
    optimizer.step()
    torch.testing.assert_close(matrix.data, torch.tensor([[3.0 - 0.006, 4.0 + 0.008]]))
    torch.testing.assert_close(vector.data, torch.tensor([3.0 - 12.0, 4.0 + 16.0]))


def train(optimizer: torch.optim.Optimizer, encoder: Encoder, head: Tagger, steps: range) -> None:
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        logmel = torch.randn(4, 16, 32, generator=generator)
        set_learning_rate(optimizer, 0.01 / (1 + step))
        head(encoder(logmel).mean(dim=1)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("momentum", [0.9, 0.0])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_resumed_run_steps_as_an_unbroken_one(name: str, momentum: float, tmp_path: Path) -> None:
    """The state is plain tensors: it goes through a safetensors file, groups come from the configuration."""

    def start() -> tuple[torch.optim.Optimizer, Encoder, Tagger]:
        encoder, head = parts(depth=2)
        groups = layerwise_groups(encoder, head, 0.01, 0.7, 0.05)
        return build_optimizer(name, groups, momentum=momentum), encoder, head

    unbroken, encoder, head = start()
    train(unbroken, encoder, head, range(3))
    write_tensors(tmp_path / "o.safetensors", optimizer_tensors(unbroken), {})
    resumed, encoder_2, head_2 = start()
    encoder_2.load_state_dict(encoder.state_dict())
    head_2.load_state_dict(head.state_dict())
    load_optimizer_tensors(resumed, read_tensors(tmp_path / "o.safetensors")[0])
    train(unbroken, encoder, head, range(3, 6))
    train(resumed, encoder_2, head_2, range(3, 6))
    for one, other in ((encoder, encoder_2), (head, head_2)):
        for name_, value in one.state_dict().items():
            assert torch.equal(value, other.state_dict()[name_]), name_


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_fused_gives_the_same(name: str) -> None:
    results = []
    for fused in (False, True):
        parameters = [nn.Parameter(torch.ones(4, 3)), nn.Parameter(torch.ones(5))]
        group = {"params": parameters, "lr": 0.1, "lr_scale": 1.0, "weight_decay": 0.05}
        optimizer = build_optimizer(name, [group], fused=fused)
        for step in range(3):
            for parameter, gradient in zip(parameters, gradients(list(parameters), step), strict=True):
                parameter.grad = torch.from_numpy(gradient)
            optimizer.step()
        assert bool(optimizer.param_groups[0]["fused"]) == fused
        results.append([parameter.detach() for parameter in parameters])
    torch.testing.assert_close(*results)


def test_betas_and_momentum_arrive() -> None:
    encoder, head = parts(depth=1)
    groups = layerwise_groups(encoder, head, 0.01, 0.7, 0.05)
    assert build_optimizer("adamw", groups, betas=(0.8, 0.9)).param_groups[0]["betas"] == (0.8, 0.9)
    for name in ("sgd", "lars"):
        assert build_optimizer(name, groups, momentum=0.7).param_groups[-1]["momentum"] == 0.7


def test_what_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, head = parts(depth=1)
    groups = layerwise_groups(encoder, head, 0.01, 0.7, 0.05)
    with pytest.raises(MatpacError, match="unknown optimizer: adam; choose from adamw, sgd, lars"):
        build_optimizer("adam", groups)
    monkeypatch.setitem(sys.modules, "pytorch_optimizer.optimizer.lars", None)
    with pytest.raises(MatpacError, match=r"LARS is not here .*pip install 'matpac\[finetune\]'.*sgd or adamw"):
        build_optimizer("lars", groups)


def test_the_library_is_only_imported_for_lars() -> None:
    code = (
        "import sys, matpac.finetune.optimizers; "
        "sys.exit(any(name.startswith('pytorch_optimizer') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
