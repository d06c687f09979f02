"""The time of a pre-training step by its parts, each measured alone on tensors of the step, with its backward."""

import statistics
import time
from collections.abc import Callable, Sequence

import torch
from rates import synchronize
from torch import Tensor, nn

from matpac.pretrain.job import Pretraining, step_splits
from matpac.pretrain.losses import (
    choose,
    classification_loss,
    hypothesis_losses,
    multiple_choice_loss,
    teacher_probabilities,
)
from matpac.pretrain.masking import MaskSplit, gather_tokens


def learning(*modules: nn.Module) -> list[Tensor]:
    """Parameters that need gradients."""
    return [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]


class Parts:
    """The parts of a step, in order, each callable by itself.

    Their tensors come from one forward pass of the step. Backward passes start from ones and keep no gradients.

    Args:
        job: the run.
        waveforms: a batch, on the device.
    """

    def __init__(self, job: Pretraining, waveforms: Tensor):
        self.job, self.waveforms, self.values = job, waveforms, job.plan.at(job.training.step)
        self.objective, self.fabric = job.objective, job.training.fabric
        self.split: MaskSplit = step_splits(job.recipe, job.options, self.fabric, 0)[0]
        student, teacher = self.objective.student, self.objective.teacher
        with torch.no_grad(), self.fabric.autocast():
            self.logmel = job.frontend(waveforms)
            tokens = student.patch_tokens(self.logmel)
            self.seen = student.with_cls(gather_tokens(tokens, self.split.visible))
            self.masked = student.with_cls(gather_tokens(tokens, self.split.masked))
            self.encoded = student.transformer(self.seen)
            self.targets = teacher.transformer(self.masked)[:, 1:]
            self.hypotheses = self.objective.predictor(self.encoded, self.split)
            winner = hypothesis_losses(self.targets, self.hypotheses).argmin(dim=-1)
            self.chosen = choose(self.hypotheses, winner)
            head = self.objective.head
            self.logits = None if head is None else head(self.chosen.flatten(0, 1))
            self.teacher_logits = None if teacher.head is None else teacher.head(self.targets.flatten(0, 1))
        self.gradients = [torch.randn_like(parameter) for parameter in learning(self.objective)]

    def table(self) -> dict[str, Callable[[], object]]:
        """The parts by name."""
        heads = {} if self.objective.head is None else {"heads": self.heads}
        return {
            "log-mel": lambda: self.job.frontend(self.waveforms),
            "patches, gather": self.patches,
            "student": self.student,
            "teacher": self.teacher,
            "predictor": self.predictor,
            **heads,
            "losses": self.losses,
            "optimizer": self.optimizer,
            "EMA, centre": self.averages,
        }

    def _back(self, output: Tensor, inputs: Sequence[Tensor]) -> None:
        torch.autograd.grad(output, inputs, torch.ones_like(output))

    def patches(self) -> None:
        """Patch embedding and the tokens of each side; only the student's side has a backward."""
        student = self.objective.student
        with self.fabric.autocast():
            tokens = student.patch_tokens(self.logmel)
            seen = student.with_cls(gather_tokens(tokens, self.split.visible))
            with torch.no_grad():
                student.with_cls(gather_tokens(tokens, self.split.masked))
        self._back(seen, [student.patch_embed.weight, student.patch_embed.bias, student.cls_token])

    def student(self) -> None:
        """The student's blocks, forward and backward."""
        seen, transformer = self.seen.requires_grad_(), self.objective.student.transformer
        with self.fabric.autocast():
            encoded = transformer(seen)
        self._back(encoded, [seen, *learning(transformer)])

    def teacher(self) -> None:
        """The teacher's blocks, forward."""
        with torch.no_grad(), self.fabric.autocast():
            self.objective.teacher.transformer(self.masked)

    def predictor(self) -> None:
        """Predictor: embedding, blocks and hypotheses, forward and backward."""
        encoded, predictor = self.encoded.requires_grad_(), self.objective.predictor
        with self.fabric.autocast():
            hypotheses = predictor(encoded, self.split)
        self._back(hypotheses, [encoded, *learning(predictor)])

    def heads(self) -> None:
        """The student's head, forward and backward, and the teacher's, forward."""
        assert self.objective.head is not None
        assert self.objective.teacher.head is not None
        chosen = self.chosen.requires_grad_()
        with self.fabric.autocast():
            logits = self.objective.head(chosen.flatten(0, 1))
            with torch.no_grad():
                self.objective.teacher.head(self.targets.flatten(0, 1))
        self._back(logits, [chosen, *learning(self.objective.head)])

    def losses(self) -> None:
        """Losses of both tasks, choice of hypotheses, teacher's probabilities, forward and backward."""
        temperatures, hypotheses = self.values.temperatures, self.hypotheses.requires_grad_()
        with self.fabric.autocast():
            found = hypothesis_losses(self.targets, hypotheses)
            chosen = choose(hypotheses, found.detach().argmin(dim=-1))
            loss = multiple_choice_loss(found, temperatures.multiple_choice).mean()
            if self.logits is not None and self.teacher_logits is not None and self.objective.center is not None:
                logits = self.logits.requires_grad_()
                center = self.objective.center.value
                probabilities = teacher_probabilities(self.teacher_logits, center, temperatures.teacher)
                probabilities.mean(dim=0)
                loss = loss + classification_loss(probabilities, logits).mean()
                torch.autograd.grad([loss, chosen], [hypotheses, logits], [loss.detach(), torch.ones_like(chosen)])
                return
        self._back(loss, [hypotheses])

    def optimizer(self) -> None:
        """Clipping and AdamW, with random gradients."""
        for parameter, gradient in zip(learning(self.objective), self.gradients, strict=True):
            parameter.grad = gradient
        self.job.training.optimize(self.job.recipe.optimizer.clip)

    def averages(self) -> None:
        """Updates of teacher and centre."""
        self.objective.update_teacher(self.values.encoder_decay, self.values.head_decay)
        if self.objective.center is not None:
            self.objective.center.update(self.objective.center.value)


def seconds_of(call: Callable[[], object], device: torch.device, rounds: int) -> float:
    """Median seconds of a call; on a GPU of several in a row, since a step does not wait between its parts."""
    repeats, found = 1 if device.type == "cpu" else 10, []
    call()
    for _ in range(rounds):
        synchronize(device)
        began = time.perf_counter()
        for _ in range(repeats):
            call()
        synchronize(device)
        found.append((time.perf_counter() - began) / repeats)
    return statistics.median(found)


def print_parts(parts: Parts, whole: Callable[[], object], rounds: int) -> None:
    """Print the time of each part, its share of the whole step, and the sum of the parts."""
    device = parts.fabric.device
    step = seconds_of(whole, device, rounds)
    found = {name: seconds_of(call, device, rounds) for name, call in parts.table().items()}
    rest = {"sum of the parts": sum(found.values()), "whole step": step}
    print(f"{'  part':24} {'ms':>9} {'share':>6}")
    for name, seconds in {**found, **rest}.items():
        print(f"{f'  {name}':24} {1e3 * seconds:9.2f} {seconds / step:6.3f}")
