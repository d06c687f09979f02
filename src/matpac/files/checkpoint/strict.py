"""Modules and configurations from a file's content: complete, nothing left over, every value usable."""

import sys
from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import TypeVar

import torch
from torch import Tensor, nn

from matpac.files.checkpoint.published import CheckpointError

Config = TypeVar("Config")

LARGEST = 2**63 - 1
"""Of whole numbers in a configuration: torch takes no larger size."""


def fill(module: nn.Module, tensors: Mapping[str, Tensor], file: str, prefix: str = "") -> None:
    """Give a module, which may be on the meta device, its weights; numbers become float32.

    Args:
        module: takes copies of the tensors.
        tensors: by the module's names.
        file: its name, for errors.
        prefix: of the names in the file, for errors.

    Raises:
        CheckpointError: a tensor is missing, left over, of another shape or not finite.
    """
    expected: dict[str, Tensor] = module.state_dict()
    if missing := [name for name in expected if name not in tensors]:
        raise CheckpointError(f"{file}: {_named('tensors are missing', missing, prefix)}")
    if extra := [name for name in tensors if name not in expected]:
        raise CheckpointError(f"{file}: {_named('tensors belong to nothing', extra, prefix)}")
    state = {name: _copy(tensors[name], like, f"{file}: {prefix}{name}") for name, like in expected.items()}
    module.load_state_dict(state, strict=True, assign=True)


def check_tensor(
    tensors: Mapping[str, Tensor], name: str, shape: tuple[int, ...], file: str, prefix: str = ""
) -> None:
    """That a tensor has the shape that a file claims, before anything of this size is made. Arguments as `fill`.

    Raises:
        CheckpointError: it is missing, or of another shape.
    """
    if name not in tensors:
        raise CheckpointError(f"{file}: {_named('tensors are missing', [name], prefix)}")
    if (found := tensors[name].shape) != shape:
        raise CheckpointError(f"{file}: {prefix}{name} has the shape {list(found)} instead of {list(shape)}")


def _named(what: str, names: Collection[str], prefix: str) -> str:
    listed = ", ".join(prefix + name for name in list(names)[:8])
    return f"{len(names)} {what}: {listed}{', …' if len(names) > 8 else ''}"


def _copy(tensor: Tensor, like: Tensor, where: str) -> Tensor:
    if tensor.shape != like.shape:
        raise CheckpointError(f"{where} has the shape {list(tensor.shape)} instead of {list(like.shape)}")
    same_kind = tensor.is_floating_point() == like.is_floating_point() and not tensor.is_complex()
    if not same_kind or tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized:
        raise CheckpointError(f"{where} is of {tensor.dtype}, {tensor.layout}, which is no tensor of weights")
    copy = torch.empty(tensor.shape, dtype=like.dtype).copy_(tensor.detach())
    if not copy.isfinite().all():
        raise CheckpointError(f"{where} holds values that are not finite (NaN or infinite)")
    return copy


def config_from(kind: type[Config], data: object, what: str, file: str) -> Config:
    """A configuration dataclass of whole and real numbers from JSON, every field given.

    Raises:
        CheckpointError: a field is missing, unknown, of another kind or out of range; names it.
    """
    if not isinstance(data, dict):
        raise CheckpointError(f"{file}: {what} is {data!r:.80}, not a JSON object")
    known = {field.name: field.type for field in fields(kind)}  # pyright: ignore[reportArgumentType]
    check_fields(data, known, what, file)
    for name, value in data.items():
        whole = known[name] is int
        kinds = (int,) if whole else (int, float)
        if type(value) not in kinds or not abs(value) <= (LARGEST if whole else sys.float_info.max):
            raise CheckpointError(
                f"{file}: {what}.{name} is {value!r:.80}, not a {'whole ' * whole}number that can be meant"
            )
        if whole and value < 1:
            raise CheckpointError(f"{file}: {what}.{name} must be at least 1, not {value}")
    try:
        return kind(**data)
    except (ValueError, TypeError) as error:  # a MatpacError is a ValueError
        raise CheckpointError(f"{file}: {error}") from error


def check_fields(data: Mapping[str, object], known: Collection[str], what: str, file: str) -> None:
    """That a JSON object has exactly the fields known here.

    Raises:
        CheckpointError: names those missing or unknown.
    """
    if unknown := [name for name in data if name not in known]:
        raise CheckpointError(
            f"{file}: {what} has fields not known here: {', '.join(unknown[:8])}; is it of a newer matpac?"
        )
    if missing := [name for name in known if name not in data]:
        raise CheckpointError(f"{file}: {what} misses {', '.join(missing)}")
