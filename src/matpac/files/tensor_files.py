"""Files of named tensors: safetensors written and read, PyTorch's `.pt` read; no code in either is ever run."""

import json
import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from matpac.atomic import to_disk, written_whole
from matpac.errors import MatpacError

KEY = "matpac"
"""Where the description of an encoder, as JSON, lies in the metadata of a safetensors header."""

_LONGEST_HEADER = 100_000_000  # bytes; the limit of the safetensors format
_LONGEST_PICKLE = 2**24  # bytes; default: names and places of ViT-B's tensors with an optimizer take 0.2 MB
_ZIP = b"PK\x03\x04"
_PICKLE = b"\x80"  # the older torch.save: pickles one after another, each beginning with its protocol


class CheckpointError(MatpacError):
    """A checkpoint that cannot be used; the message names file and tensor."""


def write_tensors(path: Path, tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
    """Write one safetensors file with a description in its header, whole or not at all.

    Raises:
        OSError: it can't be written; what was there before is untouched.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    ready, seen = {}, set()
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        # the format has no shared memory: a tensor with two names is written twice
        memory = tensor.untyped_storage().data_ptr()
        ready[name] = tensor.clone() if memory in seen else tensor
        seen.add(memory)
    try:
        with written_whole(path) as draft:
            draft.touch()
            mode = draft.stat().st_mode  # safetensors lets nobody but the owner read; others may share the run
            save_file(ready, draft, {KEY: json.dumps(description, allow_nan=False)})
            draft.chmod(mode)
    except (SafetensorError, FileNotFoundError) as error:
        raise OSError(f"{path}: can't be written ({error})") from error
    if os.name == "posix":  # elsewhere a folder can't be opened
        to_disk(path.parent)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and description of a file that `write_tensors` wrote.

    Raises:
        CheckpointError: it is damaged, or has no description.
    """
    with open_tensors(path) as (tensors, description):
        if description is None:
            raise CheckpointError(f"{path}: not in matpac's own format (no {KEY!r} in its header)")
        return dict(tensors), description


class StoredTensors(Mapping[str, Tensor]):
    """Tensors of an open safetensors file, each in a mapping of its own, which goes when the tensor does.

    Copying them one by one keeps at most one of them twice in memory; those of one mapping of the whole file
    would all stay resident beside their copies.
    """

    def __init__(self, opened: str, path: Path, names: list[str]):
        self._opened, self._path, self._names = opened, path, dict.fromkeys(names)

    def __getitem__(self, name: str) -> Tensor:
        from safetensors import SafetensorError, safe_open

        if name not in self._names:
            raise KeyError(name)
        try:
            with safe_open(self._opened, framework="pt") as file:
                return file.get_tensor(name)
        except SafetensorError as error:
            raise _damaged(self._path, error) from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names


@contextmanager
def open_tensors(path: Path) -> Iterator[tuple[Mapping[str, Any], dict[str, Any] | None]]:
    """What a safetensors file or a file of `torch.save` holds, to be copied while it is open.

    Yields:
        its tensors by name (of `torch.save`: whatever dict of tensors, numbers, text and dicts was saved), and
        matpac's description where it has one.

    Raises:
        CheckpointError: it is no such file, is damaged, or holds other objects, which would run code on opening.
        OSError: it can't be read.
    """
    with path.open("rb") as file:
        start = file.read(64)
        if is_safetensors(start):
            yield _open_safetensors(file, path)
        elif start.startswith((_ZIP, _PICKLE)):
            yield _read_torch_file(file, path), None
        else:
            raise CheckpointError(f"{path}: {_what_else(start)}; weights are .safetensors or PyTorch's .pt")


def is_safetensors(start: bytes) -> bool:
    """Whether a file that begins so is a safetensors file: the header's length, then JSON."""
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= _LONGEST_HEADER


def _open_safetensors(file: BinaryIO, path: Path) -> tuple[StoredTensors, dict[str, Any] | None]:
    from safetensors import SafetensorError, safe_open

    # the same file, even if another takes its name meanwhile; where the system has no such names, by its own
    descriptor = f"/dev/fd/{file.fileno()}"
    opened = descriptor if os.path.exists(descriptor) else str(path)  # noqa: PTH110 (a Path would do the same)
    try:
        with safe_open(opened, framework="pt") as tensors:
            names, metadata = list(tensors.keys()), tensors.metadata() or {}
    except SafetensorError as error:
        raise _damaged(path, error) from error
    description = None
    if KEY in metadata:
        with suppress(ValueError, RecursionError):  # ValueError also for a number with thousands of digits
            description = json.loads(metadata[KEY])
        if not isinstance(description, dict):
            raise CheckpointError(f"{path}: the description in its header is no JSON object")
    return StoredTensors(opened, path, names), description


def _damaged(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"{path}: damaged or cut short ({error}); fetch it again")


def _read_torch_file(file: BinaryIO, path: Path) -> Mapping[Any, Any]:
    """The dict given to `torch.save`, if it holds tensors, numbers, text and further dicts alone."""
    try:
        with warnings.catch_warnings():
            # of torch's own loader; the protocol does not matter here
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            file.seek(0)
            # torch maps a path's file into memory, but reads it as something else where it ends on .safetensors
            mmap = file.read(len(_ZIP)) == _ZIP and not path.name.endswith(".safetensors")
            if mmap:
                _check_zip(file)
            file.seek(0)
            content = torch.load(path if mmap else file, map_location="cpu", weights_only=True, mmap=mmap)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except Exception as error:  # a damaged or hostile pickle can raise anything
        raise CheckpointError(_refusal(path, error)) from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: holds one {type(content).__name__}, not a dict of tensors")
    _check_stored(content, path)
    return content


def _check_zip(file: BinaryIO) -> None:
    """Refuse a zip whose members unpack to more than the file has."""
    for member in zipfile.ZipFile(file).infolist():
        if member.compress_type != zipfile.ZIP_STORED:
            raise CheckpointError(f"{member.filename} is compressed, which torch.save never does; save it again")
        if member.filename.endswith(".pkl") and (size := member.file_size) > _LONGEST_PICKLE:
            raise CheckpointError(
                f"{member.filename} has {size} bytes, and names and places of tensors take at most "
                f"{_LONGEST_PICKLE}; save the tensors alone"
            )


def _check_stored(content: Mapping[Any, Any], path: Path) -> None:
    """Refuse tensors that are larger than their bytes: a pickle may claim any shape for a single number."""
    for name, value in content.items():
        if isinstance(value, Mapping):
            _check_stored(value, path)
        elif isinstance(value, Tensor):
            dense = value.layout == torch.strided and not (value.is_nested or value.is_quantized or value.is_meta)
            if not dense or value.numel() * value.element_size() > value.untyped_storage().nbytes():
                raise CheckpointError(f"{path}: {name} is not stored whole and dense; save it again, contiguous")


def _what_else(start: bytes) -> str:
    if not start:
        return "empty file"
    if start.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS, not the weights; run git lfs pull"
    if start.lstrip().lower().startswith((b"<!doctype", b"<html")):
        return "a web page, not the weights; download the file itself"
    return f"no checkpoint (it begins with {start[:8]!r})"


def _refusal(path: Path, error: Exception) -> str:
    text = str(error)
    if not isinstance(error, pickle.UnpicklingError):
        reason = next(iter(text.splitlines()), "") or type(error).__name__
        return f"{path}: damaged, cut short or no PyTorch checkpoint ({reason}); fetch it again"
    found = re.search(r"GLOBAL ([\w.]+)", text)
    what = f" ({found[1]})" if found else ", or is damaged"
    name = path.name if re.fullmatch(r"[\w.+-]+", path.name) else "FILE"  # it goes into a shell's command
    return (
        f"{path}: holds objects besides tensors{what}; opening such a file could run any code, so it was not "
        "opened. If it is a whole training checkpoint that you trust, extract its weights where it was made: "
        f"""python -c "import torch; torch.save(torch.load('{name}', map_location='cpu', weights_only=False)"""
        """['model'], 'weights.pt')" and load weights.pt"""
    )


def fill(module: nn.Module, tensors: Mapping[str, Tensor], file: str, prefix: str = "") -> None:
    """Give a module, which may be on the meta device, copies of its weights; numbers become float32.

    Args:
        module: takes the weights.
        tensors: by the module's names, after a prefix.
        file: its name, for errors.
        prefix: of the names; others are another module's.

    Raises:
        CheckpointError: a tensor is missing, superfluous, of another shape or not finite.
    """
    expected: dict[str, Tensor] = module.state_dict()
    if missing := [prefix + name for name in expected if prefix + name not in tensors]:
        raise CheckpointError(f"{file}: {len(missing)} tensors are missing: {some(missing)}")
    mine = [name.removeprefix(prefix) for name in tensors if name.startswith(prefix)]
    if extra := [prefix + name for name in mine if name not in expected]:
        raise CheckpointError(f"{file}: {len(extra)} tensors belong to nothing: {some(extra)}")
    state = {}
    for name, like in expected.items():
        tensor, where = tensors[prefix + name], f"{file}: {prefix}{name}"
        check_shape(tensor, tuple(like.shape), where)
        if tensor.is_floating_point() != like.is_floating_point() or tensor.is_complex():
            raise CheckpointError(f"{where} is of {tensor.dtype}, which no weights are")
        state[name] = torch.empty(tensor.shape, dtype=like.dtype).copy_(tensor.detach())
        if not state[name].isfinite().all():
            raise CheckpointError(f"{where} holds values that are not finite (NaN or infinite)")
    module.load_state_dict(state, strict=True, assign=True)


def check_shape(tensor: Tensor | None, shape: tuple[int, ...], where: str) -> None:
    """Verify a tensor's shape, before anything of the size that a file claims is allocated.

    Raises:
        CheckpointError: the tensor is missing (None), or of another shape; begins with `where`.
    """
    if tensor is None or tuple(tensor.shape) != shape:
        found = "is missing; expected" if tensor is None else f"has the shape {list(tensor.shape)} instead of"
        raise CheckpointError(f"{where} {found} {list(shape)}")


def some(names: Collection[str]) -> str:
    """The first names of a list that may be long."""
    return ", ".join(list(names)[:8]) + (", …" if len(names) > 8 else "")
