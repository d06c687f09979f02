"""Options of a fine-tuning run: on what, and where it runs."""

from dataclasses import dataclass
from typing import Literal

from matpac.pretrain.options import check_numbers


@dataclass(frozen=True)
class FinetuneOptions:
    """What is fine-tuned on what, and where it runs.

    Args:
        encoder: tiny, a published name, a file, a run folder, hub:owner/name, or random:SIZE (tiny, tiny-fine,
            small, base) to train from scratch.
        task: as in `matpac probe`: esc50, audioset, folder, table, …
        root: folder of the task; for `table` the file.
        output: the run folder.
        fold: of a task with several, the name of the one that is tested; empty for the first.
        head: new; keep (the encoder's own, whose labels must include the task's); or auto: keep it where its
            labels are the task's, else a new one.
        resume: continue the run in `output`.
        seed: of the head, order, crops and augmentation.
        accelerator: cpu, cuda, mps or auto.
        devices: processes on this machine, one per device; auto takes all.
        nodes: machines.
        precision: 32-true, bf16-mixed, 16-mixed, or auto: mixed on a GPU, float32 elsewhere.
        workers: processes that read sound files, for each process of training; auto takes as many as it has cores
            on a GPU, up to 24, and leaves the cores of a CPU run to the network.
        log_every: steps between log lines.
        validate_every: epochs between validations; auto makes at most 40 in a run.
        keep_checkpoints: number of newest checkpoints to keep.
    """

    encoder: str
    task: str
    root: str
    output: str
    fold: str = ""
    head: Literal["auto", "new", "keep"] = "auto"
    resume: bool = False
    seed: int = 42
    accelerator: str = "auto"
    devices: int | Literal["auto"] = "auto"
    nodes: int = 1
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    workers: int | Literal["auto"] = "auto"
    log_every: int = 20
    validate_every: int | Literal["auto"] = "auto"
    keep_checkpoints: int = 1

    def __post_init__(self) -> None:
        check_numbers(self, ("devices", "nodes", "log_every", "validate_every", "keep_checkpoints"))
