"""One's own sounds, one folder a class."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Integer, Shaped

from matpac.audio import find_audio
from matpac.tasks.split import hold_out, three_parts
from matpac.tasks.splits import Split
from matpac.tasks.task import Task, TaskError, make_task

PART_NAMES = {
    **{"train": "train", "training": "train", "test": "test", "testing": "test"},
    **{"valid": "valid", "validation": "valid", "val": "valid"},
}
"""Names of parts that people use, in small letters, and ours."""


def read_folder(root: Path) -> Task:
    """`<class>/**.wav`, or `train/<class>/…`, `test/<class>/…` and perhaps `valid/<class>/…`.

    Classes are sorted by name. Without parts: about 80/10/10 by chance; without `valid`, about a tenth of
    `train`. Folders without sounds are neither parts nor classes.

    Raises:
        TaskError: no class folder with sounds, a part without the others, twice, or beside something else, a
            class that is too small.
    """
    if not root.is_dir():
        raise TaskError(f"folder: {root} is no folder; give one that holds a folder for each class")
    notes: list[str] = []
    sounds = [path.relative_to(root).parts for path in find_audio([root])]
    found = {"": _by_class(root, sounds, notes)}
    if given := _part_folders(root, {name for name, _ in found[""]}):
        found = {
            part: _by_class(root / name, [inside[1:] for inside in sounds if inside[0] == name], notes)
            for part, name in given.items()
        }
    classes = sorted({name for clips in found.values() for name, _ in clips})
    if len(classes) < 2:
        raise TaskError(f"folder: {root} has sounds in {len(classes)} class folders; two or more are needed")
    clips = [clip for part in found.values() for clip in part]
    numbers = {name: number for number, name in enumerate(classes)}
    labels = np.array([numbers[name] for name, _ in clips], np.int64)
    parts = np.repeat(list(found), [len(part) for part in found.values()])
    if "" in found:
        split = three_parts(labels, classes)
        notes.append(carved_all(split))
    else:
        split = split_of_parts(labels, parts, notes)
    return make_task(
        root.name or "folder", "single", classes, [path for _, path in clips], labels, [split],
        unit_seconds=None, fold_names=["folders" if given else "random"], notes=notes,
    )  # fmt: skip


def _part_folders(root: Path, names: set[str]) -> dict[str, str]:
    """Part → its folder, of the folders that hold sounds; none where these are classes.

    Raises:
        TaskError: train and test lie beside another folder, one of them is not there, or a part is there twice.
    """
    parts = {name: PART_NAMES[name.lower()] for name in sorted(names) if name.lower() in PART_NAMES}
    given = {part: name for name, part in parts.items()}
    others = sorted(names - parts.keys())
    if not parts or (others and not {"train", "test"} <= given.keys()):
        return {}
    if others:
        raise TaskError(
            f"folder: {root} has sounds in {', '.join(parts)} and beside them in {', '.join(others)}; move "
            f"{others[0]} elsewhere, or, if all of them are classes, rename {' and '.join(parts)}"
        )
    for name, part in parts.items():
        if given[part] != name:
            raise TaskError(f"folder: {root} has {name} and {given[part]}, both for the {part} part; remove one")
    if not {"train", "test"} <= given.keys():
        raise TaskError(f"folder: {root} has {', '.join(sorted(given))} alone; both train and test are needed")
    return given


def carved_all(split: Split) -> str:
    """What is told of a split by chance: small classes make its parts other than 80, 10 and 10 %."""
    train, valid, test = split.train.size, split.valid.size, split.test.size
    return (
        f"No split is given: {train} clips train, {valid} validate and {test} test, drawn by chance (seed 0), as "
        "near to 80/10/10 as classes and groups allow."
    )


def split_of_parts(
    labels: Integer[np.ndarray, " clip"] | Integer[np.ndarray, "clip class"],
    parts: Shaped[np.ndarray, " clip"],
    notes: list[str],
    groups: Shaped[np.ndarray, " clip"] | None = None,
) -> Split:
    """The split that the part of each clip says, with a validation part carved (and noted) if there is none."""
    train, valid, test = (np.flatnonzero(parts == part) for part in ("train", "valid", "test"))
    if not valid.size and train.size:
        given = train.size
        train, valid = hold_out(labels, train, groups=groups)
        notes.append(
            f"No validation part is given: {valid.size} of {given} training clips, drawn by chance (seed 0), are "
            "it."
        )
    return Split(train, valid, test)


def _by_class(folder: Path, sounds: Sequence[tuple[str, ...]], notes: list[str]) -> list[tuple[str, str]]:
    """(class, path) of sounds, given by their places in the folder; what lies there and is not used is noted."""
    clips = [(inside[0], str(folder.joinpath(*inside))) for inside in sounds if len(inside) > 1]
    if loose := len(sounds) - len(clips):
        notes.append(f"{loose} sounds lie in {folder.name} beside the class folders and are not used.")
    with_sounds = {name for name, _ in clips}
    below = (entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    empty = sorted(name for name in below if name not in with_sounds)
    if empty:
        notes.append(f"Folders without sounds, which make no class: {', '.join(empty)}.")
    return clips
