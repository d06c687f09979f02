"""Encoders by name: what each gives, and that keys tell different vectors apart."""

from pathlib import Path

import numpy as np
import pytest
import torch

import matpac
from helpers.hear_modules import GOOD, importable
from helpers.tiny_encoder import tiny
from matpac import AudioError
from matpac.files.save import save
from matpac.files.tensor_files import CheckpointError
from matpac.model.encoders import EncoderError, FrozenEncoder, NamedEncoder
from matpac.model.logmel import LogMel, LogMelConfig
from matpac.model.network import weights_digest
from matpac.model.vit import SIZES
from matpac.pretrain.recipes import RECIPES
from matpac.probe.encoders import open_encoder, untrained


def noise(*lengths: int) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [0.1 * random.standard_normal(length).astype(np.float32) for length in lengths]


def test_a_saved_encoder_is_what_load_opens(tmp_path: Path) -> None:
    embedder = tiny()
    spec = str(save(embedder, tmp_path / "mine.safetensors"))
    named = open_encoder(spec)
    assert (named.name, named.layers) == (spec, 2)
    clips = noise(16_000, 9_000)
    torch.testing.assert_close(named.embed(clips), matpac.load(spec).embed(clips))
    assert named.key == embedder.key


def test_random_encoders_are_drawn_by_size_and_seed() -> None:
    named = open_encoder("random:tiny")
    assert named.layers == SIZES["tiny"].depth
    clips = noise(16_000)
    expected = untrained(SIZES["tiny"], LogMelConfig(), 0).embed(clips)
    torch.testing.assert_close(named.embed(clips), expected)
    assert open_encoder("random:tiny:0").key == named.key
    assert open_encoder("random:tiny:1").key != named.key
    assert open_encoder("random:small").encoder.embed(clips).shape == (1, 5 * 384)


def test_random_encoders_are_drawn_by_recipe() -> None:
    """With the recipe's log-mel: of tiny-fine, 160 bands in 10 rows of patches."""
    named, recipe = open_encoder("random:tiny-fine:3"), RECIPES["tiny-fine"]()
    expected = untrained(recipe.objective.encoder, recipe.logmel, 3)
    (clip,) = noise(16_000)
    assert named.embed([clip]).shape == (1, 10 * 192)
    torch.testing.assert_close(named.embed([clip]), expected.embed([clip]))


def test_logmel_statistics_are_mean_and_deviation() -> None:
    named = open_encoder("logmel")
    assert (named.name, named.layers) == ("logmel", 0)
    (clip,) = noise(8_000)
    spectrogram = LogMel()(torch.from_numpy(clip)[None])[0].double().numpy()
    expected = np.concatenate([spectrogram.mean(1), spectrogram.std(1)])
    np.testing.assert_allclose(named.embed([clip])[0].numpy(), expected, atol=1e-5)
    finer = open_encoder("logmel:tiny-fine")
    assert finer.embed([clip]).shape == (1, 2 * 160)
    assert finer.key != named.key
    assert open_encoder("logmel:matpac++").key == named.key
    with pytest.raises(AudioError, match=r"clip 1: 6\.2 ms of sound is shorter than one window"):
        named.embed(noise(800, 100))
    assert named.embed([]).shape == (0, 160)


def test_keys_change_with_weights_and_settings_alone() -> None:
    embedder = tiny()
    key = embedder.key
    headed = tiny(classes=3)
    headed.encoder.load_state_dict(embedder.encoder.state_dict())
    assert headed.key == key  # the vectors are the same
    louder = matpac.Embedder(embedder.encoder, LogMelConfig(mels=16, mean=-7.0))
    assert louder.key != key
    with torch.no_grad():
        next(iter(embedder.encoder.parameters())).view(-1)[0] += 1e-3
    assert embedder.key != key


def test_the_digest_sees_names_kinds_shapes_and_bytes() -> None:
    state = {"a": torch.zeros(2, 3), "b": torch.ones(1)}
    same = {"b": torch.ones(1), "a": torch.zeros(3, 2).T}
    assert weights_digest(same) == weights_digest(state)
    others = [
        {"a": torch.zeros(3, 2), "b": torch.ones(1)},
        {"a": torch.zeros(2, 3, dtype=torch.int32), "b": torch.ones(1)},
        {"c": torch.zeros(2, 3), "b": torch.ones(1)},
        {"a": torch.zeros(2, 3), "b": torch.tensor([1.0 + 2**-23])},
    ]
    assert len({weights_digest(other) for other in [state, *others]}) == 5


def test_hear_by_name(tmp_path: Path) -> None:
    with importable(tmp_path, "hear_by_name", GOOD) as module:
        named = open_encoder(f"hear:{module}")
        assert (named.name, named.layers, named.encoder.sample_rate) == (f"hear:{module}", 0, 8_000)
        assert named.embed(noise(4_000)).shape == (1, 3)


@pytest.mark.parametrize(
    ("spec", "error", "told"),
    [
        (
            "random:huge",
            EncoderError,
            "random:huge: no size 'huge'; there are tiny, small, base, and each recipe's: matpac, ",
        ),
        ("logmel:huge", EncoderError, "logmel:huge: no recipe 'huge'; there are matpac, matpac++"),
        ("logmel:", EncoderError, "logmel:: no recipe ''"),
        ("random:tiny:x", EncoderError, "seed 'x' is no whole number from 0 up"),
        ("random:tiny:-1", EncoderError, "seed '-1'"),
        ("random:tiny:99999999999999999999", EncoderError, "no whole number from 0 up of fewer than 20 digits"),
        ("hear:no_such_module_here", EncoderError, "no_such_module_here can't be imported"),
        ("hear:", EncoderError, "no module named"),
        ("logmels", CheckpointError, "no published name"),
    ],
)
def test_wrong_names_are_told(spec: str, error: type[Exception], told: str) -> None:
    with pytest.raises(error) as caught:
        open_encoder(spec)
    assert told in str(caught.value)


@pytest.mark.parametrize("shape", [(1, 4), (2,), (2, 1, 4), (2, 0)])
def test_a_wrong_shape_is_one_clear_error(shape: tuple[int, ...]) -> None:
    class Wrong:
        sample_rate = 16_000

        def embed(self, clips: object) -> torch.Tensor:
            return torch.zeros(shape)

    assert isinstance(Wrong(), FrozenEncoder)
    named = NamedEncoder("wrong", Wrong(), "0")
    with pytest.raises(EncoderError, match=r"^wrong: gave a tensor of shape \[.*\] for 2 clips") as caught:
        named.embed(noise(100, 100))
    assert str(list(shape)) in str(caught.value)


def test_what_is_no_tensor_is_named() -> None:
    class Wrong:
        sample_rate = 16_000

        def embed(self, clips: object) -> list[float]:
            return [1.0]

    with pytest.raises(EncoderError, match="wrong: gave a list for 1 clips"):
        NamedEncoder("wrong", Wrong(), "0").embed(noise(100))  # pyright: ignore[reportArgumentType]
