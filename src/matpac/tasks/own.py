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
    sounds = [path.relative_to(root).parts for path in find_audio([root])]
    clips, notes = _by_class(root, sounds)
    folders = _part_folders(root, {name for name, _ in clips})
    parts = None
    if folders:
        clips, parts = [], []
        for part, name in folders.items():
            found, more = _by_class(root / name, [inside[1:] for inside in sounds if inside[0] == name])
            clips, parts, notes = clips + found, parts + [part] * len(found), notes + more
    classes = sorted({name for name, _ in clips})
    if len(classes) < 2:
        raise TaskError(f"folder: {root} has sounds in {len(classes)} class folders; two or more are needed")
    labels = np.unique([name for name, _ in clips], return_inverse=True)[1]
    fold, note = _one_fold(labels, classes, parts, "folders")
    paths = [path for _, path in clips]
    return Task(root.name or "folder", "single", classes, paths, labels, [fold], notes=notes + note)


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


def _by_class(folder: Path, sounds: Sequence[tuple[str, ...]]) -> tuple[list[tuple[str, str]], list[str]]:
    """(class, path) of sounds, given by their places in the folder; and notes on what is not used there."""
    notes = []
    clips = [(inside[0], str(folder.joinpath(*inside))) for inside in sounds if len(inside) > 1]
    if loose := len(sounds) - len(clips):
        notes.append(f"{loose} sounds lie in {folder.name} beside the class folders and are not used.")
    below = {entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")}
    if empty := sorted(below - {name for name, _ in clips}):
        notes.append(f"Folders without sounds, which make no class: {', '.join(empty)}.")
    return clips, notes


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
        labels = label_matrix([table], lambda _: named, classes)
        if given == ["label"]:
            labels = _one_each(table, labels, classes)
    folds, notes = _folds(table, labels, classes)
    kind = "single" if given == ["label"] else "multi"
    return Task(file.stem, kind, classes, table.paths(), labels, folds, known=known, notes=notes)


def _one_each(
    table: Table, labels: Integer[np.ndarray, "clip class"], classes: Sequence[str]
) -> Integer[np.ndarray, " clip"]:
    several = np.flatnonzero(labels.sum(axis=1, dtype=np.int64) > 1)
    if several.size:
        place = table.place(int(several[0]))
        raise TableError(f"{place} has several labels; give one (for several, call the column labels)")
    if len(classes) < 2:
        raise TableError(f"{table.file}: column label has one label alone, {classes[0]!r}; two or more are needed")
    return labels.argmax(axis=1)


def _folds(
    table: Table, labels: Shaped[np.ndarray, "clip *class"], classes: Sequence[str]
) -> tuple[list[Fold], list[str]]:
    """The folds that a table's columns say, and notes on what was drawn."""
    if "split" in table.columns and "fold" in table.columns:
        raise TableError(f"{table.file}: has a column split and a column fold; remove one")
    groups = np.array(table.texts("group")) if "group" in table.columns else None
    if "fold" not in table.columns:
        parts = None
        if "split" in table.columns:
            parts = [PART_NAMES.get(name.lower(), name) for name in table.texts("split")]
            require_among(table, "split", parts, ["train", "valid", "test"])
            _require_apart(table, np.array(parts), groups, "split")
        fold, notes = _one_fold(labels, classes, parts, "table", groups)
        return [fold], notes
    names = table.texts("fold")
    if len(set(names)) < 2:
        raise TableError(f"{table.file}: column fold has one fold alone, {names[0]!r}; two or more are needed")
    folds = np.array([int(name) for name in names] if all(name.isdecimal() for name in names) else names)
    _require_apart(table, folds, groups, "fold")
    note = "Validation: about a tenth of each fold's training part, drawn at random (seed 0)."
    return split_by_fold(labels, folds, groups), [note]


def _one_fold(
    labels: Shaped[np.ndarray, "clip *class"],
    classes: Sequence[str],
    parts: Sequence[str] | None,
    name: str,
    groups: Shaped[np.ndarray, " clip"] | None = None,
) -> tuple[Fold, list[str]]:
    """The split that each clip's part says, or one drawn at random; a missing validation part is drawn too."""
    if parts is None:
        fold = three_parts(labels, classes, groups)
        return fold, [
            f"No split is given: {fold.train.size} clips train, {fold.valid.size} validate and {fold.test.size} "
            "test, drawn at random (seed 0), as near to 80/10/10 as classes and groups allow."
        ]
    train, valid, test = (np.flatnonzero(np.array(parts) == part) for part in ("train", "valid", "test"))
    if valid.size or not train.size:
        return Fold(train, valid, test, name=name), []
    kept, held = hold_out(labels, train, groups=groups)
    return Fold(kept, held, test, name=name), [
        f"No validation part is given: {held.size} of {train.size} training clips, drawn at random (seed 0), are "
        "it."
    ]


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
