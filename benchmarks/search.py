"""What does the approximate index of `matpac search` gain, and what does it lose, above 100,000 vectors?

    python benchmarks/search.py [--encoder random:tiny] [--rows 100000] [--folder DIR]

Vectors are made up from real ones: scenes of 200 synthetic sounds by the encoder, each row one of them with noise
of half their deviation, along their own directions. Queries come from 40 other sounds, made so too. Every query is
asked exactly and approximately in turn, so that both times are of one machine at one time; medians. Random
weights: neighbourhoods don't need good ones. With --every-index LanceDB's other kinds of index are compared too.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
from lancedb import index
from rates import machine

from matpac.quickstart.synthetic.corpus import CorpusConfig, plan, render_clip
from matpac.search.database import INDEX, DatabaseSettings, SoundDatabase, row_schema
from matpac.search.encoder import SearchEncoder
from matpac.search.writer import DatabaseWriter, writing

SOUNDS, QUERIES, NEAREST = 200, 40, 10
NOISE = 0.5
BATCH = 5_000
OTHERS = ("IvfSq", "IvfPq", "HnswSq")


def scenes(encoder: str) -> np.ndarray:
    """[240, width]: of synthetic sounds of 3 s."""
    embedder = SearchEncoder.open(encoder).embedder
    clips = plan(CorpusConfig())[: SOUNDS + QUERIES]
    waveforms = [render_clip(clip, 3.0) for clip in clips]
    return embedder.scene(waveforms, embedder.sample_rate).numpy()


class Source:
    """Vectors like some real ones."""

    def __init__(self, real: np.ndarray):
        self.mean, self.rng = real.mean(0), np.random.default_rng(0)
        _, deviations, self.directions = np.linalg.svd(real - self.mean, full_matrices=False)
        self.deviations = deviations / np.sqrt(len(real) - 1)

    def like(self, real: np.ndarray, count: int) -> np.ndarray:
        """So many, each one of the real ones with noise."""
        noise = (self.rng.standard_normal((count, len(self.deviations))) * self.deviations) @ self.directions
        return (real[self.rng.integers(len(real), size=count)] + NOISE * noise).astype(np.float32)


def rows(first: int, vectors: np.ndarray) -> pa.Table:
    """As `matpac index` writes them."""
    count, width = vectors.shape
    return pa.table(
        {
            "path": [f"/sounds/{number}.wav" for number in range(first, first + count)],
            "start": np.zeros(count),
            "end": np.full(count, 3.0),
            "duration": np.full(count, 3.0),
            "size": np.full(count, 96_044),
            "modified": np.full(count, 1),
            "tags": [[]] * count,
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), width),
        },
        schema=row_schema(width),
    )


def compare(database: SoundDatabase, queries: np.ndarray) -> tuple[float, float, float]:
    """Median seconds of exact and approximate search, and recall@10."""

    def ask(query: np.ndarray, approximate: bool) -> tuple[float, set[str]]:
        began = time.perf_counter()
        found = database.nearest(query, NEAREST, approximate).select(["path", "_distance"]).to_list()
        return time.perf_counter() - began, {row["path"] for row in found}

    ask(queries[0], False)
    ask(queries[0], True)
    exact, near, recall = [], [], []
    for query in queries:
        seconds, wanted = ask(query, False)
        exact.append(seconds)
        seconds, found = ask(query, True)
        near.append(seconds)
        recall.append(len(wanted & found) / NEAREST)
    return statistics.median(exact), statistics.median(near), statistics.mean(recall)


def fill(writer: DatabaseWriter, source: Source, real: np.ndarray, count: int) -> float:
    """Write the rows; seconds that it took."""
    writer.create(DatabaseSettings("made up", "0", real.shape[1]))
    seconds = 0.0
    for first in range(0, count, BATCH):
        table = rows(first, source.like(real, min(BATCH, count - first)))
        began = time.perf_counter()
        writer.replace(table)
        seconds += time.perf_counter() - began
    return seconds


def timed(call: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def measure(path: Path, source: Source, real: np.ndarray, queries: np.ndarray, count: int, every: bool) -> None:
    """Fill a database, train, ask, and print it."""
    with writing(path) as writer:
        seconds = fill(writer, source, real, count)
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        print(f"{count:,} vectors of {real.shape[1]}: written in {seconds:.1f} s, {size / 2**20:.0f} MiB")
        table = writer.database.table
        table.optimize()
        print(f"{'index':8} {'trained':>8} {'exact':>10} {'search':>9} {'ratio':>6} {'recall@10':>9}")
        for name in ("IvfRq", *(OTHERS if every else ())):
            kind = getattr(index, name)(distance_type="cosine")
            trained = timed(lambda kind=kind: table.create_index("vector", config=kind, replace=True, name=INDEX))
            exact, near, recall = compare(writer.database, queries)
            times = f"{trained:6.1f} s {1000 * exact:7.1f} ms {1000 * near:6.1f} ms"
            print(f"{name:8} {times} {exact / near:6.0f} {recall:9.3f}", flush=True)


def main() -> None:
    """All of it, in a folder that goes afterwards."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", default="random:tiny")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--every-index", action="store_true")
    parser.add_argument("--folder", help="where the database is made (default: the system's for temporary files)")
    options = parser.parse_args()
    print(machine())
    vectors = scenes(options.encoder)
    real, held_out = vectors[:SOUNDS], vectors[SOUNDS:]
    source = Source(real)
    queries = source.like(held_out, QUERIES)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        measure(Path(folder) / "sounds.lance", source, real, queries, options.rows, options.every_index)


if __name__ == "__main__":
    main()
