"""An ONNX file as an encoder: it does what PyTorch's does, and names what it can't."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

import matpac
from helpers.sound_files import write_sound
from helpers.tiny_encoder import tiny
from matpac import read
from matpac.files.onnx.export import export_onnx
from matpac.files.save import save
from matpac.model.embedder import Embedder
from matpac.model.gather import Frames, Mean
from matpac.probe.encoders import open_encoder
from matpac.vectors.embed import EmbedOptions, embed_files
from matpac.vectors.road import Road

LABELS = ("cat", "dog", "rain")


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> tuple[Embedder, Embedder]:
    torch.manual_seed(0)
    encoder = tiny(classes=3, labels=LABELS, exclusive=True, step=5)
    path = tmp_path_factory.mktemp("onnx") / "x.onnx"
    export_onnx(encoder, path)
    return encoder, matpac.load(path)


def sound(samples: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def close(one, other) -> None:
    torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lengths=st.lists(st.integers(400, 20_000), min_size=1, max_size=6), rate=st.sampled_from([16_000, 22_050]))
def test_scenes_and_frames_of_many_clips(pair, lengths: list[int], rate: int) -> None:
    torch_encoder, onnx_encoder = pair
    clips = [sound(2 * length, seed) for seed, length in enumerate(lengths)]
    close(onnx_encoder.scene(clips, rate), torch_encoder.scene(clips, rate))
    close(onnx_encoder.frames(clips, rate), torch_encoder.frames(clips, rate))


def test_the_same_interface(pair) -> None:
    torch_encoder, onnx_encoder = pair
    clips = [sound(9_000), sound(12_000, 1)]
    for name in ("sample_rate", "width", "hop", "config"):
        assert getattr(onnx_encoder, name) == getattr(torch_encoder, name)
    for call in ("logits", "frame_probabilities"):
        close(getattr(onnx_encoder, call)(clips, 16_000), getattr(torch_encoder, call)(clips, 16_000))
    tags, expected = (encoder.tags(clips, 16_000, top=2) for encoder in pair)
    assert [[tag.label for tag in row] for row in tags] == [[tag.label for tag in row] for row in expected]
    assert onnx_encoder.scene([], 16_000).shape == (0, onnx_encoder.width)
    with matpac.stream(onnx_encoder, 16_000) as stream:
        first = stream.push(sound(9_000)).frames
    close(torch.cat([first, stream.finish().frames]), torch_encoder.frames(sound(9_000), 16_000)[0][0])
    assert onnx_encoder.network._session.get_session_options().intra_op_num_threads == torch.get_num_threads()
    card = onnx_encoder.card
    assert (card.labels, card.exclusive, card.step, card.source) == (LABELS, True, 5, "onnx float32")
    assert card.name.endswith("x.onnx")


def test_the_last_layer_alone(pair) -> None:
    onnx_encoder = pair[1]
    assert onnx_encoder.depth == 0
    for layers in ([-1], [1]):
        close(*(encoder.scene(sound(9_000), 16_000, layers=layers) for encoder in pair))
    for layers in ("all", [0], [0, 1], []):
        with pytest.raises(matpac.MatpacError, match=r"x\.onnx: an ONNX file has the last layer alone"):
            onnx_encoder.scene(sound(9_000), 16_000, layers=layers)


def test_it_has_no_weights(pair, tmp_path: Path) -> None:
    for call in (lambda: pair[1].encoder, lambda: save(pair[1], tmp_path / "y")):
        with pytest.raises(matpac.MatpacError, match=r"x\.onnx: its weights lie in an ONNX file"):
            call()


def test_through_the_road_and_by_name(pair, tmp_path: Path) -> None:
    torch_encoder, onnx_encoder = pair
    path = write_sound(tmp_path / "a.wav", 16_000, 1.3)
    bad = tmp_path / "bad.wav"
    bad.touch()
    for reduction in (Mean, Frames):
        found, expected = (list(Road(encoder, reduction).rows([path, bad])) for encoder in pair)
        assert [row.error for row in found] == [row.error for row in expected]
        close(found[0].vectors, expected[0].vectors)
    embed_files([str(path)], onnx_encoder, EmbedOptions(str(tmp_path / "v.parquet"), frames=True))
    frames, times = torch_encoder.frames(read(path), 16_000)
    table = parquet.read_table(tmp_path / "v.parquet")
    np.testing.assert_allclose(table["vector"].to_pylist(), frames[0], atol=1e-5)
    assert table["time"].to_pylist() == pytest.approx(times.tolist())
    named = open_encoder(onnx_encoder.card.name)
    assert (named.key, named.layers) == (onnx_encoder.key, 0)
    close(named.embed([read(path)]), torch_encoder.scene(read(path), 16_000))


def test_keys_tell_files_apart(pair, tmp_path: Path) -> None:
    export_onnx(pair[0], tmp_path / "8.onnx", int8=True)
    eight, again = (matpac.load(tmp_path / "8.onnx") for _ in range(2))
    assert len({encoder.key for encoder in (*pair, eight)}) == 3
    assert again.key == eight.key


def test_a_device_that_onnx_runtime_does_not_have(pair) -> None:
    with pytest.warns(UserWarning, match=r"x\.onnx: runs on the CPU"):
        encoder = matpac.load(pair[1].card.name, device="cuda")
    close(encoder.logits(sound(9_000), 16_000), pair[0].logits(sound(9_000), 16_000))
