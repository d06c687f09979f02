"""Mean and standard deviation of the log-mel of a corpus, for normalisation."""

import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Float32

from matpac import audio
from matpac.console import track
from matpac.data.files import Clip, DataError
from matpac.errors import Skipped, describe_skipped, reason_of
from matpac.model.logmel import LogMel, LogMelConfig

# 10,000 crops of 10 s are 28 hours: the mean is then known far better than the third decimal of AudioSet's.
MAX_CLIPS = 10_000
CROP_SECONDS = 10.0  # the length of an AudioSet clip
LEAST_STD = 1e-4  # less is rounding; default: sound has more than 1
TASKS = 64  # crops that wait decoded: 40 MB


@dataclasses.dataclass(frozen=True)
class Normalisation:
    """Statistics of a corpus's log-mel.

    Args:
        mean: over all bands and frames (natural logarithm).
        std: standard deviation over all bands and frames.
        clips: number of clips.
        frames: number of frames.
        skipped: clips that couldn't be decoded.
    """

    mean: float
    std: float
    clips: int
    frames: int
    skipped: list[Skipped]


def normalisation(
    clips: Sequence[Clip],
    config: LogMelConfig | None = None,
    max_clips: int = MAX_CLIPS,
    seed: int = 0,
    workers: int = 4,
) -> Normalisation:
    """Mean and standard deviation of the unnormalised log-mel of a corpus, over all bands and frames.

    Takes at most `max_clips` clips, drawn by `seed`, and of each a random crop of at most 10 s, decoded by
    `workers` threads. A clip that can't be decoded is skipped and named. Raises DataError if none is left, or
    the sound has no variation (digital silence).
    """
    front_end = LogMel(dataclasses.replace(config or LogMelConfig(), mean=0.0, std=1.0))
    chosen = np.sort(np.random.default_rng(seed).permutation(len(clips))[:max_clips]).tolist()
    numbers, total, squares, frames, used = 0, 0.0, 0.0, 0, 0
    skipped: list[Skipped] = []
    with ThreadPoolExecutor(max(1, workers)) as threads, torch.inference_mode():
        crops = (
            crop
            for begin in range(0, len(chosen), TASKS)
            for crop in threads.map(lambda n: _crop(clips[n], front_end.config, [seed, n]), chosen[begin:][:TASKS])
        )
        for crop in track(crops, "Measuring log-mel", len(chosen)):
            if isinstance(crop, Skipped):
                skipped.append(crop)
                continue
            logmel = front_end(torch.from_numpy(crop)[None]).double()
            numbers, total = numbers + logmel.numel(), total + float(logmel.sum())
            squares += float(logmel.square().sum())  # float64 keeps nine decimals of the variance
            frames += logmel.shape[-1]
            used += 1
    if not used:
        raise DataError(f"no clip to measure: {describe_skipped(skipped)}")
    mean = total / numbers
    std = max(0.0, squares / numbers - mean**2) ** 0.5
    if std < LEAST_STD:
        raise DataError(f"the log-mel of these {used} clips is the same everywhere: they are silent")
    return Normalisation(mean, std, used, frames, skipped)


def _crop(clip: Clip, config: LogMelConfig, seed: list[int]) -> Float32[np.ndarray, " samples"] | Skipped:
    start = np.random.default_rng(seed).uniform(0, max(0.0, clip.duration - CROP_SECONDS))
    samples = round(CROP_SECONDS * config.sample_rate)
    try:
        crop = audio.read_crop(clip.source, start, samples, config.sample_rate)
    except audio.AudioError as error:
        return Skipped(clip.path, reason_of(error, clip.path))
    if len(crop) < config.window:
        return Skipped(clip.path, f"too short: {len(crop)} samples, a log-mel window has {config.window}")
    return crop
