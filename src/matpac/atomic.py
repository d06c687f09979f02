"""Files that appear under their names whole, or not at all."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A draft in the same folder, which takes the file's place when the block is left without an error."""
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
    r"""As UTF-8 takes it: halves of surrogates become \udcff, which JSON reads back as what they were."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def to_disk(path: Path) -> None:
    """Wait until a file, or on POSIX a folder's list of files, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
