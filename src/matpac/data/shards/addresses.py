"""Where shards are: patterns, folders and URLs to addresses, and addresses to streams of bytes."""

import re
import shlex
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

from matpac.data.shards.index import INDEX, UNFINISHED, read_index
from matpac.data.shards.tar import ByteStream, CutShortError, ShardError

T = TypeVar("T")

MOST_SHARDS = 1_000_000
"""A pattern for more is a slip; ours."""

PATIENCE = 10.0
"""Seconds that a program has to end after its output has; ours."""

TRIES = 4
"""Times that a transfer breaks off, with nothing new in between, before that ends all; ours. Curl tries by itself,
too."""

BETWEEN = "::"
"""Between several patterns, as WebDataset has it."""

_RANGE = re.compile(r"\{(-?\d{1,99})\.\.(-?\d{1,99})")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|pipe:")


def is_url(address: str) -> bool:
    """Whether it is read as a stream by WebDataset's openers, and not a file on this machine."""
    return _SCHEME.match(address) is not None


def names_shards(data: str) -> bool:
    """Whether `data` means shards: a URL, a name or pattern of tars, or a folder that `matpac pack` made."""
    if is_url(data):
        return True
    path = Path(data)
    if path.is_dir():
        return (path / INDEX).is_file() or (path / UNFINISHED).is_dir()
    return data.endswith(".tar") or (not path.exists() and ".tar" in data and ("{" in data or BETWEEN in data))


def find_shards(data: str) -> list[str]:
    """Addresses of the shards: absolute paths, and URLs as they are, in the order in which they are named.

    `{000..099}` and `{a,b}` are expanded as a shell does; `::` stands between several patterns. A folder is that
    of an index. A comma in a URL's braces, and a pipe's command with braces, are expanded too.

    Raises:
        ShardError: a pattern that can't be expanded, a file that isn't there, or one named twice.
    """
    if not is_url(data) and Path(data).is_dir():
        folder = Path(data).absolute()
        return [str(folder / shard.name) for shard in read_index(folder).shards]
    from braceexpand import braceexpand

    wide = [span for span in _RANGE.findall(data) if abs(int(span[1]) - int(span[0])) > MOST_SHARDS]
    if wide:  # it would be expanded in memory
        raise ShardError(f"{data}: more than {MOST_SHARDS:,} shards; correct the pattern")
    try:
        names = [name for part in data.split(BETWEEN) for name in islice(braceexpand(part), MOST_SHARDS + 1)]
    except ValueError as error:
        raise ShardError(f"{data}: a brace is open; a pattern looks like shards/{{000000..000099}}.tar") from error
    if len(names) > MOST_SHARDS:
        raise ShardError(f"{data}: more than {MOST_SHARDS:,} shards; correct the pattern")
    addresses = [_address(name) for name in names]
    missing = [address for address in addresses if not is_url(address) and not Path(address).is_file()]
    if missing:
        more = f"{len(missing)} of {len(addresses)} are missing"
        raise ShardError(f"{missing[0]}: no such shard ({more}); check {data}")
    if len(set(addresses)) < len(addresses):
        twice = next(address for place, address in enumerate(addresses) if address in addresses[:place])
        raise ShardError(f"{twice}: named twice in {data}; correct the pattern")
    return addresses


def _address(name: str) -> str:
    if name.startswith("file:"):
        name = unquote(urlsplit(name).path)
    return name if is_url(name) else str(Path(name).absolute())


def beside(address: str, name: str) -> str | None:
    """The address of another file in a shard's folder; None for a pipe, which has none."""
    if not is_url(address):
        return str(Path(address).parent / name)
    if address.startswith("pipe:"):
        return None
    parts = urlsplit(address)
    return urlunsplit(parts._replace(path=parts.path.rpartition("/")[0] + "/" + name))


@contextmanager
def open_address(address: str) -> Iterator[ByteStream]:
    """A stream of what lies there, from its first byte on.

    Files are opened; `pipe:`, http(s), gs, hf and what else WebDataset knows by its `gopen`, which starts a
    program (curl for http); s3 by `aws s3 cp`, which that leaves out.

    Raises:
        ShardError: it can't be opened.
        CutShortError: what was raised within the block, with how the program ended.
    """
    if not is_url(address):
        try:
            file = Path(address).open("rb")  # noqa: SIM115 (errors of the block are not of opening)
        except OSError as error:
            raise ShardError(f"{address}: can't be read ({error.strerror}); check it") from error
        with file:
            yield file
        return
    from webdataset.gopen import Pipe, gopen, set_options

    try:
        # a program that writes to a pipe that was closed fails: whether bytes are missing, the tar itself says
        stream = gopen(_as_pipe(address))
    except (OSError, ValueError) as error:
        raise ShardError(f"{address}: can't be opened ({error}); check it") from error
    set_options(stream, ignore_errors=True)
    try:
        yield stream
    except CutShortError as error:
        raise CutShortError(f"{error} (the program that fetches it ended with {_exit_code(stream)})") from error
    finally:
        if isinstance(stream, Pipe):
            stream.proc.kill()
        stream.close()


def _as_pipe(address: str) -> str:
    if address.startswith("s3://"):
        return f"pipe:aws s3 cp --only-show-errors {shlex.quote(address)} -"
    return address


def read_address(address: str, most: int) -> bytes:
    """All that lies there. Raises ShardError for more than `most` bytes, or what can't be read to its end."""
    with open_address(address) as stream:
        parts, size = [], 0
        while part := stream.read(2**20):
            parts.append(part)
            size += len(part)
            if size > most:
                raise ShardError(f"{address}: more than {most} bytes; it isn't read")
        if _exit_code(stream):
            raise CutShortError(f"{address}: not there, or not to be read to its end")
    return b"".join(parts)


def read_on(address: str, read: Callable[[int], Iterable[T]]) -> Iterator[T]:
    """What `read` gives from an address; where a transfer breaks off it is begun again and goes on where it was.

    Args:
        address: where it is read from; a file on this machine that is cut short stays so.
        read: called with the number of things that came before; gives those after them.

    Raises:
        CutShortError: it broke off `TRIES` times with nothing new in between.
    """
    done = tries = 0
    while True:
        try:
            for thing in read(done):
                done, tries = done + 1, 0
                yield thing
            return
        except CutShortError as error:
            tries += 1
            if not is_url(address):
                raise
            if tries >= TRIES:
                raise CutShortError(f"{error}; tried {tries} times") from error


def _exit_code(stream: object) -> int | None:
    """Of the program behind a stream that has come to its end; None where there is none, or it goes on."""
    process = getattr(stream, "proc", None)
    if process is None:
        return None
    try:
        return process.wait(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return None
