"""The corpus on disk: its clips and labels, written so that nothing half-done is used."""

import csv
import io
import json
import os
import shutil
import wave
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float32

from matpac.audio import SAMPLE_RATE
from matpac.errors import MatpacError
from matpac.quickstart.synthetic.recording import record
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
from matpac.quickstart.synthetic.signals import seconds_to_samples
from matpac.quickstart.synthetic.voices import VOICES

FORMAT = 2
"""Number of the way sounds are made; raised whenever a change makes other sounds of the same seed."""

FINISHED, STARTED = "corpus.json", "corpus.unfinished.json"
"""Markers in a corpus's folder, each holding its configuration: written last and first."""

SPLITS = ("train", "valid", "test")

TASKS: dict[str, tuple[str, ...]] = {
    "source": SOURCES,
    "mixture": SOURCES,
    "melody": tuple(CONTOURS),
    "rhythm": tuple(PATTERNS),
}
"""Labelled tasks and their classes; `mixture` has several labels a clip, the others one."""

BLOCK = 50
"""Clips a worker makes at a time: half a second of work, so that progress moves and the pool idles little."""


class CorpusError(MatpacError):
    """The folder can't hold the corpus, or the configuration can't be made."""


@dataclass(frozen=True)
class CorpusConfig:
    """What to make. Counts are ours: all of it takes about half a minute on two cores.

    Clips of 3 s are what the `tiny` recipe looks at: long enough for a phrase, short enough for
    many steps in a few minutes. Raises `CorpusError` for a split smaller than its classes.
    """

    pretrain_clips: int = 4000
    train_clips: int = 600
    """Labelled clips of each task to train its probe on."""
    valid_clips: int = 200
    test_clips: int = 400
    seconds: float = 3.0
    seed: int = 0

    def __post_init__(self) -> None:
        most = max(len(classes) for classes in TASKS.values())
        for split, count in self.split_counts().items():
            if count < most:
                raise CorpusError(
                    f"{split}_clips: {count} clips can't hold all {most} classes; ask for {most} or more"
                )
        if self.pretrain_clips < 0 or self.seed < 0:
            raise CorpusError(f"pretrain_clips and seed can't be negative: {self.pretrain_clips}, {self.seed}")
        if self.seconds < 2:
            raise CorpusError(f"seconds: {self.seconds} is too short for a melody or a rhythm; ask for 2 or more")

    def split_counts(self) -> dict[str, int]:
        """Clips of each labelled split, of each task."""
        return dict(zip(SPLITS, (self.train_clips, self.valid_clips, self.test_clips), strict=True))


@dataclass(frozen=True)
class CorpusTask:
    """A labelled part: `table` is a CSV with columns path (from its folder), label or labels, split."""

    name: str
    table: Path
    kind: Literal["single", "multi"]
    classes: list[str]
    """In `multi` tables the column is `labels`, joined by `;`; in `single` ones `label`."""


@dataclass(frozen=True)
class Corpus:
    """A finished corpus: the folder, its unlabelled clips to pre-train on, its labelled tasks."""

    folder: Path
    pretrain: Path
    tasks: list[CorpusTask]


@dataclass(frozen=True)
class Clip:
    """One clip to make: the file, the numbers its randomness comes from, and what is to be heard."""

    path: str
    seed: tuple[int, ...]
    task: str
    labels: tuple[str, ...]
    split: str


def make_corpus(folder: Path, config: CorpusConfig, workers: int | None = None, progress: bool = True) -> Corpus:
    """Make the corpus in `folder`, or finish it, or find it there already; the same bytes in any case.

    Layout: `pretrain/*.wav`, `TASK/*.wav` and `TASK.csv` for each of `TASKS`, `corpus.json`. Files are
    written under another name and then renamed: one that is there is whole, and an interrupted corpus
    goes on where it was. A corpus of another configuration is replaced. WAV, as a training epoch reads
    it in a quarter of the time of FLAC, which would save a third of the disk. `workers` is the number
    of processes (default: one a core; 1: none but this one) and doesn't change the result; a script
    that uses several must guard its entry by `if __name__ == "__main__"`. Progress shows on terminals.

    Raises `CorpusError` if the folder holds anything but a corpus of ours.
    """
    _claim(folder, config)
    clips = plan(config)
    missing = [clip for clip in clips if not (folder / clip.path).exists()]
    tables = {name: folder / f"{name}.csv" for name in TASKS}
    if missing or not (folder / FINISHED).exists():
        _mark(folder / STARTED, config)
        (folder / FINISHED).unlink(missing_ok=True)
        _render(folder, missing, config.seconds, workers or _cores(), progress)
        for name, table in tables.items():
            _write_whole(table, _table(name, [clip for clip in clips if clip.path.startswith(f"{name}/")]))
        _mark(folder / FINISHED, config)
    (folder / STARTED).unlink(missing_ok=True)
    tasks = [CorpusTask(name, tables[name], task_kind(name), list(classes)) for name, classes in TASKS.items()]
    return Corpus(folder, folder / "pretrain", tasks)


def task_kind(name: str) -> Literal["single", "multi"]:
    """Whether clips of a task have one label or several."""
    return "multi" if name == "mixture" else "single"


def plan(config: CorpusConfig) -> list[Clip]:
    """Every clip of a corpus, in order. Classes take turns, so that each split holds all of them.

    Each clip has random numbers of its own, from the seed, its part, split and number: no clip of
    one part or split repeats in another, and it doesn't matter who makes it or when.
    """
    names = list(TASKS)
    clips = []
    for number in range(config.pretrain_clips):
        task = names[number % len(names)]
        clips.append(
            _clip(f"pretrain/{number:05d}.wav", (config.seed, 0, 0, number), task, number // len(names), "")
        )
    for part, task in enumerate(names, start=1):
        for place, (split, count) in enumerate(config.split_counts().items()):
            for number in range(count):
                path = f"{task}/{split}_{number:05d}.wav"
                clips.append(_clip(path, (config.seed, part, place, number), task, number, split))
    return clips


def _clip(path: str, seed: tuple[int, ...], task: str, turn: int, split: str) -> Clip:
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


def _render(folder: Path, clips: list[Clip], seconds: float, workers: int, progress: bool) -> None:
    """Make the clips' files, in this process or in several."""
    for name in ("pretrain", *TASKS):
        (folder / name).mkdir(exist_ok=True)
    blocks = [clips[start : start + BLOCK] for start in range(0, len(clips), BLOCK)]
    with _progress(len(clips), progress) as advance:
        if min(workers, len(blocks)) <= 1:
            for block in blocks:
                advance(_render_block(folder, block, seconds))
            return
        # Spawned, not forked: forking a process in which PyTorch runs threads can hang.
        with ProcessPoolExecutor(min(workers, len(blocks)), mp_context=get_context("spawn")) as pool:
            jobs = [pool.submit(_render_block, folder, block, seconds) for block in blocks]
            try:
                for job in as_completed(jobs):
                    advance(job.result())
            except BaseException:
                pool.shutdown(cancel_futures=True)  # else an interrupt would wait for all of them
                raise


def _render_block(folder: Path, clips: list[Clip], seconds: float) -> int:
    for clip in clips:
        _write_whole(folder / clip.path, _wav(render_clip(clip, seconds)))
    return len(clips)


def _wav(sound: Float32[np.ndarray, " samples"]) -> bytes:
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(np.round(sound * 32767).astype("<i2").tobytes())
    return content.getvalue()


@contextmanager
def _progress(total: int, shown: bool) -> Iterator[Callable[[int], None]]:
    """A progress bar on standard error where that is a terminal; gives the function to advance it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, disable=not (shown and console.is_terminal)) as bar:
        task = bar.add_task("making clips", total=total)
        yield lambda done: bar.advance(task, done)


def _cores() -> int:
    """Cores this process may use (containers and batch systems often give fewer than there are)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _table(task: str, clips: list[Clip]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "labels" if task_kind(task) == "multi" else "label", "split"])
    writer.writerows([clip.path, ";".join(clip.labels), clip.split] for clip in clips)
    return text.getvalue().encode()


def _write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_bytes(content)
    unfinished.replace(path)


def _mark(path: Path, config: CorpusConfig) -> None:
    _write_whole(path, (json.dumps({"format": FORMAT, **asdict(config)}, indent=2) + "\n").encode())


def _claim(folder: Path, config: CorpusConfig) -> None:
    """Make sure the folder is ours; take away a corpus of another configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    markers = [folder / name for name in (FINISHED, STARTED) if (folder / name).exists()]
    if not markers:
        if any(folder.iterdir()):
            raise CorpusError(f"{folder}: holds other files; name an empty or a new folder for the corpus")
        _mark(folder / STARTED, config)
        return
    wanted = {"format": FORMAT, **asdict(config)}
    if any(_marked(marker) != wanted for marker in markers):
        for name in ("pretrain", *TASKS):
            shutil.rmtree(folder / name, ignore_errors=True)
            (folder / f"{name}.csv").unlink(missing_ok=True)
        _mark(folder / STARTED, config)
        (folder / FINISHED).unlink(missing_ok=True)


def _marked(marker: Path) -> dict[str, object]:
    try:
        return dict(json.loads(marker.read_text()))
    except (ValueError, TypeError) as error:
        raise CorpusError(
            f"{marker}: not a corpus's configuration ({error}); remove it or name another folder"
        ) from error
