"""The gradient of the loss with respect to heads' logits, for labels of each kind."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Integer, Num, Shaped
from torch import Tensor

from matpac.probe.metrics import task_score
from matpac.tasks import Task


def output_classes(task: Task) -> int:
    """Classes that a probe has an output for: with one label per clip, those up to the last that a clip has."""
    return int(task.labels.max()) + 1 if task.kind == "single" else task.labels.shape[1]


class Targets:
    """A task's labels on a device."""

    def __init__(self, task: Task, device: torch.device) -> None:
        self.task, self.classes = task, output_classes(task)
        kind = np.int64 if task.kind == "single" else np.uint8
        self._labels = torch.from_numpy(task.labels.astype(kind)).to(device)
        self._known = None if task.known is None else torch.tensor(task.known, device=device)

    def count(self, index: Int[Tensor, "group batch"]) -> Int[Tensor, "group"]:
        """What each group's loss of these clips is a mean over: clips, or their (known) labels."""
        if self._known is not None:
            return self._known[index.to(self._known.device)].sum(dim=(1, 2)).clamp_(min=1)
        each = 1 if self.task.kind == "single" else self.classes
        return torch.full((len(index),), each * index.shape[1], device=self._labels.device)

    def gradient(
        self,
        logits: Float[Tensor, "group clip rate class"],
        index: Int[Tensor, "group clip"],
        count: Int[Tensor, "group"],
    ) -> Float[Tensor, "group clip rate class"]:
        """Gradient of each head's loss, a mean over `count`, with respect to its logits for the clips `index`."""
        labels = self._labels[index.to(self._labels.device)]
        if self.task.kind == "single":
            return cross_entropy_gradient(logits, labels, count)
        known = None if self._known is None else self._known[index.to(self._labels.device)]
        return binary_cross_entropy_gradient(logits, labels, known, count)

    def score(self, logits: Num[np.ndarray, "part class"], part: Integer[np.ndarray, "part"]) -> float:
        """The task's metric on the clips of a part."""
        return task_score(self.task, part, logits).value


def cross_entropy_gradient(
    logits: Float[Tensor, "group clip rate class"],
    labels: Int[Tensor, "group clip"],
    count: Int[Tensor, "group"],
) -> Float[Tensor, "group clip rate class"]:
    """Gradient of each head's cross-entropy summed over clips / count (not divided by classes)."""
    true = torch.nn.functional.one_hot(labels, logits.shape[-1])
    return logits.softmax(dim=-1).sub_(true[:, :, None]).div_(count[:, None, None, None])


def binary_cross_entropy_gradient(
    logits: Float[Tensor, "group clip rate class"],
    targets: Shaped[Tensor, "group clip class"],
    known: Bool[Tensor, "group clip class"] | None,
    count: Int[Tensor, "group"],
) -> Float[Tensor, "group clip rate class"]:
    """Gradient of each head's binary cross-entropy summed over known labels / count."""
    gradient = logits.sigmoid().sub_(targets[:, :, None])
    if known is not None:
        gradient.mul_(known[:, :, None])
    return gradient.div_(count[:, None, None, None])
