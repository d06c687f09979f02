"""One's own sounds, one folder a class."""

from pathlib import Path

import numpy as np
from jaxtyping import Integer, Shaped

from matpac.audio import find_audio
from matpac.downstream.splits import Split
from matpac.downstream.tasks.split import hold_out, three_parts
from matpac.downstream.tasks.task import Task, TaskError, make_task

PART_NAMES = {"train": "train", "valid": "valid", "validation": "valid", "val": "valid", "test": "test"}
"""Names of parts that people use, and ours."""
CARVED_VALIDATION = "No validation part is given: a random tenth of the training part is it (seed 0)."
CARVED_ALL = "No split is given: 80 % train, 10 % validation, 10 % test, drawn by chance (seed 0)."


def read_folder(root: Path) -> Task:
    """`<class>/**.wav`, or `train/<class>/…`, `test/<class>/…` and perhaps `valid/<class>/…`.

    Classes are sorted by name. Without parts: 80/10/10 by chance; without `valid`, a tenth of `train`.

    Raises:
        TaskError: no class folder with sounds, a part without the others, a class that is too small.
    """
    if not root.is_dir():
        raise TaskError(f"folder: {root} is no folder; give one that holds a folder for each class")
    below = sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    given = {PART_NAMES[entry.name]: entry for entry in below if entry.name in PART_NAMES}
    notes: list[str] = []
    if given and len(given) == len(below):
        if not {"train", "test"} <= given.keys():
            raise TaskError(f"folder: {root} has {', '.join(sorted(given))} alone; both train and test are needed")
        found = {part: _by_class(entry, notes) for part, entry in given.items()}
    else:
        found = {"": _by_class(root, notes)}
    classes = sorted({name for clips in found.values() for name, _ in clips})
    if len(classes) < 2:
        raise TaskError(f"folder: {root} has sounds in {len(classes)} class folders; two or more are needed")
    clips = [clip for part in found.values() for clip in part]
    numbers = {name: number for number, name in enumerate(classes)}
    labels = np.array([numbers[name] for name, _ in clips], np.int64)
    parts = np.repeat(list(found), [len(part) for part in found.values()])
    if "" in found:
        notes.append(CARVED_ALL)
        split = three_parts(labels, classes)
    else:
        split = split_of_parts(labels, parts, notes)
    return make_task(
        root.name or "folder", "single", classes, [path for _, path in clips], labels, [split],
        unit_seconds=None, fold_names=["folders" if given else "random"], notes=notes,
    )  # fmt: skip


def split_of_parts(
    labels: Integer[np.ndarray, " clip"] | Integer[np.ndarray, "clip class"],
    parts: Shaped[np.ndarray, " clip"],
    notes: list[str],
    groups: Shaped[np.ndarray, " clip"] | None = None,
) -> Split:
    """The split that the part of each clip says, with a validation part carved (and noted) if there is none."""
    train, valid, test = (np.flatnonzero(parts == part) for part in ("train", "valid", "test"))
    if not valid.size and train.size:
        notes.append(CARVED_VALIDATION)
        train, valid = hold_out(labels, train, groups=groups)
    return Split(train, valid, test)


def _by_class(folder: Path, notes: list[str]) -> list[tuple[str, str]]:
    """(class, path) of all sounds; what lies there and is not used is noted."""
    clips: list[tuple[str, str]] = []
    loose = 0
    for path in find_audio([folder]):
        inside = path.relative_to(folder).parts
        if len(inside) == 1:
            loose += 1
        else:
            clips.append((inside[0], str(path)))
    if loose:
        notes.append(f"{loose} sounds lie in {folder.name} beside the class folders and are not used.")
    with_sounds = {name for name, _ in clips}
    below = (entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    empty = sorted(name for name in below if name not in with_sounds)
    if empty:
        notes.append(f"Folders without sounds, which make no class: {', '.join(empty)}.")
    return clips
