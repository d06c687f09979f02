"""The trainer of all probes' heads, by linear probing's protocol (docs/evaluation.md).

Per split and seed: standardise with the training part's mean and standard deviation, train a head with Adam at
each learning rate of a grid that is the same for every encoder, stop early on the validation metric, restore the
best weights, choose the rate on validation, score that head on the test part.

Heads of one (split, seed) see the same batches whatever their learning rate: they form a *group* and share what is
read. Groups are stacked as far as memory allows, and each head ends where training it alone would take it.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor
from torch.optim.adam import adam

from matpac.probe.heads import Head, Parameters
from matpac.probe.inputs import Inputs, Scaler
from matpac.probe.results import ProbeResult, score_predictions
from matpac.probe.targets import Targets
from matpac.tasks import Fold, Task


@dataclass(frozen=True)
class AdamConfig:
    """Adam with L2 as part of the gradient, as torch's ``weight_decay`` (values: docs/evaluation.md).

    Args:
        betas: decay of the two moments.
        l2: weight of the penalty.
        epsilon: torch.optim.Adam's and scikit-learn's default; the protocol names none.
    """

    betas: tuple[float, float] = (0.9, 0.999)
    l2: float = 1e-8
    epsilon: float = 1e-8


@dataclass(frozen=True)
class ProbeConfig:
    """Numbers of the protocol; all from docs/evaluation.md except the grid.

    Args:
        learning_rates: half decades that hold both rates EVAR sets by hand (3e-5 for M2D, 3e-4 for others) and
            reach above for features of few dimensions, whose logits move less per step of the same rate.
        seeds: of the heads' start and the order of clips.
        batch_size: at most the training part.
        max_epochs: of each head.
        patience: epochs without a better validation metric after which a head stops.
        adam: the optimizer.
        stack_bytes: memory of the heads trained at the same time: weights, gradients, two moments, best weights, a
            batch. What fits the cache is best (measured on two CPU cores): small heads gain by company, large ones
            fill the cores alone, and a larger stack carries more heads that have stopped.
    """

    learning_rates: tuple[float, ...] = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
    seeds: tuple[int, ...] = (42, 43, 44)
    batch_size: int = 200
    max_epochs: int = 200
    patience: int = 20
    adam: AdamConfig = field(default_factory=AdamConfig)
    stack_bytes: int = 2**25

    def __post_init__(self) -> None:
        """Raise ValueError on a number out of range."""
        if not self.learning_rates or min(self.learning_rates) <= 0:
            raise ValueError(f"learning_rates must be positive, at least one: {self.learning_rates}")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds must be different, at least one: {self.seeds}")
        for name in ("batch_size", "max_epochs", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, not {getattr(self, name)}")


def train_heads(
    make_head: Callable[[int], Head], inputs: Inputs, task: Task, config: ProbeConfig | None = None
) -> ProbeResult:
    """Train and choose a head for every split and seed; among equal validation scores the earliest epoch wins.

    Of equal learning rates the smallest is chosen. The same seeds give the same numbers, up to rounding.

    Args:
        make_head: the kind of head, given its number of classes.
        inputs: features of the task's clips, in their order.
        task: labels and splits.
        config: numbers of the protocol.
    """
    started = time.perf_counter()
    config = config or ProbeConfig()
    inputs.require_fit(task)
    targets = Targets(task, inputs.device)
    head = make_head(targets.classes)
    groups = [
        _Group(fold, place, seed, split, scaler)
        for fold, split in enumerate(task.folds)
        for scaler in [inputs.fit(_index(split.train))]
        for place, seed in enumerate(config.seeds)
    ]
    shape = (len(config.seeds), len(task.folds))
    logits: list[list[np.ndarray]] = [[] for _ in task.folds]
    rates, values = np.empty(shape), np.empty((*shape, len(config.learning_rates)))
    best_epochs, epochs = np.empty(shape, int), np.empty(shape, int)
    learned: dict[str, np.ndarray] = {}
    for stack in _stacks(groups, head, inputs, config):
        best = _train(head, inputs, targets, stack, config)
        for place, group in enumerate(stack):
            cell, rate = (group.place, group.fold), best.chosen(place)
            one = {name: value[place, rate] for name, value in best.parameters.items()}
            rates[cell], values[cell] = config.learning_rates[rate], best.value[place]
            best_epochs[cell], epochs[cell] = best.best_epoch[place, rate], best.epochs[place, rate]
            alone = {name: value[None, None] for name, value in one.items()}
            logits[group.fold].append(_predict(head, inputs, alone, group, group.split.test)[0])
            for name, value in head.learned(one).items():
                learned.setdefault(name, np.empty((*shape, *value.shape), np.float32))[cell] = value.cpu().numpy()
    return score_predictions(
        [np.stack(fold) for fold in logits],
        task,
        time.perf_counter() - started,
        seeds=config.seeds,
        learning_rates=rates,
        valid_scores=values,
        best_epochs=best_epochs,
        epochs=epochs,
        learned=learned,
    )


@dataclass(frozen=True)
class _Group:
    """The heads of one (fold, seed): they see the same batches and differ in learning rate alone."""

    fold: int
    place: int
    seed: int
    split: Fold
    scaler: Scaler


def _stacks(groups: Sequence[_Group], head: Head, inputs: Inputs, config: ProbeConfig) -> Iterator[list[_Group]]:
    """Groups to train at the same time: of one training size, so of equal batches, and within memory."""
    numbers = sum(value.numel() for value in head.start(torch.Generator()).values())
    for size in sorted({len(group.split.train) for group in groups}):
        same = [group for group in groups if len(group.split.train) == size]
        batch = min(config.batch_size, size) * inputs.layers * inputs.longest * inputs.dim
        # weights, gradients, two moments, best weights, and the batch; float32
        most = max(1, config.stack_bytes // (4 * (5 * len(config.learning_rates) * numbers + batch)))
        for start in range(0, len(same), most):
            yield same[start : start + most]


def _train(
    head: Head, inputs: Inputs, targets: Targets, groups: Sequence[_Group], config: ProbeConfig
) -> "_BestHeads":
    """All heads of these groups, each with its own early stopping."""
    # one generator per group draws the start, then an order of the training clips for every epoch
    generators = [torch.Generator().manual_seed(group.seed) for group in groups]
    starts = [head.start(generator) for generator in generators]
    start = {name: torch.stack([one[name] for one in starts]).to(inputs.device) for name in starts[0]}
    scalers = [torch.stack([group.scaler[k] for group in groups]).to(inputs.device) for k in range(2)]
    heads = StackedHeads(start, config)
    best = _BestHeads(heads, config)
    train = [_index(group.split.train) for group in groups]
    for epoch in range(1, config.max_epochs + 1):
        present = heads.groups.tolist()
        scaler = Scaler(scalers[0][present], scalers[1][present])
        order = [train[g][torch.randperm(len(train[g]), generator=generators[g])] for g in present]
        for batch in torch.stack(order).split(config.batch_size, dim=1):
            count = targets.count(batch)
            for block in batch.split(max(1, inputs.clips_at_once // len(present)), dim=1):
                logits = head.logits(heads.parameters, inputs.batch(block, scaler))
                # heads share no parameter, so one pass backward gives each its own gradient
                logits.backward(targets.gradient(logits.detach(), block, count))
            heads.step()
        values = np.empty(heads.rates.shape)
        for place, group in enumerate(present):
            valid = groups[group].split.valid
            here = {name: value[[place]] for name, value in heads.parameters.items()}
            values[place] = [
                targets.score(found, valid) for found in _predict(head, inputs, here, groups[group], valid)
            ]
        best.update(heads, epoch, values)
        if not best.running.any():
            break
        heads.keep(best.running[heads.groups[:, None], heads.rates])
    return best


@torch.no_grad()
def _predict(
    head: Head, inputs: Inputs, parameters: Parameters, group: _Group, part: Integer[np.ndarray, "part"]
) -> Float[np.ndarray, "rate part class"]:
    """Logits of the heads of one group for some clips, a block of clips at a time."""
    scaler = Scaler(*(part[None].to(inputs.device) for part in group.scaler))
    blocks = [
        head.logits(parameters, inputs.batch(block[None], scaler))[0]
        for block in _index(part).split(inputs.clips_at_once)
    ]
    return torch.cat(blocks).transpose(0, 1).cpu().numpy()


def _index(part: Integer[np.ndarray, "part"]) -> Int[Tensor, "part"]:
    return torch.from_numpy(part.astype(np.int64))


class StackedHeads:
    """Groups × learning rates of heads with their Adam state, stacked.

    ``groups`` and ``rates`` say which head, by its place at the start, is in which place now that some have left.

    Args:
        start: parameters [group, …], the same for all rates.
        config: learning rates and optimizer.
    """

    def __init__(self, start: Parameters, config: ProbeConfig) -> None:
        self.config, self.steps = config, 0
        count = len(config.learning_rates)
        groups = len(next(iter(start.values())))
        self.groups, self.rates = np.arange(groups), np.tile(np.arange(count), (groups, 1))
        values = {name: value[:, None].repeat(1, count, *[1] * (value.ndim - 1)) for name, value in start.items()}
        zeros = [{name: torch.zeros_like(value) for name, value in values.items()} for _ in range(2)]
        self._arrange(values, *zeros)

    def step(self) -> None:
        """One Adam step of every head by the gradients of its parameters, which are cleared."""
        self.steps += 1
        for rate, places, (values, first, second, steps) in self._lists:
            adam(
                values,
                [value.grad[place] for value in self.parameters.values() for place in places],  # type: ignore
                first,
                second,
                [],
                steps,
                fused=True,  # one pass over memory
                amsgrad=False,
                beta1=self.config.adam.betas[0],
                beta2=self.config.adam.betas[1],
                lr=rate,
                weight_decay=self.config.adam.l2,
                eps=self.config.adam.epsilon,
                maximize=False,
            )
        for value in self.parameters.values():
            value.grad = None

    def keep(self, running: Bool[np.ndarray, "group rate"]) -> None:
        """Drop stopped heads where that makes the stack smaller.

        ``running`` is by the heads' present places. The stack stays rectangular: beside a group with more
        running heads another keeps some stopped ones as ballast; nobody reads them any more.
        """
        groups = np.flatnonzero(running.any(axis=1))
        width = int(running.sum(axis=1).max())
        if len(groups) == running.shape[0] and width == running.shape[1]:
            return
        places = np.argsort(~running[groups], axis=1, kind="stable")[:, :width]
        self.rates = np.take_along_axis(self.rates[groups], places, axis=1)
        self.groups = self.groups[groups]
        index = torch.from_numpy(groups)[:, None], torch.from_numpy(places)
        self._arrange(
            *(
                {name: value.detach()[index] for name, value in state.items()}
                for state in (self.parameters, *self._moments)
            )
        )

    def _arrange(self, values: Parameters, first: Parameters, second: Parameters) -> None:
        """Take these stacks over; for each rate, list the places of its heads and the tensors ``adam`` wants."""
        self._moments = first, second
        self._lists: list[tuple[float, list[tuple[int, int]], tuple[list[Tensor], ...]]] = []
        for index in np.unique(self.rates):
            places = [(group, place) for group, place in np.argwhere(self.rates == index).tolist()]
            lists = [[stack[place] for stack in s.values() for place in places] for s in (values, first, second)]
            steps = torch.full((len(lists[0]),), float(self.steps), device=lists[0][0].device)
            self._lists.append((self.config.learning_rates[index], places, (*lists, list(steps.unbind()))))
        # the optimizer's lists are views of the same memory
        self.parameters = {name: value.detach().requires_grad_() for name, value in values.items()}


class _BestHeads:
    """Early stopping, head by head: the best parameters so far, and which heads still run.

    All arrays are [group, rate] by the heads' places at the start, whichever have left the stack since.
    """

    def __init__(self, heads: StackedHeads, config: ProbeConfig) -> None:
        self.patience, self.by_rate = config.patience, np.argsort(config.learning_rates)
        self.parameters = {name: torch.empty_like(value) for name, value in heads.parameters.items()}
        self.value = np.full(heads.rates.shape, -np.inf)
        self.best_epoch, self.epochs = (np.zeros(heads.rates.shape, int) for _ in range(2))
        self.running = np.ones(heads.rates.shape, bool)

    @torch.no_grad()
    def update(self, heads: StackedHeads, epoch: int, values: Float[np.ndarray, "group rate"]) -> None:
        """Take in the validation metric after ``epoch`` (from 1); ``values`` are by the heads' present places."""
        for place in np.ndindex(heads.rates.shape):
            head = int(heads.groups[place[0]]), int(heads.rates[place])
            if not self.running[head]:
                continue
            self.epochs[head] = epoch
            if values[place] > self.value[head]:
                self.value[head], self.best_epoch[head] = values[place], epoch
                for name, best in self.parameters.items():
                    best[head] = heads.parameters[name][place]
            elif epoch - self.best_epoch[head] >= self.patience:
                self.running[head] = False

    def chosen(self, group: int) -> int:
        """The rate that was best on validation, of equal ones the smallest."""
        return int(self.by_rate[self.value[group, self.by_rate].argmax()])
