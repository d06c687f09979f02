"""An ONNX file as an encoder: everything that an encoder does, and what it can't said in a line."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import matpac
from helpers.sound_files import write_sound
from helpers.tiny_encoder import tiny
from matpac.files.checkpoint import save
from matpac.files.onnx.export import export_onnx
from matpac.files.onnx.runtime import OnnxNetwork
from matpac.model.embedder import Embedder
from matpac.probe.encoders import open_encoder
from matpac.vectors.embed_files import EmbedOptions, embed_files

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


def close(one: torch.Tensor, other: torch.Tensor) -> None:
    torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lengths=st.lists(st.integers(400, 20_000), min_size=1, max_size=6), rate=st.sampled_from([16_000, 22_050]))
def test_scenes_and_frames_of_many_clips(pair, lengths: list[int], rate: int) -> None:
    theirs, mine = pair
    clips = [sound(2 * length, seed) for seed, length in enumerate(lengths)]
    close(mine.scene(clips, rate), theirs.scene(clips, rate))
    for parts in zip(*mine.frames(clips, rate), *theirs.frames(clips, rate), strict=True):
        close(parts[0], parts[2])
        assert parts[1].equal(parts[3])


def test_the_same_interface(pair) -> None:
    theirs, mine = pair
    assert isinstance(mine.network, OnnxNetwork)
    for name in ("sample_rate", "width", "hop"):
        assert getattr(mine, name) == getattr(theirs, name)
    assert mine.times(5).equal(theirs.times(5))
    clips = [sound(9_000), sound(12_000, 1)]
    close(mine.embed(clips), theirs.embed(clips))
    close(mine.logits(clips, 16_000), theirs.logits(clips, 16_000))
    close(mine.probabilities(clips, 16_000), theirs.probabilities(clips, 16_000))
    assert mine.probabilities(clips, 16_000).sum(1).tolist() == pytest.approx([1, 1])
    tags = mine.tags(clips, 16_000, top=2)
    assert [[tag.label for tag in row] for row in tags] == [
        [tag.label for tag in row] for row in theirs.tags(clips, 16_000, top=2)
    ]
    found, expected = (encoder.frame_probabilities(clips[0], 16_000)[0] for encoder in (mine, theirs))
    assert isinstance(found, torch.Tensor)
    assert isinstance(expected, torch.Tensor)
    close(found, expected)
    blocks = [[clip[:5_000], clip[5_000:]] for clip in clips]
    for call in (Embedder.scenes, Embedder.frame_sequences):
        for one, other in zip(call(mine, blocks), call(theirs, blocks), strict=True):
            assert one is not None
            assert other is not None
            close(one, other)
    assert mine.scene([], 16_000).shape == (0, mine.width)
    failures = []
    assert list(mine.scenes([[sound(10)]], failed=lambda *told: failures.append(told))) == [None]
    assert "shorter than one window" in str(failures[0][1])
    with matpac.stream(mine, 16_000) as stream:
        first = stream.push(sound(9_000)).frames
    close(torch.cat([first, stream.finish().frames]), theirs.frames(sound(9_000), 16_000)[0][0])


def test_the_card_comes_along(pair) -> None:
    card = pair[1].card
    assert (card.labels, card.exclusive, card.step, card.source) == (LABELS, True, 5, "onnx float32")
    assert card.name.endswith("x.onnx")


def test_the_last_layer_alone(pair) -> None:
    mine, clip = pair[1], sound(9_000)
    close(mine.scene(clip, 16_000, layers=[-1]), pair[0].scene(clip, 16_000, layers=[-1]))
    close(mine.scene(clip, 16_000, layers=[1]), pair[0].scene(clip, 16_000, layers=[1]))
    for layers in ("all", [0], [0, 1], []):
        with pytest.raises(matpac.MatpacError, match="has the last layer alone"):
            mine.scene(clip, 16_000, layers=layers)
    assert mine.depth == 0


def test_it_has_no_weights(pair, tmp_path: Path) -> None:
    mine = pair[1]
    for look in (lambda: mine.encoder, lambda: save(mine, tmp_path / "y")):
        with pytest.raises(matpac.MatpacError, match=r"x\.onnx: its weights lie in an ONNX file"):
            look()


def test_vectors_of_different_files_are_told_apart(pair, tmp_path: Path) -> None:
    export_onnx(pair[0], tmp_path / "8.onnx", int8="dynamic")
    mine, eight = pair[1], matpac.load(tmp_path / "8.onnx")
    keys = {encoder.key for encoder in (pair[0], mine, eight)}
    assert len(keys) == 3
    assert matpac.load(tmp_path / "8.onnx").key == eight.key


def test_a_device_that_onnx_runtime_has_not(pair) -> None:
    with pytest.warns(UserWarning, match="runs on the CPU, since this onnxruntime has no CUDAExecutionProvider"):
        encoder = matpac.load(pair[1].card.name, device="cuda")
    close(encoder.scene(sound(9_000), 16_000), pair[0].scene(sound(9_000), 16_000))


def test_files_and_probes_take_it(pair, tmp_path: Path) -> None:
    files = [write_sound(tmp_path / f"{n}.wav", 22_050, 0.5 + 0.2 * n, seed=n) for n in range(3)]
    result = embed_files([str(file) for file in files], pair[1], EmbedOptions(str(tmp_path / "v.npz")))
    assert result.files == 3
    kept = np.load(tmp_path / "v.npz")
    expected = pair[0].scene([matpac.read(file) for file in files], 16_000)
    np.testing.assert_allclose(kept["vectors"], expected.numpy(), atol=1e-5)
    named = open_encoder(pair[1].card.name)
    assert named.layers == 0
    close(named.embed([sound(9_000)]), pair[0].embed([sound(9_000)]))


def test_it_computes_on_as_many_threads_as_pytorch(pair) -> None:
    mine = pair[1]
    assert isinstance(mine.network, OnnxNetwork)
    options = mine.network._session.get_session_options()
    assert options.intra_op_num_threads == torch.get_num_threads()
