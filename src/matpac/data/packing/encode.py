"""A sound file of any kind as 16 kHz mono, 16 bits: FLAC or WAV."""

from io import BufferedIOBase
from tempfile import SpooledTemporaryFile
from typing import Any, cast

import numpy as np
import soundfile
from jaxtyping import Float32, Int16

from matpac import audio

CONTAINERS = {"flac": "FLAC", "pcm16": "WAV"}  # encodings, and libsndfile's names of their files
SUFFIXES = {"flac": ".flac", "pcm16": ".wav"}
# libsndfile reads a 16-bit sample n as n / 32768, so that a 16-bit file at 16 kHz is packed without loss.
FULL_SCALE = 32_768
HEADER_BYTES = 44  # of a WAV file with PCM
FLAC_SHARE = 0.6  # bytes of FLAC for each of PCM, by which shards are planned; default: chords over noise take 0.7


def to_16_bits(waveform: Float32[np.ndarray, " samples"]) -> Int16[np.ndarray, " samples"]:
    """The nearest 16-bit samples; what is beyond full scale is clipped."""
    return np.clip(np.rint(waveform * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)


def planned_bytes(seconds: float, encoding: str) -> int:
    """What a clip of that length will take: right for pcm16, a guess for flac."""
    pcm = 2 * seconds * audio.SAMPLE_RATE
    return HEADER_BYTES + round(pcm if encoding == "pcm16" else pcm * FLAC_SHARE)


def encode(path: str, target: SpooledTemporaryFile | BufferedIOBase, encoding: str) -> int:
    """Writes a sound file's mono sound at 16 kHz, block by block; returns its samples. Raises AudioError."""
    samples = 0
    file = cast(Any, target)
    with soundfile.SoundFile(
        file, "w", audio.SAMPLE_RATE, 1, subtype="PCM_16", format=CONTAINERS[encoding]
    ) as sound:
        for block in audio.blocks(path):
            sound.write(to_16_bits(block))
            samples += len(block)
    return samples
