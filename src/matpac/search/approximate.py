"""The approximate index of vectors: made above a number of rows, its recall measured against exact search.

IVF_RQ: vectors in cells by k-means, in each cell a bit a dimension (RaBitQ), and the best candidates computed anew
from the vectors themselves. Of LanceDB's indices it is built fastest by far and loses least (docs/search.md).
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from matpac.search.database import SoundDatabase, column
from matpac.search.writer import DatabaseWriter

ROWS = 20_000
"""From so many rows on, unless told otherwise. Ours: exact search stays within tenths of a second below."""

NEAREST = 10
"""Of how many nearest rows recall is the share found: recall@10."""

QUERIES = 32
"""Rows that recall is measured with, drawn by chance; ours: one pass over the vectors finds the nearest of all."""

AIM = 0.95
"""Recall that a search is set up for; ours."""

SEARCHES = ((20, 10), (50, 20), (100, 50), (400, 100))
"""Cells looked into, and candidates for a row asked for that are computed anew; the first that reaches the aim is
kept. 20 is LanceDB's own number of cells; the others are ours."""

GROWN = 2.0
"""How much larger than when it was trained a table is when the index is trained anew; ours."""

UNINDEXED = 0.1
"""Share of rows that wait outside the index, searched exactly, before they are brought in; ours."""

FRAGMENTS = 20
"""Small files that the table may consist of before they are merged: LanceDB's advice."""


@dataclass(frozen=True)
class Approximate:
    """An index, and what it was measured to be worth.

    Args:
        trained: rows when its cells were found.
        rows: of the table when recall was measured.
        cells, refine: of a search, see `SEARCHES`.
        recall: share of the ten nearest rows of exact search that it finds.
        seconds: that training took.
    """

    trained: int
    rows: int
    cells: int
    refine: int
    recall: float
    seconds: float

    def __str__(self) -> str:
        return (
            f"approximate index of {self.rows:,} vectors: recall@{NEAREST} {self.recall:.3f} against exact search "
            f"({min(QUERIES, self.rows)} of them as queries), trained in {self.seconds:.1f} s"
        )


def approximate_of(database: SoundDatabase) -> Approximate | None:
    """The index that a database is searched with; None where that is exact."""
    note = database.note().get("approximate")
    return None if note is None else Approximate(**note)


def keep_up(
    writer: DatabaseWriter,
    above: int,
    changed: bool = True,
    say: Callable[[str], object] = lambda text: None,
) -> Approximate | None:
    """After rows were written: make, extend, train anew or drop the index, merge files, and measure.

    Args:
        writer: of the database.
        above: rows from which on there is an index.
        changed: whether rows were written or taken out since recall was measured.
        say: is told of training, which takes minutes for millions of rows.
    """
    database = writer.database
    rows, index = database.count(), approximate_of(database)
    if database.fragments() >= FRAGMENTS or (index is not None and database.unindexed() > UNINDEXED * rows):
        writer.tidy()
    if rows < max(above, 1):
        if index is not None:
            writer.drop_index()
            writer.write_note({"approximate": None})
        return None
    if index is None or rows >= GROWN * index.trained:
        say(f"{database.path}: training an approximate index of {rows:,} vectors")
        began = time.monotonic()
        writer.create_index(_kind(database.settings.width))
        trained, seconds = rows, time.monotonic() - began
    elif not changed:
        return index
    else:
        trained, seconds = index.trained, index.seconds
    cells, refine, recall = measure(database)
    index = Approximate(trained, rows, cells, refine, recall, seconds)
    writer.write_note({"approximate": asdict(index)})
    return index


def _kind(width: int) -> Any:
    from lancedb.index import IvfRq, IvfSq

    kind = IvfRq if width % 8 == 0 else IvfSq  # a bit a dimension makes whole bytes, or LanceDB refuses
    return kind(distance_type="cosine")


def measure(database: SoundDatabase, seed: int = 0) -> tuple[int, int, float]:
    """Cells, candidates and recall@10 of the first of `SEARCHES` that reaches the aim, or of the last one.

    Queries are rows of the table; that each finds itself does not count.
    """
    rows = database.count()
    drawn = np.sort(np.random.default_rng(seed).choice(rows, min(QUERIES, rows), replace=False))
    queries = database.take(drawn.tolist())
    vectors, own = column(queries, "vector"), queries["_rowid"].to_numpy()
    near = exact_nearest(database, vectors, NEAREST + 1)
    found = (0, 0, 0.0)
    for cells, refine in SEARCHES:
        hits = wanted = 0
        for vector, row, truth in zip(vectors, own, near, strict=True):
            search = database.nearest(vector, NEAREST + 1, (cells, refine)).with_row_id(True)
            rows_found = search.select(["_distance"]).to_arrow()["_rowid"].to_numpy()
            others = truth[truth != row][:NEAREST]
            hits += len(np.intersect1d(rows_found, others))
            wanted += len(others)
        found = (cells, refine, hits / max(1, wanted))
        if found[2] >= AIM:
            break
    return found


def exact_nearest(
    database: SoundDatabase, queries: Float32[np.ndarray, "query width"], count: int
) -> Int64[np.ndarray, "query near"]:
    """Row ids of the nearest rows by cosine, best first, in one pass over all vectors."""
    directions = _directions(queries)
    best = np.full((len(queries), 0), -np.inf, np.float32)
    ids = np.empty((len(queries), 0), np.int64)
    for batch in database.vectors():
        rows = column(batch, "vector")
        cosines = directions @ _directions(rows).T
        best = np.concatenate([best, cosines], axis=1)
        new = np.broadcast_to(batch["_rowid"].to_numpy().astype(np.int64), cosines.shape)
        ids = np.concatenate([ids, new], axis=1)
        order = np.argsort(-best, axis=1, kind="stable")[:, :count]
        best, ids = np.take_along_axis(best, order, axis=1), np.take_along_axis(ids, order, axis=1)
    return ids


def _directions(vectors: Float32[np.ndarray, "row width"]) -> Float32[np.ndarray, "row width"]:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(norms, np.finfo(np.float32).tiny)  # zeros are like nothing
