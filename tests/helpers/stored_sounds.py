"""A small collection, and a database filled with vectors that are known."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from helpers.sound_files import write_sound
from matpac.search.database import DatabaseSettings, SoundDatabase, row_schema
from matpac.search.writer import DatabaseWriter, writing


def make_collection(root: Path) -> dict[str, Path]:
    """Five sounds in folders of their classes, with names that are hard to quote; name → path."""
    names = ["dog/it's a dog.wav", 'dog/"bark".wav', "cat/night/100%.wav", "cat/ünder_score.wav", "loose; --.wav"]
    return {name: write_sound(root / name, 16_000, 0.5 + 0.2 * seed, seed=seed) for seed, name in enumerate(names)}


def clusters(rows: int, width: int, seed: int = 0) -> np.ndarray:
    """Vectors around some centres."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((20, width))
    return (centres[rng.integers(20, size=rows)] + 0.3 * rng.standard_normal((rows, width))).astype(np.float32)


def rows_of(names: Sequence[str], vectors: np.ndarray, start: float | np.ndarray = 0.0) -> pa.Table:
    """One row per name, of 1 s."""
    count, width = vectors.shape
    places = np.zeros(count) + start
    columns = [list(names), places, places + 1.0, np.ones(count), [1] * count, [2] * count, [[]] * count]
    columns.append(pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), width))
    schema = row_schema(width)
    return pa.table(dict(zip(schema.names, columns, strict=True)), schema=schema)


def fill(writer: DatabaseWriter, vectors: np.ndarray, first: int = 0) -> None:
    """Sounds named by their numbers, in a table that is made if need be."""
    if writer.found is None:
        writer.create(DatabaseSettings("none", "0", vectors.shape[1]))
    writer.replace(rows_of([f"/sounds/{first + number}.wav" for number in range(len(vectors))], vectors))


def stored(path: Path, vectors: np.ndarray) -> SoundDatabase:
    """A new database of these vectors."""
    with writing(path) as writer:
        fill(writer, vectors)
        return writer.database
