"""What HEAR requires of a module (hearbenchmark.com/hear-api.html), point by point, with weights of every kind."""

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import matpac
from helpers.tiny_encoder import tiny
from matpac.files.onnx.export import export_onnx
from matpac.files.save import save
from matpac.interop import hear
from matpac.probe.encoders import open_encoder


@pytest.fixture(scope="module", params=["safetensors", "onnx"])
def weights(request, tmp_path_factory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("hear") / f"x.{request.param}"
    return export_onnx(tiny(), path).path if request.param == "onnx" else save(tiny(), path)


@pytest.fixture(scope="module")
def model(weights: Path) -> hear.HearModel:
    return hear.load_model(str(weights))


def noise(count: int, samples: int) -> torch.Tensor:
    return 2 * torch.rand(count, samples, generator=torch.Generator().manual_seed(0)) - 1


def test_load_model_takes_an_optional_path(monkeypatch) -> None:
    assert inspect.signature(hear.load_model).parameters["model_file_path"].default == ""
    loaded = []
    monkeypatch.setattr(hear, "load", lambda source: loaded.append(source) or tiny())
    hear.load_model()
    hear.load_model("mine")
    assert loaded == ["matpac++", "mine"]


@pytest.mark.parametrize(("count", "seconds"), [(1, 0.025), (3, 3.74)])
def test_scenes_and_timestamps(model: hear.HearModel, count: int, seconds: float) -> None:
    assert isinstance(model, nn.Module)
    assert model.sample_rate in (16_000, 22_050, 32_000, 44_100, 48_000)  # rates of HEAR's corpora
    audio = noise(count, round(seconds * model.sample_rate)).requires_grad_()
    scenes, (frames, timestamps) = model(audio), hear.get_timestamp_embeddings(audio, model)
    assert scenes.equal(hear.get_scene_embeddings(audio, model))
    assert scenes.dtype == frames.dtype == torch.float32
    assert not scenes.requires_grad
    assert not frames.requires_grad
    assert scenes.shape == (count, model.scene_embedding_size)
    assert frames.shape == (*timestamps.shape, model.timestamp_embedding_size)
    # in ms, at the frames' centres
    assert timestamps.equal((87.5 + 160 * torch.arange(timestamps.shape[1])).expand(count, -1))
    torch.testing.assert_close(scenes, model.encoder.scene(audio, model.sample_rate))
    torch.testing.assert_close(frames, model.encoder.frames(audio, model.sample_rate)[0])


def test_timestamps_of_twenty_minutes_are_exact(model: hear.HearModel) -> None:
    assert (1000 * model.encoder.times(7_500)).float().equal(87.5 + 160 * torch.arange(7_500))


def test_matpac_probe_takes_the_module(weights: Path) -> None:
    encoder = open_encoder(f"hear:matpac.interop.hear:{weights}")
    clips = [noise(1, samples)[0].numpy() for samples in (9_000, 9_000, 5_000)]
    torch.testing.assert_close(encoder.embed(clips), matpac.load(weights).embed(clips), atol=1e-6, rtol=1e-5)
    other = save(tiny(), weights.with_name("other.safetensors"))
    assert open_encoder(f"hear:matpac.interop.hear:{other}").key != encoder.key


@pytest.mark.parametrize("call", [hear.get_scene_embeddings, hear.get_timestamp_embeddings])
@pytest.mark.parametrize("audio", [torch.zeros(2, 399), torch.full((1, 9_000), np.nan)])
def test_unusable_sound(model: hear.HearModel, call, audio: torch.Tensor) -> None:
    with pytest.raises(matpac.AudioError, match="clip 0"):
        call(audio, model)
