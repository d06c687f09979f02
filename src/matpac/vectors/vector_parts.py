"""A folder of Parquet parts that one process or many write, and that a killed run is taken up from.

A part appears under its name when it is whole, and holds whole files' vectors: what is in the parts is done. No
process waits for another. `pyarrow.dataset.dataset(folder)` reads the parts as one table.
"""

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType

import numpy as np
from jaxtyping import Float

from matpac.atomic import write_text
from matpac.errors import MatpacError
from matpac.vectors.vector_files import VectorFile, open_vector_file

PART_SECONDS = 120.0
"""A part is closed when it has been open for so long: what a killed run loses, if no file takes longer; ours."""

PART_BYTES = 128 * 2**20
"""A part is closed when its vectors take so much; ours: few files for a reader, and each read in a moment."""

LOCK_SECONDS = 5.0
"""A rank's place may be held for a moment by another one that looks for what killed runs left; ours."""

IDENTITY = ("encoder_key", "frames", "layers")
"""What of the description has to agree: another release of this package may go on, another encoder may not."""

WORKING_FOLDER = "working_folder"
"""What of the description has to agree where both have it: relative paths from elsewhere are other sounds."""


class VectorParts:
    """The parts of one rank; a `VectorFile`, told by `end_clip` where one file's vectors end."""

    def __init__(self, folder: Path, description: Mapping[str, object], rank: int):
        self.folder, self.description, self.rank = folder, dict(description), rank
        self._next = 1 + max((_number(part) for part in _parts(folder, rank)), default=-1)
        self._open = ExitStack()
        self._file: VectorFile | None = None
        self._began = 0.0
        self._bytes = 0
        self._between_clips = True

    def done(self) -> dict[str, float]:
        """Files whose vectors are in a part, of any rank, and when that was written (s since the epoch).

        Raises:
            MatpacError: a part that is not whole, of another encoder or other settings, or of files named from
                another working folder.
        """
        found: dict[str, float] = {}
        for part in sorted(_parts(self.folder)):
            table = self._checked(part)
            found |= dict.fromkeys(table["path"].unique().to_pylist(), part.stat().st_mtime)
        return found

    def _checked(self, part: Path):
        import pyarrow as pa
        from pyarrow import parquet

        try:
            table = parquet.read_table(part, columns=["path"])
            about = json.loads((table.schema.metadata or {})[b"matpac"])
        except (pa.ArrowInvalid, KeyError, ValueError) as error:
            raise MatpacError(
                f"{part}: no part that matpac embed wrote, or not whole; delete it or write to another folder"
            ) from error
        if any(about.get(name) != self.description[name] for name in IDENTITY):
            raise MatpacError(
                f"{part}: holds {_what(about)}, and these would be {_what(self.description)}; "
                "write to another folder"
            )
        theirs, mine = about.get(WORKING_FOLDER), self.description.get(WORKING_FOLDER)
        if theirs and mine and theirs != mine:
            raise MatpacError(
                f"{part}: names its sounds from {theirs}; these, from {mine}, may be others of the same names; "
                "go on from there, name them by absolute paths or write to another folder"
            )
        return table

    def write(
        self,
        path: str,
        duration: float,
        vectors: Float[np.ndarray, "row width"],
        layer: int | None = None,
        times: Float[np.ndarray, " row"] | None = None,
    ) -> None:
        """See `VectorFile`."""
        self._between_clips = False
        if self._file is None:
            part = self.folder / f"part-{self.rank}-{self._next}.parquet"
            self._file = self._open.enter_context(open_vector_file(part, self.description))
            self._began, self._bytes = time.monotonic(), 0
        self._file.write(path, duration, vectors, layer, times)
        self._bytes += vectors.nbytes

    def end_clip(self) -> None:
        """All rows of a file were written; closes the part if it is time."""
        if self._bytes >= PART_BYTES or time.monotonic() - self._began >= PART_SECONDS:
            self._close_part()
        self._between_clips = True

    def _close_part(self) -> None:
        if self._file is not None:
            self._file = None
            self._next += 1
            self._open.close()

    def __enter__(self) -> "VectorParts":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """What an error or Ctrl-C leaves is kept too, if it is whole files' vectors."""
        if self._between_clips:
            self._close_part()
        else:
            self._open.__exit__(kind, error, trace)


@contextmanager
def open_vector_parts(folder: Path, description: Mapping[str, object], rank: int = 0) -> Iterator[VectorParts]:
    """The folder, made if need be, for one process to write parts to.

    Args:
        folder: its parent is there.
        description: of the vectors, kept in every part; has `IDENTITY`, and `WORKING_FOLDER` where
            paths are relative.
        rank: of this process; no two at once may have the same.

    Raises:
        MatpacError: another process writes as this rank, there is no place for the folder, or it holds other
            Parquet files, which readers of the folder would take for parts.
    """
    from filelock import FileLock, Timeout

    if not folder.parent.is_dir():
        raise MatpacError(f"{folder}: there is no folder {folder.parent}")
    folder.mkdir(exist_ok=True)
    others = [file for file in folder.glob("[!._]*.parquet") if file not in set(_parts(folder))]
    if others:
        raise MatpacError(f"{others[0]}: no part that matpac embed wrote; write to another folder")
    with ExitStack() as stack:
        try:
            stack.enter_context(FileLock(_lock(folder, rank), timeout=LOCK_SECONDS))
        except Timeout as error:
            raise MatpacError(f"{folder}: another process writes to it (rank {rank}); wait for its end") from error
        _remove_drafts(folder, rank)
        yield stack.enter_context(VectorParts(folder, description, rank))


def _remove_drafts(folder: Path, rank: int) -> None:
    """What killed runs left: as this rank, and as others that nobody is now."""
    from filelock import FileLock, Timeout

    for draft in folder.glob(".part-*-*.parquet"):
        other = int(draft.name.split("-")[1])
        with ExitStack() as stack, suppress(Timeout):
            if other != rank:
                stack.enter_context(FileLock(_lock(folder, other), timeout=0))
            draft.unlink(missing_ok=True)


def write_left_out(folder: Path, rank: int, count: int, left_out: Sequence[tuple[str, str]]) -> None:
    """Which files of this rank have no vectors, and why, as `_left_out-<rank>.jsonl`; readers of parts skip it.

    Args:
        folder: of the parts.
        rank: of this process; the first one removes what an earlier run of more processes left.
        count: of processes.
        left_out: path and reason.
    """
    path = folder / f"_left_out-{rank}.jsonl"
    if rank == 0:
        for file in folder.glob("_left_out-*.jsonl"):
            if _number(file) >= count:
                file.unlink(missing_ok=True)
    write_text(path, "".join(json.dumps({"path": file, "reason": reason}) + "\n" for file, reason in left_out))


def _lock(folder: Path, rank: int) -> Path:
    return folder / f".rank-{rank}.lock"


def _parts(folder: Path, rank: int | None = None) -> Iterable[Path]:
    return folder.glob(f"part-{'*' if rank is None else rank}-*.parquet")


def _number(file: Path) -> int:
    """The last number of a name; −1 where there is none."""
    tail = file.stem.rsplit("-", 1)[-1]
    return int(tail) if tail.isdecimal() else -1


def _what(about: Mapping[str, object]) -> str:
    encoder = about.get("encoder")
    name = encoder.get("name") if isinstance(encoder, dict) else None
    kind = "frames" if about.get("frames") else "scenes"
    layers = "all layers" if about.get("layers") else "the last layer"
    return f"{kind} of {layers} of {name} ({str(about.get('encoder_key'))[:12]})"
