"""The run folder: its configuration, its logs, its checkpoints, and how a run goes on after a break.

runs/x/
  config.json              everything the run was started with
  metrics.jsonl            one line a log interval
  tensorboard/             the same for TensorBoard
  left_out.jsonl           every file that was left out, and why
  clips.parquet            durations of the corpus, read once
  checkpoints/step-00001000/
    model.safetensors      weights and configuration; `matpac.load` reads it
    optimizer.safetensors
    state.json             step, losses, versions; written last
  model.safetensors        of fine-tuning: the best encoder so far with its head, which `matpac.load` prefers
"""

import json
import shutil
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from matpac.atomic import write_text
from matpac.errors import MatpacError, Skipped
from matpac.files.tensor_files import read_tensors, write_tensors

CONFIG_FILE = "config.json"
"""In every run folder from its start on."""

REMOVED = {"averaging": "off"}
"""Settings of earlier versions, and the value with which their runs can still be resumed."""


class RunError(MatpacError):
    """A run folder that cannot be used; the message names it and says what to do."""


class Run:
    """One run folder. The first process writes it; the others only add what they had to leave out.

    Args:
        folder: made if it is not there.
        resume: go on with the run that lies there; without it a folder with a run in it is refused.
        keep: how many of the newest checkpoints stay, besides the best.
        first: whether this is the first process.
    """

    def __init__(self, folder: Path, resume: bool, keep: int, first: bool = True):
        self.folder = folder
        self.resume = resume
        self.keep = keep
        self.first = first
        self._board = None
        started = (folder / CONFIG_FILE).exists()
        if started and not resume:
            raise RunError(f"{folder}: a run lies there already; go on with --resume, or choose another --output")
        if resume and not started:
            raise RunError(f"{folder}: no run to resume (config.json is not there); start it without --resume")

    @property
    def checkpoints(self) -> list[Path]:
        """Complete checkpoints, oldest first."""
        found = (self.folder / "checkpoints").glob("step-*")
        return sorted(path for path in found if (path / "state.json").exists())

    def write_config(self, config: Mapping[str, object]) -> None:
        """Keep the full configuration."""
        if not self.first:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self.folder / CONFIG_FILE, json.dumps(config, indent=2) + "\n")

        if not self.resume:  # what a start that came to nothing left
            (self.folder / "left_out.jsonl").unlink(missing_ok=True)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """One line of metrics.jsonl and one point a curve for TensorBoard."""
        if not self.first:
            return
        with (self.folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        if self._board is None:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(self.folder / "tensorboard"), purge_step=step)
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def forget_after(self, step: int) -> None:
        """Drop log lines of steps that a resumed run will do again, and lines that a kill cut in half."""
        if not self.first:
            return
        for name, wanted in (("metrics.jsonl", lambda line: line["step"] <= step), ("left_out.jsonl", bool)):
            path = self.folder / name
            if path.exists():
                lines = path.read_text().splitlines()
                kept = [line for line in lines if (values := _parsed(line)) and wanted(values)]
                write_text(path, "".join(line + "\n" for line in kept))

    def leave_out(self, files: Iterable[Skipped]) -> None:
        """Keep which files were left out, and why; each file once, whichever process met it."""
        reasons = {file.path: file.reason for file in files}
        if not reasons:
            return
        known = self.left_out
        fresh = [{"path": path, "reason": reason} for path, reason in reasons.items() if path not in known]
        with (self.folder / "left_out.jsonl").open("a") as log:
            log.write("".join(json.dumps(file) + "\n" for file in fresh))

    @property
    def left_out(self) -> set[str]:
        """Paths of the files left out so far, by all processes and before a break."""
        path = self.folder / "left_out.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return {line["path"] for line in map(_parsed, lines) if line}

    @property
    def newest(self) -> Path | None:
        """The newest complete checkpoint."""
        complete = self.checkpoints
        return complete[-1] if complete else None

    def save(
        self,
        step: int,
        objective: nn.Module,
        optimizer: torch.optim.Optimizer,
        description: Mapping[str, object],
        state: Mapping[str, object],
        beside: Mapping[str, Mapping[str, Tensor]] | None = None,
    ) -> Path:
        """Write a checkpoint whole or not at all, then drop the ones no longer wanted.

        `beside` are further tensors, by the name of their file (`restore_beside`).
        """
        target = self.folder / "checkpoints" / f"step-{step:08d}"
        draft = target.parent / f".{target.name}-{uuid.uuid4().hex[:8]}"
        try:
            draft.mkdir(parents=True)
            write_tensors(draft / "model.safetensors", objective.state_dict(), dict(description))
            write_tensors(draft / "optimizer.safetensors", optimizer_tensors(optimizer), {})
            for name, tensors in (beside or {}).items():
                write_tensors(draft / f"{name}.safetensors", tensors, {})
            write_text(draft / "state.json", json.dumps({"step": step, **state}, indent=2) + "\n")
            if target.exists():
                _remove(target)
            draft.rename(target)
        except OSError as error:
            shutil.rmtree(draft, ignore_errors=True)
            raise RunError(
                f"{target}: could not be written ({error.strerror or error}); the newest complete checkpoint is "
                f"{self.newest or 'none'}; make room and go on with --resume"
            ) from error
        self._prune()
        return target

    def restore(
        self, objective: nn.Module, optimizer: torch.optim.Optimizer, identity: Mapping[str, object]
    ) -> tuple[int, dict]:
        """Load the newest checkpoint; returns its step and what was kept beside, 0 and nothing without one.

        Args:
            objective: takes the weights.
            optimizer: takes the moments.
            identity: what must be as it was when the checkpoint was written.

        Raises:
            RunError: something of `identity` has changed.
        """
        if self.newest is None:
            self.forget_after(0)
            return 0, {}
        state = json.loads((self.newest / "state.json").read_text())
        for name, value in identity.items():
            if state.get(name) != value:
                raise RunError(
                    f"{self.folder}: the {name} is not the one that this run began with ({state.get(name)} then, "
                    f"{value} now); put it back, or start another run"
                )
        tensors, _ = read_tensors(self.newest / "model.safetensors")
        objective.load_state_dict(tensors, strict=True)
        moments, _ = read_tensors(self.newest / "optimizer.safetensors")
        load_optimizer_tensors(optimizer, moments)
        self.forget_after(state["step"])
        return state["step"], state

    def restore_beside(self, name: str) -> dict[str, Tensor]:
        """Tensors that the newest checkpoint keeps beside its own under this name; none where it has none."""
        path = None if self.newest is None else self.newest / f"{name}.safetensors"
        return {} if path is None or not path.exists() else dict(read_tensors(path)[0])

    def _prune(self) -> None:
        """Keep the newest and the one with the lowest loss; drop drafts that a killed run left."""
        complete = self.checkpoints
        best = min(complete, key=_loss)
        for path in complete[: -self.keep]:
            if path != best:
                _remove(path)
        for draft in (self.folder / "checkpoints").glob(".step-*"):
            shutil.rmtree(draft)

    def close(self) -> None:
        """End the logs."""
        if self._board is not None:
            self._board.close()


def read_config(folder: Path) -> dict:
    """The configuration that a run was started with.

    Raises:
        RunError: there is none, or what lies there is none.
    """
    path = folder / CONFIG_FILE
    if not path.exists():
        raise RunError(f"{folder}: no run to resume (config.json is not there); start it without --resume")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{path}: damaged ({error}); put it back, or start another run") from error
    parts = (config.get("recipe"), config.get("options")) if isinstance(config, dict) else (None,)
    if not all(isinstance(part, dict) for part in parts):
        raise RunError(f"{path}: damaged (not a recipe and options); put it back, or start another run")
    for name in REMOVED.keys() & config["recipe"].keys():
        value = config["recipe"].pop(name)
        value = value.get("kind") if isinstance(value, dict) else value
        if value != REMOVED[name]:
            raise RunError(
                f"{path}: {name} {value} is gone since the version that wrote it; resume the run with that "
                "version, or start another run"
            )
    return config


def _remove(checkpoint: Path) -> None:
    """Delete a checkpoint so that a kill in between leaves none that looks complete."""
    doomed = checkpoint.with_name(f".{checkpoint.name}-{uuid.uuid4().hex[:8]}")
    checkpoint.rename(doomed)
    shutil.rmtree(doomed)


def _loss(checkpoint: Path) -> float:
    """The mean loss since the checkpoint before; one without counts as the worst."""
    loss = json.loads((checkpoint / "state.json").read_text()).get("loss")
    return float("inf") if loss is None else loss


def _parsed(line: str) -> dict:
    """A line of our own logs; empty for one that a kill cut in half."""
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        return {}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The moments of every parameter, by its number: plain tensors, safe to open."""
    return {
        f"{number}.{name}": value
        for number, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
    }


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put the moments back; groups and rates are the configuration's."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        number, name = key.split(".", 1)
        state.setdefault(int(number), {})[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
