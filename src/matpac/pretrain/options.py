"""Options of a pre-training run that do not change what is learned."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from matpac.errors import MatpacError

SEEDS = 2**63
"""So many there are: PyTorch counts them in 64 bits with a sign."""


@dataclass(frozen=True)
class RunOptions:
    """Where and how a recipe runs; nothing here changes what is learned, but for `encoder`, `seed` and
    `crops_per_read`.

    Where a run goes on with other values of what may change, as another device or `compile`, results differ by
    rounding alone.

    Args:
        data: a folder (searched deep), a file, or a table (CSV, TSV, Parquet) with a path column; or shards: a
            folder from `matpac pack`, a pattern such as shards/{000000..000099}.tar, or URLs as WebDataset has.
        output: the run folder.
        resume: go on with the run in `output`.
        encoder: whose weights the student and its teacher start from, as `matpac.load` takes it; without it they
            are drawn at random. The recipe's network and log-mel must be the encoder's.
        seed: of weights, masks, order and crops.
        accelerator: cpu, cuda, mps or auto.
        devices: processes on this machine, one a device; auto takes all.
        nodes: machines.
        precision: 32-true, bf16-mixed, 16-mixed, or auto: mixed on a GPU, float32 elsewhere.
        accumulate: micro-batches a step, for a batch that does not fit the memory.
        activation_checkpointing: recompute activations in the backward pass: less memory, a third more time.
        compile: one graph by torch.compile, which takes a minute or more at the start. Off: its gain on a GPU was
            not measured yet.
        crops_per_read: random crops that a batch takes of each of its clips. Reading and decoding are saved, clips
            come as many times more seldom, and a batch holds as many times fewer of them.
        workers: processes that read sound files, for each process of training; auto takes as many as it has cores
            on a GPU, up to 24, and leaves the cores of a CPU run to the network.
        log_every: steps between log lines; monitors are computed only then. Several GPUs look then whether the run
            is to stop, and at least every 20 steps.
        checkpoint_every: steps between checkpoints; auto makes a hundred in a run, at least 500 steps apart.
        keep: newest checkpoints that stay, besides the best.
    """

    data: str
    output: str
    resume: bool = False
    encoder: str | None = None
    seed: int = 0
    accelerator: str = "auto"
    devices: int | Literal["auto"] = "auto"
    nodes: int = 1
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    accumulate: int = 1
    activation_checkpointing: bool = False
    compile: bool = False
    crops_per_read: int = 1
    workers: int | Literal["auto"] = "auto"
    log_every: int = 50
    checkpoint_every: int | Literal["auto"] = "auto"
    keep: int = 2

    def __post_init__(self) -> None:
        check_numbers(
            self, ("devices", "nodes", "accumulate", "crops_per_read", "log_every", "checkpoint_every", "keep")
        )


def check_numbers(options: object, positive: Sequence[str]) -> None:
    """Check the options `positive`, and `seed` and `workers`, which may be 0; auto may stand.

    Raises:
        MatpacError: names the first whose number cannot be meant.
    """
    for name in positive:
        value = getattr(options, name)
        if value != "auto" and value < 1:
            raise MatpacError(f"{name} must be at least 1, not {value}")
    for name in ("seed", "workers"):
        value = getattr(options, name)
        if value != "auto" and value < 0:
            raise MatpacError(f"{name} must not be negative, and is {value}")
        if value != "auto" and value >= SEEDS:
            raise MatpacError(f"{name} must be below 2**63, not {value}")
