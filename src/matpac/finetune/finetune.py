"""Fine-tuning: one page of loop on pre-training's run folder, logs, stops and processes."""

import math
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from matpac.data.crops import CropBatch, RandomCrops, crop_loader
from matpac.data.files import DataError
from matpac.files.checkpoint import describe, load_file, save
from matpac.finetune.averaging import Averaging
from matpac.finetune.batch import LOSSES, augmented
from matpac.finetune.evaluation import PartScore, Prediction, predict, score_of
from matpac.finetune.introduction import introduction
from matpac.finetune.labelled import LabelledBatches, LabelledClips, read_labelled, sampling_weights
from matpac.finetune.network import as_embedder
from matpac.finetune.optimizers import build_optimizer, layerwise_groups, set_learning_rate
from matpac.finetune.options import FinetuneOptions
from matpac.finetune.plan import FinetunePlan
from matpac.finetune.recipes import FinetuneRecipe
from matpac.finetune.start import Start, begin
from matpac.model.embedder import Card, Embedder
from matpac.model.logmel import LogMel
from matpac.pretrain.console import TrainingConsole
from matpac.pretrain.monitors import Speed
from matpac.pretrain.setup import by_steps, count_workers, fingerprint, telling_of_lost_readers
from matpac.train.guard import LossWatch, StopSignal
from matpac.train.processes import (
    ASKING_STEPS,
    agree_to_stop,
    clip_gradients,
    first_then_others,
    mean_over_processes,
    precision_state,
    restore_precision,
    scales_gradients,
    start_fabric,
)
from matpac.train.run import Run, read_config
from matpac.train.settings import check_unchanged

if TYPE_CHECKING:  # Fabric takes a second to import
    from lightning_fabric import Fabric

RESULT = "model.safetensors"
"""The encoder with its head that a run resulted in so far; `matpac.load` takes the run folder."""


@dataclass(frozen=True, eq=False)
class Tested:
    """The result on the test part."""

    prediction: Prediction
    score: PartScore


@dataclass(frozen=True, eq=False)
class Finetuned:
    """How a run ended."""

    folder: Path
    clips: LabelledClips
    step: int
    steps: int
    valid: float
    """Of the result, by the task's metric, a share."""
    epoch: int
    """Whose weights the result is, counted from 1."""
    test: Tested | None
    """None for a run that was stopped."""
    left_out: int
    seconds: float
    """Of all sessions of the run; what a kill took since the last checkpoint is not in it."""
    first: bool
    """Whether this is the first process."""

    @property
    def used(self) -> int:
        """Clips of the task that were not left out."""
        return self.clips.task.total - self.left_out

    @property
    def complete(self) -> bool:
        """Whether the last step was done."""
        return self.step >= self.steps


class Finetuning:
    """All state of a run: network, optimizer, average, how far it is, its time, and its best epoch.

    `began` is when this session did, by the monotonic clock.
    """

    def __init__(
        self,
        recipe: FinetuneRecipe,
        options: FinetuneOptions,
        fabric: "Fabric",
        run: Run,
        clips: LabelledClips,
        began: float,
    ):
        self.recipe, self.options, self.fabric, self.run, self.clips = recipe, options, fabric, run, clips
        start = begin(options, recipe, clips)
        self.start: Start = start
        self.network = start.network
        self.plan = FinetunePlan(recipe, len(clips.split.train), fabric.world_size)
        config = recipe.optimizer
        groups = layerwise_groups(
            self.network.encoder, self.network.head, config.learning_rate, config.layer_decay, config.weight_decay
        )
        betas = config.beta1, config.beta2
        self.optimizer = build_optimizer(config.kind, groups, config.momentum, betas, fused=True)
        self.module, self.stepper = fabric.setup(self.network, self.optimizer)
        self.averaging = Averaging(self.network, recipe.averaging)
        self.identity = {"corpus": fingerprint(clips.training_clips()), "encoder": start.key}
        self.step, state = run.restore(self.network, self.optimizer, self.identity)
        if self.step:
            self.averaging.load_state_dict(run.restore_beside("average"))
        self.best_score, self.best_epoch = state.get("best", [-math.inf, 0])
        self.began = began - state.get("seconds", 0.0)
        self.other_precision = restore_precision(fabric, state)
        self.frontend = LogMel(start.logmel).to(fabric.device)
        self.card = Card(
            name=Path(options.output).name,
            labels=tuple(clips.task.classes),
            exclusive=clips.task.kind == "single",
            source="matpac encoder",
        )
        self.description = describe(as_embedder(self.network, start.logmel, self.card))

    @property
    def seconds(self) -> float:
        """Of all sessions so far."""
        return time.monotonic() - self.began

    @property
    def epoch(self) -> float:
        """Passes over the training part so far."""
        return self.step / self.plan.steps_per_epoch

    def advance(self, batch: CropBatch) -> tuple[Tensor, Tensor]:
        """One step: augmentation, forward, backward, clipping, optimizer, average; loss and gradient's norm."""
        fabric, config = self.fabric, self.recipe.optimizer
        set_learning_rate(self.optimizer, self.plan.learning_rate(self.step))
        generator = torch.Generator()
        seed = [self.options.seed, self.step, fabric.global_rank]
        generator.manual_seed(int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> 1))
        torch.manual_seed(generator.initial_seed())  # drop-path draws from torch's own
        targets, known = (part.to(fabric.device) for part in self.clips.targets(batch.numbers))
        waveforms = batch.waveforms.to(fabric.device, non_blocking=True)
        examples = augmented(
            waveforms,
            targets,
            known,
            self.frontend,
            self.recipe.augmentation,
            self.network.encoder.config,
            generator,
        )
        logits = self.module(examples.logmel, examples.kept).float()
        loss = LOSSES[self.clips.task.kind](logits, examples.targets, examples.known)
        fabric.backward(loss)
        norm = clip_gradients(fabric, self.optimizer, config.clip or math.inf)
        self.stepper.step()
        self.stepper.zero_grad()
        self.step += 1
        self.averaging.update(self.network, self.step, self.plan.steps_per_epoch)
        return loss.detach(), norm

    def validate(self) -> PartScore:
        """Score the weights as they are (or their average) on the validation part; keep them where wanted.

        Raises:
            TaskError: there is nothing to score, since too few clips could be decoded.
        """
        embedder = self.embedder()
        found = predict(embedder, self.clips.task, self.clips.split.valid, self.fabric)
        self.network.train()
        self.run.leave_out(found.left_out(self.clips.task))
        result = score_of(self.clips.task, "validation", found)
        better = result.value > self.best_score if self.recipe.result == "best" else True
        if better:
            self.best_score, self.best_epoch = result.value, math.ceil(self.epoch)
            if self.fabric.is_global_zero:
                save(embedder, self.run.folder / RESULT)
        self.fabric.barrier()
        return result

    def embedder(self) -> Embedder:
        """The network as `matpac.load` would give it: its average where there is one."""
        return as_embedder(self.averaging.network(self.network), self.start.logmel, self.card)

    def save(self, loss: float | None) -> None:
        """A checkpoint of this step, by the first process; the others wait."""
        if self.fabric.is_global_zero:
            description = self.description | {"step": self.step}
            state = self.identity | {
                "loss": loss,
                "best": [self.best_score, self.best_epoch],
                "seconds": self.seconds,
            }
            state |= precision_state(self.fabric)
            beside = {"average": self.averaging.state_dict()} if self.averaging.active else None
            self.run.save(self.step, self.network, self.optimizer, description, state, beside)
        self.fabric.barrier()


def finetune(recipe: FinetuneRecipe, options: FinetuneOptions, name: str = "") -> Finetuned:
    """Train until the last step, or until asked to stop; then test the result, once.

    Raises:
        TaskError: the task cannot be used, or too few clips of a part can be decoded to score it.
        RunError: the run folder cannot be used or written.
        DataError: too few clips, or ten in a row that cannot be decoded.
        TrainingError: the loss is not finite.
        HeadError: a head that was to be kept does not fit the task's labels.
    """
    began = time.monotonic()
    fabric = start_fabric(options)
    run = Run(Path(options.output), options.resume, options.keep_checkpoints, first=fabric.is_global_zero)
    if options.resume:
        check_unchanged(read_config(run.folder), recipe, options)
    clips = _labelled(options, run, fabric)
    training = Finetuning(recipe, options, fabric, run, clips, began)
    plan = training.plan
    loader = _loader(training)  # whatever the data refuses is refused before the folder holds a run
    if run.first:
        run.write_config({"name": name, "recipe": asdict(recipe), "options": asdict(options)})
        run.leave_out(clips.left_out)
    fabric.barrier()
    every = _validation_interval(options, plan)
    watch, speed = LossWatch(run, scaled=scales_gradients(fabric)), Speed(plan.batch_size)
    with (
        closing(by_steps(loader, plan.steps - training.step, 1)) as batches,
        telling_of_lost_readers(),
        StopSignal() as stop,
        TrainingConsole(fabric.is_global_zero, plan.steps, training.step) as console,
    ):
        for line in introduction(recipe, plan, clips, training.start):
            console.say(line)
        console.say(f"on {fabric.device}" + (f", going on at step {training.step:,}" if training.step else ""))
        if training.other_precision:
            console.say(training.other_precision)
        training.network.train()
        for (batch,) in batches:
            run.leave_out(batch.failures)
            loss, norm = training.advance(batch)
            watch.see(training.step - 1, loss, norm, batch.paths)
            speed.count()
            console.advance(training.step)
            last = training.step == plan.steps
            logging = training.step % options.log_every == 0 or last
            if logging:
                watch.check()
                values = mean_over_processes(fabric, torch.stack([loss, norm.to(loss)])).tolist()
                seen = {"loss": values[0], "gradient/norm": values[1], "epoch": training.epoch}
                seen |= {"learning_rate": plan.learning_rate(training.step - 1)} | speed.values()
                run.log(training.step, seen)
                console.show(training.step, seen)
            stopping = agree_to_stop(fabric, stop, logging or training.step % ASKING_STEPS == 0)
            if training.step % every == 0 or last:
                found = training.validate()
                run.log(training.step, {"valid/score": found.value, "epoch": training.epoch})
                console.say(f"epoch {training.epoch:.4g}: validation {found.metric} {100 * found.value:.1f} %")
                training.save(watch.mean())
            elif stopping:
                training.save(watch.mean())
            if stopping:
                break
    run.close()
    test = _test(training) if training.step >= plan.steps else None
    return Finetuned(
        run.folder,
        clips,
        training.step,
        plan.steps,
        training.best_score,
        training.best_epoch,
        test,
        len(run.left_out),
        training.seconds,
        fabric.is_global_zero,
    )


def _labelled(options: FinetuneOptions, run: Run, fabric: "Fabric") -> LabelledClips:
    """The first process reads the headers; the others read what it kept."""
    run.folder.mkdir(parents=True, exist_ok=True)

    def read() -> LabelledClips:
        return read_labelled(options.task, options.root, options.fold, run.folder / "clips.parquet")

    return first_then_others(fabric, read, read)


def _validation_interval(options: FinetuneOptions, plan: FinetunePlan) -> int:
    """Steps between looks at the validation part: whole epochs."""
    epochs = options.validate_every
    if epochs == "auto":
        epochs = max(1, math.ceil(plan.recipe.epochs / 40))
    return epochs * plan.steps_per_epoch


def _loader(training: Finetuning) -> "torch.utils.data.DataLoader[CropBatch]":
    """Raises DataError or TaskError for clips that batches of this recipe can't be drawn from."""
    recipe, options, clips = training.recipe, training.options, training.clips
    logmel = training.start.logmel
    if training.plan.batch_size < 2:
        raise DataError(f"{clips.task.name}: {len(clips.split.train)} training clips are too few for a batch")
    crops = RandomCrops(
        clips.training_clips(),
        logmel.samples(training.start.frames),
        options.seed,
        short=recipe.short,
        sample_rate=logmel.sample_rate,
    )
    order = LabelledBatches(
        training.plan, sampling_weights(recipe, clips), options.seed, training.fabric.global_rank, training.step
    )
    next(iter(order), None)  # that a batch can be drawn and shared
    return crop_loader(crops, order, count_workers(options.workers, training.fabric.device))


def _test(training: Finetuning) -> Tested:
    """The kept result on the test part, read back from its file. Raises TaskError as `Finetuning.validate`."""
    clips = training.clips
    embedder = load_file(training.run.folder / RESULT).to(training.fabric.device)
    found = predict(embedder, clips.task, clips.split.test, training.fabric)
    training.run.leave_out(found.left_out(clips.task))
    return Tested(found, score_of(clips.task, "test", found))
