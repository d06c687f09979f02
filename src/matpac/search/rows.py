"""Rows on their way to the database: gathered, and written many files at once."""

import time
from collections.abc import Sequence

import numpy as np

from matpac.search.files import FileState
from matpac.search.sounds import Sound
from matpac.search.writer import DatabaseWriter

FLUSH_BYTES = 64 * 2**20
"""Vectors that wait in memory; ours."""

FLUSH_SECONDS = 30.0
"""Work that a killed process loses at most, beside that on its last file; ours."""


class RowWriter:
    """Takes one file after another; those that wait are written at the end, also where that is an error."""

    def __init__(self, writer: DatabaseWriter):
        self._writer = writer
        self._waiting: list[tuple[Sound, FileState, Sequence[Sequence[str]]]] = []
        self._bytes = 0
        self._written = time.monotonic()

    def __enter__(self) -> "RowWriter":
        return self

    def __exit__(self, *error: object) -> None:
        self._flush()

    def add(self, sound: Sound, state: FileState, tags: Sequence[Sequence[str]]) -> None:
        """The rows of a file, with tags for each of them."""
        self._waiting.append((sound, state, tags))
        self._bytes += sound.vectors.nbytes
        if self._bytes >= FLUSH_BYTES or time.monotonic() - self._written >= FLUSH_SECONDS:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._waiting:
            sounds, states, tags = zip(*self._waiting, strict=True)
            repeats = [len(sound.vectors) for sound in sounds]

            def repeat(values: Sequence[object], kind: pa.DataType) -> pa.Array:
                return pa.array(np.repeat(np.array(values), repeats), kind)

            columns = {
                "path": repeat([sound.path for sound in sounds], pa.string()),
                "start": pa.array(np.concatenate([sound.starts for sound in sounds])),
                "end": pa.array(np.concatenate([sound.ends for sound in sounds])),
                "duration": repeat([sound.duration for sound in sounds], pa.float64()),
                "size": repeat([state.size for state in states], pa.int64()),
                "modified": repeat([state.modified for state in states], pa.int64()),
                "tags": pa.array([list(names) for rows in tags for names in rows], pa.list_(pa.string())),
            }
            vectors = np.concatenate([sound.vectors for sound in sounds])
            columns["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
            self._writer.replace(pa.table(columns))
        self._waiting, self._bytes, self._written = [], 0, time.monotonic()
