"""ESC-50 (Piczak 2015): 2,000 clips of 5 s, 50 classes, 5 official folds."""

from pathlib import Path

import numpy as np

from matpac.tasks.metadata import integers, metadata_file, read_rows
from matpac.tasks.split import split_by_fold
from matpac.tasks.task import Task, make_task

UNIT_SECONDS = 5.0  # the clips' length


def read_esc50(root: Path) -> Task:
    """`meta/esc50.csv` and `audio/*.wav`; classes in the order of `target`. Raises TaskError."""
    file = metadata_file("esc50", root, "meta/esc50.csv")
    rows = read_rows("esc50", file, ["filename", "fold", "target", "category"])
    numbers = integers("esc50", file, rows, "target")
    names = dict(zip(numbers.tolist(), (row["category"] for row in rows), strict=True))
    present, labels = np.unique(numbers, return_inverse=True)
    splits, folds = split_by_fold(labels, integers("esc50", file, rows, "fold"))
    paths = [str(root / "audio" / row["filename"]) for row in rows]
    classes = [names[number] for number in present.tolist()]
    return make_task(
        "esc50", "single", classes, paths, labels, splits, unit_seconds=UNIT_SECONDS, fold_names=folds
    )
