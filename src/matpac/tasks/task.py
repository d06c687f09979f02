"""What a corpus reader gives: which clips, their labels, the folds, and what is not on disk."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Integer, Shaped

from matpac.errors import MatpacError
from matpac.tasks.splits import Kind, Split, untrained_classes

Metric = Literal["accuracy", "mAP"]
METRICS: dict[Kind, Metric] = {"single": "accuracy", "multi": "mAP"}
"""By kind (docs/evaluation.md)."""
SHOWN = 5
"""Names told of a longer list."""


class TaskError(MatpacError):
    """A corpus that can't be used; the message names the file or the label and tells the way out."""


@dataclass(frozen=True, eq=False)
class Task:
    """The clips of one task, from metadata alone: no sound file was opened.

    Rows of `labels` and `known` and the numbers in `splits` count the clips of `paths`. Class numbers are those of
    the metadata and stay when clips are dropped, so a class may be left without clips.
    """

    name: str
    kind: Kind
    metric: Metric
    unit_seconds: float | None
    """Clips are cut or zero-padded at the end to this length; None: as long as they are."""
    classes: list[str]
    paths: list[str]
    """Absolute."""
    labels: Integer[np.ndarray, " clip"] | Integer[np.ndarray, "clip class"]
    """Class numbers (single), or 0 and 1 (multi)."""
    known: Bool[np.ndarray, "clip class"] | None
    """Which labels exist, where they are partial."""
    splits: list[Split]
    """One a fold."""
    fold_names: list[str]
    missing: list[tuple[str, str]] = field(default_factory=list)
    """(path, reason) of the clips that the metadata names and that can't be used."""
    notes: list[str] = field(default_factory=list)
    """Sentences that a report of this task has to say."""
    corpus: str = ""
    """The public corpus, by the name of its reader; empty for one's own sounds, whatever they are called."""

    @property
    def total(self) -> int:
        """Clips in the metadata."""
        return len(self.paths) + len(self.missing)


def make_task(
    name: str,
    kind: Kind,
    classes: Sequence[str],
    paths: Sequence[str],
    labels: Shaped[np.ndarray, "..."],
    splits: Sequence[Split],
    *,
    unit_seconds: float | None,
    fold_names: Sequence[str],
    known: Bool[np.ndarray, "..."] | None = None,
    notes: Sequence[str] = (),
) -> Task:
    """A task of all clips that are on disk; the others are in its `missing`.

    Splits are made of all clips of the metadata, so that a missing clip moves no other from part to part.

    Raises:
        TaskError: a part of a split is empty, a file is there twice, a label is on validation or test clips and on
            no training clip, no clip is on disk, or what is on disk leaves a part empty.
    """
    absolute = [os.path.abspath(path) for path in paths]  # noqa: PTH100 (hundreds of thousands)
    told = list(notes)
    task = Task(
        name, kind, METRICS[kind], unit_seconds, list(classes), absolute, labels, known, list(splits),
        list(fold_names), [], told,
    )  # fmt: skip
    _require_parts(task)
    _require_once(task)
    for fold, split in zip(task.fold_names, task.splits, strict=True):
        wrong = untrained_classes(split, labels, len(classes), known)
        if wrong.size:
            raise TaskError(
                f"{name}: {_fold(task, fold)}: no training clip has the label {_names(task, wrong)}, but "
                "validation or test clips have; check the spelling, or give it training clips"
            )
    told.extend(_without_clips(task, np.ones(len(classes), bool)))
    not_there = _not_on_disk(absolute)
    if absolute and len(not_there) == len(absolute):
        raise TaskError(
            f"{name}: none of its {len(absolute)} clips is on disk; the first was looked for at {absolute[0]}: "
            "check the folder, or download the sounds"
        )
    return without(task, not_there) if not_there else task


def without(task: Task, left_out: Mapping[int, str]) -> Task:
    """The task without some clips (clip number → reason): not on disk, or not readable.

    Labels and splits are renumbered, `missing` has the clips, and `notes` tell of classes that lost all their
    clips, or all their training clips in a fold (they are kept: their test clips count as any other).

    Raises:
        TaskError: a part of a split is empty now, or has no positive left to take an mAP of.
    """
    if not left_out:
        return task
    keep = np.ones(len(task.paths), bool)
    keep[list(left_out)] = False
    number = np.cumsum(keep) - 1
    splits = [Split(*(number[rows[keep[rows]]] for rows in (s.train, s.valid, s.test))) for s in task.splits]
    rest = replace(
        task,
        paths=[path for path, kept in zip(task.paths, keep, strict=True) if kept],
        labels=task.labels[keep],
        known=None if task.known is None else task.known[keep],
        splits=splits,
        missing=[*task.missing, *((task.paths[clip], left_out[clip]) for clip in sorted(left_out))],
    )
    _require_parts(rest)
    notes = [*task.notes, *_lost(task, rest)]
    classes = len(task.classes)
    splits = [
        replace(split, untrained=tuple(untrained_classes(split, rest.labels, classes, rest.known).tolist()))
        for split in splits
    ]
    return replace(rest, splits=splits, notes=notes)


def _require_parts(task: Task) -> None:
    """Every part of every split has clips, and a known positive where the metric is mAP."""
    why = ""
    if task.missing:
        path, reason = task.missing[0]
        why = f" ({len(task.missing)} of {task.total} clips can't be used, first {path}: {reason})"
    for fold, split in zip(task.fold_names, task.splits, strict=True):
        for part, rows in (("train", split.train), ("valid", split.valid), ("test", split.test)):
            if rows.size == 0:
                raise TaskError(
                    f"{task.name}: {_fold(task, fold)}: its {part} part has no clip{why}; add clips to it"
                )
            if task.kind == "multi" and not _positives(task)[rows].any():
                raise TaskError(
                    f"{task.name}: {_fold(task, fold)}: no clip of its {part} part has a label{why}; add clips"
                )


def _require_once(task: Task) -> None:
    """No file is two clips, however its path is written: it could be trained and tested on."""
    files = without_links(task.paths)
    if len(set(files)) == len(files):
        return
    first: dict[str, int] = {}
    for clip, file in enumerate(files):
        other = first.setdefault(file, clip)
        if other != clip:
            path, before = task.paths[clip], task.paths[other]
            also = "" if before == path else f" (once as {before})"
            places = _places(task, other, clip)
            raise TaskError(f"{task.name}: {path} is there twice{also}, {places}; a file is one clip: remove one")


def _places(task: Task, one: int, other: int) -> str:
    """The parts of two clips, in the first fold that has them in two."""
    places = []
    for fold, split in zip(task.fold_names, task.splits, strict=True):
        parts = {"train": split.train, "valid": split.valid, "test": split.test}
        of = dict.fromkeys(
            next((part for part in parts if clip in parts[part]), "no part") for clip in (one, other)
        )
        places.append((len(of), f"in {' and '.join(of)} of {_fold(task, fold)}"))
    return max(places, key=lambda place: place[0])[1]


def _lost(before: Task, after: Task) -> list[str]:
    """What the missing clips took away, in sentences."""
    notes = _without_clips(after, _class_counts(before) > 0)
    missing = f"{len(after.missing)} of {after.total} clips can't be used"
    for fold, was, now in zip(after.fold_names, before.splits, after.splits, strict=True):
        classes = len(after.classes)
        already = untrained_classes(was, before.labels, classes, before.known)
        lost = np.setdiff1d(untrained_classes(now, after.labels, classes, after.known), already)
        if lost.size:
            notes.append(
                f"In {_fold(after, fold)} no training clip is left of {_names(after, lost)} ({missing}); its test "
                "clips are kept, though no probe can know them."
            )
    return notes


def _without_clips(task: Task, among: Bool[np.ndarray, " class"]) -> list[str]:
    """A sentence about classes that have no clip at all."""
    empty = np.flatnonzero((_class_counts(task) == 0) & among)
    return [f"No clip has the label {_names(task, empty)}; it counts in no score."] if empty.size else []


def _class_counts(task: Task) -> Integer[np.ndarray, " class"]:
    if task.kind == "single":
        return np.bincount(task.labels, minlength=len(task.classes))
    return _positives(task).sum(axis=0)


def _positives(task: Task) -> Bool[np.ndarray, "clip class"]:
    return task.labels.astype(bool) if task.known is None else task.labels.astype(bool) & task.known


def _fold(task: Task, name: str) -> str:
    return f"fold {name}" if len(task.splits) > 1 else f"split {name!r}"


def _names(task: Task, numbers: Integer[np.ndarray, " some"]) -> str:
    more = f" and {len(numbers) - SHOWN} more" if len(numbers) > SHOWN else ""
    return ", ".join(repr(task.classes[number]) for number in numbers[:SHOWN]) + more


def _not_on_disk(paths: Sequence[str]) -> dict[int, str]:
    """Clips that are not there, by one listing a folder (a stat a file is slow on network disks)."""
    listings: dict[str, set[str]] = {}
    absent = {}
    for number, path in enumerate(paths):
        folder, name = os.path.split(path)
        if folder not in listings:
            listings[folder] = names_in(folder)
        if name not in listings[folder]:
            absent[number] = "not on disk"
    return absent


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
