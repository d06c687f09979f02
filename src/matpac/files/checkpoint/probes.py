"""A published linear probe: `probe.weight` and `probe.bias` on the scene, as safetensors or PyTorch's `.pt`."""

from pathlib import Path

import torch
from torch import Tensor

from matpac.files.checkpoint.published import CheckpointError
from matpac.files.checkpoint.strict import fill
from matpac.files.checkpoint.tensor_files import (
    is_safetensors,
    is_torch_file,
    read_safetensors,
    read_torch_file,
    what_else,
)
from matpac.model.heads import SceneProbe

WEIGHT, BIAS = "probe.weight", "probe.bias"


def load_probe(path: Path) -> SceneProbe:
    """The probe in a file; its names may have a common prefix.

    Raises:
        CheckpointError: the file is no probe, is damaged, would run code, or holds anything else; names it.
        OSError: it can't be read.
    """
    with path.open("rb") as file:
        start = file.read(64)
    if is_safetensors(start):
        content = read_safetensors(path)[0]
    elif is_torch_file(start):
        content = read_torch_file(path)
    else:
        raise CheckpointError(f"{path}: {what_else(start)}; a probe is a .safetensors or PyTorch's .pt")
    names = [str(name) for name in content]
    prefixes = [name.removesuffix(WEIGHT) for name in names if name.endswith(WEIGHT)]
    if len(prefixes) != 1 or sorted(names) != sorted([prefixes[0] + WEIGHT, prefixes[0] + BIAS]):
        raise CheckpointError(
            f"{path}: a probe holds {WEIGHT} and {BIAS} alone, not {', '.join(names[:8]) or 'nothing'}"
        )
    tensors = {"linear.weight": content[prefixes[0] + WEIGHT], "linear.bias": content[prefixes[0] + BIAS]}
    matrix = tensors["linear.weight"]
    if (
        not all(isinstance(tensor, Tensor) for tensor in tensors.values())
        or matrix.ndim != 2
        or not matrix.numel()
    ):
        raise CheckpointError(f"{path}: {prefixes[0]}{WEIGHT} is no matrix [class, scene], or {BIAS} no tensor")
    with torch.device("meta"):
        probe = SceneProbe(matrix.shape[1], matrix.shape[0])
    fill(probe, tensors, str(path), prefixes[0])
    return probe
