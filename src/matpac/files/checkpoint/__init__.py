"""Encoders as files: our own format, and opening whatever a file turns out to hold.

Our format is one safetensors file. Its header's metadata has, under "matpac", a JSON description: format, kind
("encoder" or "pretraining"), log-mel, encoder, head, labels, step and recipe. Tensors of an encoder are named
`encoder.…` and `head.…` (its tagger); those of pre-training are `matpac.pretrain.Objective`'s.

What a file is follows from its content, never from its name.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from matpac.atomic import write_text
from matpac.files.checkpoint.description import (
    PARTS,
    HeadSize,
    SceneProbeSize,
    describe,
    describe_pretraining,
    read_description,
)
from matpac.files.checkpoint.published import CheckpointError, read_published
from matpac.files.checkpoint.strict import check_tensor, fill
from matpac.files.checkpoint.tensor_files import (
    StoredTensors,
    is_safetensors,
    is_torch_file,
    open_safetensors,
    read_tensors,
    read_torch_file,
    what_else,
    write_tensors,
)
from matpac.model.embedder import Card, Embedder
from matpac.model.heads import Head, SceneProbe, Tagger
from matpac.model.logmel import LogMelConfig
from matpac.model.vit import Encoder, EncoderConfig

__all__ = [
    "CheckpointError",
    "describe",
    "describe_pretraining",
    "load_file",
    "load_folder",
    "read_tensors",
    "save",
    "write_tensors",
]

MODEL_FILE = "model.safetensors"
CONFIG_FILE = "config.json"


def save(embedder: Embedder, path: str | Path, half: bool = False) -> Path:
    """Write an encoder, to a `.safetensors` file or to a folder (with a `config.json` for people to read).

    Args:
        embedder: the encoder.
        path: a name ending in `.safetensors` is a file, any other a folder.
        half: in float16, half the bytes; what is loaded again is float32, rounded.

    Returns:
        the file with the weights; `matpac.load` takes it and the folder.

    Raises:
        CheckpointError: the name ends like another format's.
        MatpacError: the encoder's weights lie in an ONNX file.
        OSError: it can't be written.
    """
    path = Path(path)
    if path.suffix == ".onnx":
        raise CheckpointError(f"{path}: ONNX is written by matpac export; save writes .safetensors, or a folder")
    if path.suffix in (".pt", ".pth", ".bin", ".ckpt"):
        raise CheckpointError(f"{path}: encoders are written as .safetensors, or into a folder")
    description = describe(embedder)
    tensors = {f"encoder.{name}": tensor for name, tensor in embedder.encoder.state_dict().items()}
    if embedder.head is not None:
        tensors |= {f"head.{name}": tensor for name, tensor in embedder.head.state_dict().items()}
    if half:
        tensors = {
            name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()
        }
    if path.suffix == ".safetensors":
        path.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(path, tensors, description)
        return path
    path.mkdir(parents=True, exist_ok=True)
    write_tensors(path / MODEL_FILE, tensors, description)
    write_text(path / CONFIG_FILE, json.dumps(description, indent=2, ensure_ascii=False) + "\n")
    return path / MODEL_FILE


def load_file(path: str | Path) -> Embedder:
    """The encoder in a file: our own, a published one as safetensors, or a published `.pt`.

    Raises:
        CheckpointError: the file is no checkpoint, is damaged, would run code, or misses tensors, has others
            or some of another shape; the message names file and tensor.
        OSError: it can't be read.
    """
    path = Path(path)
    with path.open("rb") as file:
        start = file.read(64)
    if is_safetensors(start):
        with open_safetensors(path) as (tensors, description):
            if description is None:
                return _published(dict(tensors), path)
            return _own(tensors, description, str(path))
    if is_torch_file(start):
        return _published(read_torch_file(path), path)
    raise CheckpointError(f"{path}: {what_else(start)}; matpac reads .safetensors and PyTorch's .pt")


def load_folder(path: str | Path) -> Embedder:
    """The encoder in a folder: a run's result or its newest checkpoint, one such checkpoint, or a saved encoder.

    Raises:
        CheckpointError: none there, or as `load_file`.
        OSError: it can't be read.
    """
    path = Path(path)
    steps = [step for step in path.glob("checkpoints/step-*") if step.name[5:].isdecimal()]
    newest_first = sorted(steps, key=lambda step: int(step.name[5:]), reverse=True)
    for folder in [path, *newest_first]:  # fine-tuning keeps its result above its checkpoints
        if (folder / MODEL_FILE).is_file():
            return load_file(folder / MODEL_FILE)
    if (path / "checkpoints").is_dir():
        raise CheckpointError(f"{path}: this run has no checkpoint yet; wait for its first, or resume it")
    others = sorted(file.name for file in path.iterdir() if file.suffix in (".safetensors", ".pt", ".pth", ".bin"))
    raise CheckpointError(
        f"{path}: neither a run folder (no checkpoints/step-…) nor an encoder's (no {MODEL_FILE}); "
        + (f"load one of its files: {', '.join(others[:8])}" if others else "it holds no checkpoint")
    )


def _own(tensors: StoredTensors, data: dict[str, Any], file: str) -> Embedder:
    """An encoder of our own format, or the student of a pre-training."""
    description = read_description(data, file)
    kind, parts = description.kind, PARTS[description.kind]
    if extra := [name for name in tensors if not name.startswith(parts)]:
        raise CheckpointError(f"{file}: {len(extra)} tensors belong to nothing: {', '.join(extra[:8])}")
    config = description.encoder
    encoder = _encoder(config, tensors.below(parts[0]), file, parts[0])
    head = _head(config, description.head, tensors.below("head.") if kind == "encoder" else {}, file)
    try:
        return Embedder(encoder, description.logmel, head, description.card)
    except ValueError as error:
        raise CheckpointError(f"{file}: {error}") from error


def _published(content: Mapping[Any, Any], path: Path) -> Embedder:
    """An encoder of the papers' authors, with its AudioSet tagger where it has one."""
    model = read_published(content, str(path))
    size = None
    if model.head:
        matrix = model.head.get("linear.weight")
        if matrix is None or not matrix.ndim:
            raise CheckpointError(f"{path}: has parts of a head, and no matrix head.weight")
        size = HeadSize(len(matrix))
    encoder = _encoder(model.encoder, model.student, str(path))
    head = _head(model.encoder, size, model.head, str(path))
    return Embedder(encoder, LogMelConfig(), head, Card(name=path.stem, source="published"))


def _encoder(config: EncoderConfig, tensors: Mapping[str, Tensor], file: str, prefix: str = "") -> Encoder:
    check_tensor(tensors, "positions", (1 + config.tokens, config.width), file, prefix)
    if config.depth > len(tensors):
        raise CheckpointError(f"{file}: {len(tensors)} tensors are too few for {config.depth} blocks")
    with torch.device("meta"):
        encoder = Encoder(config)
    fill(encoder, tensors, file, prefix)
    return encoder


def _head(
    config: EncoderConfig, size: HeadSize | SceneProbeSize | None, tensors: Mapping[str, Tensor], file: str
) -> Head | None:
    if size is None:
        if tensors:
            raise CheckpointError(f"{file}: tensors of a head that is not described: {', '.join(tensors)}")
        return None
    if isinstance(size, SceneProbeSize) and size.scene != config.bands * config.width:
        scene = config.bands * config.width
        raise CheckpointError(f"{file}: a head on scenes of {size.scene} numbers, and its encoder's have {scene}")
    probe = isinstance(size, SceneProbeSize)
    check_tensor(tensors, "linear.weight", (size.classes, size.scene if probe else config.width), file, "head.")
    with torch.device("meta"):
        head = SceneProbe(size.scene, size.classes) if probe else Tagger(config.width, size.classes)
    fill(head, tensors, file, "head.")
    return head
