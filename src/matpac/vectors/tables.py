"""Vectors as tables (path, duration, layer, time, vector), and single files of them, whole or absent."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from matpac.atomic import written_whole
from matpac.errors import MatpacError

if TYPE_CHECKING:
    import pyarrow as pa

GROUP_BYTES = 16 * 2**20
"""Vectors per row group; default; the writer holds some three times as much."""

Write = Callable[["pa.Table"], None]


def clip_table(
    path: str,
    duration: float,
    vectors: Float[np.ndarray, "layer *frame width"],
    layer: int | None = None,
    times: Float[np.ndarray, " frame"] | None = None,
) -> "pa.Table":
    """A clip's rows, layer by layer; the vector is a fixed-size list.

    Args:
        path: as `path_text` gives it.
        duration: in seconds.
        vectors: float32 or float16.
        layer: number of the first layer, for a column of them.
        times: of the frames in seconds, for a column of them.
    """
    import pyarrow as pa

    width = vectors.shape[-1]
    rows = vectors.size // width
    columns = {
        "path": pa.array([path] * rows, pa.string()),
        "duration": pa.array(np.full(rows, duration), pa.float64()),
    }
    if layer is not None:
        numbers = np.arange(layer, layer + len(vectors), dtype=np.int16)
        columns["layer"] = pa.array(np.repeat(numbers, rows // len(vectors)))
    if times is not None:
        columns["time"] = pa.array(np.tile(times, len(vectors)), pa.float64())
    columns["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(vectors).ravel()), width)
    return pa.table(columns)


@contextmanager
def open_table_file(path: Path, about: Mapping[str, object]) -> Iterator[Write]:
    """A file to write tables to, which appears under its name when all is written.

    Args:
        path: ends in .parquet or .npz.
        about: the vectors, kept as JSON in the file's metadata under "matpac".

    Raises:
        MatpacError: another ending, a folder that is missing or can't be written to, or no vectors came.
    """
    kinds = {".parquet": parquet_writer, ".npz": _npz_writer}
    kind = path.suffix.lower()
    if kind not in kinds:
        raise MatpacError(f"{path}: vectors are written as .parquet or .npz")
    if not path.parent.is_dir():
        raise MatpacError(f"{path}: there is no folder {path.parent}")
    trial = path.with_name(f".{path.name}-writable")
    try:  # now, not after hours of work
        trial.touch()
        trial.unlink()
    except OSError as error:
        raise MatpacError(
            f"{path}: can't be written ({error.strerror}); name a file in a folder that you may write to"
        ) from error
    with written_whole(path) as draft:
        draft.touch()
        with kinds[kind](draft, {"matpac": json.dumps(about)}) as write:
            yield write
        if not draft.stat().st_size:
            raise MatpacError(f"{path}: not written, since no vectors came")


@contextmanager
def parquet_writer(path: Path, metadata: Mapping[str, str], group_bytes: int = GROUP_BYTES) -> Iterator[Write]:
    """Writes tables to a Parquet file in row groups; nothing is written if none comes."""
    import pyarrow as pa
    from pyarrow import parquet

    waiting: list[pa.Table] = []
    writer: parquet.ParquetWriter | None = None
    size = 0

    def flush() -> None:
        nonlocal writer, size
        if waiting:
            table = pa.concat_tables(waiting).replace_schema_metadata(dict(metadata))
            if writer is None:
                # vectors do not compress, and a dictionary of them would be in the way
                writer = parquet.ParquetWriter(path, table.schema, use_dictionary=False, compression="zstd")
            writer.write_table(table)
            waiting.clear()
            size = 0

    def write(table: "pa.Table") -> None:
        nonlocal size
        waiting.append(table)
        size += table.nbytes
        if size >= group_bytes:
            flush()

    try:
        yield write
        flush()
    finally:
        if writer is not None:
            writer.close()


@contextmanager
def arrow_writer(path: Path, metadata: Mapping[str, str]) -> Iterator[Write]:
    """Writes tables to an Arrow file in one batch, which can be mapped into memory; keeps them until the end."""
    import pyarrow as pa

    waiting: list[pa.Table] = []
    yield waiting.append
    table = pa.concat_tables(waiting).combine_chunks().replace_schema_metadata(dict(metadata))
    with pa.OSFile(os.fsencode(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


@contextmanager
def _npz_writer(path: Path, metadata: Mapping[str, str]) -> Iterator[Write]:
    """Arrays vectors [row, width], path, duration, (layer), (time) [row], and the metadata.

    An npz holds whole arrays, so that all vectors are kept in memory until the end; Parquet does not need that.
    """
    import pyarrow as pa

    waiting: list[pa.Table] = []
    yield waiting.append
    if waiting:
        table = pa.concat_tables(waiting)
        width = table.schema.field("vector").type.list_size
        vectors = table["vector"].combine_chunks().flatten().to_numpy().reshape(-1, width)
        arrays = {name: np.array(table[name].to_pylist()) for name in ("path", "duration")}
        arrays |= {name: table[name].to_numpy() for name in ("layer", "time") if name in table.column_names}
        with path.open("wb") as file:
            arrays |= {name: np.array(text) for name, text in metadata.items()}
            np.savez(file, vectors=vectors, **arrays)  # pyright: ignore[reportArgumentType]
