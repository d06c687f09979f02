"""The index of vectors: measured recall, upkeep, and results that are those of exact search."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.stored_sounds import clusters, fill, stored
from matpac.search import approximate
from matpac.search.approximate import Approximate, approximate_of, exact_nearest, keep_up, measure
from matpac.search.database import SoundDatabase, column
from matpac.search.query import Searcher
from matpac.search.writer import writing


def cosines(queries: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """[query, row], from the definition."""
    return np.array([[q @ v / np.sqrt((q @ q) * (v @ v)) for v in vectors] for q in queries])


@settings(deadline=None, max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.integers(1, 60), count=st.integers(1, 12))
def test_exact_nearest_is_the_largest_cosine(
    tmp_path_factory: pytest.TempPathFactory, rows: int, count: int
) -> None:
    vectors = clusters(rows, 8, seed=rows)
    database = stored(tmp_path_factory.mktemp("exact") / "db", vectors)
    stored_rows = database.table.search().with_row_id(True).limit(None).to_arrow()
    order = stored_rows["_rowid"].to_numpy()
    queries = clusters(4, 8, seed=100)
    found = exact_nearest(database, queries, count)
    expected = order[np.argsort(-cosines(queries, column(stored_rows, "vector")), axis=1)[:, :count]]
    np.testing.assert_array_equal(found, expected)


def test_vectors_of_zeros_are_like_nothing(tmp_path: Path) -> None:
    database = stored(tmp_path / "db", np.array([[0, 0], [1, 1], [-1, 0]], np.float32))
    assert exact_nearest(database, np.array([[2, 2]], np.float32), 1).tolist() == [[1]]


@pytest.mark.parametrize("width", [16, 12])
def test_an_index_finds_what_exact_search_finds(tmp_path: Path, width: int) -> None:
    """Of width 12 too, which LanceDB's first choice of index refuses."""
    both = clusters(1_520, width)
    vectors, queries = both[:1_500], both[1_500:]
    with writing(tmp_path / "db", lambda: None) as writer:
        fill(writer, vectors)
        index = keep_up(writer, 1_000)
    assert index is not None
    assert (index.trained, index.rows) == (1_500, 1_500)
    assert index.recall >= approximate.AIM
    database = SoundDatabase.open(tmp_path / "db")
    assert approximate_of(database) == index
    plan = database.nearest(vectors[0], 10, (index.cells, index.refine)).explain_plan()
    assert "ANN" in plan
    hits = 0
    searcher = Searcher(tmp_path / "db")
    for query, row in zip(queries, cosines(queries, vectors), strict=True):
        matches = searcher.nearest(torch.tensor(query))
        nearest = {f"/sounds/{number}.wav": row[number] for number in np.argsort(-row)[:10]}
        hits += sum(match.path in nearest for match in matches)
        for match in matches:
            assert match.similarity == pytest.approx(nearest.get(match.path, match.similarity), abs=1e-5)
    assert hits / 200 >= 0.9


def test_the_number_of_queries_is_told() -> None:
    assert "(26 of them as queries)" in str(Approximate(26, 26, 20, 10, 1.0, 0.1))
    assert "(32 of them as queries)" in str(Approximate(500, 500, 20, 10, 1.0, 0.1))


def test_recall_is_the_share_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search that looks past every other row has the recall of one that finds half."""
    database = stored(tmp_path / "db", clusters(400, 8))
    monkeypatch.setattr(approximate, "SEARCHES", ((1, 1),))
    nearest = database.nearest

    def half(vector: np.ndarray, top: int, how: tuple[int, int] | None) -> object:
        return nearest(vector, top, None).where("path LIKE '%0.wav' OR path LIKE '%2.wav' OR path LIKE '%4.wav'")

    monkeypatch.setattr(database, "nearest", half)
    cells, refine, recall = measure(database)
    assert (cells, refine) == (1, 1)
    assert 0.1 < recall < 0.5  # three of ten
    monkeypatch.undo()
    monkeypatch.setattr(approximate, "SEARCHES", ((1, 1), (2, 2)))
    assert measure(database) == (1, 1, 1.0)  # no index: exact, and the first search is enough


def test_upkeep(tmp_path: Path) -> None:
    path = tmp_path / "db"

    def now(above: int, changed: bool = True, more: int = 0, first: int = 0) -> Approximate | None:
        with writing(path, lambda: None) as writer:
            if more:
                fill(writer, clusters(more, 16, seed=first), first)
            return keep_up(writer, above, changed)

    assert now(400, more=300) is None
    assert not SoundDatabase.open(path).table.list_indices()
    first = now(400, more=200, first=300)
    assert first is not None
    assert (first.trained, first.rows) == (500, 500)
    assert now(400, changed=False) == first
    few = now(400, more=20, first=500)
    assert few is not None
    assert (few.trained, few.rows) == (500, 520)
    assert SoundDatabase.open(path).unindexed() == 20  # searched exactly until they are many
    many = now(400, more=180, first=520)
    assert many is not None
    assert (many.trained, many.rows) == (500, 700)
    assert SoundDatabase.open(path).unindexed() == 0
    anew = now(400, more=300, first=700)
    assert anew is not None
    assert anew.trained == 1_000
    assert now(2_000) is None
    assert not SoundDatabase.open(path).table.list_indices()
    assert approximate_of(SoundDatabase.open(path)) is None


def test_small_files_are_merged(tmp_path: Path) -> None:
    path, before = tmp_path / "db", 0
    for number in range(approximate.FRAGMENTS):
        with writing(path, lambda: None) as writer:
            fill(writer, clusters(2, 8, seed=number), 2 * number)
            before = writer.database.fragments()
            keep_up(writer, 1_000)
    database = SoundDatabase.open(path)
    assert before == approximate.FRAGMENTS
    assert database.fragments() == 1
    assert database.count() == 2 * approximate.FRAGMENTS


def test_a_condition_that_leaves_few_rows_is_searched_exactly(tmp_path: Path) -> None:
    vectors = clusters(1_000, 16)
    with writing(tmp_path / "db", lambda: None) as writer:
        fill(writer, vectors)
        assert keep_up(writer, 500) is not None
    matches = Searcher(tmp_path / "db").nearest(torch.tensor(vectors[0]), 10, "path LIKE '%99.wav'")
    wanted = [number for number in range(1_000) if str(number).endswith("99")]
    order = sorted(wanted, key=lambda number: -cosines(vectors[:1], vectors[[number]])[0, 0])
    assert [match.path for match in matches] == [f"/sounds/{number}.wav" for number in order]
