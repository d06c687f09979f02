"""The sounds of a database, as the page shows and plays them."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int16

from matpac.audio import SAMPLE_RATE, read_crop
from matpac.report.maps import SoundMap, shown_vectors, sound_map
from matpac.search.database import vectors_of
from matpac.search.query import Searcher
from matpac.vectors.states import text_path

PLAYED = 30.0
"""Seconds that are played of a sound, at most; default; enough to recognise it."""

UNTAGGED = "no tags"
"""Name of sounds without tags in the legend."""


@dataclass(frozen=True)
class Place:
    """A sound, or a window of one.

    Args:
        path: the file.
        start, end: in seconds.
        tags: of the sound or window.
    """

    path: str
    start: float
    end: float
    tags: tuple[str, ...]


def play(path: str, start: float, end: float) -> tuple[int, Int16[np.ndarray, " samples"]]:
    """Rate in Hz and samples of a part of a file, the first 30 s of it at most. Raises AudioError."""
    seconds = min(end - start, PLAYED)
    waveform = read_crop(text_path(path), start, max(1, round(seconds * SAMPLE_RATE)))
    return SAMPLE_RATE, (np.clip(waveform, -1, 1) * np.iinfo(np.int16).max).astype(np.int16)


def draw_map(searcher: Searcher) -> tuple[SoundMap, list[Place]]:
    """The map of a database, coloured by the first tag, and its sounds; a random sample of many rows.

    Raises SearchError if the database can't be read.
    """
    database = searcher.database
    found = database.take(shown_vectors(database.count()).tolist())
    names = ("path", "start", "end", "tags")
    places = [
        Place(path, start, end, tuple(tags))
        for path, start, end, tags in zip(*(found[name].to_pylist() for name in names), strict=True)
    ]
    labels = [place.tags[0] if place.tags else UNTAGGED for place in places]
    return sound_map(vectors_of(found), labels), places
