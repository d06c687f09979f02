"""The corpus on disk: its clips and labels, complete or resumable."""

import csv
import io
import json
import shutil
import wave
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from matpac.atomic import write_text
from matpac.audio import SAMPLE_RATE
from matpac.console import track
from matpac.errors import MatpacError
from matpac.machine import cores
from matpac.quickstart.synthetic.scenes import (
    CONTOURS,
    PATTERNS,
    SOURCES,
    STRUCK,
    melody,
    mixture,
    mixture_kinds,
    rhythm,
    source_phrase,
)
from matpac.quickstart.synthetic.signals import record, seconds_to_samples
from matpac.quickstart.synthetic.voices import VOICES

FORMAT = 2
"""Version of the sounds; raised by every change that makes other sounds from the same seed."""

MARKER = "corpus.json"
"""File with the configuration in a corpus's folder."""

TASKS: dict[str, tuple[str, ...]] = {
    "source": SOURCES,
    "mixture": SOURCES,
    "melody": tuple(CONTOURS),
    "rhythm": tuple(PATTERNS),
}
"""Labelled tasks and their classes; clips of `mixture` have several labels, all others one."""

BLOCK = 50
"""Clips that a worker gets at a time: half a second of work."""


@dataclass(frozen=True)
class CorpusConfig:
    """What to generate; the defaults take about half a minute on two cores.

    Args:
        pretrain_clips: clips without labels.
        train_clips: labelled clips of each task to train its probe on.
        valid_clips: labelled clips of each task to choose its learning rate on.
        test_clips: labelled clips of each task to score it on.
        seconds: length of a clip; the default is that of the `tiny` recipe's crops: long enough for a phrase,
            short enough for many steps in a few minutes.
        seed: of all random choices.

    Raises:
        MatpacError: a split smaller than its classes, clips too short for a melody, or a negative number.
    """

    pretrain_clips: int = 4000
    train_clips: int = 600
    valid_clips: int = 200
    test_clips: int = 400
    seconds: float = 3.0
    seed: int = 0

    def __post_init__(self) -> None:
        most = max(map(len, TASKS.values()))
        for split, count in self.splits.items():
            if count < most:
                raise MatpacError(
                    f"{split}_clips: {count} clips can't hold all {most} classes; ask for {most} or more"
                )
        if self.pretrain_clips < 0 or self.seed < 0:
            raise MatpacError(f"pretrain_clips and seed can't be negative: {self.pretrain_clips}, {self.seed}")
        if self.seconds < 2:
            raise MatpacError(f"seconds: {self.seconds} is too short for a melody or a rhythm; ask for 2 or more")

    @property
    def splits(self) -> dict[str, int]:
        """Number of clips in each labelled split of each task."""
        return {"train": self.train_clips, "valid": self.valid_clips, "test": self.test_clips}


@dataclass(frozen=True)
class Corpus:
    """A complete corpus.

    Args:
        pretrain: folder of the clips without labels.
        tables: one CSV per task with the columns path (from the table's folder), label (or labels, joined by `;`)
            and split.
    """

    pretrain: Path
    tables: list[Path]


@dataclass(frozen=True)
class Clip:
    """A planned clip: its file, the seed of its random numbers, and what is to be heard."""

    path: str
    seed: tuple[int, ...]
    task: str
    labels: tuple[str, ...]
    split: str


def make_corpus(folder: Path, config: CorpusConfig, workers: int | None = None) -> Corpus:
    """Generate the corpus in `folder`, or complete it if it was interrupted; the same bytes in any case.

    Layout: `pretrain/*.wav`, `TASK/*.wav` and `TASK.csv` for each of `TASKS`, `corpus.json`. A corpus of another
    configuration is replaced. WAV takes a third more disk space than FLAC, but is read in a quarter of the time.

    Args:
        folder: empty, new, or of an earlier corpus.
        config: what to generate.
        workers: processes, one per core if None; a script that uses several must guard its entry by
            `if __name__ == "__main__"`.

    Raises:
        MatpacError: the folder holds anything but a corpus.
    """
    _claim(folder, config)
    clips = plan(config)
    missing = [clip for clip in clips if not (folder / clip.path).exists()]
    write = partial(_write_clip, folder, config.seconds)
    workers = min(workers or cores(), -(-len(missing) // BLOCK))
    if workers <= 1:
        for _ in track(map(write, missing), "generating clips", len(missing)):
            pass
    else:
        # spawned, not forked: forking a process in which PyTorch runs threads can hang
        with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
            for _ in track(pool.map(write, missing, chunksize=BLOCK), "generating clips", len(missing)):
                pass
    tables = [folder / f"{task}.csv" for task in TASKS]
    for table in tables:
        if not table.exists():
            write_text(table, _rows(table.stem, clips))
    return Corpus(folder / "pretrain", tables)


def plan(config: CorpusConfig) -> list[Clip]:
    """All clips of a corpus, in order. Classes take turns, so that each split holds all of them.

    Each clip has its own random numbers, from the seed, its part, split and number: no clip repeats, and its sound
    does not depend on when and by which process it is generated.
    """
    names = list(TASKS)
    clips = [
        _clip(
            f"pretrain/{number:05d}.wav",
            (config.seed, 0, 0, number),
            names[number % len(names)],
            number // len(names),
        )
        for number in range(config.pretrain_clips)
    ]
    for part, task in enumerate(names, start=1):
        for place, (split, count) in enumerate(config.splits.items()):
            for number in range(count):
                path = f"{task}/{split}_{number:05d}.wav"
                clips.append(_clip(path, (config.seed, part, place, number), task, number, split))
    return clips


def _clip(path: str, seed: tuple[int, ...], task: str, turn: int, split: str = "") -> Clip:
    label = TASKS[task][turn % len(TASKS[task])]
    labels = mixture_kinds(np.random.default_rng([*seed, 1]), label) if task == "mixture" else (label,)
    return Clip(path, seed, task, labels, split)


def render_clip(clip: Clip, seconds: float) -> Float32[np.ndarray, " samples"]:
    """The sound of a planned clip: its scene, recorded; peak below 1."""
    rng = np.random.default_rng(clip.seed)
    samples = seconds_to_samples(seconds)
    label = clip.labels[0]
    if clip.task == "source":
        scene = source_phrase(rng, label, samples)
    elif clip.task == "mixture":
        scene = mixture(rng, clip.labels, samples)
    elif clip.task == "melody":
        scene = melody(rng, label, str(rng.choice(list(VOICES))), samples)
    else:
        scene = rhythm(rng, label, str(rng.choice(STRUCK)), samples)
    return record(rng, scene)


def _write_clip(folder: Path, seconds: float, clip: Clip) -> None:
    """Write a clip as 16-bit WAV, under another name until it is complete."""
    sound = render_clip(clip, seconds)
    path = folder / clip.path
    draft = path.with_suffix(".part")
    with wave.open(str(draft), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(np.round(sound * 32767).astype("<i2").tobytes())
    draft.replace(path)


def _rows(task: str, clips: list[Clip]) -> str:
    """The table of a task as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "labels" if task == "mixture" else "label", "split"])
    writer.writerows(
        [clip.path, ";".join(clip.labels), clip.split] for clip in clips if clip.split and clip.task == task
    )
    return text.getvalue()


def _claim(folder: Path, config: CorpusConfig) -> None:
    """Check that the folder is free or holds this corpus; remove a corpus of another configuration."""
    parts = [folder / name for name in ("pretrain", *TASKS)]
    folder.mkdir(parents=True, exist_ok=True)
    marker, wanted = folder / MARKER, {"format": FORMAT, **asdict(config)}
    if not marker.exists():
        if any(folder.iterdir()):
            raise MatpacError(f"{folder}: holds other files; name an empty or a new folder for the corpus")
        found = None
    else:
        try:
            found = json.loads(marker.read_text())
        except ValueError as error:
            raise MatpacError(
                f"{marker}: not a corpus's configuration ({error}); remove it or name another folder"
            ) from error
    if found != wanted:
        for part in parts:
            shutil.rmtree(part, ignore_errors=True)
            part.with_suffix(".csv").unlink(missing_ok=True)
        write_text(marker, json.dumps(wanted, indent=2) + "\n")
    for part in parts:
        part.mkdir(exist_ok=True)
