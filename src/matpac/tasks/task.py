"""A labelled corpus: its clips, their labels and folds, and what of it can't be used."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Integer

from matpac.errors import MatpacError

LabelKind = Literal["single", "multi"]
Metric = Literal["accuracy", "mAP"]
METRICS: dict[LabelKind, Metric] = {"single": "accuracy", "multi": "mAP"}
"""By kind of labels (docs/evaluation.md)."""
SHOWN = 5
"""Names shown of a longer list."""
BLOCK = 2**16
"""Clips whose labels are counted at a time: AudioSet's are a gigabyte."""


class TaskError(MatpacError):
    """A corpus that can't be used; the message names the file or the label and the way out."""


@dataclass(frozen=True, eq=False)
class Fold:
    """Clips for training, validation and test: one fold of several, or a corpus's only split.

    Args:
        train: numbers of the clips to train on.
        valid: numbers of the clips to choose by.
        test: numbers of the clips to score.
        name: of the fold or split.
        untrained: classes without a training clip here because clips are missing; their test clips are kept.
    """

    train: Integer[np.ndarray, " train"]
    valid: Integer[np.ndarray, " valid"]
    test: Integer[np.ndarray, " test"]
    name: str = field(default="split", kw_only=True)
    untrained: tuple[int, ...] = field(default=(), kw_only=True)

    @property
    def parts(self) -> dict[str, Integer[np.ndarray, " part"]]:
        """The three parts by name."""
        return {"train": self.train, "valid": self.valid, "test": self.test}


@dataclass(frozen=True, eq=False)
class Task:
    """The clips of one task, from metadata alone: no sound file was opened.

    Class numbers are those of the metadata and stay when clips are dropped, so a class may be without clips.

    Args:
        name: of the task; for one's own sounds, of their folder or table.
        kind: one label per clip ("single"), or several ("multi").
        classes: names of the labels.
        paths: of the clips, absolute.
        labels: class numbers (single), or 0 and 1 (multi).
        folds: one, or several of which each tests other clips.
        unit_seconds: clips are cut or zero-padded at the end to this length; None: as long as they are.
        known: which labels exist, where they are partial.
        notes: sentences that a report of this task must show.
        missing: (path, reason) of the clips that the metadata names and that can't be used.
        corpus: name of a public corpus; empty for one's own sounds, whatever they are called.

    Raises:
        TaskError: arrays that don't fit together; a part of a fold that is empty, shares clips with another, or
            has no known positive (multi); a class on validation or test clips that no training clip has.
    """

    name: str
    kind: LabelKind
    classes: list[str]
    paths: list[str]
    labels: Integer[np.ndarray, " clip"] | Integer[np.ndarray, "clip class"]
    folds: list[Fold]
    unit_seconds: float | None = None
    known: Bool[np.ndarray, "clip class"] | None = None
    notes: list[str] = field(default_factory=list)
    missing: list[tuple[str, str]] = field(default_factory=list)
    corpus: str = ""

    def __post_init__(self) -> None:
        """Check that everything fits together."""
        shape = (len(self.paths),) if self.exclusive else (len(self.paths), len(self.classes))
        most = len(self.classes) - 1 if self.exclusive else 1
        if self.labels.shape != shape or (
            self.labels.size and not 0 <= self.labels.min() <= self.labels.max() <= most
        ):
            raise TaskError(f"{self.name}: labels must be {list(shape)} from 0 to {most}")
        if self.known is not None and (self.exclusive or self.known.shape != shape):
            raise TaskError(f"{self.name}: known must be as labels of kind 'multi', {list(shape)}")
        if not self.folds:
            raise TaskError(f"{self.name}: no fold is given")
        for fold in self.folds:
            self._check(fold)

    @property
    def exclusive(self) -> bool:
        """Whether each clip has exactly one label."""
        return self.kind == "single"

    @property
    def metric(self) -> Metric:
        """What probes of this task are scored by."""
        return METRICS[self.kind]

    @property
    def total(self) -> int:
        """Clips in the metadata."""
        return len(self.paths) + len(self.missing)

    def fold(self, name: str = "") -> Fold:
        """The fold of this name; the first for "". Raises TaskError."""
        for fold in self.folds:
            if name in ("", fold.name):
                return fold
        names = ", ".join(fold.name for fold in self.folds)
        raise TaskError(f"{self.name}: no fold {name!r}; there are {names}")

    def positives(self, clips: Integer[np.ndarray, " some"]) -> Bool[np.ndarray, "some class"]:
        """Which labels these clips are known to have."""
        labels = self.labels[clips]
        if self.exclusive:
            return labels[:, None] == np.arange(len(self.classes))
        return labels.astype(bool) if self.known is None else labels.astype(bool) & self.known[clips]

    def counts(self, clips: Integer[np.ndarray, " some"] | None = None) -> Integer[np.ndarray, " class"]:
        """How many of these clips, or of all, are known to have each label."""
        clips = np.arange(len(self.paths)) if clips is None else clips
        if self.exclusive:
            return np.bincount(self.labels[clips], minlength=len(self.classes))
        blocks = np.array_split(clips, len(clips) // BLOCK + 1)
        return np.sum([self.positives(block).sum(axis=0) for block in blocks], axis=0)

    def untrained(self, fold: Fold) -> Integer[np.ndarray, " untrained"]:
        """The classes that no training clip of a fold has, though validation or test clips have them."""
        train, valid, test = map(self.counts, fold.parts.values())
        return np.flatnonzero((train == 0) & (valid + test > 0))

    def describe(self, fold: Fold) -> str:
        """A fold, as messages name it."""
        return f"fold {fold.name}" if len(self.folds) > 1 else f"split {fold.name!r}"

    def _check(self, fold: Fold) -> None:
        here, why = f"{self.name}: {self.describe(fold)}", ""
        if self.missing:
            path, reason = self.missing[0]
            why = f" ({len(self.missing)} of {self.total} clips can't be used, first {path}: {reason})"
        for part, clips in fold.parts.items():
            if not clips.size:
                raise TaskError(f"{here}: its {part} part has no clip{why}; add clips to it")
            if not self.exclusive and not self.counts(clips).any():
                raise TaskError(f"{here}: no clip of its {part} part has a label{why}; add clips")
        every = np.concatenate(list(fold.parts.values()))
        if every.min() < 0 or every.max() >= len(self.paths) or np.unique(every).size < every.size:
            raise TaskError(f"{here}: its parts must be different clips from 0 to {len(self.paths) - 1}")
        wrong = np.setdiff1d(self.untrained(fold), fold.untrained)
        if wrong.size:
            raise TaskError(
                f"{here}: no training clip has the label {_names(self, wrong)}, but validation or test clips "
                "have; check the spelling, or give it training clips"
            )


def on_disk(task: Task) -> Task:
    """The task with absolute paths, and without the clips that are not there.

    Folds are made from all clips of the metadata, so that a missing clip moves no other from part to part.

    Raises:
        TaskError: a file is there twice, none is on disk, or what is on disk leaves a part empty.
    """
    paths = [os.path.abspath(path) for path in task.paths]  # noqa: PTH100 (hundreds of thousands)
    task = replace(task, paths=paths, notes=[*task.notes, *_unused(task, np.ones(len(task.classes), bool))])
    _require_once(task)
    names: dict[str, set[str]] = {}  # one listing per folder: a stat per file is slow on network disks
    absent = {}
    for number, (folder, name) in enumerate(map(os.path.split, paths)):
        if folder not in names:
            names[folder] = names_in(folder)
        if name not in names[folder]:
            absent[number] = "not on disk"
    if len(absent) == len(paths):
        raise TaskError(
            f"{task.name}: none of its {len(paths)} clips is on disk, the first would be {paths[0]}; check the "
            "folder, or download the sounds"
        )
    return without(task, absent)


def without(task: Task, reasons: Mapping[int, str]) -> Task:
    """The task without some clips (clip number → reason): not on disk, or not readable.

    Labels and folds are renumbered, `missing` has the clips, and `notes` name classes that lost all their clips,
    or all their training clips in a fold (their test clips are kept and count as any other).

    Raises:
        TaskError: a part of a fold is empty now, or has no positive left to take an mAP of.
    """
    if not reasons:
        return task
    keep = np.ones(len(task.paths), bool)
    keep[list(reasons)] = False
    number = np.cumsum(keep) - 1
    missing = [*task.missing, *((task.paths[clip], reasons[clip]) for clip in sorted(reasons))]
    why = f"{len(missing)} of {task.total} clips can't be used"
    everything = tuple(range(len(task.classes)))
    folds = [
        Fold(*(number[clips[keep[clips]]] for clips in fold.parts.values()), name=fold.name, untrained=everything)
        for fold in task.folds
    ]
    rest = replace(
        task,
        paths=[path for path, kept in zip(task.paths, keep, strict=True) if kept],
        labels=task.labels[keep],
        known=None if task.known is None else task.known[keep],
        folds=folds,
        missing=missing,
    )
    notes = [*task.notes, *_unused(rest, task.counts() > 0)]
    for place, (before, fold) in enumerate(zip(task.folds, folds, strict=True)):
        untrained = rest.untrained(fold)
        folds[place] = replace(fold, untrained=tuple(untrained.tolist()))
        lost = np.setdiff1d(untrained, before.untrained)
        if lost.size:
            notes.append(
                f"In {rest.describe(fold)} no training clip is left of {_names(rest, lost)} ({why}); its test "
                "clips are kept, though no probe can know them."
            )
    return replace(rest, folds=folds, notes=notes)


def _unused(task: Task, among: Bool[np.ndarray, " class"]) -> list[str]:
    """A sentence about classes that have no clip at all."""
    empty = np.flatnonzero((task.counts() == 0) & among)
    return [f"No clip has the label {_names(task, empty)}; it counts in no score."] if empty.size else []


def _require_once(task: Task) -> None:
    """No file is two clips, however its path is written: it could be trained and tested on."""
    first: dict[str, int] = {}
    for clip, file in enumerate(without_links(task.paths)):
        other = first.setdefault(file, clip)
        if other == clip:
            continue
        path, before = task.paths[clip], task.paths[other]
        also = "" if before == path else f" (once as {before})"
        fold = task.folds[0]
        where = [part for part, clips in fold.parts.items() if np.isin([clip, other], clips).any()]
        raise TaskError(
            f"{task.name}: {path} is there twice{also}, in {' and '.join(where) or 'no part'} of "
            f"{task.describe(fold)}; a file is one clip: remove one (several labels of a clip stand in one row)"
        )


def _names(task: Task, numbers: Integer[np.ndarray, " some"]) -> str:
    more = f" and {len(numbers) - SHOWN} more" if len(numbers) > SHOWN else ""
    return ", ".join(repr(task.classes[number]) for number in numbers[:SHOWN]) + more


def without_links(paths: Iterable[str]) -> list[str]:
    """Absolute paths, the links among their folders followed, each folder once; a linked file stays as it is."""
    real: dict[str, str] = {}
    found = []
    for path in paths:
        folder, name = os.path.split(path)
        if folder not in real:
            real[folder] = os.path.realpath(folder)
        found.append(path if real[folder] == folder else os.path.join(real[folder], name))  # noqa: PTH118
    return found


def names_in(folder: str | os.PathLike[str]) -> set[str]:
    """Names in a folder, none where there is no such folder. Raises TaskError if it can't be listed."""
    try:
        return set(os.listdir(folder))  # noqa: PTH208 (names, of hundreds of thousands)
    except (FileNotFoundError, NotADirectoryError):
        return set()
    except OSError as error:
        raise TaskError(f"{folder}: can't be listed ({error.strerror}); check its permissions") from error
