"""ONNX files of encoders: written with their description inside, and opened with care.

A file from a stranger is data until ONNX Runtime has it: it must hold one plain graph with its weights inside (no
other files, no functions, no operators but ONNX's own, no loops), with the description that `files.description`
writes too.
"""

import json
from collections.abc import Iterable, Iterator
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
    onnx = library("onnx")
    if (size := path.stat().st_size) > largest:
        raise CheckpointError(f"{path}: {size} bytes, and an ONNX file has at most {largest}")
    content = path.read_bytes()
    try:
        model = onnx.load_model_from_string(content)
        _check_texts(model)
    except Exception as error:  # protobuf's errors depend on which of its implementations is installed
        raise CheckpointError(
            f"{path}: damaged, cut short or no ONNX file; export or download it again"
        ) from error
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    description, precision = _read_description(model, metadata.get(KEY), str(path)), metadata.get(PRECISION_KEY)
    if problem := next(_problems(model, precision, description), None):
        raise CheckpointError(f"{path}: {problem}")
    head = None if description.head is None else _read_head(model.graph, str(path))
    description = replace(description, card=replace(description.card, source=f"onnx {precision}"))
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


def _read_description(model: Any, text: str | None, file: str) -> Description:
    if text is None:
        made = model.producer_name or "another program"
        raise CheckpointError(
            f"{file}: an ONNX file of {made:.40}, without matpac's description; use matpac export"
        )
    data = None
    with suppress(ValueError, RecursionError):
        data = json.loads(text)
    if not isinstance(data, dict):
        raise CheckpointError(f"{file}: the description in its metadata is no JSON object")
    return read_description(data, file)


def _problems(model: Any, precision: str | None, description: Description) -> Iterator[str]:
    """What is wrong with a file; each check relies on those before it.

    It has to be one plain graph that is in the file as a whole, with the inputs, outputs and sizes that its
    description says, so that nothing larger is allocated.
    """
    onnx, graph = library("onnx"), model.graph
    config, head, mels = description.encoder, description.head, description.logmel.mels
    if description.kind != "encoder":
        yield f"describes a {description.kind}, not an encoder"
    if mels != config.mels:
        yield f"{mels} mel bands for an encoder of {config.mels}"
    if precision not in get_args(Precision):
        yield f"precision {precision!r:.80} is none of {', '.join(get_args(Precision))}"

    foreign = sorted({node.domain for node in graph.node if node.domain not in ("", "ai.onnx")})
    if foreign or model.functions:
        named = ", ".join(foreign) or "functions of its own"
        yield f"needs operators that are not ONNX's own ({named:.80}); it was not opened"
    tensors = list(graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            for field, _ in attribute.ListFields():  # whatever type the attribute claims
                if field.name in NESTED:
                    yield f"no encoder has a {NESTED[field.name]} inside its graph ({node.op_type:.40})"
            tensors += [attribute.t, *attribute.tensors]
    outside = [tensor.name for tensor in tensors if onnx.external_data_helper.uses_external_data(tensor)]
    if outside or graph.sparse_initializer:
        yield (
            f"{len(outside)} tensors lie in other files or are sparse ({', '.join(outside[:3]):.80}); a file by "
            "matpac export holds all of its weights"
        )

    outputs = [SCENE, FRAMES] + [LOGITS] * (head is not None)
    for what, values, wanted in (("inputs", graph.input, [WAVEFORM, LENGTHS]), ("outputs", graph.output, outputs)):
        if (names := [value.name for value in values]) != wanted:
            yield f"{what} {', '.join(names):.80} instead of {', '.join(wanted)}"
    scene = config.bands * config.width
    shapes = {POSITIONS: [config.bands, config.steps, config.width]}
    if head is not None:
        shapes |= {HEAD_WEIGHT: [scene, head.classes], HEAD_BIAS: [head.classes]}
    if isinstance(head, SceneProbeSize) and head.scene != scene:
        yield f"a head on scenes of {head.scene} numbers, and its encoder's have {scene}"
    found = {tensor.name: tensor for tensor in graph.initializer}
    for name, shape in shapes.items():
        real = list(found[name].dims) if name in found else None
        if real != shape or found[name].data_type != onnx.TensorProto.FLOAT:
            yield f"{name} has the shape {real}, and its description says {shape}"


def _read_head(graph: Any, file: str) -> SceneProbe:
    found, array = {tensor.name: tensor for tensor in graph.initializer}, library("onnx").numpy_helper.to_array
    try:
        weight, bias = (torch.from_numpy(np.array(array(found[name]))) for name in (HEAD_WEIGHT, HEAD_BIAS))
    except ValueError as error:
        raise CheckpointError(f"{file}: its head is damaged ({error})") from error
    with torch.device("meta"):
        head = SceneProbe(*weight.shape)
    head.load_state_dict({"linear.weight": weight.T.contiguous(), "linear.bias": bias}, assign=True)
    return head
