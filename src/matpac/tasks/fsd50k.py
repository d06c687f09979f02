"""FSD50K (Fonseca et al. 2022): 51,197 clips of 0.3 to 30 s, 200 classes of the AudioSet ontology."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from matpac.tasks.metadata import class_numbers, metadata_file, read_lines, read_rows, require_cells
from matpac.tasks.splits import Split
from matpac.tasks.task import Task, TaskError, make_task

UNIT_SECONDS = 7.6358
"""The clips' mean length, as EVAR takes it."""


def read_fsd50k(root: Path) -> Task:
    """`FSD50K.ground_truth/{dev,eval,vocabulary}.csv`, `FSD50K.dev_audio/`, `FSD50K.eval_audio/`.

    Train, valid: the column `split` of dev.csv (train, val); test: eval.csv.

    Raises:
        TaskError: a file is not there or cut short, a label is not in the vocabulary, or a split is another.
    """
    names = ("vocabulary", "dev", "eval")
    files = {name: metadata_file("fsd50k", root, f"FSD50K.ground_truth/{name}.csv") for name in names}
    vocabulary = read_lines("fsd50k", files["vocabulary"])
    require_cells("fsd50k", files["vocabulary"], vocabulary, 2)
    classes = [row[1] for row in vocabulary]
    dev = read_rows("fsd50k", files["dev"], ["fname", "labels", "split"])
    test = read_rows("fsd50k", files["eval"], ["fname", "labels"])
    labels = np.concatenate([_labels(files["dev"], dev, classes), _labels(files["eval"], test, classes)])
    for row in dev:
        if row["split"] not in ("train", "val"):
            raise TaskError(
                f"fsd50k: {files['dev']}: clip {row['fname']} has split {row['split']!r}, neither train nor val"
            )
    parts = np.array([row["split"] for row in dev])
    split = Split(
        np.flatnonzero(parts == "train"), np.flatnonzero(parts == "val"), np.arange(len(dev), len(labels))
    )
    paths = [str(root / "FSD50K.dev_audio" / f"{row['fname']}.wav") for row in dev]
    paths += [str(root / "FSD50K.eval_audio" / f"{row['fname']}.wav") for row in test]
    return make_task(
        "fsd50k", "multi", classes, paths, labels, [split], unit_seconds=UNIT_SECONDS, fold_names=["official"]
    )


def _labels(file: Path, rows: list[dict[str, str]], classes: list[str]) -> UInt8[np.ndarray, "clip class"]:
    """0 and 1; the names of a clip are joined by commas, ancestors included."""
    named = [row["labels"].split(",") for row in rows]
    numbers = class_numbers("fsd50k", file, [name for names in named for name in names], classes)
    labels = np.zeros((len(rows), len(classes)), np.uint8)
    labels[np.repeat(np.arange(len(rows)), [len(names) for names in named]), numbers] = 1
    return labels
