"""OpenMIC-2018 (Humphrey, Durand and McFee 2018): 20,000 clips of 10 s, 20 instruments, partial labels."""

from pathlib import Path

import numpy as np

from matpac.tasks.metadata import metadata_file, read_lines, read_rows
from matpac.tasks.split import hold_out
from matpac.tasks.splits import Split
from matpac.tasks.task import Task, TaskError, make_task

UNIT_SECONDS = 10.0
RELEVANT = 0.5
"""Relevance from which an instrument counts as heard; no row means that nobody was asked."""


def read_openmic(root: Path) -> Task:
    """`openmic-2018-aggregated-labels.csv`, `partitions/split01_{train,test}.csv`, `audio/000/*.ogg`.

    A tenth of the training part is held out as validation, all clips of one track together (the part of the
    sample key before `_` is the track).

    Raises:
        TaskError: a file is not there, or a clip of the partitions has no label or is there twice.
    """
    file = metadata_file("openmic", root, "openmic-2018-aggregated-labels.csv")
    rows = read_rows("openmic", file, ["sample_key", "instrument", "relevance"])
    parts = {part: _keys(root, part) for part in ("train", "test")}
    keys = parts["train"] + parts["test"]
    _require_once(root, parts)
    classes = sorted({row["instrument"] for row in rows})
    clip, number = ({name: n for n, name in enumerate(names)} for names in (keys, classes))
    labels = np.zeros((len(keys), len(classes)), np.uint8)
    known = np.zeros(labels.shape, bool)
    outside = set()
    for row in rows:
        if row["sample_key"] not in clip:
            outside.add(row["sample_key"])
            continue
        place = clip[row["sample_key"]], number[row["instrument"]]
        labels[place], known[place] = _relevance(file, row) >= RELEVANT, True
    silent = np.flatnonzero(~known.any(axis=1))
    if silent.size:
        raise TaskError(
            f"openmic: {file}: clip {keys[silent[0]]} of the partitions has no label; download it again"
        )
    tracks = np.array([key.split("_")[0] for key in keys])
    train, valid = hold_out(labels, np.arange(len(parts["train"])), groups=tracks)
    split = Split(train, valid, np.arange(len(parts["train"]), len(keys)))
    notes = [f"{len(outside)} labelled clips are in no partition and are not used."] if outside else []
    paths = [str(root / "audio" / key[:3] / f"{key}.ogg") for key in keys]
    return make_task(
        "openmic", "multi", classes, paths, labels, [split],
        unit_seconds=UNIT_SECONDS, fold_names=["split01"], known=known, notes=notes,
    )  # fmt: skip


def _keys(root: Path, part: str) -> list[str]:
    file = metadata_file("openmic", root, f"partitions/split01_{part}.csv")
    return [row[0] for row in read_lines("openmic", file)]


def _require_once(root: Path, parts: dict[str, list[str]]) -> None:
    seen: dict[str, str] = {}
    for part, keys in parts.items():
        for key in keys:
            if key in seen:
                raise TaskError(
                    f"openmic: {root / 'partitions'}: clip {key} is in split01_{seen[key]}.csv and again in "
                    f"split01_{part}.csv; download both again"
                )
            seen[key] = part


def _relevance(file: Path, row: dict[str, str]) -> float:
    try:
        return float(row["relevance"])
    except ValueError as error:
        raise TaskError(
            f"openmic: {file}: relevance of {row['sample_key']} is {row['relevance']!r}, not a number; "
            "download it again"
        ) from error
