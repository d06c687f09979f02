"""MTG-Jamendo (Bogdanov et al. 2019): 55,701 tracks; genre, instrument, mood/theme and top-50 tags, split-0."""

import os
from functools import partial
from pathlib import Path

import numpy as np

from matpac.tasks.metadata import first_folder, metadata_file, read_lines, require_columns
from matpac.tasks.splits import Split
from matpac.tasks.task import Task, TaskError, make_task, names_in

UNIT_SECONDS = 30.0
COLUMNS = ["TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION", "TAGS"]
FOLDERS = ("audio", "mp3", "audio-low", "")
SPLITS = ("splits/split-0", "data/splits/split-0", "split-0")


def read_mtg(name: str, subset: str, root: Path) -> Task:
    """`splits/split-0/autotagging_<subset>-{train,validation,test}.tsv` (also below `data/`), mp3 in `00/ … 99/`.

    The mp3 lie in `root`, or in its `audio/`, `mp3/` or `audio-low/`; `14/214.low.mp3` passes for `14/214.mp3`.
    Classes are all tags of the three files, sorted; `genre---rock` is `rock` where all tags are of one category.

    Raises:
        TaskError: a file is not there, has other columns, or names a track without a tag.
    """
    paths: list[str] = []
    tags: list[list[str]] = []
    parts = []
    for part in ("train", "validation", "test"):
        places = [f"{folder}/autotagging_{subset}-{part}.tsv" for folder in SPLITS]
        file = metadata_file(name, root, *places)
        head, *rows = read_lines(name, file, delimiter="\t")
        require_columns(name, file, COLUMNS, head)
        parts.append(np.arange(len(paths), len(paths) + len(rows)))
        for row in rows:
            named = row[head.index("TAGS") :]  # the tail of the line
            if not all(named) or not named:
                raise TaskError(f"{name}: {file}: track {row[0]} has no tag; download it again")
            paths.append(row[head.index("PATH")])
            tags.append(named)
    full = sorted({tag for named in tags for tag in named})
    categories = {tag.split("---")[0] for tag in full}
    number = {tag: place for place, tag in enumerate(full)}
    labels = np.zeros((len(paths), len(full)), np.uint8)
    for clip, named in enumerate(tags):
        labels[clip, [number[tag] for tag in named]] = 1
    classes = [tag.split("---")[-1] for tag in full] if len(categories) == 1 else full
    return make_task(
        name, "multi", classes, _on_disk(root, paths), labels, [Split(*parts)],
        unit_seconds=UNIT_SECONDS, fold_names=["split-0"],
    )  # fmt: skip


def _on_disk(root: Path, paths: list[str]) -> list[str]:
    """The tracks' files, with the name that they have there."""
    folders = {path.split("/")[0] for path in paths}
    base = next(
        (root / name for name in FOLDERS if folders & names_in(root / name)), first_folder(root, FOLDERS, "00")
    )
    there = {folder: names_in(base / folder) for folder in folders}
    found = []
    for path in paths:
        folder, name = os.path.split(path)
        low = name.removesuffix(".mp3") + ".low.mp3"
        file = low if name not in there[folder] and low in there[folder] else name
        found.append(os.path.join(base, folder, file))  # noqa: PTH118
    return found


read_mtg_genre = partial(read_mtg, "mtg_genre", "genre")
read_mtg_instrument = partial(read_mtg, "mtg_instrument", "instrument")
read_mtg_moodtheme = partial(read_mtg, "mtg_moodtheme", "moodtheme")
read_mtg_top50 = partial(read_mtg, "mtg_top50", "top50tags")
