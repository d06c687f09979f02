"""Probes without training: votes of nearest neighbours, and nearest prototypes from a few examples per class.

Both compare directions (cosine) of the frozen features as they are, and use the training and test parts alone:
there is nothing to choose, so the validation part stays unused, as it does for a linear head's weights.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, Integer, Shaped
from torch import Tensor

from matpac.probe.inputs import Inputs
from matpac.probe.results import ProbeResult, score_predictions
from matpac.probe.targets import output_classes
from matpac.tasks import Fold, Task

Device = str | torch.device

TEST_AT_ONCE = 2048
"""Test clips compared with prototypes at once; default; 30 MB of 3840-d features."""


@dataclass(frozen=True)
class NeighboursConfig:
    """Defaults: docs/evaluation.md; weighted vote and temperature are Wu et al. 2018's (arXiv 1805.01978).

    Args:
        k: neighbours that vote; all of them where the training part has fewer.
        temperature: a neighbour of cosine similarity s votes with exp(s / temperature).
        queries_at_once: test clips compared at once; with the next, default; 64 MB of similarities.
        train_at_once: training clips compared at once; default; 126 MB of 3840-d features.
    """

    k: int = 10
    temperature: float = 0.07
    queries_at_once: int = 2048
    train_at_once: int = 8192

    def __post_init__(self) -> None:
        """Raise ValueError on a number out of range."""
        if self.k < 1 or self.temperature <= 0:
            raise ValueError(f"k must be 1 or more and temperature positive: {self.k}, {self.temperature}")


@dataclass(frozen=True)
class FewShotConfig:
    """How many examples per class, and how often they are drawn (10 draws: docs/evaluation.md).

    Args:
        shots: examples of each class.
        draws: independent draws of examples.
        seed: of the draws.
    """

    shots: tuple[int, ...] = (1, 5, 10)
    draws: int = 10
    seed: int = 42

    def __post_init__(self) -> None:
        """Raise ValueError on a number out of range."""
        if not self.shots or min(self.shots) < 1 or self.draws < 1:
            raise ValueError(f"shots and draws must be 1 or more: {self.shots}, {self.draws}")


def nearest_neighbours(
    features: Shaped[np.ndarray, "clip dim"],
    task: Task,
    config: NeighboursConfig | None = None,
    device: Device = "cpu",
) -> ProbeResult:
    """kNN by cosine similarity; a class scores its share of the neighbours' weighted votes, in [0, 1].

    With partial labels each class asks the k nearest of the training clips whose label of that class exists:
    OpenMIC's clips know about 2 classes of 20, so among any clip's 10 neighbours hardly one could answer. A class
    that no training clip knows scores 0. A zero vector is equally far (cosine 0) from everything. Errors are
    ``linear_probe``'s.
    """
    started = time.perf_counter()
    config = config or NeighboursConfig()
    Inputs(features[:, None, None]).require_fit(task)
    predictions = []
    for split in task.folds:
        blocks = np.array_split(split.test, -(-len(split.test) // config.queries_at_once))
        votes = [_votes(features, task, split.train, block, config, device) for block in blocks]
        predictions.append(np.concatenate(votes)[None])
    return score_predictions(predictions, task, time.perf_counter() - started)


def _votes(
    features: Shaped[np.ndarray, "clip dim"],
    task: Task,
    train: Integer[np.ndarray, "train"],
    queries: Integer[np.ndarray, "query"],
    config: NeighboursConfig,
    device: Device,
) -> Float[np.ndarray, "query class"]:
    """Each class's share of the votes. With partial labels every class has neighbours of its own."""
    classes = output_classes(task)
    clips = torch.nn.functional.normalize(_rows(features, queries, device), dim=1)
    nearest = [_Nearest(len(queries), device) for _ in range(1 if task.known is None else classes)]
    for start in range(0, len(train), config.train_at_once):
        part = train[start : start + config.train_at_once]
        similarity = clips @ torch.nn.functional.normalize(_rows(features, part, device), dim=1).T
        rows = torch.from_numpy(part.astype(np.int64)).to(device)
        for number, found in enumerate(nearest):
            if task.known is None:
                found.add(similarity, rows, config.k)
            else:
                answers = torch.tensor(task.known[part, number], device=device)
                found.add(similarity[:, answers], rows[answers], config.k)
    if task.kind == "single":
        targets = torch.nn.functional.one_hot(torch.from_numpy(task.labels.astype(np.int64)), classes)
    else:
        targets = torch.from_numpy(task.labels.astype(np.uint8))
    targets = targets.to(device)
    if task.known is None:
        weights = nearest[0].weights(config.temperature)
        return torch.einsum("qk,qkc->qc", weights, targets[nearest[0].rows].double()).cpu().numpy()
    columns = [
        (found.weights(config.temperature) * targets[found.rows, number]).sum(dim=1)
        for number, found in enumerate(nearest)
    ]
    return torch.stack(columns, dim=1).cpu().numpy()


class _Nearest:
    """The k most similar training clips of each query, of those seen so far."""

    def __init__(self, queries: int, device: str | torch.device) -> None:
        self.similarity = torch.empty(queries, 0, device=device)
        self.rows = torch.empty(queries, 0, dtype=torch.int64, device=device)

    def add(self, similarity: Float[Tensor, "query some"], rows: Int[Tensor, "some"], k: int) -> None:
        found, place = similarity.topk(min(k, similarity.shape[1]), dim=1)
        both = torch.cat([self.similarity, found], dim=1)
        self.similarity, order = both.topk(min(k, both.shape[1]), dim=1)
        self.rows = torch.cat([self.rows, rows[place]], dim=1).gather(1, order)

    def weights(self, temperature: float) -> Float[Tensor, "query found"]:
        """Votes that sum to 1 for each query: exp(similarity / temperature), divided by their sum."""
        return (self.similarity.double() / temperature).softmax(dim=1)


def draw_examples(
    candidates: Mapping[int, Integer[np.ndarray, "_"]], shots: int, draws: int, seed: int
) -> Int[np.ndarray, "draw class shot"]:
    """``shots`` different rows out of each class's ``candidates``, ``draws`` times; classes in the order given.

    The same for equal arguments, and for a class whatever the others are.
    Draws of a class share no row as long as the class has enough of them (their scores are then as independent
    as an interval over draws supposes); after that its rows are shuffled again. Raises ValueError on a class
    with fewer rows than ``shots``.
    """
    drawn = np.empty((draws, len(candidates), shots), np.int64)
    for place, (number, rows) in enumerate(candidates.items()):
        if len(rows) < shots:
            raise ValueError(
                f"class {number} has {len(rows)} training clips: too few for {shots} shots; ask for less"
            )
        a_shuffle = len(rows) // shots
        for draw in range(draws):
            shuffle, part = divmod(draw, a_shuffle)
            order = np.random.default_rng([seed, number, shuffle]).permutation(rows)
            drawn[draw, place] = order[part * shots : (part + 1) * shots]
    return drawn


def few_shot(
    features: Shaped[np.ndarray, "clip dim"],
    task: Task,
    config: FewShotConfig | None = None,
    device: Device = "cpu",
) -> dict[int, ProbeResult]:
    """Nearest prototypes from ``shots`` drawn training clips per class, by number of shots; scores [draw, fold].

    A class's prototype is the mean of its examples' directions, seen from the mean of all examples drawn; a
    clip scores its cosine similarity (prototypes: Snell et al. 2017, arXiv 1703.05175; centring and cosine:
    Wang et al. 2019, arXiv 1911.04623). Not a logistic head: its regularisation or stopping would have to be
    chosen on validation clips that somebody with a handful of examples doesn't have, and decides the result.
    With several labels per clip an example is a known positive, and may be the example of several classes.
    Classes in ``Fold.untrained`` score -1 everywhere. Errors are ``linear_probe``'s and ``draw_examples``'s.
    """
    config = config or FewShotConfig()
    Inputs(features[:, None, None]).require_fit(task)
    results: dict[int, ProbeResult] = {}
    for shots in config.shots:
        started, predictions = time.perf_counter(), []
        for fold, split in enumerate(task.folds):
            members = _members(task, split)
            try:
                drawn = draw_examples(members, shots, config.draws, config.seed + fold)
            except ValueError as error:
                raise ValueError(f"split {fold}: {error}") from error
            scores = np.full((config.draws, len(split.test), output_classes(task)), -1.0, np.float32)
            for draw, examples in enumerate(drawn):
                scores[draw][:, list(members)] = _likeness(features, examples, split.test, device)
            predictions.append(scores)
        seconds = time.perf_counter() - started
        results[shots] = score_predictions(predictions, task, seconds, seeds=(config.seed,))
    return results


def fewest_examples(task: Task) -> int:
    """Training clips of the class that has the fewest, over folds; classes without any do not count."""
    return min(len(rows) for split in task.folds for rows in _members(task, split).values())


def _members(task: Task, split: Fold) -> dict[int, Integer[np.ndarray, "_"]]:
    """The training clips of each class that has any; (known) positives where clips have several labels."""
    columns = task.positives(split.train).T
    return {number: split.train[here] for number, here in enumerate(columns) if here.any()}


def _likeness(
    features: Shaped[np.ndarray, "clip dim"],
    examples: Int[np.ndarray, "class shot"],
    test: Integer[np.ndarray, "test"],
    device: Device,
) -> Float[np.ndarray, "test class"]:
    """Cosine similarity of test clips to the prototypes of one draw."""
    centre = _rows(features, np.unique(examples), device).mean(dim=0)
    directions = torch.nn.functional.normalize(_rows(features, examples.ravel(), device) - centre, dim=1)
    prototypes = torch.nn.functional.normalize(directions.view(*examples.shape, -1).mean(dim=1), dim=1)
    blocks = []
    for start in range(0, len(test), TEST_AT_ONCE):
        clips = _rows(features, test[start : start + TEST_AT_ONCE], device) - centre
        blocks.append((torch.nn.functional.normalize(clips, dim=1) @ prototypes.T).cpu().numpy())
    return np.concatenate(blocks)


def _rows(
    features: Float[np.ndarray, "clip dim"], rows: Integer[np.ndarray, "part"], device: str | torch.device
) -> Float[Tensor, "part dim"]:
    """Some clips' features as float32; the whole matrix may be a memory map larger than memory."""
    return torch.from_numpy(np.array(features[rows], np.float32)).to(device)
