"""One member of a shard as a sound that can be decoded, and the tables that hold millions of them."""

import io
import tarfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from matpac.audio import AudioError
from matpac.data.files import Clip, Names
from matpac.data.shards.tar import BLOCK

# A member up to this size is read at once and decoded from memory: one request to a disk far away instead of
# several, and on a near one 2 % quicker. Of a long recording a crop is a small part; default: 4 minutes of FLAC.
WHOLE_BYTES = 2**22
WINDOW_BUFFER = 2**16  # read at a time from a longer one; default: smaller ones were slower


@dataclass(frozen=True)
class ShardClip(Clip):
    """A clip in a shard, and what `matpac.audio` reads it from where the shard is on this machine.

    Its path is the shard's address, a slash, and the member's name.

    Args:
        shard: address of the tar: a path or a URL.
        offset: byte of the tar at which the member's content begins.
        size: of the content, in bytes.
        digest: SHA-256 of the shard, where an index has it.
    """

    shard: str = ""
    offset: int = 0
    size: int = 0
    digest: str = ""

    def __str__(self) -> str:
        return self.path

    @property
    def name(self) -> str:
        """The member's name."""
        return self.path[len(self.shard) + 1 :]

    @property
    def identity(self) -> str:
        """Identifies the clip wherever its shard lies; with an index it depends on the shard's content alone."""
        return f"{self.digest}/{self.name}" if self.digest else self.path

    @property
    def source(self) -> "ShardClip":
        """What `matpac.audio` reads it from."""
        return self

    def open(self) -> io.BufferedIOBase:
        """Its bytes: in memory, or for a long one a window on the tar.

        Raises:
            AudioError: the tar isn't there, or this member isn't at that place of it.
        """
        wanted = min(self.size, WHOLE_BYTES)
        with ExitStack() as stack:
            try:
                file = stack.enter_context(io.FileIO(self.shard))
                file.seek(self.offset - BLOCK)
                content = file.read(BLOCK + wanted) or b""
            except OSError as error:
                raise AudioError(f"{self}: the shard can't be read ({error.strerror}); check it") from error
            self._check(content[:BLOCK])
            if len(content) < BLOCK + wanted:
                raise AudioError(f"{self}: the shard is cut short; copy or download it again")
            if self.size == wanted:
                return io.BytesIO(content[BLOCK:])
            stack.pop_all()  # the window closes it
            return io.BufferedReader(_Window(file, self.offset, self.size), WINDOW_BUFFER)

    def _check(self, header: bytes) -> None:
        try:
            found = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
            plain = self.name.isascii() and len(self.name) <= tarfile.LENGTH_NAME
            right = found.size == self.size and (not plain or found.name.removeprefix("./") == self.name)
        except tarfile.HeaderError:
            right = False
        if not right:
            raise AudioError(
                f"{self}: the shard has another member at byte {self.offset}: it has changed, or its index isn't "
                "its own; check it with matpac pack --verify"
            )


@dataclass(frozen=True)
class HeldSound:
    """A sound in memory, with the name that messages give it."""

    name: str
    content: bytes

    def __str__(self) -> str:
        return self.name

    @property
    def size(self) -> int:
        """Its bytes."""
        return len(self.content)

    def open(self) -> io.BufferedIOBase:
        """A stream of its bytes."""
        return io.BytesIO(self.content)


class _Window(io.RawIOBase):
    """A part of a file as a file of its own; closes the file with itself."""

    def __init__(self, file: io.RawIOBase, offset: int, size: int) -> None:
        self._file, self._offset, self._size = file, offset, size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        count = max(0, min(len(buffer), self._size - self._position))
        self._file.seek(self._offset + self._position)
        got = self._file.readinto(memoryview(buffer)[:count]) or 0
        self._position += got
        return got

    def close(self) -> None:
        self._file.close()
        super().close()


class MemberTable:
    """What each clip's sound is read from, in arrays: workers share their memory, as nothing counts references."""

    def __init__(self, clips: Sequence[ShardClip]) -> None:
        self.shards = list(dict.fromkeys(clip.shard for clip in clips))
        numbers = {shard: number for number, shard in enumerate(self.shards)}
        self.shard = np.array([numbers[clip.shard] for clip in clips], np.int32)
        self.names = Names(clip.name for clip in clips)
        self.offsets = np.array([clip.offset for clip in clips], np.int64)
        self.sizes = np.array([clip.size for clip in clips], np.int64)
        self.durations = np.array([clip.duration for clip in clips])

    def __len__(self) -> int:
        return len(self.shard)

    def clip(self, index: int) -> ShardClip:
        """One clip, without its digest."""
        shard, place = self.shards[self.shard[index]], (int(self.offsets[index]), int(self.sizes[index]))
        return ShardClip(f"{shard}/{self.names[index]}", float(self.durations[index]), shard, *place)

    def sound(self, epoch: int, index: int, replaces: bool) -> ShardClip:
        """A clip's sound, for `RandomCrops`; shards on this machine are read in any order."""
        return self.clip(index)
