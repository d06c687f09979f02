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
    """Processes, devices and precision; under torchrun, SLURM or `fabric run` it joins what is there."""
    from lightning_fabric import Fabric

    devices, nodes = _started_processes() or (options.devices, options.nodes)
    fabric = Fabric(
        accelerator=options.accelerator,
        devices=1 if options.accelerator == "cpu" and devices == "auto" else devices,
        num_nodes=nodes,
        precision=choose_precision(options),
    )
    if os.environ.get("LT_CLI_USED") != "1":  # `fabric run` has launched already, and a second time is an error
        fabric.launch()
    return fabric


def _started_processes() -> tuple[int, int] | None:
    """Processes a machine, and machines, where torchrun (as `fabric run`) or srun has started them already."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        return local, int(os.environ["WORLD_SIZE"]) // local
    if "SLURM_STEP_NUM_TASKS" in os.environ and "SLURM_NTASKS_PER_NODE" in os.environ:
        return int(os.environ["SLURM_NTASKS_PER_NODE"]), int(os.environ.get("SLURM_NNODES", "1"))
    return None


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
    return _scaler(fabric) is not None


def _scaler(fabric: "Fabric") -> "torch.amp.GradScaler | None":
    return getattr(fabric.strategy.precision, "scaler", None)


def clip_gradients(fabric: "Fabric", optimizer: torch.optim.Optimizer, max_norm: float) -> Tensor:
    """Clip the norm of an optimizer's gradients; returns what it was before. Nothing here waits for the device.

    `fabric.clip_gradients` refuses a fused optimizer where gradients are scaled for float16; one that is not
    fused, though, makes the scaler wait at every step to know whether to leave it out.

    Args:
        fabric: knows the scale.
        optimizer: as given to `fabric.setup`.
        max_norm: gradients of a larger norm are scaled down to it.
    """
    scaler = _scaler(fabric)
    if scaler is not None:
        scaler.unscale_(optimizer)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return torch.nn.utils.clip_grad_norm_(parameters, max_norm)


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
    """The mean of a tensor over all processes.

    Not by `fabric.all_reduce`, which has a barrier before it: at every step the host would wait for its GPU.
    """
    if fabric.world_size == 1:
        return values
    total = values.clone()
    torch.distributed.all_reduce(total)
    return total / fabric.world_size


def agree_to_stop(fabric: "Fabric", stop: StopSignal, logging: bool) -> bool:
    """Whether any process was asked to stop; asked among GPUs at log intervals only, since it waits."""
    if fabric.world_size == 1:
        return stop.wanted
    if fabric.device.type != "cpu" and not logging:
        return False
    wanted = torch.tensor(float(stop.wanted), device=fabric.device)
    return bool(mean_over_processes(fabric, wanted) > 0)
