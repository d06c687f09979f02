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
from matpac.finetune.network import HeadError, Start, TaggingNetwork, as_embedder, open_network
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


def test_drop_path_drops_branches_for_clips_and_keeps_the_mean() -> None:
    """Probabilities rise linearly from the first block; attention and MLP of a block are dropped separately."""
    network = TaggingNetwork(Encoder(replace(ENCODER, depth=3)), 3, drop_path_rate=0.4)
    factors = network.draw_drop_path(4_000, torch.Generator().manual_seed(0))
    assert factors.shape == (4, 4_000)
    for branch, probability in zip(factors, [0.2, 0.2, 0.4, 0.4], strict=True):
        assert set(branch.tolist()) == {0.0, float(torch.tensor(1 / (1 - probability)))}
        assert abs(float((branch == 0).float().mean()) - probability) < 5 * math.sqrt(0.25 / 4_000)
    assert TaggingNetwork(Encoder(ENCODER), 3).draw_drop_path(5, torch.Generator()).shape == (0, 5)


def test_a_dropped_branch_adds_nothing() -> None:
    torch.manual_seed(0)
    network = TaggingNetwork(Encoder(ENCODER), 3, drop_path_rate=0.5)
    network.head.norm.eval()
    nn.init.normal_(network.head.linear.weight)
    logmel = torch.randn(2, 16, 96)
    whole = network(logmel)
    torch.testing.assert_close(network(logmel, drop=torch.ones(2, 2)), whole)
    skipped = network(logmel, drop=torch.tensor([[0.0, 1.0], [0.0, 1.0]]))
    torch.testing.assert_close(skipped[1], whole[1])
    tokens = network.encoder.transformer.blocks[0](network.encoder.with_cls(network.encoder.patch_tokens(logmel)))
    expected = network.head(network.encoder.transformer.norm(tokens)[:, 1:].mean(1))  # as if there were no block 1
    torch.testing.assert_close(skipped[0], expected[0])
    torch.testing.assert_close(network(logmel), whole)
    torch.testing.assert_close(network.eval()(logmel, drop=torch.zeros(2, 2)), whole)


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
