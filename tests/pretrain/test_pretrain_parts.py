"""Parts of a pre-training run: the optimizer's groups, and each process's masks and clips."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from helpers.tiny_run import make_sounds, tiny_recipe
from matpac.data.files import Clip
from matpac.errors import MatpacError
from matpac.pretrain.job import adamw, clip_loader, step_splits
from matpac.pretrain.masking import mask_noise, split_by_noise
from matpac.pretrain.objective import Objective
from matpac.pretrain.options import PretrainOptions
from matpac.pretrain.recipes import OptimizerConfig, Plan


def fabric(rank: int = 0, size: int = 1) -> Any:
    return SimpleNamespace(global_rank=rank, world_size=size, device=torch.device("cpu"))


def options(**changes: Any) -> PretrainOptions:
    return PretrainOptions(data="d", output="o", workers=0, **changes)


@pytest.mark.parametrize("everywhere", [True, False])
def test_what_decays(everywhere: bool) -> None:
    objective = Objective(tiny_recipe().objective)
    config = OptimizerConfig(decay_biases_and_norms=everywhere, beta1=0.8, beta2=0.9, eps=1e-5)
    optimizer = adamw(objective, config)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    learning = {name: p for name, p in objective.named_parameters() if p.requires_grad}
    assert len(decay) == len(learning)  # each once, and the teacher not at all
    assert not any(name.startswith("teacher") for name in learning)
    for name, parameter in learning.items():
        exempt = not everywhere and (name.endswith("bias") or ".norm" in name or parameter.ndim < 2)
        assert decay[id(parameter)] == (0.0 if exempt else 0.05), name
    assert {(group["betas"], group["eps"]) for group in optimizer.param_groups} == {((0.8, 0.9), 1e-5)}
    assert len(adamw(nn.Linear(2, 2, bias=False), config).param_groups) == 1  # none is empty


@pytest.mark.parametrize(("size", "accumulate"), [(1, 1), (2, 1), (1, 4), (4, 2)])
def test_masks_of_all_processes_are_the_global_batchs(size: int, accumulate: int) -> None:
    recipe = tiny_recipe(batch_size=16)

    def splits(step: int) -> list[Any]:
        given = options(seed=3, accumulate=accumulate)
        return [split for rank in range(size) for split in step_splits(recipe, given, fabric(rank, size), step)]

    parts = splits(step=7)
    assert len(parts) == size * accumulate
    whole = split_by_noise(mask_noise(16, recipe.objective.encoder.tokens, (3, 7)), recipe.objective.mask_ratio)
    assert torch.equal(torch.cat([part.visible for part in parts]), whole.visible)
    assert torch.equal(torch.cat([part.masked for part in parts]), whole.masked)
    assert not torch.equal(parts[0].masked, splits(step=8)[0].masked)


@pytest.mark.parametrize(("size", "accumulate"), [(2, 1), (1, 2), (2, 2)])
def test_clips_of_all_processes_are_the_global_batchs(size: int, accumulate: int, tmp_path: Path) -> None:
    make_sounds(tmp_path)
    clips = [Clip(str(tmp_path / f"{n}.wav"), 0.7 + 0.05 * n) for n in range(8)]
    recipe = tiny_recipe()

    def steps(rank: int, size: int, accumulate: int, first: int = 1) -> list[tuple[list[str], torch.Tensor]]:
        batches = list(clip_loader(recipe, options(accumulate=accumulate), clips, fabric(rank, size), first))
        groups = zip(*[iter(batches)] * accumulate, strict=True)
        return [
            ([path for batch in step for path in batch.paths], torch.cat([batch.waveforms for batch in step]))
            for step in groups
        ]

    whole = steps(0, 1, 1)
    parts = [steps(rank, size, accumulate) for rank in range(size)]
    assert len(whole) == Plan(recipe, len(clips)).steps - 1
    for number, (paths, waveforms) in enumerate(whole):
        assert [path for part in parts for path in part[number][0]] == paths
        assert torch.equal(torch.cat([part[number][1] for part in parts]), waveforms)
    later = steps(0, 1, 1, first=3)  # a run resumed there sees what this one saw
    assert all(torch.equal(a[1], b[1]) for a, b in zip(later, whole[2:], strict=True))


def test_a_batch_that_cannot_be_split_is_refused_at_once() -> None:
    clips = [Clip(f"{n}.wav", 1.0) for n in range(8)]
    with pytest.raises(MatpacError, match="can't be split equally"):
        clip_loader(tiny_recipe(), options(accumulate=3), clips, fabric(), 0)
