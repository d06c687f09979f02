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
    """A clip in a shard. Its path is the shard's address, a slash, and the member's name.

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

    @property
    def name(self) -> str:
        """The member's name."""
        return self.path[len(self.shard) + 1 :]

    @property
    def identity(self) -> str:
        """Identifies the clip wherever its shard lies; with an index it depends on the shard's content alone."""
        return f"{self.digest}/{self.name}" if self.digest else self.path

    @property
    def source(self) -> "TarredSound":
        """What `matpac.audio` reads it from, where the shard is on this machine."""
        return TarredSound(self.shard, self.name, self.offset, self.size)


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


@dataclass(frozen=True)
class TarredSound:
    """A member of a tar on this machine, read in its place."""

    shard: str
    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.shard}/{self.name}"

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
                self._check(file.read(BLOCK) or b"")
                content = file.read(wanted) or b""
            except OSError as error:
                raise AudioError(f"{self}: the shard can't be read ({error.strerror}); check it") from error
            if len(content) < wanted:
                raise AudioError(f"{self}: the shard is cut short; copy or download it again")
            if self.size == wanted:
                return io.BytesIO(content)
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
        shards = list(dict.fromkeys(clip.shard for clip in clips))
        numbers = {shard: number for number, shard in enumerate(shards)}
        self.shards = shards
        self.shard = np.array([numbers[clip.shard] for clip in clips], np.int32)
        self.names = Names(clip.name for clip in clips)
        self.offsets = np.array([clip.offset for clip in clips], np.int64)
        self.sizes = np.array([clip.size for clip in clips], np.int64)

    def __len__(self) -> int:
        return len(self.shard)

    def name(self, index: int) -> str:
        """The member's name."""
        return self.names[index]

    def path(self, index: int) -> str:
        """The clip's path."""
        return f"{self.shards[self.shard[index]]}/{self.name(index)}"

    def sound(self, epoch: int, index: int, replaces: bool) -> TarredSound:
        """A clip's sound, for `RandomCrops`; shards on this machine are read in any order."""
        return TarredSound(
            self.shards[self.shard[index]], self.name(index), int(self.offsets[index]), int(self.sizes[index])
        )
