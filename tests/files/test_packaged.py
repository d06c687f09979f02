"""The encoder that comes with the package: small, at once, offline, and the one that its card tells of."""

import re
from pathlib import Path

import pytest
import torch

import matpac
from matpac.errors import MatpacError
from matpac.files.hub import PACKAGED
from matpac.pretrain.recipes import RECIPES


@pytest.fixture(scope="module")
def tiny():
    return matpac.load("tiny")


def test_it_is_small_and_needs_no_network(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MATPAC_CACHE", str(tmp_path / "none"))
    monkeypatch.setattr("socket.socket", None)
    encoder = matpac.load("tiny")
    assert encoder.card.name == "tiny"
    assert not (tmp_path / "none").exists()
    assert PACKAGED["tiny"].stat().st_size <= 8_000_000


def test_it_is_the_recipes_network_and_its_card_has_steps_and_scores(tiny) -> None:
    recipe = RECIPES["tiny-fine"]()
    assert tiny.encoder.config == recipe.objective.encoder
    assert tiny.logmel.config == recipe.logmel
    assert tiny.card.step > 4_000  # of the last two runs
    text = PACKAGED["tiny"].with_suffix(".md").read_text(encoding="utf-8")
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
    with pytest.raises(MatpacError, match=r"Did you mean tiny\?.*tiny comes with matpac"):
        matpac.load("tinny")
    monkeypatch.chdir(tmp_path)
    Path("tiny").mkdir()
    with pytest.raises(MatpacError, match="neither a run folder"):
        matpac.load("./tiny")
    assert matpac.load("tiny").card.name == "tiny"
