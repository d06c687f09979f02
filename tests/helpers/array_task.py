"""Tasks of labels alone, without sounds, for probes of made-up features."""

from collections.abc import Sequence

import numpy as np

from matpac.tasks import Fold, Task


def array_task(labels: np.ndarray, folds: Sequence[Fold], known: np.ndarray | None = None) -> Task:
    """One label per clip, or several where labels are [clip, class]."""
    several = labels.ndim == 2
    classes = [f"class {number}" for number in range(labels.shape[1] if several else int(labels.max()) + 1)]
    paths = [f"/{number}.wav" for number in range(len(labels))]
    return Task("made-up", "multi" if several else "single", classes, paths, labels, list(folds), known=known)


def parts(count: int, *ends: float) -> list[np.ndarray]:
    """Shuffled clips cut at these shares."""
    order = np.random.default_rng(1).permutation(count)
    return np.array_split(order, [round(end * count) for end in ends])


def one_fold(count: int) -> list[Fold]:
    """Half trains, a quarter validates, a quarter tests."""
    return [Fold(*parts(count, 0.5, 0.75))]


def two_folds(count: int) -> list[Fold]:
    """Two splits of different sizes."""
    a, b, c = parts(count, 0.5, 0.75)
    half = len(a) // 2
    return [Fold(a, b, c), Fold(np.concatenate([b, c]), a[:half], a[half:])]
