"""What a run begins with: the encoder, long enough for its crops, and a head for the task's labels."""

from dataclasses import dataclass

import torch

from matpac.errors import MatpacError
from matpac.finetune.labelled import LabelledClips, crop_frames
from matpac.finetune.network import FineTuned, with_frames
from matpac.finetune.options import FinetuneOptions
from matpac.finetune.recipes import FinetuneRecipe
from matpac.model.embedder import Embedder, Tagger
from matpac.model.logmel import LogMelConfig
from matpac.probe.encoders import open_encoder

SHOWN = 5
"""Labels named of a longer list."""


class HeadError(MatpacError):
    """A head that does not fit the task's labels; the message names both and the way out."""


@dataclass(frozen=True, eq=False)
class Start:
    """The network before its first step."""

    network: FineTuned
    logmel: LogMelConfig
    frames: int
    """Of a training crop."""
    key: str
    """SHA-256 over the encoder's weights and settings."""
    notes: list[str]
    """Sentences for the log: what was made anew."""


def begin(options: FinetuneOptions, recipe: FinetuneRecipe, clips: LabelledClips) -> Start:
    """Open the encoder and give it a head; the head's start depends on the seed alone.

    Raises:
        HeadError: `--head keep` with an encoder whose head does not know the task's labels, or is of another kind.
        MatpacError: an encoder that cannot be had or is not one of matpac's own networks.
    """
    named = open_encoder(options.encoder)
    if not isinstance(named.encoder, Embedder) or not named.layers:  # an ONNX file has no layers to train
        raise MatpacError(f"{options.encoder}: only matpac's own encoders can be fine-tuned; probe this one")
    embedder = named.encoder
    frames = crop_frames(recipe, clips, embedder.logmel.config, embedder.config.frames)
    encoder, longer = with_frames(embedder.encoder, frames)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        network = FineTuned(encoder, len(clips.task.classes), recipe.augmentation.drop_path)
    network.requires_grad_(True)
    about_head = _give_head(network, embedder, clips.task.classes, options)
    return Start(
        network, embedder.logmel.config, frames, named.key, [note for note in (longer, about_head) if note]
    )


def _give_head(network: FineTuned, embedder: Embedder, classes: list[str], options: FinetuneOptions) -> str:
    """Copy the encoder's own head where it is to be kept; a sentence about what was done."""
    old, labels = embedder.head, embedder.card.labels
    if options.head == "new" or (old is None and options.head == "auto"):
        return "a new head" + ("" if old is None else "; the encoder's own is left out (--head new)")
    if old is None:
        raise HeadError(f"{options.encoder}: has no head to keep; leave --head keep out")
    if not isinstance(old, Tagger):
        if options.head == "auto":
            return "a new head: the encoder's own is a probe of whole scenes, which fine-tuning doesn't train"
        raise HeadError(
            f"{options.encoder}: its head is a probe of whole scenes, which fine-tuning doesn't train; pass "
            "--head new"
        )
    if not labels:
        return _without_names(network, embedder, classes, options)
    unknown = [name for name in classes if name not in labels]
    if unknown and options.head == "keep":
        raise HeadError(
            f"{options.encoder}: its head knows {len(labels)} labels, and not {_some(unknown)}; correct the "
            "labels of the task, or pass --head new"
        )
    left = [name for name in labels if name not in classes]
    if options.head == "auto" and (unknown or left):
        if not unknown:
            return f"a new head: the encoder's own knows more labels ({_some(left)}); --head keep takes its rows"
        return (
            f"a new head: {len(unknown)} labels are not among the {len(labels)} of the old one ({_some(unknown)})"
        )
    rows = [labels.index(name) for name in classes]
    _copy_rows(network, embedder, rows)
    return f"the encoder's own head for {len(rows)} labels" + (f"; {len(left)} others left out" if left else "")


def _without_names(network: FineTuned, embedder: Embedder, classes: list[str], options: FinetuneOptions) -> str:
    """A head whose labels are not known fits by its width alone."""
    assert embedder.head is not None
    width = embedder.head.linear.out_features
    if width == len(classes) and options.head == "keep":
        _copy_rows(network, embedder, list(range(width)))
        return f"the encoder's own head of {width} classes without names, taken to be in the task's order"
    if options.head == "keep":
        raise HeadError(
            f"{options.encoder}: its head has {width} classes without names, the task {len(classes)}; pass "
            "--head new"
        )
    return f"a new head: the encoder's own has {width} classes without names (--head keep takes it for the task's)"


def _copy_rows(network: FineTuned, embedder: Embedder, rows: list[int]) -> None:
    assert embedder.head is not None
    state = embedder.head.state_dict()
    network.head.load_state_dict(
        state | {f"linear.{name}": state[f"linear.{name}"][rows] for name in ("weight", "bias")}
    )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(repr, names[:SHOWN])) + more
