"""What is kept beside a downloaded file, in `<file>.json`: where it came from, its size, its SHA-256.

A file put there by hand has no receipt and is taken as it is.
"""

import json
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from matpac.atomic import write_text
from matpac.errors import MatpacError

BLOCK = 2**20
"""Bytes read at once."""


class DownloadError(MatpacError):
    """A file that could not be fetched, or is not what was fetched; the message says what to do."""


@dataclass(frozen=True)
class Receipt:
    """What is known of a file on the way (`<file>.part.json`) or downloaded (`<file>.json`).

    Args:
        url: where it came from.
        etag: the server's name for this version of it, None where it gave no strong one.
        size: in bytes.
        sha256: of the whole file in hexadecimal, None on the way.
    """

    url: str
    etag: str | None
    size: int
    sha256: str | None = None


def check(path: Path, hashed: bool = False) -> None:
    """That a file is still as it was downloaded: its size, and where `hashed` every byte.

    Raises:
        DownloadError: it is not; says which file to delete.
    """
    receipt = read_receipt(beside(path))
    if receipt is None:
        return
    if (size := path.stat().st_size) != receipt.size:
        found = f"{size} bytes instead of {receipt.size}"
    elif hashed and (digest := sha256_of(path)) != receipt.sha256:
        found = f"SHA-256 {digest} instead of {receipt.sha256}"
    else:
        return
    raise DownloadError(
        f"{path}: not what was downloaded from {receipt.url} ({found}); delete it and {beside(path).name} "
        "beside it, and it is downloaded again"
    )


def read_receipt(path: Path) -> Receipt | None:
    """The receipt at a path, None without one. Raises DownloadError where it is not readable."""
    if not path.exists():
        return None
    try:
        return Receipt(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise DownloadError(f"{path}: not readable ({error}); delete it") from error


def write_receipt(path: Path, receipt: Receipt) -> None:
    """Write a receipt, whole or not at all."""
    write_text(path, json.dumps(asdict(receipt), indent=2) + "\n")


def sha256_of(path: Path) -> str:
    """In hexadecimal, in flat memory."""
    digest = sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def beside(path: Path) -> Path:
    """Where a file's receipt lies."""
    return path.with_name(f"{path.name}.json")
