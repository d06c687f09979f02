"""One array of features on disk, written block by block: a killed run goes on, a damaged file is never used.

`<stem>.npy` is the finished array, `<stem>.partial.npy` one under way, `<stem>.json` what is known of either: the
key, how far it came, a checksum a block, the clips left out and why. `<stem>.clips` says which clips a finished
array is of (`shared_rows.py`). `<stem>.lock` keeps processes apart.
"""

import json
import os
import sys
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from matpac.errors import MatpacError

BLOCK_ROWS = 256
"""Clips between two marks of progress: the most that a killed run computes again; ours."""

BLOCK_BYTES = 64 * 2**20
"""Rows of so many bytes are a block too, so that what waits in memory stays small; ours."""


@dataclass
class State:
    """What the JSON says. Numbers in `blocks` count from the file's start, in the order of the clips."""

    key: str
    total: int
    """Clips of the task."""
    dtype: str
    shape: list[int] | None = None
    """Of one row; known with the first."""
    blocks: list[tuple[int, int, int]] = field(default_factory=list)
    """For each: clips done at its end, rows written at its end, CRC-32 of its rows."""
    failed: list[tuple[int, str]] = field(default_factory=list)
    """Clips that have no row, and why."""
    lengths: list[int] = field(default_factory=list)
    """Of the rows, where they are padded."""
    about: dict[str, object] = field(default_factory=dict)
    """For people."""

    @property
    def clips(self) -> int:
        """Done, with a row or without."""
        return self.blocks[-1][0] if self.blocks else 0

    @property
    def rows(self) -> int:
        """Written."""
        return self.blocks[-1][1] if self.blocks else 0

    @property
    def row_bytes(self) -> int:
        """Of one row."""
        return int(np.prod(self.shape or [0])) * np.dtype(self.dtype).itemsize

    def header(self, rows: int) -> bytes:
        """NumPy's, as long for any number of rows up to `total`."""
        file = BytesIO()
        shape = (rows, *(self.shape or []))
        description = {"descr": np.dtype(self.dtype).str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, description)
        return file.getvalue()

    def keep(self, blocks: int) -> None:
        """Forget all but the first blocks."""
        del self.blocks[blocks:]
        self.failed = [(clip, reason) for clip, reason in self.failed if clip < self.clips]
        del self.lengths[self.rows :]


class FeatureFile:
    """Rows of clips that come in order. Everything but `__init__` and `lock` is used under the lock."""

    def __init__(
        self,
        folder: Path,
        stem: str,
        key: str,
        total: int,
        dtype: str,
        about: Mapping[str, object],
        clips: bytes = b"",
    ) -> None:
        """`clips` are the digests of all clips (`shared_rows.clip_digests`)."""
        self.array, self.partial = folder / f"{stem}.npy", folder / f"{stem}.partial.npy"
        self.json, self.list = folder / f"{stem}.json", folder / f"{stem}.clips"
        self.clips = clips
        self.state = State(key, total, dtype, about=dict(about))
        self._rows: list[np.ndarray] = []
        self._lengths: list[int] = []
        self._failed: list[tuple[int, str]] = []
        self._clips = 0

    @property
    def failed(self) -> dict[int, str]:
        """Clips without a row, and why."""
        return dict(self.state.failed)

    @property
    def shape(self) -> list[int] | None:
        """Of one row, once there was one."""
        return self.state.shape

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Waits until no other process works on this file."""
        from filelock import FileLock, Timeout  # huggingface_hub and torch bring it

        lock = FileLock(self.json.with_suffix(".lock"))
        try:
            self.json.parent.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                if sys.stderr.isatty():
                    print(f"{self.array.name}: waiting for another process that computes it", file=sys.stderr)
                lock.acquire()
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            yield
        finally:
            lock.release()

    def resume(self) -> int:
        """Take up what is on disk, as far as it is whole and of this key; the number of clips that are done."""
        found = read_state(self.json)
        mine = self.state.key, self.state.total, self.state.dtype
        if found is not None and (found.key, found.total, found.dtype) == mine:
            self.state = found
        finished = self.state.clips == self.state.total
        if self.array.exists():
            if finished and self._whole():
                return self.state.clips
            self.array.unlink()  # damaged; who has it mapped keeps what there was
        self.state.keep(_sound_blocks(self.partial, self.state))
        if self.state.clips == self.state.total:  # killed just before its last step
            self._publish()
        if not self.state.rows:
            self.state.shape = None
        self._clips = self.state.clips
        return self._clips

    def take_finished(self) -> bool:
        """Take up the finished array of this key without the lock, to be read; whether it is there and whole."""
        found = read_state(self.json)
        if found is None or found.key != self.state.key or found.clips != found.total or not found.rows:
            return False
        self.state = found
        try:
            self.clips = self.list.read_bytes()
            return self._whole()
        except FileNotFoundError:  # older than lists of clips, or computed anew just now
            return False

    def add(self, row: Shaped[np.ndarray, "..."] | None, reason: str = "", length: int | None = None) -> None:
        """The next clip's row, or why it has none."""
        if row is None:
            self._failed.append((self._clips, reason))
        else:
            self._rows.append(row.astype(self.state.dtype, copy=False))
            self._lengths += [] if length is None else [length]
            self.state.shape = list(row.shape)
        self._clips += 1
        waiting = len(self._rows) + len(self._failed)
        if waiting >= BLOCK_ROWS or len(self._rows) * self.state.row_bytes >= BLOCK_BYTES:
            self._flush()

    def finish(self) -> None:
        """All clips were added: the array gets its name."""
        self._flush()
        if self.state.clips != self.state.total:
            raise RuntimeError(f"{self.partial}: {self.state.clips} of {self.state.total} clips were added")
        self._publish()

    def open(self) -> np.memmap:
        """The finished array, memory-mapped, read-only; a row a clip that has one."""
        found = np.load(self.array, mmap_mode="r", allow_pickle=False)
        assert isinstance(found, np.memmap)
        return found

    def _flush(self) -> None:
        """Rows to the disk first, then the mark that they are there."""
        if not self._rows and not self._failed:
            return
        state = self.state
        data = np.stack(self._rows).tobytes() if self._rows else b""
        try:
            if data:
                if not state.rows:
                    self.partial.write_bytes(state.header(state.total))
                with self.partial.open("r+b") as file:
                    file.seek(len(state.header(state.total)) + state.rows * state.row_bytes)
                    file.truncate()
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
            state.blocks.append((self._clips, state.rows + len(self._rows), zlib.crc32(data)))
            state.failed += self._failed
            state.lengths += self._lengths
            _write_state(self.json, state)
        except OSError as error:
            raise self._unwritable(error) from error
        self._rows, self._lengths, self._failed = [], [], []

    def _publish(self) -> None:
        state = self.state
        if not state.rows:  # an empty array can't be mapped; the caller tells that nothing could be used
            return
        try:
            with self.partial.open("r+b") as file:
                header = state.header(state.rows)
                file.write(header)
                file.truncate(len(header) + state.rows * state.row_bytes)
                file.flush()
                os.fsync(file.fileno())
            draft = self.list.with_name(f".{self.list.name}.draft")
            draft.write_bytes(self.clips)
            draft.replace(self.list)
            self.partial.replace(self.array)
        except OSError as error:
            raise self._unwritable(error) from error

    def _whole(self) -> bool:
        """That the finished array is to the byte what was written."""
        header = self.state.header(self.state.rows)
        with self.array.open("rb") as file:
            if file.read(len(header)) != header:
                return False
        if self.array.stat().st_size != len(header) + self.state.rows * self.state.row_bytes:
            return False
        return _sound_blocks(self.array, self.state) == len(self.state.blocks)

    def _unwritable(self, error: OSError) -> MatpacError:
        reason = error.strerror or error
        return MatpacError(f"{self.partial}: can't be written ({reason}); make room, or choose another cache")


def _sound_blocks(path: Path, state: State) -> int:
    """How many blocks, from the first on, are in the file as they were written."""
    rows = 0
    try:
        with path.open("rb") as file:
            file.seek(len(state.header(state.total)))
            for number, (_, end, checksum) in enumerate(state.blocks):
                data = file.read((end - rows) * state.row_bytes)
                if len(data) != (end - rows) * state.row_bytes or zlib.crc32(data) != checksum:
                    return number
                rows = end
    except FileNotFoundError:  # none needed where no clip had a row
        return sum(end == 0 for _, end, _ in state.blocks)
    return len(state.blocks)


def read_state(path: Path) -> State | None:
    """What the JSON at `path` says, None where nothing was, or where it is no longer that."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, UnicodeDecodeError, json.JSONDecodeError):
        return None
    if not isinstance(content, dict) or content.keys() != {"crc32", "state"}:
        return None
    if content["crc32"] != _checksum(content["state"]):
        return None
    state = content["state"]
    blocks = [(clips, rows, checksum) for clips, rows, checksum in state["blocks"]]  # JSON has no tuples
    failed = [(clip, reason) for clip, reason in state["failed"]]
    return State(**{**state, "blocks": blocks, "failed": failed})


def _write_state(path: Path, state: State) -> None:
    draft = path.with_name(f".{path.name}.draft")
    plain = asdict(state)
    draft.write_text(json.dumps({"crc32": _checksum(plain), "state": plain}) + "\n", encoding="utf-8")
    draft.replace(path)


def _checksum(state: object) -> int:
    return zlib.crc32(json.dumps(state, sort_keys=True).encode())


def folder_bytes(folder: Path) -> int:
    """What a cache takes of the disk."""
    return sum(path.stat().st_size for path in folder.iterdir()) if folder.is_dir() else 0
