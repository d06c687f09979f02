"""One file over HTTPS into a folder: resumed where it broke off, checked, complete or not there at all."""

import http.client
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from matpac.files.hub.receipts import (
    BLOCK,
    DownloadError,
    Receipt,
    beside,
    check,
    read_receipt,
    sha256_of,
    write_receipt,
)

LARGEST = 8 * 2**30
"""Bytes; ours: ViT-B with all its training state is 1 GB, and a server must not fill the disk."""

TRIES = 4
"""Attempts in a row that may bring nothing before the download fails; ours."""

PAUSE = 0.5
"""Seconds before the second attempt, doubled from one to the next; ours."""

TIMEOUT = 30.0
"""Seconds without an answer or a byte after which an attempt has failed; ours."""

TRANSIENT = {408, 425, 429, 500, 502, 503, 504}
"""HTTP answers that may be another one a moment later (RFC 9110, RFC 6585, RFC 8470)."""

_LOOPBACK = {"127.0.0.1", "::1", "localhost"}


@dataclass(frozen=True)
class Limits:
    """What a download may cost.

    Args:
        largest: bytes of the file.
        tries: attempts in a row that may bring nothing.
        timeout: seconds without an answer or a byte.
    """

    largest: int
    tries: int
    timeout: float


class _Transient(Exception):
    """What may go better at the next attempt."""


def download(url: str, target: Path, pause: float | None = None, limits: Limits | None = None) -> Path:
    """Fetch a file to `target`, unless it is there; what another process fetches is waited for.

    A download that breaks off is kept in `<target>.part` and goes on from there, if the server's ETag says
    that the file is still the same, the next time too.

    Args:
        url: https; plain http from this machine alone.
        target: its folder is made.
        pause: instead of `PAUSE`.
        limits: instead of `LARGEST`, `TRIES` and `TIMEOUT`, which are for weights.

    Raises:
        DownloadError: no connection, an error of the server, too large for the limits or the disk, or a file
            there already that is not the one once downloaded.
    """
    if target.exists():
        check(target)
        return target
    _check_url(url)
    limits = limits or Limits(LARGEST, TRIES, TIMEOUT)
    try:
        return _download(url, target, PAUSE if pause is None else pause, limits)
    except _Transient as error:
        kept = _size(_part(target)) / 1e6
        raise DownloadError(
            f"{url}: not downloaded ({error}); the first {kept:.1f} MB are kept; {_by_hand(target)}"
        ) from error
    except OSError as error:
        reason = error.strerror or error
        raise DownloadError(
            f"{target}: can't be written ({reason}); make room, or choose another cache with MATPAC_CACHE"
        ) from error


def _download(url: str, target: Path, pause: float, limits: Limits) -> Path:
    from filelock import FileLock  # huggingface_hub and torch bring it

    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if target.exists():  # another process was faster
            check(target)
            return target
        beside(target).unlink(missing_ok=True)
        part = _part(target)
        receipt = _fetch(url, part, pause, limits)
        part.replace(target)
        # after the file: without it a file counts as put there by hand, which is true enough
        write_receipt(beside(target), receipt)
        beside(part).unlink()
    return target


def _fetch(url: str, part: Path, pause: float, limits: Limits) -> Receipt:
    """Attempts until the part is whole."""
    failures, most = 0, _size(part)
    while True:
        try:
            receipt = _attempt(url, part, limits)
        except _Transient:
            failures = 0 if _size(part) > most else failures + 1
            most = max(most, _size(part))
            if failures == limits.tries:
                raise
            time.sleep(pause * 2 ** max(0, failures - 1))
        else:
            return Receipt(url, receipt.etag, _size(part), sha256_of(part))


def _attempt(url: str, part: Path, limits: Limits) -> Receipt:
    have = _resumable(url, part)
    start = _size(part) if have else 0
    if have and start == have.size:
        return have
    headers = {"User-Agent": "matpac", "Accept-Encoding": "identity"}
    if have and have.etag:
        headers |= {"Range": f"bytes={start}-", "If-Range": have.etag}
    with _open(url, headers, part, limits.timeout) as response:
        if response.status == 206 and have:
            _check_range(response, start, have, part)
        else:  # from the beginning: nothing was there, or another version of it
            part.unlink(missing_ok=True)
            start, have = 0, Receipt(url, _strong_etag(response), _length(response, url, limits.largest))
            write_receipt(beside(part), have)
        with part.open("ab") as file, _progress(part.stem, start, have.size) as advance:
            for block in _blocks(response):
                start += len(block)
                file.write(block)
                advance(len(block))
            file.flush()
            os.fsync(file.fileno())
    if start != have.size:
        raise _Transient(f"the connection ended after {start} of {have.size} bytes")
    return have


def _resumable(url: str, part: Path) -> Receipt | None:
    """What is known of the part, if the server can be asked for the rest of it."""
    receipt = read_receipt(beside(part)) if _size(part) else None
    if receipt is None or receipt.url != url or receipt.etag is None:
        return None
    return receipt


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """No redirection away from https."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        with fp:  # closed, even where the new address is refused
            _check_url(newurl)
            return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise DownloadError(f"{url}: not downloaded, since weights come over https alone")


def _open(url: str, headers: dict[str, str], part: Path, timeout: float) -> http.client.HTTPResponse:
    opener = urllib.request.build_opener(_SafeRedirects)
    try:
        return opener.open(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416:  # asked for more than there is: the part is not of this file
                _discard(part)
            if error.code in TRANSIENT | {416}:
                raise _Transient(f"the server answered {error.code} {error.reason}") from error
            target = part.with_suffix("")
            raise DownloadError(
                f"{url}: the server answered {error.code} {error.reason}; {_by_hand(target)}"
            ) from error
    except (OSError, http.client.HTTPException) as error:
        raise _Transient(f"{getattr(error, 'reason', None) or error or type(error).__name__}") from error


def _blocks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    while True:
        try:
            block = response.read(BLOCK)
        except (OSError, http.client.HTTPException) as error:
            raise _Transient(f"the connection broke: {error}") from error
        if not block:
            return
        yield block


def _check_range(response: http.client.HTTPResponse, start: int, have: Receipt, part: Path) -> None:
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
    if not match or int(match[1]) != start or int(match[2]) != have.size or _strong_etag(response) != have.etag:
        _discard(part)
        raise _Transient("the server sent another part than asked for")


def _length(response: http.client.HTTPResponse, url: str, largest: int) -> int:
    length = response.headers.get("Content-Length", "")
    if not length.isdecimal():
        raise DownloadError(f"{url}: the server does not say how long the file is, so it can't be checked")
    if int(length) > largest:
        raise DownloadError(f"{url}: {length} bytes, and no such file has more than {largest}; not downloaded")
    return int(length)


def _strong_etag(response: http.client.HTTPResponse) -> str | None:
    """Weak ones do not promise equal bytes (RFC 9110, §8.8.1)."""
    etag = response.headers.get("ETag")
    return None if etag is None or etag.startswith("W/") else etag


@contextmanager
def _progress(name: str, start: int, total: int) -> Iterator[Callable[[int], None]]:
    """On a terminal: how much, how fast, how long still."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.progress import TransferSpeedColumn as Speed

    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), Speed(), TimeRemainingColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(name, total=total, completed=start)
        yield lambda size: progress.advance(task, size)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _part(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    beside(part).unlink(missing_ok=True)


def _by_hand(target: Path) -> str:
    return f"try again, or fetch the file elsewhere and put it there: {target}"
