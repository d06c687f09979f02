"""A small collection, and a database filled with vectors that are known."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from helpers.sound_files import write_sound
from matpac.search.database import DatabaseSettings, SoundDatabase
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


def rows_of(names: Sequence[str], vectors: np.ndarray, duration: float = 1.0) -> pa.Table:
    """A row a name."""
    count, width = vectors.shape
    return pa.table(
        {
            "path": list(names),
            "start": np.zeros(count),
            "end": np.full(count, duration),
            "duration": np.full(count, duration),
            "size": pa.array([1] * count, pa.int64()),
            "modified": pa.array([2] * count, pa.int64()),
            "tags": pa.array([[]] * count, pa.list_(pa.string())),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), width),
        }
    )


def fill(writer: DatabaseWriter, vectors: np.ndarray, first: int = 0) -> None:
    """Sounds named by their numbers; the table is made where it is not there."""
    if writer.found is None:
        writer.create(DatabaseSettings("none", "0", vectors.shape[1]))
    writer.replace(rows_of([f"/sounds/{first + number}.wav" for number in range(len(vectors))], vectors))


def stored(path: Path, vectors: np.ndarray) -> SoundDatabase:
    """A new database of these vectors."""
    with writing(path) as writer:
        fill(writer, vectors)
        return writer.database
