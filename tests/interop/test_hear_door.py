"""What HEAR asks of a module (hearbenchmark.com/hear-api.html), point by point, with weights of every kind."""

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import matpac
from helpers.tiny_encoder import tiny
from matpac.files.checkpoint import save
from matpac.files.onnx.export import export_onnx
from matpac.interop import hear
from matpac.probe.encoders import open_encoder
from matpac.probe.hear import open_hear

RATES = (16_000, 22_050, 32_000, 44_100, 48_000)
"""That HEAR's corpora come in."""


@pytest.fixture(scope="module", params=["safetensors", "onnx"])
def weights(request, tmp_path_factory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("hear") / f"x.{request.param}"
    if request.param == "onnx":
        export_onnx(tiny(), path)
    else:
        save(tiny(), path)
    return path


@pytest.fixture
def model(weights: Path) -> hear.HearModel:
    return hear.load_model(str(weights))


def noise(count: int, samples: int) -> torch.Tensor:
    return 2 * torch.rand(count, samples, generator=torch.Generator().manual_seed(0)) - 1


def test_load_model_takes_a_path_that_may_be_left_out(monkeypatch) -> None:
    parameter = inspect.signature(hear.load_model).parameters["model_file_path"]
    assert parameter.default == ""
    loaded = []
    monkeypatch.setattr(hear, "load", lambda source: loaded.append(source) or tiny())
    hear.load_model()
    hear.load_model("mine")
    assert loaded == ["matpac++", "mine"]


def test_the_model_is_a_module_with_the_attributes(model: hear.HearModel) -> None:
    assert isinstance(model, nn.Module)
    assert model.sample_rate in RATES
    for size in (model.scene_embedding_size, model.timestamp_embedding_size):
        assert type(size) is int
        assert size == 16


@pytest.mark.parametrize(("count", "seconds"), [(16, 2.0), (1, 0.025), (3, 3.74), (2, 0.5)])
def test_timestamp_embeddings(model: hear.HearModel, count: int, seconds: float) -> None:
    audio = noise(count, round(seconds * model.sample_rate))
    embeddings, timestamps = hear.get_timestamp_embeddings(audio, model)
    assert embeddings.dtype == torch.float32
    assert embeddings.device == audio.device
    assert embeddings.shape[0] == count
    assert embeddings.shape[2] == model.timestamp_embedding_size
    assert timestamps.shape == embeddings.shape[:2]
    # in ms, at the frames' centres, increasing, at one interval
    assert timestamps[0, 0] == 87.5
    assert (timestamps.diff(dim=1) == 160).all()
    assert (timestamps == timestamps[0]).all()
    assert timestamps.max() < 1000 * seconds + 160 or seconds < 0.1
    expected = model.encoder.frames(audio, model.sample_rate)[0]
    torch.testing.assert_close(embeddings, expected)


def test_timestamps_of_twenty_minutes_are_exact(model: hear.HearModel) -> None:
    times = (1000 * model.encoder.times(7_500)).to(torch.float32)
    assert torch.equal(times, 87.5 + 160 * torch.arange(7_500))


@pytest.mark.parametrize(("count", "seconds"), [(8, 3.74), (1, 0.025), (2, 0.5)])
def test_scene_embeddings(model: hear.HearModel, count: int, seconds: float) -> None:
    audio = noise(count, round(seconds * model.sample_rate))
    embeddings = hear.get_scene_embeddings(audio, model)
    assert embeddings.dtype == torch.float32
    assert embeddings.shape == (count, model.scene_embedding_size)
    torch.testing.assert_close(embeddings, model.encoder.scene(audio, model.sample_rate))
    assert torch.equal(model(audio), embeddings)
    alone = hear.get_scene_embeddings(audio[:1], model)
    torch.testing.assert_close(alone, embeddings[:1], atol=1e-6, rtol=1e-5)


def test_nothing_is_learned(model: hear.HearModel) -> None:
    audio = noise(1, 9_000).requires_grad_()
    assert not hear.get_scene_embeddings(audio, model).requires_grad
    assert not hear.get_timestamp_embeddings(audio, model)[0].requires_grad


def test_our_own_probe_of_hear_modules_takes_it(weights: Path) -> None:
    encoder = open_encoder(f"hear:matpac.interop.hear:{weights}")
    clips = [noise(1, samples)[0].numpy() for samples in (9_000, 9_000, 5_000)]
    expected = matpac.load(weights).embed(clips)
    torch.testing.assert_close(encoder.embed(clips), expected, atol=1e-6, rtol=1e-5)
    assert encoder.encoder.sample_rate == 16_000
    other = weights.with_name("other.safetensors")
    save(tiny(), other)
    assert open_hear("matpac.interop.hear", str(other)).key != encoder.key


def test_what_is_too_short_is_told(model: hear.HearModel) -> None:
    for call in (hear.get_scene_embeddings, hear.get_timestamp_embeddings):
        with pytest.raises(matpac.AudioError, match="shorter than one window"):
            call(noise(2, 399), model)
        with pytest.raises(matpac.AudioError, match="not finite"):
            call(torch.full((1, 9_000), np.nan), model)
