"""GTZAN (Tzanetakis and Cook 2002): 1,000 clips of 30 s, 10 genres, with repeats and faults.

The fault-filtered lists (Kereliuk, Sturm and Larsen 2015) keep artists apart and leave bad clips out. Without
them ten stratified folds are drawn, and scores come out higher: pieces of one artist are on both sides.
"""

from pathlib import Path, PurePosixPath

import numpy as np

from matpac.tasks.metadata import class_numbers, first_folder, read_lines
from matpac.tasks.split import split_by_fold, stratified_folds
from matpac.tasks.splits import Split
from matpac.tasks.task import Task, TaskError, make_task, names_in

UNIT_SECONDS = 30.0
GENRES = ["blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock"]
FOLDERS = ("genres", "genres_original", "Data/genres_original", "")
SUFFIXES = {".wav", ".au"}
LISTS = ("train_filtered.txt", "valid_filtered.txt", "test_filtered.txt")
LIST_SIZES = (443, 197, 290)
FOLDS = 10
CLIPS = 1000


def read_gtzan(root: Path) -> Task:
    """`genres/<genre>/*.wav` (or `genres_original/`, or `.au`); the lists are used where they lie in `root`.

    Raises:
        TaskError: no folder of genres, a genre without clips, or lists that are not all there.
    """
    folder = first_folder(root, FOLDERS, GENRES[0])
    on_disk = {genre: _clips(folder / genre) for genre in GENRES}
    for genre, clips in on_disk.items():
        if not clips:
            raise TaskError(
                f"gtzan: no sound of genre {genre} in {folder / genre} (.wav or .au); give the folder that holds "
                "genres/ or genres_original/"
            )
    lists = [root / name for name in LISTS if (root / name).is_file()]
    if lists and len(lists) < len(LISTS):
        absent = ", ".join(name for name in LISTS if root / name not in lists)
        raise TaskError(f"gtzan: {lists[0].name} is in {root}, but not {absent}: add it, or remove all lists")
    return _by_lists(folder, on_disk, lists) if lists else _by_folds(folder, on_disk)


def _clips(folder: Path) -> dict[str, str]:
    """Stem → file name, without the hidden files that some archives have."""
    names = sorted(name for name in names_in(folder) if not name.startswith("."))
    return {Path(name).stem: name for name in names if Path(name).suffix.lower() in SUFFIXES}


def _by_lists(folder: Path, on_disk: dict[str, dict[str, str]], lists: list[Path]) -> Task:
    paths: list[str] = []
    genres: list[str] = []
    parts = []
    for file in lists:
        entries = [PurePosixPath(row[0].strip()) for row in read_lines("gtzan", file)]
        named = [entry.name.split(".")[0] for entry in entries]
        class_numbers("gtzan", file, named, GENRES)
        parts.append(np.arange(len(paths), len(paths) + len(entries)))
        genres += named
        # the lists say .wav, also where the clips are .au
        paths += [
            str(folder / genre / on_disk[genre].get(entry.stem, entry.name))
            for genre, entry in zip(named, entries, strict=True)
        ]
    sizes = tuple(len(part) for part in parts)
    notes = ["Split: fault-filtered lists, {}/{}/{} clips.".format(*sizes)]
    if sizes != LIST_SIZES:
        notes.append("The published lists have {}/{}/{}.".format(*LIST_SIZES))
    labels = np.array(class_numbers("gtzan", folder, genres, GENRES))
    return make_task(
        "gtzan", "single", GENRES, paths, labels, [Split(*parts)],
        unit_seconds=UNIT_SECONDS, fold_names=["filtered"], notes=notes,
    )  # fmt: skip


def _by_folds(folder: Path, on_disk: dict[str, dict[str, str]]) -> Task:
    found = [(genre, name) for genre in GENRES for name in on_disk[genre].values()]
    labels = np.array([GENRES.index(genre) for genre, _ in found])
    splits, folds = split_by_fold(labels, stratified_folds(labels, FOLDS, GENRES))
    notes = [
        f"Split: {FOLDS} stratified folds, because {LISTS[0]} is not there: artists are on both sides, so scores "
        "are higher than with the fault-filtered lists that papers report."
    ]
    if len(found) != CLIPS:
        notes.append(f"{len(found)} clips were found; the corpus has {CLIPS}.")
    paths = [str(folder / genre / name) for genre, name in found]
    return make_task(
        "gtzan", "single", GENRES, paths, labels, splits,
        unit_seconds=UNIT_SECONDS, fold_names=folds, notes=notes,
    )  # fmt: skip
