"""Pre-training: one page of loop, on any device and any number of processes (Lightning Fabric)."""

import time
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from matpac.data.crops import CropBatch
from matpac.data.files import Corpus
from matpac.files.description import describe_pretraining
from matpac.model.logmel import LogMel
from matpac.pretrain import Objective, PretextOutput
from matpac.pretrain.compiled import CompiledObjective
from matpac.pretrain.console import Finished, TrainingConsole, conclusion, introduction
from matpac.pretrain.masking import Split
from matpac.pretrain.monitors import Speed, monitor, task_losses
from matpac.pretrain.options import RunOptions
from matpac.pretrain.recipes import Plan, Recipe, StepValues
from matpac.pretrain.setup import (
    adamw,
    find_clips,
    fingerprint,
    step_loader,
    step_splits,
    telling_of_lost_readers,
)
from matpac.pretrain.start import start_from
from matpac.train.guard import LossWatch, StopSignal
from matpac.train.processes import (
    ASKING_STEPS,
    agree_to_stop,
    clip_gradients,
    mean_over_processes,
    precision_state,
    restore_precision,
    scales_gradients,
    start_fabric,
)
from matpac.train.run import CONFIG_FILE, Run, read_config
from matpac.train.settings import check_unchanged

if TYPE_CHECKING:  # Fabric takes a second to import
    from lightning_fabric import Fabric


@dataclass
class StepResult:
    """What one optimizer step leaves to look at.

    Args:
        output: of its last micro-batch.
        losses: of all of them, their means, by their names in the log.
        norm: of the gradient, before it was clipped.
    """

    output: PretextOutput
    losses: dict[str, Tensor]
    norm: Tensor

    @property
    def loss(self) -> Tensor:
        """The one that was learned from."""
        return self.losses["loss"]


class Training:
    """All state of a run: networks, optimizer, and how far it is."""

    def __init__(self, recipe: Recipe, options: RunOptions, fabric: "Fabric", run: Run, corpus: Corpus):
        self.recipe, self.options, self.fabric, self.run = recipe, options, fabric, run
        self.plan = Plan(recipe, len(corpus.clips))
        torch.manual_seed(options.seed)
        self.objective = Objective(recipe.objective)
        self.started_from = None
        if options.encoder is not None and run.newest is None:
            self.started_from = start_from(options.encoder, self.objective, recipe)
        if options.activation_checkpointing:
            self.objective.checkpoint_activations()
        self.optimizer = adamw(self.objective, recipe.optimizer)
        self.identity = {"corpus": fingerprint(corpus.clips)}
        stepped = CompiledObjective(self.objective) if options.compile else self.objective
        self.module, self.stepper = fabric.setup(stepped, self.optimizer)
        # after the set-up, which moves the weights to the device: the moments are restored to where these are
        self.step, state = run.restore(self.objective, self.optimizer, self.identity)
        self.started_from = state.get("started_from", self.started_from)
        self.other_precision = restore_precision(fabric, state)
        self.frontend = LogMel(recipe.logmel).to(fabric.device)
        self.description = describe_pretraining(asdict(recipe))

    def advance(self, batches: list[CropBatch], values: StepValues) -> StepResult:
        """One step of the method: forward, backward, optimizer, teacher, centre."""
        fabric, accumulate = self.fabric, self.options.accumulate
        for group in self.optimizer.param_groups:
            group["lr"] = values.learning_rate
        splits = step_splits(self.recipe, self.options, fabric, self.step)
        parts: list[dict[str, Tensor]] = []
        centers: list[Tensor] = []
        output: PretextOutput | None = None
        for number, (batch, split) in enumerate(zip(batches, splits, strict=True)):
            output = None  # memory is for one of them
            output = self._learn_from(batch, split, values, last=number == accumulate - 1)
            parts.append(task_losses(output))
            if output.center_batch is not None:
                centers.append(output.center_batch)

        assert output is not None
        norm = clip_gradients(fabric, self.optimizer, self.recipe.optimizer.clip)
        self.stepper.step()
        self.stepper.zero_grad()
        self.objective.update_teacher(values.encoder_decay, values.head_decay)
        if self.objective.center is not None:
            self.objective.center.update(mean_over_processes(fabric, torch.stack(centers).mean(0)))
        self.step += 1
        losses = {name: torch.stack([part[name] for part in parts]).mean() for name in parts[0]}
        return StepResult(output, losses, norm)

    def _learn_from(self, batch: CropBatch, split: Split, values: StepValues, last: bool) -> PretextOutput:
        """Forward and backward of a micro-batch; processes share their gradients after the last one."""
        logmel = self.frontend(batch.waveforms.to(self.fabric.device, non_blocking=True))
        with nullcontext() if last else self.fabric.no_backward_sync(self.module):
            output = self.module(logmel, split, values.temperatures)
            self.fabric.backward(output.loss / self.options.accumulate)
        return output

    def scalars(self, result: StepResult, values: StepValues) -> dict[str, float]:
        """Everything a log line holds, averaged over processes: the only wait for the device."""
        watched = result.losses | {"gradient/norm": result.norm}
        watched |= monitor(result.output, self.recipe.objective.predictor.hypotheses)
        means = mean_over_processes(self.fabric, torch.stack([value.float() for value in watched.values()]))
        return dict(zip(watched, means.tolist(), strict=True)) | {
            "learning_rate": values.learning_rate,
            "temperature/multiple_choice": values.temperatures.multiple_choice,
            "temperature/teacher": values.temperatures.teacher,
            "decay/encoder": values.encoder_decay,
            "decay/head": values.head_decay,
        }

    def save(self, loss: float | None) -> None:
        """A checkpoint of this step, by the first process; the others wait."""
        if self.fabric.is_global_zero:
            description = self.description | {"step": self.step}
            state = self.identity | {"loss": loss} | precision_state(self.fabric)
            if self.started_from:
                state["started_from"] = self.started_from
            self.run.save(self.step, self.objective, self.optimizer, description, state)
        self.fabric.barrier()


def pretrain(recipe: Recipe, options: RunOptions, name: str = "") -> Finished:
    """Train until the last step, or until asked to stop; either way the run can be used and gone on with.

    Raises:
        RunError: the run folder cannot be used or written.
        DataError: nothing to train on, or too little for one batch.
        TrainingError: the loss is not finite, or a process that reads sounds has ended.
        MatpacError: there is no such accelerator here, or another process could not list the corpus.
    """
    began = time.monotonic()
    fabric = start_fabric(options)
    run = Run(Path(options.output), options.resume, options.keep, first=fabric.is_global_zero)
    if options.resume:
        check_unchanged(read_config(run.folder), recipe, options)
    corpus = find_clips(recipe, options, run, fabric)
    training = Training(recipe, options, fabric, run, corpus)
    plan = training.plan
    loader = step_loader(recipe, options, plan, corpus.clips, fabric, training.step)
    if run.first:  # nothing of a run that cannot start is in the way of the next try
        run.write_config({"name": name, "recipe": asdict(recipe), "options": asdict(options)})
        run.leave_out(corpus.skipped)
    fabric.barrier()
    every = max(500, plan.steps // 100) if options.checkpoint_every == "auto" else options.checkpoint_every

    watch, speed = LossWatch(run, scaled=scales_gradients(fabric)), Speed(recipe.batch_size)
    with (
        closing(loader),
        telling_of_lost_readers(),
        StopSignal() as stop,
        TrainingConsole(fabric.is_global_zero, plan.steps, training.step) as console,
    ):
        console.say(introduction(plan, options, corpus, training.step, str(fabric.device)))
        if training.started_from:
            console.say(f"began with the weights of {options.encoder} (SHA-256 {training.started_from[:16]}…)")
        if training.other_precision:
            console.say(training.other_precision)
        for batches in loader:
            run.leave_out(failure for batch in batches for failure in batch.failures)
            values = plan.at(training.step)
            result = training.advance(batches, values)
            paths = [path for batch in batches for path in batch.paths]
            watch.see(training.step, result.loss, result.norm, paths)
            speed.count()
            console.advance(training.step)

            logging = training.step % options.log_every == 0 or training.step == plan.steps
            if logging:
                watch.check()
                seen = training.scalars(result, values) | speed.values()
                run.log(training.step, seen)
                console.show(training.step, seen)
            del result  # its tensors would lie beside those of the next step
            stopping = agree_to_stop(fabric, stop, logging or training.step % ASKING_STEPS == 0)
            if training.step % every == 0 or training.step == plan.steps or stopping:
                training.save(watch.mean())
            if stopping:
                break
        run.close()
        finished = Finished(
            run.folder, training.step, plan.steps, run.newest, len(run.left_out), time.monotonic() - began
        )
        console.say(conclusion(finished))
    return finished


def pretrain_to_end(recipe: Recipe, options: RunOptions, name: str = "") -> Finished:
    """`pretrain`, going on with what is in the output folder already; for work that needs the last step.

    Raises:
        KeyboardInterrupt: it was asked to stop before that; called again it goes on.
        RunError, DataError, TrainingError: as `pretrain`.
    """
    begun = (Path(options.output) / CONFIG_FILE).exists()
    finished = pretrain(recipe, replace(options, resume=begun), name)
    if not finished.complete:
        raise KeyboardInterrupt
    return finished
