"""Random crops of clips, in an order that depends on the seed and the step alone."""

import faulthandler
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from types import FrameType

import numpy as np
import torch
from jaxtyping import Float32, Int
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from matpac import audio
from matpac.data.files import SHORTEST_SECONDS, Clip, Corpus, DataError
from matpac.data.sounds import FileSounds, Sounds
from matpac.errors import Skipped, reason_of

Key = tuple[int, int]  # epoch, index of the clip

SHORT_POLICIES = ("repeat", "pad", "drop")
"""What becomes of a clip shorter than a crop.

repeat (the default): it goes round from a random place on, until the crop is full. pad: zeros follow it; their
patches are all alike and predicted without effort, so in a corpus of short clips they fill the loss with nothing
to learn. drop: it isn't used, which loses data.
"""
TRIES = 10  # clips tried for one crop before the run stops: so many in a row aren't chance
PREFETCHED = 4  # micro-batches that each worker keeps ready


@dataclass
class Crop:
    """One crop, the file that it comes from, and the files that were tried before and couldn't be decoded."""

    waveform: Float32[Tensor, " samples"]
    path: str
    failures: list[Skipped] = field(default_factory=list)
    number: int = -1
    """Of the clip, in the order of the corpus."""


@dataclass
class CropBatch:
    """Crops of one micro-batch."""

    waveforms: Float32[Tensor, "batch samples"]
    paths: list[str]
    failures: list[Skipped]
    numbers: list[int] = field(default_factory=list)
    """Of the clips, in the order of the corpus."""

    def pin_memory(self) -> "CropBatch":
        """The batch in memory from which a GPU copies without waiting; DataLoader calls this."""
        return CropBatch(self.waveforms.pin_memory(), self.paths, self.failures, self.numbers)


def collate(crops: list[Crop]) -> CropBatch:
    """Stacks crops of one length."""
    return CropBatch(
        torch.stack([crop.waveform for crop in crops]),
        [crop.path for crop in crops],
        [failure for crop in crops for failure in crop.failures],
        [crop.number for crop in crops],
    )


def drop_short(files: Corpus, samples: int, sample_rate: int = audio.SAMPLE_RATE) -> Corpus:
    """The list without the clips shorter than `samples` (at `sample_rate`, Hz); these are named in `left_out`."""
    least = samples / sample_rate
    short = [
        Skipped(clip.path, f"too short: {clip.duration:.3f} s, a crop has {least:.3f} s")
        for clip in files.clips
        if clip.duration < least
    ]
    clips = [clip for clip in files.clips if clip.duration >= least]
    return replace(files, clips=clips, skipped=files.skipped + short)


class RandomCrops(Dataset[Crop]):
    """Crops of `samples` samples, mono, at `sample_rate`; the key is (epoch, index of the clip).

    Where a crop lies is a pure function of (seed, epoch, index), so that a resumed run, and one with another
    number of workers, sees the same. Only the crop is decoded. A clip that can't be decoded is replaced by another
    one, drawn by the same generator, and named in `Crop.failures`.

    Args:
        clips: what to crop.
        samples: length of a crop, at `sample_rate`.
        seed: not negative.
        short: one of `SHORT_POLICIES`; for "drop" the caller has called `drop_short`.
        sample_rate: in Hz.
        sounds: what the clips' sounds are read from, where they aren't files of their own.
        crops_per_read: crops that a batch takes of each of its clips, where that is read for it.

    Raises:
        DataError: no clips; an unknown policy; "drop" with clips that are too short. When a crop is drawn: ten
            clips in a row couldn't be decoded.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        samples: int,
        seed: int,
        short: str = "repeat",
        sample_rate: int = audio.SAMPLE_RATE,
        sounds: Sounds | None = None,
        crops_per_read: int = 1,
    ) -> None:
        if not clips:
            raise DataError("no clips to crop; check the corpus")
        if short not in SHORT_POLICIES:
            raise DataError(f"unknown policy for short clips: {short}; choose from {', '.join(SHORT_POLICIES)}")
        self._sounds = FileSounds(clips) if sounds is None else sounds
        self._durations = np.array([clip.duration for clip in clips])
        self.samples, self.seed, self.short, self.sample_rate = samples, seed, short, sample_rate
        self.crops_per_read = crops_per_read
        too_short = int((self._durations < samples / sample_rate).sum())
        if short == "drop" and too_short:
            raise DataError(f"{too_short} clips are shorter than a crop ({samples} samples); call drop_short")

    def __len__(self) -> int:
        return len(self._durations)

    def __getitem__(self, key: Key) -> Crop:
        return self._crops(key, 1)[0]

    def __getitems__(self, keys: list[Key]) -> list[Crop]:
        """The crops of a micro-batch: `crops_per_read` of each clip, one after another. DataLoader calls this."""
        if self.crops_per_read == 1:
            return [self[key] for key in keys]
        return [crop for key in keys for crop in self._crops(key, self.crops_per_read)]

    def _crops(self, key: Key, count: int) -> list[Crop]:
        epoch, index = key
        rng = np.random.default_rng([self.seed, epoch, index])
        failures: list[Skipped] = []
        for tried in range(TRIES):
            sound = self._sounds.sound(epoch, index, replaces=tried > 0)
            path = str(sound)
            try:
                waveforms = self._draw(sound, self._durations[index], rng, count)
                crops = [Crop(torch.from_numpy(waveform), path, [], index) for waveform in waveforms]
                crops[0].failures += failures
                return crops
            except audio.AudioError as error:
                failures.append(Skipped(path, reason_of(error, path)))
            index = int(rng.integers(len(self)))
        why = "; ".join(f"{failure.path}: {failure.reason}" for failure in failures)
        raise DataError(f"{TRIES} clips in a row can't be decoded; check the corpus: {why}")

    def _draw(
        self, sound: str | audio.SoundBytes, duration: float, rng: np.random.Generator, count: int
    ) -> list[Float32[np.ndarray, " samples"]]:
        """Crops from random places; of a clip not much longer than they are, what lies between is decoded once."""
        spare = int(duration * self.sample_rate) - self.samples
        starts = [int(rng.integers(spare + 1)) if spare > 0 else 0 for _ in range(count)]
        first = min(starts)
        span = max(starts) - first + self.samples
        if span > count * self.samples:
            return [self._filled(self._read(sound, start, self.samples), spare, rng) for start in starts]
        part = self._read(sound, first, span)
        crops = [part[start - first : start - first + self.samples] for start in starts]
        for crop, start in zip(crops, starts, strict=True):
            self._check(crop, sound, start)
        return [self._filled(crop, spare, rng) for crop in crops]

    def _read(self, sound: str | audio.SoundBytes, start: int, samples: int) -> Float32[np.ndarray, " samples"]:
        waveform = audio.read_crop(sound, start / self.sample_rate, samples, self.sample_rate)
        self._check(waveform, sound, start)
        return waveform

    def _check(self, waveform: Float32[np.ndarray, " samples"], sound: str | audio.SoundBytes, start: int) -> None:
        if len(waveform) < SHORTEST_SECONDS * self.sample_rate:  # a length header that promised more
            raise audio.AudioError(f"{sound}: only {len(waveform)} samples at {start / self.sample_rate:.2f} s")

    def _filled(
        self, waveform: Float32[np.ndarray, " part"], spare: int, rng: np.random.Generator
    ) -> Float32[np.ndarray, " samples"]:
        if len(waveform) == self.samples:
            return waveform
        if self.short == "repeat":
            phase = int(rng.integers(len(waveform))) if spare < 0 else 0
            return waveform[(phase + np.arange(self.samples)) % len(waveform)]
        return np.pad(waveform, (0, self.samples - len(waveform)))


class StepBatches(Sampler[list[Key]]):
    """The keys of one process's micro-batches for the steps first_step … last_step − 1.

    Epoch e is a permutation of the clips drawn from (seed, e); a step takes the next `batch_size` of it, the last
    incomplete batch of an epoch is dropped. Each process takes its part of a step's batch, contiguous and equal,
    and splits it into `accumulate` micro-batches: so many consecutive yields make a step.

    Args:
        n_clips: number of clips.
        batch_size: clips per step over all processes and micro-batches.
        rank: number of this process.
        world_size: number of processes.
        seed: not negative.
        first_step: where to begin: the number of steps already made.
        last_step: the first step that isn't made any more.
        accumulate: micro-batches per step.
        crops_per_read: crops that the batch takes of each clip: an epoch, with every clip once, has more steps.

    Raises:
        DataError: fewer clips than a batch; a batch that can't be split equally.
    """

    def __init__(
        self,
        n_clips: int,
        batch_size: int,
        rank: int,
        world_size: int,
        seed: int,
        first_step: int,
        last_step: int,
        accumulate: int = 1,
        crops_per_read: int = 1,
    ) -> None:
        parts = world_size * accumulate * crops_per_read
        if batch_size < 1 or batch_size % parts:
            several = f" × {crops_per_read} crops a read" if crops_per_read > 1 else ""
            raise DataError(
                f"a batch of {batch_size} can't be split equally over {world_size} processes × {accumulate} "
                f"micro-batches{several}; choose a multiple of {parts}"
            )
        reads = batch_size // crops_per_read
        if n_clips < reads:
            raise DataError(
                f"too few clips for one batch: there are {n_clips}, a batch has {reads}; "
                "lower the batch size or add clips"
            )
        self.n_clips, self.batch_size, self.reads, self.seed = n_clips, batch_size, reads, seed
        self.rank, self.world_size, self.accumulate = rank, world_size, accumulate
        self.first_step, self.last_step = first_step, last_step

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in an epoch."""
        return self.n_clips // self.reads

    def order(self, epoch: int) -> Int[np.ndarray, " clip"]:
        """Numbers of the clips in the order of an epoch; those behind its last whole batch aren't used."""
        return np.random.default_rng([self.seed, epoch]).permutation(self.n_clips)

    def __len__(self) -> int:
        return max(0, self.last_step - self.first_step) * self.accumulate

    def __iter__(self) -> Iterator[list[Key]]:
        share = self.reads // self.world_size
        micro = share // self.accumulate
        epoch, order = -1, np.empty(0, np.int64)
        for step in range(self.first_step, self.last_step):
            if step // self.steps_per_epoch != epoch:
                epoch = step // self.steps_per_epoch
                order = self.order(epoch)
            begin = step % self.steps_per_epoch * self.reads + self.rank * share
            for first in range(begin, begin + share, micro):
                yield [(epoch, int(index)) for index in order[first : first + micro]]


def crop_loader(dataset: RandomCrops, batches: Sampler[list[Key]], workers: int) -> DataLoader[CropBatch]:
    """Loads the batches, in `workers` processes ahead of the training, or in this one for 0.

    Does not touch torch's global random state, so that a resumed run's is the same as an unbroken one's.
    """
    return DataLoader(
        dataset,  # type: ignore[arg-type]
        batch_sampler=batches,
        collate_fn=collate,  # type: ignore[arg-type]
        num_workers=workers,
        persistent_workers=workers > 0,
        prefetch_factor=PREFETCHED if workers else None,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_set_up_worker if workers else None,
        generator=torch.Generator(),
    )


def _outlive_once(number: int, frame: FrameType | None) -> None:
    """Schedulers send SIGTERM to all processes; the main one can't save if this one dies. The next one ends it."""
    signal.signal(number, signal.SIG_DFL)


def _set_up_worker(worker: int) -> None:
    """A wish to stop is the main process's to handle; C libraries don't write over the progress."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _outlive_once)
    # libmpg123 complains on the standard error at harmless places (the first frames after a seek), thousands of
    # times an hour. What can't be decoded comes back as a failure; Python's messages and crashes stay visible.
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    faulthandler.enable(sys.stderr)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 2)
    os.close(silence)
