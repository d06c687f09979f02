"""The corpora that encoders are evaluated on: one small reader each, which knows metadata alone."""

import difflib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from matpac.data.tables import TableError
from matpac.tasks.audioset import read_audioset
from matpac.tasks.corpora import read_esc50, read_fsd50k, read_nsynth, read_openmic, read_us8k
from matpac.tasks.music import read_gtzan, read_magnatagatune, read_mtg
from matpac.tasks.own import read_folder, read_own_table
from matpac.tasks.task import Fold, Task, TaskError, on_disk, without

__all__ = ["OWN", "TASKS", "Fold", "Task", "TaskError", "read_task", "without"]

TASKS: dict[str, Callable[[Path], Task]] = {
    "esc50": read_esc50,
    "us8k": read_us8k,
    "gtzan": read_gtzan,
    "nsynth": read_nsynth,
    "openmic": read_openmic,
    "mtt": read_magnatagatune,
    "fsd50k": read_fsd50k,
    "mtg_genre": partial(read_mtg, "mtg_genre", "genre"),
    "mtg_instrument": partial(read_mtg, "mtg_instrument", "instrument"),
    "mtg_moodtheme": partial(read_mtg, "mtg_moodtheme", "moodtheme"),
    "mtg_top50": partial(read_mtg, "mtg_top50", "top50tags"),
    "audioset": partial(read_audioset, "audioset", False),
    "audioset20k": partial(read_audioset, "audioset20k", True),
    "folder": read_folder,
    "table": read_own_table,
}
"""By name, what reads the folder (for `table`: the file) that the corpus lies in."""

OWN = ("folder", "table")
"""Tasks of one's own sounds; the others are public corpora."""


def read_task(name: str, root: str | Path) -> Task:
    """The clips on disk, labels and folds of a task whose corpus lies in `root`.

    Raises:
        TaskError: no such task, or the corpus can't be used.
    """
    if name not in TASKS:
        close = difflib.get_close_matches(name.lower(), TASKS, 1)
        meant = f"did you mean {close[0]}? " if close else ""
        raise TaskError(f"no task {name!r}; {meant}there are {', '.join(TASKS)}")
    try:
        task = TASKS[name](Path(root).expanduser().absolute())
    except TableError as error:
        raise TaskError(f"{name}: {error}") from error
    return on_disk(task if name in OWN else replace(task, corpus=name))
