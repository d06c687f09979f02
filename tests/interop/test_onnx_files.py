"""ONNX files from anywhere: what is ours is opened, everything else is refused by name before it is run."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data

import matpac
from helpers.tiny_encoder import TINY, tiny
from matpac.errors import MatpacError
from matpac.files.checkpoint import CheckpointError, save
from matpac.files.onnx import files
from matpac.files.onnx.export import export_onnx
from matpac.files.onnx.files import is_onnx, read_model


@pytest.fixture(scope="module")
def content(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("onnx") / "x.onnx"
    export_onnx(tiny(classes=3, labels=("a", "b", "c"), exclusive=True, step=9), path)
    return path.read_bytes()


@pytest.fixture
def model(content: bytes) -> onnx.ModelProto:
    return onnx.load_model_from_string(content)


def refused(model: onnx.ModelProto, folder: Path) -> str:
    path = folder / "x.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(CheckpointError) as caught:
        matpac.load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def test_a_file_tells_what_it_is(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(content)
    file = read_model(tmp_path / "x.onnx")
    assert file.description.encoder == TINY
    card = file.description.card
    assert (card.labels, card.exclusive, card.step, card.source) == (("a", "b", "c"), True, 9, "onnx float32")
    metadata = {entry.key: entry.value for entry in onnx.load_model_from_string(content).metadata_props}
    assert json.loads(metadata["matpac"])["logmel"]["mels"] == 16
    assert metadata["sample_rate"] == "16000"
    assert float(metadata["frame_hop_seconds"]) == 0.16
    assert float(metadata["first_frame_seconds"]) == 0.0875


def test_the_name_does_not_matter(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(content)
    assert matpac.load(tmp_path / "weights.bin").card.source == "onnx float32"


def test_what_begins_like_onnx(content: bytes, tmp_path: Path, golden: Path) -> None:
    assert is_onnx(content[:64])
    other = helper.make_model(helper.make_graph([], "g", [], []), producer_name="pytorch")
    for version in (3, 8, 13):
        other.ir_version = version
        assert is_onnx(other.SerializeToString()[:64])
    saved = save(tiny(), tmp_path / "x.safetensors")
    for start in (
        b"\x08\x05\x12\x00\x00\x00\x00\x00" + b'{"a":',  # safetensors, whose length reads like protobuf
        saved.read_bytes(),
        (golden / "tiny_official.pt").read_bytes(),
        b"\x80\x02}q",
        b"<html>",
        b"",
        b"\x08",
    ):
        assert not is_onnx(start[:64])


def set_description(change: Callable[[dict], object]) -> Callable[[onnx.ModelProto], None]:
    def edit(model: onnx.ModelProto) -> None:
        entry = next(entry for entry in model.metadata_props if entry.key == "matpac")
        description = json.loads(entry.value)
        change(description)
        entry.value = json.dumps(description)

    return edit


def set_entry(key: str, value: str | None) -> Callable[[onnx.ModelProto], None]:
    def edit(model: onnx.ModelProto) -> None:
        for entry in [entry for entry in model.metadata_props if entry.key == key]:
            model.metadata_props.remove(entry)
        if value is not None:
            model.metadata_props.add(key=key, value=value)

    return edit


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (set_entry("matpac", None), "without matpac's description; use matpac export"),
        (set_entry("matpac", "[1]"), "no JSON object"),
        (set_entry("matpac", "{"), "no JSON object"),
        (set_entry("matpac", "[" * 100_000), "no JSON object"),
        (set_entry("matpac", f'{{"step": {"9" * 5_000}}}'), "no JSON object"),
        (set_entry("matpac.precision", None), "precision None is none of float32"),
        (set_entry("matpac.precision", "int3"), "precision 'int3' is none of float32"),
        (set_description(lambda d: d.update(format=2)), "update matpac"),
        (set_description(lambda d: d.update(kind="pretraining", head=None, labels=[])), "describes a pretraining"),
        (set_description(lambda d: d.pop("logmel")), "misses logmel"),
        (set_description(lambda d: d["logmel"].update(mels=32)), "32 mel bands for an encoder of 16"),
        (
            set_description(lambda d: d["encoder"].update(width=2**40)),
            "encoder.positions has the shape [1, 2, 16]",
        ),
        (
            set_description(lambda d: d["encoder"].update(frames=2**40)),
            "encoder.positions has the shape [1, 2, 16]",
        ),
        (
            set_description(lambda d: d.update(head={"classes": 2**40}, labels=[])),
            "head.weight has the shape [16, 3]",
        ),
        (set_description(lambda d: d.update(head={"classes": 3, "scene": 99})), "a head on scenes of 99 numbers"),
        (
            set_description(lambda d: d.update(head=None, labels=[])),
            "outputs scene, frames, logits instead of scene",
        ),
    ],
)
def test_descriptions_that_do_not_fit(edit, told: str, model: onnx.ModelProto, tmp_path: Path) -> None:
    edit(model)
    assert told in refused(model, tmp_path)


def add_foreign(model: onnx.ModelProto) -> None:
    model.graph.node.add(op_type="Run", domain="evil.example", output=["y"])


def add_function(model: onnx.ModelProto) -> None:
    model.functions.append(helper.make_function("f", "F", [], ["y"], [], [helper.make_opsetid("", 20)]))


def add_loop(model: onnx.ModelProto) -> None:
    body = helper.make_graph([], "body", [], [])
    model.graph.node.append(helper.make_node("Loop", ["int_1", ""], [], body=body))


def move_outside(model: onnx.ModelProto) -> None:
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "encoder.positions")
    set_external_data(tensor, location="../../etc/passwd")
    tensor.ClearField("raw_data")


def move_a_constant_outside(model: onnx.ModelProto) -> None:
    tensor = numpy_helper.from_array(np.zeros(3, np.float32), "c")
    set_external_data(tensor, location="other.bin")
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor))


def make_sparse(model: onnx.ModelProto) -> None:
    values, indices = (numpy_helper.from_array(np.ones(1, kind), "s") for kind in (np.float32, np.int64))
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [5]))


def make_a_constant_sparse(model: onnx.ModelProto) -> None:
    values, indices = (numpy_helper.from_array(np.ones(1, kind), "s") for kind in (np.float32, np.int64))
    set_external_data(values, location="other.bin")
    sparse = helper.make_sparse_tensor(values, indices, [5])
    model.graph.node.append(helper.make_node("Constant", [], ["c"], sparse_value=sparse))


def make_a_list_of_sparse(model: onnx.ModelProto) -> None:
    make_a_constant_sparse(model)
    attribute = model.graph.node[-1].attribute[0]
    attribute.sparse_tensors.append(attribute.sparse_tensor)
    attribute.ClearField("sparse_tensor")
    attribute.type = onnx.AttributeProto.SPARSE_TENSORS


def hide_a_sparse_constant(model: onnx.ModelProto) -> None:
    make_a_constant_sparse(model)
    model.graph.node[-1].attribute[0].type = onnx.AttributeProto.TENSOR


def rename_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].name = "audio"


def half_positions(model: onnx.ModelProto) -> None:
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "encoder.positions")
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))


def cut_head(model: onnx.ModelProto) -> None:
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "head.weight")
    tensor.raw_data = tensor.raw_data[:-4]


def unknown_operator(model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type = "Teleport"


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (add_foreign, "not ONNX's own (evil.example)"),
        (add_function, "not ONNX's own (functions of its own)"),
        (add_loop, "graphs inside its graph (Loop)"),
        (move_outside, "1 tensors lie in other files or are sparse (encoder.positions)"),
        (move_a_constant_outside, "1 tensors lie in other files"),
        (make_sparse, "are sparse"),
        (make_a_constant_sparse, "sparse tensors inside its graph (Constant)"),
        (make_a_list_of_sparse, "sparse tensors inside its graph (Constant)"),
        (hide_a_sparse_constant, "sparse tensors inside its graph (Constant)"),
        (rename_input, "inputs audio, lengths instead of waveform, lengths"),
        (half_positions, "encoder.positions has the shape [1, 2, 16]"),
        (cut_head, "its head is damaged"),
        (unknown_operator, "refuses it"),
    ],
)
def test_graphs_that_are_not_an_encoders(edit, told: str, model: onnx.ModelProto, tmp_path: Path) -> None:
    edit(model)
    assert told in refused(model, tmp_path)


def test_other_peoples_onnx(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Abs", ["x"], ["y"])], "g", [value], [value])
    assert "an ONNX file of pytorch" in refused(helper.make_model(graph, producer_name="pytorch"), tmp_path)


def test_weights_that_are_not_finite(model: onnx.ModelProto, tmp_path: Path) -> None:
    tensor = next(t for t in model.graph.initializer if t.name == "encoder.transformer.norm.weight")
    tensor.CopyFrom(numpy_helper.from_array(np.full(16, np.nan, np.float32), tensor.name))
    onnx.save(model, tmp_path / "x.onnx")
    encoder = matpac.load(tmp_path / "x.onnx")
    with pytest.raises(CheckpointError, match=r"x\.onnx: gives values that are not finite"):
        encoder.scene(np.zeros(9_000, np.float32), 16_000)


@pytest.mark.parametrize("expression", ["scene", "frames"])
def test_outputs_of_another_shape(expression: str, model: onnx.ModelProto, tmp_path: Path) -> None:
    last = next(node for node in model.graph.node if expression in node.output)
    last.output[0] = "real"
    axes = numpy_helper.from_array(np.array([0]), "axes")
    model.graph.initializer.append(axes)
    model.graph.node.append(helper.make_node("Unsqueeze", ["real", "axes"], [expression]))
    for node in model.graph.node:
        if node is not last and node.output[0] != expression:
            node.input[:] = ["real" if name == expression else name for name in node.input]
    del model.graph.output[:]
    for name in ("scene", "frames", "logits"):
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    onnx.save(model, tmp_path / "x.onnx")
    encoder = matpac.load(tmp_path / "x.onnx")
    with pytest.raises(CheckpointError, match=r"x\.onnx: gave float32 \[1, "):
        getattr(encoder, expression)(np.zeros(9_000, np.float32), 16_000)


def test_too_large_to_be_onnx(content: bytes, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "x.onnx").write_bytes(content)
    monkeypatch.setattr(files, "LARGEST", len(content) - 1)
    with pytest.raises(CheckpointError, match=f"{len(content)} bytes, and an ONNX file has at most"):
        matpac.load(tmp_path / "x.onnx")


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_are_told(data, content: bytes, tmp_path: Path) -> None:
    """Cut anywhere, or bytes changed among the names and numbers at its end (most of the rest is kernels)."""
    damaged = bytearray(content)
    if data.draw(st.booleans()):
        damaged = damaged[: data.draw(st.integers(3, len(content) - 1))]
    else:
        for _ in range(data.draw(st.integers(1, 4))):
            damaged[data.draw(st.integers(len(content) - 3_000, len(content) - 1))] = data.draw(
                st.integers(0, 255)
            )
    (tmp_path / "x.onnx").write_bytes(damaged)
    try:
        matpac.load(tmp_path / "x.onnx")
    except CheckpointError as error:
        assert str(error).startswith(f"{tmp_path / 'x.onnx'}: ")  # noqa: PT017 (some changes do no harm)


@pytest.mark.parametrize(
    "name", [b"waveform", b"lengths", b"frames", b"logits", b"matpac.precision", b"Unsqueeze"]
)
def test_names_that_are_no_text(name: bytes, content: bytes, tmp_path: Path) -> None:
    """Some of protobuf's implementations give such a name as bytes."""
    before, _, after = content.rpartition(name)
    assert before
    (tmp_path / "x.onnx").write_bytes(before + name[:-1] + b"\x80" + after)
    with pytest.raises(CheckpointError, match=r"x\.onnx: damaged, cut short or no ONNX file"):
        matpac.load(tmp_path / "x.onnx")


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_without_the_packages_it_says_what_to_install(package: str, content, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "x.onnx").write_bytes(content)
    monkeypatch.setitem(sys.modules, package, None)
    for call in (lambda: matpac.load(tmp_path / "x.onnx"), lambda: export_onnx(tiny(), tmp_path / "y.onnx")):
        with pytest.raises(MatpacError, match=rf"need the package {package} .*install matpac\[onnx\]"):
            call()
