"""The layout of the released checkpoints: their tensors' names and shapes, and the model these stand for.

What a file is follows from its content, never from its name. Anything missing, superfluous or of another shape is
an error that names it.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from matpac.errors import MatpacError
from matpac.files.description import Description, HeadSize
from matpac.files.tensor_files import CheckpointError, some
from matpac.model.embedder import Card
from matpac.model.logmel import LogMelConfig, mel_matrix
from matpac.model.vit import HEAD_WIDTH, PATCH, EncoderConfig

BANDS = 5
"""Frequency patches of every published model (80 mel bands)."""

_STUDENT = [  # published name → name in `matpac.model.vit.Encoder`
    (r"cls_token", "cls_token"),
    (r"pos_embed", "positions"),
    (r"patch_embed\.proj\.(weight|bias)", r"patch_embed.\1"),
    (r"student_encoder\.((?:blocks|norm)\..+)", r"transformer.\1"),
]
_HEAD = [  # … in `matpac.model.heads.Tagger`
    (r"head_norm\.(running_mean|running_var|num_batches_tracked)", r"norm.\1"),
    (r"head\.(weight|bias)", r"linear.\1"),
]
_PRETEXT = re.compile(r"(decoder|mcl_heads|cls_student_head)\..+")  # the rest of a training checkpoint
_TEACHER = ("_ema", "_cls_head_ema")
_FRONT_END = re.compile(r"log_mel\.MelSpectrogram\.(spectrogram\.window|mel_scale\.fb)")
_ANCHOR = "student_encoder.norm.weight"


def read_published(
    content: Mapping[Any, object], file: str = "checkpoint"
) -> tuple[dict[str, Tensor], Description]:
    """Translate a published state dict, flat or a full training checkpoint's, under any common prefix.

    Args:
        content: as `torch.load(…, weights_only=True)` or safetensors gives it.
        file: its name, for errors.

    Returns:
        the tensors as in a saved encoder (`encoder.…`, `head.…`), and its description, from their shapes.

    Raises:
        CheckpointError: a tensor is missing, unknown or of a wrong shape.
    """
    model = content.get("model", content)
    if not isinstance(model, Mapping):
        raise CheckpointError(f"{file}: 'model' is a {type(model).__name__}, not a dict of tensors")
    if not all(isinstance(name, str) for name in model):
        raise CheckpointError(f"{file}: names of tensors are text, and some here are not; this is no state dict")
    state = {name: value for name, value in model.items() if name not in _TEACHER}
    student, head = translate(_without_prefix(state, file), file)
    config, size = _encoder_config(student, file), None
    if head:
        matrix = head.get("linear.weight")
        if matrix is None or not matrix.ndim:
            raise CheckpointError(f"{file}: has parts of a head, and no matrix head.weight")
        size = HeadSize(len(matrix))
    tensors = {f"encoder.{name}": tensor for name, tensor in student.items()}
    tensors |= {f"head.{name}": tensor for name, tensor in head.items()}
    card = Card(Path(file).stem, source="published")
    return tensors, Description("encoder", config, LogMelConfig(), size, card)


def _without_prefix(state: dict[str, object], file: str) -> dict[str, Tensor]:
    anchors = [name for name in state if name.endswith(_ANCHOR)]
    if len(anchors) != 1:
        raise CheckpointError(
            f"{file}: expected one tensor named …{_ANCHOR}, found {len(anchors)} among "
            f"{some(state) or 'no tensors'}; this is no MATPAC encoder"
        )
    prefix, tensors = anchors[0].removesuffix(_ANCHOR), {}
    for name, value in state.items():
        if not name.startswith(prefix):
            raise CheckpointError(f"{file}: {name} lies outside the common prefix {prefix!r}")
        if not isinstance(value, Tensor):
            raise CheckpointError(f"{file}: {name} is a {type(value).__name__}, not a tensor")
        tensors[name.removeprefix(prefix)] = value
    return tensors


def translate(state: Mapping[str, Tensor], file: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Encoder and tagger of a published state dict, under this project's names and shapes.

    Raises:
        CheckpointError: a tensor is unknown, of a wrong shape, or of another front-end.
    """
    student: dict[str, Tensor] = {}
    head: dict[str, Tensor] = {}
    unknown = []
    for name, tensor in state.items():
        if _FRONT_END.fullmatch(name):
            _check_front_end(name, tensor, file)
        elif own := rename(name, _STUDENT):
            student[own] = _own_shape(name, tensor, file)
        elif own := rename(name, _HEAD):
            head[own] = tensor
        elif not _PRETEXT.fullmatch(name):
            unknown.append(name)
    if unknown:
        raise CheckpointError(f"{file}: {len(unknown)} unknown tensors: {some(unknown)}")
    return student, head


def rename(name: str, patterns: list[tuple[str, str]]) -> str | None:
    """A name by the first pattern that fits all of it, None if none does."""
    for pattern, replacement in patterns:
        if match := re.fullmatch(pattern, name):
            return match.expand(replacement)
    return None


def _own_shape(name: str, tensor: Tensor, file: str) -> Tensor:
    """Drop the published tensors' sizes of one; the convolution becomes the linear layer of `Encoder`."""
    match name, list(tensor.shape):
        case "cls_token", [1, 1, _]:
            return tensor[0, 0]
        case "pos_embed", [1, _, _]:
            return tensor[0]
        case "patch_embed.proj.weight", [_, 1, 16, 16]:
            return tensor.flatten(1)
        case "cls_token" | "pos_embed" | "patch_embed.proj.weight", shape:
            raise CheckpointError(f"{file}: {name} has the shape {shape}, which no published model's has")
    return tensor


def _check_front_end(name: str, tensor: Tensor, file: str) -> None:
    """A checkpoint with another window or mel matrix was trained on other spectrograms."""
    config = LogMelConfig()
    if name.endswith("window"):
        expected = torch.hann_window(config.window, periodic=True)
    else:
        expected = torch.from_numpy(mel_matrix(config)).T
    # as exact as its number format, since files are converted to half precision
    exactness = max(1e-5, torch.finfo(tensor.dtype).eps) if tensor.is_floating_point() else 0.0
    if tensor.shape != expected.shape or not torch.allclose(tensor.float(), expected, exactness, 1e-5):
        raise CheckpointError(f"{file}: {name} differs from the papers' front-end; it needs another log-mel")


def _encoder_config(student: dict[str, Tensor], file: str) -> EncoderConfig:
    if "positions" not in student:
        raise CheckpointError(f"{file}: misses pos_embed, which gives the encoder's size")
    rows, width = student["positions"].shape
    if (rows - 1) % BANDS or rows < 1 + BANDS or width % HEAD_WIDTH:
        raise CheckpointError(f"{file}: pos_embed of {rows} rows × {width} fits no encoder of {BANDS} bands")
    blocks = {int(m[1]) for name in student if (m := re.match(r"transformer\.blocks\.(\d+)\.", name))}
    if blocks != set(range(len(blocks))) or not blocks:
        raise CheckpointError(f"{file}: blocks {sorted(blocks)} are not consecutive from 0")
    frames = PATCH * (rows - 1) // BANDS
    try:
        return EncoderConfig(width, len(blocks), width // HEAD_WIDTH, BANDS * PATCH, frames)
    except MatpacError as error:
        raise CheckpointError(f"{file}: {error}") from error
