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
from matpac.vectors.tables import clip_table, open_table_file, parquet_writer

ABOUT = {"matpac": "0.1", "encoder": {"name": "größer"}}
KINDS = pytest.mark.parametrize("kind", [".parquet", ".npz"])
ONE = clip_table("a.wav", 1.0, np.ones((1, 2), np.float32))


@pytest.mark.parametrize("kind", [".parquet", ".npz", ".PARQUET"])
@settings(deadline=None, max_examples=8)
@given(
    seed=st.integers(0, 999),
    count=st.integers(1, 6),
    layers=st.integers(1, 3),
    layer=st.booleans(),
    time=st.booleans(),
)
def test_round_trip(
    kind: str,
    seed: int,
    count: int,
    layers: int,
    layer: bool,
    time: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.mktemp("vectors") / f"vectors{kind}"
    rng = np.random.default_rng(seed)
    expected: dict[str, list] = {"path": [], "duration": [], "vectors": []}
    with open_table_file(path, ABOUT) as write:
        for number in range(count):
            frames = int(rng.integers(1, 5))
            vectors = rng.normal(size=(layers, frames, 3)).astype(np.float32)
            times = np.arange(frames) * 0.16 if time else None
            write(clip_table(f"/ä {number}.wav", 1.5 * number, vectors, 0 if layer else None, times))
            rows = layers * frames
            expected["path"] += [f"/ä {number}.wav"] * rows
            expected["duration"] += [1.5 * number] * rows
            expected["vectors"] += vectors.reshape(-1, 3).tolist()
            if layer:
                expected.setdefault("layer", []).extend(np.repeat(np.arange(layers), frames).tolist())
            if time:
                expected.setdefault("time", []).extend(np.tile(np.arange(frames) * 0.16, layers).tolist())
        assert not path.exists()
    assert [other.name for other in path.parent.iterdir()] == [path.name]
    if kind == ".npz":
        with np.load(path, allow_pickle=False) as found:
            about = str(found["matpac"])
            columns = {name: found[name].tolist() for name in found if name != "matpac"}
    else:
        table = parquet.read_table(path)
        about = (table.schema.metadata or {})[b"matpac"].decode()
        columns = {name.replace("vector", "vectors"): table[name].to_pylist() for name in table.column_names}
    assert columns == expected
    assert json.loads(about) == ABOUT


def test_types_of_columns_and_row_groups(tmp_path: Path) -> None:
    table = clip_table("a.wav", 1.5, np.ones((1, 2, 7), np.float32), 3, np.zeros(2))
    assert dict(zip(table.schema.names, table.schema.types, strict=True)) == {
        "path": pa.string(),
        "duration": pa.float64(),
        "layer": pa.int16(),
        "time": pa.float64(),
        "vector": pa.list_(pa.float32(), 7),
    }
    with parquet_writer(tmp_path / "v.parquet", {}, group_bytes=1) as write:
        for _ in range(3):
            write(table)
    assert parquet.ParquetFile(tmp_path / "v.parquet").num_row_groups == 3


@KINDS
def test_what_is_not_finished_leaves_nothing(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / f"vectors{kind}"
    path.write_text("what was there before")

    def stop(error: BaseException | None) -> None:
        with open_table_file(path, {}) as write:
            write(ONE)
            if error:
                raise error

    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(KeyboardInterrupt):
        stop(KeyboardInterrupt())
    monkeypatch.setattr(np, "savez", full)
    monkeypatch.setattr(parquet.ParquetWriter, "write_table", full)
    with pytest.raises(OSError, match="No space left"):
        stop(None)
    assert [other.name for other in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == "what was there before"


@KINDS
def test_no_vectors_no_file(kind: str, tmp_path: Path) -> None:
    with pytest.raises(MatpacError, match=f"v{kind}"), open_table_file(tmp_path / f"v{kind}", {}):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["vectors.csv", "missing/v.npz", f"{'v' * 250}.parquet"])
def test_what_cannot_be_written_is_an_error_before_the_work(name: str, tmp_path: Path) -> None:
    with pytest.raises(MatpacError, match=name), open_table_file(tmp_path / name, {}):
        pytest.fail("the work began")
    assert not list(tmp_path.iterdir())
