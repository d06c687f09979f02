"""What a pre-training run is made of: clips, optimizer, batches and masks."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.utils.data import DataLoader

from matpac.data.corpus import list_corpus
from matpac.data.crops import CropBatch, RandomCrops, Steps, crop_loader, drop_short
from matpac.data.files import Clip, Corpus
from matpac.data.shards.streams import keep_lanes, order_clips
from matpac.pretrain.masking import MaskSplit, mask_noise, split_by_noise
from matpac.pretrain.options import PretrainOptions
from matpac.pretrain.recipes import OptimizerConfig, Plan, Recipe
from matpac.train.batches import count_workers
from matpac.train.processes import first_then_others
from matpac.train.run import Run

if TYPE_CHECKING:  # Fabric takes a second to import
    from lightning_fabric import Fabric


def find_clips(recipe: Recipe, options: PretrainOptions, run: Run, fabric: "Fabric") -> Corpus:
    """The corpus. The first process reads the headers; the others read what it kept."""

    def listing() -> Corpus:
        found = list_corpus(options.data, run.folder)
        if recipe.short == "drop":
            return drop_short(found, recipe.crop_samples, recipe.logmel.sample_rate)
        return found

    def first_listing() -> Corpus:
        found = listing()
        if not run.resume:
            parts, readers = fabric.world_size * options.accumulate, count_workers(options, fabric.device)
            keep_lanes(run.folder, found.clips, parts, readers)
        return found

    run.folder.mkdir(parents=True, exist_ok=True)
    return first_then_others(fabric, first_listing, listing)


def adamw(objective: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW over what learns, in one kernel; the learning rate is set at every step."""
    learning = [p for p in objective.parameters() if p.requires_grad]
    exempt = [p for p in learning if p.ndim < 2 and not config.decay_biases_and_norms]
    exempt_ids = {id(p) for p in exempt}
    groups = [
        {"params": [p for p in learning if id(p) not in exempt_ids], "weight_decay": config.weight_decay},
        {"params": exempt, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        fused=True,
    )


def clip_loader(
    recipe: Recipe, options: PretrainOptions, clips: Sequence[Clip], fabric: "Fabric", first_step: int
) -> DataLoader[CropBatch]:
    """The micro-batches of this process from `first_step` to the run's end.

    Raises:
        DataError: too few clips for a batch, or one that cannot be split; at once. Later, in the iterator: ten
            clips in a row that cannot be decoded.
    """
    steps = Steps(
        recipe.batch_size,
        options.seed,
        first_step,
        Plan(recipe, len(clips)).steps,
        fabric.global_rank,
        fabric.world_size,
        options.accumulate,
    )
    sounds, order = order_clips(clips, Path(options.output), steps)
    crops = RandomCrops(
        clips,
        recipe.crop_samples,
        options.seed,
        short=recipe.short,
        sample_rate=recipe.logmel.sample_rate,
        sounds=sounds,
    )
    return crop_loader(crops, order, workers=count_workers(options, fabric.device))


def step_splits(recipe: Recipe, options: PretrainOptions, fabric: "Fabric", step: int) -> list[MaskSplit]:
    """Masks of this process's micro-batches: its rows of noise drawn for the global batch."""
    noise = mask_noise(recipe.batch_size, recipe.objective.encoder.tokens, (options.seed, step))
    mine = noise.chunk(fabric.world_size)[fabric.global_rank]
    if fabric.device.type == "cuda":
        mine = mine.pin_memory()  # from other memory the copy would wait for the device
    mine = mine.to(fabric.device, non_blocking=True)
    return [split_by_noise(part, recipe.objective.mask_ratio) for part in mine.chunk(options.accumulate)]
