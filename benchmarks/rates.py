"""Shared by the benchmarks: the limit that they are measured against, and the operations of a network.

Results are shares of the rate of a large matrix product, measured in turn with the code itself in the same
process, since machines are shared and their speed drifts; medians over rounds. The product is in float32 on a CPU,
and on a GPU in the precision of the step.
"""

import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from matpac.model.vit import PATCH, EncoderConfig
from matpac.pretrain.masking import visible_count
from matpac.pretrain.objective import ObjectiveConfig

SIDE = 2048
"""Side of the square matrices: larger ones are no faster on the CPUs tried."""

SIDE_GPU = 8192
"""The same for a GPU, where a product of this size takes a millisecond or two; default, not tuned."""

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Measured:
    """Medians of a call.

    Args:
        seconds: of the call.
        share: of the matrix product's rate.
        limit: operations per second of the matrix product.
    """

    seconds: float
    share: float
    limit: float


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matrix_rate(seconds: float = 0.5, device: torch.device = CPU, dtype: torch.dtype = torch.float32) -> float:
    """Operations per second of a large matrix product: the best of as many as fit into the time."""
    side, repeats = (SIDE, 1) if device.type == "cpu" else (SIDE_GPU, 10)
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    out = torch.empty(side, side, device=device, dtype=dtype)
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        synchronize(device)
        start = time.perf_counter()
        for _ in range(repeats):
            torch.mm(a, b, out=out)
        synchronize(device)
        best = min(best, (time.perf_counter() - start) / repeats)
    return 2 * side**3 / best


def measure(
    call: Callable[[], object], operations: float, rounds: int, rate: Callable[[], float] = matrix_rate
) -> Measured:
    """Time a call that is finished when it returns, and the limit before and after each call."""
    call()
    seconds, shares, limits = [], [], []
    before = rate()
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        took = time.perf_counter() - start
        after = rate()
        limit = (before + after) / 2
        seconds.append(took)
        limits.append(limit)
        shares.append(operations / took / limit)
        before = after
    return Measured(statistics.median(seconds), statistics.median(shares), statistics.median(limits))


def transformer_operations(width: int, depth: int, tokens: int) -> float:
    """Operations of one sequence: projections, MLP, both products of attention; multiply and add count as two."""
    return depth * (2 * tokens * 12 * width * width + 4 * tokens * tokens * width)


def encoder_operations(config: EncoderConfig, steps: int) -> float:
    """Operations of one chunk of `steps` patches along time."""
    tokens = config.bands * steps
    embedding = 2 * tokens * PATCH * PATCH * config.width
    return embedding + transformer_operations(config.width, config.depth, tokens + 1)


def training_operations(config: ObjectiveConfig) -> float:
    """Operations of one clip in a pre-training step: a backward is two forwards, the teacher has none."""
    encoder, predictor, head = config.encoder, config.predictor, config.head
    visible = visible_count(encoder.tokens, config.mask_ratio)
    masked = encoder.tokens - visible
    embedding = 2 * encoder.tokens * PATCH * PATCH * encoder.width
    student = transformer_operations(encoder.width, encoder.depth, visible + 1)
    teacher = transformer_operations(encoder.width, encoder.depth, masked + 1)
    prediction = transformer_operations(predictor.width, predictor.depth, encoder.tokens + 1)
    prediction += 2 * (visible + 1) * encoder.width * predictor.width
    prediction += 2 * masked * predictor.hypotheses * predictor.width * encoder.width
    layers = encoder.width * head.hidden + head.hidden**2 + head.hidden * head.bottleneck
    classes = 2 * masked * (layers + head.bottleneck * head.classes) if config.alpha < 1 else 0
    # the backward of the patch embedding computes only the gradient of its weights
    return 2 * embedding + 3 * (student + prediction + classes) + teacher + classes


def machine(device: torch.device = CPU) -> str:
    """Description of the machine."""
    chip = f"{torch.cuda.get_device_name(device)}, " if device.type == "cuda" else ""
    return (
        f"{chip}{platform.machine()}, {torch.get_num_threads()} threads, "
        f"{torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}, Python {platform.python_version()}"
    )
