"""Probes without training: votes of nearest neighbours, and nearest prototypes from a few examples per class.

Both compare directions (cosine) of the frozen features as they are, and look at the training and test parts
alone: there is nothing to choose, so the validation part stays unused, as it does for a linear head's weights.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Integer, Shaped
from torch import Tensor

from matpac.probe.scores import ProbeScores, score_predictions
from matpac.probe.targets import Targets
from matpac.tasks.checks import check_probe_input
from matpac.tasks.task import Fold, LabelKind

QUERIES_AT_ONCE, TRAIN_AT_ONCE = 2048, 8192
"""Clips compared at once: 64 MB of similarities, and 126 MB of 3840-d training features."""


@dataclass(frozen=True)
class NeighboursConfig:
    """docs/evaluation.md; the weighted vote and its temperature are Wu et al. 2018's (arXiv 1805.01978)."""

    k: int = 10
    """Neighbours that vote; all of them where the training part has fewer."""
    temperature: float = 0.07
    """A neighbour of cosine similarity s votes with exp(s / temperature)."""

    def __post_init__(self) -> None:
        """Raise ValueError on a number that cannot be meant."""
        if self.k < 1 or self.temperature <= 0:
            raise ValueError(f"k must be 1 or more and temperature positive: {self.k}, {self.temperature}")


@dataclass(frozen=True)
class FewShotConfig:
    """How many examples per class, and how often they are drawn (10 draws: docs/evaluation.md)."""

    shots: tuple[int, ...] = (1, 5, 10)
    draws: int = 10
    seed: int = 42

    def __post_init__(self) -> None:
        """Raise ValueError on a number that cannot be meant."""
        if not self.shots or min(self.shots) < 1 or self.draws < 1:
            raise ValueError(f"shots and draws must be 1 or more: {self.shots}, {self.draws}")


def nearest_neighbours(
    features: Float[np.ndarray, "clip dim"],
    labels: Shaped[np.ndarray, "labelled *class"],
    splits: Sequence[Fold],
    config: NeighboursConfig | None = None,
    kind: LabelKind = "single",
    known: Bool[np.ndarray, "judged class"] | None = None,
    device: str | torch.device = "cpu",
) -> ProbeScores:
    """kNN by cosine similarity; a class scores its share of the neighbours' weighted votes, in [0, 1].

    Arguments and errors are ``linear_probe``'s. With partial labels (``known``) each class asks the k nearest
    of the training clips whose label of that class exists: OpenMIC's clips know about 2 classes of 20, so
    among any clip's 10 neighbours hardly one could answer. A class that no training clip knows scores 0.
    A zero vector is equally far (cosine 0) from everything.
    """
    started = time.perf_counter()
    config = config or NeighboursConfig()
    check_probe_input(features, labels, splits, kind, known)
    targets = Targets(labels, known, kind)
    predictions = []
    for split in splits:
        blocks = np.array_split(split.test, -(-len(split.test) // QUERIES_AT_ONCE))
        votes = [
            _votes(features, labels, known, targets.classes, split.train, block, config, device)
            for block in blocks
        ]
        predictions.append(np.concatenate(votes)[None])
    return score_predictions(predictions, targets, splits, time.perf_counter() - started)


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
    features: Float[np.ndarray, "clip dim"],
    labels: Shaped[np.ndarray, "labelled *class"],
    splits: Sequence[Fold],
    config: FewShotConfig | None = None,
    kind: LabelKind = "single",
    known: Bool[np.ndarray, "judged class"] | None = None,
    device: str | torch.device = "cpu",
) -> dict[int, ProbeScores]:
    """Nearest prototypes from ``shots`` drawn training clips per class, by number of shots; scores [draw, fold].

    A class's prototype is the mean of its examples' directions, seen from the mean of all examples drawn; a
    clip scores its cosine similarity (prototypes: Snell et al. 2017, arXiv 1703.05175; centring and cosine:
    Wang et al. 2019, arXiv 1911.04623). Not a logistic head: its regularisation or stopping would have to be
    chosen on validation clips that somebody with a handful of examples doesn't have, and decides the result.
    For ``multi`` an example is a known positive, and a clip may be the example of several classes. Classes in
    ``Fold.untrained`` score -1 everywhere. Arguments and errors are ``linear_probe``'s and ``draw_examples``'s.
    """
    config = config or FewShotConfig()
    check_probe_input(features, labels, splits, kind, known)
    targets = Targets(labels, known, kind)
    results: dict[int, ProbeScores] = {}
    for shots in config.shots:
        started = time.perf_counter()
        predictions = [
            _few_shot_scores(features, labels, known, split, targets.classes, shots, config, fold, device)
            for fold, split in enumerate(splits)
        ]
        results[shots] = score_predictions(predictions, targets, splits, time.perf_counter() - started)
    return results


def _few_shot_scores(
    features: Float[np.ndarray, "clip dim"],
    labels: Shaped[np.ndarray, "clip *class"],
    known: Bool[np.ndarray, "clip class"] | None,
    split: Fold,
    classes: int,
    shots: int,
    config: FewShotConfig,
    fold: int,
    device: str | torch.device,
) -> Float[np.ndarray, "draw test class"]:
    if labels.ndim == 1:
        members = [split.train[labels[split.train] == number] for number in range(classes)]
    else:
        positive = labels[split.train] == 1 if known is None else (labels[split.train] == 1) & known[split.train]
        members = [split.train[positive[:, number]] for number in range(classes)]
    # a class that no training clip has passed the check of the input, so it is known to be untrained
    trained = [number for number in range(classes) if len(members[number])]
    try:
        drawn = draw_examples(
            {number: members[number] for number in trained}, shots, config.draws, config.seed + fold
        )
    except ValueError as error:
        raise ValueError(f"split {fold}: {error}") from error
    scores = np.full((config.draws, len(split.test), classes), -1.0, np.float32)
    for draw, examples in enumerate(drawn):
        centre = _rows(features, np.unique(examples), device).mean(dim=0)
        directions = torch.nn.functional.normalize(_rows(features, examples.ravel(), device) - centre, dim=1)
        prototypes = torch.nn.functional.normalize(directions.view(len(trained), shots, -1).mean(dim=1), dim=1)
        for start in range(0, len(split.test), QUERIES_AT_ONCE):
            block = slice(start, start + QUERIES_AT_ONCE)
            clips = torch.nn.functional.normalize(_rows(features, split.test[block], device) - centre, dim=1)
            scores[draw, block][:, trained] = (clips @ prototypes.T).cpu().numpy()
    return scores


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


def _votes(
    features: Float[np.ndarray, "clip dim"],
    labels: Shaped[np.ndarray, "clip *class"],
    known: Bool[np.ndarray, "clip class"] | None,
    classes: int,
    train: Integer[np.ndarray, "train"],
    queries: Integer[np.ndarray, "query"],
    config: NeighboursConfig,
    device: str | torch.device,
) -> Float[np.ndarray, "query class"]:
    """Each class's share of the votes. With partial labels every class has neighbours of its own."""
    clips = torch.nn.functional.normalize(_rows(features, queries, device), dim=1)
    nearest = [_Nearest(len(queries), device) for _ in range(1 if known is None else classes)]
    for start in range(0, len(train), TRAIN_AT_ONCE):
        part = train[start : start + TRAIN_AT_ONCE]
        similarity = clips @ torch.nn.functional.normalize(_rows(features, part, device), dim=1).T
        rows = torch.from_numpy(part.astype(np.int64)).to(device)
        for number, found in enumerate(nearest):
            if known is None:
                found.add(similarity, rows, config.k)
            else:
                answers = torch.tensor(known[part, number], device=device)
                found.add(similarity[:, answers], rows[answers], config.k)
    if labels.ndim == 1:
        targets = torch.nn.functional.one_hot(torch.from_numpy(labels.astype(np.int64)), classes)
    else:
        targets = torch.from_numpy(labels.astype(np.uint8))
    targets = targets.to(device)
    if known is None:
        weights = nearest[0].weights(config.temperature)
        return torch.einsum("qk,qkc->qc", weights, targets[nearest[0].rows].double()).cpu().numpy()
    columns = [
        (found.weights(config.temperature) * targets[found.rows, number]).sum(dim=1)
        for number, found in enumerate(nearest)
    ]
    return torch.stack(columns, dim=1).cpu().numpy()


def _rows(
    features: Float[np.ndarray, "clip dim"], rows: Integer[np.ndarray, "part"], device: str | torch.device
) -> Float[Tensor, "part dim"]:
    """Some clips' features as float32; the whole matrix may be a memory map larger than memory."""
    return torch.from_numpy(np.array(features[rows], np.float32)).to(device)
