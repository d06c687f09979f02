"""Linear probing of frozen features (docs/evaluation.md, "ours" where it differs from EVAR's kit).

Per split and seed: standardise with the training part's mean and deviation, train one linear layer with Adam
for each learning rate of a grid that is the same for every encoder, stop early on the validation metric,
restore the best weights, choose the rate on validation, score that head on the test part. All heads of a task
are trained together (``heads.py``) and each gives what training it alone gives.
"""

import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Integer, Shaped
from torch import Tensor

from matpac.downstream.compare import confidence_interval
from matpac.downstream.heads import (
    AdamConfig,
    BestHeads,
    LinearHeads,
    StandardisedRows,
    binary_cross_entropy_gradient,
    cross_entropy_gradient,
    draw_start,
    fit_scaler,
    linear,
)
from matpac.downstream.metrics import Score, accuracy, mean_average_precision
from matpac.downstream.splits import Kind, Split, check_probe_input

ROWS_AT_ONCE = 2048
"""Clips scored at once on validation and test: 30 MB of 3840-d features, so that large parts fit memory."""


@dataclass(frozen=True)
class ProbeConfig:
    """Numbers of the probe; all from docs/evaluation.md except the grid."""

    learning_rates: tuple[float, ...] = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
    """Half decades that hold both rates EVAR sets by hand (3e-5 for M2D, 3e-4 for others) and reach above for
    features of few dimensions, whose logits move less per step of the same rate."""
    seeds: tuple[int, ...] = (42, 43, 44)
    batch_size: int = 200
    max_epochs: int = 200
    patience: int = 20
    """Epochs without a better validation metric after which a head stops."""
    adam: AdamConfig = field(default_factory=AdamConfig)
    stack_bytes: int = 2**25
    """Memory of the heads trained at the same time: weights, gradients, two moments, best weights, a batch.

    What fits the cache is best (measured on two CPU cores): small heads gain by company, large ones fill the cores
    alone, and a larger stack carries on more heads that have stopped (``LinearHeads.keep``)."""

    def __post_init__(self) -> None:
        """Raise ValueError on a number that cannot be meant."""
        if not self.learning_rates or min(self.learning_rates) <= 0:
            raise ValueError(f"learning_rates must be positive, one at least: {self.learning_rates}")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds must be different, one at least: {self.seeds}")
        for name in ("batch_size", "max_epochs", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, not {getattr(self, name)}")


@dataclass(frozen=True, eq=False)
class ProbeResult:
    """Test scores of the heads chosen on validation: accuracy (``single``) or mAP (``multi``), in [0, 1]."""

    scores: Float[np.ndarray, "seed fold"]
    per_class: Float[np.ndarray, "seed fold class"]
    """The metric's per-class values, nan where a fold's test part leaves the class out."""
    left_out: tuple[tuple[int, ...], ...]
    """Per fold, the classes its test part has no (known positive) clip of."""
    learning_rates: Float[np.ndarray, "seed fold"]
    """The rate chosen on validation (of equal ones the smallest)."""
    valid_scores: Float[np.ndarray, "seed fold rate"]
    """The best validation metric of every rate of the grid."""
    best_epochs: Int[np.ndarray, "seed fold"]
    """The epoch whose weights the chosen head has, counted from 1."""
    epochs: Int[np.ndarray, "seed fold"]
    """How many epochs the chosen head was trained."""
    predictions: tuple[Float[np.ndarray, "seed _ class"], ...]
    """Per fold, the chosen heads' logits on the test part, in the order of ``Split.test``."""
    seconds: float

    @property
    def mean(self) -> float:
        """Mean over seeds of the mean over folds."""
        return float(self.scores.mean())

    @property
    def ci95(self) -> float:
        """Half width of the 95 % interval, Student t over seeds, of the mean over folds; nan with one seed."""
        return confidence_interval(self.scores.mean(axis=1))[1]


def linear_probe(
    features: Float[np.ndarray, "clip dim"],
    labels: Shaped[np.ndarray, "labelled *class"],
    splits: Sequence[Split],
    config: ProbeConfig | None = None,
    kind: Kind = "single",
    known: Bool[np.ndarray, "judged class"] | None = None,
    device: str | torch.device = "cpu",
) -> ProbeResult:
    """Probe frozen ``features`` (float32, or float16 widened a batch at a time) on every split and seed.

    ``labels`` are class indices [clip] for ``single`` (cross-entropy, accuracy) and 0/1 [clip, class] for
    ``multi`` (binary cross-entropy, mAP), where ``known`` says which labels exist. The features are kept
    once, whatever the number of splits. Raises ValueError on features that are not finite, on shapes or
    splits that do not fit together, on a class that no training clip has and on a validation or test part
    without any known positive.
    """
    started = time.perf_counter()
    config = config or ProbeConfig()
    check_probe_input(features, labels, splits, kind, known)
    task = _Task(features, labels, known, kind, torch.device(device))
    scalers = [fit_scaler(task.features, task.rows(split.train)) for split in splits]
    groups = [
        _Group(fold, seed, split, *scaler)
        for fold, (split, scaler) in enumerate(zip(splits, scalers, strict=True))
        for seed in config.seeds
    ]
    chosen: dict[tuple[int, int], _Chosen] = {}
    for stack in _stacks(groups, task.classes, config):
        chosen.update(_train_and_choose(task, stack, config))
    return _result(chosen, len(splits), config, started)


class _Task:
    """Features, labels and what depends on their kind: the loss's gradient and the metric."""

    def __init__(
        self,
        features: Float[np.ndarray, "clip dim"],
        labels: Shaped[np.ndarray, "clip *class"],
        known: Bool[np.ndarray, "clip class"] | None,
        kind: Kind,
        device: torch.device,
    ) -> None:
        self.labels, self.known, self.kind, self.device = labels, known, kind, device
        self.classes = int(labels.max()) + 1 if kind == "single" else labels.shape[1]
        with warnings.catch_warnings():
            # read-only memory maps are welcome: nothing here writes to the features
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            self.features = torch.from_numpy(features).to(device)
        self._targets = torch.from_numpy(labels.astype(np.int64 if kind == "single" else np.uint8)).to(device)
        self._known = None if known is None else torch.tensor(known, device=device)

    def rows(self, part: Integer[np.ndarray, "part"]) -> Int[Tensor, "part"]:
        return torch.from_numpy(part.astype(np.int64)).to(self.device)

    def gradient(
        self, logits: Float[Tensor, "group batch rate class"], index: Int[Tensor, "group batch"]
    ) -> Float[Tensor, "group batch rate class"]:
        if self.kind == "single":
            return cross_entropy_gradient(logits, self._targets[index])
        known = None if self._known is None else self._known[index]
        return binary_cross_entropy_gradient(logits, self._targets[index], known)

    def metric(self, logits: Float[np.ndarray, "part class"], part: Integer[np.ndarray, "part"]) -> Score:
        if self.kind == "single":
            return accuracy(logits, self.labels[part])
        known = None if self.known is None else self.known[part]
        return mean_average_precision(logits, self.labels[part], known)


@dataclass(frozen=True)
class _Group:
    """The heads of one (fold, seed): they see the same batches and differ in learning rate alone."""

    fold: int
    seed: int
    split: Split
    mean: Float[Tensor, "dim"]
    scale: Float[Tensor, "dim"]


def _stacks(groups: Sequence[_Group], classes: int, config: ProbeConfig) -> Iterator[list[_Group]]:
    """Groups to train at the same time: of one training size, so of equal batches, and within memory."""
    for size in sorted({len(group.split.train) for group in groups}):
        same = [group for group in groups if len(group.split.train) == size]
        # weights, gradients, two moments, best weights, and the batch; float32
        values = 5 * len(config.learning_rates) * classes + min(config.batch_size, size)
        most = max(1, config.stack_bytes // (4 * values * len(groups[0].mean)))
        for start in range(0, len(same), most):
            yield same[start : start + most]


@dataclass(frozen=True, eq=False)
class _Chosen:
    """Of one (fold, seed): the head whose rate was best on validation."""

    learning_rate: float
    valid_scores: Float[np.ndarray, "rate"]
    best_epoch: int
    epochs: int
    logits: Float[np.ndarray, "test class"]
    score: Score


def _train_and_choose(
    task: _Task, groups: Sequence[_Group], config: ProbeConfig
) -> dict[tuple[int, int], _Chosen]:
    """By (fold, seed), after training all heads of these groups together."""
    mean, scale = (torch.stack(parts) for parts in zip(*((g.mean, g.scale) for g in groups), strict=True))
    rows = StandardisedRows(task.features, mean, scale)
    best = _train(task, groups, rows, config)
    by_rate = np.argsort(config.learning_rates)
    chosen: dict[tuple[int, int], _Chosen] = {}
    for place, group in enumerate(groups):
        rate = int(by_rate[best.value[place, by_rate].argmax()])
        test = group.split.test
        weight, bias = best.weight[place, [rate]], best.bias[place, [rate]]
        logits = _logits(rows, weight, bias, place, task.rows(test))[0]
        chosen[group.fold, group.seed] = _Chosen(
            config.learning_rates[rate],
            best.value[place],
            int(best.best_epoch[place, rate]),
            int(best.epochs[place, rate]),
            logits,
            task.metric(logits, test),
        )
    return chosen


def _train(task: _Task, groups: Sequence[_Group], rows: StandardisedRows, config: ProbeConfig) -> BestHeads:
    """All heads of these groups, each with its own early stopping."""
    # one generator a group draws the start, then an order of the training clips for every epoch
    generators = [torch.Generator().manual_seed(group.seed) for group in groups]
    starts = [draw_start(task.classes, task.features.shape[1], generator) for generator in generators]
    weight, bias = (torch.stack(parts).to(task.device) for parts in zip(*starts, strict=True))
    heads = LinearHeads(weight, bias, config.learning_rates, config.adam)
    best = BestHeads(heads, config.patience)
    train = [task.rows(group.split.train) for group in groups]
    for epoch in range(1, config.max_epochs + 1):
        order = [train[g][torch.randperm(len(train[g]), generator=generators[g])] for g in heads.groups.tolist()]
        for index in torch.stack(order).split(config.batch_size, dim=1):
            inputs = rows(index, heads.groups)
            heads.step(inputs, task.gradient(heads.logits(inputs), index))
        values = np.empty(heads.rates.shape)
        for place, group in enumerate(heads.groups.tolist()):
            valid = groups[group].split.valid
            logits = _logits(rows, heads.weight[place], heads.bias[place], group, task.rows(valid))
            values[place] = [task.metric(head, valid).value for head in logits]
        best.update(heads, epoch, values)
        if not best.running.any():
            break
        heads.keep(best.running[heads.groups[:, None], heads.rates])
    return best


def _logits(
    rows: StandardisedRows,
    weight: Float[Tensor, "rate class dim"],
    bias: Float[Tensor, "rate class"],
    group: int,
    index: Int[Tensor, "part"],
) -> Float[np.ndarray, "rate part class"]:
    """What heads of one group say of some clips, a block of clips at a time."""
    blocks = [
        linear(rows(block[None], np.array([group])), weight.flatten(0, 1)[None], bias.flatten()[None])[0]
        for block in index.split(ROWS_AT_ONCE)
    ]
    return torch.cat(blocks).view(len(index), *bias.shape).transpose(0, 1).cpu().numpy()


def _result(
    chosen: dict[tuple[int, int], _Chosen], folds: int, config: ProbeConfig, started: float
) -> ProbeResult:
    """The chosen heads as arrays [seed, fold]."""
    grid = [[chosen[fold, seed] for fold in range(folds)] for seed in config.seeds]
    return ProbeResult(
        scores=np.array([[head.score.value for head in row] for row in grid]),
        per_class=np.array([[head.score.per_class for head in row] for row in grid]),
        left_out=tuple(head.score.left_out for head in grid[0]),
        learning_rates=np.array([[head.learning_rate for head in row] for row in grid]),
        valid_scores=np.array([[head.valid_scores for head in row] for row in grid]),
        best_epochs=np.array([[head.best_epoch for head in row] for row in grid]),
        epochs=np.array([[head.epochs for head in row] for row in grid]),
        predictions=tuple(np.stack([row[fold].logits for row in grid]) for fold in range(folds)),
        seconds=time.perf_counter() - started,
    )
