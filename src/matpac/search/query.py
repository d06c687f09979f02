"""Queries: what in a database is like a sound."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from matpac.audio import AudioError, blocks
from matpac.errors import reason_of
from matpac.model.embedder import Embedder
from matpac.search.database import COLUMNS, SearchError, SoundDatabase, first_line, named_errors
from matpac.search.encoder import SearchEncoder
from matpac.search.writer import ROWS

TOP = 10
"""Matches; default; a screen of them."""

SHOWN = ("path", "start", "end", "duration", "tags")
"""Columns that a match shows."""


@dataclass(frozen=True)
class Match:
    """A sound, or a window of one, that is like the query.

    Args:
        similarity: cosine of their vectors; 1 is the same direction.
        path: of the file, as text (`matpac.vectors.states.text_path` undoes it where a name is not UTF-8).
        start, end: of the window, in seconds; 0 and the duration in a database of whole sounds.
        duration: of the file, in seconds.
        tags: of the row.
    """

    similarity: float
    path: str
    start: float
    end: float
    duration: float
    tags: tuple[str, ...]


class Searcher:
    """A database and the encoder that made it, ready for any number of queries.

    It sees what other processes write.

    Args:
        database: the folder.
        encoder: what `open_encoder` takes, or an encoder; None for the one that the database stores. It is opened
            and verified with the first query that is a sound.
        device: where it computes.

    Raises:
        SearchError: there is no database, or an empty one.
    """

    def __init__(self, database: str | Path, encoder: str | Embedder | None = None, device: str = "cpu"):
        self.database = SoundDatabase.open(database)
        self._encoder, self._device = encoder, device

    @cached_property
    def embedder(self) -> Embedder:
        """The encoder. Raises SearchError if it is not the database's, or not available."""
        database = self.database
        return SearchEncoder.reopen(database.path, database.settings, self._encoder, self._device).embedder

    def similar(
        self,
        sound: str | Path | np.ndarray | Tensor,
        sample_rate: int | None = None,
        top: int = TOP,
        where: str | None = None,
    ) -> list[Match]:
        """The most similar sounds, best first.

        Args:
            sound: a file, read block by block, or a mono waveform [samples].
            sample_rate: of the waveform, in Hz.
            top: number of matches, at most.
            where: a condition in SQL on path, start, end, duration, size, modified and tags: "duration < 5",
                "array_has(tags, 'dog')", "path LIKE '%/night/%'".

        Raises:
            SearchError: an invalid condition, a `top` below 1, or as `embedder`.
            AudioError: a sound that can't be read, or is shorter than one window of the log-mel.
        """
        embedder = self.embedder
        if isinstance(sound, (str, Path)):
            clips: Iterable[Iterable[np.ndarray]] = [blocks(sound, sample_rate=embedder.sample_rate)]
            try:
                return self.nearest(next(embedder.scenes(clips)), top, where)
            except AudioError as error:
                raise AudioError(f"{sound}: {reason_of(error, str(sound))}") from error
        if sample_rate is None:
            raise SearchError("a waveform needs its sample_rate; give it in Hz")
        if sound.ndim != 1:
            raise SearchError(f"a query of shape {list(sound.shape)}: one mono waveform [samples] is needed")
        return self.nearest(embedder.scene(sound, sample_rate)[0], top, where)

    def nearest(
        self,
        vector: Float[Tensor, " width"] | Float[np.ndarray, " width"],
        top: int = TOP,
        where: str | None = None,
    ) -> list[Match]:
        """As `similar`, for a vector of the database's encoder."""
        path, width = self.database.path, self.database.settings.width
        if top < 1:
            raise SearchError(f"top {top}: ask for at least 1 match")
        vector = torch.as_tensor(vector, dtype=torch.float32, device="cpu").detach()
        if len(vector) != width or not torch.isfinite(vector).all():
            raise SearchError(f"{path}: a query is {width} finite numbers, not {len(vector)}, NaN or infinity")
        approximate = self.database.trained() > 0
        if where is not None and self._count(where) <= ROWS:
            approximate = False  # the index might miss the few rows that the condition leaves
        most = max(1, min(top, self.database.count()))
        query = self.database.nearest(vector.numpy(), most, approximate)
        if where is not None:
            query = query.where(where)
        with named_errors(path):
            rows = query.select([*SHOWN, "_distance"]).to_list()
        return [
            Match(1.0 - row["_distance"], **{name: row[name] for name in SHOWN[:-1]}, tags=tuple(row["tags"]))
            for row in rows
        ]

    def _count(self, where: str) -> int:
        """Number of rows that meet a condition. Raises SearchError if it is invalid."""
        if not where.strip():
            raise SearchError("where: an empty condition; omit it for all sounds")
        try:
            return self.database.count(where)
        except (ValueError, RuntimeError) as error:
            reason = first_line(error).split(" Valid fields are")[0].rstrip(".")
            raise SearchError(f"where {where!r}: {reason}; columns are {', '.join(COLUMNS)}") from error
