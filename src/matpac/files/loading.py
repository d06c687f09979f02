"""`matpac.load`: a trained encoder by name, file, folder or hub repository."""

import re
import warnings
from collections.abc import Collection
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

import torch

from matpac.errors import MatpacError
from matpac.files.checkpoint import load_file, load_folder
from matpac.files.checkpoint.description import HUB
from matpac.files.checkpoint.probes import load_probe
from matpac.files.checkpoint.published import CheckpointError
from matpac.files.hub import PACKAGED, PUBLISHED, WEIGHTS, hub_file, published_file
from matpac.files.hub.audioset import CLASSES, audioset_label_file
from matpac.files.hub.probes import PROBES, probe_file
from matpac.files.label_files import LabelFileError, read_audioset_labels, read_label_file
from matpac.files.onnx.files import is_onnx
from matpac.files.onnx.runtime import load_onnx
from matpac.model.embedder import Embedder
from matpac.model.heads import Tagger


class NamelessClasses(UserWarning):
    """A tagger was loaded whose classes' names could not be had."""


def load(
    source: str | Path,
    device: str | torch.device = "cpu",
    head: str | None = None,
    labels: str | Path | None = None,
) -> Embedder:
    """A frozen encoder, ready to embed.

    Args:
        source: "tiny", which comes with matpac; a published name ("matpac++"; downloaded on first use); a file of
            weights (ours or published, .safetensors or .pt), an ONNX file by `matpac export`, a run folder (its
            newest checkpoint) or a saved encoder's, or "hub:owner/name[@revision]". A file or folder with one of
            these names is meant by "./name".
        device: where it computes.
        head: the published probe of a task ("esc50", "us8k", "gtzan", "nsynth", "openmic", "mtt", "fsd50k") as
            the head of "matpac++" or "matpac++-music"; downloaded on first use.
        labels: a file that names the head's classes: AudioSet's `class_labels_indices.csv`, or text with a name
            on every line. Without it the published AudioSet tagger looks for AudioSet's file in the cache and
            downloads it; where it can't be had, a warning says so and the encoder has no labels.

    Raises:
        CheckpointError: nothing of that name, or a file that is no encoder; says what is wrong with it.
        DownloadError: it can't be fetched; says where to put it by hand.
        MatpacError: no such probe, or labels that don't fit the head.
    """
    name = str(source)
    path = Path(source).expanduser()
    # first, so that a wrong name costs no download of weights; a path is no published name, whatever it is called
    probe = None if head is None else probe_file(name if isinstance(source, str) else f"./{name}", head)
    if isinstance(source, str) and name in PACKAGED:
        embedder = load_file(PACKAGED[name])
    elif isinstance(source, str) and name in PUBLISHED:
        embedder = _load_file(published_file(name), device)
    elif isinstance(source, str) and name.startswith(HUB):
        embedder = _load_file(hub_file(name.removeprefix(HUB)), device)
    elif not name:  # which as a path would be the working folder
        raise CheckpointError(_unknown(name))
    elif path.is_dir():
        embedder = load_folder(path)
    elif path.exists():
        embedder = _load_file(path, device)
    else:
        raise CheckpointError(_unknown(name))
    embedder.card = replace(embedder.card, name=name)
    if head is not None and probe is not None:
        _add_probe(embedder, head, probe)
    if labels is not None:
        _name_classes(embedder, labels, read_label_file(Path(labels).expanduser()))
    elif _is_audioset_tagger(embedder):
        _name_audioset_classes(embedder)
    # ONNX Runtime was given its device when it opened the file
    return embedder.to(device) if isinstance(embedder.network, torch.nn.Module) else embedder


def _load_file(path: Path, device: str | torch.device) -> Embedder:
    """By content, as everything."""
    with path.open("rb") as file:
        start = file.read(64)
    return load_onnx(path, device) if is_onnx(start) else load_file(path)


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
        raise LabelFileError(f"{file}: {len(names)} names, and {embedder.card.name} has {classes} classes")
    embedder.card = replace(embedder.card, labels=tuple(names))


def _is_audioset_tagger(embedder: Embedder) -> bool:
    """By its content, as everything: the published file knows no names."""
    card, head = embedder.card, embedder.head
    return card.source == "published" and isinstance(head, Tagger) and head.linear.out_features == CLASSES


def _name_audioset_classes(embedder: Embedder) -> None:
    try:
        file = audioset_label_file()
        _name_classes(embedder, file, read_audioset_labels(file).values())
    except (MatpacError, OSError) as error:
        message = f"{embedder.card.name}: its classes have no names, tags are numbered: {error}"
        warnings.warn(message, NamelessClasses, stacklevel=3)  # whoever calls `load`


def _unknown(name: str) -> str:
    plain = name.lower().replace("plus", "++").replace("pp", "++").replace("_", "-")
    close = [plain] if plain in PUBLISHED else get_close_matches(plain, [*PUBLISHED, *PACKAGED], n=2)
    guess = ""
    if re.fullmatch(r"\w[\w.-]*/[\w.-]+", name) and not name.endswith(WEIGHTS):
        guess = f" On the hub it would be {HUB}{name}."
    elif close:
        guess = f" Did you mean {' or '.join(close)}?"
    return (
        f"{name!r}: no published name, and no such file or folder.{guess} Published: {', '.join(PUBLISHED)}; "
        f"{', '.join(PACKAGED)} comes with matpac. Or give a .safetensors, .pt or .onnx file, a run folder, a "
        f"saved encoder's folder, or {HUB}owner/name."
    )
