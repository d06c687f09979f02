"""Pre-training as a job of the one loop: its clips and masks, its state and step, its lines at the terminal."""

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from matpac.data.corpus import list_corpus
from matpac.data.crops import CropBatch, RandomCrops, crop_loader, drop_short
from matpac.data.files import Clip, Corpus
from matpac.data.shards.streams import keep_lanes, order_clips
from matpac.errors import describe_skipped
from matpac.files.description import describe_pretraining
from matpac.model.logmel import LogMel
from matpac.pretrain.masking import MaskSplit, mask_noise, split_by_noise
from matpac.pretrain.monitors import monitor, task_losses
from matpac.pretrain.objective import Objective, PretextOutput
from matpac.pretrain.options import PretrainOptions
from matpac.pretrain.recipes import OptimizerConfig, Plan, Recipe
from matpac.pretrain.start import start_from
from matpac.train.batches import count_workers, fingerprint, own_steps
from matpac.train.config import CONFIG_FILE
from matpac.train.loop import Finished, Job, StepResult, train
from matpac.train.processes import first_then_others, mean_over_processes
from matpac.train.run import Run
from matpac.train.training import Training

if TYPE_CHECKING:  # Fabric takes a second to import
    from lightning_fabric import Fabric


@dataclass
class PretextStep(StepResult):
    """What a step of pre-training leaves to log.

    Args:
        output: of its last micro-batch.
        schedule: learning rate, temperatures and decays by their names in the log.
    """

    output: PretextOutput
    schedule: dict[str, float]


class Pretraining(Job[PretextStep]):
    """Student, teacher and all else that pre-training adds to a run.

    Args:
        recipe: what is learned.
        options: of the run.
        training: of the same options.
        corpus: to learn from.
    """

    def __init__(self, recipe: Recipe, options: PretrainOptions, training: Training, corpus: Corpus):
        self.recipe, self.options, self.training, self.corpus = recipe, options, training, corpus
        self.plan = Plan(recipe, len(corpus.clips))
        self.steps, self.batch_size, self.skipped = self.plan.steps, recipe.batch_size, corpus.skipped
        self.checkpoint_interval = max(500, self.steps // 100)
        torch.manual_seed(options.seed)
        self.objective = Objective(recipe.objective)
        started_from = None
        if options.encoder is not None and training.run.newest is None:
            started_from = start_from(options.encoder, self.objective, recipe)
        self.optimizer = adamw(self.objective, recipe.optimizer)
        state = training.set_up(self.objective, self.optimizer, {"corpus": fingerprint(corpus.clips)})
        self.started_from: str | None = state.get("started_from", started_from)
        self.frontend = LogMel(recipe.logmel).to(training.fabric.device)
        self.description = describe_pretraining(asdict(recipe))

    def loader(self) -> DataLoader[CropBatch]:
        """Micro-batches from the next step on."""
        training = self.training
        return clip_loader(self.recipe, self.options, self.corpus.clips, training.fabric, training.step)

    def step(self, batches: list[CropBatch]) -> PretextStep:
        """One step of the method: forward, backward, clipping, optimizer, teacher, centre."""
        training, fabric, objective = self.training, self.training.fabric, self.objective
        values = self.plan.at(training.step)
        for group in self.optimizer.param_groups:
            group["lr"] = values.learning_rate
        temperatures = values.temperatures.on(fabric.device) if self.options.compile else values.temperatures
        splits = step_splits(self.recipe, self.options, fabric, training.step)

        parts: list[dict[str, Tensor]] = []
        centers: list[Tensor] = []
        output = None
        for batch, split in training.micro_batches(zip(batches, splits, strict=True)):
            output = None  # memory is for one of them
            logmel = self.frontend(batch.waveforms.to(fabric.device, non_blocking=True))
            output = training.module(logmel, split, temperatures)
            training.backward(output.loss)
            parts.append(task_losses(output))
            if output.center_batch is not None:
                centers.append(output.center_batch)
        assert output is not None

        norm = training.optimize(self.recipe.optimizer.clip)
        objective.update_teacher(values.encoder_decay, values.head_decay)
        if objective.center is not None:
            objective.center.update(mean_over_processes(fabric, torch.stack(centers).mean(0)))

        losses = {name: torch.stack([part[name] for part in parts]).mean() for name in parts[0]}
        return PretextStep(losses, norm, output, values.by_name)

    def scalars(self, result: PretextStep) -> dict[str, float]:
        """Losses and monitors, averaged over processes, and what the step was done with."""
        watched = result.losses | {"gradient/norm": result.norm}
        watched |= monitor(result.output, self.recipe.objective.predictor.hypotheses)
        return self.training.means(watched) | result.schedule

    def state(self) -> dict[str, object]:
        return {"started_from": self.started_from} if self.started_from else {}

    def introduction(self) -> list[str]:
        """What is about to be done, with the steps that the recipe's epochs come to."""
        recipe, clips = self.recipe, self.corpus.clips
        hours = sum(clip.duration for clip in clips) / 3600
        lines = [
            f"{self.options.data}: {len(clips):,} clips, {hours:.2f} h",
            f"{recipe.epochs:g} epochs × {len(clips):,} clips / batches of {recipe.batch_size} = {self.steps:,} "
            f"steps; crops of {recipe.crop_samples / recipe.logmel.sample_rate:.2f} s",
        ]
        if self.skipped:
            lines.append(f"{describe_skipped(self.skipped)}; all in {self.training.run.folder / 'left_out.jsonl'}")
        if self.started_from:
            lines.append(f"weights from {self.options.encoder} (SHA-256 {self.started_from[:16]}…)")
        return lines

    def conclusion(self, finished: Finished) -> str:
        """How it ended, and what to type next."""
        folder, spent = shlex.quote(str(finished.folder)), f"{finished.seconds / 60:.1f} min"
        if finished.complete:
            text = f"{finished.folder}: {finished.steps:,} steps done in {spent}"
            next_step = f"use it: matpac embed FILES --encoder {folder} --output vectors.parquet"
        else:
            done = f"step {finished.step:,} of {finished.steps:,}"
            text = f"{finished.folder}: stopped and saved at {done} after {spent}"
            next_step = f"to resume: matpac pretrain --resume --output {folder}"
        if finished.skipped:
            text += f"; {finished.skipped} files skipped, see left_out.jsonl"
        return f"{text}\n{next_step}"


def find_clips(recipe: Recipe, options: PretrainOptions, run: Run, fabric: "Fabric") -> Corpus:
    """The corpus. The first process reads the headers; the others read what it kept."""

    def listing(first: bool) -> Corpus:
        found = list_corpus(options.data, run.folder)
        if recipe.short == "drop":
            found = drop_short(found, recipe.crop_samples, recipe.logmel.sample_rate)
        if first and not run.resume:
            parts = fabric.world_size * options.accumulate
            keep_lanes(run.folder, found.clips, parts, count_workers(options, fabric.device))
        return found

    run.folder.mkdir(parents=True, exist_ok=True)
    return first_then_others(fabric, lambda: listing(first=True), lambda: listing(first=False))


def adamw(objective: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW over what learns, in one kernel; the learning rate is set at every step."""
    learning = [p for p in objective.parameters() if p.requires_grad]
    least = 0 if config.decay_biases_and_norms else 2  # dimensions of what decays
    groups = [
        {"params": [p for p in learning if p.ndim >= least], "weight_decay": config.weight_decay},
        {"params": [p for p in learning if p.ndim < least], "weight_decay": 0.0},
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
    steps = own_steps(options, fabric, recipe.batch_size, first_step, Plan(recipe, len(clips)).steps)
    sounds, order = order_clips(clips, Path(options.output), steps)
    rate = recipe.logmel.sample_rate
    crops = RandomCrops(
        clips, recipe.crop_samples, options.seed, short=recipe.short, sample_rate=rate, sounds=sounds
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


def pretrain(recipe: Recipe, options: PretrainOptions, name: str = "") -> Finished:
    """Train until the last step, or until asked to stop; either way the run can be used and resumed.

    Raises:
        RunError: the run folder cannot be used or written.
        DataError: nothing to train on, or too little for one batch.
        TrainingError: the loss is not finite, or a process that reads sounds has ended.
        MatpacError: there is no such device here, or another process could not list the corpus.
    """
    training = Training(recipe, options, name)
    corpus = find_clips(recipe, options, training.run, training.fabric)
    return train(Pretraining(recipe, options, training, corpus))


def pretrain_to_end(recipe: Recipe, options: PretrainOptions, name: str = "") -> Finished:
    """`pretrain`, resuming a run in the output folder; for work that needs the last step.

    Raises:
        KeyboardInterrupt: it was asked to stop before that; call it again to resume.
        RunError, DataError, TrainingError: as `pretrain`.
    """
    started = (Path(options.output) / CONFIG_FILE).exists()
    finished = pretrain(recipe, replace(options, resume=started), name)
    if not finished.complete:
        raise KeyboardInterrupt
    return finished
