"""Sound files as blocks of frames at their own rate; only `matpac.audio` uses this package."""

import os
import stat
from pathlib import Path

import soundfile

from matpac.audio.decoders.base import AudioError, AudioInfo, Decoder, SoundBytes, Source
from matpac.audio.decoders.ffmpeg import AV_SUFFIXES, AvDecoder, import_av
from matpac.audio.decoders.sndfile import SndfileDecoder

__all__ = [
    "AV_SUFFIXES",
    "AudioError",
    "AudioInfo",
    "Decoder",
    "SoundBytes",
    "Source",
    "import_av",
    "may_be_read",
    "open_decoder",
]

FORMAT_NOT_RECOGNISED = 1  # SF_ERR_UNRECOGNISED_FORMAT of sndfile.h
EVERYBODY = stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH  # the mode of a file that all may read
UNKNOWN_LENGTH = 2**62  # frames; libsndfile says more for a FLAC that was written to a pipe


def open_decoder(path: Source) -> Decoder:
    """Opens a sound file: by libsndfile if it can, else by PyAV if that is installed. Raises AudioError.

    A sound that is no file of its own is opened by libsndfile alone.
    """
    _check_file(path)
    try:
        sound = SndfileDecoder(path)
        if sound.info.frames < UNKNOWN_LENGTH:
            return sound
        sound.close()
        reason, unknown = "its header has no length", False
    except soundfile.LibsndfileError as error:
        reason, unknown = error.error_string.strip(), error.code == FORMAT_NOT_RECOGNISED
    if not isinstance(path, Path):
        raise AudioError(f"{path}: not a sound that libsndfile reads from inside another file ({reason})")
    av = import_av()
    if av is not None:
        return AvDecoder(path, av)
    if path.suffix.lower() in AV_SUFFIXES:
        raise AudioError(f"{path}: format not readable here; install matpac[av] or convert it to FLAC")
    if unknown:
        with path.open("rb") as file:
            start = file.read(12)
        raise AudioError(
            f"{path}: not a sound file that can be read here (it begins with {start!r}); "
            "remove it, or if it is one, install matpac[av] or convert it to FLAC"
        )
    raise AudioError(f"{path}: damaged or of an unusual kind ({reason}); convert it to FLAC or install matpac[av]")


def may_be_read(path: str | Path, mode: int) -> bool:
    """Whether this process has permission to read a file of such a mode; asks the system where not all have."""
    if mode & EVERYBODY == EVERYBODY:
        return True
    return os.access(path, os.R_OK, effective_ids=os.access in os.supports_effective_ids)


def _check_file(path: Source) -> None:
    if not isinstance(path, Path):
        if path.size == 0:
            raise AudioError(f"{path}: empty (0 bytes); remove it")
        return
    if not path.exists():
        raise AudioError(f"{path}: no such file; check the path")
    if not path.is_file():
        raise AudioError(f"{path}: a folder, not a sound file; give the files in it")
    found = path.stat()
    if not may_be_read(path, found.st_mode):  # libraries tell it as damage
        raise AudioError(f"{path}: can't be opened (permission denied); check its permissions")
    if found.st_size == 0:
        raise AudioError(f"{path}: empty file (0 bytes); copy or download it again")
