"""One's own sounds: a folder for each class, or a table."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Integer, Shaped

from matpac.audio import find_audio
from matpac.data.tables import PARTIAL, Table, TableError, is_label, read_table
from matpac.tasks.metadata import label_matrix, require_among
from matpac.tasks.splits import hold_out, split_by_fold, three_parts
from matpac.tasks.task import Fold, Task, TaskError

PART_NAMES = {
    **{"train": "train", "training": "train", "test": "test", "testing": "test"},
    **{"valid": "valid", "validation": "valid", "val": "valid"},
}
"""Names of parts that people use, in lower case, and the name of the part."""


def read_folder(root: Path) -> Task:
    """`<class>/**.wav`, or `train/<class>/…`, `test/<class>/…` and perhaps `valid/<class>/…`.

    Classes are sorted by name. Without parts: about 80/10/10 at random; without `valid`, about a tenth of
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
    if given:
        parts = np.repeat(list(found), [len(part) for part in found.values()])
        fold = _fold_of_parts(labels, parts, notes, "folders")
    else:
        fold = _random_fold(labels, classes, notes)
    paths = [path for _, path in clips]
    return Task(root.name or "folder", "single", classes, paths, labels, [fold], notes=notes)


def _part_folders(root: Path, names: set[str]) -> dict[str, str]:
    """Part → its folder, of the folders that hold sounds; none where these are classes.

    Raises:
        TaskError: train and test lie beside another folder, one of them is not there, or a part is there twice.
    """
    parts = {name: PART_NAMES[name.lower()] for name in sorted(names) if name.lower() in PART_NAMES}
    given = {part: name for name, part in parts.items()}
    beside = sorted(names - parts.keys())
    if not parts or (beside and not {"train", "test"} <= given.keys()):
        return {}
    if beside:
        raise TaskError(
            f"folder: {root} has sounds in {', '.join(parts)} and beside them in {', '.join(beside)}; move "
            f"{beside[0]} elsewhere, or, if all of them are classes, rename {' and '.join(parts)}"
        )
    for name, part in parts.items():
        if given[part] != name:
            raise TaskError(f"folder: {root} has {name} and {given[part]}, both for the {part} part; remove one")
    if not {"train", "test"} <= given.keys():
        raise TaskError(f"folder: {root} has {', '.join(sorted(given))} alone; both train and test are needed")
    return given


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


def read_own_table(file: Path) -> Task:
    """A CSV, TSV or Parquet file; relative paths count from its folder.

    Columns: `path`; and `label` (one), `labels` (several, joined by ;, or a list in Parquet), or one
    `label:<class>` per class with 1, 0, or nothing where it is unknown; and, if wanted, `split` (train, valid,
    test) or `fold`, and `group`: clips of one group (a speaker, a recording) never lie on both sides. Classes are
    sorted by name, `label:` columns stay in their order. Without `split` and `fold`: about 80/10/10 at
    random; with a split without `valid`, and with folds, about a tenth of the training part is held out as
    validation.

    Raises:
        TableError: the table or a column is not there, a cell is not usable, or a group is on both sides.
        TaskError: a class is too small.
    """
    table = read_table(file, also=lambda column: is_label(column) or column in ("split", "fold", "group"))
    notes: list[str] = []
    partial = [name for name in table.columns if name.startswith(PARTIAL)]
    given = [name for name in ("label", "labels") if name in table.columns] + partial[:1]
    if len(given) != 1:
        has = ", ".join(given) or f"none of them; it has {', '.join(table.header)}"
        raise TableError(f"{file}: one of the columns label, labels or {PARTIAL}<class> … is needed, not {has}")
    known = None
    if partial:
        answers = np.array([table.answers(name) for name in partial], float).T  # None becomes NaN
        classes, labels = [name.removeprefix(PARTIAL) for name in partial], (answers == 1).astype(np.uint8)
        if np.isnan(answers).any():
            known = ~np.isnan(answers)
    else:
        named = table.labels(given[0])
        classes = sorted({name for names in named for name in names})
        if given == ["labels"]:
            labels = label_matrix([table], lambda _: named, classes)
        else:
            labels = _one_each(table, named, classes)
    kind = "single" if given == ["label"] else "multi"
    folds = _folds(table, labels, classes, notes)
    return Task(file.stem, kind, classes, table.paths(), labels, folds, known=known, notes=notes)


def _one_each(
    table: Table, named: Sequence[Sequence[str]], classes: Sequence[str]
) -> Integer[np.ndarray, " clip"]:
    for row, names in enumerate(named):
        if len(names) != 1:
            what = "several labels" if names else "no label"
            raise TableError(f"{table.place(row)} has {what}; give one (for several, call the column labels)")
    if len(classes) < 2:
        raise TableError(f"{table.file}: column label has one label alone, {classes[0]!r}; two or more are needed")
    numbers = {name: number for number, name in enumerate(classes)}
    return np.array([numbers[name] for [name] in named], np.int64)


def _folds(
    table: Table, labels: Shaped[np.ndarray, "clip *class"], classes: Sequence[str], notes: list[str]
) -> list[Fold]:
    if "split" in table.columns and "fold" in table.columns:
        raise TableError(f"{table.file}: has a column split and a column fold; remove one")
    groups = np.array(table.texts("group")) if "group" in table.columns else None
    if "split" in table.columns:
        names = [PART_NAMES.get(name.lower(), name) for name in table.texts("split")]
        require_among(table, "split", names, ["train", "valid", "test"])
        parts = np.array(names)
        _require_apart(table, parts, groups, "split")
        return [_fold_of_parts(labels, parts, notes, "table", groups)]
    if "fold" not in table.columns:
        return [_random_fold(labels, classes, notes, groups)]
    names = table.texts("fold")
    if len(set(names)) < 2:
        raise TableError(f"{table.file}: column fold has one fold alone, {names[0]!r}; two or more are needed")
    folds = np.array([int(name) for name in names] if all(name.isdecimal() for name in names) else names)
    _require_apart(table, folds, groups, "fold")
    notes.append("Validation: about a tenth of each fold's training part, drawn at random (seed 0).")
    return split_by_fold(labels, folds, groups)


def _fold_of_parts(
    labels: Shaped[np.ndarray, "clip *class"],
    parts: Shaped[np.ndarray, " clip"],
    notes: list[str],
    name: str,
    groups: Shaped[np.ndarray, " clip"] | None = None,
) -> Fold:
    """The split that each clip's part says, with a validation part held out (and noted) if there is none."""
    train, valid, test = (np.flatnonzero(parts == part) for part in ("train", "valid", "test"))
    if not valid.size and train.size:
        given = train.size
        train, valid = hold_out(labels, train, groups=groups)
        notes.append(
            f"No validation part is given: {valid.size} of {given} training clips, drawn at random (seed 0), are "
            "it."
        )
    return Fold(train, valid, test, name=name)


def _random_fold(
    labels: Shaped[np.ndarray, "clip *class"],
    classes: Sequence[str],
    notes: list[str],
    groups: Shaped[np.ndarray, " clip"] | None = None,
) -> Fold:
    fold = three_parts(labels, classes, groups)
    notes.append(
        f"No split is given: {fold.train.size} clips train, {fold.valid.size} validate and {fold.test.size} test, "
        "drawn at random (seed 0), as near to 80/10/10 as classes and groups allow."
    )
    return fold


def _require_apart(
    table: Table, parts: Shaped[np.ndarray, " clip"], groups: Shaped[np.ndarray, " clip"] | None, column: str
) -> None:
    """No group is in two parts."""
    if groups is None:
        return
    names, first = np.unique(groups, return_index=True)
    home = parts[first][np.searchsorted(names, groups)]
    away = np.flatnonzero(home != parts)
    if away.size:
        row = int(away[0])
        raise TableError(
            f"{table.place(row)}: group {str(groups[row])!r} is in {column} {home[row]} and {parts[row]}; keep a "
            "group on one side, or remove the column group"
        )
