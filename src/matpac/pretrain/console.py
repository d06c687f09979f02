"""What a person at the terminal sees of a training run: a plan, a moving line, a summary."""

import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from matpac.console import work_bar
from matpac.data.files import Corpus
from matpac.errors import describe_skipped
from matpac.pretrain.options import RunOptions
from matpac.pretrain.recipes import Plan


@dataclass(frozen=True)
class Finished:
    """How a run ended."""

    folder: Path
    step: int
    steps: int
    checkpoint: Path | None
    left_out: int
    seconds: float

    @property
    def complete(self) -> bool:
        """Whether the last step was done."""
        return self.step >= self.steps


class TrainingConsole:
    """A progress bar on a terminal, a line per log interval elsewhere; silent on all but the first process."""

    def __init__(self, enabled: bool, steps: int, done: int):
        self._console = Console(stderr=True, highlight=False, emoji=False, soft_wrap=True)
        self.enabled = enabled
        self._steps = steps
        self._progress = work_bar(self._console, enabled and sys.stderr.isatty())
        self._task = self._progress.add_task("step", total=steps, completed=done, state="")

    def __enter__(self) -> "TrainingConsole":
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        """A line of its own."""
        if self.enabled:
            self._progress.console.print(text, markup=False)

    def advance(self, done: int) -> None:
        """So many steps are done."""
        self._progress.update(self._task, completed=done)

    def show(self, done: int, values: Mapping[str, float]) -> None:
        """The newest values of a log interval."""
        rate = values["speed/clips_per_second"]
        seconds = (self._steps - done) * values["speed/seconds_per_step"]
        text = f"loss {values['loss']:.4f}  {rate:.1f} clips/s"
        self._progress.update(self._task, state=text)
        if self._progress.disable:
            self.say(f"step {done}/{self._steps}  {text}  {seconds / 60:.1f} min left")


def introduction(plan: Plan, options: RunOptions, corpus: Corpus, step: int, device: str) -> str:
    """What is about to be done, with the steps that the recipe's epochs come to."""
    recipe = plan.recipe
    hours = sum(clip.duration for clip in corpus.clips) / 3600
    lines = [
        f"{options.data}: {len(corpus.clips):,} clips, {hours:.2f} h",
        f"{recipe.epochs:g} epochs × {len(corpus.clips):,} clips / batches of {recipe.batch_size} "
        f"= {plan.steps:,} steps; crops of {recipe.crop_samples / recipe.logmel.sample_rate:.2f} s; {device}",
    ]
    if options.crops_per_read > 1:
        lines.append(f"{options.crops_per_read} crops of each clip at a time: every clip once in as many epochs")
    if corpus.skipped:
        lines.append(
            f"{describe_skipped(corpus.skipped)}; all of them in {Path(options.output) / 'left_out.jsonl'}"
        )
    if step:
        lines.append(f"going on at step {step:,}")
    return "\n".join(lines)


def conclusion(finished: Finished) -> str:
    """How it ended, and what to type next."""
    spent = f"{finished.seconds / 60:.1f} min"
    folder = shlex.quote(str(finished.folder))
    if finished.complete:
        text = f"{finished.folder}: {finished.steps:,} steps done in {spent}"
        next_step = f"use it: matpac embed FILES --encoder {folder} --output vectors.parquet"
    else:
        text = (
            f"{finished.folder}: stopped and saved at step {finished.step:,} of {finished.steps:,} after {spent}"
        )
        next_step = f"go on: matpac pretrain --resume --output {folder}"
    if finished.left_out:
        text += f"; {finished.left_out} files left out, see left_out.jsonl"
    return f"{text}\n{next_step}"
