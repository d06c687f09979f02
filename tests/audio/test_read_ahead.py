"""Reading ahead: in order, bounded, and without a thread or file left behind."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from helpers.sound_files import write_sound
from matpac import AudioError, read
from matpac.audio import read_ahead
from matpac.audio.read_ahead import Clips, in_background, read_unit

RATE = 16_000


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("ahead")
    return [write_sound(root / f"{number:02}.wav", RATE, 0.5, seed=number) for number in range(12)]


def test_clips_come_in_order_whole_or_cut(sounds: list[Path]) -> None:
    for threads in (1, 3):
        with ThreadPoolExecutor(threads) as pool:
            for path, blocks in zip(sounds, Clips(sounds, RATE, pool), strict=True):
                assert np.array_equal(np.concatenate(list(blocks)), read(path))
            for samples in (3_000, 9_000):
                for path, blocks in zip(sounds, Clips(sounds, RATE, pool, samples), strict=True):
                    whole = np.zeros(samples, np.float32)
                    whole[:8_000] = read(path)[:samples]
                    assert np.array_equal(np.concatenate(list(blocks)), whole)


def test_a_unit_is_the_beginning_with_zeros_behind(sounds: list[Path]) -> None:
    unit = read_unit(sounds[0], RATE, 8_100)
    assert np.array_equal(unit[:8_000], read(sounds[0]))
    assert not unit[8_000:].any()


def test_long_clips_are_the_same_by_blocks(sounds: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    real = read_ahead.blocks
    monkeypatch.setattr(read_ahead, "LONG_SECONDS", 0.4)
    monkeypatch.setattr(read_ahead, "blocks", lambda path, sample_rate: real(path, 0.13, sample_rate))
    with ThreadPoolExecutor(2) as pool:
        for path, blocks in zip(sounds, Clips(sounds, RATE, pool), strict=True):
            pieces = list(blocks)
            assert len(pieces) == 4
            assert np.array_equal(np.concatenate(pieces), read(path))


def test_an_error_comes_with_its_own_blocks(sounds: list[Path], tmp_path: Path) -> None:
    paths = [sounds[0], tmp_path / "missing.wav", sounds[1]]
    with ThreadPoolExecutor(2) as pool:
        clips = list(Clips(paths, RATE, pool))
        assert len(list(clips[2])) == 1
        with pytest.raises(AudioError, match=r"missing\.wav: no such file"):
            list(clips[1])


def test_reading_ahead_is_bounded(sounds: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []
    monkeypatch.setattr(read_ahead, "AHEAD_SECONDS", 2.0)
    monkeypatch.setattr(read_ahead, "read", lambda path, rate: (begun.append(path.name), read(path, rate))[1])
    with ThreadPoolExecutor(1) as pool:
        for number, blocks in enumerate(Clips(sounds, RATE, pool)):
            pool.submit(int).result()  # all that was handed to the pool is done
            assert len(begun) <= number + 5
            assert sum(len(block) for block in blocks) == 8000
        monkeypatch.setattr(read_ahead, "AHEAD_CLIPS", 2)
        begun.clear()
        next(iter(Clips(sounds, RATE, pool)))
        pool.submit(int).result()
        assert len(begun) == 3


def test_background_reading_ends_with_its_reader() -> None:
    open_now, made = [True], []

    def source() -> Iterator[np.ndarray]:
        try:
            for number in range(100):
                made.append(number)
                yield np.full(3, number, np.float32)
        finally:
            open_now[0] = False

    with ThreadPoolExecutor(1) as pool:
        blocks = in_background(source(), pool)
        assert not made  # nothing is read before the first is wanted
        assert [next(blocks)[0], next(blocks)[0]] == [0, 1]
        blocks.close()
        assert len(made) <= 3  # one ahead
        assert open_now == [False]

        def fails() -> Iterator[np.ndarray]:
            yield np.zeros(3, np.float32)
            raise AudioError("x.wav: damaged")

        blocks = in_background(fails(), pool)
        next(blocks)
        with pytest.raises(AudioError, match="damaged"):
            next(blocks)
