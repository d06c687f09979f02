"""Export: checked before it is written; float32 and 8 bits, with outliers smoothed."""

import copy
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import matpac
from helpers.tiny_encoder import tiny
from matpac.files.onnx import export
from matpac.files.onnx.export import (
    ExportError,
    check_lengths,
    export_onnx,
    relative_difference,
    scene_cosines,
    synthetic_sounds,
)
from matpac.files.onnx.graph import network_graph
from matpac.files.onnx.int8 import smoothed
from matpac.model.embedder import Embedder
from matpac.model.logmel import LogMelConfig
from matpac.model.vit import Block, Encoder, EncoderConfig

LAYERS = 1 + 2 * 4  # the patches', and four per block


@pytest.fixture(scope="module")
def wider() -> Embedder:
    """With rows long enough for 8 bits to be worth it."""
    torch.manual_seed(0)
    config = EncoderConfig(width=64, depth=2, heads=2, mels=16, frames=32)
    return Embedder(Encoder(config), LogMelConfig(mels=16))


def sounds(count: int, samples: int = 7_000) -> list[np.ndarray]:
    """Loud and quiet ones in no order."""
    made = synthetic_sounds([samples + 100 * number for number in range(count)], 16_000)
    return [made[number] for number in np.random.default_rng(0).permutation(count)]


def test_what_was_written_is_reported(tmp_path: Path) -> None:
    encoder = tiny()
    done = export_onnx(encoder, tmp_path / "x.onnx")
    assert (done.size, done.precision) == ((tmp_path / "x.onnx").stat().st_size, "float32")
    assert done.difference < 1e-5
    assert [path.name for path in tmp_path.iterdir()] == ["x.onnx"]
    frames = [LogMelConfig().frames(samples) for samples in done.lengths]
    assert {1, 15, 16, 17, 31, 32, 33} <= set(frames)
    assert max(frames) > 64
    one_patch = EncoderConfig(width=8, depth=1, heads=1, mels=16, frames=16)
    assert min(check_lengths(Embedder(Encoder(one_patch), LogMelConfig(mels=16)))) >= 400


@pytest.mark.parametrize(
    "where", ["encoder.transformer.norm.bias", "encoder.cls_token", "logmel.mean", "head.bias"]
)
def test_a_wrong_graph_is_not_written(where: str, tmp_path: Path, monkeypatch) -> None:
    def spoiled(embedder: Embedder) -> onnx.ModelProto:
        """The graph with another number in one tensor."""
        model = network_graph(embedder)
        tensor = next(t for t in model.graph.initializer if t.name == where)
        array = onnx.numpy_helper.to_array(tensor).copy()
        array.flat[0] += 0.05
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, where))
        return model

    (tmp_path / "x.onnx").write_bytes(b"what was there")
    monkeypatch.setattr(export, "network_graph", spoiled)
    with pytest.raises(ExportError, match="differs by"):
        export_onnx(tiny(3), tmp_path / "x.onnx")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("x.onnx", b"what was there")]


def test_differences_are_shares_of_large_values_and_nan_is_one() -> None:
    one = torch.tensor([100.0, 0.0])
    assert relative_difference(one, one + 1) == pytest.approx(0.01)
    assert relative_difference(one / 1000, one / 1000 + 0.5) == pytest.approx(0.5)
    assert relative_difference(one, one * torch.nan) == float("inf")


def test_calls_that_make_no_sense(tmp_path: Path) -> None:
    for name, given in (("x.pt", ()), ("no/x.onnx", ()), ("x.onnx", sounds(1))):
        with pytest.raises(matpac.MatpacError, match=name):
            export_onnx(tiny(), tmp_path / name, sounds=given)
    assert not list(tmp_path.iterdir())
    export_onnx(tiny(), tmp_path / "x.onnx")
    with pytest.raises(matpac.MatpacError, match=r"x\.onnx: is an ONNX file already"):
        export_onnx(matpac.load(tmp_path / "x.onnx"), tmp_path / "y.onnx")


@pytest.mark.parametrize("given", [0, 20])
def test_8_bits(given: int, wider: Embedder, tmp_path: Path, capfd) -> None:
    plain = export_onnx(wider, tmp_path / "plain.onnx")
    done = export_onnx(wider, tmp_path / "x.onnx", int8=True, sounds=sounds(given))
    assert (done.precision, len(done.layers)) == ("int8 dynamic", LAYERS)
    assert not [name for name in done.layers if name.endswith(("scores", "mix", "mel", "head"))]
    assert done.cosines is not None
    assert (done.cosines.mean, done.cosines.sounds) == (pytest.approx(1, abs=1e-3), 5 if given else 4)
    assert done.size < plain.size - 3 * 64 * 64 * 12  # three bytes of four, of most of the weights
    encoder = matpac.load(tmp_path / "x.onnx")
    fresh = [0.01 * sounds(1)[0], *sounds(3, 5_500), sounds(1, 13_000)[0]]
    together, reference = encoder.scene(fresh, 16_000), wider.scene(fresh, 16_000)
    assert torch.cosine_similarity(together, reference).min() > 0.999
    assert not together.equal(reference)
    for clip, scene in zip(fresh, together, strict=True):
        torch.testing.assert_close(encoder.scene(clip, 16_000)[0], scene, atol=1e-6, rtol=0)
    assert capfd.readouterr().err == ""


def with_outliers(encoder: Embedder, factor: float) -> Embedder:
    """The same function with one channel of every norm that much louder."""
    loud = copy.deepcopy(encoder)
    for block in loud.encoder.transformer.blocks:
        assert isinstance(block, Block)
        for norm, linear in ((block.norm1, block.attn.qkv), (block.norm2, block.mlp.fc1)):
            norm.weight[3] *= factor
            norm.bias[3] *= factor
            linear.weight[:, 3] /= factor
    return loud


def test_smoothing_changes_nothing_but_how_well_it_rounds(wider: Embedder, tmp_path: Path, monkeypatch) -> None:
    loud, clips = with_outliers(wider, 1_000), sounds(8)
    before = loud.scene(clips, 16_000)
    smooth = smoothed(loud, clips)
    assert loud.scene(clips, 16_000).equal(before)
    torch.testing.assert_close(smooth.scene(clips, 16_000), wider.scene(clips, 16_000), atol=1e-4, rtol=0)
    weights = [w.abs().max() for name, w in smooth.named_parameters() if name.endswith("norm1.weight")]
    assert len(weights) == 2
    assert max(weights) < 100
    cosines = export_onnx(loud, tmp_path / "smooth.onnx", int8=True).cosines
    assert cosines is not None
    assert cosines.mean > 0.9995
    monkeypatch.setattr(export, "smoothed", lambda embedder, sounds: embedder)
    with pytest.raises(ExportError, match="8 bits change its scenes"):
        export_onnx(loud, tmp_path / "plain.onnx", int8=True)
    assert [path.name for path in tmp_path.iterdir()] == ["smooth.onnx"]


def test_the_measured_cosines_are_the_cosines() -> None:
    one, other, clips = tiny(), tiny(), sounds(3)
    pairs = zip(one.scene(clips, 16_000).numpy(), other.scene(clips, 16_000).numpy(), strict=True)
    expected = [float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)) for a, b in pairs]
    found = scene_cosines(one, other, clips)
    assert (found.mean, found.least) == pytest.approx((np.mean(expected), min(expected)), abs=1e-6)
    assert found.sounds == 3


def test_synthetic_sounds_are_sounds() -> None:
    made = synthetic_sounds([7_000] * 5, 16_000)
    assert all(np.isfinite(sound).all() and np.abs(sound).max() <= 1 and sound.std() > 0 for sound in made)
    levels = [sound.std() for sound in made[:4]]
    assert levels == sorted(levels, reverse=True)
    assert levels[0] > 100 * levels[3]
