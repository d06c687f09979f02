"""This machine and this process: devices, cores, and the share of a job that several processes have."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from matpac.errors import MatpacError

T = TypeVar("T")

LAUNCHERS = (("RANK", "WORLD_SIZE", "LOCAL_RANK"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"))
"""Variables with the number of this process, of how many, and its number on this machine: torchrun (and `fabric
run`), and SLURM's srun. SLURM_NTASKS is also set in a batch script, which is one process, so it is not read."""


def choose_device(name: str, local_rank: int = 0) -> str:
    """The device that `auto` means: a GPU if there is one, by turns for the processes of a machine.

    Raises:
        MatpacError: PyTorch knows no such device, or this machine has none.
    """
    import torch

    if name != "auto":
        try:
            torch.empty(0, device=name)
        except (RuntimeError, AssertionError) as error:  # a PyTorch without CUDA asserts
            reason = str(error).splitlines()[0]
            raise MatpacError(f"--device {name}: not available here ({reason}); use auto or cpu") from error
        return name
    if torch.cuda.is_available():
        return f"cuda:{local_rank % torch.cuda.device_count()}"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def cores() -> int:
    """Cores that this process may use: joblib's count, which knows affinity and the quotas of containers."""
    import joblib

    return joblib.cpu_count()


@dataclass(frozen=True)
class Share:
    """One process of several that share a list without knowing each other.

    Args:
        rank: number of the process, from 0.
        count: number of processes.
        local: number of the process on its machine, from 0.
    """

    rank: int = 0
    count: int = 1
    local: int = 0

    def of(self, items: Sequence[T]) -> Sequence[T]:
        """Its part: every `count`-th item, so that long and short files that lie together are spread."""
        return items[self.rank :: self.count]


def this_share(environment: Mapping[str, str] = os.environ) -> Share:
    """The share by the launcher's variables; the whole without a launcher.

    Raises:
        MatpacError: the variables are no numbers, or name no process.
    """
    for names in LAUNCHERS:
        rank, count, local = (environment.get(name) for name in names)
        if rank is None or count is None:
            continue
        given = f"{names[0]}={rank}, {names[1]}={count}"
        try:
            share = Share(int(rank), int(count), int(local or 0))
        except ValueError as error:
            raise MatpacError(f"{given}: not numbers; unset them, or start with torchrun or srun") from error
        if not 0 <= share.rank < share.count:
            raise MatpacError(f"{given}: no such process; unset them, or start with torchrun or srun")
        return share
    return Share()
