"""The network that is fine-tuned: drop-path, an encoder's own head, longer positions, encoders that cannot be."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import matpac
from helpers.tagging_corpora import ENCODER, PITCHES, class_folders, encoder_file
from matpac.files.onnx.export import export_onnx
from matpac.files.save import save
from matpac.finetune.clips import LabelledClips, read_labelled
from matpac.finetune.network import DropPath, HeadError, Start, TaggingNetwork, as_embedder, open_network
from matpac.finetune.options import FinetuneOptions
from matpac.finetune.recipes import small
from matpac.model.embedder import Card, Embedder
from matpac.model.heads import SceneProbe
from matpac.model.logmel import LogMelConfig
from matpac.model.vit import Encoder
from matpac.tasks import read_task

RECIPE = replace(small(), frames=48)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> LabelledClips:
    root = class_folders(tmp_path_factory.mktemp("folders"), seconds=0.3)
    return read_labelled(read_task("folder", root), "", root / "clips.parquet")


def start(encoder: Path | str, clips: LabelledClips, head: Any = "auto", frames: int = 48) -> Start:
    options = FinetuneOptions(encoder=str(encoder), task="folder", root="sounds", output="run", head=head)
    return open_network(options, replace(RECIPE, frames=frames), clips)


@pytest.mark.parametrize("probability", [0.1, 0.5])
def test_drop_path_drops_clips_and_keeps_the_mean(probability: float) -> None:
    torch.manual_seed(0)
    x = torch.randn(4_000, 2, 3).abs() + 0.1
    drop, module = DropPath(probability), nn.Identity()
    changed = drop(module, (x,), x)
    gone = (changed == 0).flatten(1)
    assert torch.equal(gone.all(dim=1), gone.any(dim=1))
    stays = ~gone[:, 0]
    torch.testing.assert_close(changed[stays], x[stays] / (1 - probability))
    assert abs(1 - float(stays.float().mean()) - probability) < 5 * math.sqrt(0.25 / 4_000)
    assert drop(module.eval(), (x,), x) is x


def test_drop_path_rises_linearly_from_the_first_block() -> None:
    network = TaggingNetwork(Encoder(replace(ENCODER, depth=3)), 3, drop_path_rate=0.4)
    blocks = network.encoder.transformer.blocks
    hooks = [list(block.attn._forward_hooks.values()) for block in blocks]  # type: ignore[union-attr]
    assert hooks == [[], [DropPath(0.2)], [DropPath(0.4)]]


def test_patches_that_are_not_kept_do_not_count() -> None:
    torch.manual_seed(0)
    network = TaggingNetwork(Encoder(ENCODER), 3).eval()
    logmel, kept = torch.randn(2, 16, 96), torch.tensor([[0, 2, 3], [1, 4, 5]])
    nn.init.normal_(network.head.linear.weight)
    torch.testing.assert_close(network(logmel), network(logmel, torch.arange(6).expand(2, -1)))
    seen = network(logmel, kept)
    logmel[0, :, 16:32] = logmel[1, :, :16] = 9.0
    torch.testing.assert_close(network(logmel, kept), seen)


def test_a_head_of_the_same_labels_is_kept_in_their_new_order(clips: LabelledClips, tmp_path: Path) -> None:
    names = ["middle", "high", "low"]
    source = encoder_file(tmp_path / "tagger.safetensors", labels=names)
    old = matpac.load(source).head
    assert old is not None
    expected = old.linear.weight[[names.index(name) for name in clips.task.classes]]
    kept = start(source, clips)
    assert torch.equal(kept.network.head.linear.weight, expected)
    assert all(parameter.requires_grad for parameter in kept.network.parameters())
    assert not torch.equal(start(source, clips, "new").network.head.linear.weight, expected)


@pytest.mark.parametrize(
    ("labels", "classes", "named"),
    [(["low", "middle", "loud"], None, "'high'"), ((), 7, "7 classes"), ((), None, "no head")],
)
def test_a_head_that_does_not_fit_is_not_kept(
    labels: Any, classes: int | None, named: str, clips: LabelledClips, tmp_path: Path
) -> None:
    source = encoder_file(tmp_path / "tagger.safetensors", labels, classes)
    with pytest.raises(HeadError, match=rf"tagger\.safetensors: .*{named}"):
        start(source, clips, "keep")
    assert start(source, clips).notes[-1].startswith("a new head")


def test_more_labels_or_none_are_kept_only_when_asked(clips: LabelledClips, tmp_path: Path) -> None:
    wide = encoder_file(tmp_path / "wide.safetensors", [*sorted(PITCHES), "noise"])
    nameless = encoder_file(tmp_path / "nameless.safetensors", classes=3)
    for source in (wide, nameless):
        old = matpac.load(source).head
        assert old is not None
        assert "--head keep" in start(source, clips).notes[-1]
        assert torch.equal(start(source, clips, "keep").network.head.linear.weight, old.linear.weight[:3])


def test_a_probe_of_scenes_is_not_kept(clips: LabelledClips, tmp_path: Path) -> None:
    probe = SceneProbe(ENCODER.bands * ENCODER.width, len(PITCHES))
    embedder = Embedder(Encoder(ENCODER), LogMelConfig(mels=16), probe, Card(labels=tuple(sorted(PITCHES))))
    source = save(embedder, tmp_path / "probe.safetensors")
    with pytest.raises(HeadError, match=r"probe\.safetensors: its head is a probe of whole scenes"):
        start(source, clips, "keep")
    for head in ("auto", "new"):
        assert start(source, clips, head).notes[-1].startswith("a new head")


def test_longer_inputs_get_longer_positions(clips: LabelledClips, tmp_path: Path) -> None:
    source = encoder_file(tmp_path / "encoder.safetensors")
    longer = start(source, clips, frames=128)
    assert longer.network.encoder.config.frames == 128
    old = matpac.load(source).encoder.positions[1:].view(1, 6, 32)
    torch.testing.assert_close(longer.network.encoder.positions[1:].view(1, 8, 32)[:, :6], old)
    assert "128 frames" in longer.notes[0]


def test_the_embedder_shares_the_networks_weights_and_leaves_them_learning(
    clips: LabelledClips, tmp_path: Path
) -> None:
    begun = start(encoder_file(tmp_path / "encoder.safetensors"), clips)
    embedder = as_embedder(begun.network, begun.logmel, Card())
    assert embedder.encoder is begun.network.encoder
    assert all(parameter.requires_grad for parameter in begun.network.parameters())
    assert not begun.network.training


def test_other_encoders_cannot_be_fine_tuned(clips: LabelledClips, tmp_path: Path) -> None:
    export_onnx(Embedder(Encoder(ENCODER), LogMelConfig(mels=16)), tmp_path / "x.onnx")
    for encoder in ("logmel", str(tmp_path / "x.onnx")):
        with pytest.raises(matpac.MatpacError, match=rf"{Path(encoder).name}: only matpac's own encoders"):
            start(encoder, clips)
