"""Files of vectors, written as they come and whole or not at all: Parquet, or NumPy's npz."""

import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from matpac.errors import MatpacError

ROW_GROUP_BYTES = 16 * 2**20
"""Vectors are written to Parquet in groups of about this size: the writer holds some three times that; ours."""


@runtime_checkable
class VectorFile(Protocol):
    """Takes the vectors of one clip after another."""

    def write(
        self,
        path: str,
        duration: float,
        vectors: Float[np.ndarray, "row width"],
        layer: int | None,
        times: Float[np.ndarray, " row"] | None,
    ) -> None:
        """Append rows of a clip; `times` in seconds where they are frames, `layer` where there are several."""
        ...

    def end_clip(self) -> None:
        """All rows of the clip were written."""
        ...


@contextmanager
def open_vector_file(path: Path, description: Mapping[str, object]) -> Iterator[VectorFile]:
    """A file to write vectors to, which appears under its name when all is written.

    Args:
        path: ends in .parquet or .npz.
        description: of the vectors, kept as JSON in the file's metadata under "matpac".

    Raises:
        MatpacError: another ending, a folder that is not there or takes no file, or no vectors came.
    """
    kinds = {".parquet": ParquetVectors, ".npz": NpzVectors}
    kind = path.suffix.lower()
    if kind not in kinds:
        raise MatpacError(f"{path}: vectors are written as .parquet or .npz")
    if not path.parent.is_dir():
        raise MatpacError(f"{path}: there is no folder {path.parent}")
    draft = path.with_name(f".{path.stem}-{uuid.uuid4().hex[:8]}{kind}")
    file = kinds[kind](draft, description)
    try:
        draft.touch()  # now, not after hours of work
    except OSError as error:
        raise MatpacError(
            f"{path}: can't be written ({error.strerror}); name a file in a folder that you may write to"
        ) from error
    try:
        yield file
        file.close()
        if not draft.stat().st_size:
            raise MatpacError(f"{path}: not written, since no vectors came")
        draft.replace(path)
    finally:
        try:
            file.abandon()
        finally:  # also where the disk is full
            draft.unlink(missing_ok=True)


class ParquetVectors:
    """Columns path, duration, (layer), (time), vector; the vector is a fixed-size list of float32."""

    def __init__(self, path: Path, description: Mapping[str, object]):
        self._path = path
        self._metadata = {"matpac": json.dumps(description)}
        self._writer = None
        self._tables: list = []
        self._bytes = 0

    def write(
        self,
        path: str,
        duration: float,
        vectors: Float[np.ndarray, "row width"],
        layer: int | None = None,
        times: Float[np.ndarray, " row"] | None = None,
    ) -> None:
        """See `VectorFile`."""
        import pyarrow as pa

        rows, width = vectors.shape
        columns = {
            "path": pa.array([path] * rows, pa.string()),
            "duration": pa.array([duration] * rows, pa.float64()),
        }
        if layer is not None:
            columns["layer"] = pa.array([layer] * rows, pa.int16())
        if times is not None:
            columns["time"] = pa.array(times, pa.float64())
        flat = pa.array(np.ascontiguousarray(vectors, np.float32).ravel())
        columns["vector"] = pa.FixedSizeListArray.from_arrays(flat, width)
        self._tables.append(pa.table(columns))
        self._bytes += vectors.nbytes
        if self._bytes >= ROW_GROUP_BYTES:
            self._flush()

    def end_clip(self) -> None:
        """See `VectorFile`; a row group may end anywhere."""

    def _flush(self) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        if not self._tables:
            return
        table = pa.concat_tables(self._tables)
        if self._writer is None:
            schema = table.schema.with_metadata(self._metadata)
            # vectors do not compress and their dictionary would only be in the way
            self._writer = parquet.ParquetWriter(self._path, schema, use_dictionary=False, compression="zstd")
        self._writer.write_table(table.replace_schema_metadata(self._metadata))
        self._tables, self._bytes = [], 0

    def close(self) -> None:
        """Write what is left and the file's end."""
        self._flush()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def abandon(self) -> None:
        """Let go of the file."""
        if self._writer is not None:
            self._writer.close()


class NpzVectors:
    """Arrays vectors [row, width], path, duration, (layer), (time) [row], and the description as JSON.

    An npz holds whole arrays, so all vectors are kept in memory until the end; Parquet does not need that.
    """

    def __init__(self, path: Path, description: Mapping[str, object]):
        self._path = path
        self._description = json.dumps(description)
        self._columns: dict[str, list[np.ndarray]] = {}

    def write(
        self,
        path: str,
        duration: float,
        vectors: Float[np.ndarray, "row width"],
        layer: int | None = None,
        times: Float[np.ndarray, " row"] | None = None,
    ) -> None:
        """See `VectorFile`."""
        rows = len(vectors)
        columns = {"path": np.full(rows, path), "duration": np.full(rows, duration), "vectors": vectors}
        if layer is not None:
            columns["layer"] = np.full(rows, layer, np.int16)
        if times is not None:
            columns["time"] = times
        for name, column in columns.items():
            self._columns.setdefault(name, []).append(column)

    def end_clip(self) -> None:
        """See `VectorFile`."""

    def close(self) -> None:
        """Write everything."""
        if not self._columns:
            return
        arrays = {name: np.concatenate(parts) for name, parts in self._columns.items()}
        np.savez(self._path, matpac=np.array(self._description), **arrays)  # pyright: ignore[reportArgumentType]

    def abandon(self) -> None:
        """Nothing is open between writes."""
