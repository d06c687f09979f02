"""Sound files: what is read equals what was written, and parts equal the whole."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.sound_files import GOOD, make_mixed_folder, make_sound, write_sound
from matpac import audio
from matpac.audio import files

RATES = (8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000)
LOSSY = {"album/stereo_22k.ogg", "album/mono_16k.mp3", "album/deep/stereo_48k.OPUS"}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_mixed_folder(tmp_path_factory.mktemp("mixed"))


@pytest.fixture(scope="module")
def waves(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp("waves")
    return {rate: write_sound(folder / f"{rate}.wav", rate, 4.1, 2, seed=rate) for rate in RATES}


# --- finding -----------------------------------------------------------------------------------------------


def test_find_audio_searches_deep_in_order_and_skips_hidden_and_other_files(mixed: dict[str, Path]) -> None:
    root = mixed["text.wav"].parent
    (root / ".cache").mkdir(exist_ok=True)
    (root / ".cache" / "a.wav").touch()
    assert audio.find_audio([root]) == sorted(mixed.values(), key=str)
    found = audio.find_audio([root / "notes.txt", str(mixed["click.wav"]), root])  # files as they are, each once
    assert found[:2] == [root / "notes.txt", mixed["click.wav"]]
    assert len(found) == len(set(found)) == len(mixed) + 1
    with pytest.raises(audio.AudioError, match=r"^.*nowhere: no such file or folder"):
        audio.find_audio([root / "nowhere"])


def test_find_audio_survives_a_link_back_up(tmp_path: Path) -> None:
    wave = write_sound(tmp_path / "deep" / "a.wav", 8_000, 0.1)
    (tmp_path / "deep" / "up").symlink_to(tmp_path, target_is_directory=True)
    assert audio.find_audio([tmp_path]) == [wave]


# --- headers, whole files, blocks --------------------------------------------------------------------------


def test_info_reads_what_was_written(mixed: dict[str, Path]) -> None:
    for name, (rate, channels, seconds, _, _) in GOOD.items():
        info = audio.info(mixed[name])
        assert (info.path, info.sample_rate, info.channels) == (str(mixed[name]), rate, channels)
        assert info.duration == pytest.approx(seconds, abs=1e-9)


@pytest.mark.parametrize("name", list(GOOD))
def test_read_is_the_mean_of_the_channels_resampled(mixed: dict[str, Path], name: str) -> None:
    rate, channels, seconds, _, _ = GOOD[name]
    written = make_sound(rate, seconds, channels, seed=list(GOOD).index(name))
    expected = soxr.resample(written.mean(axis=1), rate, 16_000, quality="HQ")
    waveform = audio.read(mixed[name])
    assert waveform.dtype == np.float32
    assert waveform.shape == expected.shape
    if name in LOSSY:
        assert np.corrcoef(waveform, expected)[0, 1] > 0.9  # in time, too: no delay of the codec is left
    else:
        np.testing.assert_allclose(waveform, expected, atol=1e-4)  # 16 bits


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize(("seconds", "to_rate"), [(0.01, 16_000), (0.3, 44_100), (30.0, 16_000)])
def test_blocks_put_together_are_the_whole_file(
    waves: dict[int, Path], rate: int, seconds: float, to_rate: int
) -> None:
    written, _ = soundfile.read(waves[rate], dtype="float32")
    expected = soxr.resample(written.mean(axis=1), rate, to_rate, quality="HQ")
    pieces = list(audio.blocks(waves[rate], seconds, to_rate))
    assert all(piece.dtype == np.float32 and len(piece) > 0 for piece in pieces)
    np.testing.assert_allclose(np.concatenate(pieces), expected, atol=1e-5)
    np.testing.assert_allclose(audio.read(waves[rate], to_rate), expected, atol=1e-5)


# --- crops -------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(RATES), st.floats(0, 4.0), st.integers(1, 40_000))
def test_crop_equals_the_same_part_of_the_whole(
    waves: dict[int, Path], rate: int, start: float, samples: int
) -> None:
    whole = audio.read(waves[rate])
    first = round(start * 16_000)
    expected = whole[first : first + samples]
    crop = audio.read_crop(waves[rate], start, samples)
    assert crop.shape == expected.shape
    np.testing.assert_allclose(crop, expected, atol=2e-5)


def test_crop_reads_no_more_than_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_sound(tmp_path / "long.wav", 44_100, 60.0)
    asked: list[int] = []
    original = soundfile.SoundFile.read

    def counting(self: soundfile.SoundFile, frames: int = -1, *args: object, **options: object) -> object:
        asked.append(frames)
        return original(self, frames, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(soundfile.SoundFile, "read", counting)
    audio.read_crop(path, 30.0, 16_000)
    assert 44_100 < sum(asked) < 44_100 + 5_000


def test_crop_behind_the_end_and_before_the_start(waves: dict[int, Path], tmp_path: Path) -> None:
    path = write_sound(tmp_path / "click.wav", 44_100, 1 / 44_100)  # shorter than a sample
    assert (audio.read(path).shape, list(audio.blocks(path))) == ((0,), [])
    with pytest.raises(audio.AudioError, match=r"click\.wav: no samples"):
        audio.read_crop(path, 0.0, 100)
    with pytest.raises(audio.AudioError, match=r"16000\.wav: no samples at 4\.50 s"):
        audio.read_crop(waves[16_000], 4.5, 100)
    with pytest.raises(ValueError, match="starts at 0 s or later"):
        audio.read_crop(waves[16_000], -1.0, 100)


# --- what no decoder foresaw -------------------------------------------------------------------------------


@pytest.mark.parametrize("read", [audio.info, audio.read, lambda path: audio.read_crop(path, 0.0, 100)])
def test_any_error_of_a_library_names_the_file(
    waves: dict[int, Path], monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], object]
) -> None:
    def fail(path: Path) -> None:
        raise raised

    monkeypatch.setattr(files, "open_decoder", fail)
    raised: BaseException = AttributeError("no such thing")
    with pytest.raises(audio.AudioError, match=r"8000\.wav: .*AttributeError: no such thing.*FLAC") as caught:
        read(waves[8_000])
    assert caught.value.__cause__ is raised
    for raised in (MemoryError(), PermissionError(), KeyboardInterrupt(), audio.AudioError("x.wav: bad")):
        with pytest.raises(type(raised)) as caught:
            read(waves[8_000])
        assert caught.value is raised


@pytest.mark.parametrize(
    ("value", "why"), [(-1e25, r"a sample that is too large .*-1e\+25"), (np.nan, "a sample that is not finite")]
)
def test_samples_that_are_no_sound(tmp_path: Path, value: float, why: str) -> None:
    sound = make_sound(16_000, 1.0)
    sound[8_000] = value
    soundfile.write(tmp_path / "wild.wav", sound, 16_000, subtype="FLOAT")
    with pytest.raises(audio.AudioError, match=rf"wild\.wav: {why}.* at 0\.50 s"):
        audio.read(tmp_path / "wild.wav")
    assert len(audio.read_crop(tmp_path / "wild.wav", 0.6, 1_000)) == 1_000


def test_unusable_samples_by_place_and_kind() -> None:
    assert audio.unusable(np.empty(0, np.float32)) is None
    assert audio.unusable(np.array([-(2.0**31), 2.0**31], np.float32)) is None  # 32-bit integers as floats
    for value, kind in ((-np.inf, "not finite"), (3e10, "too large")):
        place, why = audio.unusable(np.array([0.0, value, np.nan], np.float32)) or (None, "")
        assert (place, kind in why) == (1, True)
    assert audio.unusable(np.array([0.5, np.inf], np.float16)) == (1, "not finite (NaN or infinite)")


# --- arrays ------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 5_000), st.sampled_from(RATES), st.sampled_from(RATES))
def test_resample_keeps_a_tone_at_the_length_of_the_ratio(samples: int, from_rate: int, to_rate: int) -> None:
    length = round(samples * to_rate / from_rate)
    waveform, tone = (
        np.sin(2 * np.pi * 500 * np.arange(count) / rate).astype(np.float32)
        for count, rate in ((samples, from_rate), (length, to_rate))
    )
    resampled = audio.resample(waveform, from_rate, to_rate)
    assert resampled.dtype == np.float32
    assert abs(len(resampled) - samples * to_rate / from_rate) <= 0.5 + 1e-6
    edge = round(0.03 * to_rate)
    size = min(len(resampled), length) - edge
    np.testing.assert_allclose(resampled[edge:size], tone[edge:size], atol=1e-4)
    if from_rate == to_rate:
        assert resampled is waveform
