"""What X-ARES requires of an encoder (its README and its `check_audio_encoder`), point by point."""

import re
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from torch import nn

from helpers.tiny_encoder import tiny
from matpac.files.save import save
from matpac.interop import xares
from matpac.interop.xares import MatpacEncoder


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    return save(tiny(), tmp_path_factory.mktemp("xares") / "x.safetensors")


@pytest.mark.parametrize("samples", [400, 9_000, 50_000])
def test_frames_of_a_batch(weights: Path, samples: int) -> None:
    encoder, audio = MatpacEncoder(str(weights)), torch.randn(2, samples)
    assert isinstance(encoder, nn.Module)
    assert (encoder.sampling_rate, encoder.output_dim, encoder.hop_size_in_ms) == (16_000, 16, 160)
    frames = encoder(audio)
    assert frames.dtype == torch.float32
    assert frames.shape == (2, frames.shape[1], encoder.output_dim)
    assert abs(frames.shape[1] - 1000 * samples / encoder.sampling_rate / encoder.hop_size_in_ms) <= 1
    torch.testing.assert_close(frames, encoder.embedder.frames(audio, 16_000)[0])
    assert torch.equal(encoder(audio[0]), encoder(audio[:1]))
    assert not frames.requires_grad


def test_an_own_file_has_one_encoder_that_needs_no_argument(weights: Path, tmp_path: Path, monkeypatch) -> None:
    """As the module's docstring shows it; X-ARES takes the one name of the file that ends on Encoder."""
    shown = re.search(r"\n *# my_encoder.py\n(.+?)\n *\$", xares.__doc__ or "", re.DOTALL)
    assert shown
    code = textwrap.dedent(shown[1]).replace("runs/mine", str(weights))
    (tmp_path / "made_encoder.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    import made_encoder  # pyright: ignore[reportMissingImports]

    try:
        names = [name for name in dir(made_encoder) if name.endswith("Encoder")]
        assert len(names) == 1
        assert getattr(made_encoder, names[0])().output_dim == 16
    finally:
        del sys.modules["made_encoder"]
    assert [name for name in dir(xares) if name.endswith("Encoder")] == ["MatpacEncoder"]


def test_the_default_encoder(monkeypatch) -> None:
    loaded = []
    monkeypatch.setattr("matpac.interop.xares.load", lambda source: loaded.append(source) or tiny())
    MatpacEncoder()
    assert loaded == ["matpac++"]
