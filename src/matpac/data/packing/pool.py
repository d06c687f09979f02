"""Work on many shards by several processes, which end with the one that began them."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized
from typing import TypeVar

from matpac.console import work_bar
from matpac.errors import MatpacError
from matpac.machine import cores

T = TypeVar("T")
R = TypeVar("R")
Tick = Callable[[], None]  # called when a clip is done

LOOK_SECONDS = 0.2  # between two updates of the progress; default


class PackError(MatpacError):
    """Packing can't be done or resumed; the message gives the reason and the way out."""


_done: "Synchronized[int]"  # clips that all processes did; set in each of them


def work_on(
    tasks: Sequence[T], work: Callable[[T, Tick], R], workers: int | None, progress: "ClipProgress"
) -> Iterator[R]:
    """Results of the tasks, as they are done. An error, or leaving early, ends the processes where they are.

    Args:
        tasks: picklable where there are several workers.
        work: picklable; gets a task, and what to call after each clip.
        workers: processes, one per core if None; with one all is done in this process.
        progress: shows the clips done.

    Raises:
        PackError: a process died. Whatever `work` raises ends all.
    """
    workers = min(workers or cores(), len(tasks))
    if workers <= 1:
        for task in tasks:
            yield work(task, lambda: progress.at(progress.done + 1))
        return
    # not forked: threads of this process hold locks that nobody would free in a fork
    context = multiprocessing.get_context("spawn")
    done, (reader, writer) = context.Value("q", 0), context.Pipe(duplex=False)
    with ProcessPoolExecutor(workers, context, _set_up, (done, reader)) as pool:
        pending = {pool.submit(_work, work, task) for task in tasks}
        try:
            while pending:
                ready, pending = wait(pending, LOOK_SECONDS, FIRST_COMPLETED)
                progress.at(done.value)
                for future in ready:
                    yield future.result()
            pool.shutdown()
        except BrokenProcessPool as error:
            raise PackError(
                "a process died, perhaps for lack of memory; run the same command again, with fewer --workers"
            ) from error
        finally:
            writer.close()  # which ends the processes that still work
            reader.close()


def _set_up(done: "Synchronized[int]", alive: Connection) -> None:
    """In each process: Ctrl-C is handled by the first one, and no process outlives it."""
    global _done
    _done = done
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(alive,), daemon=True).start()


def _end_with(alive: Connection) -> None:
    with suppress(EOFError, OSError):
        alive.recv_bytes()  # nothing is ever sent: it returns when the other end is closed
    os._exit(1)


def _work(work: Callable[[T, Tick], R], task: T) -> R:
    return work(task, _tick)


def _tick() -> None:
    with _done.get_lock():
        _done.value += 1


class ClipProgress:
    """Shows progress: a bar with rate and time left on a terminal, one line per shard elsewhere.

    Args:
        what: the work, in one word.
        total: clips to do.
    """

    def __init__(self, what: str, total: int) -> None:
        self.done, self._total, self._began = 0, total, time.monotonic()
        self._bar = work_bar()
        self._task = self._bar.add_task(what, total=total, state="")

    def __enter__(self) -> "ClipProgress":
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def at(self, done: int) -> None:
        """So many clips are done."""
        self.done = done
        self._bar.update(self._task, completed=done, state=f"{self._rate():.0f} clips/s")

    def say(self, text: str) -> None:
        """Prints a line where there is no bar."""
        if self._bar.disable:
            left = (self._total - self.done) / self._rate() / 60 if self.done else 0.0
            far = f"{self.done:,}/{self._total:,} clips, {self._rate():.0f} clips/s, {left:.1f} min left"
            print(f"{text}; {far}", file=sys.stderr)

    def _rate(self) -> float:
        return self.done / max(time.monotonic() - self._began, 1e-9)
