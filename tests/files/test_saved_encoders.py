"""Saved encoders: round trips, pre-training, folders; what does not fit its description is refused and named."""

import json
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from helpers.tiny_encoder import MEL16, TINY, tiny
from matpac.files.description import describe, describe_pretraining
from matpac.files.load import load_file, load_folder
from matpac.files.save import save
from matpac.files.tensor_files import CheckpointError, read_tensors, write_tensors
from matpac.model.embedder import Card, Embedder
from matpac.model.heads import Tagger
from matpac.model.logmel import LogMelConfig
from matpac.model.vit import Encoder, EncoderConfig
from matpac.pretrain import Objective, ObjectiveConfig
from matpac.pretrain.classification import HeadConfig
from matpac.pretrain.predictor import PredictorConfig
from matpac.pretrain.recipes import Recipe

finite = st.floats(-100, 100, allow_nan=False)
encoders = st.builds(
    lambda heads, quarter, depth, mels, frames: EncoderConfig(
        4 * heads * quarter, depth, heads, 16 * mels, 16 * frames
    ),
    *(st.integers(1, most) for most in (4, 3, 3, 5, 6)),
)


@settings(deadline=None, max_examples=40)
@given(
    config=encoders,
    logmel=st.builds(LogMelConfig, mean=finite, std=st.floats(0.1, 10), low=st.floats(0, 100)),
    labels=st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=4),
    named=st.booleans(),
    exclusive=st.booleans(),
    step=st.none() | st.integers(0, 10**9),
    name=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/"), max_size=20),
    as_folder=st.booleans(),
)
def test_round_trip(config, logmel, labels, named, exclusive, step, name, as_folder):
    head = Tagger(config.width, len(labels)) if labels else None
    card = Card(name, tuple(labels) if named else (), exclusive, step)
    original = Embedder(Encoder(config), replace(logmel, mels=config.mels), head, card)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "saved" if as_folder else "saved.safetensors")
        file = save(original, path)
        copy = load_folder(path) if as_folder else load_file(path)
        assert load_file(file).card == copy.card
        assert len(list(Path(folder).rglob("*"))) == (3 if as_folder else 1), "no drafts stay"
    torch.testing.assert_close(copy.state_dict(), original.state_dict(), rtol=0, atol=0)
    assert copy.encoder.config == config
    assert copy.logmel.config == original.logmel.config
    assert copy.card == replace(card, source="matpac encoder")
    assert not copy.training
    assert not any(parameter.requires_grad for parameter in copy.parameters())


def test_a_folder_has_a_readable_config(tmp_path):
    encoder = tiny(2, name="mine", labels=("dog", "Bär"))
    assert save(encoder, tmp_path / "enc") == tmp_path / "enc" / "model.safetensors"
    text = (tmp_path / "enc/config.json").read_text(encoding="utf-8")
    assert "Bär" in text
    assert json.loads(text) == describe(encoder)
    with safe_open(tmp_path / "enc/model.safetensors", "pt") as file:
        assert json.loads(file.metadata()["matpac"]) == describe(encoder)
        assert {name.partition(".")[0] for name in file.keys()} == {"encoder", "head"}  # noqa: SIM118


@pytest.mark.parametrize("name", ["enc.pt", "enc.onnx"])
def test_not_under_another_formats_name(tmp_path, name):
    with pytest.raises(CheckpointError, match=rf"{name}: encoders are written as \.safetensors"):
        save(tiny(), tmp_path / name)


def test_loading_draws_no_random_numbers_and_half_precision_becomes_float32(tmp_path):
    encoder = tiny(3)
    save(encoder, tmp_path / "enc.safetensors", half=True)
    state = torch.get_rng_state()
    copy = load_file(tmp_path / "enc.safetensors").encoder.cls_token
    assert torch.get_rng_state().equal(state)
    assert copy.dtype == torch.float32
    assert copy.equal(encoder.encoder.cls_token.half().float())


def pretraining(alpha: float = 0.5) -> tuple[Recipe, Objective]:
    recipe = Recipe(
        logmel=MEL16,
        objective=ObjectiveConfig(
            encoder=TINY,
            predictor=PredictorConfig(width=8, depth=1, heads=2, hypotheses=2),
            head=HeadConfig(hidden=8, bottleneck=4, classes=8),
            mask_ratio=0.5,
            alpha=alpha,
        ),
    )
    return recipe, Objective(recipe.objective)


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_the_student_of_a_pretraining_is_the_encoder(tmp_path, alpha):
    recipe, objective = pretraining(alpha)
    path = tmp_path / "model.safetensors"
    write_tensors(path, objective.state_dict(), describe_pretraining(asdict(recipe), step=7))
    encoder = load_file(path)
    assert encoder.card == Card("pretraining", step=7, source="matpac pretraining")
    assert (encoder.encoder.config, encoder.logmel.config, encoder.head) == (TINY, MEL16, None)
    torch.testing.assert_close(encoder.encoder.state_dict(), objective.student.state_dict(), rtol=0, atol=0)
    description = read_tensors(path)[1]
    assert description["recipe"]["objective"]["alpha"] == alpha


def test_the_newest_checkpoint_of_a_run(tmp_path):
    recipe, objective = pretraining()
    for step in (900, 1000, 100_000_000, 50):
        folder = tmp_path / f"checkpoints/step-{step:08d}"
        folder.mkdir(parents=True)
        description = describe_pretraining(asdict(recipe), step)
        write_tensors(folder / "model.safetensors", objective.state_dict(), description)
    (tmp_path / "checkpoints/step-notes").mkdir()
    (tmp_path / "checkpoints/.step-200000000-draft").mkdir()
    assert load_folder(tmp_path).card.step == 100_000_000
    assert load_folder(tmp_path / "checkpoints/step-00000900").card.step == 900


def test_folders_without_an_encoder(tmp_path):
    with pytest.raises(CheckpointError, match=r"neither a run folder .* it holds no checkpoint"):
        load_folder(tmp_path)
    (tmp_path / "enc.pt").touch()
    with pytest.raises(CheckpointError, match=r"load one of its files: enc\.pt"):
        load_folder(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(CheckpointError, match="no checkpoint yet"):
        load_folder(tmp_path)


# files that are not as described

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
