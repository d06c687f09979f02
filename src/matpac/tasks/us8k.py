"""UrbanSound8K (Salamon, Jacoby and Bello 2014): 8,732 clips of up to 4 s, 10 classes, 10 official folds."""

from pathlib import Path

import numpy as np

from matpac.tasks.metadata import integers, metadata_file, read_rows
from matpac.tasks.split import split_by_fold
from matpac.tasks.task import Task, make_task

UNIT_SECONDS = 4.0  # the longest clip


def read_us8k(root: Path) -> Task:
    """`metadata/UrbanSound8K.csv` and `audio/fold1 … fold10/*.wav`. Raises TaskError."""
    file = metadata_file("us8k", root, "metadata/UrbanSound8K.csv")
    rows = read_rows("us8k", file, ["slice_file_name", "fold", "classID", "class"])
    numbers = integers("us8k", file, rows, "classID")
    names = dict(zip(numbers.tolist(), (row["class"] for row in rows), strict=True))
    present, labels = np.unique(numbers, return_inverse=True)
    splits, folds = split_by_fold(labels, integers("us8k", file, rows, "fold"))
    paths = [str(root / "audio" / f"fold{row['fold']}" / row["slice_file_name"]) for row in rows]
    classes = [names[number] for number in present.tolist()]
    return make_task("us8k", "single", classes, paths, labels, splits, unit_seconds=UNIT_SECONDS, fold_names=folds)
