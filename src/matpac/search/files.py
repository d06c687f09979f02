"""The sound files that a database should hold, by absolute paths, and those that it holds, with their tags."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from matpac.errors import Skipped
from matpac.vectors import states
from matpac.vectors.states import Differences, Listing, compare, text_path

__all__ = ["Differences", "Listing", "TaggedFile", "compare", "list_sounds"]


@dataclass(frozen=True)
class TaggedFile(states.FileState):
    """A file of a database."""

    tags: tuple[str, ...] = ()


def list_sounds(sources: Sequence[str | os.PathLike[str]]) -> Listing:
    """As `matpac.vectors.states.list_sounds`, by absolute paths; a database holds names in UTF-8 alone."""
    listing = states.list_sounds([os.path.abspath(source) for source in sources])  # noqa: PTH100 (links stay)
    for path in [path for path in listing.files if text_path(path) != path]:
        del listing.files[path]
        listing.skipped.append(Skipped(path, "its name is not UTF-8; rename it"))
    return listing
