"""Export: checked before it is written; float32 and 8 bits; and the command."""

import copy
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import matpac
from helpers.tiny_encoder import tiny
from matpac.files.onnx import checking, export
from matpac.files.onnx.checking import ExportError, check_lengths, made_up_sounds, relative_difference
from matpac.files.onnx.export import export_onnx
from matpac.files.onnx.graph import network_graph
from matpac.files.onnx.quantise import linear_layers
from matpac.files.onnx.smoothing import smoothed
from matpac.model.embedder import Embedder
from matpac.model.logmel import LogMelConfig
from matpac.model.vit import Block, Encoder, EncoderConfig

LAYERS = 1 + 2 * 4  # the patches', and four a block
WIDER = EncoderConfig(width=64, depth=2, heads=2, mels=16, frames=32)


def wider() -> Embedder:
    """With rows long enough for 8 bits to be worth it."""
    torch.manual_seed(0)
    return Embedder(Encoder(WIDER), LogMelConfig(mels=16))


def sounds(count: int, samples: int = 7_000) -> list[np.ndarray]:
    """Loud and quiet ones in no order."""
    made = made_up_sounds([samples + 100 * number for number in range(count)], 16_000)
    return [made[number] for number in np.random.default_rng(0).permutation(count)]


def cosine(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(one, other).min())


def test_a_report_of_what_was_written(tmp_path: Path) -> None:
    done = export_onnx(tiny(), tmp_path / "x.onnx")
    assert done.size == (tmp_path / "x.onnx").stat().st_size
    assert done.agreement.difference < 1e-5
    assert done.agreement.lengths == tuple(check_lengths(tiny()))
    assert (done.precision, done.cosines, done.layers, done.kept) == ("float32", None, (), ())
    assert [path.name for path in tmp_path.iterdir()] == ["x.onnx"]


def test_lengths_are_checked_around_every_edge() -> None:
    config = LogMelConfig()
    frames = [config.frames(samples) for samples in check_lengths(tiny())]
    assert {1, 15, 16, 17, 31, 32, 33} <= set(frames)
    assert max(frames) > 64
    smallest = Embedder(
        Encoder(EncoderConfig(width=8, depth=1, heads=1, mels=16, frames=16)), LogMelConfig(mels=16)
    )
    assert min(check_lengths(smallest)) >= config.window


def spoil(where: str):
    """Exports that go wrong: one number of one tensor is another one."""

    def graph(embedder: Embedder) -> onnx.ModelProto:
        model = network_graph(embedder)
        tensor = next(t for t in model.graph.initializer if t.name == where)
        array = onnx.numpy_helper.to_array(tensor).copy()
        array.flat[0] += 0.05
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, where))
        return model

    return graph


@pytest.mark.parametrize(
    "where", ["encoder.transformer.norm.bias", "encoder.cls_token", "logmel.mean", "head.bias"]
)
def test_a_wrong_graph_is_not_written(where: str, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "x.onnx").write_bytes(b"what was there")
    monkeypatch.setattr(export, "network_graph", spoil(where))
    with pytest.raises(ExportError, match=r"differs by .* nothing was written"):
        export_onnx(tiny(3), tmp_path / "x.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["x.onnx"]
    assert (tmp_path / "x.onnx").read_bytes() == b"what was there"


def test_differences_are_shares_of_large_values_and_nan_is_one() -> None:
    one = torch.tensor([100.0, 0.0])
    assert relative_difference(one, one + 1) == pytest.approx(0.01)
    assert relative_difference(one / 1000, one / 1000 + 0.5) == pytest.approx(0.5)
    assert relative_difference(one, one * torch.nan) == float("inf")


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda folder: export_onnx(tiny(), folder / "x.pt"), "ONNX files end on .onnx"),
        (lambda folder: export_onnx(tiny(), folder / "no" / "x.onnx"), "is not there; make it first"),
        (lambda folder: export_onnx(tiny(), folder / "x.onnx", sounds=sounds(1)), "add --int8"),
        (lambda folder: export_onnx(tiny(), folder / "x.onnx", keep_float=["*"]), "add --int8"),
        (lambda folder: export_onnx(tiny(), folder / "x.onnx", int8="static"), "give some like yours"),
        (
            lambda folder: export_onnx(tiny(), folder / "x.onnx", int8="dynamic", keep_float=["*.fc3"]),
            r"\*\.fc3: fits no layer; there are encoder\.patch_embed",
        ),
        (
            lambda folder: export_onnx(tiny(), folder / "x.onnx", int8="dynamic", keep_float=["*"]),
            "leaves nothing to round",
        ),
    ],
)
def test_calls_that_make_no_sense(call, told: str, tmp_path: Path) -> None:
    with pytest.raises(matpac.MatpacError, match=told):
        call(tmp_path)
    assert not list(tmp_path.iterdir())


def test_onnx_is_not_exported_again(tmp_path: Path) -> None:
    export_onnx(tiny(), tmp_path / "x.onnx")
    with pytest.raises(matpac.MatpacError, match="is an ONNX file already"):
        export_onnx(matpac.load(tmp_path / "x.onnx"), tmp_path / "y.onnx")


@pytest.mark.parametrize("int8", ["dynamic", "static"])
def test_8_bits_stay_close_and_are_smaller(int8, tmp_path: Path, capfd) -> None:
    encoder = wider()
    plain = export_onnx(encoder, tmp_path / "plain.onnx")
    given = sounds(20) if int8 == "static" else []
    done = export_onnx(encoder, tmp_path / "x.onnx", int8=int8, sounds=given)
    assert (done.precision, len(done.layers), done.kept) == (f"int8 {int8}", LAYERS, ())
    assert done.cosines is not None
    assert (done.cosines.mean, done.cosines.sounds) == (pytest.approx(1, abs=1e-3), 5 if given else 8)
    assert done.size < plain.size - 3 * 64 * 64 * 12  # three bytes of four, of most of the weights
    loaded = matpac.load(tmp_path / "x.onnx")
    assert loaded.card.source == f"int8 {int8}".join(["onnx ", ""])
    fresh = sounds(6, 5_000)
    found, reference = loaded.scene(fresh, 16_000), encoder.scene(fresh, 16_000)
    assert cosine(found, reference) > 0.999
    assert not found.equal(reference)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("int8", ["dynamic", "static"])
def test_8_bits_give_a_clip_the_same_beside_others(int8, tmp_path: Path) -> None:
    export_onnx(wider(), tmp_path / "x.onnx", int8=int8, sounds=sounds(20))
    encoder = matpac.load(tmp_path / "x.onnx")
    clips = [0.01 * sounds(1)[0], *sounds(3, 5_500), sounds(1, 13_000)[0]]
    together = encoder.scene(clips, 16_000)
    for clip, scene in zip(clips, together, strict=True):
        torch.testing.assert_close(encoder.scene(clip, 16_000)[0], scene, atol=1e-6, rtol=0)


def test_layers_that_stay_float(tmp_path: Path) -> None:
    patterns = ["*.mlp.fc2", "encoder.patch_embed"]
    done = export_onnx(wider(), tmp_path / "x.onnx", int8="dynamic", keep_float=patterns)
    assert done.kept == (
        "encoder.patch_embed",
        "encoder.transformer.blocks.0.mlp.fc2",
        "encoder.transformer.blocks.1.mlp.fc2",
    )
    assert len(done.layers) == LAYERS - 3
    kinds = {t.name: t.data_type for t in onnx.load(tmp_path / "x.onnx").graph.initializer}
    assert kinds["encoder.patch_embed.weight"] == onnx.TensorProto.FLOAT
    assert kinds["encoder.transformer.blocks.0.mlp.fc1.weight_quantized"] == onnx.TensorProto.INT8
    assert "encoder.transformer.blocks.0.mlp.fc2.weight_quantized" not in kinds


def test_the_networks_layers_are_found_and_nothing_else() -> None:
    names = linear_layers(network_graph(tiny(3)))
    assert len(names) == LAYERS
    assert not [name for name in names if name.endswith(("scores", "mix", "mel", "head"))]


def with_outliers(encoder: Embedder, factor: float) -> Embedder:
    """The same function with one channel of every norm that much louder."""
    loud = copy.deepcopy(encoder)
    with torch.no_grad():
        for block in loud.encoder.transformer.blocks:
            assert isinstance(block, Block)
            for norm, linear in ((block.norm1, block.attn.qkv), (block.norm2, block.mlp.fc1)):
                norm.weight[3] *= factor
                norm.bias[3] *= factor
                linear.weight[:, 3] /= factor
    return loud


def test_smoothing_changes_nothing_but_how_well_it_rounds(tmp_path: Path) -> None:
    encoder = wider()
    loud = with_outliers(encoder, 1_000)
    clips = sounds(8)
    smooth = smoothed(loud, clips)
    torch.testing.assert_close(smooth.scene(clips, 16_000), encoder.scene(clips, 16_000), atol=1e-4, rtol=0)
    assert torch.equal(loud.scene(clips, 16_000), with_outliers(encoder, 1_000).scene(clips, 16_000)), "unchanged"
    scales = [
        weight.abs().max().item() for name, weight in smooth.named_parameters() if name.endswith("norm1.weight")
    ]
    assert len(scales) == 2
    assert max(scales) < 100
    with pytest.raises(ExportError, match="turn away"):
        export_onnx(loud, tmp_path / "plain.onnx", int8="dynamic")
    done = export_onnx(loud, tmp_path / "smooth.onnx", int8="dynamic", sounds=clips)
    assert done.cosines is not None
    assert done.cosines.mean > 0.9995


def test_8_bits_that_turn_the_vectors_are_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(checking, "LEAST_COSINE", 1.1)
    with pytest.raises(ExportError, match=r"in 8 bits its scenes turn away .* nothing was written"):
        export_onnx(wider(), tmp_path / "x.onnx", int8="dynamic")
    assert not list(tmp_path.iterdir())


def test_the_measured_cosines_are_the_cosines() -> None:
    one, other = tiny(), tiny()
    clips = sounds(3)
    pairs = zip(one.scene(clips, 16_000).numpy(), other.scene(clips, 16_000).numpy(), strict=True)
    expected = [float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)) for a, b in pairs]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checking, "LEAST_COSINE", -1)
        found = checking.check_cosines(one, other, clips)
    assert (found.mean, found.least) == pytest.approx((np.mean(expected), min(expected)), abs=1e-6)
    assert found.sounds == 3


def test_made_up_sounds_are_sounds() -> None:
    made = made_up_sounds([7_000] * 5, 16_000)
    assert all(np.isfinite(sound).all() and np.abs(sound).max() <= 1 and sound.std() > 0 for sound in made)
    levels = [sound.std() for sound in made[:4]]
    assert levels == sorted(levels, reverse=True)
    assert levels[0] > 100 * levels[3]
