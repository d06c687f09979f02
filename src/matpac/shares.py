"""Which share of a list of files is this process's, where several processes were started for one job.

They need not know each other: a file's place in the list says whose it is.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from matpac.errors import MatpacError

T = TypeVar("T")

LAUNCHERS = (("RANK", "WORLD_SIZE", "LOCAL_RANK"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"))
"""Where a launcher says which process this is, of how many, and which one on its machine: torchrun (and `fabric
run`), and SLURM's srun. SLURM_NTASKS is not asked: it stands in a batch script too, which is one process."""


@dataclass(frozen=True)
class Share:
    """One process of several.

    Args:
        rank: its number, from 0.
        count: how many there are.
        local: its number on this machine, from 0.
    """

    rank: int = 0
    count: int = 1
    local: int = 0

    def of(self, items: Sequence[T]) -> Sequence[T]:
        """Its part: every `count`-th, so that long and short files that lie together are spread."""
        return items[self.rank :: self.count]


def this_share(environment: Mapping[str, str] = os.environ) -> Share:
    """By the launcher's variables; the whole without one.

    Raises:
        MatpacError: they make no sense together.
    """
    for names in LAUNCHERS:
        rank, count, local = (environment.get(name) for name in names)
        if rank is None or count is None:
            continue
        said = f"{names[0]}={rank}, {names[1]}={count}"
        try:
            share = Share(int(rank), int(count), int(local or 0))
        except ValueError as error:
            raise MatpacError(f"{said}: not numbers; unset them, or start by torchrun or srun") from error
        if not 0 <= share.rank < share.count:
            raise MatpacError(f"{said}: no such process; unset them, or start by torchrun or srun")
        return share
    return Share()
