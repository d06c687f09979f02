"""A small task of noise in files of mixed rates, and encoders for it, among them one that counts."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from helpers import corpora
from helpers.tiny_encoder import tiny
from matpac import read
from matpac.model.embedder import Embedder
from matpac.probe.encoders import (
    NamedEncoder,
    named_embedder,
    open_encoder,
)
from matpac.tasks import Fold, Task

EMBEDDER = tiny()
TINY = named_embedder("tiny", EMBEDDER)
LOGMEL = open_encoder("logmel")
RATE = 16_000


class Mean:
    """Mean and largest value of a clip, at 8 kHz; counts what it is asked."""

    sample_rate = 8_000

    def __init__(self) -> None:
        self.asked: list[int] = []

    def embed(self, clips: Sequence[np.ndarray | Tensor]) -> Tensor:
        self.asked.append(len(clips))
        return torch.stack([self.one(np.asarray(clip)) for clip in clips])

    def one(self, clip: np.ndarray) -> Tensor:
        return torch.tensor([clip.mean(), clip.max()], dtype=torch.float32)


def named(encoder: Mean) -> NamedEncoder:
    return NamedEncoder("mean", encoder, "0" * 64)


def write(path: Path, seconds: float, rate: int = RATE, seed: int = 0) -> None:
    sound = 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * rate))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound, rate)


def task_of(root: Path, lengths: Sequence[float], unit_seconds: float | None = None) -> Task:
    """One class; the first third trains, the next validates, the last tests."""
    for number, seconds in enumerate(lengths):
        write(root / f"{number:03}.wav", seconds, corpora.RATES[number % 4], number)
    paths = [str(root / f"{number:03}.wav") for number in range(len(lengths))]
    parts = np.array_split(np.arange(len(paths)), 3)
    labels = np.zeros(len(paths), np.int64)
    return Task("made", "single", ["a"], paths, labels, [Fold(*parts)], unit_seconds)


def task_from(root: Path, clips: int) -> Task:
    """`task_of` with the files as they are."""
    paths = [str(root / f"{number:03}.wav") for number in range(clips)]
    parts = np.array_split(np.arange(clips), 3)
    return Task("made", "single", ["a"], paths, np.zeros(clips, np.int64), [Fold(*parts)])


def one_at_a_time(task: Task, encoder: NamedEncoder, layers: bool = False) -> np.ndarray:
    """The definition: the whole file read, cut or padded at the end, embedded alone."""
    rows = []
    for path in task.paths:
        clip = read(path, encoder.encoder.sample_rate)
        if task.unit_seconds is not None:
            samples = round(task.unit_seconds * encoder.encoder.sample_rate)
            clip = np.concatenate([clip[:samples], np.zeros(max(0, samples - len(clip)), np.float32)])
        if layers:
            assert isinstance(encoder.encoder, Embedder)
            rows.append(encoder.encoder.scene(clip, encoder.sample_rate, layers="all")[0].numpy())
        else:
            rows.append(encoder.embed([clip])[0].numpy())
    return np.stack(rows)


def never(*_: object, **__: object) -> None:
    raise AssertionError("this was in the cache")
