"""ONNX files of encoders: written with their description inside, and opened with care.

A file from a stranger is data until ONNX Runtime has it: it must hold one plain graph with its weights inside (no
other files, no functions, no operators but ONNX's own, no loops), with the description that `files.checkpoint`
writes too.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, cast, get_args

import numpy as np
from jaxtyping import Float32

from matpac.atomic import written_whole
from matpac.errors import MatpacError
from matpac.files.checkpoint.description import Description, SceneProbeSize, read_description
from matpac.files.checkpoint.published import CheckpointError
from matpac.files.checkpoint.tensor_files import KEY, is_safetensors
from matpac.files.onnx.graph import FRAMES, HEAD_BIAS, HEAD_WEIGHT, LENGTHS, LOGITS, POSITIONS, SCENE, WAVEFORM
from matpac.model.vit import PATCH

Precision = Literal["float32", "int8 dynamic", "int8 static"]
"""Of the network's matrices; static: ranges of activations are fixed, dynamic: they follow the sound."""

PRECISIONS: tuple[Precision, ...] = get_args(Precision)

PRECISION_KEY = f"{KEY}.precision"
"""Of the precision, in the metadata beside the description."""

LARGEST = 2**31 - 1
"""Bytes: what protobuf, and so an ONNX file without others beside it, can hold."""

INSTALL = "install matpac[onnx] (onnx and onnxruntime)"


@dataclass(frozen=True)
class OnnxFile:
    """What a file holds, checked.

    Args:
        digest: SHA-256 of its bytes.
        description: of the encoder.
        precision: see `Precision`.
        head: matrix [scene, class] and bias [class] of the head, None without one.
    """

    digest: bytes
    description: Description
    precision: Precision
    head: tuple[Float32[np.ndarray, "scene class"], Float32[np.ndarray, " class"]] | None


def onnx_library() -> ModuleType:
    """The package `onnx`. Raises MatpacError without it."""
    try:
        import onnx
    except ImportError as error:
        raise MatpacError(f"ONNX files need the package onnx ({error}); {INSTALL}") from error
    return onnx


def runtime_library() -> ModuleType:
    """The package `onnxruntime`. Raises MatpacError without it."""
    try:
        import onnxruntime
    except ImportError as error:
        raise MatpacError(f"ONNX files need the package onnxruntime ({error}); {INSTALL}") from error
    return onnxruntime


def is_onnx(start: bytes) -> bool:
    """Whether a file that begins so may be ONNX: protobuf's field 1, a small version, another of its fields."""
    first = (
        len(start) > 2 and start[0] == 0x08 and 0 < start[1] < 32 and start[2] in (0x12, 0x1A, 0x22, 0x3A, 0x42)
    )
    return first and not is_safetensors(start)  # whose first bytes are a length, which may be any


def write_model(path: Path, model: Any, description: dict[str, Any], precision: Precision) -> None:
    """Write a graph with its description, whole or not at all.

    Raises:
        OSError: it can't be written; what was there before is untouched.
    """
    logmel = read_description(description, str(path)).logmel
    first = (logmel.samples(PATCH) / 2) / logmel.sample_rate
    props = {
        KEY: json.dumps(description, allow_nan=False),
        PRECISION_KEY: precision,
        # for programs without matpac
        "sample_rate": str(logmel.sample_rate),
        "frame_hop_seconds": f"{PATCH * logmel.hop / logmel.sample_rate:.9g}",
        "first_frame_seconds": f"{first:.9g}",
    }
    onnx_library().helper.set_model_props(model, props)
    with written_whole(path) as draft:
        draft.write_bytes(model.SerializeToString())


def read_model(path: Path) -> OnnxFile:
    """An encoder's ONNX file.

    Raises:
        CheckpointError: damaged, without matpac's description, needing other files or operators, or a graph that
            is not what the description says; names the file and what is wrong.
        MatpacError: the packages are missing.
        OSError: it can't be read.
    """
    onnx = onnx_library()
    if (size := path.stat().st_size) > LARGEST:
        raise CheckpointError(f"{path}: {size} bytes, and an ONNX file has at most {LARGEST}")
    content = path.read_bytes()
    damaged = f"{path}: damaged, cut short or no ONNX file; export or fetch it again"
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's errors depend on which of its implementations is installed
        raise CheckpointError(damaged) from error
    if not _all_text(model):
        raise CheckpointError(damaged)
    return _checked(model, sha256(content).digest(), str(path))


def _all_text(message: Any) -> bool:
    """Whether all names and texts in it are UTF-8; protobuf gives others as bytes, or fails when asked."""
    with suppress(UnicodeDecodeError):
        for field, value in message.ListFields():
            several = isinstance(value, Iterable) and not isinstance(value, str | bytes)
            values = value if several else [value]
            if field.type == field.TYPE_STRING and not all(isinstance(text, str) for text in values):
                return False
            if field.type == field.TYPE_MESSAGE and not all(_all_text(part) for part in values):
                return False
        return True
    return False


def _checked(model: Any, digest: bytes, file: str) -> OnnxFile:
    described = _description(model, file)
    said = {entry.key: entry.value for entry in model.metadata_props}.get(PRECISION_KEY)
    if said not in PRECISIONS:
        raise CheckpointError(f"{file}: precision {said!r:.80} is none of {', '.join(PRECISIONS)}")
    precision = cast(Precision, said)
    description = replace(described, card=replace(described.card, source=f"onnx {precision}"))
    _check_graph(model, file)
    _check_names(model.graph, description, file)
    return OnnxFile(digest, description, precision, _check_weights(model.graph, description, file))


def _description(model: Any, file: str) -> Description:
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    if KEY not in metadata:
        made = model.producer_name or "another program"
        raise CheckpointError(
            f"{file}: an ONNX file of {made:.40}, without matpac's description; use matpac export"
        )
    data = None
    with suppress(ValueError, RecursionError):
        data = json.loads(metadata[KEY])
    if not isinstance(data, dict):
        raise CheckpointError(f"{file}: the description in its metadata is no JSON object")
    description = read_description(data, file)
    if description.kind != "encoder":
        raise CheckpointError(f"{file}: describes a {description.kind}, not an encoder")
    if description.encoder.mels != description.logmel.mels:
        mels = description.logmel.mels, description.encoder.mels
        raise CheckpointError(f"{file}: {mels[0]} mel bands for an encoder of {mels[1]}")
    return description


def _check_graph(model: Any, file: str) -> None:
    """That it is one plain graph, and all of it is here."""
    onnx, graph = onnx_library(), model.graph
    foreign = sorted({node.domain for node in graph.node if node.domain not in ("", "ai.onnx")})
    if foreign or model.functions:
        named = ", ".join(foreign) or "functions of its own"
        raise CheckpointError(f"{file}: needs operators that are not ONNX's own ({named:.80}); it was not opened")
    for what, fields in (("graphs", ("g", "graphs")), ("sparse tensors", ("sparse_tensor", "sparse_tensors"))):
        if nested := [node.op_type for node in graph.node if _has_attribute(node, fields)]:
            raise CheckpointError(f"{file}: has {what} inside its graph ({nested[0]:.40}), which no encoder has")
    outside = [tensor.name for tensor in _tensors(graph) if onnx.external_data_helper.uses_external_data(tensor)]
    if outside or graph.sparse_initializer:
        raise CheckpointError(
            f"{file}: {len(outside)} tensors lie in other files or are sparse ({', '.join(outside[:3]):.80}); a "
            "file by matpac export holds all of its weights"
        )


def _has_attribute(node: Any, fields: Iterable[str]) -> bool:
    """Whether an attribute holds one of protobuf's fields, whatever type it says it has."""
    return any(field.name in fields for attribute in node.attribute for field, _ in attribute.ListFields())


def _tensors(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield attribute.t
            yield from attribute.tensors


def _check_names(graph: Any, description: Description, file: str) -> None:
    outputs = [SCENE, FRAMES] + [LOGITS] * (description.head is not None)
    for what, found, wanted in (("inputs", graph.input, [WAVEFORM, LENGTHS]), ("outputs", graph.output, outputs)):
        names = [value.name for value in found]
        if names != wanted:
            raise CheckpointError(f"{file}: {what} {', '.join(names):.80} instead of {', '.join(wanted)}")


def _check_weights(
    graph: Any, description: Description, file: str
) -> tuple[Float32[np.ndarray, "scene class"], Float32[np.ndarray, " class"]] | None:
    """That the tensors whose sizes decide are as described, so that nobody asks for more; gives the head."""
    config, size, onnx = description.encoder, description.head, onnx_library()
    found = {tensor.name: tensor for tensor in graph.initializer}
    scene = config.bands * config.width
    wanted = {POSITIONS: [config.bands, config.steps, config.width]}
    if size is not None:
        wanted |= {HEAD_WEIGHT: [scene, size.classes], HEAD_BIAS: [size.classes]}
        if isinstance(size, SceneProbeSize) and size.scene != scene:
            raise CheckpointError(
                f"{file}: a head on scenes of {size.scene} numbers, and its encoder's have {scene}"
            )
    for name, shape in wanted.items():
        real = list(found[name].dims) if name in found else None
        if real != shape or found[name].data_type != onnx.TensorProto.FLOAT:
            raise CheckpointError(f"{file}: {name} has the shape {real}, and its description says {shape}")
    if size is None:
        return None
    try:
        matrix, bias = (onnx.numpy_helper.to_array(found[name]) for name in (HEAD_WEIGHT, HEAD_BIAS))
    except ValueError as error:
        raise CheckpointError(f"{file}: its head is damaged ({error})") from error
    return matrix, bias
