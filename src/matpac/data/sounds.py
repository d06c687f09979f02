"""What the sounds of a corpus are read from: files here, members of shards in `matpac.data.shards`."""

import os
from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from matpac import audio
from matpac.data.files import Clip


@runtime_checkable
class Sounds(Protocol):
    """What each clip's sound is read from."""

    def sound(self, epoch: int, index: int, replaces: bool) -> str | audio.SoundBytes:
        """That of one clip; `replaces` tells that it takes the place of another one, out of turn."""
        ...


class Names:
    """Millions of names in one piece of memory, which workers share, since nothing counts references."""

    def __init__(self, names: Iterable[str]) -> None:
        encoded = [os.fsencode(name) for name in names]
        self._bytes = b"".join(encoded)
        self._bounds = np.cumsum([0, *map(len, encoded)], dtype=np.int64)

    def __getitem__(self, index: int) -> str:
        return os.fsdecode(self._bytes[self._bounds[index] : self._bounds[index + 1]])


class FileSounds:
    """Clips that are files."""

    def __init__(self, clips: Sequence[Clip]) -> None:
        self._paths = Names(clip.path for clip in clips)

    def sound(self, epoch: int, index: int, replaces: bool) -> str:
        """See `Sounds`."""
        return self._paths[index]
