"""Rows of the cache that several tasks have in common: MTG-Jamendo's four label the same tracks.

A clip is known by its path without links, its size and time. Beside a finished array lies a list of its clips'
digests (`<stem>.clips`), in which a file of another task with the same encoder and settings looks for its own.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256

import numpy as np

from matpac.probe.feature_cache import FeatureFile, read_state

BYTES = 16
"""Of a clip's digest: 128 bits of SHA-256, which no two clips share; ours."""

GONE = bytes(BYTES)
"""The digest of a clip that is not there to be read; it is nobody's."""


def clip_digests(paths: Sequence[str], stats: Sequence[tuple[int, int]]) -> bytes:
    """Digests of clips one after another, from their absolute paths and (size, time); size -1 is not there."""
    return b"".join(
        GONE if size < 0 else sha256(f"{size} {time} {path}".encode(errors="surrogateescape")).digest()[:BYTES]
        for path, (size, time) in zip(paths, stats, strict=True)
    )


def rows_of_other_tasks(file: FeatureFile) -> dict[int, tuple[np.ndarray, int]]:
    """By number of a clip of `file`: a finished array of the same folder that has it, and the row there.

    Arrays count whose encoder and settings are the same and that are to the byte what was written.
    """
    wanted = {digest: number for number, digest in enumerate(_split(file.clips)) if digest != GONE}
    found: dict[int, tuple[np.ndarray, int]] = {}
    for path in sorted(file.json.parent.glob("*.json")):
        if path == file.json:
            continue
        state = read_state(path)
        if state is None or settings(state.about) != settings(file.state.about):
            continue
        other = FeatureFile(path.parent, path.stem, state.key, state.total, state.dtype, state.about)
        if not other.take_finished():
            continue
        array, failed, row = other.open(), other.failed, 0
        for clip, digest in enumerate(_split(other.clips)):
            if clip in failed:
                continue
            if digest in wanted:
                found.setdefault(wanted[digest], (array, row))
            row += 1
    return found


def settings(about: Mapping[str, object]) -> dict[str, object]:
    """What rows depend on beside the clips: all but names."""
    return {name: value for name, value in about.items() if name not in ("task", "encoder")}


def _split(digests: bytes) -> list[bytes]:
    return [digests[start : start + BYTES] for start in range(0, len(digests), BYTES)]
