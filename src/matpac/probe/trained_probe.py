"""One training loop for probes that are more than a linear layer on one vector, by linear probing's protocol.

The same as ``probe.py`` in everything the protocol names (scaler, Adam, grid of rates chosen on validation,
seeds, early stopping, best weights) and in the order random numbers are drawn, so that a head that reduces to
a linear layer scores as ``linear_probe`` does. The heads of one (split, seed) differ in learning rate alone:
they see the same batches, which are read and multiplied once for all of them. Gradients are autograd's.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Integer, Shaped
from torch import Tensor

from matpac.probe.linear_probe import ProbeConfig
from matpac.probe.scores import Chosen, ProbeResult, score_chosen
from matpac.probe.targets import Targets
from matpac.probe.token_batches import TokenBatch, TokenReader, TokenSource
from matpac.tasks.checks import check_probe_input
from matpac.tasks.task import Fold, LabelKind


class Head(ABC):
    """What a probe computes, as functions of its parameters; those of several rates are stacked in front."""

    @abstractmethod
    def start(self, generator: torch.Generator) -> dict[str, Float[Tensor, "..."]]:
        """Parameters of one head before training."""

    @abstractmethod
    def logits(
        self, parameters: dict[str, Float[Tensor, "rate ..."]], batch: TokenBatch
    ) -> Float[Tensor, "rate clip class"]:
        """What the head of each rate says of these clips."""

    @abstractmethod
    def learned(self, parameters: dict[str, Float[Tensor, "..."]]) -> dict[str, Float[Tensor, "..."]]:
        """What is worth reporting of one trained head, small enough to keep for every seed and fold."""


@dataclass(frozen=True, eq=False)
class TrainedProbe:
    """Scores as the linear probe has them, and what the chosen heads learned."""

    result: ProbeResult
    learned: dict[str, Float[np.ndarray, "seed fold ..."]]


def train_probe(
    make_head: Callable[[int], Head],
    tokens: TokenSource,
    labels: Shaped[np.ndarray, "labelled *class"],
    splits: Sequence[Fold],
    config: ProbeConfig | None = None,
    kind: LabelKind = "single",
    known: Bool[np.ndarray, "judged class"] | None = None,
    device: str | torch.device = "cpu",
) -> TrainedProbe:
    """Train a head on every split and seed at every rate; ``make_head`` is given the number of classes.

    Other arguments and errors as for ``linear_probe``; ``ProbeConfig.stack_bytes`` has no part in this.
    """
    started = time.perf_counter()
    config = config or ProbeConfig()
    # labels and splits have to fit the clips whatever the features are
    check_probe_input(np.zeros((tokens.clips, 1), np.float32), labels, splits, kind, known)
    tokens.check()
    targets = Targets(labels, known, kind, device)
    head, reader = make_head(targets.classes), TokenReader(tokens, targets.device)
    grid: list[list[tuple[Chosen, dict[str, np.ndarray]]]] = [[] for _ in config.seeds]
    for split in splits:
        reader.fit(_index(split.train))
        for row, seed in zip(grid, config.seeds, strict=True):
            row.append(_train_and_choose(head, reader, targets, split, seed, config))
    chosen = [[one for one, _ in row] for row in grid]
    return TrainedProbe(
        score_chosen(chosen, targets, splits, time.perf_counter() - started),
        {name: np.array([[learned[name] for _, learned in row] for row in grid]) for name in grid[0][0][1]},
    )


class _Trained:
    """One head at one learning rate, with its early stopping (as ``heads.BestHeads``)."""

    def __init__(self, start: dict[str, Float[Tensor, "..."]], rate: float, config: ProbeConfig) -> None:
        self.parameters = {name: value.clone().requires_grad_() for name, value in start.items()}
        adam = config.adam
        self.optimizer = torch.optim.Adam(
            list(self.parameters.values()), rate, adam.betas, adam.epsilon, adam.l2, fused=True
        )
        self.rate, self.patience = rate, config.patience
        self.value, self.best_epoch, self.epochs, self.running = -np.inf, 0, 0, True
        self.best: dict[str, Tensor] = {}

    def update(self, epoch: int, value: float) -> None:
        """Take in the validation metric after ``epoch`` (from 1); of equal values the earliest is the best."""
        self.epochs = epoch
        if value > self.value:
            self.value, self.best_epoch = value, epoch
            self.best = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}
        elif epoch - self.best_epoch >= self.patience:
            self.running = False


def _train_and_choose(
    head: Head, reader: TokenReader, targets: Targets, split: Fold, seed: int, config: ProbeConfig
) -> tuple[Chosen, dict[str, Float[np.ndarray, "..."]]]:
    """Train the heads of all rates; the best on validation (of equals the smallest rate) and what it learned."""
    trained = _train(head, reader, targets, split, seed, config)
    best = max(sorted(trained, key=lambda one: one.rate), key=lambda one: one.value)
    chosen = Chosen(
        learning_rate=best.rate,
        valid_scores=np.array([one.value for one in trained]),
        best_epoch=best.best_epoch,
        epochs=best.epochs,
        logits=_predict(head, reader, [best.best], _index(split.test))[0],
    )
    return chosen, {name: value.cpu().numpy() for name, value in head.learned(best.best).items()}


def _train(
    head: Head, reader: TokenReader, targets: Targets, split: Fold, seed: int, config: ProbeConfig
) -> list[_Trained]:
    """The heads of all rates of the grid, each as training it alone leaves it but for rounding."""
    # one generator draws the start, then an order of the training clips for every epoch, as for linear heads
    generator = torch.Generator().manual_seed(seed)
    start = {name: value.to(reader.device) for name, value in head.start(generator).items()}
    trained = [_Trained(start, rate, config) for rate in config.learning_rates]
    train, valid = _index(split.train), _index(split.valid)
    for epoch in range(1, config.max_epochs + 1):
        running = [one for one in trained if one.running]
        if not running:
            break
        for batch in train[torch.randperm(len(train), generator=generator)].split(config.batch_size):
            _step(head, reader, targets, running, batch)
        predictions = _predict(head, reader, [one.parameters for one in running], valid)
        for one, logits in zip(running, predictions, strict=True):
            one.update(epoch, targets.metric(logits, split.valid).value)
    return trained


def _step(
    head: Head, reader: TokenReader, targets: Targets, running: Sequence[_Trained], batch: Int[Tensor, "batch"]
) -> None:
    """One Adam step of every running head; the batch's gradient is summed over blocks that fit memory."""
    for one in running:
        one.optimizer.zero_grad()
    for block in batch.split(reader.clips_at_once):
        logits = head.logits(_stack([one.parameters for one in running]), reader(block))
        index = block.to(reader.device)
        gradient = targets.gradient(logits.detach().transpose(0, 1)[None], index[None])[0].transpose(0, 1)
        # heads share no parameter, so one pass backward gives each its own gradient
        logits.backward(gradient * (targets.count(index) / targets.count(batch.to(reader.device))))
    for one in running:
        one.optimizer.step()


@torch.no_grad()
def _predict(
    head: Head, reader: TokenReader, parameters: Sequence[dict[str, Tensor]], rows: Int[Tensor, "part"]
) -> Float[np.ndarray, "rate part class"]:
    """What heads say of some clips, a block of clips at a time."""
    stacked = _stack(parameters)
    blocks = [head.logits(stacked, reader(block)) for block in rows.split(reader.clips_at_once)]
    return torch.cat(blocks, dim=1).cpu().numpy()


def _stack(parameters: Sequence[dict[str, Tensor]]) -> dict[str, Float[Tensor, "rate ..."]]:
    return {name: torch.stack([one[name] for one in parameters]) for name in parameters[0]}


def _index(part: Integer[np.ndarray, "part"]) -> Int[Tensor, "part"]:
    return torch.from_numpy(part.astype(np.int64))
