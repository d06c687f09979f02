"""Processes and devices of a run: starting them, and what they have to agree on."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from matpac.training.guard import StopSignal

if TYPE_CHECKING:  # Fabric takes a second to import
    from lightning_fabric import Fabric

T = TypeVar("T")


@runtime_checkable
class DeviceOptions(Protocol):
    """Where a run is to compute: what the options of every kind of training have."""

    @property
    def accelerator(self) -> str: ...

    @property
    def devices(self) -> int | Literal["auto"]: ...

    @property
    def nodes(self) -> int: ...

    @property
    def precision(self) -> Literal["auto", "32-true", "bf16-mixed", "16-mixed"]: ...


def start_fabric(options: DeviceOptions) -> "Fabric":
    """Processes, devices and precision; under torchrun or SLURM it joins what is there."""
    from lightning_fabric import Fabric

    devices, nodes = options.devices, options.nodes
    if "TORCHELASTIC_RUN_ID" in os.environ:  # torchrun has started the processes already
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    fabric = Fabric(
        accelerator=options.accelerator,
        devices=1 if options.accelerator == "cpu" and devices == "auto" else devices,
        num_nodes=nodes,
        precision=choose_precision(options),
    )
    fabric.launch()
    return fabric


def choose_precision(options: DeviceOptions) -> Literal["32-true", "bf16-mixed", "16-mixed"]:
    """Mixed where the hardware has it (bf16, else fp16 as the papers), float32 on everything else.

    Never bf16 by default on a CPU: where it is not native it is many times slower.
    """
    if options.precision != "auto":
        return options.precision
    if options.accelerator in ("cuda", "gpu", "auto") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    return "32-true"


def scales_gradients(fabric: "Fabric") -> bool:
    """Whether losses are scaled so that float16 gradients do not vanish; the scale is part of a run's state."""
    return getattr(fabric.strategy.precision, "scaler", None) is not None


def first_then_others(fabric: "Fabric", first: Callable[[], T], others: Callable[[], T]) -> T:
    """The first process does its part, then the others theirs, with what it left on the disk."""
    if not fabric.is_global_zero:
        fabric.barrier()
        return others()
    try:
        return first()
    finally:  # where this fails the others fail by themselves, with the same words
        fabric.barrier()


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
