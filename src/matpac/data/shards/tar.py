"""The members of a tar that a stranger may have made, read in order and never written anywhere.

Plain regular files alone are members. What could reach outside of the tar (absolute names, `..`, links, devices),
what could fill the memory (huge or sparse members, huge headers) and what isn't whole ends in a ShardError.
"""

import io
import re
import tarfile
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple, Protocol, runtime_checkable

from matpac.data.headers import DataError

BLOCK = 512  # bytes; headers and contents begin at multiples of it (POSIX.1-2017, pax, ustar interchange format)
# A larger member is refused, since members of a stream are held in memory; default: 9 hours of 16 kHz, 16-bit.
MOST_MEMBER_BYTES = 2**30
MOST_EXTENSION_BYTES = 2**16  # of a long name or pax header; default: sixteen of Linux's longest paths
READ_BYTES = 2**22  # at a time, so that a size that lies takes no memory; default

EXTENSIONS = {tarfile.XHDTYPE: "pax", tarfile.XGLTYPE: "pax", tarfile.GNUTYPE_LONGNAME: "name"}
REFUSED = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.GNUTYPE_LONGLINK: "a symbolic link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a FIFO",
    tarfile.CONTTYPE: "a contiguous file",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}


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
        self._stream, self._shard = stream, shard
        self._position = 0
        self._left = 0  # bytes of the member's content, with padding, that weren't read
        self._unread = 0  # the same without padding
        self._file = stream if isinstance(stream, io.BufferedReader) and stream.seekable() else None

    def __iter__(self) -> Iterator[Member]:
        """Raises ShardError where the tar is damaged, cut short, or holds what is refused."""
        long_name = pax = None
        while (info := self._header()) is not None:
            kind = EXTENSIONS.get(info.type)
            if kind is not None:
                content = self._extension(info)
                if kind == "name":
                    long_name = content.rstrip(b"\0").decode("utf-8", "surrogateescape")
                elif info.type == tarfile.XHDTYPE:
                    pax = self._records(content)
                continue
            name = ((pax or {}).get("path") or long_name or info.name).removeprefix("./")
            self._check(info, name, pax or {})
            long_name = pax = None
            self._unread, self._left = info.size, info.size + -info.size % BLOCK
            if info.type != tarfile.DIRTYPE:
                yield Member(name, self._position, info.size)
            self._skip(self._left)

    def read(self) -> bytes:
        """The content of the member that was given last; once. Raises ShardError where the tar ends in it."""
        content, self._unread = self._exactly(self._unread), 0
        self._left -= len(content)
        return content

    def _header(self) -> tarfile.TarInfo | None:
        """The next header; None at the mark of the end."""
        at = self._position
        block = self._exactly(BLOCK)
        if not any(block):
            return None
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            found = "compressed; unpack it" if block.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ")) else str(error)
            raise ShardError(f"{self._shard}: no tar, or damaged at byte {at} ({found})") from error
        if info.size < 0:
            raise ShardError(f"{self._shard}: damaged at byte {at}: a size of {info.size} bytes")
        return info

    def _extension(self, info: tarfile.TarInfo) -> bytes:
        if info.size > MOST_EXTENSION_BYTES:
            raise ShardError(
                f"{self._shard}: a header of {info.size} bytes at byte {self._position}, more than "
                f"{MOST_EXTENSION_BYTES}; it isn't read"
            )
        content = self._exactly(info.size)
        self._exactly(-info.size % BLOCK)
        return content

    def _records(self, content: bytes) -> dict[str, str]:
        """A pax header: `length key=value`, one a line, the length counting the whole line."""
        records = {}
        while content.rstrip(b"\0"):
            length, _, rest = content.partition(b" ")
            size = int(length) if length.isdigit() and len(length) < 9 else 0
            key, equals, value = rest[: size - len(length) - 1].partition(b"=")
            if size <= len(length) + 1 or size > len(content) or not equals or not value.endswith(b"\n"):
                raise ShardError(f"{self._shard}: a damaged pax header before byte {self._position}")
            records[key.decode("utf-8", "replace")] = value[:-1].decode("utf-8", "surrogateescape")
            content = content[size:]
        return records

    def _check(self, info: tarfile.TarInfo, name: str, pax: dict[str, str]) -> None:
        what = REFUSED.get(info.type)
        if what is None and info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE):
            what = f"of the unknown kind {info.type!r}"
        if any(key.startswith("GNU.sparse") for key in pax):
            what = "a sparse file"
        if what is not None:
            raise ShardError(f"{self._shard}: member {name!r} is {what}; a shard holds plain files alone")
        check_name(self._shard, name)
        size = pax.get("size", "0")
        if not (size.isascii() and size.isdigit()):
            raise ShardError(f"{self._shard}: member {name!r} has a size of {size!r:.50}")
        if info.type == tarfile.DIRTYPE:
            info.size = 0  # as POSIX has it, whatever the header says
        elif "size" in pax:
            info.size = int(size[:20])
        if info.size > MOST_MEMBER_BYTES:
            raise ShardError(
                f"{self._shard}: member {name!r} has {info.size} bytes, more than {MOST_MEMBER_BYTES}; "
                "it isn't read: cut that recording into parts"
            )

    def _exactly(self, count: int) -> bytes:
        parts, missing = [], count
        while missing and (part := self._stream.read(min(missing, READ_BYTES))):
            parts.append(part)
            missing -= len(part)
        self._position += count - missing
        if missing:
            end = self._position if self._file is None else self._file.seek(0, io.SEEK_END)
            raise CutShortError(f"{self._shard}: cut short: ends at byte {end}; copy it again")
        return b"".join(parts)

    def _skip(self, count: int) -> None:
        if self._file is not None and count:
            self._file.seek(count - 1, 1)  # the last byte is read: a seek goes behind the end without a word
            self._position += count - 1
            count = 1
        while count:
            count -= len(self._exactly(min(count, READ_BYTES)))
        self._left = self._unread = 0


def check_name(shard: str, name: str) -> None:
    """Raises ShardError for a member's name that could mean a place outside of a folder, or upset a terminal."""
    if _PLAIN.fullmatch(name):
        return
    if re.match(r"[/\\]|[A-Za-z]:[/\\]", name) or ".." in re.split(r"[/\\]", name):
        raise ShardError(f"{shard}: member {name!r} names a place outside of the shard; it isn't read")
    if not name.strip() or any(unicodedata.category(letter) == "Cc" for letter in name):
        raise ShardError(f"{shard}: member {name!r} has a name that can't be shown; it isn't read")
