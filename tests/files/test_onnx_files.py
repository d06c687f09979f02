"""ONNX files from anywhere: matpac's own are opened, everything else is refused by name before it is run."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data

import matpac
from helpers.tiny_encoder import TINY, tiny
from matpac.files.onnx.export import export_onnx
from matpac.files.onnx.files import is_onnx, read_model
from matpac.files.save import save
from matpac.files.tensor_files import CheckpointError

Edit = Callable[[onnx.ModelProto], object]


@pytest.fixture(scope="module")
def content(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("onnx") / "x.onnx"
    export_onnx(tiny(classes=3, labels=("a", "b", "c"), exclusive=True, step=9), path)
    return path.read_bytes()


@pytest.fixture
def model(content: bytes) -> onnx.ModelProto:
    return onnx.load_model_from_string(content)


def test_a_file_describes_itself_whatever_its_name(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(content)
    assert matpac.load(tmp_path / "weights.bin").card.source == "onnx float32"
    file = read_model(tmp_path / "weights.bin")
    card = file.description.card
    assert file.description.encoder == TINY
    assert (card.labels, card.exclusive, card.step, card.source) == (("a", "b", "c"), True, 9, "onnx float32")
    metadata = {entry.key: entry.value for entry in onnx.load_model_from_string(content).metadata_props}
    assert json.loads(metadata["matpac"])["logmel"]["mels"] == 16
    assert metadata["sample_rate"] == "16000"
    assert float(metadata["frame_hop_seconds"]) == 0.16
    assert float(metadata["first_frame_seconds"]) == 0.0875


def test_what_begins_like_onnx(content: bytes, tmp_path: Path, golden: Path) -> None:
    assert is_onnx(content[:64])
    other = helper.make_model(helper.make_graph([], "g", [], []), producer_name="pytorch")
    for version in (3, 8, 13):
        other.ir_version = version
        assert is_onnx(other.SerializeToString()[:64])
    for start in (
        b"\x08\x05\x12\x00\x00\x00\x00\x00" + b'{"a":',  # safetensors, whose length reads like protobuf
        save(tiny(), tmp_path / "x.safetensors").read_bytes(),
        (golden / "tiny_official.pt").read_bytes(),
        *(b"\x80\x02}q", b"<html>", b"", b"\x08"),
    ):
        assert not is_onnx(start[:64])


def description(**fields: object) -> Edit:
    """Other fields of the description; those of `encoder`, `logmel` are merged into what is there."""

    def edit(model: onnx.ModelProto) -> None:
        entry = next(entry for entry in model.metadata_props if entry.key == "matpac")
        data = json.loads(entry.value)
        for name, value in fields.items():
            data[name] = data[name] | value if name in ("encoder", "logmel") and isinstance(value, dict) else value
        entry.value = json.dumps(data)

    return edit


def metadata(key: str, value: str | None) -> Edit:
    def edit(model: onnx.ModelProto) -> None:
        for entry in [entry for entry in model.metadata_props if entry.key == key]:
            model.metadata_props.remove(entry)
        if value is not None:
            model.metadata_props.add(key=key, value=value)

    return edit


def tensor(name: str, change: Callable[[TensorProto], object]) -> Edit:
    return lambda model: change(next(tensor for tensor in model.graph.initializer if tensor.name == name))


def node(kind: str = "Constant", domain: str = "", **attributes: Any) -> Edit:
    return lambda model: model.graph.node.append(helper.make_node(kind, [], ["c"], domain=domain, **attributes))


def external(values: TensorProto) -> TensorProto:
    set_external_data(values, location="../../etc/passwd")
    values.ClearField("raw_data")
    return values


def sparse() -> onnx.SparseTensorProto:
    values, indices = (numpy_helper.from_array(np.ones(1, kind), "s") for kind in (np.float32, np.int64))
    return helper.make_sparse_tensor(external(values), indices, [5])


def hidden_sparse(model: onnx.ModelProto) -> None:
    """An attribute that claims to be a plain tensor."""
    node(sparse_value=sparse())(model)
    model.graph.node[-1].attribute[0].type = onnx.AttributeProto.TENSOR


def sparse_list(model: onnx.ModelProto) -> None:
    node(sparse_value=sparse())(model)
    attribute = model.graph.node[-1].attribute[0]
    attribute.sparse_tensors.append(attribute.sparse_tensor)
    attribute.ClearField("sparse_tensor")
    attribute.type = onnx.AttributeProto.SPARSE_TENSORS


def halve(values: TensorProto) -> None:
    values.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(values).astype(np.float16), values.name))


FUNCTION = helper.make_function("f", "F", [], ["y"], [], [helper.make_opsetid("", 20)])

HOSTILE = {
    "no description": (metadata("matpac", None), "without matpac's description"),
    "a list": (metadata("matpac", "[1]"), "no JSON object"),
    "no JSON": (metadata("matpac", "{"), "no JSON object"),
    "deep JSON": (metadata("matpac", "[" * 100_000), "no JSON object"),
    "a long number": (metadata("matpac", f'{{"step": {"9" * 5_000}}}'), "no JSON object"),
    "no precision": (metadata("matpac.precision", None), "precision None"),
    "unknown precision": (metadata("matpac.precision", "int3"), "precision 'int3'"),
    "a later format": (description(format=2), "format 2"),
    "pre-training": (description(kind="pretraining", head=None, labels=[]), "pretraining"),
    "no front-end": (description(logmel=None), "logmel"),
    "other bands": (description(logmel={"mels": 32}), "32 mel bands"),
    "huge width": (description(encoder={"width": 2**40}), "encoder.positions"),
    "huge length": (description(encoder={"frames": 2**40}), "encoder.positions"),
    "huge head": (description(head={"classes": 2**40}, labels=[]), "head.weight"),
    "wide head": (description(head={"classes": 3, "scene": 99}), "99 numbers"),
    "no head": (description(head=None, labels=[]), "outputs scene, frames, logits"),
    "foreign operator": (node("Run", "evil.example"), "evil.example"),
    "function": (lambda model: model.functions.append(FUNCTION), "functions of its own"),
    "loop": (node("Loop", body=helper.make_graph([], "body", [], [])), "Loop"),
    "external weights": (tensor("encoder.positions", external), "in other files .*encoder.positions"),
    "external constant": (node(value=external(numpy_helper.from_array(np.zeros(3), "c"))), "in other files"),
    "sparse weights": (lambda model: model.graph.sparse_initializer.append(sparse()), "are sparse"),
    "sparse constant": (node(sparse_value=sparse()), "sparse tensor inside its graph"),
    "sparse list": (sparse_list, "sparse tensor inside its graph"),
    "hidden sparse constant": (hidden_sparse, "sparse tensor inside its graph"),
    "other input": (lambda model: setattr(model.graph.input[0], "name", "audio"), "inputs audio, lengths"),
    "float16 positions": (tensor("encoder.positions", halve), "encoder.positions"),
    "cut head": (tensor("head.weight", lambda t: setattr(t, "raw_data", t.raw_data[:-4])), "its head is damaged"),
    "unknown operator": (lambda model: setattr(model.graph.node[0], "op_type", "Teleport"), "refuses it"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_files_are_refused(what: str, model: onnx.ModelProto, tmp_path: Path) -> None:
    edit, named = HOSTILE[what]
    edit(model)
    onnx.save(model, tmp_path / "x.onnx")
    with pytest.raises(CheckpointError, match=rf"x\.onnx: .*{named}") as caught:
        matpac.load(tmp_path / "x.onnx")
    assert "\n" not in str(caught.value)


def test_onnx_of_other_programs(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Abs", ["x"], ["y"])], "g", [value], [value])
    onnx.save(helper.make_model(graph, producer_name="pytorch"), tmp_path / "x.onnx")
    with pytest.raises(CheckpointError, match=r"x\.onnx: an ONNX file of pytorch"):
        matpac.load(tmp_path / "x.onnx")


def test_weights_that_are_not_finite(model: onnx.ModelProto, tmp_path: Path) -> None:
    name = "encoder.transformer.norm.weight"
    tensor(name, lambda t: t.CopyFrom(numpy_helper.from_array(np.full(16, np.nan, np.float32), name)))(model)
    onnx.save(model, tmp_path / "x.onnx")
    with pytest.raises(CheckpointError, match=r"x\.onnx: .*not finite"):
        matpac.load(tmp_path / "x.onnx").scene(np.zeros(9_000, np.float32), 16_000)


@pytest.mark.parametrize("output", ["scene", "frames"])
def test_outputs_of_another_shape(output: str, model: onnx.ModelProto, tmp_path: Path) -> None:
    graph = model.graph
    for found in graph.node:
        for names in (found.input, found.output):
            names[:] = ["real" if name == output else name for name in names]
    graph.initializer.append(numpy_helper.from_array(np.array([0]), "axes"))
    graph.node.append(helper.make_node("Unsqueeze", ["real", "axes"], [output]))
    del graph.output[:]
    for name in ("scene", "frames", "logits"):
        graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    onnx.save(model, tmp_path / "x.onnx")
    with pytest.raises(CheckpointError, match=r"x\.onnx: gave float32 \[1, "):
        getattr(matpac.load(tmp_path / "x.onnx"), output)(np.zeros(9_000, np.float32), 16_000)


def test_too_large_to_be_onnx(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"x\.onnx: {len(content)} bytes"):
        read_model(tmp_path / "x.onnx", largest=len(content) - 1)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_are_named(data, content: bytes, tmp_path: Path) -> None:
    """Cut anywhere, or bytes changed among the names and numbers at its end (most of the rest is kernels)."""
    damaged = bytearray(content)
    if data.draw(st.booleans()):
        damaged = damaged[: data.draw(st.integers(3, len(content) - 1))]
    else:
        for place in data.draw(st.lists(st.integers(len(content) - 3_000, len(content) - 1), max_size=4)):
            damaged[place] = data.draw(st.integers(0, 255))
    (tmp_path / "x.onnx").write_bytes(damaged)
    try:
        matpac.load(tmp_path / "x.onnx")
    except CheckpointError as error:
        assert str(error).startswith(f"{tmp_path / 'x.onnx'}: ")  # noqa: PT017 (some changes do no harm)


@pytest.mark.parametrize("name", [b"waveform", b"logits", b"matpac.precision", b"Unsqueeze"])
def test_names_that_are_no_text(name: bytes, content: bytes, tmp_path: Path) -> None:
    """Some of protobuf's implementations give such a name as bytes."""
    before, _, after = content.rpartition(name)
    assert before
    (tmp_path / "x.onnx").write_bytes(before + name[:-1] + b"\x80" + after)
    with pytest.raises(CheckpointError, match=r"x\.onnx: damaged"):
        matpac.load(tmp_path / "x.onnx")


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_a_missing_package_is_named(package: str, content: bytes, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "x.onnx").write_bytes(content)
    monkeypatch.setitem(sys.modules, package, None)
    for call in (lambda: matpac.load(tmp_path / "x.onnx"), lambda: export_onnx(tiny(), tmp_path / "y.onnx")):
        with pytest.raises(matpac.MatpacError, match=rf"package {package} .*matpac\[onnx\]"):
            call()
