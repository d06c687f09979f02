"""What a pre-training run is made of: clips, optimizer, batches and masks."""

import hashlib
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

from matpac.data.corpus import list_corpus
from matpac.data.crops import CropBatch, RandomCrops, Steps, crop_loader, drop_short
from matpac.data.files import Clip, Corpus, DataError
from matpac.data.shards.streams import keep_lanes, order_clips
from matpac.errors import one_line
from matpac.pretrain.masking import Split, mask_noise, split_by_noise
from matpac.pretrain.options import RunOptions
from matpac.pretrain.recipes import OptimizerConfig, Plan, Recipe
from matpac.train.guard import TrainingError
from matpac.train.processes import count_own_cores, first_then_others
from matpac.train.run import Run

if TYPE_CHECKING:  # Fabric takes a second to import
    from lightning_fabric import Fabric

AUTO_WORKERS_CPU = 1
"""Reading processes of a run on a CPU: one keeps up with two cores of training and takes little from them."""

AUTO_WORKERS_LIMIT = 24
"""Reading processes for a GPU, at most: so many cores decode the FLAC that ViT-B takes on a well used H200 (23.3
by docs/scaling.md), and each keeps `PREFETCHED` micro-batches in memory; ours."""


def find_clips(recipe: Recipe, options: RunOptions, run: Run, fabric: "Fabric") -> Corpus:
    """The corpus. The first process reads the headers; the others read what it kept."""

    def listing() -> Corpus:
        found = list_corpus(options.data, run.folder)
        if recipe.short == "drop":
            return drop_short(found, recipe.crop_samples, recipe.logmel.sample_rate)
        return found

    def first_listing() -> Corpus:
        found = listing()
        if not run.resume:
            keep_lanes(run.folder, found.clips, fabric.world_size * options.accumulate, _readers(options, fabric))
        return found

    run.folder.mkdir(parents=True, exist_ok=True)
    return first_then_others(fabric, first_listing, listing)


def fingerprint(clips: list[Clip]) -> str:
    """Tells whether a resumed run has the corpus it began with."""
    digest = hashlib.sha256()
    for clip in clips:
        digest.update(f"{clip.identity}\0{clip.duration:.3f}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def adamw(objective: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW over what learns, in one kernel; the learning rate is set at every step."""
    learning = [p for p in objective.parameters() if p.requires_grad]
    exempt = [] if config.decay_biases_and_norms else [p for p in learning if p.ndim < 2]
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


def step_loader(
    recipe: Recipe, options: RunOptions, plan: Plan, clips: list[Clip], fabric: "Fabric", first_step: int
) -> Generator[list[CropBatch], None, None]:
    """The micro-batches of this process, step by step, from `first_step` on.

    Raises:
        DataError: too few clips for a batch, or one that cannot be split; at once. Later, in the iterator: ten
            clips in a row that cannot be decoded.
    """
    steps = Steps(
        recipe.batch_size,
        options.seed,
        first_step,
        plan.steps,
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
    loader = crop_loader(crops, order, workers=_readers(options, fabric))
    return by_steps(loader, plan.steps - first_step, options.accumulate)


def by_steps(loader: Iterable[CropBatch], steps: int, accumulate: int) -> Generator[list[CropBatch], None, None]:
    """The micro-batches of `steps` steps; raises the DataError of a reading process as one line, and ends them."""
    batches = iter(loader)
    for _ in range(steps):
        try:
            step = [next(batches) for _ in range(accumulate)]
        except DataError as error:
            # out of a reading process it comes inside a whole traceback as text, its own message last
            failure = str(error).rpartition(f"{type(error).__name__}: ")[2].strip()
            error.__traceback__ = None  # torch lets it refer to itself, and with it to the reading processes
            break
        yield step
    else:
        return
    del batches, loader  # ends the reading processes now: left to a garbage collection it takes ten seconds
    raise DataError(failure)


@contextmanager
def telling_of_lost_readers() -> Iterator[None]:
    """Around the steps of a run: PyTorch tells of a reading process that ended wherever the run is at that moment.

    Raises:
        TrainingError: one has ended, with the likely reason and the way out.
    """
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker (pid" not in str(error):
            raise
        reason = one_line(error).rstrip(".")
        raise TrainingError(
            f"a process that reads sounds has ended ({reason}); mostly the memory was full: go on with --resume "
            "and fewer --workers, each of which keeps several batches ready, or with more memory"
        ) from error


def _readers(options: RunOptions, fabric: "Fabric") -> int:
    return count_workers(options.workers, fabric.device, options.nodes)


def count_workers(wanted: int | Literal["auto"], device: torch.device, nodes: int = 1) -> int:
    """Processes that read sound files for one process of training: on a GPU, one for each core that is its own.

    Args:
        wanted: this many, if it is a number.
        device: of the training.
        nodes: as `count_own_cores` takes it.
    """
    if wanted != "auto":
        return wanted
    return AUTO_WORKERS_CPU if device.type == "cpu" else min(AUTO_WORKERS_LIMIT, count_own_cores(nodes))


def step_splits(recipe: Recipe, options: RunOptions, fabric: "Fabric", step: int) -> list[Split]:
    """Masks of this process's micro-batches: its rows of noise drawn for the global batch."""
    noise = mask_noise(recipe.batch_size, recipe.objective.encoder.tokens, (options.seed, step))
    mine = noise.chunk(fabric.world_size)[fabric.global_rank]
    if fabric.device.type == "cuda":
        mine = mine.pin_memory()  # from other memory the copy would wait for the device
    mine = mine.to(fabric.device, non_blocking=True)
    return [split_by_noise(part, recipe.objective.mask_ratio) for part in mine.chunk(options.accumulate)]
