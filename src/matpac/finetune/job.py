"""Fine-tuning as a job of the one loop: its state, its step, its validation, and the test of its result."""

import math
import shlex
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from matpac.data.crops import CropBatch, RandomCrops, crop_loader
from matpac.data.files import DataError
from matpac.files.description import describe
from matpac.files.load import load_file
from matpac.files.save import save
from matpac.finetune.augmentations import augment
from matpac.finetune.clips import LabelledClips, labelled_batches, read_labelled, sampling_weights
from matpac.finetune.evaluation import PartScore, Prediction, predict, score
from matpac.finetune.network import as_embedder, open_network
from matpac.finetune.optimizers import build_optimizer, set_learning_rate
from matpac.finetune.options import FinetuneOptions
from matpac.finetune.recipes import FinetunePlan, FinetuneRecipe
from matpac.model.embedder import Card
from matpac.model.logmel import LogMel
from matpac.tasks import read_task
from matpac.tasks.task import LabelKind
from matpac.train.batches import count_workers, fingerprint, own_steps
from matpac.train.loop import Finished, Job, StepResult, train
from matpac.train.processes import first_then_others
from matpac.train.training import Training

RESULT = "model.safetensors"  # in the run folder: encoder and head of the best epoch so far, or of the last
MOST_VALIDATIONS = 40  # of a run, where options give no interval; default: a curve's worth


@dataclass(frozen=True)
class Finetuned(Finished):
    """How a run ended.

    Args:
        clips: what it was trained on.
        valid: score of the result on the validation part, a share.
        epoch: whose weights the result is, counted from 1.
        found: logits of the test part; None for a run that was stopped.
        test: their score; likewise.
    """

    clips: LabelledClips
    valid: float
    epoch: int
    found: Prediction | None = None
    test: PartScore | None = None

    @property
    def used(self) -> int:
        """Clips of the task that were used."""
        return self.clips.task.total - self.skipped


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


class Finetuning(Job[StepResult]):
    """Encoder, head, and all else that fine-tuning adds to a run.

    Args:
        recipe: how to train.
        options: of the run.
        training: of the same options.
        clips: one fold of the task.
    """

    def __init__(self, recipe: FinetuneRecipe, options: FinetuneOptions, training: Training, clips: LabelledClips):
        self.recipe, self.options, self.training, self.clips = recipe, options, training, clips
        self.start = open_network(options, recipe, clips)
        self.network, self.logmel = self.start.network, self.start.logmel
        parts = training.fabric.world_size * options.accumulate
        self.plan = FinetunePlan(recipe, len(clips.fold.train), parts)
        self.steps, self.batch_size, self.skipped = self.plan.steps, self.plan.batch_size, clips.skipped
        every = options.validate_every
        epochs = math.ceil(recipe.epochs / MOST_VALIDATIONS) if every == "auto" else every
        self.validation_interval = self.checkpoint_interval = epochs * self.plan.steps_per_epoch
        self.optimizer = build_optimizer(self.network.encoder, self.network.head, recipe.optimizer)
        identity = {"corpus": fingerprint(clips.training_clips()), "encoder": self.start.key}
        state = training.set_up(self.network, self.optimizer, identity)
        self.best_score, self.best_epoch = state.get("best", [-math.inf, 0])
        self.frontend = LogMel(self.logmel).to(training.fabric.device)
        self.card = Card(
            name=Path(options.output).name,
            labels=tuple(clips.task.classes),
            exclusive=clips.task.kind == "single",
            source="matpac encoder",
        )
        self.description = describe(as_embedder(self.network, self.logmel, self.card))
        self.network.train()

    @property
    def epoch(self) -> float:
        """Passes over the training part so far."""
        return self.training.step / self.plan.steps_per_epoch

    def loader(self) -> DataLoader[CropBatch]:
        """Micro-batches from the next step on. Raises DataError or TaskError for clips that give none."""
        recipe, options, clips, training = self.recipe, self.options, self.clips, self.training
        if self.plan.batch_size < 2:
            raise DataError(f"{clips.task.name}: {len(clips.fold.train)} training clips are too few for a batch")
        clip_list, samples = clips.training_clips(), self.logmel.samples(self.start.frames)
        rate, fabric = self.logmel.sample_rate, training.fabric
        crops = RandomCrops(clip_list, samples, options.seed, short=recipe.short, sample_rate=rate)
        steps = own_steps(options, fabric, self.batch_size, training.step, self.steps)
        order = labelled_batches(self.plan, sampling_weights(recipe, clips), steps)
        return crop_loader(crops, order, count_workers(options, fabric.device))

    def step(self, batches: list[CropBatch]) -> StepResult:
        """One step: augmentation of the whole batch; forward and backward of each micro-batch; optimizer."""
        training, recipe, device = self.training, self.recipe, self.training.fabric.device
        set_learning_rate(self.optimizer, self.plan.learning_rate(training.step))
        generator = step_generator(self.options.seed, training.step, training.fabric.global_rank)
        waveforms = torch.cat([batch.waveforms.to(device, non_blocking=True) for batch in batches])
        targets, known = self.clips.targets([number for batch in batches for number in batch.numbers])
        labels = targets.to(device), known.to(device)
        examples = augment(
            waveforms, labels, self.frontend, recipe.augmentation, self.network.encoder.config, generator
        )
        drop = self.network.draw_drop_path(len(waveforms), generator)

        losses = []
        everything = examples.known.sum().clamp_min(1e-6)
        parts = zip(examples.micro_batches(len(batches)), drop.chunk(len(batches), dim=1), strict=True)
        for part, dropped in training.micro_batches(parts):
            logits = training.module(part.logmel, part.kept, dropped).float()
            loss = loss_of(self.clips.task.kind, logits, part.targets, part.known)
            loss = loss * (part.known.sum().clamp_min(1e-6) / everything * len(batches))
            training.backward(loss)
            losses.append(loss.detach())

        norm = training.optimize(recipe.optimizer.clip or math.inf)
        return StepResult({"loss": torch.stack(losses).mean()}, norm)

    def scalars(self, result: StepResult) -> dict[str, float]:
        """Loss and gradient, averaged over processes, and what the step was done with."""
        values = self.training.means(result.losses | {"gradient/norm": result.norm})
        rate = self.plan.learning_rate(self.training.step - 1)
        return values | {"epoch": self.epoch, "learning_rate": rate}

    def validate(self) -> tuple[dict[str, float], str]:
        """Score the weights on the validation part; keep them as the result where the recipe wants them.

        Raises:
            TaskError: there is nothing to score, since too few clips could be decoded.
        """
        training, embedder = self.training, as_embedder(self.network, self.logmel, self.card)
        found = predict(embedder, self.clips.task, self.clips.fold.valid, training.fabric)
        self.network.train()
        training.run.skip(found.skipped)
        result = score(self.clips.task, "validation", found)
        if self.recipe.result == "last" or result.value > self.best_score:
            self.best_score, self.best_epoch = result.value, math.ceil(self.epoch)
            if training.fabric.is_global_zero:
                save(embedder, training.run.folder / RESULT)
        training.fabric.barrier()
        line = f"epoch {self.epoch:.4g}: validation {result.metric} {100 * result.value:.1f} %"
        return {"valid/score": result.value, "epoch": self.epoch}, line

    def test(self) -> tuple[Prediction, PartScore]:
        """Logits and score of the result, read back from its file, on the test part. Raises as `validate`."""
        embedder = load_file(self.training.run.folder / RESULT).to(self.training.fabric.device)
        found = predict(embedder, self.clips.task, self.clips.fold.test, self.training.fabric)
        self.training.run.skip(found.skipped)
        return found, score(self.clips.task, "test", found)

    def state(self) -> dict[str, object]:
        """The best validation score and its epoch."""
        return {"best": [self.best_score, self.best_epoch]}

    def introduction(self) -> list[str]:
        """What is about to be done, in lines for the log."""
        fold, task, recipe, plan = self.clips.fold, self.clips.task, self.recipe, self.plan
        seconds = self.logmel.samples(self.start.frames) / self.logmel.sample_rate
        lines = [
            f"{task.name}, fold {fold.name}: {len(fold.train):,} training, {len(fold.valid):,} validation "
            f"and {len(fold.test):,} test clips of {len(task.classes)} classes",
            f"{recipe.epochs:g} epochs × {plan.epoch_clips:,} clips / batches of {plan.batch_size} = "
            f"{plan.steps:,} steps; crops of {seconds:.2f} s",
            f"result: the {'best epoch on validation' if recipe.result == 'best' else 'last epoch'}; "
            "the test part is scored once, at the end",
        ]
        if task.missing:
            lines.append(f"{len(task.missing)} of {task.total} clips skipped, see left_out.jsonl")
        if recipe.batch_size != plan.batch_size:
            lines.append(f"batches of {plan.batch_size} instead of {recipe.batch_size}: there are no more clips")
        bare = int((~task.positives(fold.train).any(axis=1)).sum())
        if bare:
            lines.append(f"{bare} training clips have no label and count as negative for every class")
        return [*lines, *self.start.notes, *task.notes]

    def conclusion(self, finished: Finished) -> str:
        """How it ended, and what to type next."""
        if finished.complete:
            return f"{self.steps:,} steps done in {finished.seconds / 60:.1f} min; scoring the test part"
        return (
            f"{finished.folder}: stopped and saved at step {finished.step:,} of {finished.steps:,}\n"
            f"to resume: matpac finetune --resume --output {shlex.quote(str(finished.folder))}"
        )


def step_generator(seed: int, step: int, rank: int) -> torch.Generator:
    """All that a step draws at random in one process, as a function of these three."""
    state = np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> 1))


def finetune(recipe: FinetuneRecipe, options: FinetuneOptions, name: str = "") -> Finetuned:
    """Train until the last step, or until asked to stop; then test the result, once.

    Raises:
        TaskError: the task cannot be used, or too few clips of a part can be decoded to score it.
        RunError: the run folder cannot be used or written.
        DataError: too few clips, or ten in a row that cannot be decoded.
        TrainingError: the loss is not finite.
        HeadError: `--head keep` with a head that does not fit the task's labels.
    """
    training = Training(recipe, options, name)
    run = training.run
    run.folder.mkdir(parents=True, exist_ok=True)

    def read() -> LabelledClips:
        return read_labelled(read_task(options.task, options.root), options.fold, run.folder / "clips.parquet")

    # the first process reads the headers; the others read what it kept
    job = Finetuning(recipe, options, training, first_then_others(training.fabric, read, read))
    finished = train(job)
    found, test = job.test() if finished.complete else (None, None)
    how = vars(finished) | {"skipped": len(run.skipped), "seconds": training.seconds}
    return Finetuned(**how, clips=job.clips, valid=job.best_score, epoch=job.best_epoch, found=found, test=test)
