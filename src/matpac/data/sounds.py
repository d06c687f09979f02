"""What the sounds of a corpus are read from: files here, members of shards in `matpac.data.shards`."""

import os
from collections.abc import Sequence
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


class FileSounds:
    """Clips that are files: arrays, not objects, whose memory workers share, since nothing counts references."""

    def __init__(self, clips: Sequence[Clip]) -> None:
        self._paths = np.array([os.fsencode(clip.path) for clip in clips])

    def sound(self, epoch: int, index: int, replaces: bool) -> str:
        """See `Sounds`."""
        return os.fsdecode(self._paths[index])
