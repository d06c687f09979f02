"""State that every run has, whatever it learns: options, processes, run folder, network, optimizer, steps done."""

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from matpac.model.vit import Transformer
from matpac.train.config import check_unchanged, read_config
from matpac.train.options import RunOptions
from matpac.train.processes import (
    clip_gradients,
    mean_over_processes,
    precision_state,
    restore_precision,
    start_fabric,
)
from matpac.train.run import Run

T = TypeVar("T")

COMPILER = "inductor"
"""PyTorch's own compiler; it needs a C++ compiler on a CPU and Triton, which comes with PyTorch, on a GPU."""


class Training:
    """What a job works with. It starts the processes and opens the run folder; `set_up` takes the network.

    Args:
        recipe: a dataclass, what is learned.
        options: where and how.
        name: of the recipe.

    Raises:
        MatpacError: there is no such device here.
        RunError: the run folder cannot be used, or a resumed run has other settings than it started with.
    """

    network: nn.Module
    """Its weights are saved and restored."""
    optimizer: torch.optim.Optimizer
    module: Any
    """The network as steps call it: on its device, in its precision, shared between processes."""

    def __init__(self, recipe: Any, options: RunOptions, name: str = ""):
        self.began = time.monotonic()
        self.options = options
        self.config = {"name": name, "recipe": asdict(recipe), "options": asdict(options)}
        self.fabric = start_fabric(options)
        self.run = Run(Path(options.output), options.resume, options.keep, first=self.fabric.is_global_zero)
        if options.resume:
            check_unchanged(read_config(self.run.folder), recipe, options)
        self.step = 0
        self.precision_note = ""

    def set_up(
        self, network: nn.Module, optimizer: torch.optim.Optimizer, identity: Mapping[str, object]
    ) -> dict[str, Any]:
        """Take the network, ready for steps, and continue from the newest checkpoint.

        Args:
            network: is moved to the device, and compiled where that is asked for: then it must be one graph, for
                one shape of batch, and take numbers that change with the step as tensors.
            optimizer: over its parameters.
            identity: what must be the same when the run is resumed, by names ("corpus").

        Returns:
            What `save` kept of the job; empty for a run without a checkpoint.
        """
        self.network, self.optimizer, self.identity = network, optimizer, dict(identity)
        prepare(network, self.options)
        self.module, self._stepper = self.fabric.setup(network, optimizer)
        # after the set-up, which moves the weights to the device: the moments are restored to where these are
        state = self.run.restore(network, optimizer, self.identity)
        self.step = state["step"]
        self.began -= state.get("seconds", 0.0)
        self.precision_note = restore_precision(self.fabric, state)
        return state

    @property
    def seconds(self) -> float:
        """Time of all sessions of the run; without what a kill took since the last checkpoint."""
        return time.monotonic() - self.began

    def micro_batches(self, parts: Iterable[T]) -> Iterator[T]:
        """The micro-batches of a step; processes exchange their gradients in the backward pass of the last one."""
        for number, part in enumerate(parts, 1):
            with self.fabric.no_backward_sync(self.module, enabled=number < self.options.accumulate):
                yield part

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a micro-batch's loss to those of the step's mean."""
        self.fabric.backward(loss / self.options.accumulate)

    def optimize(self, clip: float) -> Tensor:
        """Clip the gradient's norm, step, and clear the gradients; returns the norm before clipping."""
        norm = clip_gradients(self.fabric, self.optimizer, clip)
        self._stepper.step()
        self._stepper.zero_grad()
        return norm

    def means(self, values: Mapping[str, Tensor]) -> dict[str, float]:
        """Scalars, averaged over processes, as numbers: this waits for the device."""
        means = mean_over_processes(self.fabric, torch.stack([value.float() for value in values.values()]))
        return dict(zip(values, means.tolist(), strict=True))

    def save(self, loss: float | None, description: Mapping[str, object], state: Mapping[str, object]) -> None:
        """Write a checkpoint of this step, in the first process; the others wait.

        Args:
            loss: the mean since the checkpoint before.
            description: of the network, as `matpac.load` needs it.
            state: what `set_up` is to return when the run is resumed.
        """
        if self.fabric.is_global_zero:
            common = {"step": self.step, "loss": loss, "seconds": self.seconds, **self.identity}
            state = common | precision_state(self.fabric) | dict(state)
            self.run.save(state, self.network, self.optimizer, {**description, "step": self.step})
        self.fabric.barrier()


def prepare(network: nn.Module, options: RunOptions) -> None:
    """Switch activation checkpointing and compilation on, before Fabric wraps the network.

    Then PyTorch cuts the graph of one process among several where a bucket of DistributedDataParallel is full, so
    that gradients are on their way while others are computed.
    """
    for part in network.modules():
        if isinstance(part, Transformer):
            part.activation_checkpointing = options.activation_checkpointing
    if options.compile:
        network.compile(fullgraph=True, dynamic=False, backend=COMPILER)
