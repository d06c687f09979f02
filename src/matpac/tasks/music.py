"""Public corpora of music: where their metadata lies, and which columns say clip, tags and split."""

import os
from pathlib import Path, PurePosixPath

import numpy as np

from matpac.data.tables import TextLayout, read_table
from matpac.tasks.metadata import (
    first_folder,
    label_matrix,
    metadata_file,
    official_fold,
    read_metadata,
    require_among,
)
from matpac.tasks.splits import split_by_fold, stratified_folds
from matpac.tasks.task import Fold, Task, TaskError, names_in

GENRES = ["blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock"]
GTZAN_FOLDERS = ("genres", "genres_original", "Data/genres_original", "")
GTZAN_SUFFIXES = {".wav", ".au"}
GTZAN_LISTS = ("train_filtered.txt", "valid_filtered.txt", "test_filtered.txt")
GTZAN_SIZES = (443, 197, 290)
GTZAN_CLIPS = 1000
GTZAN_FOLDS = 10
MTT_TOP = 50
MTT_PARTS = ("0123456789ab", "c", "def")
"""Folders of train, validation and test."""
MTT_FOLDERS = ("", "mp3", "audio")
MTG_COLUMNS = ("TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION", "TAGS")
MTG_FOLDERS = ("audio", "mp3", "audio-low", "")
MTG_SPLITS = ("splits/split-0", "data/splits/split-0", "split-0")


def read_gtzan(root: Path) -> Task:
    """GTZAN (Tzanetakis and Cook 2002): 1,000 clips of 30 s, 10 genres, with repeats and faults.

    `genres/<genre>/*.wav` (or `genres_original/`, or `.au`). The fault-filtered lists (Kereliuk, Sturm and Larsen
    2015) keep artists apart and omit bad clips; they are used where they lie in `root`. Without them ten
    stratified folds are drawn, and scores are higher: pieces of one artist are on both sides.

    Raises:
        TaskError: no folder of genres, a genre without clips, or lists that are not all there.
    """
    folder = first_folder(root, GTZAN_FOLDERS, GENRES[0])
    files: dict[str, dict[str, str]] = {}  # genre → stem → name; some archives have hidden files
    for genre in GENRES:
        names = sorted(name for name in names_in(folder / genre) if not name.startswith("."))
        files[genre] = {Path(name).stem: name for name in names if Path(name).suffix.lower() in GTZAN_SUFFIXES}
        if not files[genre]:
            raise TaskError(
                f"gtzan: no sound of genre {genre} in {folder / genre} (.wav or .au); give the folder that holds "
                "genres/ or genres_original/"
            )
    absent = [name for name in GTZAN_LISTS if not (root / name).is_file()]
    if 0 < len(absent) < len(GTZAN_LISTS):
        raise TaskError(f"gtzan: {', '.join(absent)} is not in {root}: add it, or remove the other lists")
    if absent:
        clips = [(genre, name) for genre in GENRES for name in files[genre].values()]
        labels = np.array([GENRES.index(genre) for genre, _ in clips])
        folds = split_by_fold(labels, stratified_folds(labels, GTZAN_FOLDS, GENRES))
        notes = [
            f"Split: {GTZAN_FOLDS} stratified folds, because {GTZAN_LISTS[0]} is not there: artists are on both "
            "sides, so scores are higher than with the fault-filtered lists that papers report."
        ]
        if len(clips) != GTZAN_CLIPS:
            notes.append(f"{len(clips)} clips were found; the corpus has {GTZAN_CLIPS}.")
    else:
        lists = [read_table(root / name, ["clip"], layout=TextLayout(header=("clip",))) for name in GTZAN_LISTS]
        clips = []
        for table in lists:
            listed = list(map(PurePosixPath, table.texts("clip")))
            genres = [clip.name.split(".")[0] for clip in listed]
            require_among(table, "genre", genres, GENRES)
            # the lists say .wav, also where the clips are .au
            clips += [
                (genre, files[genre].get(clip.stem, clip.name)) for genre, clip in zip(genres, listed, strict=True)
            ]
        labels = np.array([GENRES.index(genre) for genre, _ in clips])
        sizes = tuple(map(len, lists))
        folds = [official_fold(sizes, "filtered")]
        notes = ["Split: fault-filtered lists, {}/{}/{} clips.".format(*sizes)]
        if sizes != GTZAN_SIZES:
            notes.append("The published lists have {}/{}/{}.".format(*GTZAN_SIZES))
    paths = [str(folder / genre / name) for genre, name in clips]
    return Task("gtzan", "single", GENRES, paths, labels, folds, 30.0, notes=notes)


def read_magnatagatune(root: Path) -> Task:
    """MagnaTagATune (Law et al. 2009): 25,863 clips of 29 s, the 50 most frequent of 188 tags.

    `annotations_final.csv` (tab-separated) and mp3 in `0/ … f/`, in `root` or in its `mp3/` or `audio/`. The 50
    tags with the most clips of the whole corpus (of equal counts the first name), most frequent first. Synonyms
    ("female voice", "female vocal") are not merged, clips without any of the 50 are kept.
    """
    file = metadata_file(root, "annotations_final.csv")
    table = read_table(file, ["clip_id", "mp3_path"], lambda column: True, TextLayout("\t"))
    tags = sorted(set(table.header) - {"clip_id", "mp3_path"})
    labels = np.array([[cell == "1" for cell in table.columns[tag]] for tag in tags], np.uint8).T
    top = np.argsort(-labels.sum(axis=0, dtype=np.int64), kind="stable")[:MTT_TOP]
    mp3 = table.texts("mp3_path")
    folders = [path.split("/")[0] for path in mp3]
    require_among(table, "folder", folders, "".join(MTT_PARTS))
    fold = Fold(*(np.flatnonzero(np.isin(folders, list(part))) for part in MTT_PARTS), name="folders")
    base = first_folder(root, MTT_FOLDERS, folders[0])
    notes = [
        f"The {MTT_TOP} most frequent of {len(tags)} tags, synonyms not merged; clips without any of them are "
        "kept (some papers drop them)."
    ]
    return Task(
        "mtt", "multi", [tags[tag] for tag in top], [f"{base}{os.sep}{path}" for path in mp3],
        np.ascontiguousarray(labels[:, top]), [fold], 29.0, notes=notes,
    )  # fmt: skip


def read_mtg(name: str, subset: str, root: Path) -> Task:
    """MTG-Jamendo (Bogdanov et al. 2019): 55,701 tracks; genre, instrument, mood/theme and top-50 tags, split-0.

    `splits/split-0/autotagging_<subset>-{train,validation,test}.tsv` (also below `data/`), mp3 in `00/ … 99/`, in
    `root`, or in its `audio/`, `mp3/` or `audio-low/`; `14/214.low.mp3` passes for `14/214.mp3`. Classes are all
    tags of the three files, sorted; `genre---rock` is `rock` where all tags are of one category.
    """
    tables = [
        read_metadata(
            root,
            [f"{folder}/autotagging_{subset}-{part}.tsv" for folder in MTG_SPLITS],
            MTG_COLUMNS,
            TextLayout(tail=True),
        )
        for part in ("train", "validation", "test")
    ]
    tags = sorted({tag for table in tables for named in table.columns["TAGS"] for tag in named})
    labels = label_matrix(tables, lambda table: table.columns["TAGS"], tags)
    one_category = len({tag.split("---")[0] for tag in tags}) == 1
    classes = [tag.split("---")[-1] for tag in tags] if one_category else tags
    paths = _mtg_files(root, [path for table in tables for path in table.texts("PATH")])
    return Task(name, "multi", classes, paths, labels, [official_fold([*map(len, tables)], "split-0")], 30.0)


def _mtg_files(root: Path, paths: list[str]) -> list[str]:
    """The tracks' files, with the name that they have there."""
    folders = {path.split("/")[0] for path in paths}
    base = next(
        (root / name for name in MTG_FOLDERS if folders & names_in(root / name)),
        first_folder(root, MTG_FOLDERS, "00"),
    )
    there = {folder: names_in(base / folder) for folder in folders}
    found = []
    for path in paths:
        folder, name = os.path.split(path)
        low = name.removesuffix(".mp3") + ".low.mp3"
        file = low if name not in there[folder] and low in there[folder] else name
        found.append(os.path.join(base, folder, file))  # noqa: PTH118
    return found
