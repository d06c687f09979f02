"""Options of a fine-tuning run: on what, and where it runs."""

from dataclasses import dataclass
from typing import Literal

from matpac.errors import require
from matpac.train.options import RunOptions


@dataclass(frozen=True, kw_only=True)
class FinetuneOptions(RunOptions):
    """What is fine-tuned on what, besides the options of every run.

    With `accumulate`, the head's BatchNorm normalises each micro-batch by itself, as it does each process's part.

    Args:
        encoder: tiny, a published name, a file, a run folder, hub:owner/name, or random:SIZE (tiny, tiny-fine,
            small, base) to train from scratch.
        task: as in `matpac probe`: esc50, audioset, folder, table, …
        root: folder of the task; for `table` the file.
        fold: of a task with several, the name of the one that is tested; empty for the first.
        head: new; keep (the encoder's own, whose labels must include the task's); or auto: keep it where its
            labels are the task's, else a new one.
        validate_every: epochs between validations; auto makes at most 40 in a run.
    """

    encoder: str
    task: str
    root: str
    fold: str = ""
    head: Literal["auto", "new", "keep"] = "auto"
    validate_every: int | Literal["auto"] = "auto"
    seed: int = 42
    log_every: int = 20
    keep: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.validate_every != "auto":
            require(self, "", "at least 1", "validate_every")
