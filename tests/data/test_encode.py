"""Sound files to 16 kHz, mono, 16 bits."""

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.shard_files import decoded
from helpers.sound_files import GOOD, cut_file, make_mixed_folder, make_sound, write_sound
from matpac import audio
from matpac.audio import AudioError
from matpac.data.packing.encode import CONTAINERS, encode, planned_bytes, to_16_bits


@pytest.mark.parametrize("encoding", CONTAINERS)
def test_every_format_becomes_its_nearest_16_bits(encoding: str, tmp_path: Path) -> None:
    files = make_mixed_folder(tmp_path)
    for name in GOOD:
        target = io.BytesIO()
        samples = encode(str(files[name]), target, encoding)
        info = soundfile.info(io.BytesIO(target.getvalue()))
        assert (info.samplerate, info.channels, info.subtype, info.frames) == (16_000, 1, "PCM_16", samples)
        assert info.format == CONTAINERS[encoding]
        whole = np.concatenate(list(audio.blocks(files[name])))
        np.testing.assert_allclose(decoded(target.getvalue())[:, 0], whole, atol=0.5 / 32_768 + 1e-7)


@pytest.mark.parametrize("encoding", CONTAINERS)
def test_16_bits_at_16_khz_pass_without_loss(encoding: str, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(-32_768, 32_768, 50_000).astype(np.int16)
    values[:2] = -32_768, 32_767
    soundfile.write(tmp_path / "a.wav", values, 16_000, subtype="PCM_16")
    target = io.BytesIO()
    assert encode(str(tmp_path / "a.wav"), target, encoding) == 50_000
    np.testing.assert_array_equal(soundfile.read(io.BytesIO(target.getvalue()), dtype="int16")[0], values)


@given(st.lists(st.floats(-4, 4, width=32), min_size=1, max_size=50))
def test_rounding_and_clipping(values: list[float]) -> None:
    expected = [max(-32_768, min(32_767, round(value * 32_768))) for value in values]
    assert to_16_bits(np.array(values, np.float32)).tolist() == expected


@settings(deadline=None, max_examples=20)
@given(st.integers(400, 60_000))
def test_planned_bytes_of_pcm_are_right(samples: int) -> None:
    target = io.BytesIO()
    soundfile.write(target, np.zeros(samples, np.int16), 16_000, format="WAV", subtype="PCM_16")
    assert planned_bytes(samples / 16_000, "pcm16") == len(target.getvalue())


def test_planned_bytes_of_flac_are_near(tmp_path: Path) -> None:
    write_sound(tmp_path / "a.wav", 16_000, 4.0)
    target = io.BytesIO()
    encode(str(tmp_path / "a.wav"), target, "flac")
    assert 0.5 < planned_bytes(4.0, "flac") / len(target.getvalue()) < 2


def test_what_cannot_be_decoded_is_an_audio_error(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", make_sound(16_000, 2.0), 16_000)
    cut_file(tmp_path / "a.flac", tmp_path / "cut.flac")
    with pytest.raises(AudioError, match="cut short"):
        encode(str(tmp_path / "cut.flac"), io.BytesIO(), "flac")
