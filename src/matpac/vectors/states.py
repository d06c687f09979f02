"""Which sound files are there, and what differs from those that a store holds the vectors of."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from matpac.audio import find_audio, may_be_read


@dataclass(frozen=True)
class FileState:
    """What a file was like when it was embedded.

    Args:
        size: in bytes.
        modified: time of change in ns since the epoch.
    """

    size: int
    modified: int

    def is_same(self, other: "FileState") -> bool:
        """Whether the file was not written to in between."""
        return (self.size, self.modified) == (other.size, other.modified) and self.size >= 0


UNREADABLE = FileState(-1, -1)
"""A file that is not there or may not be read; it is never the same, since permission leaves size and time."""


def file_state(path: str | Path) -> FileState:
    """What a file is like now, or `UNREADABLE`."""
    try:
        found = os.stat(path)  # noqa: PTH116 (millions of files)
    except OSError:
        return UNREADABLE
    return FileState(found.st_size, found.st_mtime_ns) if may_be_read(path, found.st_mode) else UNREADABLE


def path_text(path: str | os.PathLike[str]) -> str:
    r"""A path as text that any file can hold; `text_path` gives it back.

    Names need not be UTF-8: a byte that is not becomes \udcXX, as in JSON. In such a name, and in one that holds
    the letters \udc itself, every other backslash is doubled, so that no two paths have the same text.
    """
    name = os.fspath(path)
    if name.isascii() and "\\udc" not in name:
        return name
    try:
        name.encode()
        if "\\udc" not in name:
            return name
    except UnicodeEncodeError:
        pass
    return name.replace("\\", "\\\\").encode("utf-8", "backslashreplace").decode("utf-8")


def text_path(text: str) -> str:
    """The path that `path_text` made this text of."""
    if "\\udc" not in text:
        return text
    return re.sub(r"\\(\\|udc..)", lambda found: "\\" if found[1] == "\\" else chr(int(found[1][1:], 16)), text)


@dataclass
class Listing:
    """The sound files of some sources.

    Args:
        sources: files and folders.
        files: by their paths as text, in order.
    """

    sources: list[str]
    files: dict[str, FileState] = field(default_factory=dict)


def list_sounds(sources: Sequence[str | os.PathLike[str]]) -> Listing:
    """The sound files of `sources`, folders searched recursively. Raises AudioError as `find_audio`."""
    listing = Listing([os.fspath(source) for source in sources])
    for path in find_audio(listing.sources):
        listing.files[path_text(path)] = file_state(path)
    return listing


@dataclass
class Differences:
    """What has to be done so that a store holds what is there.

    Args:
        new: files that it does not know.
        changed: files that were written to since.
        unchanged: files that were not.
        gone: known files below the sources that are no longer there; none of those of `emptied`.
        below: how many known files lie below the sources.
        emptied: sources that list nothing, each with the number of known files below it.
    """

    new: list[str]
    changed: list[str]
    unchanged: list[str]
    gone: list[str]
    below: int
    emptied: dict[str, int]

    @property
    def todo(self) -> list[str]:
        """Files to embed, new or changed."""
        return self.new + self.changed


def compare(listing: Listing, known: Mapping[str, FileState]) -> Differences:
    """The files that are there against those that a store knows; files of other sources are ignored."""
    places = {path: os.path.abspath(text_path(path)) for path in known}  # noqa: PTH100 (links stay what they are)
    sources = {source: os.path.abspath(source) for source in listing.sources}  # noqa: PTH100
    below = [path for path, place in places.items() if any(_lies_in(place, source) for source in sources.values())]
    new, changed, unchanged = [], [], []
    for path, state in listing.files.items():
        before = known.get(path)
        (new if before is None else unchanged if before.is_same(state) else changed).append(path)
    emptied = {}
    for source, place in sources.items():
        if os.path.isdir(place) or not os.path.exists(place):  # noqa: PTH110, PTH112
            listed = any(_lies_in(os.path.abspath(text_path(path)), place) for path in listing.files)  # noqa: PTH100
            count = 0 if listed else sum(_lies_in(places[path], place) for path in below)
            if count:
                emptied[source] = count
    spared = [sources[source] for source in emptied]
    # one that is there and not listed has no sound's suffix, and was named itself when it was embedded
    gone = [
        path
        for path in below
        if path not in listing.files
        and not os.path.exists(places[path])  # noqa: PTH110
        and not any(_lies_in(places[path], source) for source in spared)
    ]
    return Differences(new, changed, unchanged, gone, len(below), emptied)


def _lies_in(path: str, source: str) -> bool:
    return path == source or path.startswith(source.rstrip(os.sep) + os.sep)
