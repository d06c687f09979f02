"""Sound files as mono float32 at one rate: whole, a part by seeking, or block by block."""

import math
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import soundfile
from jaxtyping import Float32

from matpac.audio.decoder import AudioError, AudioInfo, Decoder, SoundBytes, Source
from matpac.audio.ffmpeg import AV_SUFFIXES, AvDecoder, import_av
from matpac.audio.samples import SAMPLE_RATE, Resampler, resample, unusable
from matpac.audio.sndfile import SndfileDecoder
from matpac.errors import MatpacError

AUDIO_SUFFIXES = AV_SUFFIXES | {
    *(".wav", ".wave", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".aifc", ".au", ".snd"),
    *(".caf", ".w64", ".rf64", ".mp2"),
}
# Source frames that the resampler's filter reaches on each side of a crop, for rates up to the target's; above it
# the filter grows with the ratio. Measured: from 128 frames on (256 at 48 → 16 kHz, 512 at 96), a resampled part
# equals the same part of the whole to 1e-5; this is four times that.
RESAMPLER_REACH = 512
FORMAT_NOT_RECOGNISED = 1  # SF_ERR_UNRECOGNISED_FORMAT of sndfile.h
UNKNOWN_LENGTH = 2**62  # frames; libsndfile reports more for a FLAC that was written to a pipe
EVERYBODY = stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH  # mode of a file that all may read


def readers() -> str:
    """Names and versions of the libraries that decode here: what can be read may change with them."""
    av = import_av()
    return f"libsndfile {soundfile.__libsndfile_version__}" + (f", PyAV {av.__version__}" if av else "")


def find_audio(paths: Sequence[str | Path]) -> list[Path]:
    """The given sound files and those in the given folders, in a fixed order, each once.

    A file is taken as it is; a folder is searched deep, links to folders followed, for names that end on one of
    `AUDIO_SUFFIXES` in any case. Names that begin with a dot are ignored. Raises AudioError for a path that is
    missing and for a folder that cannot be read.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if not path.exists():
            raise AudioError(f"{path}: no such file or folder; check the path")
        for file in _audio_below(path) if path.is_dir() else [path]:
            found[file] = None
    return list(found)


def _audio_below(folder: Path) -> list[Path]:
    def unreadable(error: OSError) -> None:
        reason = f"folder cannot be read ({error.strerror}); check its permissions"
        raise AudioError(f"{error.filename}: {reason}") from error

    files: list[str] = []
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True, onerror=unreadable):
        real = os.path.realpath(place)
        folders[:] = [name for name in folders if not name.startswith(".")]
        if real in seen:  # a link back up would be followed for ever
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        files += [
            os.path.join(place, name)  # noqa: PTH118 (millions of files)
            for name in names
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in AUDIO_SUFFIXES  # noqa: PTH122
        ]
    return [Path(file) for file in sorted(files)]


def may_be_read(path: str | Path, mode: int) -> bool:
    """Whether this process may read a file of such a mode; asks the system where not everybody may."""
    if mode & EVERYBODY == EVERYBODY:
        return True
    return os.access(path, os.R_OK, effective_ids=os.access in os.supports_effective_ids)


@contextmanager
def opened(path: str | Path | SoundBytes) -> Iterator[Decoder]:
    """A sound file's decoder; what a library raises and no decoder foresaw becomes an AudioError."""
    source: Source = Path(path) if isinstance(path, str) else path
    try:
        with closing(open_decoder(source)) as sound:
            yield sound
    except (MatpacError, OSError, MemoryError):
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise AudioError(f"{path}: cannot be decoded here ({reason}); remove it or convert it to FLAC") from error


def open_decoder(path: Source) -> Decoder:
    """Open a sound file: by libsndfile if it can, else by PyAV if that is installed. Raises AudioError.

    A sound that is not a file of its own is opened by libsndfile alone.
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
    if not may_be_read(path, found.st_mode):  # libraries report it as damage
        raise AudioError(f"{path}: cannot be opened (permission denied); check its permissions")
    if found.st_size == 0:
        raise AudioError(f"{path}: empty file (0 bytes); copy or download it again")


def info(path: str | Path | SoundBytes) -> AudioInfo:
    """Rate, channels and length of a sound file, from its header alone. Raises AudioError.

    The length of an MP3 without a Xing, Info or VBRI header is libsndfile's estimate from the first bit rate.
    """
    with opened(path) as sound:
        return sound.info


def read(path: str | Path | SoundBytes, sample_rate: int = SAMPLE_RATE) -> Float32[np.ndarray, " samples"]:
    """The whole file, mono, at `sample_rate` (Hz).

    Raises AudioError for a file that is missing, empty, no sound file, cut short or damaged (with how much of it
    can be read), joined from several, without samples, or with samples that are `unusable`. An MP3 may be 2304
    frames shorter than its header says (encoders count the silence at both ends differently), what PyAV reads
    2 % + 0.1 s (containers round), any other file not by one frame. WAV, AIFF, AU and Ogg files that were cut
    between two blocks read as shorter files: libsndfile takes their length from what is there. A file shorter
    than one sample at `sample_rate` gives none.
    """
    return np.concatenate([np.empty(0, np.float32), *blocks(path, sample_rate=sample_rate)])


def blocks(
    path: str | Path | SoundBytes, seconds: float = 30.0, sample_rate: int = SAMPLE_RATE
) -> Iterator[Float32[np.ndarray, " samples"]]:
    """The file in pieces, mono, at `sample_rate` (Hz), in flat memory; joined they are `read(path)`.

    A piece comes from `seconds` of the file; its own length varies a little, since the resampler looks ahead. A
    file shorter than one sample at `sample_rate` has no piece. Raises as `read` does, when the damaged place is
    reached.
    """
    with opened(path) as sound:
        rate = sound.info.sample_rate
        size = max(1, round(seconds * rate))
        resampler = Resampler(rate, sample_rate)
        position, more = 0, True
        while more:
            source = _mono(sound.read(size), path, position, rate)
            more = len(source) == size
            position += len(source)
            if position == 0:
                raise AudioError(f"{path}: no samples in this file; remove it")
            piece = resampler.push(source, last=not more)
            if len(piece):
                yield piece


def read_crop(
    path: str | Path | SoundBytes, start: float, samples: int, sample_rate: int = SAMPLE_RATE
) -> Float32[np.ndarray, " samples"]:
    """`samples` samples (at `sample_rate`, Hz) from `start` seconds on, mono; fewer where the file ends.

    Only that part is decoded, and what decoder and resampler need around it. It equals
    `read(path)[first : first + samples]`, first = round(start · sample_rate): to 1e-5 in lossless formats, Vorbis
    and MP3; to about 0.02 in Opus' speech mode, whose decoder depends on all that came before; with positions
    exact to 1 ms in WebM; AAC may hold noise that its decoder draws at each decoding. Raises as `read` does, but
    finds damage only where it reads, and AudioError where `start` lies behind the end.
    """
    if start < 0 or samples < 1:
        raise ValueError(f"{path}: a crop starts at 0 s or later and has samples, not {start} s and {samples}")
    first = round(start * sample_rate)
    with opened(path) as sound:
        rate = sound.info.sample_rate
        reach = 0 if rate == sample_rate else math.ceil(RESAMPLER_REACH * max(1.0, rate / sample_rate))
        period = rate // math.gcd(rate, sample_rate)  # source frames after which both grids of samples meet
        begin = max(0, first * rate // sample_rate - reach) // period * period
        end = -(-(first + samples) * rate // sample_rate) + reach
        if begin >= sound.info.frames:
            raise AudioError(f"{path}: no samples at {start:.2f} s, it is {sound.info.duration:.2f} s long")
        if begin:
            sound.seek(begin)
        source = _mono(sound.read(end - begin), path, begin, rate)
    offset = first - begin * sample_rate // rate
    crop = resample(source, rate, sample_rate)[offset : offset + samples]
    if not len(crop):
        raise AudioError(
            f"{path}: no samples at {start:.2f} s, though its header says {sound.info.duration:.2f} s"
        )
    return np.ascontiguousarray(crop)


def _mono(
    frames: Float32[np.ndarray, "frames channels"], path: str | Path | SoundBytes, begin: int, rate: int
) -> Float32[np.ndarray, " frames"]:
    """Mean of the channels of what a decoder gave from frame `begin` on; raises AudioError if `unusable`."""
    mono = frames.mean(axis=1) if frames.shape[1] > 1 else frames[:, 0]
    if found := unusable(mono):
        place, why = found
        raise AudioError(f"{path}: a sample that is {why} at {(begin + place) / rate:.2f} s; convert it again")
    return mono
