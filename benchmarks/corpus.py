"""Hours of labelled sound for measurements, rendered by programs of Debian.

    apt-get install fluidsynth fluid-soundfont-gm espeak-ng sox
    python benchmarks/corpus.py --output FOLDER [--scale 4] [--only words] [--clips 100] [--seed 0] [--workers 2]

FOLDER/<task>.csv (columns path, label or labels, split, group) lists the clips in FOLDER/<task>/, 16 kHz FLAC, for
`matpac probe --task table --root FOLDER/<task>.csv`. FOLDER/pretrain/ and FOLDER/pretrain_more/ hold unlabelled
clips whose programs, voices and words no test split uses. Every clip goes through a random room, equaliser, noise
and level. The plan depends on the seed only; run the command again to resume. At scale 1: about 9 hours.
"""

import argparse
import csv
import io
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from rendered import music, noises, speech
from rendered.clips import Clip, Content, Over, blocks
from rendered.render import SOUNDFONT, RenderError, missing_programs, render_block

from matpac.atomic import write_text
from matpac.console import track

TASKS: dict[str, tuple[int, Callable[[int, int], list[Clip]]]] = {
    "notes_family": (1152, music.family_clips),
    "notes_pitch": (1008, music.pitch_clips),
    "pieces_instruments": (720, music.instrument_clips),
    "pieces_tempo": (600, music.tempo_clips),
    "speech_voice": (720, speech.voice_clips),
    "speech_language": (768, speech.language_clips),
    "words": (1200, speech.word_clips),
    "noises": (700, noises.noise_clips),
}
"""Number of clips at scale 1, and the function that plans them from seed and number."""

UNLABELLED = (PRETRAIN, MORE) = ("pretrain", "pretrain_more")
"""Pieces, speech and noises; notes one by one, words one by one, and speech over music or noises."""

PRETRAIN_CLIPS, PRETRAIN_SECONDS = 900, 6.0
"""Clips at scale 1, and their length, of each unlabelled part."""

SEVERAL = ("pieces_instruments", "noises")
"""Tasks with several labels per clip."""

BLOCK = 40
"""Clips that a worker renders at a time: one fluidsynth, a few seconds of work."""

FORMAT = 1
"""Version of the sounds; raised by every change that makes other sounds from the same seed."""


def plan(task: str, seed: int, scale: float = 1.0, clips: int | None = None) -> list[Clip]:
    """All clips of a task or of an unlabelled part, in order."""
    if task in UNLABELLED:
        draw = _pretraining if task == PRETRAIN else _more
        return draw(seed, clips or round(PRETRAIN_CLIPS * scale))
    count, draw = TASKS[task]
    return draw(seed, clips or round(count * scale))


def _pretraining(seed: int, clips: int) -> list[Clip]:
    def draw(rng: np.random.Generator, kind: int) -> Content:
        if kind == 0:
            return music.pretraining_music(rng, seed)
        return speech.pretraining_speech(rng) if kind == 1 else noises.pretraining_noises(rng)

    return _unlabelled(PRETRAIN, (seed, 9, 0), clips, draw)


def _more(seed: int, clips: int) -> list[Clip]:
    def draw(rng: np.random.Generator, kind: int) -> Content:
        if kind == 0:
            return music.pretraining_notes(rng, seed, round(1000 * PRETRAIN_SECONDS))
        if kind == 1:
            return speech.pretraining_words(rng)
        behind = music.pretraining_music(rng, seed) if rng.uniform() < 0.5 else noises.pretraining_noises(rng)
        return Over(speech.pretraining_speech(rng), behind, float(rng.uniform(-5, 15)))

    return _unlabelled(MORE, (seed, 10, 0), clips, draw)


def _unlabelled(
    name: str, key: tuple[int, ...], clips: int, draw: Callable[[np.random.Generator, int], Content]
) -> list[Clip]:
    """Three kinds in turn; each clip has its own random numbers."""
    planned = []
    for number in range(clips):
        seed, path = (*key, number), f"{name}/{number:05d}.flac"
        content = draw(np.random.default_rng([*seed, 1]), number % 3)
        planned.append(Clip(path, (), "unlabelled", path, seed, PRETRAIN_SECONDS, content))
    return planned


def table(task: str, clips: Sequence[Clip]) -> str:
    """The task's CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "labels" if task in SEVERAL else "label", "split", "group"])
    writer.writerows([clip.path, ";".join(clip.labels), clip.part, clip.group] for clip in clips)
    return text.getvalue()


def make(folder: Path, task: str, clips: Sequence[Clip], soundfont: Path, workers: int) -> int:
    """Render missing clips, then write the table; returns the number of clips rendered."""
    (folder / task).mkdir(parents=True, exist_ok=True)
    todo = {clip.path for clip in clips if not (folder / clip.path).exists()}
    jobs = [block for block in blocks(clips, BLOCK) if any(clip.path in todo for clip in block)]
    if jobs:
        with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=get_context("spawn")) as pool:
            rendered = pool.map(partial(render_block, folder, soundfont=soundfont), jobs)
            for _ in track(rendered, task, len(jobs)):
                pass
    if task not in UNLABELLED:
        write_text(folder / f"{task}.csv", table(task, clips))
    return len(todo)


def claim(folder: Path, made_of: dict[str, object]) -> None:
    """Record in the folder what its sounds depend on; raise RenderError if it holds something else."""
    marker = folder / "corpus.json"
    if marker.exists():
        found = json.loads(marker.read_text(encoding="utf-8"))
        if found != made_of:
            raise RenderError(
                f"{folder} holds a corpus of {found}, not {made_of}; name another folder or remove it"
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise RenderError(f"{folder} holds other files; name an empty or a new folder")
    write_text(marker, json.dumps(made_of, indent=2) + "\n")


def main() -> None:
    """Render the corpus, task by task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--scale", type=float, default=1.0, help="factor of every part's number of clips")
    parser.add_argument(
        "--clips", type=int, help="clips of each part, instead of --scale; rounded to a multiple of its classes"
    )
    parser.add_argument(
        "--only", choices=[*TASKS, *UNLABELLED], action="append", help="may be given several times"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--soundfont", type=Path, default=SOUNDFONT, help="soundfont of General MIDI")
    options = parser.parse_args()
    try:
        if lines := missing_programs(options.soundfont):
            raise RenderError("\n".join(lines))
        size = {"scale": options.scale, "clips": options.clips}
        claim(
            options.output, {"format": FORMAT, "seed": options.seed, **size, "soundfont": options.soundfont.name}
        )
        for task in options.only or [*TASKS, *UNLABELLED]:
            started = time.perf_counter()
            clips = plan(task, options.seed, options.scale, options.clips)
            made = make(options.output, task, clips, options.soundfont, options.workers)
            hours = sum(clip.seconds for clip in clips) / 3600
            seconds = time.perf_counter() - started
            print(f"{task:20} {len(clips):5} clips {hours:5.2f} h, {made} rendered in {seconds:.0f} s", flush=True)
    except RenderError as error:
        sys.exit(f"corpus.py: {error}")


if __name__ == "__main__":
    main()
