"""Work on many shards by several processes, which stop when asked to and end with the one that began them."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.process import BaseProcess
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from typing import TypeVar

from matpac.data.packing.plan import PackError
from matpac.data.packing.shard_files import Tick

T = TypeVar("T")
R = TypeVar("R")

LOOK_SECONDS = 0.2
"""Between two looks at how far the processes are; ours."""


class _Stopped(Exception):
    """The process that began the work wants its end."""


_shared: tuple["Synchronized[int]", Event] | None = None


def work_on(
    tasks: Sequence[T], work: Callable[[T, Tick], R], workers: int, ticked: Callable[[int], None]
) -> Iterator[R]:
    """What `work` gives for each task, as they come to their end.

    Args:
        tasks: picklable where there are several workers.
        work: a function of a module; gets a task, and what to call after each clip.
        workers: processes; with one all is done in this one.
        ticked: called now and then, with the number of clips done.

    Raises:
        PackError: a process died. Whatever `work` raises ends all.
    """
    if workers == 1:
        done = 0

        def tick() -> None:
            nonlocal done
            done += 1
            ticked(done)

        for task in tasks:
            yield work(task, tick)
        return
    # not forked: threads of this process hold locks that nobody would free in a fork
    context = multiprocessing.get_context("spawn")
    counter, stop = context.Value("q", 0), context.Event()
    with ProcessPoolExecutor(workers, context, _set_up, (counter, stop)) as pool:
        pending = {pool.submit(_work, work, task) for task in tasks}
        try:
            while pending:
                ready, pending = wait(pending, LOOK_SECONDS, FIRST_COMPLETED)
                ticked(counter.value)
                for future in ready:
                    yield future.result()
        except BrokenProcessPool as error:
            raise PackError(
                "a process died at its work, perhaps for want of memory; run the same command again, with fewer "
                "--workers"
            ) from error
        finally:  # nothing is left to stop when all went well
            stop.set()
            pool.shutdown(cancel_futures=True)


def _set_up(counter: "Synchronized[int]", stop: Event) -> None:
    """In each process: Ctrl-C is the first one's to handle, and no process outlives it."""
    global _shared
    _shared = counter, stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _work(work: Callable[[T, Tick], R], task: T) -> R:
    return work(task, _tick)


def _tick() -> None:
    assert _shared is not None
    counter, stop = _shared
    with counter.get_lock():
        counter.value += 1
    if stop.is_set():
        raise _Stopped
