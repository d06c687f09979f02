"""The approximate index of vectors: its upkeep, and results that are those of exact search."""

from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.stored_sounds import clusters, fill
from matpac.search.database import SoundDatabase
from matpac.search.query import Searcher
from matpac.search.writer import FRAGMENTS, writing


def cosines(queries: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """[query, row], from the definition."""
    return np.array([[q @ v / np.sqrt((q @ q) * (v @ v)) for v in vectors] for q in queries])


@pytest.mark.parametrize("width", [16, 12])
def test_an_index_finds_what_exact_search_finds(tmp_path: Path, width: int) -> None:
    """Also of width 12, which LanceDB's first choice of index refuses."""
    both = clusters(1_520, width)
    vectors, queries = both[:1_500], both[1_500:]
    with writing(tmp_path / "db") as writer:
        fill(writer, vectors)
        writer.keep_index(1_000)
    database = SoundDatabase.open(tmp_path / "db")
    assert database.trained() == 1_500
    assert "ANN" in database.nearest(vectors[0], 10, approximate=True).explain_plan()
    hits = 0
    searcher = Searcher(tmp_path / "db")
    for query, row in zip(queries, cosines(queries, vectors), strict=True):
        matches = searcher.nearest(torch.tensor(query))
        nearest = {f"/sounds/{number}.wav": row[number] for number in np.argsort(-row)[:10]}
        hits += sum(match.path in nearest for match in matches)
        for match in matches:
            assert match.similarity == pytest.approx(nearest.get(match.path, match.similarity), abs=1e-5)
    assert hits / 200 >= 0.9


def test_upkeep(tmp_path: Path) -> None:
    path = tmp_path / "db"

    def after(above: int, more: int = 0, first: int = 0) -> tuple[int, int]:
        """Rows at the last training, and rows outside the index."""
        with writing(path) as writer:
            if more:
                fill(writer, clusters(more, 16, seed=first), first)
            writer.keep_index(above)
        database = SoundDatabase.open(path)
        return database.trained(), database.unindexed()

    assert after(400, more=300) == (0, 300)
    assert after(400, more=200, first=300) == (500, 0)
    assert after(400, more=20, first=500) == (500, 20)  # searched exactly until they are many
    assert after(400, more=180, first=520) == (500, 0)
    assert after(400, more=300, first=700) == (1_000, 0)
    assert after(2_000) == (0, 1_000)
    assert not SoundDatabase.open(path).table.list_indices()


def small_files(database: SoundDatabase) -> int:
    return database.table.stats()["fragment_stats"]["num_small_fragments"]


def test_small_files_are_merged(tmp_path: Path) -> None:
    path = tmp_path / "db"
    for number in range(FRAGMENTS):
        with writing(path) as writer:
            fill(writer, clusters(2, 8, seed=number), 2 * number)
            assert small_files(writer.database) == number + 1
            writer.keep_index(1_000)
    database = SoundDatabase.open(path)
    assert (small_files(database), database.count()) == (1, 2 * FRAGMENTS)


def test_a_condition_that_leaves_few_rows_is_searched_exactly(tmp_path: Path) -> None:
    vectors = clusters(1_000, 16)
    with writing(tmp_path / "db") as writer:
        fill(writer, vectors)
        writer.keep_index(500)
    assert SoundDatabase.open(tmp_path / "db").trained()
    matches = Searcher(tmp_path / "db").nearest(torch.tensor(vectors[0]), 10, "path LIKE '%99.wav'")
    wanted = [number for number in range(1_000) if str(number).endswith("99")]
    order = sorted(wanted, key=lambda number: -cosines(vectors[:1], vectors[[number]])[0, 0])
    assert [match.path for match in matches] == [f"/sounds/{number}.wav" for number in order]
