"""Files that name classes: AudioSet's `class_labels_indices.csv`, or a text file with one name per line."""

from pathlib import Path

from matpac.data.tables import TableError, read_table

COLUMNS = ("mid", "display_name")
"""Columns of AudioSet's file that count; its column `index` is another order than that of the published head."""


def read_label_file(path: str | Path) -> list[str]:
    """Names in the order of a head's classes.

    AudioSet's file gives them sorted by `mid` (`read_audioset_labels`), any other file line by line; empty lines
    at its end are ignored.

    Raises:
        TableError: not readable, no names, or an empty one.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except UnicodeDecodeError as error:
        raise TableError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise TableError(f"{path}: can't be read ({error.strerror}); check the path") from error
    if lines and set(COLUMNS) <= set(lines[0].replace('"', "").split(",")):
        return list(read_audioset_labels(path).values())
    names = [line.strip() for line in lines]
    if "" in names or not names:
        where = f"line {names.index('') + 1} is empty" if names else "it is empty"
        raise TableError(f"{path}: {where}; it needs one class name per line, in the order of the head's classes")
    return names


def read_audioset_labels(path: Path) -> dict[str, str]:
    """AudioSet's classes as mid → display name, sorted by mid: the order of the published tagger's head.

    Raises:
        TableError: not readable, other columns, no rows, or a mid or a name is missing, or a mid is there twice.
    """
    table = read_table(path, COLUMNS)
    mids, names = map(table.texts, COLUMNS)
    labels = dict(sorted(zip(mids, names, strict=True)))
    if len(labels) < len(mids):
        mid = next(mid for mid in labels if mids.count(mid) > 1)
        raise TableError(f"{path}: class {mid!r} is there twice; download the file again")
    return labels
