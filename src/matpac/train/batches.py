"""From a loader to the micro-batches of each step: who reads, how that ends, and which corpus it is."""

import hashlib
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from matpac.data.crops import CropBatch, Steps
from matpac.data.files import Clip, DataError
from matpac.errors import one_line
from matpac.train.guard import TrainingError
from matpac.train.options import RunOptions
from matpac.train.processes import count_own_cores

if TYPE_CHECKING:  # Fabric takes a second to import
    from lightning_fabric import Fabric

AUTO_WORKERS_CPU = 1
"""Reading processes of a run on a CPU: one keeps up with two cores of training and takes little from them."""

AUTO_WORKERS_LIMIT = 24
"""Reading processes per GPU, at most: so many cores decode the FLAC that ViT-B takes on a well used H200 (23.3
by docs/scaling.md), and each keeps `PREFETCHED` micro-batches in memory."""


def count_workers(options: RunOptions, device: torch.device) -> int:
    """Processes that read sound files for one training process on this device."""
    if options.workers != "auto":
        return options.workers
    return AUTO_WORKERS_CPU if device.type == "cpu" else min(AUTO_WORKERS_LIMIT, count_own_cores(options.nodes))


def own_steps(options: RunOptions, fabric: "Fabric", batch_size: int, first: int, last: int) -> Steps:
    """Steps `first` to `last` (not included), and the part of their batches that this process takes."""
    rank, size = fabric.global_rank, fabric.world_size
    return Steps(batch_size, options.seed, first, last, rank, size, options.accumulate)


def by_steps(loader: Iterable[CropBatch], steps: int, accumulate: int) -> Generator[list[CropBatch], None, None]:
    """The micro-batches of `steps` steps; raises the DataError of a reading process as one line, and ends them."""
    batches = iter(loader)
    for _ in range(steps):
        try:
            step = [next(batches) for _ in range(accumulate)]
        except DataError as error:
            # from a reading process it comes inside a whole traceback as text, its own message last
            failure = str(error).rpartition(f"{type(error).__name__}: ")[2].strip()
            error.__traceback__ = None  # torch lets it refer to itself, and with it to the reading processes
            break
        yield step
    else:
        return
    del batches, loader  # ends the reading processes now: left to a garbage collection it takes ten seconds
    raise DataError(failure)


@contextmanager
def lost_readers_named() -> Iterator[None]:
    """Around the steps of a run: PyTorch interrupts them wherever they are when a reading process has ended.

    Raises:
        TrainingError: one has ended, with the likely reason and the way out.
    """
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker (pid" not in str(error):
            raise
        reason = one_line(error).rstrip(".")
        raise TrainingError(
            f"a process that reads sounds has ended ({reason}), most likely for lack of memory: continue with "
            "--resume and fewer --workers, each of which keeps several batches ready, or with more memory"
        ) from error


def fingerprint(clips: list[Clip]) -> str:
    """Identifies a corpus by names, lengths and order, so that a resumed run can check that it has the same."""
    digest = hashlib.sha256()
    for clip in clips:
        digest.update(f"{clip.identity}\0{clip.duration:.3f}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]
