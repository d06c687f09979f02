"""Files that are written whole or not at all."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A draft in the same folder, which replaces the file when the block ends without an error."""
    draft = path.with_name(f".{path.name}-{uuid.uuid4().hex[:8]}")
    try:
        yield draft
        to_disk(draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a small file in UTF-8."""
    with written_whole(path) as draft:
        draft.write_text(text, encoding="utf-8")


def escaped(text: str) -> str:
    r"""Text that UTF-8 can encode: halves of surrogates become \udcff, which JSON reads back unchanged."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def to_disk(path: Path) -> None:
    """Wait until a file, or on POSIX a folder's list of files, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
