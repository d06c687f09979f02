"""What every decoder of sound files offers, what they read from, and the error they share."""

from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from matpac.errors import MatpacError


class AudioError(MatpacError):
    """A sound file that can't be used; the message begins with its path and tells the way out."""


@runtime_checkable
class SoundBytes(Protocol):
    """A sound that is no file of its own: a member of an archive, bytes in memory. `str` names it."""

    @property
    def size(self) -> int:
        """In bytes."""
        ...

    def open(self) -> BufferedIOBase:
        """Its bytes from the first on, in a stream that can seek; whoever opens it closes it."""
        ...


Source = Path | SoundBytes


@dataclass(frozen=True)
class AudioInfo:
    """What a sound file's header says: rate in Hz, number of channels, length in frames at that rate."""

    path: str
    sample_rate: int
    channels: int
    frames: int

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.frames / self.sample_rate


@runtime_checkable
class Decoder(Protocol):
    """An open sound file."""

    info: AudioInfo

    def seek(self, frame: int) -> None:
        """Makes `frame` the first one of the next read."""
        ...

    def read(self, frames: int) -> Float32[np.ndarray, "frames channels"]:
        """The next `frames` frames, fewer at the end; AudioError where the end comes too early."""
        ...

    def close(self) -> None:
        """Closes the file."""
        ...


def ended_early(info: AudioInfo, position: int, reason: str) -> AudioError:
    """The error for a file of which only the frames before `position` can be decoded."""
    read = f"only about {position / info.sample_rate:.2f} s of {info.duration:.2f} s can be read"
    return AudioError(f"{info.path}: damaged or cut short: {read} ({reason}); copy or download it again")
