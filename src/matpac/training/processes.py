"""Processes and devices of a run: starting them, and what they have to agree on."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from matpac.training.guard import StopSignal
from matpac.training.options import RunOptions

if TYPE_CHECKING:  # Fabric takes a second to import
    from lightning_fabric import Fabric


def start_fabric(options: RunOptions) -> "Fabric":
    """Processes, devices and precision; under torchrun or SLURM it joins what is there."""
    from lightning_fabric import Fabric

    fabric = Fabric(
        accelerator=options.accelerator,
        devices=options.devices if options.accelerator != "cpu" or options.devices != "auto" else 1,
        num_nodes=options.nodes,
        precision=choose_precision(options),
    )
    fabric.launch()
    return fabric


def choose_precision(options: RunOptions) -> str:
    """Mixed where the hardware has it (bf16, else fp16 as the papers), float32 on everything else.

    Never bf16 by default on a CPU: where it is not native it is many times slower.
    """
    if options.precision != "auto":
        return options.precision
    if options.accelerator in ("cuda", "gpu", "auto") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    return "32-true"


def mean_over_processes(fabric: "Fabric", values: Tensor) -> Tensor:
    """The mean of a tensor over all processes."""
    if fabric.world_size == 1:
        return values
    mean = fabric.all_reduce(values, reduce_op="mean")
    assert isinstance(mean, Tensor)
    return mean


def agree_to_stop(fabric: "Fabric", stop: StopSignal, logging: bool) -> bool:
    """Whether any process was asked to stop; asked among GPUs at log intervals only, since it waits."""
    if fabric.world_size == 1:
        return stop.wanted
    if fabric.device.type != "cpu" and not logging:
        return False
    wanted = torch.tensor(float(stop.wanted), device=fabric.device)
    return bool(mean_over_processes(fabric, wanted) > 0)
