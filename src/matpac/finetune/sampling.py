"""Which clips an epoch has and in which order: shuffled, or drawn by the rarity of their labels.

Everything is a pure function of (weights, count, seed, epoch): a resumed run needs the epoch and the step alone,
and every process knows the whole order and takes its own part of it.
"""

import numpy as np
from jaxtyping import Bool, Float64, Int64, Integer

from matpac.data.files import DataError

PER_CLASS = 1000.0
RARE = 0.01
SHARPNESS = 1 / 1.5
"""Weight of a clip: (Σ over its labels of 1000 / (clips of the label + 0.01))^(1/1.5); M2D's AudioSet recipe, as
docs/finetuning.md gives it (the sum is AST's, arXiv 2104.01778)."""


def label_weights(
    labels: Bool[np.ndarray, "clip class"] | Integer[np.ndarray, "clip class"],
) -> Float64[np.ndarray, " clip"]:
    """How likely each clip is to be drawn, next to the others: those of rare labels more often.

    (Σ over its labels of 1000 / (n_label + 0.01))^(1/1.5), n_label counted over the clips given.

    Args:
        labels: of the training part alone, 0 or 1; where labels are partial, 1 for those known to hold.

    Raises:
        ValueError: no clips; clips without a label, which have no weight; the first is named by its number.
    """
    if not len(labels):
        raise ValueError("no clips to weigh")
    clips, classes = np.nonzero(labels)  # few of them hold: a product would turn the whole table into floats
    of_class = PER_CLASS / (np.bincount(classes, minlength=labels.shape[1]) + RARE)
    sums = np.bincount(clips, weights=of_class[classes], minlength=len(labels))
    without = np.flatnonzero(sums == 0)
    if without.size:
        raise ValueError(
            f"{without.size} clips have no label, so that they have no weight; the first: {without[0]}"
        )
    return sums**SHARPNESS


def epoch_order(
    clips: int,
    seed: int,
    epoch: int,
    count: int | None = None,
    weights: Float64[np.ndarray, " clip"] | None = None,
) -> Int64[np.ndarray, " count"]:
    """Numbers of the clips of one epoch, none twice, in the order in which they are trained on.

    Without weights, the first `count` of a permutation, as in pre-training. With weights, `count` clips drawn one
    after the other, each by its weight among those that are left: the clips with the smallest Exp(1)/weight are
    exactly that (Efraimidis and Spirakis 2006). They are then shuffled, since drawn first means heavy: unshuffled,
    an epoch would begin with the rare labels and end with the common ones (ours).

    Args:
        clips: how many there are.
        seed: not negative.
        epoch: not negative.
        count: clips of the epoch; None takes all.
        weights: of every clip, not negative; 0 is never drawn.

    Raises:
        DataError: more clips are wanted than can be drawn without replacement.
        ValueError: weights that are not as many as the clips, negative or not finite.
    """
    count = clips if count is None else count
    rng = np.random.default_rng([seed, epoch])
    if weights is None:
        _require(count, clips)
        return rng.permutation(clips)[:count]
    if weights.shape != (clips,) or not np.isfinite(weights).all() or (weights < 0).any():
        raise ValueError(f"{clips} clips need as many finite weights that are not negative")
    _require(count, int(np.count_nonzero(weights)))
    waits = rng.exponential(size=clips)
    with np.errstate(divide="ignore"):
        waits /= weights  # a weight of 0 waits for ever
    chosen = np.argpartition(waits, count - 1)[:count]
    return rng.permutation(np.sort(chosen))


def _require(count: int, there: int) -> None:
    if not 1 <= count <= there:
        raise DataError(
            f"an epoch of {count} clips cannot be drawn from {there} without replacement; "
            f"choose from 1 to {there} clips an epoch"
        )


def rank_share(
    order: Int64[np.ndarray, " count"], rank: int, world_size: int, batch: int
) -> Int64[np.ndarray, "step share"]:
    """One process's clips of each step of an epoch: row s is its part of the s-th whole batch.

    The rows of all ranks side by side are the batches of one process, whatever the number of processes. What is
    left of the order after the last whole batch is not used. To resume at a step, begin with its row.

    Args:
        order: of the epoch, the same on every rank.
        rank: number of this process.
        world_size: number of processes.
        batch: clips per step over all processes.

    Raises:
        DataError: a batch that cannot be split equally, or fewer clips than a batch.
        ValueError: a rank that does not exist.
    """
    if batch < 1 or batch % world_size:
        raise DataError(
            f"a batch of {batch} can't be split equally over {world_size} processes; "
            f"choose a multiple of {world_size}"
        )
    if len(order) < batch:
        raise DataError(
            f"too few clips for one batch: an epoch has {len(order)}, a batch has {batch}; "
            "lower the batch size or add clips"
        )
    if not 0 <= rank < world_size:
        raise ValueError(f"rank {rank} of {world_size} processes")
    whole = len(order) // batch * batch
    return order[:whole].reshape(-1, world_size, batch // world_size)[:, rank]
