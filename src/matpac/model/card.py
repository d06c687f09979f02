"""What an encoder is, beside its weights."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Card:
    """What an encoder is, beside its weights.

    Args:
        name: what it was loaded as.
        labels: names of the head's classes, in order; empty where unknown or without a head.
        exclusive: whether one label holds at a time (softmax) or several may (sigmoid).
        step: of pre-training, where known.
        source: the format it was read from.
    """

    name: str = "encoder"
    labels: tuple[str, ...] = ()
    exclusive: bool = False
    step: int | None = None
    source: str = "matpac"
