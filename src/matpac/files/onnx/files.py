"""ONNX files of encoders: written with their description inside, and opened with care.

A file from a stranger is data until ONNX Runtime has it: it must hold one plain graph with its weights inside (no
other files, no functions, no operators but ONNX's own, no loops), with the description that `files.description`
writes too.
"""

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, cast, get_args

import numpy as np
import torch

from matpac.atomic import written_whole
from matpac.errors import MatpacError
from matpac.files.description import Description, SceneProbeSize, read_description
from matpac.files.onnx.graph import FRAMES, HEAD_BIAS, HEAD_WEIGHT, LENGTHS, LOGITS, POSITIONS, SCENE, WAVEFORM
from matpac.files.tensor_files import KEY, CheckpointError, is_safetensors
from matpac.model.heads import SceneProbe
from matpac.model.vit import PATCH

Precision = Literal["float32", "int8 dynamic", "int8 static"]
"""Of the network's matrices; static, with fixed ranges of activations, is read but no longer written."""

PRECISION_KEY = f"{KEY}.precision"
"""Name of the precision in the metadata, beside the description."""

LARGEST = 2**31 - 1
"""Bytes that protobuf, and so an ONNX file without others beside it, can hold."""

NESTED = {"g": "graph", "graphs": "graph", "sparse_tensor": "sparse tensor", "sparse_tensors": "sparse tensor"}
"""Fields of an attribute that no encoder's graph has, by what they hold."""

INSTALL = "install matpac[onnx] (onnx and onnxruntime)"


@dataclass(frozen=True)
class OnnxFile:
    """What a file holds, checked.

    Args:
        digest: SHA-256 of its bytes.
        description: of the encoder.
        precision: see `Precision`.
        head: as a matrix on the scene, which every head is in an ONNX file; None without one.
    """

    digest: bytes
    description: Description
    precision: Precision
    head: SceneProbe | None


def library(name: Literal["onnx", "onnxruntime"]) -> ModuleType:
    """A package of the extra `onnx`. Raises MatpacError without it."""
    try:
        return import_module(name)
    except ImportError as error:
        raise MatpacError(f"ONNX files need the package {name} ({error}); {INSTALL}") from error


def is_onnx(start: bytes) -> bool:
    """Whether a file with this start may be ONNX: protobuf's field 1, a small version, another of its fields."""
    fields = b"\x12\x1a\x22\x3a\x42"
    first = len(start) > 2 and start[0] == 0x08 and 0 < start[1] < 32 and start[2] in fields
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
    library("onnx").helper.set_model_props(model, props)
    with written_whole(path) as draft:
        draft.write_bytes(model.SerializeToString())


def read_model(path: Path, largest: int = LARGEST) -> OnnxFile:
    """An encoder's ONNX file.

    Raises:
        CheckpointError: damaged, without matpac's description, needing other files or operators, or a graph that
            is not what the description says; names the file and what is wrong.
        MatpacError: the packages are missing.
        OSError: it can't be read.
    """
    onnx, file = library("onnx"), str(path)
    if (size := path.stat().st_size) > largest:
        raise CheckpointError(f"{file}: {size} bytes, and an ONNX file has at most {largest}")
    content = path.read_bytes()
    try:
        model = onnx.load_model_from_string(content)
        _check_texts(model)
    except Exception as error:  # protobuf's errors depend on which of its implementations is installed
        raise CheckpointError(
            f"{file}: damaged, cut short or no ONNX file; export or download it again"
        ) from error
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    description = _read_description(metadata, model.producer_name, file)
    precision = metadata.get(PRECISION_KEY)
    if precision not in get_args(Precision):
        raise CheckpointError(f"{file}: precision {precision!r:.80} is none of {', '.join(get_args(Precision))}")
    description = replace(description, card=replace(description.card, source=f"onnx {precision}"))
    _check_graph(model, file)
    head = _check_tensors(model.graph, description, file)
    return OnnxFile(sha256(content).digest(), description, cast(Precision, precision), head)


def _check_texts(message: Any) -> None:
    """Raise where a name or text is not UTF-8: protobuf gives it as bytes, or fails on access."""
    for field, value in message.ListFields():
        several = isinstance(value, Iterable) and not isinstance(value, str | bytes)
        for part in value if several else [value]:
            if field.type == field.TYPE_MESSAGE:
                _check_texts(part)
            elif field.type == field.TYPE_STRING and not isinstance(part, str):
                raise UnicodeError(field.name)


def _read_description(metadata: dict[str, str], producer: str, file: str) -> Description:
    if KEY not in metadata:
        made = producer or "another program"
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
    mels, expected = description.logmel.mels, description.encoder.mels
    if mels != expected:
        raise CheckpointError(f"{file}: {mels} mel bands for an encoder of {expected}")
    return description


def _check_graph(model: Any, file: str) -> None:
    """Check that it is one plain graph, and that all of it is in the file."""
    graph = model.graph
    foreign = sorted({node.domain for node in graph.node if node.domain not in ("", "ai.onnx")})
    if foreign or model.functions:
        named = ", ".join(foreign) or "functions of its own"
        raise CheckpointError(f"{file}: needs operators that are not ONNX's own ({named:.80}); it was not opened")
    tensors = list(graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            # whatever type the attribute claims
            if nested := [NESTED[field.name] for field, _ in attribute.ListFields() if field.name in NESTED]:
                raise CheckpointError(
                    f"{file}: no encoder has a {nested[0]} inside its graph ({node.op_type:.40})"
                )
            tensors += [attribute.t, *attribute.tensors]
    uses_external_data = library("onnx").external_data_helper.uses_external_data
    outside = [tensor.name for tensor in tensors if uses_external_data(tensor)]
    if outside or graph.sparse_initializer:
        raise CheckpointError(
            f"{file}: {len(outside)} tensors lie in other files or are sparse ({', '.join(outside[:3]):.80}); a "
            "file by matpac export holds all of its weights"
        )


def _check_tensors(graph: Any, description: Description, file: str) -> SceneProbe | None:
    """Check inputs, outputs and the tensors that decide sizes, so that nobody allocates more; returns the head."""
    config, size, onnx = description.encoder, description.head, library("onnx")
    outputs = [SCENE, FRAMES] + [LOGITS] * (size is not None)
    for what, values, wanted in (("inputs", graph.input, [WAVEFORM, LENGTHS]), ("outputs", graph.output, outputs)):
        names = [value.name for value in values]
        if names != wanted:
            raise CheckpointError(f"{file}: {what} {', '.join(names):.80} instead of {', '.join(wanted)}")
    found = {tensor.name: tensor for tensor in graph.initializer}
    scene = config.bands * config.width
    shapes = {POSITIONS: [config.bands, config.steps, config.width]}
    if size is not None:
        shapes |= {HEAD_WEIGHT: [scene, size.classes], HEAD_BIAS: [size.classes]}
    if isinstance(size, SceneProbeSize) and size.scene != scene:
        raise CheckpointError(f"{file}: a head on scenes of {size.scene} numbers, and its encoder's have {scene}")
    for name, shape in shapes.items():
        real = list(found[name].dims) if name in found else None
        if real != shape or found[name].data_type != onnx.TensorProto.FLOAT:
            raise CheckpointError(f"{file}: {name} has the shape {real}, and its description says {shape}")
    if size is None:
        return None
    try:
        weight, bias = (np.array(onnx.numpy_helper.to_array(found[name])) for name in (HEAD_WEIGHT, HEAD_BIAS))
    except ValueError as error:
        raise CheckpointError(f"{file}: its head is damaged ({error})") from error
    with torch.device("meta"):
        head = SceneProbe(*weight.shape)
    state = {"linear.weight": torch.from_numpy(weight).T.contiguous(), "linear.bias": torch.from_numpy(bias)}
    head.load_state_dict(state, assign=True)
    return head
