"""Options that all kinds of training share: where and how a run computes, not what it learns."""

from dataclasses import dataclass
from typing import Literal

from matpac.errors import require


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Where and how a run computes; of these, only `seed` changes what is learned.

    A run may be resumed on another device or with another precision: results then differ by rounding alone.

    Args:
        output: the run folder.
        resume: continue the run in `output`.
        seed: random seed of weights, order, crops and whatever else is drawn.
        device: auto, cpu, cuda or mps.
        devices: processes on this machine, one per device; auto takes all devices.
        nodes: machines.
        precision: 32-true, bf16-mixed, 16-mixed, or auto: mixed on a GPU, float32 elsewhere.
        accumulate: micro-batches per step, for a batch that does not fit into memory.
        activation_checkpointing: recompute activations in the backward pass: less memory, a third more time.
        compile: compile the network into one graph by torch.compile, which takes a minute or more at the start.
            Off by default: its gain on a GPU has not been measured yet.
        workers: processes that read sound files, per training process; auto takes one per core on a GPU, up to 24,
            and one on a CPU, whose cores the network needs.
        log_every: steps between log lines; monitors are computed only then. Several GPUs then agree whether to
            stop, and at least every 20 steps.
        checkpoint_every: steps between checkpoints; auto chooses by the length of the run.
        keep: how many of the newest checkpoints to keep, besides the best.
    """

    output: str
    resume: bool = False
    seed: int = 0
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: int | Literal["auto"] = "auto"
    nodes: int = 1
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    accumulate: int = 1
    activation_checkpointing: bool = False
    compile: bool = False
    workers: int | Literal["auto"] = "auto"
    log_every: int = 50
    checkpoint_every: int | Literal["auto"] = "auto"
    keep: int = 2

    def __post_init__(self) -> None:
        counts = ("devices", "nodes", "accumulate", "log_every", "checkpoint_every", "keep")
        require(self, "", "at least 1", *(name for name in counts if getattr(self, name) != "auto"))
        require(self, "", "at least 0 and below 2^63", "seed", *(["workers"] if self.workers != "auto" else []))
