"""Nothing in a step waits for the device. A CPU never waits, so what would make a GPU wait is caught instead:
reading a number out of a tensor, shapes that depend on values, and what a device without memory refuses.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from helpers.tiny_run import make_sounds, run, tiny_recipe
from matpac.model.logmel import LogMel
from matpac.pretrain import Objective, Temperatures
from matpac.pretrain.job import Pretraining, StepResult, adamw
from matpac.pretrain.masking import mask_noise, split_by_noise
from matpac.pretrain.recipes import OptimizerConfig, Plan
from matpac.train.processes import clip_gradients, mean_over_processes

aten: Any = torch.ops.aten
WAITS = {
    *(aten._local_scalar_dense, aten.is_nonzero, aten.item, aten.equal, aten.allclose),
    *(aten.nonzero, aten.masked_select, aten.bincount, aten._unique2, aten.unique_dim, aten.unique_consecutive),
    *(aten.repeat_interleave, aten.histc),
}


class Waits(AssertionError):
    """Something would have waited."""


class NeverWait(TorchDispatchMode):
    """Raises where the host would have to know a value."""

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        by_mask = func.overloadpacket in (aten.index, aten.index_put, aten.index_put_) and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if func.overloadpacket in WAITS or by_mask:
            raise Waits(str(func))
        return func(*args, **(kwargs or {}))


RECIPES = {
    "matpac++": tiny_recipe(),
    "matpac": tiny_recipe(hypotheses=1),
    "prediction alone": tiny_recipe(alpha=1.0),
    "classification alone": tiny_recipe(alpha=0.0),
}


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    (tmp_path / "sounds").mkdir()
    return make_sounds(tmp_path / "sounds")


@pytest.mark.parametrize(
    "read",
    [torch.Tensor.item, float, bool, lambda x: x.expand(2)[torch.tensor([True, False])]],
)
def test_what_reads_a_value_is_found(read: Any) -> None:
    with pytest.raises(Waits), NeverWait():
        read(torch.ones(()))


@pytest.mark.parametrize(
    ("name", "options"),
    [*((name, {}) for name in RECIPES), ("matpac++", {"accumulate": 2, "activation_checkpointing": True})],
    ids=str,
)
def test_no_step_of_a_run_waits(
    name: str, options: dict, sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step_of = Pretraining.step

    def watched(self: Pretraining, *arguments: Any) -> StepResult:
        with NeverWait():
            return step_of(self, *arguments)

    monkeypatch.setattr(Pretraining, "step", watched)
    assert run(sounds, tmp_path / "run", replace(RECIPES[name], epochs=1), **options).complete


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("compiled_temperatures", [False, True])
def test_a_step_needs_no_values_at_all(name: str, compiled_temperatures: bool) -> None:
    """On the meta device, which has shapes alone and takes every path of a GPU that is not a CPU's."""
    recipe = RECIPES[name]
    config, meta = recipe.objective, torch.device("meta")
    with meta:
        objective, frontend = Objective(config), LogMel(recipe.logmel)
        for module in (objective, frontend):
            module.to(meta)
        waveforms = torch.empty(4, recipe.crop_samples)
    optimizer = torch.optim.AdamW([p for p in objective.parameters() if p.requires_grad], foreach=True)
    for step in range(2):
        values = Plan(recipe, 8).at(step)
        split = split_by_noise(mask_noise(4, config.encoder.tokens, (0, step)).to(meta), config.mask_ratio)
        temperatures: Any = values.temperatures.on(meta) if compiled_temperatures else values.temperatures
        output = objective(frontend(waveforms), split, temperatures)
        output.loss.backward()
        clip_gradients(fabric(None), optimizer, 3.0)
        optimizer.step()
        optimizer.zero_grad()
        objective.update_teacher(0.9, 0.9)
        if objective.center is not None:
            assert output.center_batch is not None
            objective.center.update(output.center_batch)
        with pytest.raises(RuntimeError):
            output.loss.item()


def test_a_mean_over_processes_waits_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU's all-reduce is queued behind the work before it; a barrier would hold the host until that is done."""

    def reduced(tensor: torch.Tensor) -> None:
        tensor += torch.tensor([4.0, 8.0])  # what the other process has

    monkeypatch.setattr(torch.distributed, "all_reduce", reduced)
    monkeypatch.setattr(torch.distributed, "barrier", None)  # is not called
    values = torch.tensor([2.0, 4.0])
    assert mean_over_processes(SimpleNamespace(world_size=2), values).tolist() == [3.0, 6.0]  # type: ignore[arg-type]
    assert values.tolist() == [2.0, 4.0]
    assert mean_over_processes(SimpleNamespace(world_size=1), values) is values  # type: ignore[arg-type]


# --- clipping, with gradients scaled for float16 too ---------------------------------------------------------


def fabric(scaler: torch.amp.GradScaler | None) -> Any:
    return SimpleNamespace(strategy=SimpleNamespace(precision=SimpleNamespace(scaler=scaler)))


def descend(
    scaler: torch.amp.GradScaler | None, spoilt: int | None = None
) -> tuple[list[float], list[torch.Tensor]]:
    """Norms and weights of three fused steps with clipping; at `spoilt` a gradient has overflowed."""
    torch.manual_seed(0)
    objective = Objective(tiny_recipe().objective)
    encoder = objective.config.encoder
    optimizer = adamw(objective, OptimizerConfig(learning_rate=3e-3))
    norms = []
    for step in range(3):
        logmel = torch.randn(2, encoder.mels, encoder.frames, generator=torch.Generator().manual_seed(step))
        split = split_by_noise(mask_noise(2, encoder.tokens, (step,)), 0.7)
        loss = objective(logmel, split, Temperatures(0.1, 0.05)).loss
        (loss if scaler is None else scaler.scale(loss)).backward()
        if step == spoilt:
            assert objective.student.cls_token.grad is not None
            objective.student.cls_token.grad[0] = float("inf")
        with NeverWait():
            norms.append(clip_gradients(fabric(scaler), optimizer, 0.5))
            if scaler is None:
                optimizer.step()
            else:
                scaler.step(optimizer)
                scaler.update()
        optimizer.zero_grad()
    return [norm.item() for norm in norms], [p.detach() for p in objective.parameters() if p.requires_grad]


def test_clipping_is_torchs() -> None:
    parameters = [torch.nn.Parameter(torch.zeros(size)) for size in (3, 5)]
    for number, parameter in enumerate(parameters):
        parameter.grad = torch.full_like(parameter, 1.0 + number)
    norm = clip_gradients(fabric(None), torch.optim.SGD(parameters), 2.0)
    assert norm.item() == pytest.approx((3 + 20) ** 0.5)
    clipped = torch.cat([p.grad for p in parameters if p.grad is not None])
    assert clipped.norm().item() == pytest.approx(2.0, rel=1e-5)


def test_scaled_gradients_are_clipped_and_stepped_as_others_without_a_wait() -> None:
    norms, weights = descend(None)
    assert min(norms) > 0.5  # clipping was at work
    scaled_norms, scaled = descend(torch.amp.GradScaler("cpu", init_scale=1024.0))
    assert scaled_norms == pytest.approx(norms, rel=1e-4)
    for one, two in zip(weights, scaled, strict=True):
        torch.testing.assert_close(one, two, atol=1e-5, rtol=0)


def test_a_step_that_overflowed_is_skipped_without_a_wait() -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    norms, weights = descend(scaler, spoilt=1)
    assert [norm == float("inf") for norm in norms] == [False, True, False]
    assert all(torch.isfinite(tensor).all() for tensor in weights)
    assert scaler.get_scale() == 512.0
