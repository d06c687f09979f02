"""Fine-tuning: one page of loop on pre-training's run folder, logs, stops and processes."""

import math
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from matpac.data.crops import CropBatch, RandomCrops, crop_loader
from matpac.data.files import DataError
from matpac.files.description import describe
from matpac.files.load import load_file
from matpac.files.save import save
from matpac.finetune.augmentations import augment
from matpac.finetune.clips import LabelledBatches, LabelledClips, read_labelled, sampling_weights
from matpac.finetune.evaluation import PartScore, Prediction, predict, score
from matpac.finetune.network import as_embedder, open_network
from matpac.finetune.optimizers import build_optimizer, set_learning_rate
from matpac.finetune.options import FinetuneOptions
from matpac.finetune.recipes import FinetunePlan, FinetuneRecipe
from matpac.model.embedder import Card
from matpac.model.logmel import LogMel
from matpac.tasks import read_task
from matpac.tasks.task import LabelKind
from matpac.train.batches import by_steps, count_workers, fingerprint, lost_readers_named
from matpac.train.config import check_unchanged, read_config
from matpac.train.console import Speed, TrainingConsole
from matpac.train.guard import LossWatch, StopSignal
from matpac.train.processes import (
    ASKING_STEPS,
    agree_to_stop,
    clip_gradients,
    first_then_others,
    mean_over_processes,
    precision_state,
    restore_precision,
    scaler_of,
    start_fabric,
)
from matpac.train.run import Run

if TYPE_CHECKING:  # Fabric takes a second to import
    from lightning_fabric import Fabric

RESULT = "model.safetensors"  # in the run folder: encoder and head of the best epoch so far, or of the last
MOST_VALIDATIONS = 40  # of a run, where options give no interval; default: a curve's worth


@dataclass(frozen=True, eq=False)
class TestResult:
    """The result on the test part."""

    prediction: Prediction
    score: PartScore


@dataclass(frozen=True, eq=False)
class Finetuned:
    """How a run ended.

    Args:
        folder: of the run.
        clips: what it was trained on.
        step: number of steps done.
        steps: of the whole run.
        valid: score of the result on the validation part, a share.
        epoch: whose weights the result is, counted from 1.
        test: None for a run that was stopped.
        skipped: number of clips that could not be used.
        seconds: of all sessions of the run, without what a kill took since the last checkpoint.
        first: whether this is the first process.
    """

    folder: Path
    clips: LabelledClips
    step: int
    steps: int
    valid: float
    epoch: int
    test: TestResult | None
    skipped: int
    seconds: float
    first: bool

    @property
    def used(self) -> int:
        """Clips of the task that were used."""
        return self.clips.task.total - self.skipped

    @property
    def complete(self) -> bool:
        """Whether the last step was done."""
        return self.step >= self.steps


def loss_of(
    kind: LabelKind,
    logits: Float[Tensor, "batch class"],
    targets: Float[Tensor, "batch class"],
    known: Float[Tensor, "batch class"],
) -> Float[Tensor, ""]:
    """Cross-entropy of labels that exclude each other; of others the mean binary one over what is known."""
    if kind == "single":
        return F.cross_entropy(logits, targets)
    losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return (losses * known).sum() / known.sum().clamp_min(1e-6)


class Finetuning:
    """All state of a run: network, optimizer, how far it is, its time, and its best epoch.

    Args:
        recipe: how to train.
        options: on what, and where.
        fabric: processes, devices, precision.
        run: the folder.
        clips: one fold of the task.
        began: when this session did, by the monotonic clock.
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
        self.start = open_network(options, recipe, clips)
        self.network = self.start.network
        self.plan = FinetunePlan(recipe, len(clips.split.train), fabric.world_size)
        self.optimizer = build_optimizer(self.network.encoder, self.network.head, recipe.optimizer)
        self.module, self.stepper = fabric.setup(self.network, self.optimizer)
        self.identity = {"corpus": fingerprint(clips.training_clips()), "encoder": self.start.key}
        state = run.restore(self.network, self.optimizer, self.identity)
        self.step = state["step"]
        self.best_score, self.best_epoch = state.get("best", [-math.inf, 0])
        self.began = began - state.get("seconds", 0.0)
        self.other_precision = restore_precision(fabric, state)
        self.frontend = LogMel(self.start.logmel).to(fabric.device)
        self.card = Card(
            name=Path(options.output).name,
            labels=tuple(clips.task.classes),
            exclusive=clips.task.kind == "single",
            source="matpac encoder",
        )
        self.description = describe(as_embedder(self.network, self.start.logmel, self.card))

    @property
    def seconds(self) -> float:
        """Of all sessions so far."""
        return time.monotonic() - self.began

    @property
    def epoch(self) -> float:
        """Passes over the training part so far."""
        return self.step / self.plan.steps_per_epoch

    def advance(self, batch: CropBatch) -> tuple[Tensor, Tensor]:
        """One step: augmentation, forward, backward, clipping, optimizer; the loss and the gradient's norm."""
        fabric, recipe = self.fabric, self.recipe
        set_learning_rate(self.optimizer, self.plan.learning_rate(self.step))
        generator = torch.Generator()
        seed = [self.options.seed, self.step, fabric.global_rank]
        generator.manual_seed(int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> 1))
        torch.manual_seed(generator.initial_seed())  # drop-path draws from torch's own
        targets, known = (part.to(fabric.device) for part in self.clips.targets(batch.numbers))
        waveforms = batch.waveforms.to(fabric.device, non_blocking=True)
        encoder = self.network.encoder.config
        examples = augment(waveforms, (targets, known), self.frontend, recipe.augmentation, encoder, generator)
        logits = self.module(examples.logmel, examples.kept).float()
        loss = loss_of(self.clips.task.kind, logits, examples.targets, examples.known)
        fabric.backward(loss)
        norm = clip_gradients(fabric, self.optimizer, recipe.optimizer.clip or math.inf)
        self.stepper.step()
        self.stepper.zero_grad()
        self.step += 1
        return loss.detach(), norm

    def validate(self) -> PartScore:
        """Score the weights on the validation part; keep them as the result where the recipe wants them.

        Raises:
            TaskError: there is nothing to score, since too few clips could be decoded.
        """
        embedder = as_embedder(self.network, self.start.logmel, self.card)
        found = predict(embedder, self.clips.task, self.clips.split.valid, self.fabric)
        self.network.train()
        self.run.skip(found.skipped)
        result = score(self.clips.task, "validation", found)
        if self.recipe.result == "last" or result.value > self.best_score:
            self.best_score, self.best_epoch = result.value, math.ceil(self.epoch)
            if self.fabric.is_global_zero:
                save(embedder, self.run.folder / RESULT)
        self.fabric.barrier()
        return result

    def save(self, loss: float | None) -> None:
        """A checkpoint of this step, by the first process; the others wait."""
        if self.fabric.is_global_zero:
            state = self.identity | {
                "step": self.step,
                "loss": loss,
                "best": [self.best_score, self.best_epoch],
                "seconds": self.seconds,
            }
            state |= precision_state(self.fabric)
            self.run.save(state, self.network, self.optimizer, self.description | {"step": self.step})
        self.fabric.barrier()

    def test(self) -> TestResult:
        """Score the result, read back from its file, on the test part. Raises TaskError as `validate`."""
        embedder = load_file(self.run.folder / RESULT).to(self.fabric.device)
        found = predict(embedder, self.clips.task, self.clips.split.test, self.fabric)
        self.run.skip(found.skipped)
        return TestResult(found, score(self.clips.task, "test", found))

    def introduction(self) -> list[str]:
        """What is about to be done, in lines for the log."""
        split, task, recipe, plan, frontend = (
            self.clips.split, self.clips.task, self.recipe, self.plan, self.start.logmel,
        )  # fmt: skip
        seconds = frontend.samples(self.start.frames) / frontend.sample_rate
        lines = [
            f"{task.name}, fold {self.clips.fold}: {len(split.train):,} training, {len(split.valid):,} validation "
            f"and {len(split.test):,} test clips of {len(task.classes)} classes",
            f"{recipe.epochs:g} epochs × {plan.epoch_clips:,} clips / batches of {plan.batch_size} = "
            f"{plan.steps:,} steps; crops of {seconds:.2f} s",
            f"result: the {'best epoch on validation' if recipe.result == 'best' else 'last epoch'}; "
            "the test part is scored once, at the end",
        ]
        if task.missing:
            lines.append(f"{len(task.missing)} of {task.total} clips skipped, see left_out.jsonl")
        if recipe.batch_size != plan.batch_size:
            lines.append(f"batches of {plan.batch_size} instead of {recipe.batch_size}: there are no more clips")
        bare = int((~self.clips.label_matrix().any(axis=1)).sum())
        if bare:
            lines.append(f"{bare} training clips have no label and count as negative for every class")
        return [*lines, *self.start.notes, *task.notes]


def finetune(recipe: FinetuneRecipe, options: FinetuneOptions, name: str = "") -> Finetuned:
    """Train until the last step, or until asked to stop; then test the result, once.

    Raises:
        TaskError: the task cannot be used, or too few clips of a part can be decoded to score it.
        RunError: the run folder cannot be used or written.
        DataError: too few clips, or ten in a row that cannot be decoded.
        TrainingError: the loss is not finite.
        HeadError: `--head keep` with a head that does not fit the task's labels.
    """
    began = time.monotonic()
    fabric = start_fabric(options)
    run = Run(Path(options.output), options.resume, options.keep, first=fabric.is_global_zero)
    if options.resume:
        check_unchanged(read_config(run.folder), recipe, options)
    clips = _labelled(options, run, fabric)
    training = Finetuning(recipe, options, fabric, run, clips, began)
    plan = training.plan
    loader = _loader(training)  # whatever the data refuses is refused before the folder holds a run
    if run.first:
        run.write_config({"name": name, "recipe": asdict(recipe), "options": asdict(options)})
        run.skip(clips.skipped)
    fabric.barrier()
    epochs = options.validate_every
    every = plan.steps_per_epoch * (math.ceil(recipe.epochs / MOST_VALIDATIONS) if epochs == "auto" else epochs)
    watch, speed = LossWatch(run, scaled=scaler_of(fabric) is not None), Speed(plan.batch_size)
    with (
        closing(by_steps(loader, plan.steps - training.step, 1)) as batches,
        lost_readers_named(),
        StopSignal() as stop,
        TrainingConsole(fabric.is_global_zero, plan.steps, training.step) as console,
    ):
        for line in training.introduction():
            console.say(line)
        console.say(f"on {fabric.device}" + (f", resuming at step {training.step:,}" if training.step else ""))
        if training.other_precision:
            console.say(training.other_precision)
        training.network.train()
        for (batch,) in batches:
            run.skip(batch.failures)
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
    return Finetuned(
        run.folder,
        clips,
        training.step,
        plan.steps,
        training.best_score,
        training.best_epoch,
        training.test() if training.step >= plan.steps else None,
        len(run.skipped),
        training.seconds,
        fabric.is_global_zero,
    )


def _labelled(options: FinetuneOptions, run: Run, fabric: "Fabric") -> LabelledClips:
    """The first process reads the headers; the others read what it kept."""
    run.folder.mkdir(parents=True, exist_ok=True)

    def read() -> LabelledClips:
        task = read_task(options.task, options.root)
        return read_labelled(task, options.fold, run.folder / "clips.parquet")

    return first_then_others(fabric, read, read)


def _loader(training: Finetuning) -> "torch.utils.data.DataLoader[CropBatch]":
    """Raises DataError or TaskError for clips that batches of this recipe cannot be drawn from."""
    recipe, options, clips, plan = training.recipe, training.options, training.clips, training.plan
    logmel = training.start.logmel
    if plan.batch_size < 2:
        raise DataError(f"{clips.task.name}: {len(clips.split.train)} training clips are too few for a batch")
    crops = RandomCrops(
        clips.training_clips(),
        logmel.samples(training.start.frames),
        options.seed,
        short=recipe.short,
        sample_rate=logmel.sample_rate,
    )
    rank = training.fabric.global_rank
    order = LabelledBatches(plan, sampling_weights(recipe, clips), options.seed, rank, training.step)
    return crop_loader(crops, order, count_workers(options, training.fabric.device))
