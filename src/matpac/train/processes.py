"""Processes and devices of a run: starting them, and what they have to agree on."""

import itertools
import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import torch
from torch import Tensor

from matpac.errors import MatpacError, one_line
from matpac.machine import cores
from matpac.train.guard import StopSignal
from matpac.train.options import RunOptions

if TYPE_CHECKING:  # Fabric takes a second to import
    from lightning_fabric import Fabric

T = TypeVar("T")

ASKING_STEPS = 20
"""Steps after which processes on GPUs ask one another whether to stop, at most. Asking makes the host wait for its
GPU, a millisecond or two. Of the five minutes that the job script of docs/scaling.md leaves for saving,
twenty steps take 2 s on eight GPUs (0.1 s a step), and 100 s where steps are fifty times as slow."""

CHECK_SECONDS = 1.0
"""Seconds between checks whether the first process has done its part. Default; short beside listing a corpus."""

DONE, FAILED = "done", "failed"
"""How the first process's part went."""

_TURNS = itertools.count()
"""Numbers the times that the other processes wait for the first, the same in all of them."""


def start_fabric(options: RunOptions) -> "Fabric":
    """Processes, devices and precision; under torchrun, SLURM or `fabric run` it joins the processes there.

    Raises:
        MatpacError: this machine has no such device, or not so many.
    """
    from lightning_fabric import Fabric
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    devices, nodes = _started_processes() or (options.devices, options.nodes)
    try:
        fabric = Fabric(
            accelerator=options.device,
            devices=1 if options.device == "cpu" and devices == "auto" else devices,
            num_nodes=nodes,
            precision=choose_precision(options),
        )
    except (RuntimeError, ValueError, ImportError, MisconfigurationException) as error:
        raise MatpacError(
            f"--device {options.device} --devices {devices}: not available here ({one_line(error)}); auto takes "
            "what there is, and cpu is always available"
        ) from error
    if os.environ.get("LT_CLI_USED") != "1":  # `fabric run` has launched already, and a second time is an error
        fabric.launch()
    return fabric


def _started_processes() -> tuple[int, int] | None:
    """Processes per machine, and machines, where torchrun (as `fabric run`) or srun has started them already."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        return local, int(os.environ["WORLD_SIZE"]) // local
    if "SLURM_STEP_NUM_TASKS" in os.environ and "SLURM_NTASKS_PER_NODE" in os.environ:
        return int(os.environ["SLURM_NTASKS_PER_NODE"]), int(os.environ.get("SLURM_NNODES", "1"))
    return None


def count_own_cores(nodes: int = 1) -> int:
    """Cores for each process of this run on this machine, at least one.

    Args:
        nodes: machines, where matpac started the processes itself; torchrun and srun set how many are here.
    """
    started = _started_processes()
    if started and "TORCHELASTIC_RUN_ID" not in os.environ and "SLURM_CPUS_PER_TASK" in os.environ:
        return min(cores(), int(os.environ["SLURM_CPUS_PER_TASK"]))  # srun may have bound it to these, or not
    if started:
        here, _ = started
    else:
        here = torch.distributed.get_world_size() // nodes if _joined() else 1
    return max(1, cores() // here)


def _joined() -> bool:
    """Whether this is one of several processes."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def choose_precision(options: RunOptions) -> Literal["32-true", "bf16-mixed", "16-mixed"]:
    """Mixed where the hardware has it (bf16, else fp16 as the papers), float32 on everything else.

    Never bf16 by default on a CPU: where it is not native it is many times slower.
    """
    if options.precision != "auto":
        return options.precision
    if options.device in ("cuda", "auto") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    return "32-true"


def scaler_of(fabric: "Fabric") -> "torch.amp.GradScaler | None":
    """What scales losses so that float16 gradients do not vanish; None in other precisions."""
    return getattr(fabric.strategy.precision, "scaler", None)


def precision_state(fabric: "Fabric") -> dict[str, object]:
    """What a checkpoint keeps of the precision: its name, and the scale of float16 gradients."""
    precision = fabric.strategy.precision
    return {"precision": precision.state_dict(), "computed_in": precision.precision}


def restore_precision(fabric: "Fabric", state: Mapping[str, Any]) -> str:
    """Restore the scale of float16 gradients; returns a line for the console where the precision has changed.

    Args:
        fabric: of the resumed run.
        state: with what `precision_state` gave; less where the run began in another precision, or with a matpac
            that did not keep it.
    """
    precision = fabric.strategy.precision
    if state.get("precision"):
        precision.load_state_dict(state["precision"])
    before = state.get("computed_in", precision.precision)
    if before == precision.precision:
        return ""
    return (
        f"continuing in {precision.precision}, which this machine supports; the checkpoint was made in {before}: "
        "results differ by rounding"
    )


def clip_gradients(fabric: "Fabric", optimizer: torch.optim.Optimizer, max_norm: float) -> Tensor:
    """Clip the norm of an optimizer's gradients; returns what it was before. Nothing here waits for the device.

    `fabric.clip_gradients` refuses a fused optimizer where gradients are scaled for float16; one that is not
    fused, though, makes the scaler wait at every step to know whether to skip it.

    Args:
        fabric: knows the scale.
        optimizer: as given to `fabric.setup`.
        max_norm: gradients of a larger norm are scaled down to it.
    """
    if (scaler := scaler_of(fabric)) is not None:
        scaler.unscale_(optimizer)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return torch.nn.utils.clip_grad_norm_(parameters, max_norm)


def first_then_others(fabric: "Fabric", first: Callable[[], T], others: Callable[[], T]) -> T:
    """The first process does its part, then the others do theirs with what it left on the disk.

    The others wait as long as it takes, hours for the headers of millions of files, and not in a collective, which
    gives up after half an hour, as it should where one hangs. They end with the first process: it reports its
    failure, or their launcher ends them, or the store that they check is gone.

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
        time.sleep(2 * CHECK_SECONDS)  # the store may end with this process, and the others check before that
        raise
    store.set(turn, DONE)
    return found


def _wait_for(store: "torch.distributed.Store", turn: str) -> None:
    try:
        while not store.check([turn]):
            time.sleep(CHECK_SECONDS)
        failed = store.get(turn).decode() == FAILED
    except RuntimeError:  # the store was the first process's
        failed = True
    if failed:
        raise MatpacError("the first process of this run failed; its own message has the reason")


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
        stop: of this process.
        asking: whether processes on GPUs ask one another at this step, which waits; on CPUs they always do. Must
            be the same in all of them: true at log intervals, which wait anyway, and every `ASKING_STEPS`.
    """
    if fabric.world_size == 1:
        return stop.wanted
    if fabric.device.type != "cpu" and not asking:
        return False
    wanted = torch.tensor(float(stop.wanted), device=fabric.device)
    return bool(mean_over_processes(fabric, wanted) > 0)
