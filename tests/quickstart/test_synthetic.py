"""The synthetic corpus: its files and labels are right, and its sounds are what they are called."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from matpac.errors import MatpacError
from matpac.quickstart.synthetic import corpus as corpus_module
from matpac.quickstart.synthetic.corpus import TASKS, Clip, CorpusConfig, make_corpus, plan, render_clip
from matpac.quickstart.synthetic.scenes import (
    CONTOURS,
    PATTERNS,
    SOURCES,
    melody,
    melody_pitches,
    mixture_kinds,
    note_hz,
    rhythm_onsets,
    source_phrase,
)
from matpac.quickstart.synthetic.signals import band_noise, coloured_noise, record
from matpac.quickstart.synthetic.voices import REGISTERS, VOICES

RATE = 16_000
SMALL = CorpusConfig(pretrain_clips=9, train_clips=18, valid_clips=16, test_clips=17, seconds=2.0, seed=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a complete small corpus."""
    folder = tmp_path_factory.mktemp("made") / "corpus"
    make_corpus(folder, SMALL, workers=1)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


# The corpus on disk


def test_sounds_are_clean_and_all_different(folder: Path) -> None:
    paths = list(folder.rglob("*.wav"))
    assert len({path.read_bytes() for path in paths}) == len(paths) == 9 + 4 * (18 + 16 + 17)
    for path in paths:
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.subtype, info.frames) == (RATE, 1, "PCM_16", 2 * RATE)
        sound = soundfile.read(path)[0]
        assert 0.05 < np.abs(sound).max() < 0.95, path
        assert max(abs(sound[0]), abs(sound[-1])) < 0.01 * np.abs(sound).max(), path


@pytest.mark.parametrize("task", TASKS)
def test_tables_name_all_files_and_every_split_has_all_classes(folder: Path, task: str) -> None:
    column, most = ("labels", 4) if task == "mixture" else ("label", 1)
    with (folder / f"{task}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", column, "split"]
    assert {row["path"] for row in rows} == {f"{task}/{path.name}" for path in (folder / task).iterdir()}
    for split, count in (("train", 18), ("valid", 16), ("test", 17)):
        labels = [row[column].split(";") for row in rows if row["split"] == split]
        assert len(labels) == count
        assert {label for clip in labels for label in clip} == set(TASKS[task])
        assert all(1 <= len(set(clip)) == len(clip) <= most for clip in labels)


@pytest.mark.slow
def test_same_bytes_from_several_processes(folder: Path, tmp_path: Path) -> None:
    make_corpus(tmp_path, SMALL, workers=2)
    assert contents(tmp_path) == contents(folder)


def test_another_seed_makes_other_sounds() -> None:
    first, second = (plan(CorpusConfig(seed=seed))[0] for seed in (0, 1))
    assert first.path == second.path
    assert not np.array_equal(render_clip(first, 2.0), render_clip(second, 2.0))


def test_an_interrupted_corpus_resumes_and_a_lost_file_is_restored(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def break_once(clip: Clip, seconds: float) -> np.ndarray:
        made.append(clip.path)
        if len(made) == 21:
            raise KeyboardInterrupt
        return render_clip(clip, seconds)

    monkeypatch.setattr(corpus_module, "render_clip", break_once)
    with pytest.raises(KeyboardInterrupt):
        make_corpus(tmp_path, SMALL, workers=1)
    assert len(list(tmp_path.rglob("*.wav"))) == 20
    make_corpus(tmp_path, SMALL, workers=1)
    assert len(made) == len(plan(SMALL)) + 1  # the clip that was interrupted
    (tmp_path / "melody" / "test_00003.wav").unlink()
    make_corpus(tmp_path, SMALL, workers=1)
    assert made[-1] == "melody/test_00003.wav"
    make_corpus(tmp_path, SMALL, workers=1)
    assert len(made) == len(plan(SMALL)) + 2
    assert contents(tmp_path) == contents(folder)


def test_another_configuration_replaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def quick(clip: Clip, seconds: float) -> np.ndarray:
        return np.full(100, 0.1 + 0.1 * clip.seed[0], dtype=np.float32)  # the seed as sound

    monkeypatch.setattr(corpus_module, "render_clip", quick)
    counts = {"train_clips": 16, "valid_clips": 16, "test_clips": 16}
    first, second = (CorpusConfig(pretrain_clips=5 - seed, seed=seed, **counts) for seed in (0, 1))
    for folder, config in (("a", first), ("a", second), ("b", second)):
        make_corpus(tmp_path / folder, config, workers=1)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert json.loads((tmp_path / "a" / "corpus.json").read_text())["seed"] == 1


@pytest.mark.parametrize(("name", "text"), [("source/mine.txt", "mine"), ("corpus.json", "{")])
def test_a_folder_with_other_files_is_left_alone(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / name).write_text(text)
    with pytest.raises(MatpacError, match=str(tmp_path)):
        make_corpus(tmp_path, SMALL, workers=1)
    assert contents(tmp_path) == {name: text.encode()}


@pytest.mark.parametrize("values", [{"test_clips": 15}, {"seconds": 1.0}, {"seed": -1}])
def test_impossible_configurations(values: dict) -> None:
    with pytest.raises(MatpacError, match=next(iter(values))):
        CorpusConfig(**values)


# The sounds


def pitch(sound: np.ndarray, lowest: float = 60.0, highest: float = 2000.0) -> float:
    """Pitch in Hz by normalised autocorrelation: the shortest lag whose peak is near the highest."""
    sound = sound - sound.mean()
    spectrum = np.fft.rfft(sound, 2 * sound.size)
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)[: sound.size] / np.arange(sound.size, 0, -1)
    lags = np.arange(int(RATE / highest), int(RATE / lowest))
    here = correlation[lags]
    peaks = lags[1:-1][(here[1:-1] >= here[:-2]) & (here[1:-1] >= here[2:])]
    best = next(lag for lag in peaks if correlation[lag] >= 0.85 * correlation[peaks].max())
    left, top, right = correlation[best - 1 : best + 2]
    return RATE / (best + 0.5 * (left - right) / (left - 2 * top + right))


@pytest.mark.parametrize("kind", SOURCES)
@settings(deadline=None, max_examples=3)
@given(seed=st.integers(0, 2**32), samples=st.integers(8_000, 50_000))
def test_sources_sound_for_any_length(kind: str, seed: int, samples: int) -> None:
    sound = source_phrase(np.random.default_rng(seed), kind, samples)
    assert sound.dtype == np.float32
    assert sound.shape == (samples,)
    assert np.isfinite(sound).all()
    assert sound.std() > 1e-3


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**32), level=st.floats(1e-3, 1e3))
def test_recording_keeps_within_full_scale(seed: int, level: float) -> None:
    rng = np.random.default_rng(seed)
    dry = (level * rng.standard_normal(20_000)).astype(np.float32)
    recorded = record(rng, dry)
    assert np.isfinite(recorded).all()
    assert 0.06 < np.abs(recorded).max() < 0.9  # -24 to -1 dB
    assert recorded[0] == 0


@pytest.mark.parametrize("kind", sorted(set(VOICES) - {"bell"}))  # a bell's partials have no common pitch
def test_voices_are_in_tune(kind: str) -> None:
    for hz in (196.0, 440.0, 659.3):
        rng = np.random.default_rng(11)
        note = VOICES[kind](rng)(rng, hz, 8_000)
        assert pitch(note[1_000:5_000]) == pytest.approx(hz, rel=0.02)


def harmonics(kind: str, seed: int, hz: float = 250.0) -> np.ndarray:
    """Amplitudes of the first eight harmonics of a held note, from a windowed spectrum."""
    rng = np.random.default_rng(seed)
    held = VOICES[kind](rng)(rng, hz, 12_000)[4_000:12_000]
    spectrum = np.abs(np.fft.rfft(held * np.hanning(held.size)))
    width = held.size / RATE
    return np.array([spectrum[int((k * hz - 20) * width) : int((k * hz + 20) * width)].max() for k in range(1, 9)])


def test_clarinets_lack_even_harmonics_and_strings_do_not() -> None:
    for seed in range(5):
        clarinet, strings = harmonics("clarinet", seed), harmonics("strings", seed)
        assert clarinet[1::2].sum() < 0.3 * clarinet[::2].sum()
        assert strings[1::2].sum() > 0.3 * strings[::2].sum()


def test_brass_brightens_as_it_swells() -> None:
    rng = np.random.default_rng(5)
    note = VOICES["brass"](rng)(rng, 250.0, 12_000)

    def brightness(part: np.ndarray) -> float:
        power = np.abs(np.fft.rfft(part * np.hanning(part.size))) ** 2
        return float((power * np.fft.rfftfreq(part.size, 1 / RATE)).sum() / power.sum())

    assert brightness(note[:640]) < 0.9 * brightness(note[3_000:3_640])


def test_plucks_die_away_and_organs_do_not() -> None:
    for seed in range(3):
        rng = np.random.default_rng(seed)
        pluck, organ = (VOICES[kind](rng)(rng, 440.0, 16_000) for kind in ("pluck", "organ"))
        assert pluck[12_000:15_000].std() < 0.5 * pluck[500:3_500].std()
        assert organ[12_000:15_000].std() > 0.7 * organ[500:3_500].std()


def test_noises_have_their_slopes_and_bands() -> None:
    rng = np.random.default_rng(0)

    def level(sound: np.ndarray, low: float, high: float) -> float:
        bins = np.fft.rfftfreq(sound.size, 1 / RATE)
        return 10 * np.log10(np.mean(np.abs(np.fft.rfft(sound))[(bins >= low) & (bins < high)] ** 2))

    for slope in (0.0, -3.0, -6.0):
        noise = coloured_noise(rng, 60_000, slope)
        assert level(noise, 1800, 2200) - level(noise, 900, 1100) == pytest.approx(slope, abs=1.0)
        assert noise.std() == pytest.approx(1, rel=0.05)
    band = band_noise(rng, 60_000, 1000.0, 2000.0)
    assert level(band, 1200, 1700) > level(band, 6000, 7000) + 12


# What happens in them


@pytest.mark.parametrize("kind", ["clarinet", "strings"])
@pytest.mark.parametrize("contour", ["rising", "falling", "arch", "valley"])
def test_melodies_move_as_they_are_called(contour: str, kind: str) -> None:
    sound = melody(np.random.default_rng(2), contour, kind, 3 * RATE)
    frames = [sound[start : start + 1600] for start in range(0, sound.size - 1600, 800)]
    track = np.array([pitch(frame) for frame in frames if frame.std() > 0.5 * sound.std()])
    start, end = float(np.median(track[:4])), float(np.median(track[-4:]))
    low, middle, high = (float(hz) for hz in np.percentile(track, [5, 50, 95]))
    expected = {
        "rising": start * 1.05 < middle < end / 1.05,
        "falling": start / 1.05 > middle > end * 1.05,
        "arch": high > 1.05 * max(start, end),
        "valley": low < min(start, end) / 1.05,
    }
    assert expected[contour], (start, end, low, middle, high)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32), kind=st.sampled_from(sorted(VOICES)), contour=st.sampled_from(sorted(CONTOURS)))
def test_contours(seed: int, kind: str, contour: str) -> None:
    pitches = melody_pitches(np.random.default_rng(seed), contour, kind)
    steps = np.sign(np.diff(pitches))
    lowest, highest = REGISTERS[kind]
    assert lowest <= min(pitches) <= max(pitches) <= highest
    assert 5 <= len(pitches) <= 10
    turns = np.count_nonzero(np.diff(steps))
    if contour in ("rising", "falling"):
        assert (steps == (1 if contour == "rising" else -1)).all()
    elif contour in ("arch", "valley"):
        assert turns == 1
        assert steps[0] == (1 if contour == "arch" else -1)
        assert abs(np.count_nonzero(steps == 1) - np.count_nonzero(steps == -1)) <= 1
    elif contour == "zigzag":
        assert turns == len(steps) - 1
    else:
        assert np.count_nonzero(steps) in (1, 2)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32), pattern=st.sampled_from(sorted(PATTERNS)), seconds=st.floats(2.0, 6.0))
def test_rhythms(seed: int, pattern: str, seconds: float) -> None:
    onsets = rhythm_onsets(np.random.default_rng(seed), pattern, seconds)
    gaps = np.diff(onsets)
    assert onsets[0] >= 0
    assert onsets[-1] < seconds
    assert onsets.size >= 4
    assert gaps.min() > 0.08
    ratios = np.round(gaps / gaps.min(), 2)
    if PATTERNS[pattern]:
        assert all(min(abs(ratio - part) / part for part in PATTERNS[pattern]) < 0.2 for ratio in ratios)
    else:
        slope = np.polyfit(np.arange(gaps.size), gaps, 1)[0]
        assert (slope < 0) == (pattern == "accelerating")


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32), first=st.sampled_from(SOURCES))
def test_mixtures_hold_the_first_and_up_to_three_others(seed: int, first: str) -> None:
    kinds = mixture_kinds(np.random.default_rng(seed), first)
    assert first in kinds
    assert 1 <= len(kinds) == len(set(kinds)) <= 4
    assert list(kinds) == sorted(kinds, key=SOURCES.index)


def test_note_names() -> None:
    assert note_hz(69.0) == 440.0
    assert note_hz(60.0) == pytest.approx(261.626, abs=1e-3)
