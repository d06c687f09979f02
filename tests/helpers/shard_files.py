"""Shards for tests, made with Python's tarfile: plain ones, other people's, and hostile ones."""

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import soundfile

from helpers.sound_files import make_sound


def tar_bytes(
    members: Sequence[tuple[str, bytes] | tuple[tarfile.TarInfo, bytes]], kind: int = tarfile.USTAR_FORMAT
) -> bytes:
    """A tar of these members; a TarInfo is written as it is, whatever its content."""
    parts = []
    for name, content in members:
        info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
        if info is not name:
            info.size = len(content)
        parts += [info.tobuf(cast(Any, kind), "utf-8", "surrogateescape"), content, bytes(-len(content) % 512)]
    return b"".join([*parts, bytes(1024)])


def sound_bytes(seconds: float, seed: int = 0, kind: str = "FLAC", rate: int = 16_000) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, make_sound(rate, seconds, seed=seed), rate, format=kind)
    return file.getvalue()


def write_shards(
    folder: Path, counts: Sequence[int], seconds: float = 0.7, extra: Sequence[tuple[str, bytes]] = ()
) -> list[Path]:
    """Tars as somebody else makes them, without index: counts[n] clips in the n-th, a text beside each."""
    folder.mkdir(parents=True, exist_ok=True)
    paths, seed = [], 0
    for number, count in enumerate(counts):
        members: list[tuple[str, bytes]] = []
        for _ in range(count):
            members += [
                (f"clip{seed}.flac", sound_bytes(seconds + 0.01 * seed, seed)),
                (f"clip{seed}.cls", b"1"),
            ]
            seed += 1
        paths.append(folder / f"{number:03d}.tar")
        paths[-1].write_bytes(tar_bytes([*members, *(extra if number == 0 else [])]))
    return paths


def members_of(tar: Path) -> dict[str, bytes]:
    with tarfile.open(tar) as file:
        return {info.name: file.extractfile(info).read() for info in file if info.isreg()}  # type: ignore[union-attr]


def decoded(content: bytes) -> np.ndarray:
    return soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)[0]
