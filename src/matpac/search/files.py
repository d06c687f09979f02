"""Which files a database should hold, and what differs from those that it holds."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from matpac.audio import find_audio
from matpac.errors import Skipped


@dataclass(frozen=True)
class FileState:
    """What a file was like when it was embedded: bytes, and time of change in ns."""

    size: int
    modified: int
    tags: tuple[str, ...] = ()

    def same_sound(self, other: "FileState") -> bool:
        """Whether the file has not been written to in between."""
        return (self.size, self.modified) == (other.size, other.modified)


@dataclass
class Listing:
    """The sound files of some sources by their absolute paths, and those that can't be listed."""

    sources: list[str]
    files: dict[str, FileState] = field(default_factory=dict)
    left_out: list[Skipped] = field(default_factory=list)


@dataclass
class Differences:
    """What has to be done so that a database holds what is there.

    Args:
        todo: files that are new or changed.
        unchanged: those that are not.
        gone: files of the database that lay below the sources and are no more; none of those of `emptied`.
        below: how many files of the database lie below the sources.
        emptied: sources that list nothing, with how many files of the database lie below each.
    """

    todo: list[str]
    unchanged: list[str]
    gone: list[str]
    below: int
    emptied: dict[str, int]


def list_sounds(sources: Sequence[str | os.PathLike[str]]) -> Listing:
    """The sound files of `sources`, folders searched deep, as they are now. Raises AudioError as `find_audio`."""
    listing = Listing([os.path.abspath(source) for source in sources])  # noqa: PTH100 (links stay what they are)
    for path in map(str, find_audio(listing.sources)):
        try:
            path.encode()
            state = os.stat(path)  # noqa: PTH116 (millions of files)
        except UnicodeEncodeError:
            shown = os.fsencode(path).decode("utf-8", "replace")
            listing.left_out.append(Skipped(shown, "its name is not UTF-8; rename it"))
        except OSError as error:
            listing.left_out.append(Skipped(path, f"{error.strerror}; check the path"))
        else:
            listing.files[path] = FileState(state.st_size, state.st_mtime_ns)
    return listing


def compare(listing: Listing, known: Mapping[str, FileState]) -> Differences:
    """The files that are there against those that a database holds; others than the sources' are not touched."""
    below = [path for path in known if any(_lies_in(path, source) for source in listing.sources)]
    todo, unchanged = [], []
    for path, state in listing.files.items():
        same = path in known and known[path].same_sound(state)
        (unchanged if same else todo).append(path)
    # one that is there and not listed has a suffix of no sound, and was named itself when it was indexed
    gone = [path for path in below if path not in listing.files and not os.path.exists(path)]  # noqa: PTH110
    emptied = _emptied(listing, below)
    gone = [path for path in gone if not any(_lies_in(path, source) for source in emptied)]
    return Differences(todo, unchanged, gone, len(below), emptied)


def _emptied(listing: Listing, below: Sequence[str]) -> dict[str, int]:
    """Sources that list nothing, though files of a database lie below them; how many."""
    listed = [*listing.files, *(item.path for item in listing.left_out)]
    folders = [source for source in listing.sources if source not in listing.files]
    bare = [source for source in folders if not any(_lies_in(path, source) for path in listed)]
    counts = {source: sum(_lies_in(path, source) for path in below) for source in bare}
    return {source: count for source, count in counts.items() if count}


def _lies_in(path: str, source: str) -> bool:
    return path == source or path.startswith(source.rstrip(os.sep) + os.sep)
