"""How far packing is: a bar with rate and time left on a terminal, a line a shard elsewhere."""

import sys
import time

from rich.console import Console

from matpac.console import work_bar


class ClipProgress:
    """Clips done of `total`; a context manager.

    Args:
        what: is being done.
        total: clips to do.
    """

    def __init__(self, what: str, total: int) -> None:
        self._total, self._done, self._began = total, 0, time.monotonic()
        self._console = Console(stderr=True, highlight=False, emoji=False, soft_wrap=True)
        self._progress = work_bar(self._console, sys.stderr.isatty())
        self._task = self._progress.add_task(what, total=total, state="")

    def __enter__(self) -> "ClipProgress":
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def at(self, done: int) -> None:
        """So many clips are done."""
        self._done = done
        self._progress.update(self._task, completed=done, state=f"{self._rate():.0f} clips/s")

    def say(self, text: str) -> None:
        """A line, where there is no bar."""
        if self._progress.disable:
            left = (self._total - self._done) / self._rate() / 60 if self._done else 0.0
            far = f"{self._done:,}/{self._total:,} clips, {self._rate():.0f} clips/s, {left:.1f} min left"
            self._console.print(f"{text}; {far}", markup=False)

    def _rate(self) -> float:
        return self._done / max(time.monotonic() - self._began, 1e-9)
