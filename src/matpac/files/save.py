"""`matpac.save`: an encoder to a file or folder that `matpac.load` reads.

The format is one safetensors file. Its header has a JSON description (`files/description.py`); the encoder's
tensors are named `encoder.…`, its head's `head.…`.
"""

import json
from pathlib import Path

from matpac.atomic import write_text
from matpac.files.description import describe
from matpac.files.hub import MODEL_FILE
from matpac.files.tensor_files import CheckpointError, write_tensors
from matpac.model.embedder import Embedder


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
    if path.suffix in (".pt", ".pth", ".bin", ".ckpt", ".onnx"):
        hint = " (matpac export writes ONNX)" * (path.suffix == ".onnx")
        raise CheckpointError(f"{path}: encoders are written as .safetensors, or into a folder{hint}")
    tensors = {f"encoder.{name}": tensor for name, tensor in encoder.encoder.state_dict().items()}
    if encoder.head is not None:
        tensors |= {f"head.{name}": tensor for name, tensor in encoder.head.state_dict().items()}
    if half:
        tensors = {name: part.half() if part.is_floating_point() else part for name, part in tensors.items()}
    description = describe(encoder)
    file = path if path.suffix == ".safetensors" else path / MODEL_FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(file, tensors, description)
    if file != path:
        write_text(path / "config.json", json.dumps(description, indent=2, ensure_ascii=False) + "\n")
    return file
