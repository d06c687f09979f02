"""Encoders as files: our own format, and opening whatever a file turns out to hold.

Our format is one safetensors file. Its header's metadata has, under "matpac", a JSON description: format, kind
("encoder" or "pretraining"), log-mel, encoder, head, labels, step and recipe. Tensors of an encoder are named
`encoder.…` and `head.…` (its tagger); those of pre-training are `matpac.pretext.Objective`'s.

What a file is follows from its content, never from its name.
"""

import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from matpac.checkpoint.published import CheckpointError, read_published
from matpac.checkpoint.strict import check_fields, config_from, fill
from matpac.checkpoint.tensor_files import (
    is_safetensors,
    is_torch_file,
    read_safetensors,
    read_tensors,
    read_torch_file,
    what_else,
    write_tensors,
)
from matpac.embedder import Card, Embedder, Tagger
from matpac.logmel import LogMelConfig
from matpac.vit import Encoder, EncoderConfig

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

FORMAT = 1
"""Version of the description; it rises when a file of the new kind would be misread by older code."""

MODEL_FILE = "model.safetensors"
CONFIG_FILE = "config.json"

PARTS = {
    "encoder": ("encoder.", "head."),
    "pretraining": ("student.", "predictor.", "teacher.", "head.", "center."),
}
"""What the tensors' names begin with in a file of each kind; the first of them is the encoder."""

_NONE = type(None)
_FIELDS: dict[str, tuple[type, ...]] = {
    "format": (int,),
    "kind": (str,),
    "logmel": (dict,),
    "encoder": (dict,),
    "head": (dict, _NONE),
    "labels": (list,),
    "exclusive": (bool,),
    "name": (str,),
    "step": (int, _NONE),
    "recipe": (dict, _NONE),
}


@dataclass(frozen=True)
class HeadSize:
    """Of a tagger."""

    classes: int


@runtime_checkable
class PretrainingRecipe(Protocol):
    """What a description of pre-training needs of `matpac.recipes.Recipe`, which is a floor above."""

    @property
    def logmel(self) -> LogMelConfig: ...

    @property
    def objective(self) -> object: ...


def describe(embedder: Embedder) -> dict[str, Any]:
    """The description of an encoder's own file."""
    card, head = embedder.card, embedder.head
    return {
        "format": FORMAT,
        "kind": "encoder",
        "logmel": asdict(embedder.logmel.config),
        "encoder": asdict(embedder.encoder.config),
        "head": None if head is None else {"classes": head.linear.out_features},
        "labels": list(card.labels),
        "exclusive": card.exclusive,
        "name": card.name,
        "step": card.step,
        "recipe": None,
    }


def describe_pretraining(
    recipe: PretrainingRecipe, step: int | None = None, name: str = "pretraining"
) -> dict[str, Any]:
    """The description of a checkpoint of pre-training; `recipe` is a dataclass, kept whole."""
    assert is_dataclass(recipe)
    assert not isinstance(recipe, type)
    whole = asdict(recipe)
    return {
        "format": FORMAT,
        "kind": "pretraining",
        "logmel": whole["logmel"],
        "encoder": whole["objective"]["encoder"],
        "head": None,
        "labels": [],
        "exclusive": False,
        "name": name,
        "step": step,
        "recipe": whole,
    }


def save(embedder: Embedder, path: str | Path) -> Path:
    """Write an encoder, to a `.safetensors` file or to a folder (with a `config.json` for people to read).

    Returns:
        the file with the weights; `matpac.load` takes it and the folder.

    Raises:
        CheckpointError: the name ends like another format's.
        OSError: it can't be written.
    """
    path = Path(path)
    if path.suffix in (".pt", ".pth", ".bin", ".ckpt", ".onnx"):
        raise CheckpointError(f"{path}: encoders are written as .safetensors, or into a folder")
    description = describe(embedder)
    tensors = {f"encoder.{name}": tensor for name, tensor in embedder.encoder.state_dict().items()}
    if embedder.head is not None:
        tensors |= {f"head.{name}": tensor for name, tensor in embedder.head.state_dict().items()}
    if path.suffix == ".safetensors":
        path.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(path, tensors, description)
        return path
    path.mkdir(parents=True, exist_ok=True)
    write_tensors(path / MODEL_FILE, tensors, description)
    draft = path / f".{CONFIG_FILE}-{uuid.uuid4().hex[:8]}"
    draft.write_text(json.dumps(description, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    draft.replace(path / CONFIG_FILE)
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
        tensors, description = read_safetensors(path)
        return _published(tensors, path) if description is None else _own(tensors, description, str(path))
    if is_torch_file(start):
        return _published(read_torch_file(path), path)
    raise CheckpointError(f"{path}: {what_else(start)}; matpac reads .safetensors and PyTorch's .pt")


def load_folder(path: str | Path) -> Embedder:
    """The encoder in a folder: the newest checkpoint of a run, one such checkpoint, or a saved encoder.

    Raises:
        CheckpointError: none there, or as `load_file`.
        OSError: it can't be read.
    """
    path = Path(path)
    steps = [step for step in path.glob("checkpoints/step-*") if step.name[5:].isdecimal()]
    newest_first = sorted(steps, key=lambda step: int(step.name[5:]), reverse=True)
    for folder in [*newest_first, path]:
        if (folder / MODEL_FILE).is_file():
            return load_file(folder / MODEL_FILE)
    if (path / "checkpoints").is_dir():
        raise CheckpointError(f"{path}: this run has no checkpoint yet; wait for its first, or resume it")
    others = sorted(file.name for file in path.iterdir() if file.suffix in (".safetensors", ".pt", ".pth", ".bin"))
    raise CheckpointError(
        f"{path}: neither a run folder (no checkpoints/step-…) nor an encoder's (no {MODEL_FILE}); "
        + (f"load one of its files: {', '.join(others[:8])}" if others else "it holds no checkpoint")
    )


def _own(tensors: dict[str, Tensor], description: dict[str, Any], file: str) -> Embedder:
    """An encoder of our own format, or the student of a pre-training."""
    _check_description(description, file)
    kind, parts = description["kind"], PARTS[description["kind"]]
    if extra := [name for name in tensors if not name.startswith(parts)]:
        raise CheckpointError(f"{file}: {len(extra)} tensors belong to nothing: {', '.join(extra[:8])}")
    config = config_from(EncoderConfig, description["encoder"], "encoder", file)
    logmel = config_from(LogMelConfig, description["logmel"], "logmel", file)
    size = description["head"]
    classes = None if size is None else config_from(HeadSize, size, "head", file).classes
    encoder = _encoder(config, _below(parts[0], tensors), file, parts[0])
    head = _head(config, classes, _below("head.", tensors) if kind == "encoder" else {}, file)
    card = Card(
        name=description["name"],
        labels=tuple(description["labels"]),
        exclusive=description["exclusive"],
        step=description["step"],
        source=f"matpac {kind}",
    )
    try:
        return Embedder(encoder, logmel, head, card)
    except ValueError as error:
        raise CheckpointError(f"{file}: {error}") from error


def _check_description(description: dict[str, Any], file: str) -> None:
    if (version := description.get("format")) != FORMAT:
        raise CheckpointError(f"{file}: format {version!r:.80}, and this matpac reads {FORMAT}; update matpac")
    check_fields(description, _FIELDS, "the description", file)
    for name, kinds in _FIELDS.items():
        if type(description[name]) not in kinds:
            raise CheckpointError(f"{file}: {name} of the description is {description[name]!r:.80}")
    kind, head, labels = (description[name] for name in ("kind", "head", "labels"))
    if kind not in PARTS:
        raise CheckpointError(f"{file}: kind {kind!r:.80} is neither {' nor '.join(PARTS)}")
    if head is not None and kind != "encoder":
        raise CheckpointError(f"{file}: pre-training has no tagger, and the description tells of one")
    if not all(isinstance(label, str) for label in labels) or len(labels) not in (0, (head or {}).get("classes")):
        raise CheckpointError(f"{file}: its {len(labels)} labels do not name the classes of its head ({head})")


def _published(content: Mapping[Any, Any], path: Path) -> Embedder:
    """An encoder of the papers' authors, with its AudioSet tagger where it has one."""
    model = read_published(content, str(path))
    classes = None
    if model.head:
        matrix = model.head.get("linear.weight")
        if matrix is None or not matrix.ndim:
            raise CheckpointError(f"{path}: has parts of a head, and no matrix head.weight")
        classes = len(matrix)
    encoder = _encoder(model.encoder, model.student, str(path))
    head = _head(model.encoder, classes, model.head, str(path))
    return Embedder(encoder, LogMelConfig(), head, Card(name=path.stem, source="published"))


def _encoder(config: EncoderConfig, tensors: dict[str, Tensor], file: str, prefix: str = "") -> Encoder:
    # before anything of the size that the file claims is made
    positions, size = tensors.get("positions"), (1 + config.tokens, config.width)
    if positions is not None and positions.shape != size:
        raise CheckpointError(f"{file}: {prefix}positions has the shape {list(positions.shape)}, not {list(size)}")
    if config.depth > len(tensors):
        raise CheckpointError(f"{file}: {len(tensors)} tensors are too few for {config.depth} blocks")
    with torch.device("meta"):
        encoder = Encoder(config)
    fill(encoder, tensors, file, prefix)
    return encoder


def _head(config: EncoderConfig, classes: int | None, tensors: dict[str, Tensor], file: str) -> Tagger | None:
    if classes is None:
        if tensors:
            raise CheckpointError(f"{file}: tensors of a head that is not described: {', '.join(tensors)}")
        return None
    with torch.device("meta"):
        head = Tagger(config.width, classes)
    fill(head, tensors, file, "head.")
    return head


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
