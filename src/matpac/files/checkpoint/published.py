"""The published checkpoints: their names, their keys, and what their tensors say of the model.

What a file is follows from its content, never from its name. Anything missing, left over or of another shape
is an error that names it.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from matpac.errors import MatpacError
from matpac.model.logmel import LogMelConfig, mel_matrix
from matpac.model.vit import HEAD_WIDTH, PATCH, EncoderConfig

BANDS = 5
"""Frequency patches of every published model (80 mel bands)."""


class CheckpointError(MatpacError):
    """A checkpoint that is not what it should be; the message names file and tensor."""


@dataclass
class PublishedModel:
    """What a published file holds, under this project's names.

    Args:
        encoder: its size, read off the tensors' shapes.
        student: weights of `matpac.model.vit.Encoder`.
        head: weights of the AudioSet tagger (`norm.…`, `linear.…`), empty without one.
        pretext: the rest of a training checkpoint (`predictor.…`, `head.…`, `teacher.…`), mostly empty.
    """

    encoder: EncoderConfig
    student: dict[str, Tensor]
    head: dict[str, Tensor] = field(default_factory=dict)
    pretext: dict[str, Tensor] = field(default_factory=dict)


# published name → ours; the first pattern that fits counts
_STUDENT = [
    (r"cls_token", "cls_token"),
    (r"pos_embed", "positions"),
    (r"patch_embed\.proj\.(weight|bias)", r"patch_embed.\1"),
    (r"student_encoder\.((?:blocks|norm)\..+)", r"transformer.\1"),
]
_HEAD = [
    (r"head_norm\.(running_mean|running_var|num_batches_tracked)", r"norm.\1"),
    (r"head\.(weight|bias)", r"linear.\1"),
]
_PRETEXT = [
    (r"decoder\.mask_token", "predictor.mask_token"),
    (r"decoder\.decoder_pos_embed", "predictor.positions"),
    (r"decoder\.decoder_embed\.(weight|bias)", r"predictor.embed.\1"),
    (r"decoder\.decoder_(blocks\..+)", r"predictor.transformer.\1"),
    (r"decoder\.decoder_norm\.(weight|bias)", r"predictor.transformer.norm.\1"),
    (r"decoder\.decoder_pred\.(weight|bias)", r"predictor.hypotheses.0.\1"),
    (r"mcl_heads\.mcl_heads\.(\d+)\.(weight|bias)", r"predictor.hypotheses.\1.\2"),
    (r"cls_student_head\.(mlp\..+)", r"head.\1"),
    (r"cls_student_head\.last_layer\.weight_g", "head.gain"),
    (r"cls_student_head\.last_layer\.weight_v", "head.direction"),
]
_TEACHER_HEAD = [
    (r"(mlp\..+)", r"teacher.head.\1"),
    (r"last_layer\.weight_g", "teacher.head.gain"),
    (r"last_layer\.weight_v", "teacher.head.direction"),
]
_HYPOTHESES = "predictor.hypotheses"
_FRONT_END = re.compile(r"log_mel\.MelSpectrogram\.(spectrogram\.window|mel_scale\.fb)")
_ANCHOR = "student_encoder.norm.weight"


def _rename(name: str, patterns: list[tuple[str, str]]) -> str | None:
    for pattern, replacement in patterns:
        if match := re.fullmatch(pattern, name):
            return match.expand(replacement)
    return None


def read_published(
    content: Mapping[Any, object], file: str = "checkpoint", heads: int | None = None
) -> PublishedModel:
    """Translate a published state dict, flat or a full training checkpoint's, under any common prefix.

    Args:
        content: what `torch.load(…, weights_only=True)` or safetensors gave.
        file: its name, for errors.
        heads: of attention, which no shape tells; every published model has width / 64.

    Raises:
        CheckpointError: a tensor is missing, unknown or of a wrong shape.
    """
    model = content.get("model", content)
    if not isinstance(model, Mapping):
        raise CheckpointError(f"{file}: 'model' is a {type(model).__name__}, not a dict of tensors")
    if not all(isinstance(name, str) for name in model):
        raise CheckpointError(f"{file}: names of tensors are text, and here some are not; this is no state dict")
    state = dict(model)
    averages = {name: state.pop(name, content.get(name)) for name in ("_ema", "_cls_head_ema")}
    state = _without_prefix(state, file)
    student, head, pretext = _sort_tensors(state, file)
    pretext |= _teacher(averages, file)
    return PublishedModel(_encoder_config(student, file, heads), student, head, pretext)


def _without_prefix(state: dict[str, object], file: str) -> dict[str, Tensor]:
    anchors = [name for name in state if name.endswith(_ANCHOR)]
    if len(anchors) != 1:
        raise CheckpointError(
            f"{file}: expected one tensor named …{_ANCHOR}, found {len(anchors)} among {_some(state)}; "
            "this is no MATPAC encoder"
        )
    prefix = anchors[0].removesuffix(_ANCHOR)
    tensors = {}
    for name, value in state.items():
        if not name.startswith(prefix):
            raise CheckpointError(f"{file}: {name} lies outside the common prefix {prefix!r}")
        if not isinstance(value, Tensor):
            raise CheckpointError(f"{file}: {name} is a {type(value).__name__}, not a tensor")
        tensors[name.removeprefix(prefix)] = value
    return tensors


def _sort_tensors(
    state: dict[str, Tensor], file: str
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    student: dict[str, Tensor] = {}
    head: dict[str, Tensor] = {}
    pretext: dict[str, Tensor] = {}
    unknown = []
    several_hypotheses = any(name.startswith("mcl_heads.") for name in state)
    for name, tensor in state.items():
        if several_hypotheses and name.startswith("decoder.decoder_pred."):
            continue  # MATPAC's single hypothesis: in MATPAC++ files too, where nothing uses it
        if _FRONT_END.fullmatch(name):
            _check_front_end(name, tensor, file)
        elif new := _rename(name, _STUDENT):
            student[new] = _reshape(name, new, tensor, file)
        elif new := _rename(name, _HEAD):
            head[new] = tensor
        elif new := _rename(name, _PRETEXT):
            pretext[new] = _reshape(name, new, tensor, file)
        else:
            unknown.append(name)
    if unknown:
        raise CheckpointError(f"{file}: {len(unknown)} tensors not known here: {_some(unknown)}")
    return student, head, _one_matrix(pretext, file)


def _one_matrix(pretext: dict[str, Tensor], file: str) -> dict[str, Tensor]:
    """The hypotheses' layers, one below the other, as `Predictor` keeps them."""
    for part in ("weight", "bias"):
        found = {
            int(name.split(".")[2]): name for name in pretext if re.fullmatch(rf"{_HYPOTHESES}\.\d+\.{part}", name)
        }
        if not found:
            continue
        layers = [pretext.pop(found[number]) for number in sorted(found)]
        if sorted(found) != list(range(len(found))) or len({layer.shape for layer in layers}) > 1:
            raise CheckpointError(
                f"{file}: hypotheses {sorted(found)} are not consecutive from 0, or differ in size"
            )
        pretext[f"{_HYPOTHESES}.{part}"] = torch.cat(layers)
    return pretext


def _some(names: Collection[str]) -> str:
    listed = ", ".join(list(names)[:8]) or "no tensors"
    return f"{listed}, …" if len(names) > 8 else listed


def _reshape(name: str, new: str, tensor: Tensor, file: str) -> Tensor:
    """The published tensors' ones among their sizes, and the convolution that is our linear layer."""
    shape = list(tensor.shape)
    if new == "patch_embed.weight":
        published = [*shape[:1], 1, PATCH, PATCH]
    elif new.endswith(("cls_token", "mask_token")):
        published = [1, 1, *shape[-1:]]
    elif new.endswith("positions"):
        published = [1, *shape[-2:]]
    else:
        return tensor
    if shape != published or len(shape) < 3:
        raise CheckpointError(f"{file}: {name} has the shape {shape}, which no published model's has")
    if new == "patch_embed.weight":
        return tensor.flatten(1)
    return tensor.flatten() if new.endswith("_token") else tensor[0]


def _check_front_end(name: str, tensor: Tensor, file: str) -> None:
    """A checkpoint that carries another window or mel matrix was trained on other spectrograms."""
    config = LogMelConfig()
    if name.endswith("window"):
        expected = torch.hann_window(config.window, periodic=True)
    else:
        expected = torch.from_numpy(mel_matrix(config)).T
    # as exact as its number format, since files are converted to half precision
    exactness = max(1e-5, torch.finfo(tensor.dtype).eps) if tensor.is_floating_point() else 0.0
    if tensor.shape != expected.shape or not torch.allclose(tensor.float(), expected, exactness, 1e-5):
        raise CheckpointError(f"{file}: {name} differs from the papers' front-end; it needs another log-mel")


def _encoder_config(student: dict[str, Tensor], file: str, heads: int | None) -> EncoderConfig:
    if "positions" not in student:
        raise CheckpointError(f"{file}: misses pos_embed, which tells the encoder's size")
    rows, width = student["positions"].shape
    if (rows - 1) % BANDS or rows < 1 + BANDS or (heads is None and width % HEAD_WIDTH):
        raise CheckpointError(f"{file}: pos_embed of {rows} rows × {width} fits no encoder of {BANDS} bands")
    depths = {int(m[1]) for name in student if (m := re.match(r"transformer\.blocks\.(\d+)\.", name))}
    if depths != set(range(len(depths))) or not depths:
        raise CheckpointError(f"{file}: blocks {sorted(depths)} are not consecutive from 0")
    try:
        return EncoderConfig(
            width=width,
            depth=len(depths),
            heads=heads or width // HEAD_WIDTH,
            mels=BANDS * PATCH,
            frames=PATCH * (rows - 1) // BANDS,
        )
    except MatpacError as error:
        raise CheckpointError(f"{file}: {error}") from error


def _teacher(averages: Mapping[str, object], file: str) -> dict[str, Tensor]:
    encoder, head = averages["_ema"], averages["_cls_head_ema"]
    out: dict[str, Tensor] = {}
    for part, patterns in ((encoder, [(r"(.+)", r"teacher.transformer.\1")]), (head, _TEACHER_HEAD)):
        if part is None:
            continue
        if not isinstance(part, Mapping):
            raise CheckpointError(f"{file}: the teacher's weights are a {type(part).__name__}, not a dict")
        for name, tensor in part.items():
            new = _rename(name, patterns)
            if new is None or not isinstance(tensor, Tensor):
                raise CheckpointError(f"{file}: the teacher's {name} is not known here")
            out[new] = tensor
    return out
