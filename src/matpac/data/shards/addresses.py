"""Where shards are: patterns, folders and URLs to addresses, and addresses to streams of bytes."""

import io
import re
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from matpac.data.shards.index import INDEX, UNFINISHED, read_index
from matpac.data.shards.tar import CutShortError, ShardError
from matpac.errors import one_line

MOST_SHARDS = 1_000_000  # default; a pattern for more is a mistake
TRIES = 4  # of reading at one place of a transfer that breaks off; default
PAUSE = 0.5  # seconds before the second try, doubled before each further one; default
BUFFER_BYTES = 2**20  # read at a time from a remote file: a request per header would be slow
READ_SECONDS = 60.0  # without a byte, after which an HTTP transfer has broken off; default
BETWEEN = "::"  # between several patterns, as in WebDataset

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_HTTP = re.compile(r"https?://")
_BRACES = re.compile(r"\{(?:(\d{1,18})\.\.(\d{1,18})|([^{}]*,[^{}]*))\}")


def is_url(address: str) -> bool:
    """Whether fsspec opens it as a stream; otherwise it is a file on this machine."""
    return _SCHEME.match(address) is not None


def names_shards(data: str) -> bool:
    """Whether `data` means shards: a URL, a name or pattern of tars, or a folder that `matpac pack` wrote."""
    if is_url(data):
        return True
    path = Path(data)
    if path.is_dir():
        return (path / INDEX).is_file() or (path / UNFINISHED).is_dir()
    return data.endswith(".tar") or (not path.exists() and ".tar" in data and ("{" in data or BETWEEN in data))


def find_shards(data: str) -> list[str]:
    """Addresses of the shards: absolute paths, and URLs as they are, in the order in which they are named.

    `{000..099}` and `{a,b}` are expanded as a shell does; `::` stands between several patterns. For a folder its
    index names the shards.

    Raises:
        ShardError: a pattern that can't be expanded, a file that doesn't exist, or one named twice.
    """
    if not is_url(data) and Path(data).is_dir():
        folder = Path(data).absolute()
        return [str(folder / shard.name) for shard in read_index(folder).shards]
    names = list(islice((name for part in data.split(BETWEEN) for name in _expanded(part)), MOST_SHARDS + 1))
    if len(names) > MOST_SHARDS:
        raise ShardError(f"{data}: more than {MOST_SHARDS:,} shards; correct the pattern")
    if any(name.count("{") != name.count("}") for name in names):
        raise ShardError(f"{data}: a brace is open; a pattern looks like shards/{{000000..000099}}.tar")
    addresses = [_address(name) for name in names]
    missing = [address for address in addresses if not is_url(address) and not Path(address).is_file()]
    if missing:
        more = f"{len(missing)} of {len(addresses)} are missing"
        raise ShardError(f"{missing[0]}: no such shard ({more}); check {data}")
    if twice := [address for address, count in Counter(addresses).items() if count > 1]:
        raise ShardError(f"{twice[0]}: named twice in {data}; correct the pattern")
    return addresses


def _expanded(pattern: str) -> Iterator[str]:
    """Every name of a pattern, the last braces counting quickest, as in a shell."""
    found = _BRACES.search(pattern)
    if found is None:
        yield pattern
        return
    first, last, names = found.groups()
    if names is None:
        padded = any(len(number) > 1 and number[0] == "0" for number in (first, last))
        width = max(len(first), len(last)) if padded else 0
        step = 1 if int(first) <= int(last) else -1
        items = (f"{number:0{width}d}" for number in range(int(first), int(last) + step, step))
    else:
        items = iter(names.split(","))
    for item in items:
        yield from _expanded(pattern[: found.start()] + item + pattern[found.end() :])


def _address(name: str) -> str:
    if name.startswith("file:"):
        name = unquote(urlsplit(name).path)
    return name if is_url(name) else str(Path(name).absolute())


def beside(address: str, name: str) -> str:
    """The address of another file in the folder of a shard."""
    if not is_url(address):
        return str(Path(address).parent / name)
    parts = urlsplit(address)
    return urlunsplit(parts._replace(path=parts.path.rpartition("/")[0] + "/" + name))


def open_address(address: str) -> io.BufferedReader:
    """A stream of the file's bytes, from the first one.

    Raises:
        ShardError: a file that can't be read, or a protocol that isn't known or whose package is missing; for a
            remote file that doesn't exist, when it is read.
        CutShortError: when it is read: the transfer broke off `TRIES` times at one place.
    """
    if is_url(address):
        return io.BufferedReader(_Transfer(address), BUFFER_BYTES)
    try:
        return Path(address).open("rb")
    except OSError as error:
        raise ShardError(f"{address}: can't be read ({error.strerror}); check it") from error


def read_address(address: str, most: int) -> bytes:
    """The whole content. Raises ShardError for more than `most` bytes, or a file that can't be read to its end."""
    with open_address(address) as stream:
        content = stream.read(most + 1)
    if len(content) > most:
        raise ShardError(f"{address}: more than {most} bytes; it isn't read")
    return content


class _Transfer(io.RawIOBase):
    """A remote file from its beginning; where the transfer breaks off, it is opened again and resumed there."""

    def __init__(self, address: str) -> None:
        self._address, self._position = address, 0
        self._stream: Any = None
        # fsspec's http says "not found" of servers that can't be reached, too
        self._missing = 0 if _HTTP.match(address) else 404
        try:
            self._files, self._path = _filesystem(address)
        except (ImportError, ValueError) as error:
            way_out = "http needs matpac[shards], s3 s3fs, gs gcsfs; else check the address"
            raise ShardError(f"{address}: can't be opened ({one_line(error)}); {way_out}") from error

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        tries = 1
        while True:
            try:
                content = self._read(len(buffer))
                break
            except CutShortError as error:
                self._end()
                if tries == TRIES:
                    raise CutShortError(f"{error}; tried {TRIES} times") from error
                time.sleep(PAUSE * 2 ** (tries - 1))
                tries += 1
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)

    def _read(self, count: int) -> bytes:
        where = f"{self._address}: cut short: ends at byte {self._position}"
        try:
            if self._stream is None:
                self._stream = self._files.open(self._path, "rb")
                self._pass_over(self._position)
            content = self._stream.read(count)
        except Exception as error:  # every protocol has errors of its own
            if isinstance(error, FileNotFoundError) and getattr(error.__cause__, "status", self._missing) == 404:
                raise ShardError(f"{self._address}: no such file; check the address") from error
            raise CutShortError(f"{where} ({one_line(error) or type(error).__name__})") from error
        if not content and self._position < (getattr(self._stream, "size", None) or 0):
            raise CutShortError(f"{where} of {self._stream.size}")
        return content

    def _pass_over(self, count: int) -> None:
        """Skips bytes of a stream that was opened again, by reading where it can't seek."""
        try:
            self._stream.seek(count)
        except (ValueError, OSError):
            while count > 0 and (part := self._stream.read(min(count, BUFFER_BYTES))):
                count -= len(part)
            if count:
                raise EOFError("ends before that byte") from None

    def _end(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def close(self) -> None:
        self._end()
        super().close()


def _filesystem(address: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it. Raises ImportError or ValueError."""
    import fsspec

    if not _HTTP.match(address):
        return fsspec.url_to_fs(address)
    import aiohttp

    # one request from the first byte to the last: not every server answers requests for ranges
    timeout = aiohttp.ClientTimeout(total=None, sock_read=READ_SECONDS)
    client = {"timeout": timeout, "trust_env": True}
    return fsspec.url_to_fs(address, block_size=0, client_kwargs=client)
