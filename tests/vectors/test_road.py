"""The road on real small files: order, company, flat memory, bad files, and early ends; for every reduction."""

import pickle
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from helpers.sound_files import GOOD, make_mixed_folder, write_sound
from helpers.tiny_encoder import tiny
from matpac import AudioError, MatpacError, read
from matpac.audio import read_ahead
from matpac.model.embedder import Embedder
from matpac.model.encoders import EncoderError
from matpac.model.gather import Frames, Mean
from matpac.vectors import road as module
from matpac.vectors.frame_spool import FrameSpool
from matpac.vectors.road import Road, Row

ENCODER = tiny()
RATE = ENCODER.sample_rate
BAD = ("click.wav", "cut.flac", "empty.wav", "text.wav")


class Loudness:
    """An encoder of lists of waveforms: mean and maximum; refuses what is shorter than 25 ms."""

    sample_rate = 8_000

    def __init__(self) -> None:
        self.asked: list[int] = []

    def embed(self, clips: Sequence[np.ndarray | Tensor]) -> Tensor:
        self.asked.append(len(clips))
        for number, clip in enumerate(clips):
            if len(clip) < 200:
                raise AudioError(f"clip {number}: {len(clip)} samples are too short")
        return torch.stack([torch.tensor([float(clip.mean()), float(clip.max())]) for clip in clips])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mixed")
    make_mixed_folder(root)
    return root


def mixed(folder: Path) -> list[Path]:
    """Good files and bad ones in turn."""
    good = [folder / name for name in GOOD]
    return [path for pair in zip(good, [folder / name for name in BAD] * 2, strict=False) for path in pair]


def spooled(vectors: FrameSpool) -> Tensor:
    with vectors:
        layers = [torch.cat([torch.tensor(part) for _, part in vectors.parts(n)]) for n in range(vectors.layers)]
        return torch.stack(layers)


REDUCTIONS: dict[str, Callable[[Path], tuple[Callable, Callable]]] = {
    "mean": lambda folder: (Mean, lambda clip, layers: ENCODER.scene(clip, RATE, layers)[0]),
    "frames": lambda folder: (Frames, lambda clip, layers: ENCODER.frames(clip, RATE, layers)[0][0]),
    "spool": lambda folder: (
        partial(FrameSpool, folder, 1),
        lambda clip, layers: ENCODER.frames(clip, RATE, layers)[0][0],
    ),
}


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("layers", [None, "all"])
@pytest.mark.parametrize("long_seconds", [1.0, 120.0])
def test_rows_are_in_order_and_equal_one_file_at_a_time(
    reduction: str, layers: str | None, long_seconds: float, folder: Path, tmp_path: Path
) -> None:
    """Whatever is beside a file, broken or not, and whether it comes whole or by blocks."""
    make, alone = REDUCTIONS[reduction](tmp_path)
    road = Road(ENCODER, make, layers=layers, batch_size=2, long_seconds=long_seconds)  # type: ignore[arg-type]
    paths = mixed(folder)
    rows = []
    for row in road.rows(paths):
        found = spooled(row.vectors) if isinstance(row.vectors, FrameSpool) else row.vectors
        rows.append(Row(row.path, row.duration, found, row.error))
    assert [row.path for row in rows] == [str(path) for path in paths]
    for path, row in zip(paths, rows, strict=True):
        assert bool(row.error) == (path.name in BAD) == (row.vectors is None)
        assert not row.error.startswith(str(path))
        if row.vectors is not None:
            waveform = read(path)
            assert row.duration == len(waveform) / RATE
            expected = alone(waveform, layers)
            expected = expected[None] if layers is None else expected
            torch.testing.assert_close(row.vectors, expected, atol=1e-5, rtol=0)
    assert not list(tmp_path.iterdir())


@settings(deadline=None, max_examples=15)
@given(
    lengths=st.lists(st.integers(1, 30_000), min_size=1, max_size=9),
    unit=st.none() | st.integers(400, 20_000),
    lists=st.booleans(),
    at_once=st.integers(1, 4),
)
def test_any_lengths_and_units(
    lengths: list[int], unit: int | None, lists: bool, at_once: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """By an encoder of chunks and by one of lists of waveforms; too short ones are errors of their own rows."""
    root = tmp_path_factory.mktemp("any")
    encoder = Loudness() if lists else ENCODER
    paths = [write_sound(root / f"{n}.wav", 8_000, length / 8_000, seed=n) for n, length in enumerate(lengths)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "LIST_CLIPS", at_once)
        seconds = None if unit is None else unit / 8_000
        rows = list(Road(encoder, Mean, batch_size=at_once, unit_seconds=seconds).rows(paths))
    for path, row in zip(paths, rows, strict=True):
        clip = read(path, encoder.sample_rate)
        if seconds is not None:
            samples = round(seconds * encoder.sample_rate)
            clip = np.pad(clip[:samples], (0, max(0, samples - len(clip))))
        try:
            expected = encoder.embed([clip])
        except AudioError:
            assert row.error
        else:
            assert row.vectors is not None
            torch.testing.assert_close(row.vectors, expected, atol=1e-5, rtol=0)


def test_lists_of_bounded_sound(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIST_SECONDS", 3.0)
    encoder = Loudness()
    good = [folder / name for name in GOOD]
    rows = list(Road(encoder, Mean).rows([folder / "text.wav", *good]))
    assert rows[0].vectors is None
    assert [row.vectors.shape for row in rows[1:] if row.vectors is not None] == [(1, 2)] * len(good)
    assert max(encoder.asked) < len(good)  # no list of all


def test_blocks_of_samples_and_a_pickled_road() -> None:
    clips = [[np.full(3_000, 0.1 * n, np.float32), np.full(1_000, 0.2, np.float32)] for n in range(3)]
    road = pickle.loads(pickle.dumps(Road(ENCODER, Mean)))  # noqa: S301
    for clip, row in zip(clips, road.rows(clips), strict=True):
        assert (row.path, row.duration) == ("", 4_000 / RATE)
        torch.testing.assert_close(row.vectors, ENCODER.scene(np.concatenate(clip), RATE), atol=1e-5, rtol=0)


def test_a_long_file_that_breaks_in_the_middle_is_an_error_alone(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = read_ahead.blocks

    def breaks(path: Path, sample_rate: int) -> Iterator[np.ndarray]:
        for number, block in enumerate(real(path, seconds=0.3, sample_rate=sample_rate)):
            if path.name == "stereo_44k.wav" and number == 4:
                raise AudioError(f"{path}: damaged at 1.20 s")
            yield block

    monkeypatch.setattr(read_ahead, "blocks", breaks)
    road = Road(ENCODER, partial(FrameSpool, tmp_path, 1), batch_size=1, long_seconds=1.0)
    errors = {}
    for row in road.rows([folder / name for name in GOOD]):
        if row.vectors is None:
            errors[row.path] = row.error
        else:
            row.vectors.discard()
    assert errors == {str(folder / "stereo_44k.wav"): "damaged at 1.20 s"}
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("long_seconds", [1.0, 120.0])
def test_an_early_end_leaves_no_thread_and_reads_no_more_files(
    long_seconds: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Ctrl-C does it: whatever closes the rows."""
    paths = [write_sound(tmp_path / "a.wav", RATE, 1.5)] * 300
    begun, before = [], threading.active_count()
    real = read_ahead.Clips._start

    def start(self: read_ahead.Clips, clip: Path, seconds: float) -> object:
        begun.append(clip)
        return real(self, clip, seconds)

    monkeypatch.setattr(read_ahead.Clips, "_start", start)
    rows = Road(ENCODER, Mean, batch_size=1, long_seconds=long_seconds).rows(paths)
    next(rows)
    rows.close()
    assert len(begun) < len(paths)
    assert threading.active_count() == before


@pytest.mark.parametrize("reduction", [Mean, Frames, "spool"])
def test_vectors_that_are_not_finite_are_errors(reduction: Callable | str, tmp_path: Path) -> None:
    broken = tiny()
    next(broken.encoder.parameters()).fill_(torch.nan)
    make = partial(FrameSpool, tmp_path, 1) if isinstance(reduction, str) else reduction
    path = write_sound(tmp_path / "a.wav", RATE, 0.5)
    (row,) = Road(broken, make).rows([path])
    assert (row.vectors, row.error) == (None, module.NOT_FINITE)


@pytest.mark.parametrize(
    ("encoder", "reduction", "options", "kind"),
    [
        (ENCODER, Mean, {"batch_size": 0}, MatpacError),
        (ENCODER, Mean, {"readers": 0}, MatpacError),
        (Loudness(), Frames, {}, EncoderError),
        (Loudness(), Mean, {"layers": "all"}, EncoderError),
    ],
)
def test_what_no_road_does(encoder: Embedder, reduction: Callable, options: dict, kind: type[MatpacError]) -> None:
    with pytest.raises(kind):
        Road(encoder, reduction, **options)
