"""Processes and devices of a run: starting them, and what they have to agree on."""

import itertools
import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from matpac.errors import MatpacError, one_line
from matpac.train.guard import StopSignal

if TYPE_CHECKING:  # Fabric takes a second to import
    from lightning_fabric import Fabric

T = TypeVar("T")

ASKING_STEPS = 20
"""Steps after which processes on GPUs ask one another whether to stop, at most; ours. Asking makes the host wait
for its GPU, a millisecond or two. Of the five minutes that the job script of docs/scaling.md leaves for saving,
twenty steps take 2 s on eight GPUs (0.1 s a step), and 100 s where steps are fifty times as slow."""

LOOK_SECONDS = 1.0
"""Between two looks whether the first process has done its part; ours."""

DONE, FAILED = "done", "failed"
"""How its part went."""

_TURNS = itertools.count()
"""Numbers of the times that the others wait for it, the same in all of them."""


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
    """Processes, devices and precision; under torchrun, SLURM or `fabric run` it joins what is there.

    Raises:
        MatpacError: this machine has no such accelerator, or not so many of it.
    """
    from lightning_fabric import Fabric
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    devices, nodes = _started_processes() or (options.devices, options.nodes)
    try:
        fabric = Fabric(
            accelerator=options.accelerator,
            devices=1 if options.accelerator == "cpu" and devices == "auto" else devices,
            num_nodes=nodes,
            precision=choose_precision(options),
        )
    except (RuntimeError, ValueError, ImportError, MisconfigurationException) as error:
        raise MatpacError(
            f"--accelerator {options.accelerator} --devices {devices}: cannot be used here "
            f"({one_line(error)}); auto takes what there is, and cpu is everywhere"
        ) from error
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


def count_own_cores(nodes: int = 1) -> int:
    """Cores for each process of this run on this machine, at least one.

    Args:
        nodes: machines, where matpac started the processes itself; torchrun and srun say how many are here.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    started = _started_processes()
    if started and "TORCHELASTIC_RUN_ID" not in os.environ and "SLURM_CPUS_PER_TASK" in os.environ:
        return min(cores, int(os.environ["SLURM_CPUS_PER_TASK"]))  # srun may have bound it to these, or not
    if started:
        here, _ = started
    else:
        here = torch.distributed.get_world_size() // nodes if _joined() else 1
    return max(1, cores // here)


def _joined() -> bool:
    """Whether this is one of several processes."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


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


def precision_state(fabric: "Fabric") -> dict[str, object]:
    """What a checkpoint keeps of the precision: its name, and the scale of gradients where they have one."""
    precision = fabric.strategy.precision
    return {"precision": precision.state_dict(), "computed_in": precision.precision}


def restore_precision(fabric: "Fabric", state: Mapping[str, Any]) -> str | None:
    """Take the scale of gradients from where the run was broken off.

    Args:
        fabric: of the run that goes on.
        state: with what `precision_state` gave; a run begun in another precision, or by a matpac that did not keep
            it, has less.

    Returns:
        A line for the console where the precision is another one.
    """
    precision = fabric.strategy.precision
    if state.get("precision"):
        precision.load_state_dict(state["precision"])
    before = state.get("computed_in", precision.precision)
    if before == precision.precision:
        return None
    return (
        f"goes on in {precision.precision}, as this machine has it; the checkpoint was made in {before}: results "
        "differ by rounding"
    )


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
    """The first process does its part, then the others theirs, with what it left on the disk.

    The others wait as long as it takes, hours for the headers of millions of files, and not in a collective, which
    gives up after half an hour, as it should where one hangs. They end with the first process: it tells them,
    or their launcher ends them, or the store that they look into is gone.

    Raises:
        MatpacError: in the others, where the first process has failed.
    """
    if not _joined():
        return first() if fabric.is_global_zero else others()
    store = torch.distributed.distributed_c10d._get_default_store()
    turn = f"matpac/turn of the first process/{next(_TURNS)}"
    if not fabric.is_global_zero:
        _wait_for(store, turn)
        return others()
    try:
        found = first()
    except BaseException:
        store.set(turn, FAILED)
        time.sleep(2 * LOOK_SECONDS)  # the store may go with this process, and the others look before that
        raise
    store.set(turn, DONE)
    return found


def _wait_for(store: "torch.distributed.Store", key: str) -> None:
    try:
        while not store.check([key]):
            time.sleep(LOOK_SECONDS)
        failed = store.get(key).decode() == FAILED
    except RuntimeError:  # the store was the first process's
        failed = True
    if failed:
        raise MatpacError("the first process of this run could not go on; what it said tells why")


def mean_over_processes(fabric: "Fabric", values: Tensor) -> Tensor:
    """The mean of a tensor over all processes.

    Not by `fabric.all_reduce`, which has a barrier before it: at every step the host would wait for its GPU.
    """
    if fabric.world_size == 1:
        return values
    total = values.clone()
    torch.distributed.all_reduce(total)
    return total / fabric.world_size


def agree_to_stop(fabric: "Fabric", stop: StopSignal, asking: bool) -> bool:
    """Whether any process was asked to stop.

    Args:
        fabric: of the run.
        stop: what this process was asked.
        asking: whether processes on GPUs ask one another at this step, which waits; on CPUs they always do. The
            same in all of them: at log intervals, which wait anyway, and every `ASKING_STEPS`.
    """
    if fabric.world_size == 1:
        return stop.wanted
    if fabric.device.type != "cpu" and not asking:
        return False
    wanted = torch.tensor(float(stop.wanted), device=fabric.device)
    return bool(mean_over_processes(fabric, wanted) > 0)
