"""`matpac.load`: what a source may be, what one that is nothing raises, and the encoder in the package."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import matpac
from helpers.local_server import local_server, use_as_hub
from matpac.files import hub
from matpac.files.hub import Published
from matpac.files.load import load, load_file
from matpac.files.save import save
from matpac.files.tensor_files import CheckpointError
from matpac.pretrain.recipes import RECIPES


@pytest.fixture
def official(golden) -> Path:
    return golden / "tiny_official.pt"


def scene(encoder) -> torch.Tensor:
    return encoder.scene(torch.linspace(-1, 1, 8000).sin(), 16_000)


def test_a_file_a_folder_and_a_saved_encoder(official, tmp_path):
    first = load(str(official))
    save(first, tmp_path / "folder")
    save(first, tmp_path / "enc.safetensors")
    for source in (official, tmp_path / "folder", str(tmp_path / "enc.safetensors")):
        encoder = load(source)
        assert encoder.card.name == str(source)
        assert scene(encoder).equal(scene(first))
    assert matpac.load is load


def test_a_path_below_the_home_folder(official, monkeypatch):
    monkeypatch.setenv("HOME", str(official.parent))
    assert load("~/tiny_official.pt").card.name == "~/tiny_official.pt"


@pytest.mark.parametrize(
    ("name", "saved"),
    [
        *((name, "folder") for name in ("/private/folder", "private/weights/../folder/.", "./folder/")),
        ("hub:me/own@v1", "hub:me/own@v1"),
    ],
)
def test_what_is_saved_tells_no_folders(name, saved, official, tmp_path):
    encoder = load(official)
    encoder.card = replace(encoder.card, name=name)
    assert load_file(save(encoder, tmp_path / "copy")).card.name == saved


def test_on_a_device_by_name_or_object(official):
    assert load(official, "cpu").device == torch.device("cpu")
    assert load(official, torch.device("meta")).device.type == "meta"


def test_a_published_name_is_not_a_folder(tmp_path, monkeypatch, official):
    """Many have a folder `matpac`; it is meant by ./matpac, or as a Path."""
    monkeypatch.setenv("MATPAC_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    save(load(official), "matpac")
    with local_server() as server:
        server.files["/enc.pt"] = official.read_bytes()
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setitem(hub.PUBLISHED, "matpac", Published("x.pt", url=f"{server.url}/enc.pt"))
        assert load("matpac").card.source == "published"
    assert load("matpac").card.source == "published", "from the cache"
    assert load("./matpac").card.source == "matpac encoder"
    assert load(Path("matpac")).card.source == "matpac encoder"


def test_from_the_hub(official, tmp_path, monkeypatch):
    with local_server() as server:
        use_as_hub(monkeypatch, server.url, tmp_path)
        saved = save(load(official), tmp_path / "enc")
        server.repositories["me/own"] = {"model.safetensors": saved.read_bytes(), "config.json": b"{}"}
        server.repositories["me/theirs"] = {"weights.pt": official.read_bytes()}
        for source, kind in (("hub:me/own", "matpac encoder"), ("hub:me/theirs@v1", "published")):
            encoder = load(source)
            assert (encoder.card.name, encoder.card.source) == (source, kind)
            assert scene(encoder).equal(scene(load(official)))


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        ("matpacpp", "Did you mean matpac++?"),
        ("matpac_plus_music", "matpac++-music"),
        ("matpac++-audoset", "matpac++-audioset"),
        ("auriankelen/matpac_music", "On the hub it would be hub:auriankelen/matpac_music."),
        ("nowhere/enc.pt", "no such file or folder"),
        ("", "no such file or folder"),
    ],
)
def test_nothing_of_that_name(tmp_path, monkeypatch, source, hint):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError) as caught:
        load(source)
    message = str(caught.value)
    assert hint in message
    assert repr(source) in message
    assert all(name in message for name in hub.PUBLISHED)
    assert "hub:owner/name" in message


# the encoder that comes with the package


@pytest.fixture(scope="module")
def tiny():
    return load("tiny")


def test_it_is_small_and_needs_no_network(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MATPAC_CACHE", str(tmp_path / "none"))
    monkeypatch.setattr("socket.socket", None)
    encoder = load("tiny")
    assert encoder.card.name == "tiny"
    assert not (tmp_path / "none").exists()
    assert hub.PACKAGED["tiny"].stat().st_size <= 8_000_000


def test_it_is_the_recipes_network_and_its_card_has_steps_and_scores(tiny) -> None:
    recipe = RECIPES["tiny-fine"]()
    assert tiny.encoder.config == recipe.objective.encoder
    assert tiny.logmel.config == recipe.logmel
    assert tiny.card.step > 4_000  # of the last two runs
    text = hub.PACKAGED["tiny"].with_suffix(".md").read_text(encoding="utf-8")
    assert f"{tiny.card.step:,} steps" in text
    assert len(re.findall(r"^\| \w+ \| (?:accuracy|mAP) \| [\d.]+ ± [\d.]+ \|", text, re.MULTILINE)) == 8


def test_it_tells_sounds_apart(tiny) -> None:
    """Two notes of one pitch are nearer to each other than to noise, and an octave is heard."""
    time = torch.arange(48_000) / 16_000
    generator = torch.Generator().manual_seed(0)

    def note(pitch: float, phase: float) -> torch.Tensor:
        overtones = torch.arange(1, 5)[:, None]
        return (0.1 / overtones * torch.sin(2 * torch.pi * pitch * overtones * time + phase)).sum(0)

    noise = 0.1 * torch.randn(48_000, generator=generator)
    one, same, octave, hiss = tiny.scene([note(220, 0), note(220, 1), note(440, 0), noise], 16_000)
    assert torch.dist(one, same) < torch.dist(one, octave)
    assert torch.dist(one, same) < torch.dist(one, hiss)


def test_its_name_is_suggested(tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(CheckpointError, match=r"Did you mean tiny\?.*tiny comes with matpac"):
        load("tinny")
    monkeypatch.chdir(tmp_path)
    Path("tiny").mkdir()
    with pytest.raises(CheckpointError, match="neither a run folder"):
        load("./tiny")
    assert load("tiny").card.name == "tiny"
