"""The run folder: its configuration, logs and checkpoints, and how a run resumes from it.

runs/x/
  config.json              everything the run was started with
  metrics.jsonl            one line per log interval
  tensorboard/             the same for TensorBoard
  left_out.jsonl           every file that was skipped, and why
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
from typing import Any

import torch
from torch import Tensor, nn

from matpac.atomic import write_text
from matpac.errors import Skipped
from matpac.files.tensor_files import read_tensors, write_tensors
from matpac.train.config import CONFIG_FILE, RunError

SKIPPED_FILE, METRICS_FILE = "left_out.jsonl", "metrics.jsonl"


class Run:
    """One run folder. The first process writes it; the others only add files that they had to skip.

    Args:
        folder: created if it does not exist.
        resume: continue the run in it; without it a folder with a run is refused.
        keep: how many of the newest checkpoints to keep, besides the best.
        first: whether this is the first process.

    Raises:
        RunError: there is a run that is not to be resumed.
    """

    def __init__(self, folder: Path, resume: bool, keep: int, first: bool = True):
        self.folder, self.resume, self.keep, self.first = folder, resume, keep, first
        self._board = None
        if not resume and (folder / CONFIG_FILE).exists():
            raise RunError(f"{folder}: already contains a run; add --resume, or choose another --output")

    @property
    def checkpoints(self) -> list[Path]:
        """Complete checkpoints, oldest first."""
        found = (self.folder / "checkpoints").glob("step-*")
        return sorted(path for path in found if (path / "state.json").exists())

    @property
    def newest(self) -> Path | None:
        """The newest complete checkpoint."""
        return next(reversed(self.checkpoints), None)

    def write_config(self, config: Mapping[str, object]) -> None:
        """Keep the full configuration."""
        if not self.first:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self.folder / CONFIG_FILE, json.dumps(config, indent=2) + "\n")
        if not self.resume:  # of an earlier start that failed
            (self.folder / SKIPPED_FILE).unlink(missing_ok=True)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add one line to metrics.jsonl and one point per curve to TensorBoard."""
        if not self.first:
            return
        with (self.folder / METRICS_FILE).open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        if self._board is None:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(self.folder / "tensorboard"), purge_step=step)
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """End the logs."""
        if self._board is not None:
            self._board.close()

    def skip(self, files: Iterable[Skipped]) -> None:
        """Record which files were skipped, and why; each file once, whichever process met it."""
        reasons = {file.path: file.reason for file in files}
        if not reasons:
            return
        known = self.skipped
        lines = [{"path": path, "reason": reason} for path, reason in reasons.items() if path not in known]
        with (self.folder / SKIPPED_FILE).open("a") as log:
            log.write("".join(json.dumps(line) + "\n" for line in lines))

    @property
    def skipped(self) -> set[str]:
        """Paths of the files skipped so far, by all processes and all sessions of the run."""
        return {line["path"] for line in _lines(self.folder / SKIPPED_FILE)}

    def save(
        self,
        state: Mapping[str, object],
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        description: Mapping[str, object],
    ) -> Path:
        """Write a checkpoint whole or not at all, then delete those no longer wanted.

        Args:
            state: "step", "loss" (the mean since the checkpoint before), and what else a resumed run needs.
            network: its weights are saved.
            optimizer: its moments are saved.
            description: of the network, for `matpac.load`.

        Raises:
            RunError: the disk is full or refuses.
        """
        target = self.folder / "checkpoints" / f"step-{state['step']:08d}"
        draft = target.parent / f".{target.name}-{uuid.uuid4().hex[:8]}"
        try:
            draft.mkdir(parents=True)
            write_tensors(draft / "model.safetensors", network.state_dict(), dict(description))
            write_tensors(draft / "optimizer.safetensors", optimizer_tensors(optimizer), {})
            write_text(draft / "state.json", json.dumps(state, indent=2) + "\n")
            if target.exists():
                _remove(target)
            draft.rename(target)
        except OSError as error:
            shutil.rmtree(draft, ignore_errors=True)
            raise RunError(
                f"{target}: could not be written ({error.strerror or error}); the newest complete checkpoint is "
                f"{self.newest or 'none'}; free some space and continue with --resume"
            ) from error
        self._prune()
        return target

    def restore(
        self, network: nn.Module, optimizer: torch.optim.Optimizer, identity: Mapping[str, object]
    ) -> dict[str, Any]:
        """Load the newest checkpoint and drop later log lines; returns its state, step 0 without a checkpoint.

        Args:
            network: takes the weights.
            optimizer: takes the moments.
            identity: entries of the state that must be the same as when the checkpoint was written.

        Raises:
            RunError: something of `identity` has changed.
        """
        state: dict[str, Any] = {"step": 0}
        if self.newest is not None:
            state = json.loads((self.newest / "state.json").read_text())
            for name, value in identity.items():
                if state.get(name) != value:
                    raise RunError(
                        f"{self.folder}: the {name} is not the one that this run started with ({state.get(name)} "
                        f"then, {value} now); restore it, or start another run"
                    )
            network.load_state_dict(read_tensors(self.newest / "model.safetensors")[0], strict=True)
            load_optimizer_tensors(optimizer, read_tensors(self.newest / "optimizer.safetensors")[0])
        if self.first:  # steps that will be done again, and lines that a kill cut in half
            _rewrite(self.folder / METRICS_FILE, last_step=state["step"])
            _rewrite(self.folder / SKIPPED_FILE)
        return state

    def _prune(self) -> None:
        """Keep the newest and the one with the lowest loss; delete drafts that a killed run left."""
        complete = self.checkpoints
        best = min(complete, key=_loss)
        for path in complete[: -self.keep]:
            if path != best:
                _remove(path)
        for draft in (self.folder / "checkpoints").glob(".step-*"):
            shutil.rmtree(draft)


def _remove(checkpoint: Path) -> None:
    """Delete a checkpoint so that a kill in between leaves none that looks complete."""
    doomed = checkpoint.with_name(f".{checkpoint.name}-{uuid.uuid4().hex[:8]}")
    checkpoint.rename(doomed)
    shutil.rmtree(doomed)


def _loss(checkpoint: Path) -> float:
    """The mean loss since the checkpoint before; one without counts as the worst."""
    loss = json.loads((checkpoint / "state.json").read_text()).get("loss")
    return float("inf") if loss is None else loss


def _lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a log, without one that a kill cut in half."""
    found = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found


def _rewrite(path: Path, last_step: int | None = None) -> None:
    """Keep only whole lines of a log, up to a step."""
    if path.exists():
        kept = [line for line in _lines(path) if last_step is None or line["step"] <= last_step]
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The moments of every parameter, by its number: plain tensors, safe to open."""
    return {
        f"{number}.{name}": value
        for number, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
    }


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put the moments back; groups and rates come from the configuration."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        number, name = key.split(".", 1)
        state.setdefault(int(number), {})[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
