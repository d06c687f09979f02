"""Files of tags: CSV, JSON lines, and Audacity's label files; written whole or not at all."""

import csv
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

from matpac.atomic import written_whole
from matpac.errors import MatpacError
from matpac.tag.sounds import TaggedSound

TAG_COLUMNS = ("path", "duration", "rank", "label", "probability")
SEGMENT_COLUMNS = ("path", "start", "end", "label", "peak", "mean")

PLACES = 4
"""Decimals of seconds and probabilities in tables and JSON; default; 0.1 ms is finer than any frame."""

LABEL_SUFFIX = ".txt"
"""Suffix of Audacity's label files (its manual, Importing and Exporting Labels): start, end in seconds, and text,
separated by tabs."""

SURROGATE = re.compile("[\ud800-\udfff]")
"""What Python puts in place of a byte that is not UTF-8."""

Write = Callable[[TaggedSound], None]


def is_audacity(output: str) -> bool:
    """Whether an output is a label file, or a folder of them: an existing one, or a name without suffix."""
    path = Path(output)
    return (
        path.suffix.lower() == LABEL_SUFFIX or output.endswith(("/", os.sep)) or path.is_dir() or not path.suffix
    )


@contextmanager
def open_output(output: str, paths: Sequence[Path], timeline: bool) -> Iterator[Write]:
    """A function that writes one sound after another; files appear under their names when all are written.

    Args:
        output: tags.csv, tags.jsonl, labels.txt (of one sound), or a folder for one label file per sound.
        paths: the sounds that will be written, to name label files after.
        timeline: whether they have segments, or tags.

    Raises:
        MatpacError: another suffix, label files without a timeline, one for several sounds, or no such folder.
    """
    path = Path(output)
    suffix = path.suffix.lower()
    if is_audacity(output):
        if not timeline:
            raise MatpacError(f"{output}: Audacity's labels have times; add --timeline, or name a .csv or .jsonl")
        if suffix != LABEL_SUFFIX or path.is_dir():
            yield _label_folder(path, paths)
            return
        if len(paths) > 1:
            raise MatpacError(f"{output}: a label file holds one sound, and there are {len(paths)}; name a folder")
    kinds = {".csv": _csv, ".jsonl": _json_lines, LABEL_SUFFIX: _labels}
    if suffix not in kinds:
        raise MatpacError(
            f"{output}: tags are written as .csv, .jsonl, {LABEL_SUFFIX} (Audacity) or into a folder"
        )
    with whole(path) as file:
        yield kinds[suffix](file, timeline)


@contextmanager
def whole(path: Path) -> Iterator[TextIO]:
    """A text file that appears under its name when the block ends well, and not at all otherwise.

    Raises:
        MatpacError: its folder is not there.
    """
    if not path.parent.is_dir():
        raise MatpacError(f"{path}: there is no folder {path.parent}")
    with written_whole(path) as draft, draft.open("w", encoding="utf-8", newline="") as file:
        yield file


def plain(name: Path | str) -> str:
    """A path or a label as text that any file can hold; names of files need not be UTF-8."""
    return SURROGATE.sub("\N{REPLACEMENT CHARACTER}", str(name))


def _csv(file: TextIO, timeline: bool) -> Write:
    """One row per tag or segment; a sound without any has no row."""
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(SEGMENT_COLUMNS if timeline else TAG_COLUMNS)

    def number(value: float) -> str:
        return f"{value:.{PLACES}f}"

    def write(sound: TaggedSound) -> None:
        path = plain(sound.path)
        for rank, tag in enumerate(sound.tags, start=1):
            rows.writerow([path, number(sound.duration), rank, plain(tag.label), number(tag.probability)])
        for part in sound.segments:
            numbers = [number(value) for value in (part.start, part.end, part.peak, part.mean)]
            rows.writerow([path, *numbers[:2], plain(part.label), *numbers[2:]])

    return write


def _json_lines(file: TextIO, timeline: bool) -> Write:
    """One object per sound."""

    def cell(value: str | float) -> str | float:
        return plain(value) if isinstance(value, str) else round(value, PLACES)

    def write(sound: TaggedSound) -> None:
        parts = sound.segments if timeline else sound.tags
        found = [{name: cell(value) for name, value in asdict(part).items()} for part in parts]
        line = {"path": plain(sound.path), "duration": cell(sound.duration)}
        file.write(json.dumps({**line, "segments" if timeline else "tags": found}, ensure_ascii=False) + "\n")

    return write


def _labels(file: TextIO, timeline: bool) -> Write:
    """Audacity's format, without tabs and line breaks in labels, which would end them."""

    def write(sound: TaggedSound) -> None:
        for part in sound.segments:
            file.write(f"{part.start:.6f}\t{part.end:.6f}\t{' '.join(plain(part.label).split())}\n")

    return write


def _label_folder(folder: Path, paths: Sequence[Path]) -> Write:
    """One label file per sound, `song.wav.txt`, in the folders of the sounds below their common one."""
    shared = os.path.commonpath([_absolute(path).parent for path in paths])

    def write(sound: TaggedSound) -> None:
        place = folder / _absolute(sound.path).relative_to(shared)
        place.parent.mkdir(parents=True, exist_ok=True)
        with whole(place.with_name(place.name + LABEL_SUFFIX)) as file:
            _labels(file, True)(sound)

    return write


def _absolute(path: Path) -> Path:
    """Absolute and without `..`, which would lead out of the folder that is written to."""
    return Path(os.path.abspath(path))  # noqa: PTH100
