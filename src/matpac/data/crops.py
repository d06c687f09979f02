"""Random crops of clips, in an order that depends on the seed and the step alone."""

import faulthandler
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from types import FrameType

import numpy as np
import torch
from jaxtyping import Float32, Int
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from matpac import audio
from matpac.data.files import SHORTEST_SECONDS, Clip, Corpus, DataError, FileSounds, Sounds
from matpac.errors import Skipped, reason_of

Key = tuple[int, int]  # epoch, index of the clip

# Policies for a clip shorter than a crop. repeat (the default): it is repeated from a random place on until
# the crop is full. pad: zeros follow it; their patches are all alike and easily predicted, so in a corpus of short
# clips they fill the loss with nothing to learn. drop: it isn't used, which loses data.
SHORT_POLICIES = ("repeat", "pad", "drop")
TRIES = 10  # clips tried for one crop before the run stops; default: so many bad ones point to the whole corpus
PREFETCHED = 4  # micro-batches that each worker keeps ready


@dataclass
class Crop:
    """One crop.

    Args:
        waveform: its samples.
        path: the file that it comes from.
        failures: files that were tried before and couldn't be decoded.
        number: index of the clip in the corpus.
    """

    waveform: Float32[Tensor, " samples"]
    path: str
    failures: list[Skipped] = field(default_factory=list)
    number: int = -1


@dataclass
class CropBatch:
    """Crops of one micro-batch; the fields are those of `Crop`."""

    waveforms: Float32[Tensor, "batch samples"]
    paths: list[str]
    failures: list[Skipped]
    numbers: list[int] = field(default_factory=list)

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
    """The list without the clips shorter than `samples` (at `sample_rate`, Hz); these are in `skipped`."""
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

    The place of a crop is a pure function of (seed, epoch, index), so that a resumed run, and one with another
    number of workers, sees the same. Only the crop is decoded. A clip that can't be decoded is replaced by another
    one, drawn by the same generator, and named in `Crop.failures`.

    Args:
        clips: the clips to crop.
        samples: length of a crop, at `sample_rate`.
        seed: not negative.
        short: one of `SHORT_POLICIES`; for "drop" the caller has called `drop_short`.
        sample_rate: in Hz.
        sounds: what the clips' sounds are read from; the clips' files if None.

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
    ) -> None:
        if not clips:
            raise DataError("no clips to crop; check the corpus")
        if short not in SHORT_POLICIES:
            raise DataError(f"unknown policy for short clips: {short}; choose from {', '.join(SHORT_POLICIES)}")
        self._sounds = FileSounds(clips) if sounds is None else sounds
        self._durations = np.array([clip.duration for clip in clips])
        self.samples, self.seed, self.short, self.sample_rate = samples, seed, short, sample_rate
        too_short = int((self._durations < samples / sample_rate).sum())
        if short == "drop" and too_short:
            raise DataError(f"{too_short} clips are shorter than a crop ({samples} samples); call drop_short")

    def __len__(self) -> int:
        return len(self._durations)

    def __getitem__(self, key: Key) -> Crop:
        epoch, index = key
        rng = np.random.default_rng([self.seed, epoch, index])
        failures: list[Skipped] = []
        for tried in range(TRIES):
            sound = self._sounds.sound(epoch, index, replaces=tried > 0)
            try:
                waveform = self._draw(sound, self._durations[index], rng)
                return Crop(torch.from_numpy(waveform), str(sound), failures, index)
            except audio.AudioError as error:
                failures.append(Skipped(str(sound), reason_of(error, str(sound))))
            index = int(rng.integers(len(self)))
        why = "; ".join(f"{failure.path}: {failure.reason}" for failure in failures)
        raise DataError(f"{TRIES} clips in a row can't be decoded; check the corpus: {why}")

    def _draw(
        self, sound: str | audio.SoundBytes, duration: float, rng: np.random.Generator
    ) -> Float32[np.ndarray, " samples"]:
        """A crop from a random place, filled by the policy if the clip is shorter."""
        spare = int(duration * self.sample_rate) - self.samples
        start = int(rng.integers(spare + 1)) / self.sample_rate if spare > 0 else 0.0
        waveform = audio.read_crop(sound, start, self.samples, self.sample_rate)
        if len(waveform) < SHORTEST_SECONDS * self.sample_rate:  # its header promised more
            raise audio.AudioError(f"{sound}: only {len(waveform)} samples at {start:.2f} s")
        if len(waveform) == self.samples:
            return waveform
        if self.short == "repeat":
            phase = int(rng.integers(len(waveform))) if spare < 0 else 0
            return waveform[(phase + np.arange(self.samples)) % len(waveform)]
        return np.pad(waveform, (0, self.samples - len(waveform)))


@dataclass(frozen=True)
class Steps:
    """Steps of a run, and the part of each step's batch that one process takes.

    Args:
        batch_size: clips per step, over all processes and micro-batches.
        seed: not negative; it decides the order of the clips.
        first: the first step: the number of steps already made.
        last: the first step that isn't made any more.
        rank: number of this process.
        world_size: number of processes.
        accumulate: micro-batches per step.

    Raises:
        DataError: a batch that can't be split equally.
    """

    batch_size: int
    seed: int
    first: int
    last: int
    rank: int = 0
    world_size: int = 1
    accumulate: int = 1

    def __post_init__(self) -> None:
        parts = self.world_size * self.accumulate
        if self.batch_size < 1 or self.batch_size % parts:
            raise DataError(
                f"a batch of {self.batch_size} can't be split equally over {self.world_size} processes × "
                f"{self.accumulate} micro-batches; choose a multiple of {parts}"
            )


class StepBatches(Sampler[list[Key]]):
    """The keys of one process's micro-batches: `steps.accumulate` consecutive ones make a step.

    A step takes the next `batch_size` clips of the epoch's order; the last incomplete batch of an epoch is
    dropped. Each process takes its part of a step's batch, contiguous and equal, and splits it into micro-batches.

    Args:
        n_clips: number of clips.
        steps: the steps, and this process's part of them.
        order: gives the numbers of an epoch's clips in their order, those behind its last whole batch not used; if
            None, a permutation drawn from (seed, epoch).

    Raises:
        DataError: fewer clips than a batch.
    """

    def __init__(
        self, n_clips: int, steps: Steps, order: Callable[[int], Int[np.ndarray, " clip"]] | None = None
    ) -> None:
        if n_clips < steps.batch_size:
            raise DataError(
                f"too few clips for one batch: there are {n_clips}, a batch has {steps.batch_size}; "
                "lower the batch size or add clips"
            )
        self.n_clips, self.steps, self.order = n_clips, steps, order or self._permutation

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in an epoch."""
        return self.n_clips // self.steps.batch_size

    def _permutation(self, epoch: int) -> Int[np.ndarray, " clip"]:
        return np.random.default_rng([self.steps.seed, epoch]).permutation(self.n_clips)

    def __len__(self) -> int:
        return max(0, self.steps.last - self.steps.first) * self.steps.accumulate

    def __iter__(self) -> Iterator[list[Key]]:
        share = self.steps.batch_size // self.steps.world_size
        micro = share // self.steps.accumulate
        epoch, order = -1, np.empty(0, np.int64)
        for step in range(self.steps.first, self.steps.last):
            if step // self.steps_per_epoch != epoch:
                epoch = step // self.steps_per_epoch
                order = self.order(epoch)
            begin = step % self.steps_per_epoch * self.steps.batch_size + self.steps.rank * share
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
    """Ignores the first SIGTERM: schedulers send it to all processes, and the main one needs this one to save."""
    signal.signal(number, signal.SIG_DFL)


def _set_up_worker(worker: int) -> None:
    """Leaves signals to stop to the main process, and keeps C libraries from writing over the progress."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _outlive_once)
    # libmpg123 complains on the standard error at harmless places (the first frames after a seek), thousands of
    # times an hour. What can't be decoded comes back as a failure; Python's messages and crashes stay visible.
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    faulthandler.enable(sys.stderr)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 2)
    os.close(silence)
