"""Our own format: round trips, pre-training, folders."""

import json
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

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
