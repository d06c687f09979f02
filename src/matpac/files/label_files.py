"""Files that name classes: AudioSet's `class_labels_indices.csv`, or a text file with a name on every line."""

import csv
from pathlib import Path

from matpac.errors import MatpacError

COLUMNS = ("mid", "display_name")
"""Of AudioSet's file that count; its column `index` is another order than that of the published head."""


class LabelFileError(MatpacError):
    """A file of class names that can't be used; the message names it and says why."""


def read_label_file(path: str | Path) -> list[str]:
    """Names in the order of a head's classes.

    AudioSet's file gives them sorted by `mid` (`read_audioset_labels`), any other one line by line; empty lines
    at its end are none.

    Raises:
        LabelFileError: not readable, no names, or an empty one.
    """
    path = Path(path)
    lines = _text(path).rstrip().splitlines()
    if lines and set(COLUMNS) <= set(lines[0].replace('"', "").split(",")):
        return list(read_audioset_labels(path).values())
    names = [line.strip() for line in lines]
    if "" in names or not names:
        where = f"line {names.index('') + 1} is empty" if names else "it is empty"
        raise LabelFileError(
            f"{path}: {where}; it needs one class name a line, in the order of the head's classes"
        )
    return names


def read_audioset_labels(path: Path) -> dict[str, str]:
    """AudioSet's classes as mid → display name, sorted by mid: the order of the published tagger's head.

    Raises:
        LabelFileError: not readable, other columns, no rows, or a mid is empty or there twice.
    """
    try:
        rows = list(csv.DictReader(_text(path).splitlines()))
    except csv.Error as error:
        raise LabelFileError(f"{path}: not a table ({error}); look for a quote that is not closed") from error
    if not rows or not set(COLUMNS) <= rows[0].keys():
        raise LabelFileError(
            f"{path}: not AudioSet's class_labels_indices.csv (index,mid,display_name); replace it"
        )
    labels: dict[str, str] = {}
    for row in rows:
        mid, name = row["mid"], row["display_name"]
        if not mid or not name or mid in labels:
            raise LabelFileError(
                f"{path}: class {mid!r} ({name!r}) is incomplete or there twice; replace the file"
            )
        labels[mid] = name
    return dict(sorted(labels.items()))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise LabelFileError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise LabelFileError(f"{path}: can't be read ({error.strerror}); check the path") from error
