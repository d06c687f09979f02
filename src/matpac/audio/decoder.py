"""What every decoder of sound files offers, what it reads from, and the error of a file that cannot be used."""

from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from matpac.errors import MatpacError


class AudioError(MatpacError):
    """A sound file that cannot be used; the message begins with its path and says what to do."""


@runtime_checkable
class SoundBytes(Protocol):
    """A sound that is not a file of its own: a member of an archive, bytes in memory. `str` names it."""

    @property
    def size(self) -> int:
        """In bytes."""
        ...

    def open(self) -> BufferedIOBase:
        """Its bytes from the first on, in a stream that can seek; the caller closes it."""
        ...


Source = Path | SoundBytes


@dataclass(frozen=True)
class AudioInfo:
    """The header of a sound file.

    Args:
        path: of the file.
        sample_rate: in Hz.
        channels: how many.
        frames: length at that rate.
    """

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
        """Make `frame` the first one of the next read."""
        ...

    def read(self, frames: int) -> Float32[np.ndarray, "frames channels"]:
        """The next `frames` frames, fewer at the end; AudioError where the end comes too early."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


def ended_early(info: AudioInfo, position: int, reason: str) -> AudioError:
    """The error for a file of which only the frames before `position` can be decoded."""
    read = f"only about {position / info.sample_rate:.2f} s of {info.duration:.2f} s can be read"
    return AudioError(f"{info.path}: damaged or cut short: {read} ({reason}); copy or download it again")
