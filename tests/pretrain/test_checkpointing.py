"""Activation checkpointing: the same to the bit, and blocks computed again only where gradients need it."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from helpers.tiny_run import options, tiny_recipe
from matpac.model.vit import Block
from matpac.pretrain import Objective, PretextOutput, Temperatures
from matpac.pretrain.masking import mask_noise, split_by_noise
from matpac.train.training import prepare

CONFIG = tiny_recipe().objective
DEEP = replace(CONFIG, encoder=replace(CONFIG.encoder, depth=3), predictor=replace(CONFIG.predictor, depth=2))


def build(checkpointing: bool) -> Objective:
    torch.manual_seed(0)
    objective = Objective(DEEP)
    prepare(objective, options(Path(), Path(), activation_checkpointing=checkpointing))
    return objective


def forward(objective: Objective) -> PretextOutput:
    encoder = objective.config.encoder
    logmel = torch.randn(2, encoder.mels, encoder.frames, generator=torch.Generator().manual_seed(1))
    split = split_by_noise(mask_noise(2, encoder.tokens, (2,)), objective.config.mask_ratio)
    return objective(logmel, split, Temperatures(0.1, 0.05))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter:
    """How often each block was computed."""
    counter: Counter = Counter()
    plain = Block.forward

    def counted(self: Block, x: torch.Tensor) -> torch.Tensor:
        counter[self] += 1
        return plain(self, x)

    monkeypatch.setattr(Block, "forward", counted)
    return counter


@pytest.mark.parametrize("bf16", [False, True])
def test_losses_and_gradients_are_the_same_to_the_bit(bf16: bool) -> None:
    plain, other = build(False), build(True)
    assert list(plain.state_dict()) == list(other.state_dict())
    losses = []
    for objective in (plain, other):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            output = forward(objective)
        output.loss.backward()
        losses.append(output.loss)
    assert torch.equal(*losses)
    for (name, one), two in zip(plain.named_parameters(), other.parameters(), strict=True):
        if one.requires_grad:
            assert one.grad is not None
            assert two.grad is not None
            assert torch.equal(one.grad, two.grad), name


def test_what_learns_is_computed_again_and_the_teacher_is_not(calls: Counter) -> None:
    objective = build(True)
    forward(objective).loss.backward()
    for part, times in ((objective.student, 2), (objective.predictor, 2), (objective.teacher, 1)):
        blocks = [block for block in part.modules() if isinstance(block, Block)]
        assert [calls[block] for block in blocks] == [times] * len(blocks)


def test_less_is_kept_for_the_gradients() -> None:
    def kept(objective: Objective) -> int:
        held: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            forward(objective)
        weights = {tensor.untyped_storage().data_ptr() for tensor in objective.state_dict().values()}
        return sum(size for place, size in held.items() if place not in weights)

    assert kept(build(True)) < 0.6 * kept(build(False))


@pytest.mark.parametrize("how", ["no_grad", "eval"])
def test_without_training_nothing_changes(how: str, calls: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("matpac.model.vit.checkpoint", None)  # is not called
    objective = build(True).train(how != "eval")
    with torch.set_grad_enabled(how != "no_grad"):
        forward(objective)
    assert set(calls.values()) == {1}
