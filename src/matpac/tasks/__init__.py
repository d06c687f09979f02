"""The corpora that encoders are evaluated on: one small reader each, which knows metadata alone."""

import difflib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from matpac.tasks.audioset import read_audioset_2m, read_audioset_20k
from matpac.tasks.esc50 import read_esc50
from matpac.tasks.folder import read_folder
from matpac.tasks.fsd50k import read_fsd50k
from matpac.tasks.gtzan import read_gtzan
from matpac.tasks.magnatagatune import read_magnatagatune
from matpac.tasks.mtg_jamendo import (
    read_mtg_genre,
    read_mtg_instrument,
    read_mtg_moodtheme,
    read_mtg_top50,
)
from matpac.tasks.nsynth import read_nsynth
from matpac.tasks.openmic import read_openmic
from matpac.tasks.table import read_table
from matpac.tasks.task import Task, TaskError, without
from matpac.tasks.us8k import read_us8k

__all__ = ["OWN", "TASKS", "Task", "TaskError", "read_table", "read_task", "without"]

TASKS: dict[str, Callable[[Path], Task]] = {
    "esc50": read_esc50,
    "us8k": read_us8k,
    "gtzan": read_gtzan,
    "nsynth": read_nsynth,
    "openmic": read_openmic,
    "mtt": read_magnatagatune,
    "fsd50k": read_fsd50k,
    "mtg_genre": read_mtg_genre,
    "mtg_instrument": read_mtg_instrument,
    "mtg_moodtheme": read_mtg_moodtheme,
    "mtg_top50": read_mtg_top50,
    "audioset": read_audioset_2m,
    "audioset20k": read_audioset_20k,
    "folder": read_folder,
    "table": read_table,
}
"""By name, what reads the folder (for `table`: the file) that the corpus lies in."""

OWN = ("folder", "table")
"""Tasks of one's own sounds; the others are public corpora."""


def read_task(name: str, root: str | Path) -> Task:
    """The clips, labels and splits of a task whose corpus lies in `root`.

    Raises:
        TaskError: no such task, or the corpus can't be used.
    """
    if name not in TASKS:
        close = difflib.get_close_matches(name.lower(), TASKS, 1)
        meant = f"did you mean {close[0]}? " if close else ""
        raise TaskError(f"no task {name!r}; {meant}there are {', '.join(TASKS)}")
    task = TASKS[name](Path(root).expanduser().absolute())
    return task if name in OWN else replace(task, corpus=name)
