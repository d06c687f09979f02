"""`matpac.save`: an encoder to a file or folder that `matpac.load` reads.

The format is one safetensors file. Its header has a JSON description (`files/description.py`); the encoder's
tensors are named `encoder.…`, its head's `head.…`.
"""

import json
from pathlib import Path

from matpac.atomic import write_text
from matpac.files.description import describe
from matpac.files.tensor_files import CheckpointError, write_tensors
from matpac.model.embedder import Embedder

MODEL_FILE = "model.safetensors"
CONFIG_FILE = "config.json"


def save(encoder: Embedder, path: str | Path, half: bool = False) -> Path:
    """Write an encoder to a `.safetensors` file, or to a folder (with a `config.json` for people to read).

    Args:
        encoder: as `matpac.load` gives it.
        path: a name ending in `.safetensors` is a file, any other a folder.
        half: store float16, half the bytes; loading gives float32 again, rounded.

    Returns:
        the file with the weights; `matpac.load` takes it and the folder.

    Raises:
        CheckpointError: the name ends like another format's.
        MatpacError: the encoder's weights lie in an ONNX file.
        OSError: it can't be written.
    """
    path = Path(path)
    if path.suffix == ".onnx":
        raise CheckpointError(f"{path}: use matpac export for ONNX; save writes .safetensors, or a folder")
    if path.suffix in (".pt", ".pth", ".bin", ".ckpt"):
        raise CheckpointError(f"{path}: encoders are written as .safetensors, or into a folder")
    tensors = {f"encoder.{name}": tensor for name, tensor in encoder.encoder.state_dict().items()}
    if encoder.head is not None:
        tensors |= {f"head.{name}": tensor for name, tensor in encoder.head.state_dict().items()}
    if half:
        tensors = {name: part.half() if part.is_floating_point() else part for name, part in tensors.items()}
    description = describe(encoder)
    if path.suffix == ".safetensors":
        path.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(path, tensors, description)
        return path
    path.mkdir(parents=True, exist_ok=True)
    write_tensors(path / MODEL_FILE, tensors, description)
    write_text(path / CONFIG_FILE, json.dumps(description, indent=2, ensure_ascii=False) + "\n")
    return path / MODEL_FILE
