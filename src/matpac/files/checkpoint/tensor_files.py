"""Files of named tensors: safetensors written and read, PyTorch's `.pt` read, and nothing in either is run."""

import json
import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from matpac.atomic import to_disk, written_whole
from matpac.files.checkpoint.published import CheckpointError

KEY = "matpac"
"""Of our description, JSON, in the metadata of a safetensors header."""

_LONGEST_HEADER = 100_000_000  # bytes; the safetensors format's own limit
_LONGEST_PICKLE = 2**24  # bytes; names and places of ViT-B's tensors with an optimizer take 0.2 MB; ours
_ZIP = b"PK\x03\x04"
_PICKLE = b"\x80"  # the older torch.save: pickles one after another, each beginning with its protocol


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
        # the format has no shared memory: a tensor known by two names is written twice
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
    tensors, description = read_safetensors(path)
    if description is None:
        raise CheckpointError(f"{path}: not in matpac's own format (no {KEY!r} in its header)")
    return tensors, description


class StoredTensors(Mapping[str, Tensor]):
    """Tensors of an open safetensors file, each in a mapping of its own, which goes when the tensor does.

    Whoever copies them one by one never has more than one twice in memory; those of one mapping of the whole file
    would all stay resident beside their copies.
    """

    def __init__(self, name: str, path: Path, names: Mapping[str, str]):
        self._name, self._path, self._names = name, path, names

    def __getitem__(self, name: str) -> Tensor:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self._name, framework="pt") as file:
                return file.get_tensor(self._names[name])
        except SafetensorError as error:
            raise _damaged(self._path, error) from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def below(self, prefix: str) -> "StoredTensors":
        """Those whose names begin so, by the rest of their names."""
        names = {name.removeprefix(prefix): at for name, at in self._names.items() if name.startswith(prefix)}
        return StoredTensors(self._name, self._path, names)


@contextmanager
def open_safetensors(path: Path) -> Iterator[tuple[StoredTensors, dict[str, Any] | None]]:
    """Tensors of any safetensors file, to be copied while it is open, and our description where it has one.

    Raises:
        CheckpointError: it is damaged.
    """
    from safetensors import SafetensorError, safe_open

    with path.open("rb") as file:
        # the same file, whatever takes its name meanwhile; a system without such names hopes for the best
        own = f"/dev/fd/{file.fileno()}"
        name = own if os.path.exists(own) else str(path)  # noqa: PTH110 (a Path would do the same)
        try:
            with safe_open(name, framework="pt") as opened:
                names, metadata = list(opened.keys()), opened.metadata() or {}
        except SafetensorError as error:
            raise _damaged(path, error) from error
        yield StoredTensors(name, path, {name: name for name in names}), _description(path, metadata)


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """Tensors of any safetensors file, and our description where it has one.

    Raises:
        CheckpointError: it is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise _damaged(path, error) from error
    return tensors, _description(path, metadata)


def _damaged(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"{path}: damaged or cut short ({error}); fetch it again")


def _description(path: Path, metadata: Mapping[str, str]) -> dict[str, Any] | None:
    if KEY not in metadata:
        return None
    with suppress(ValueError, RecursionError):  # also of a number with thousands of digits
        if isinstance(description := json.loads(metadata[KEY]), dict):
            return description
    raise CheckpointError(f"{path}: the description in its header is no JSON object")


def read_torch_file(path: Path) -> Mapping[Any, Any]:
    """What `torch.save` was given, if it is a dict of tensors (and of numbers, text and further dicts).

    Raises:
        CheckpointError: it holds other objects, which would run code on opening; or it is damaged.
    """
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            # the pickle protocol matters to torch's makers, and decides nothing here
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            # torch maps a path's file into memory, but goes by the name where it ends on .safetensors
            mmap = file.read(len(_ZIP)) == _ZIP and not path.name.endswith(".safetensors")
            file.seek(0)
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
    """That the members of a zip are no larger than the file: one that is packed may unpack to anything.

    Raises:
        CheckpointError: one is packed, as torch.save packs none, or the pickle is too long to be one of tensors.
        BadZipFile: it is no whole zip.
    """
    for member in zipfile.ZipFile(file).infolist():
        if member.compress_type != zipfile.ZIP_STORED:
            raise CheckpointError(f"{member.filename} is compressed, which torch.save never does; save it again")
        if member.filename.endswith(".pkl") and member.file_size > _LONGEST_PICKLE:
            raise CheckpointError(
                f"{member.filename} has {member.file_size} bytes, more than the {_LONGEST_PICKLE} that tensors' "
                "names and places can need; save the tensors alone"
            )


def _check_stored(content: Mapping[Any, Any], path: Path) -> None:
    """That each tensor is as large as its shape says: a pickle may claim any shape for a single number."""
    for name, value in content.items():
        if isinstance(value, Mapping):
            _check_stored(value, path)
        elif isinstance(value, Tensor) and not _stored(value):
            raise CheckpointError(
                f"{path}: {name} does not lie in the file number by number as its shape says; save it again, "
                "contiguous and dense"
            )


def _stored(tensor: Tensor) -> bool:
    if tensor.is_nested or tensor.is_quantized or tensor.is_meta or tensor.layout != torch.strided:
        return False
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def is_safetensors(start: bytes) -> bool:
    """Whether a file that begins so is a safetensors file: the header's length, then JSON."""
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= _LONGEST_HEADER


def is_torch_file(start: bytes) -> bool:
    """Whether a file that begins so may have been written by `torch.save`."""
    return start.startswith((_ZIP, _PICKLE))


def what_else(start: bytes) -> str:
    """What a file that begins so is instead."""
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
        "opened. If it is a whole training checkpoint that you trust, take its weights out where it was made: "
        f"""python -c "import torch; torch.save(torch.load('{name}', map_location='cpu', weights_only=False)"""
        """['model'], 'weights.pt')" and load weights.pt"""
    )
