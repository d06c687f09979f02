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
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from matpac.model.linear import grouped_linear
from matpac.probe.heads import AdamConfig, BestHeads, LinearHeads, StandardisedRows, draw_start, fit_scaler
from matpac.probe.scores import Chosen, ProbeResult, score_chosen
from matpac.probe.targets import Targets
from matpac.tasks.checks import check_probe_input
from matpac.tasks.task import Fold, LabelKind

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


def linear_probe(
    features: Float[np.ndarray, "clip dim"],
    labels: Shaped[np.ndarray, "labelled *class"],
    splits: Sequence[Fold],
    config: ProbeConfig | None = None,
    kind: LabelKind = "single",
    known: Bool[np.ndarray, "judged class"] | None = None,
    device: str | torch.device = "cpu",
) -> ProbeResult:
    """Probe frozen ``features`` (float32, or float16 widened a batch at a time) on every split and seed.

    ``labels`` are class indices [clip] for ``single`` (cross-entropy, accuracy) and 0/1 [clip, class] for
    ``multi`` (binary cross-entropy, mAP), where ``known`` says which labels exist. The features are kept
    once, whatever the number of splits. Among equal validation scores the earliest epoch wins, then the smallest
    learning rate. Raises ValueError on features that are not finite, on shapes or
    splits that do not fit together, on a class that no training clip has and on a validation or test part
    without any known positive.
    """
    started = time.perf_counter()
    config = config or ProbeConfig()
    check_probe_input(features, labels, splits, kind, known)
    targets = Targets(labels, known, kind, device)
    with warnings.catch_warnings():
        # read-only memory maps are welcome: nothing here writes to the features
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        rows = torch.from_numpy(features).to(device)
    scalers = [fit_scaler(rows, targets.rows(split.train)) for split in splits]
    groups = [
        _Group(fold, seed, split, *scaler)
        for fold, (split, scaler) in enumerate(zip(splits, scalers, strict=True))
        for seed in config.seeds
    ]
    chosen: dict[tuple[int, int], Chosen] = {}
    for stack in _stacks(groups, targets.classes, config):
        chosen.update(_train_and_choose(rows, targets, stack, config))
    grid = [[chosen[fold, seed] for fold in range(len(splits))] for seed in config.seeds]
    return score_chosen(grid, targets, splits, time.perf_counter() - started)


@dataclass(frozen=True)
class _Group:
    """The heads of one (fold, seed): they see the same batches and differ in learning rate alone."""

    fold: int
    seed: int
    split: Fold
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


def _train_and_choose(
    features: Shaped[Tensor, "clip dim"], targets: Targets, groups: Sequence[_Group], config: ProbeConfig
) -> dict[tuple[int, int], Chosen]:
    """By (fold, seed), after training all heads of these groups together."""
    mean, scale = (torch.stack(parts) for parts in zip(*((g.mean, g.scale) for g in groups), strict=True))
    rows = StandardisedRows(features, mean, scale)
    best = _train(targets, groups, rows, config)
    by_rate = np.argsort(config.learning_rates)
    chosen: dict[tuple[int, int], Chosen] = {}
    for place, group in enumerate(groups):
        rate = int(by_rate[best.value[place, by_rate].argmax()])
        weight, bias = best.weight[place, [rate]], best.bias[place, [rate]]
        logits = _logits(rows, weight, bias, place, targets.rows(group.split.test))[0]
        chosen[group.fold, group.seed] = Chosen(
            config.learning_rates[rate],
            best.value[place],
            int(best.best_epoch[place, rate]),
            int(best.epochs[place, rate]),
            logits,
        )
    return chosen


def _train(targets: Targets, groups: Sequence[_Group], rows: StandardisedRows, config: ProbeConfig) -> BestHeads:
    """All heads of these groups, each with its own early stopping."""
    # one generator a group draws the start, then an order of the training clips for every epoch
    generators = [torch.Generator().manual_seed(group.seed) for group in groups]
    starts = [draw_start(targets.classes, rows.features.shape[1], generator) for generator in generators]
    weight, bias = (torch.stack(parts).to(targets.device) for parts in zip(*starts, strict=True))
    heads = LinearHeads(weight, bias, config.learning_rates, config.adam)
    best = BestHeads(heads, config.patience)
    train = [targets.rows(group.split.train) for group in groups]
    for epoch in range(1, config.max_epochs + 1):
        order = [train[g][torch.randperm(len(train[g]), generator=generators[g])] for g in heads.groups.tolist()]
        for index in torch.stack(order).split(config.batch_size, dim=1):
            inputs = rows(index, heads.groups)
            heads.step(inputs, targets.gradient(heads.logits(inputs), index))
        values = np.empty(heads.rates.shape)
        for place, group in enumerate(heads.groups.tolist()):
            valid = groups[group].split.valid
            logits = _logits(rows, heads.weight[place], heads.bias[place], group, targets.rows(valid))
            values[place] = [targets.metric(head, valid).value for head in logits]
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
        grouped_linear(rows(block[None], np.array([group])), weight.flatten(0, 1)[None], bias.flatten()[None])[0]
        for block in index.split(ROWS_AT_ONCE)
    ]
    return torch.cat(blocks).view(len(index), *bias.shape).transpose(0, 1).cpu().numpy()
