"""What a file says of its encoder, as JSON: sizes, front-end, labels, training; written, and read with care.

The same description lies in the header of our safetensors files, in an encoder folder's `config.json` and in the
metadata of our ONNX files.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from matpac.files.checkpoint.published import CheckpointError
from matpac.files.checkpoint.strict import check_fields, config_from
from matpac.model.embedder import Card, Embedder
from matpac.model.heads import Head, SceneProbe
from matpac.model.logmel import LogMelConfig
from matpac.model.vit import EncoderConfig

FORMAT = 1
"""Version of the description; it rises when a file of the new kind would be misread by older code."""

HUB = "hub:"
"""What the name of an encoder from the hub begins with."""

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


@dataclass(frozen=True)
class SceneProbeSize:
    """Of a probe on scenes of so many numbers."""

    classes: int
    scene: int


@runtime_checkable
class PretrainingRecipe(Protocol):
    """What a description of pre-training needs of `matpac.pretrain.recipes.Recipe`, which is a floor above."""

    @property
    def logmel(self) -> LogMelConfig: ...

    @property
    def objective(self) -> object: ...


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
    card, head = embedder.card, embedder.head
    return {
        "format": FORMAT,
        "kind": "encoder",
        "logmel": asdict(embedder.logmel.config),
        "encoder": asdict(embedder.config),
        "head": None if head is None else asdict(_size_of(head)),
        "labels": list(card.labels),
        "exclusive": card.exclusive,
        "name": _name_elsewhere(card.name),
        "step": card.step,
        "recipe": None,
    }


def _name_elsewhere(name: str) -> str:
    """Of a path its last part, since the folders before it are not for others to read; other names as they are."""
    return name if name.startswith(HUB) else Path(name).name or name


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


def read_description(data: Mapping[str, Any], file: str) -> Description:
    """Take a description apart.

    Raises:
        CheckpointError: of another version, or a field is missing, unknown or of no use; names file and field.
    """
    _check_description(data, file)
    size = data["head"]
    if size is not None:
        size = config_from(SceneProbeSize if "scene" in size else HeadSize, size, "head", file)
    return Description(
        kind=data["kind"],
        encoder=config_from(EncoderConfig, data["encoder"], "encoder", file),
        logmel=config_from(LogMelConfig, data["logmel"], "logmel", file),
        head=size,
        card=Card(
            name=data["name"],
            labels=tuple(data["labels"]),
            exclusive=data["exclusive"],
            step=data["step"],
            source=f"matpac {data['kind']}",
        ),
    )


def _check_description(description: Mapping[str, Any], file: str) -> None:
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


def _size_of(head: Head) -> HeadSize | SceneProbeSize:
    classes = head.linear.out_features
    return SceneProbeSize(classes, head.linear.in_features) if isinstance(head, SceneProbe) else HeadSize(classes)
