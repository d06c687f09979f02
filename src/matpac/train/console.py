"""What the terminal shows of a training run: a progress bar or a line per log interval, and its speed."""

import sys
import time
from collections.abc import Mapping

from rich.console import Console

from matpac.console import work_bar


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
        """Print a line of its own; nothing for an empty text."""
        if self.enabled and text:
            self._progress.console.print(text, markup=False)

    def advance(self, done: int) -> None:
        """Move the bar to this many steps."""
        self._progress.update(self._task, completed=done)

    def show(self, done: int, values: Mapping[str, float]) -> None:
        """Show the newest values of a log interval."""
        rate = values["speed/clips_per_second"]
        seconds = (self._steps - done) * values["speed/seconds_per_step"]
        text = f"loss {values['loss']:.4f}  {rate:.1f} clips/s"
        self._progress.update(self._task, state=text)
        if self._progress.disable:
            self.say(f"step {done}/{self._steps}  {text}  {seconds / 60:.1f} min left")


class Speed:
    """Clips per second and seconds per step since the last call of `values`."""

    def __init__(self, batch_size: int):
        self.batch_size = batch_size
        self._since = time.monotonic()
        self._steps = 0

    def count(self) -> None:
        """Count a step."""
        self._steps += 1

    def values(self) -> dict[str, float]:
        """Both rates; starts a new measurement."""
        seconds = max(time.monotonic() - self._since, 1e-9) / max(self._steps, 1)
        self._since, self._steps = time.monotonic(), 0
        return {"speed/clips_per_second": self.batch_size / seconds, "speed/seconds_per_step": seconds}
