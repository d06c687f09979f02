"""Files of vectors: what is written is read back by pyarrow and numpy, whole or not at all."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from matpac.errors import MatpacError
from matpac.vectors import vector_files
from matpac.vectors.vector_files import open_vector_file

ABOUT = {"matpac": "0.1", "encoder": {"name": "größer"}}


def clips(seed: int, count: int, width: int, most: int = 5) -> list[tuple[str, float, np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        rows = int(rng.integers(1, most + 1))
        vectors = rng.normal(size=(rows, width)).astype(np.float32)
        found.append((f"/sounds/ä {number}.wav", float(rng.uniform(0, 9)), vectors, np.arange(rows) * 0.16))
    return found


@pytest.mark.parametrize("kind", [".parquet", ".npz", ".PARQUET", ".NPZ"])
@settings(deadline=None, max_examples=8)
@given(
    seed=st.integers(0, 999), count=st.integers(1, 6), width=st.integers(1, 5), group=st.sampled_from([1, 10**9])
)
def test_round_trip(
    kind: str, seed: int, count: int, width: int, group: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("vectors") / f"vectors{kind}"
    written = clips(seed, count, width)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vector_files, "ROW_GROUP_BYTES", group)  # a group a clip, or one for all
        with open_vector_file(path, ABOUT) as file:
            for number, (name, duration, vectors, times) in enumerate(written):
                file.write(name, duration, vectors, number % 3, times)
            assert not path.exists()
    assert [other.name for other in path.parent.iterdir()] == [path.name]
    rows = [len(clip[2]) for clip in written]
    expected = {
        "path": np.repeat([clip[0] for clip in written], rows),
        "duration": np.repeat([clip[1] for clip in written], rows),
        "layer": np.repeat(np.arange(count) % 3, rows),
        "time": np.concatenate([clip[3] for clip in written]),
    }
    if kind.lower() == ".npz":
        with np.load(path, allow_pickle=False) as found:
            assert set(found) == {*expected, "vectors", "matpac"}
            columns, vectors, about = (
                {name: found[name] for name in expected},
                found["vectors"],
                str(found["matpac"]),
            )
    else:
        table = parquet.read_table(path)
        assert parquet.ParquetFile(path).num_row_groups == (count if group == 1 else 1)
        columns = {name: table[name].to_numpy() for name in expected}
        vectors = np.stack(table["vector"].to_numpy(zero_copy_only=False))
        about = (table.schema.metadata or {})[b"matpac"].decode()
    for name, column in expected.items():
        assert columns[name].tolist() == column.tolist(), name
    assert vectors.dtype == np.float32
    assert np.array_equal(vectors, np.concatenate([clip[2] for clip in written]))
    assert json.loads(about) == ABOUT


def test_types_of_columns(tmp_path: Path) -> None:
    for name, layer, times in (("scene", None, None), ("frames", None, np.zeros(2)), ("layers", 3, None)):
        path = tmp_path / f"{name}.parquet"
        with open_vector_file(path, {}) as file:
            file.write("a.wav", 1.5, np.ones((2, 7), np.float32), layer, times)
        schema = parquet.read_schema(path)
        extra = {"frames": {"time": pa.float64()}, "layers": {"layer": pa.int16()}}.get(name, {})
        assert dict(zip(schema.names, schema.types, strict=True)) == {
            "path": pa.string(),
            "duration": pa.float64(),
            **extra,
            "vector": pa.list_(pa.float32(), 7),
        }


@pytest.mark.parametrize("kind", [".parquet", ".npz"])
@pytest.mark.parametrize("group", [1, 10**9])
def test_what_is_not_ended_leaves_nothing(
    kind: str, group: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector_files, "ROW_GROUP_BYTES", group)
    path = tmp_path / f"vectors{kind}"
    path.write_text("what was there before")

    def write_and_stop() -> None:
        with open_vector_file(path, {}) as file:
            file.write("a.wav", 1.0, np.ones((1, 2), np.float32), None, None)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_and_stop()
    assert [other.name for other in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == "what was there before"


@pytest.mark.parametrize("kind", [".parquet", ".npz"])
def test_a_full_disk_leaves_no_draft(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    monkeypatch.setattr(parquet.ParquetWriter, "write_table", full)
    with pytest.raises(OSError, match="No space left"), open_vector_file(tmp_path / f"v{kind}", {}) as file:
        file.write("a.wav", 1.0, np.ones((1, 2), np.float32), None, None)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", [".parquet", ".npz"])
def test_no_vectors_no_file(kind: str, tmp_path: Path) -> None:
    with pytest.raises(MatpacError, match="no vectors came"), open_vector_file(tmp_path / f"v{kind}", {}):
        pass
    assert not list(tmp_path.iterdir())


def test_where_it_cannot_be_written(tmp_path: Path) -> None:
    with (
        pytest.raises(MatpacError, match=r"vectors\.csv: vectors are written as \.parquet or \.npz"),
        open_vector_file(tmp_path / "vectors.csv", {}),
    ):
        pass
    with (
        pytest.raises(MatpacError, match=r"there is no folder .*missing"),
        open_vector_file(tmp_path / "missing" / "v.npz", {}),
    ):
        pass


@pytest.mark.parametrize("kind", [".parquet", ".npz"])
def test_what_cannot_be_written_is_told_before_the_work(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"{'v' * 250}{kind}"  # with the draft's own letters too long for a file's name
    with pytest.raises(MatpacError) as caught, open_vector_file(path, {}):
        pytest.fail("the work began")
    assert str(caught.value).startswith(f"{path}: can't be written (File name too long); name a file in ")
    assert not list(tmp_path.iterdir())
