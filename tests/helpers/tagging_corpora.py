"""Small labelled corpora that an encoder can learn in seconds: tones of different pitch, alone or together."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from matpac.files.save import save
from matpac.model.embedder import Card, Embedder
from matpac.model.heads import Tagger
from matpac.model.logmel import LogMelConfig
from matpac.model.vit import Encoder, EncoderConfig

RATE = 16_000
PITCHES = {"low": 300.0, "middle": 900.0, "high": 2700.0}
ENCODER = EncoderConfig(width=32, depth=2, heads=2, mels=16, frames=96)


def tone(names: Sequence[str], seconds: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    sound = 0.02 * rng.standard_normal(len(time))
    for name in names:
        sound += 0.2 * np.sin(2 * np.pi * PITCHES[name] * rng.uniform(0.9, 1.1) * time + rng.uniform(0, 6))
    return sound.astype(np.float32)


def class_folders(root: Path, clips: int = 12, seconds: float = 0.7) -> Path:
    """One folder per class, without parts."""
    for place, name in enumerate(PITCHES):
        (root / name).mkdir(parents=True)
        for number in range(clips):
            soundfile.write(root / name / f"{number:02}.wav", tone([name], seconds, 100 * place + number), RATE)
    return root


def tone_table(root: Path, clips: int = 40, seconds: float = 0.7) -> Path:
    """A table of clips with at least one of the pitches; every fourth is of the test part."""
    root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    rows = []
    for number in range(clips):
        names = [name for name in PITCHES if rng.random() < 0.5] or [list(PITCHES)[number % 3]]
        soundfile.write(root / f"{number:03}.flac", tone(names, seconds, number), RATE)
        split = ("train", "train", "valid", "test")[number % 4]
        rows.append([f"{number:03}.flac", ";".join(names), split])
    with (root / "tones.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "labels", "split"], *rows])
    return root / "tones.csv"


def encoder_file(path: Path, labels: Sequence[str] = (), classes: int | None = None) -> Path:
    """A random encoder, with a head of `labels`, or of nameless `classes`."""
    import torch

    torch.manual_seed(0)
    width = classes if classes is not None else len(labels) or None
    head = None if width is None else Tagger(ENCODER.width, width)
    save(Embedder(Encoder(ENCODER), LogMelConfig(mels=16), head, Card(labels=tuple(labels))), path)
    return path
