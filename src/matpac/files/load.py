"""`matpac.load`: a trained encoder by name, file, folder or hub repository.

What a file is follows from its content, never from its name.
"""

import re
import warnings
from collections.abc import Collection, Mapping
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

import torch
from torch import Tensor

from matpac.data.tables import TableError
from matpac.errors import MatpacError
from matpac.files import hub
from matpac.files.description import PARTS, Description, HeadSize, SceneProbeSize, read_description
from matpac.files.label_files import read_audioset_labels, read_label_file
from matpac.files.onnx.files import is_onnx
from matpac.files.onnx.runtime import load_onnx
from matpac.files.probes import PROBES, load_probe, probe_file
from matpac.files.published import read_published
from matpac.files.tensor_files import CheckpointError, check_shape, fill, open_tensors, some
from matpac.model.embedder import Embedder
from matpac.model.heads import Head, SceneProbe, Tagger
from matpac.model.vit import Encoder, EncoderConfig

AUDIOSET_CLASSES = 527
"""Classes of AudioSet, and so of the published tagger's head."""


class NamelessClasses(UserWarning):
    """A tagger was loaded whose classes' names are not available."""


def load(
    source: str | Path,
    device: str | torch.device = "cpu",
    head: str | None = None,
    labels: str | Path | None = None,
) -> Embedder:
    """A frozen encoder, ready to embed.

    Args:
        source: "tiny", which comes with matpac; a published name ("matpac++"; downloaded on first use); a file of
            weights (matpac's or published, .safetensors or .pt); an ONNX file by `matpac export`; a run folder
            (its newest checkpoint) or a saved encoder's; or "hub:owner/name[@revision]". For a file or folder
            with one of these names, write "./name".
        device: where it computes.
        head: the published probe of a task ("esc50", "us8k", "gtzan", "nsynth", "openmic", "mtt", "fsd50k") as
            the head of "matpac++" or "matpac++-music"; downloaded on first use.
        labels: a file that names the head's classes: AudioSet's `class_labels_indices.csv`, or text with one name
            per line. Without it the published AudioSet tagger looks for AudioSet's file in the cache and
            downloads it; where it is not available, a warning is printed and the encoder has no labels.

    Raises:
        CheckpointError: nothing of that name, or a file that is no encoder; says what is wrong with it.
        DownloadError: it can't be fetched; says where to put it by hand.
        MatpacError: no such probe, or labels that don't fit the head.
    """
    name, path = str(source), Path(source).expanduser()
    by_name = isinstance(source, str)  # a Path is no published name, whatever it is called
    # first, so that a wrong name costs no download of weights
    probe = None if head is None else probe_file(name if by_name else f"./{name}", head)
    if by_name and name in hub.PACKAGED:
        embedder = load_file(hub.PACKAGED[name])
    elif by_name and name in hub.PUBLISHED:
        embedder = load_file(hub.published_file(name), device)
    elif by_name and name.startswith(hub.HUB):
        embedder = load_file(hub.hub_file(name.removeprefix(hub.HUB)), device)
    elif not name or not path.exists():  # the empty name would be the working folder
        raise CheckpointError(_unknown(name))
    else:
        embedder = load_folder(path) if path.is_dir() else load_file(path, device)
    embedder.card = replace(embedder.card, name=name)
    if head is not None and probe is not None:
        _add_probe(embedder, head, probe)
    if labels is not None:
        _name_classes(embedder, labels, read_label_file(Path(labels).expanduser()))
    elif embedder.card.source == "published" and isinstance(embedder.head, Tagger):
        _name_audioset_classes(embedder)
    # ONNX Runtime was given its device when it opened the file
    return embedder.to(device) if isinstance(embedder.network, torch.nn.Module) else embedder


def _add_probe(embedder: Embedder, task: str, file: Path) -> None:
    probe, published = load_probe(file), PROBES[task]
    size, wanted = (probe.linear.out_features, probe.linear.in_features), (published.classes, embedder.width)
    if size != wanted:
        raise CheckpointError(
            f"{file}: a probe of {size[0]} classes on scenes of {size[1]} numbers, and {task} on "
            f"{embedder.card.name} needs {wanted[0]} and {wanted[1]}"
        )
    embedder.head = probe.eval().requires_grad_(False)
    embedder.card = replace(embedder.card, labels=published.labels, exclusive=published.exclusive)


def _name_classes(embedder: Embedder, file: str | Path, names: Collection[str]) -> None:
    classes = 0 if embedder.head is None else embedder.head.linear.out_features
    if len(names) != classes:
        raise TableError(f"{file}: {len(names)} names, and {embedder.card.name} has {classes} classes")
    embedder.card = replace(embedder.card, labels=tuple(names))


def _name_audioset_classes(embedder: Embedder) -> None:
    """Name the classes of the published tagger, whose file has no names."""
    if embedder.head is None or embedder.head.linear.out_features != AUDIOSET_CLASSES:
        return
    try:
        file = hub.audioset_label_file()
        _name_classes(embedder, file, read_audioset_labels(file).values())
    except (MatpacError, OSError) as error:
        message = f"{embedder.card.name}: its classes have no names, tags are numbered: {error}"
        warnings.warn(message, NamelessClasses, stacklevel=3)  # whoever calls `load`


def _unknown(name: str) -> str:
    plain = name.lower().replace("plus", "++").replace("pp", "++").replace("_", "-")
    close = [plain] if plain in hub.PUBLISHED else get_close_matches(plain, [*hub.PUBLISHED, *hub.PACKAGED], n=2)
    guess = ""
    if re.fullmatch(r"\w[\w.-]*/[\w.-]+", name) and not name.endswith(hub.WEIGHTS):
        guess = f" On the hub it would be {hub.HUB}{name}."
    elif close:
        guess = f" Did you mean {' or '.join(close)}?"
    return (
        f"{name!r}: no published name, and no such file or folder.{guess} Published: {', '.join(hub.PUBLISHED)}; "
        f"{', '.join(hub.PACKAGED)} comes with matpac. Or give a .safetensors, .pt or .onnx file, a run folder, a "
        f"saved encoder's folder, or {hub.HUB}owner/name."
    )


def load_file(path: str | Path, device: str | torch.device = "cpu") -> Embedder:
    """The encoder in a file: matpac's own format, a published one as safetensors or `.pt`, or ONNX.

    Args:
        path: of the file.
        device: where ONNX Runtime computes; an encoder in PyTorch is on the CPU and can be moved.

    Raises:
        CheckpointError: the file is no checkpoint, is damaged, would run code, or has missing, superfluous or
            misshapen tensors; names file and tensor.
        OSError: it can't be read.
    """
    path = Path(path)
    with path.open("rb") as file:
        if is_onnx(file.read(64)):
            return load_onnx(path, device)
    with open_tensors(path) as (content, data):
        if data is None:
            tensors, description = read_published(content, str(path))
        else:
            tensors, description = content, read_description(data, str(path))
        return _embedder(tensors, description, str(path))


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
        if (folder / hub.MODEL_FILE).is_file():
            return load_file(folder / hub.MODEL_FILE)
    if (path / "checkpoints").is_dir():
        raise CheckpointError(f"{path}: this run has no checkpoint yet; wait for its first, or resume it")
    files = sorted(file.name for file in path.iterdir() if file.name.endswith(hub.WEIGHTS))
    raise CheckpointError(
        f"{path}: neither a run folder (no checkpoints/step-…) nor a saved encoder's (no {hub.MODEL_FILE}); "
        + (f"load one of its files: {some(files)}" if files else "it holds no checkpoint")
    )


def _embedder(tensors: Mapping[str, Tensor], description: Description, file: str) -> Embedder:
    """A saved encoder, or the student of a pre-training."""
    config, prefixes = description.encoder, PARTS[description.kind]
    if extra := [name for name in tensors if not name.startswith(prefixes)]:
        raise CheckpointError(f"{file}: {len(extra)} tensors belong to nothing: {some(extra)}")
    prefix = prefixes[0]
    check_shape(tensors.get(f"{prefix}positions"), (1 + config.tokens, config.width), f"{file}: {prefix}positions")
    if config.depth > len(tensors):
        raise CheckpointError(f"{file}: {len(tensors)} tensors are too few for {config.depth} blocks")
    with torch.device("meta"):
        encoder = Encoder(config)
    fill(encoder, tensors, file, prefix)
    head = _head(config, description.head, tensors, file) if description.kind == "encoder" else None
    try:
        return Embedder(encoder, description.logmel, head, description.card)
    except ValueError as error:
        raise CheckpointError(f"{file}: {error}") from error


def _head(
    config: EncoderConfig, size: HeadSize | SceneProbeSize | None, tensors: Mapping[str, Tensor], file: str
) -> Head | None:
    if size is None:
        if head := [name for name in tensors if name.startswith("head.")]:
            raise CheckpointError(f"{file}: tensors of a head that is not described: {some(head)}")
        return None
    kind, inputs = Tagger, config.width
    if isinstance(size, SceneProbeSize):
        kind, inputs = SceneProbe, config.bands * config.width
        if size.scene != inputs:
            raise CheckpointError(
                f"{file}: a head on scenes of {size.scene} numbers, and its encoder's have {inputs}"
            )
    check_shape(tensors.get("head.linear.weight"), (size.classes, inputs), f"{file}: head.linear.weight")
    with torch.device("meta"):
        head = kind(inputs, size.classes)
    fill(head, tensors, file, "head.")
    return head
