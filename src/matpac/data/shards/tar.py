"""The members of a tar that a stranger may have made, read in order and never written anywhere.

Plain regular files alone are members. What could reach outside of the tar (absolute names, `..`, links, devices),
what could fill the memory (huge or sparse members, huge headers) and what isn't whole ends in a ShardError.
"""

import io
import re
import tarfile
import unicodedata
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

from matpac.data.headers import DataError

BLOCK = tarfile.BLOCKSIZE  # headers and contents begin at multiples of 512 bytes
# A larger member is refused, since members of a stream are held in memory; default: 9 hours of 16 kHz, 16-bit.
MOST_MEMBER_BYTES = 2**30
MOST_HEADER_BYTES = 2**16  # of a member, with long name and pax headers; default: sixteen of Linux's longest paths
READ_BYTES = 2**22  # at a time, so that a size that lies takes no memory; default

_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")  # what most names are


class ShardError(DataError):
    """A shard, or an index of shards, that can't be used; the message begins with its name."""


class CutShortError(ShardError):
    """A shard that ends before its end: cut, or a transfer that broke off."""


class Member(NamedTuple):
    """A file in a tar: its name, where its bytes begin, and how many there are."""

    name: str
    offset: int
    size: int


@runtime_checkable
class ByteStream(Protocol):
    """What a tar is read from; it need not seek."""

    def read(self, size: int, /) -> bytes:
        """At most so many bytes, none at the end."""
        ...


class TarReader:
    """The members of a tar, in order.

    Args:
        stream: at the tar's first byte.
        shard: its name, for messages.
    """

    def __init__(self, stream: ByteStream, shard: str) -> None:
        self._bytes, self._shard = _ShardBytes(stream, shard), shard
        self._unread = 0  # bytes of the last member
        # "w" reads nothing by itself; `TarInfo.fromtarfile` parses headers and, unlike `next`, hides no damage
        self._tar = tarfile.TarFile(fileobj=cast(Any, self._bytes), mode="w", errors="surrogateescape")

    def __iter__(self) -> Iterator[Member]:
        """Raises ShardError where the tar is damaged, cut short, or holds what is refused."""
        while (info := self._header()) is not None:
            name = info.name.removeprefix("./")
            self._check(info, name)
            end, self._unread = self._tar.offset, info.size
            if not info.isdir():
                yield Member(name, info.offset_data, info.size)
            self._bytes.move_to(end)

    def read(self) -> bytes:
        """The content of the member that was given last; once. Raises ShardError where the tar ends in it."""
        size, self._unread = self._unread, 0
        return self._bytes.exactly(size)

    def _header(self) -> tarfile.TarInfo | None:
        """The next header; None at the mark of the end."""
        at = self._bytes.tell()
        self._bytes.allowed = at + MOST_HEADER_BYTES
        try:
            return tarfile.TarInfo.fromtarfile(self._tar)
        except tarfile.EOFHeaderError:  # pyright: ignore[reportAttributeAccessIssue] (of all Pythons)
            return None
        except ShardError:
            raise
        except (tarfile.HeaderError, ValueError) as error:
            found = f"{error}; unpack it if it is compressed"
            raise ShardError(f"{self._shard}: no tar, or damaged at byte {at} ({found})") from error

    def _check(self, info: tarfile.TarInfo, name: str) -> None:
        plain = info.type in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE)
        if not plain or any(key.startswith("GNU.sparse") for key in info.pax_headers):
            links, kind = info.issym() or info.islnk(), "sparse or of an unknown kind"
            kind = "a link" if links else "a device" if info.isdev() else kind
            raise ShardError(f"{self._shard}: member {name!r} is {kind}; a shard holds plain files alone")
        check_name(self._shard, name)
        if not info.isdir() and not 0 <= info.size <= MOST_MEMBER_BYTES:
            raise ShardError(
                f"{self._shard}: member {name!r} has {info.size} bytes, and the most is {MOST_MEMBER_BYTES}; it "
                "isn't read: cut that recording into parts"
            )


class _ShardBytes:
    """The bytes of a tar, by their place. `read` and `tell` are what tarfile reads headers with.

    Args:
        stream: at its first byte.
        shard: its name, for messages.
    """

    def __init__(self, stream: ByteStream, shard: str) -> None:
        self._stream, self._shard = stream, shard
        self._position = self.allowed = 0
        self._file = stream if isinstance(stream, io.BufferedReader) and stream.seekable() else None

    def tell(self) -> int:
        return self._position

    def read(self, count: int) -> bytes:
        """Bytes of a header, none behind `allowed`."""
        if not 0 <= count <= self.allowed - self._position:
            raise ShardError(
                f"{self._shard}: a header of {count} bytes at byte {self._position}, and the most is "
                f"{MOST_HEADER_BYTES}; it isn't read"
            )
        return self.exactly(count)

    def exactly(self, count: int) -> bytes:
        """So many bytes. Raises CutShortError where there are fewer."""
        parts, missing = [], count
        while missing and (part := self._stream.read(min(missing, READ_BYTES))):
            parts.append(part)
            missing -= len(part)
        self._position += count - missing
        if missing:
            end = self._position if self._file is None else self._file.seek(0, io.SEEK_END)
            raise CutShortError(f"{self._shard}: cut short: ends at byte {end}; copy it again")
        return b"".join(parts)

    def move_to(self, place: int) -> None:
        """Passes over bytes. Raises CutShortError where the tar ends before that place."""
        if self._file is not None and place > self._position:
            self._file.seek(place - 1)  # the last byte is read: a seek goes behind the end without a word
            self._position = place - 1
        while self._position < place:
            self.exactly(min(place - self._position, READ_BYTES))


def check_name(shard: str, name: str) -> None:
    """Raises ShardError for a member's name that could mean a place outside of a folder, or upset a terminal."""
    if _PLAIN.fullmatch(name):
        return
    if re.match(r"[/\\]|[A-Za-z]:[/\\]", name) or ".." in re.split(r"[/\\]", name):
        raise ShardError(f"{shard}: member {name!r} names a place outside of the shard; it isn't read")
    if not name.strip() or any(unicodedata.category(letter) == "Cc" for letter in name):
        raise ShardError(f"{shard}: member {name!r} has a name that can't be shown; it isn't read")
