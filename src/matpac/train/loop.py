"""The one loop of training: what pre-training and fine-tuning do around their steps."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from torch import Tensor

from matpac.data.crops import CropBatch
from matpac.errors import Skipped
from matpac.train.batches import by_steps, lost_readers_named
from matpac.train.console import Speed, TrainingConsole
from matpac.train.guard import LossWatch, StopSignal
from matpac.train.processes import ASKING_STEPS, agree_to_stop, scaler_of
from matpac.train.training import Training


@dataclass
class StepResult:
    """What a step leaves to log; a job's own kind may have more.

    Args:
        losses: by their names in the log, detached, means over micro-batches; "loss" is the one learned from.
        norm: of the gradient, before it was clipped.
    """

    losses: dict[str, Tensor]
    norm: Tensor


ResultT = TypeVar("ResultT", bound=StepResult)


class Job(ABC, Generic[ResultT]):
    """What is learned: the part of a run that is not the loop's.

    Attributes:
        training: the run's state, with network and optimizer set up.
        steps: optimizer steps of the whole run.
        batch_size: clips per step, over all processes and micro-batches.
        skipped: files of the corpus that cannot be used.
        description: of the network, as `matpac.load` needs it.
        checkpoint_interval: steps between checkpoints where the options say auto.
        validation_interval: steps between validations, besides the one after the last step; None for never.
    """

    training: Training
    steps: int
    batch_size: int
    skipped: list[Skipped]
    description: Mapping[str, object]
    checkpoint_interval: int
    validation_interval: int | None = None

    @abstractmethod
    def introduction(self) -> list[str]:
        """What is about to be done, in lines."""

    @abstractmethod
    def loader(self) -> Iterable[CropBatch]:
        """Micro-batches from the next step on; refuses at once what the data cannot give."""

    @abstractmethod
    def step(self, batches: list[CropBatch]) -> ResultT:
        """The method: forward and backward of each micro-batch, clipping, optimizer, and what follows it."""

    @abstractmethod
    def scalars(self, result: ResultT) -> dict[str, float]:
        """What a log line holds of a step, averaged over processes; "loss" among it."""

    def validate(self) -> tuple[dict[str, float], str]:
        """Score the network as it is: values for the log and a line for the console."""
        raise NotImplementedError

    def state(self) -> dict[str, object]:
        """What the job itself needs to resume, as JSON."""
        return {}

    @abstractmethod
    def conclusion(self, finished: "Finished") -> str:
        """How it ended, and what to type next."""


@dataclass(frozen=True)
class Finished:
    """How a run ended.

    Args:
        folder: of the run.
        step: steps done.
        steps: of the whole run.
        checkpoint: the newest.
        skipped: number of files that could not be used.
        seconds: of all sessions of the run.
        first: whether this is the first process.
    """

    folder: Path
    step: int
    steps: int
    checkpoint: Path | None
    skipped: int
    seconds: float
    first: bool

    @property
    def complete(self) -> bool:
        """Whether the last step was done."""
        return self.step >= self.steps


def train(job: Job[ResultT]) -> Finished:
    """Train until the last step, or until asked to stop; either way the run can be used and resumed.

    Raises:
        RunError: the run folder cannot be written.
        DataError: not enough for one batch, or many clips in a row that cannot be decoded.
        TrainingError: the loss is not finite, or a process that reads sounds has ended.
    """
    training, options, steps = job.training, job.training.options, job.steps
    fabric, run = training.fabric, training.run
    loader = job.loader()  # before the folder holds a run: a start that fails does not block the next
    if run.first:
        run.write_config(training.config)
        run.skip(job.skipped)
    fabric.barrier()
    every = job.checkpoint_interval if options.checkpoint_every == "auto" else options.checkpoint_every
    watch, speed = LossWatch(run, scaled=scaler_of(fabric) is not None), Speed(job.batch_size)
    with (
        closing(by_steps(loader, steps - training.step, options.accumulate)) as batches_of_steps,
        lost_readers_named(),
        StopSignal() as stop,
        TrainingConsole(run.first, steps, training.step) as console,
    ):
        del loader  # its processes end with the generator
        for line in job.introduction():
            console.say(line)
        console.say(f"on {fabric.device}" + (f", resuming at step {training.step:,}" if training.step else ""))
        console.say(training.precision_note)
        for batches in batches_of_steps:
            run.skip(failure for batch in batches for failure in batch.failures)
            result = job.step(batches)
            training.step += 1
            step, last = training.step, training.step == steps
            paths = [path for batch in batches for path in batch.paths]
            watch.see(step, result.losses["loss"], result.norm, paths)
            speed.count()
            console.advance(step)

            logging = step % options.log_every == 0 or last
            if logging:
                watch.check()
                values = job.scalars(result) | speed.values()
                run.log(step, values)
                console.show(step, values)
            del result  # its tensors would lie beside those of the next step
            stopping = agree_to_stop(fabric, stop, logging or step % ASKING_STEPS == 0)
            if job.validation_interval and (step % job.validation_interval == 0 or last):
                values, line = job.validate()
                run.log(step, values)
                console.say(line)
            if step % every == 0 or last or stopping:
                training.save(watch.mean(), job.description, job.state())
            if stopping:
                break
        run.close()
        finished = Finished(
            run.folder, training.step, steps, run.newest, len(run.skipped), training.seconds, run.first
        )
        console.say(job.conclusion(finished))
    return finished
