"""Sound files and arrays as mono float32 at one rate: whole, a part by seeking, or block by block."""

from matpac.audio.decoder import AudioError, AudioInfo, SoundBytes
from matpac.audio.files import AUDIO_SUFFIXES, blocks, find_audio, info, may_be_read, read, read_crop, readers
from matpac.audio.samples import SAMPLE_RATE, Resampler, resample, unusable

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
    "unusable",
]
