"""Heads that score classes, and tags: the most probable classes with their names."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from matpac.errors import MatpacError

TOP = 5
"""Tags per clip; default: fits a line."""

NO_HEAD = (
    "to name sounds with; load a tagger (matpac++-audioset-tagger), take a published probe "
    '(matpac.load("matpac++", head="esc50")), or fine-tune one (matpac finetune)'
)
"""How to get a head, for the error of an encoder without one."""


class Tagger(nn.Module):
    """The published AudioSet head: mean over bands and time, BatchNorm without affine, linear."""

    def __init__(self, width: int, classes: int):
        super().__init__()
        self.norm = nn.BatchNorm1d(width, affine=False)
        self.linear = nn.Linear(width, classes)

    def forward(self, mean: Float[Tensor, "batch width"]) -> Float[Tensor, "batch class"]:
        return self.linear(self.norm(mean))

    def of_scenes(self, scenes: Float[Tensor, "batch scene"]) -> Float[Tensor, "batch class"]:
        """Logits of scenes or frames, whose bands lie side by side: of the bands' mean."""
        return self(scenes.unflatten(1, (-1, self.linear.in_features)).mean(1))


class SceneProbe(nn.Module):
    """A linear layer on the whole scene, bands side by side: the shape of the published probes."""

    def __init__(self, scene: int, classes: int):
        super().__init__()
        self.linear = nn.Linear(scene, classes)

    def of_scenes(self, scenes: Float[Tensor, "batch scene"]) -> Float[Tensor, "batch class"]:
        """Logits of scenes or frames."""
        return self.linear(scenes)


Head = Tagger | SceneProbe


@dataclass(frozen=True)
class Tag:
    """A name for a sound, and its probability."""

    label: str
    probability: float


def class_names(labels: Sequence[str], classes: int) -> list[str]:
    """The labels; where a head has none, "class 0", "class 1", … by the number of the logit."""
    return list(labels) or [f"class {number}" for number in range(classes)]


def most_probable(
    probabilities: Float[Tensor, " class"],
    names: Sequence[str],
    top: int | None = TOP,
    threshold: float | None = None,
) -> list[Tag]:
    """The most probable classes, best first (of equal ones the first).

    Args:
        probabilities: of every class.
        names: of every class.
        top: number of tags at most; None for all.
        threshold: only classes of at least this probability; None for any.

    Raises:
        MatpacError: `top` or `threshold` is out of range.
    """
    check_threshold(threshold)
    if top is not None and top < 1:
        raise MatpacError(f"top {top}: at least 1 tag can be asked for, or None for all")
    values, order = torch.sort(probabilities, descending=True, stable=True)
    ranked: list[tuple[int, float]] = list(zip(order[:top].tolist(), values[:top].tolist(), strict=True))
    return [Tag(names[number], value) for number, value in ranked if threshold is None or value >= threshold]


def check_threshold(threshold: float | None) -> None:
    """Raise a MatpacError for one that is no probability."""
    if threshold is not None and not 0 <= threshold <= 1:
        raise MatpacError(f"threshold {threshold}: probabilities lie between 0 and 1")
