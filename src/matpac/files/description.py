"""What a file says about its encoder, as JSON: sizes, front-end, labels, training; written, and read with care.

The same description lies in the header of matpac's safetensors files, in an encoder folder's `config.json` and in
the metadata of ONNX files.
"""

import sys
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from matpac.files.hub import HUB
from matpac.files.tensor_files import CheckpointError, some
from matpac.model.embedder import Card, Embedder
from matpac.model.heads import SceneProbe
from matpac.model.logmel import LogMelConfig
from matpac.model.vit import EncoderConfig

FORMAT = 1
"""Version of the description; it rises when older code would misread a file of the new kind."""

PARTS = {
    "encoder": ("encoder.", "head."),
    "pretraining": ("student.", "predictor.", "teacher.", "head.", "center."),
}
"""Beginnings of the tensors' names in a file of each kind; the first of them is the encoder."""

_LARGEST = 2**63 - 1  # torch takes no larger size
_FIELDS: dict[str, tuple[type, ...]] = {
    "format": (int,),
    "kind": (str,),
    "logmel": (dict,),
    "encoder": (dict,),
    "head": (dict, type(None)),
    "labels": (list,),
    "exclusive": (bool,),
    "name": (str,),
    "step": (int, type(None)),
    "recipe": (dict, type(None)),
}

Config = TypeVar("Config")


@dataclass(frozen=True)
class HeadSize:
    """Size of a tagger."""

    classes: int


@dataclass(frozen=True)
class SceneProbeSize:
    """Size of a probe on scenes of `scene` numbers."""

    classes: int
    scene: int


@dataclass(frozen=True)
class Description:
    """What `read_description` found, every part of it usable."""

    kind: str
    encoder: EncoderConfig
    logmel: LogMelConfig
    head: HeadSize | SceneProbeSize | None
    card: Card


def describe(embedder: Embedder) -> dict[str, Any]:
    """The description of an encoder's own file."""
    card, head, size = embedder.card, embedder.head, None
    if head is not None:
        size = {"classes": head.linear.out_features}
        size |= {"scene": head.linear.in_features} if isinstance(head, SceneProbe) else {}
    # of a path its last part, since the folders before it are private
    name = card.name if card.name.startswith(HUB) else Path(card.name).name or card.name
    logmel, config = asdict(embedder.logmel.config), asdict(embedder.config)
    about = {"head": size, "labels": list(card.labels), "exclusive": card.exclusive, "recipe": None}
    return _description("encoder", logmel, config, name, card.step) | about


def describe_pretraining(
    recipe: dict[str, Any], step: int | None = None, name: str = "pretraining"
) -> dict[str, Any]:
    """The description of a checkpoint of pre-training.

    Args:
        recipe: the whole recipe, as `dataclasses.asdict` gives it; its `logmel` and `objective.encoder` count.
        step: of the checkpoint.
        name: of the encoder.
    """
    about = {"head": None, "labels": [], "exclusive": False, "recipe": recipe}
    return _description("pretraining", recipe["logmel"], recipe["objective"]["encoder"], name, step) | about


def _description(kind: str, logmel: object, encoder: object, name: str, step: int | None) -> dict[str, Any]:
    return {"format": FORMAT, "kind": kind, "logmel": logmel, "encoder": encoder, "name": name, "step": step}


def read_description(data: Mapping[str, Any], file: str) -> Description:
    """Check and parse a description.

    Raises:
        CheckpointError: of another version, or a field is missing, unknown or unusable; names file and field.
    """
    if (version := data.get("format")) != FORMAT:
        raise CheckpointError(f"{file}: format {version!r:.80}, and this matpac reads {FORMAT}; update matpac")
    _check_fields(data, _FIELDS, "the description", file)
    for name, types in _FIELDS.items():
        if type(data[name]) not in types:
            raise CheckpointError(f"{file}: {name} of the description is {data[name]!r:.80}")
    kind, head, labels = data["kind"], data["head"], data["labels"]
    if kind not in PARTS:
        raise CheckpointError(f"{file}: kind {kind!r:.80} is neither {' nor '.join(PARTS)}")
    if head is not None and kind != "encoder":
        raise CheckpointError(f"{file}: a checkpoint of pre-training has no tagger, but its description has one")
    if not all(isinstance(label, str) for label in labels) or len(labels) not in (0, (head or {}).get("classes")):
        raise CheckpointError(f"{file}: its {len(labels)} labels do not name the classes of its head ({head})")
    if head is not None:
        head = config_from(SceneProbeSize if "scene" in head else HeadSize, head, "head", file)
    return Description(
        kind=kind,
        encoder=config_from(EncoderConfig, data["encoder"], "encoder", file),
        logmel=config_from(LogMelConfig, data["logmel"], "logmel", file),
        head=head,
        card=Card(data["name"], tuple(labels), data["exclusive"], data["step"], source=f"matpac {kind}"),
    )


def config_from(kind: type[Config], data: Mapping[str, Any], what: str, file: str) -> Config:
    """A configuration dataclass of whole and real numbers from JSON, every field given.

    Raises:
        CheckpointError: a field is missing, unknown, of another type or out of range; names it.
    """
    known = {field.name: field.type for field in fields(kind)}  # pyright: ignore[reportArgumentType]
    _check_fields(data, known, what, file)
    for name, value in data.items():
        whole = known[name] is int
        types, largest = ((int,), _LARGEST) if whole else ((int, float), sys.float_info.max)
        if type(value) not in types or not abs(value) <= largest:
            raise CheckpointError(
                f"{file}: {what}.{name} is {value!r:.80}, not a {'whole ' * whole}number in range"
            )
        if whole and value < 1:
            raise CheckpointError(f"{file}: {what}.{name} must be at least 1, not {value}")
    try:
        return kind(**data)
    except (ValueError, TypeError) as error:  # a MatpacError is a ValueError
        raise CheckpointError(f"{file}: {error}") from error


def _check_fields(data: Mapping[str, object], known: Collection[str], what: str, file: str) -> None:
    if unknown := [name for name in data if name not in known]:
        raise CheckpointError(f"{file}: {what} has unknown fields: {some(unknown)}; is it of a newer matpac?")
    if missing := [name for name in known if name not in data]:
        raise CheckpointError(f"{file}: {what} misses {', '.join(missing)}")
