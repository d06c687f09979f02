"""Files of our own format that are not as described: refused, and what is wrong is named."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from helpers.tiny_encoder import tiny
from matpac.errors import MatpacError
from matpac.files.description import config_from, describe
from matpac.files.load import load_file
from matpac.files.save import save
from matpac.files.tensor_files import CheckpointError, read_tensors, write_tensors


def tampered(tmp_path: Path, classes: int | None = 3) -> tuple[dict[str, torch.Tensor], dict[str, Any], Path]:
    path = save(tiny(classes), tmp_path / "enc.safetensors")
    return *read_tensors(path), path


def refused(tensors: dict, description: dict, path: Path, message: str) -> None:
    write_tensors(path, tensors, description)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_file(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", list(tiny(3).state_dict()))
def test_a_missing_tensor_is_named(tmp_path, name):
    tensors, description, path = tampered(tmp_path)
    del tensors[name]
    refused(tensors, description, path, rf"{name}( is missing|$)")


@pytest.mark.parametrize(
    "name", ["other", "encoder.transformer.blocks.0.gate", "head.norm.gain", "student.positions"]
)
def test_a_tensor_too_many_is_named(tmp_path, name):
    tensors, description, path = tampered(tmp_path)
    refused(tensors | {name: torch.zeros(1)}, description, path, f"1 tensors belong to nothing: {name}$")


@pytest.mark.parametrize("name", list(tiny(3).state_dict()))
def test_a_tensor_of_another_shape_is_named(tmp_path, name):
    tensors, description, path = tampered(tmp_path)
    tensors[name] = tensors[name].unsqueeze(0)
    refused(tensors, description, path, f"{name} has the shape")


def test_values_that_are_not_finite_are_named(tmp_path):
    tensors, description, path = tampered(tmp_path)
    tensors["encoder.transformer.blocks.1.mlp.fc2.bias"][3] = torch.nan
    refused(tensors, description, path, r"encoder\.transformer\.blocks\.1\.mlp\.fc2\.bias holds values")


def test_a_head_not_described(tmp_path):
    tensors, description, path = tampered(tmp_path)
    refused(tensors, description | {"head": None}, path, r"head that is not described: .*linear\.weight")


def test_half_precision_becomes_float32(tmp_path):
    tensors, description, path = tampered(tmp_path)
    halves = {name: t.half() if t.is_floating_point() else t for name, t in tensors.items()}
    write_tensors(path, halves, description)
    weight = load_file(path).encoder.cls_token
    assert weight.dtype == torch.float32
    assert weight.equal(halves["encoder.cls_token"].float())


FIELDS = list(describe(tiny()))


@pytest.mark.parametrize("field", [field for field in FIELDS if field != "format"])
def test_a_missing_field_is_named(tmp_path, field):
    tensors, description, path = tampered(tmp_path)
    del description[field]
    refused(tensors, description, path, f"the description misses {field}$")


@pytest.mark.parametrize(("part", "field"), [("encoder", "depth"), ("logmel", "hop"), ("head", "classes")])
def test_a_missing_field_of_a_part_is_named(tmp_path, part, field):
    tensors, description, path = tampered(tmp_path)
    del description[part][field]
    refused(tensors, description, path, f"{part} misses {field}$")


@pytest.mark.parametrize("part", ["encoder", "logmel", "head"])
def test_an_unknown_field_is_named(tmp_path, part):
    tensors, description, path = tampered(tmp_path)
    description[part]["gates"] = 3
    refused(tensors, description, path, f"{part} has unknown fields: gates;")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "format 2, and this matpac reads 1; update"),
        ({"format": None}, "format None"),
        ({"colour": 1}, "unknown fields: colour;"),
        ({"kind": "classifier"}, "kind 'classifier'"),
        ({"kind": ["encoder"]}, "kind of the description"),
        ({"labels": ["a"]}, "1 labels do not name"),
        ({"labels": [1, 2, 3]}, "3 labels do not name"),
        ({"exclusive": 1}, "exclusive of the description is 1"),
        ({"step": "7"}, "step of the description is '7'"),
        ({"encoder": []}, r"encoder of the description is \[\]"),
        ({"encoder": {"width": 16, "depth": 2, "heads": 2, "mels": 16, "frames": 30}}, "encoder.frames"),
        ({"encoder": {"width": 16, "depth": 2, "heads": 3, "mels": 16, "frames": 32}}, "encoder.heads 3"),
        (
            {"encoder": {"width": 16, "depth": 2.0, "heads": 2, "mels": 16, "frames": 32}},
            "depth is 2.0, not a whole",
        ),
        ({"encoder": {"width": 16, "depth": True, "heads": 2, "mels": 16, "frames": 32}}, "depth is True"),
        (
            {"encoder": {"width": 16, "depth": 10**12, "heads": 2, "mels": 16, "frames": 32}},
            "too few for 10{12} b",
        ),
        (
            {"encoder": {"width": 2**60, "depth": 2, "heads": 2, "mels": 16, "frames": 32}},
            "positions has the shape",
        ),
        (
            {"encoder": {"width": 16, "depth": 2, "heads": -2, "mels": 16, "frames": 32}},
            "heads must be at least 1",
        ),
        ({"logmel": describe(tiny())["logmel"] | {"mels": 32}}, "32 mel bands for an encoder of 16"),
        ({"logmel": describe(tiny())["logmel"] | {"hop": 0}}, "logmel.hop must be at least 1"),
        ({"logmel": describe(tiny())["logmel"] | {"mean": "x"}}, "logmel.mean is 'x', not a number"),
        ({"logmel": describe(tiny())["logmel"] | {"mean": 10**400}}, "logmel.mean is 10+, not a number"),
        ({"logmel": describe(tiny())["logmel"] | {"window": 10**13}}, "logmel.window must be between"),
        ({"logmel": describe(tiny())["logmel"] | {"sample_rate": 10**9}}, "logmel.sample_rate must be"),
        ({"logmel": describe(tiny())["logmel"] | {"std": 0}}, "logmel.std must be above 0"),
        ({"logmel": describe(tiny())["logmel"] | {"low": 9000}}, "logmel.low 9000 and logmel.high"),
        ({"head": {"classes": 4}}, "has the shape"),
        ({"head": {"classes": 10**18}}, r"head\.linear\.weight has the shape \[3, 16\] instead of \[10{18}, 16\]"),
        ({"head": {"classes": 10**30}}, "head.classes is 10{30}, not a whole number"),
        ({"head": {"classes": 10**18, "scene": 16}}, r"head\.linear\.weight has the shape"),
    ],
)
def test_descriptions_that_do_not_fit(tmp_path, change, message):
    tensors, description, path = tampered(tmp_path)
    refused(tensors, description | change, path, message)


@pytest.mark.parametrize(("field", "value"), [("frames", 16 * 10**12), ("width", 16 * 10**12)])
def test_sizes_that_no_tensor_vouches_for(tmp_path, field, value):
    tensors, description, path = tampered(tmp_path)
    del tensors["encoder.positions"]
    description["encoder"][field] = value
    refused(tensors, description, path, r"encoder\.positions is missing")


@pytest.mark.parametrize("error", [MatpacError("no"), ValueError("no"), TypeError("no")])
def test_what_a_configuration_refuses_is_said_with_the_file(error):
    @dataclass
    class Refusing:
        size: int

        def __post_init__(self):
            raise error

    with pytest.raises(CheckpointError, match=r"^x\.safetensors: no$"):
        config_from(Refusing, {"size": 1}, "part", "x.safetensors")


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, '{"format": ' + "1" * 5_000 + "}"])
def test_a_description_that_is_no_json(tmp_path, text):
    save_file({"a": torch.zeros(1)}, tmp_path / "x.safetensors", {"matpac": text})
    with pytest.raises(CheckpointError, match="no JSON object"):
        load_file(tmp_path / "x.safetensors")
