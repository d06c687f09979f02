"""Labels, and what depends on their kind: the loss's gradient and the metric."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Integer, Num, Shaped
from torch import Tensor

from matpac.probe.metrics import Score, accuracy, mean_average_precision
from matpac.tasks.task import LabelKind


class Targets:
    """What a probe of some labels is to say of every clip; the checks are ``splits.check_probe_input``'s."""

    def __init__(
        self,
        labels: Shaped[np.ndarray, "clip *class"],
        known: Bool[np.ndarray, "clip class"] | None,
        kind: LabelKind,
        device: str | torch.device = "cpu",
    ) -> None:
        self.labels, self.known, self.device = labels, known, torch.device(device)
        self.kind: LabelKind = kind
        self.classes = int(labels.max()) + 1 if kind == "single" else labels.shape[1]
        """Classes that a probe has an output for."""
        self._targets = torch.from_numpy(labels.astype(np.int64 if kind == "single" else np.uint8)).to(device)
        self._known = None if known is None else torch.tensor(known, device=device)

    def rows(self, part: Integer[np.ndarray, "part"]) -> Int[Tensor, "part"]:
        """A part's clips as an index on the device."""
        return torch.from_numpy(part.astype(np.int64)).to(self.device)

    def gradient(
        self, logits: Float[Tensor, "group batch head class"], index: Int[Tensor, "group batch"]
    ) -> Float[Tensor, "group batch head class"]:
        """Of each head's loss, a mean over the clips ``index``, with respect to its logits there."""
        if self.kind == "single":
            return cross_entropy_gradient(logits, self._targets[index])
        known = None if self._known is None else self._known[index]
        return binary_cross_entropy_gradient(logits, self._targets[index], known)

    def count(self, index: Int[Tensor, "batch"]) -> int:
        """What the loss of these clips is a mean over: clips, or known labels where they are partial."""
        return len(index) if self._known is None else max(1, int(self._known[index].sum()))

    def metric(self, logits: Num[np.ndarray, "part class"], part: Integer[np.ndarray, "part"]) -> Score:
        """Accuracy or mAP on the clips of a part."""
        return metric(self.kind, logits, self.labels[part], None if self.known is None else self.known[part])


def metric(
    kind: LabelKind,
    logits: Num[np.ndarray, "clip class"],
    labels: Shaped[np.ndarray, "clip *class"],
    known: Bool[np.ndarray, "clip class"] | None,
) -> Score:
    """Accuracy of single labels, mAP of several (docs/evaluation.md)."""
    return accuracy(logits, labels) if kind == "single" else mean_average_precision(logits, labels, known)


def cross_entropy_gradient(
    logits: Float[Tensor, "group clip rate class"], labels: Int[Tensor, "group clip"]
) -> Float[Tensor, "group clip rate class"]:
    """Gradient of each head's mean cross-entropy over clips, not divided by classes (docs/evaluation.md)."""
    true = torch.nn.functional.one_hot(labels, logits.shape[-1])
    return logits.softmax(dim=-1).sub_(true[:, :, None]).div_(logits.shape[1])


def binary_cross_entropy_gradient(
    logits: Float[Tensor, "group clip rate class"],
    targets: Shaped[Tensor, "group clip class"],
    known: Bool[Tensor, "group clip class"] | None,
) -> Float[Tensor, "group clip rate class"]:
    """Gradient of each head's binary cross-entropy, mean over the batch's known labels (none known: zero)."""
    gradient = logits.sigmoid().sub_(targets[:, :, None])
    if known is None:
        return gradient.div_(logits.shape[1] * logits.shape[3])
    count = known.sum(dim=(1, 2)).clamp_(min=1)
    return gradient.mul_(known[:, :, None]).div_(count[:, None, None, None])
