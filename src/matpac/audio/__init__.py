"""Sound files and arrays as mono float32 at one rate: whole, a part by seeking, or block by block."""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import soundfile
import soxr
from jaxtyping import Float, Float32

from matpac.audio.decoders import (
    AV_SUFFIXES,
    AudioError,
    AudioInfo,
    Decoder,
    SoundBytes,
    Source,
    import_av,
    may_be_read,
    open_decoder,
)
from matpac.errors import MatpacError

__all__ = [
    "AUDIO_SUFFIXES",
    "SAMPLE_RATE",
    "AudioError",
    "AudioInfo",
    "Resampler",
    "SoundBytes",
    "blocks",
    "find_audio",
    "info",
    "may_be_read",
    "read",
    "read_crop",
    "readers",
    "resample",
    "to_mono",
    "unusable",
]

SAMPLE_RATE = 16_000  # Hz; what every published checkpoint hears (docs/method.md, section 1)
RESAMPLER = "HQ"  # soxr's 20-bit quality, its default
# Source frames on each side of a crop that the resampler's filter reaches, for rates up to the target's;
# above it the filter grows with the ratio. Measured: from 128 frames on (256 at 48 → 16 kHz, 512 at 96), a
# resampled part equals the same part of the whole to 1e-5; this is four times that.
RESAMPLER_REACH = 512
# Above the full scale of 32-bit integers that were taken for floats (2.1e9), and so small that the power spectrum
# of the longest window (65 536 samples) stays far inside float32: (1e10 · 65 536)² = 4e29.
LOUDEST = 1e10
MOST_CHANNELS = 64  # more rows than that are samples, in an array that lies the wrong way round

AUDIO_SUFFIXES = AV_SUFFIXES | {
    *(".wav", ".wave", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".aifc", ".au", ".snd"),
    *(".caf", ".w64", ".rf64", ".mp2"),
}


def readers() -> str:
    """Names and versions of the libraries that decode here: what can be read may change with them."""
    av = import_av()
    return f"libsndfile {soundfile.__libsndfile_version__}" + (f", PyAV {av.__version__}" if av else "")


def find_audio(paths: Sequence[str | Path]) -> list[Path]:
    """Sound files named or lying in the folders named, in a fixed order, each once.

    A file is taken as it is; a folder is searched deep, links to folders followed, for names that end on
    one of `AUDIO_SUFFIXES` in any case. Names that begin with a dot are skipped. Raises AudioError for a path
    that is missing and for a folder that can't be read.
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
        raise AudioError(
            f"{error.filename}: folder can't be read ({error.strerror}); check its permissions"
        ) from error

    files: list[str] = []
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True, onerror=unreadable):
        real = os.path.realpath(place)
        folders[:] = [name for name in folders if not name.startswith(".")]
        if real in seen:  # a link back up would be walked for ever
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


def info(path: str | Path | SoundBytes) -> AudioInfo:
    """Rate, channels and length of a sound file, from its header alone. Raises AudioError.

    The length of an MP3 without a Xing, Info or VBRI header is libsndfile's estimate from the first bit rate.
    """
    with _opened(path) as sound:
        return sound.info


@contextmanager
def _opened(path: str | Path | SoundBytes) -> Iterator[Decoder]:
    """A sound file's decoder; what a library raises meanwhile that no decoder foresaw becomes an AudioError."""
    source: Source = Path(path) if isinstance(path, str) else path
    try:
        with closing(open_decoder(source)) as sound:
            yield sound
    except (MatpacError, OSError, MemoryError):
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise AudioError(f"{path}: can't be decoded here ({reason}); remove it or convert it to FLAC") from error


def to_mono(
    waveform: Float[np.ndarray, " samples"] | Float[np.ndarray, "channels samples"],
) -> Float32[np.ndarray, " samples"]:
    """Mean of the channels; one dimension stays as it is. Raises ValueError for other shapes."""
    if waveform.ndim not in (1, 2) or (waveform.ndim == 2 and not 1 <= waveform.shape[0] <= MOST_CHANNELS):
        raise ValueError(
            f"a waveform is [samples] or [channels, samples], not {list(waveform.shape)}; transpose it?"
        )
    mono = waveform if waveform.ndim == 1 else waveform.mean(axis=0)
    return mono.astype(np.float32, copy=False)


def resample(
    waveform: Float32[np.ndarray, " samples"], from_rate: int, to_rate: int
) -> Float32[np.ndarray, " resampled"]:
    """The waveform at another rate (Hz), by soxr; the same array where the rates are equal."""
    if from_rate <= 0 or to_rate <= 0:
        raise ValueError(f"sample rates are positive, not {from_rate} and {to_rate} Hz")
    if from_rate == to_rate or not len(waveform):
        return waveform
    return soxr.resample(waveform, from_rate, to_rate, quality=RESAMPLER)


class Resampler:
    """Sound at another rate (Hz) as it comes; put together, the pieces are `resample` of the whole."""

    def __init__(self, from_rate: int, to_rate: int):
        if from_rate <= 0 or to_rate <= 0:
            raise ValueError(f"sample rates are positive, not {from_rate} and {to_rate} Hz")
        self._stream = None
        if from_rate != to_rate:
            self._stream = soxr.ResampleStream(from_rate, to_rate, 1, dtype="float32", quality=RESAMPLER)

    def push(
        self, block: Float32[np.ndarray, " samples"], last: bool = False
    ) -> Float32[np.ndarray, " resampled"]:
        """What can be given out after this block: the filter waits for a little of the next, if one comes."""
        return block if self._stream is None else self._stream.resample_chunk(block, last=last)

    def finish(self) -> Float32[np.ndarray, " resampled"]:
        """What was still waiting; for a stream whose last block was not pushed as such."""
        return self.push(np.empty(0, np.float32), last=True)


def read(path: str | Path | SoundBytes, sample_rate: int = SAMPLE_RATE) -> Float32[np.ndarray, " samples"]:
    """The whole file, mono, at `sample_rate` (Hz).

    Raises AudioError for a file that is missing, empty, no sound file, cut short or damaged (with how much of
    it can be read), joined from several, without samples, or with samples that are `unusable`. An MP3 may be
    2304 frames shorter than its header says (encoders count the silence at both ends differently), what PyAV
    reads 2 % + 0.1 s (containers round), any other file not by one frame. WAV, AIFF, AU and Ogg files that were
    cut between two blocks read as shorter files: libsndfile takes their length from what is there. A file
    shorter than a sample at `sample_rate` gives none.
    """
    return np.concatenate([np.empty(0, np.float32), *blocks(path, sample_rate=sample_rate)])


def blocks(
    path: str | Path | SoundBytes, seconds: float = 30.0, sample_rate: int = SAMPLE_RATE
) -> Iterator[Float32[np.ndarray, " samples"]]:
    """The file in pieces, mono, at `sample_rate` (Hz), in flat memory; put together they are `read(path)`.

    A piece comes from `seconds` of the file; its own length differs a little from piece to piece, since the
    resampler looks ahead. A file shorter than a sample at `sample_rate` has no piece. Raises as `read` does, when
    the damaged place is reached.
    """
    with _opened(path) as sound:
        rate = sound.info.sample_rate
        size = max(1, round(seconds * rate))
        resampler = Resampler(rate, sample_rate)
        position, more = 0, True
        while more:
            source = _mono_frames(sound.read(size), path, position, rate)
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
    `read(path)[first : first + samples]`, first = round(start · sample_rate): to 1e-5 in lossless formats,
    Vorbis and MP3; to about 0.02 in Opus' speech mode, whose decoder depends on all that came before; with
    places exact to 1 ms in WebM; AAC may hold noise that its decoder draws anew. Raises as `read` does, but
    sees damage only where it reads, and AudioError where `start` lies behind the end.
    """
    if start < 0 or samples < 1:
        raise ValueError(f"{path}: a crop starts at 0 s or later and has samples, not {start} s and {samples}")
    first = round(start * sample_rate)
    with _opened(path) as sound:
        rate = sound.info.sample_rate
        reach = 0 if rate == sample_rate else math.ceil(RESAMPLER_REACH * max(1.0, rate / sample_rate))
        period = rate // math.gcd(rate, sample_rate)  # source frames after which both grids of samples meet
        begin = max(0, first * rate // sample_rate - reach) // period * period
        end = -(-(first + samples) * rate // sample_rate) + reach
        if begin >= sound.info.frames:
            raise AudioError(f"{path}: no samples at {start:.2f} s, it is {sound.info.duration:.2f} s long")
        if begin:
            sound.seek(begin)
        source = _mono_frames(sound.read(end - begin), path, begin, rate)
    offset = first - begin * sample_rate // rate
    crop = resample(source, rate, sample_rate)[offset : offset + samples]
    if not len(crop):
        raise AudioError(
            f"{path}: no samples at {start:.2f} s, though its header says {sound.info.duration:.2f} s"
        )
    return np.ascontiguousarray(crop)


def _mono_frames(
    frames: Float32[np.ndarray, "frames channels"], path: str | Path | SoundBytes, begin: int, rate: int
) -> Float32[np.ndarray, " frames"]:
    """Mean of the channels of what a decoder gave from frame `begin` on; raises AudioError if `unusable`."""
    mono = frames.mean(axis=1) if frames.shape[1] > 1 else frames[:, 0]
    if found := unusable(mono):
        place, why = found
        raise AudioError(f"{path}: a sample that is {why} at {(begin + place) / rate:.2f} s; write it anew")
    return mono


def unusable(samples: Float[np.ndarray, " samples"]) -> tuple[int, str] | None:
    """The first sample that is not finite or so large that its power isn't: its place, and which it is."""
    if not len(samples) or -LOUDEST <= float(samples.min()) <= float(samples.max()) <= LOUDEST:  # False for NaN
        return None
    place = int((np.abs(samples.astype(np.float64)) <= LOUDEST).argmin())
    value = float(samples[place])
    if math.isfinite(value):
        return place, f"too large to be sound ({value:g}, not within ±{LOUDEST:g})"
    return place, "not finite (NaN or infinite)"
