"""Files of matpac's own format that are not as described: refused, and what is wrong is named."""

import pytest
import torch
from safetensors.torch import save_file

from helpers.tiny_encoder import tiny
from matpac.files.description import describe
from matpac.files.load import load_file
from matpac.files.save import save
from matpac.files.tensor_files import CheckpointError, read_tensors, write_tensors

DESCRIPTION = describe(tiny(3))
SOME = ["encoder.positions", "encoder.cls_token", "encoder.transformer.blocks.1.mlp.fc2.bias"]
SOME += ["head.norm.running_var", "head.linear.weight"]


@pytest.fixture
def refused(tmp_path):
    """Writes the file of a tagger with other tensors, without some or with another description, and loads it."""
    path = save(tiny(3), tmp_path / "enc.safetensors")
    tensors, description = read_tensors(path)

    def check(message: str, changed: dict = {}, without: tuple = (), **described: object) -> None:  # noqa: B006
        state = {name: tensor for name, tensor in (tensors | changed).items() if name not in without}
        write_tensors(path, state, {k: v for k, v in (description | described).items() if k not in without})
        with pytest.raises(CheckpointError, match=message) as caught:
            load_file(path)
        assert str(path) in str(caught.value)

    return check


@pytest.mark.parametrize("name", SOME)
def test_a_missing_or_misshapen_tensor_is_named(refused, name):
    refused(rf"{name}( is missing|$)", without=(name,))
    refused(f"{name} has the shape", {name: torch.zeros(1, 1, 1, 1)})


@pytest.mark.parametrize("name", ["other", "encoder.transformer.blocks.0.gate", "head.norm.gain", "student.norm"])
def test_a_tensor_too_many_is_named(refused, name):
    refused(f"1 tensors belong to nothing: {name}$", {name: torch.zeros(1)})


def test_values_that_are_not_finite_are_named(refused):
    name = "encoder.transformer.blocks.1.mlp.fc2.bias"
    refused(name, {name: torch.full((16,), torch.nan)})


@pytest.mark.parametrize("field", [field for field in DESCRIPTION if field != "format"])
def test_a_missing_field_is_named(refused, field):
    refused(f"the description misses {field}$", without=(field,))


@pytest.mark.parametrize(("part", "field"), [("encoder", "depth"), ("logmel", "hop"), ("head", "classes")])
def test_missing_and_unknown_fields_of_a_part_are_named(refused, part, field):
    fields = DESCRIPTION[part]
    refused(f"{part} misses {field}$", **{part: {name: fields[name] for name in fields if name != field}})
    refused(f"{part} has unknown fields: gates;", **{part: fields | {"gates": 3}})


def encoder(**changed: object) -> dict:
    return {"encoder": DESCRIPTION["encoder"] | changed}


def logmel(**changed: object) -> dict:
    return {"logmel": DESCRIPTION["logmel"] | changed}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "format 2"),
        ({"format": None}, "format None"),
        ({"colour": 1}, "unknown fields: colour"),
        ({"kind": "classifier"}, "kind 'classifier'"),
        ({"kind": ["encoder"]}, "kind of the description"),
        ({"kind": "pretraining"}, "has no tagger"),
        ({"labels": ["a"]}, "1 labels do not name"),
        ({"labels": [1, 2, 3]}, "3 labels do not name"),
        ({"exclusive": 1}, "exclusive of the description is 1"),
        ({"step": "7"}, "step of the description is '7'"),
        ({"encoder": []}, r"encoder of the description is \[\]"),
        (encoder(frames=30), "encoder.frames"),
        (encoder(heads=3), "encoder.heads 3"),
        (encoder(heads=-2), "heads must be at least 1"),
        (encoder(depth=2.0), "depth is 2.0, not a whole"),
        (encoder(depth=True), "depth is True"),
        (encoder(depth=10**12), "too few for 10{12} blocks"),
        (encoder(width=2**60), "positions has the shape"),
        (encoder(frames=16 * 10**12), "positions has the shape"),
        (logmel(mels=32), "32 mel bands for an encoder of 16"),
        (logmel(hop=0), "logmel.hop must be at least 1"),
        (logmel(mean="x"), "logmel.mean is 'x', not a number"),
        (logmel(mean=10**400), "logmel.mean is 10+, not a number"),
        (logmel(window=10**13), "logmel.window"),
        (logmel(sample_rate=10**9), "logmel.sample_rate"),
        (logmel(std=0), "logmel.std"),
        (logmel(low=9000), "logmel.low 9000"),
        ({"head": None, "labels": []}, "head that is not described"),
        ({"head": {"classes": 4}}, r"head\.linear\.weight has the shape"),
        ({"head": {"classes": 10**18}}, r"head\.linear\.weight has the shape"),
        ({"head": {"classes": 10**30}}, "head.classes is 10{30}, not a whole number"),
        ({"head": {"classes": 10**18, "scene": 16}}, r"head\.linear\.weight has the shape"),
        ({"head": {"classes": 3, "scene": 17}}, "scenes of 17 numbers"),
    ],
)
def test_descriptions_that_do_not_fit(refused, change, message):
    refused(message, **change)


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, '{"format": ' + "1" * 5_000 + "}"])
def test_a_description_that_is_no_json(tmp_path, text):
    save_file({"a": torch.zeros(1)}, tmp_path / "x.safetensors", {"matpac": text})
    with pytest.raises(CheckpointError, match=r"x\.safetensors: .*no JSON object"):
        load_file(tmp_path / "x.safetensors")
