"""Reading ahead: in order, bounded, and without a thread or file left behind."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from helpers.sound_files import write_sound
from matpac import AudioError, read
from matpac.audio import read_ahead
from matpac.audio.read_ahead import Clips, in_background

RATE = 16_000


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("ahead")
    return [write_sound(root / f"{number:02}.wav", RATE, 0.5, seed=number) for number in range(12)]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("samples", [None, 3_000, 9_000])
@pytest.mark.parametrize("long_seconds", [0.4, 120.0])
def test_clips_come_in_order_whole_cut_padded_or_by_blocks(
    threads: int, samples: int | None, long_seconds: float, sounds: list[Path]
) -> None:
    with ThreadPoolExecutor(threads) as pool:
        clips = list(Clips(sounds, RATE, pool, samples, long_seconds=long_seconds))
        for path, blocks in zip(sounds, clips, strict=True):
            expected = read(path)
            if samples is not None:
                expected = np.pad(expected[:samples], (0, max(0, samples - len(expected))))
            assert np.array_equal(np.concatenate(list(blocks)), expected)


def test_an_error_comes_with_its_own_blocks(sounds: list[Path], tmp_path: Path) -> None:
    given = [sounds[0], tmp_path / "missing.wav", [np.ones(3, np.float32)], sounds[1]]
    with ThreadPoolExecutor(2) as pool:
        clips = list(Clips(given, RATE, pool))
        assert len(list(clips[3])) == 1
        assert [len(block) for block in clips[2]] == [3]
        with pytest.raises(AudioError, match=r"missing\.wav"):
            list(clips[1])


@pytest.mark.parametrize(("limits", "most"), [({"ahead_seconds": 2.0}, 5), ({"ahead_clips": 2}, 3)])
def test_reading_ahead_is_bounded(
    limits: dict[str, int], most: int, sounds: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    monkeypatch.setattr(read_ahead, "read", lambda path, rate: (begun.append(path.name), read(path, rate))[1])
    with ThreadPoolExecutor(1) as pool:
        for number, blocks in enumerate(Clips(sounds, RATE, pool, **limits)):
            pool.submit(int).result()  # all that was handed to the pool is done
            assert len(begun) <= number + most
            assert sum(len(block) for block in blocks) == 8_000
    assert begun == [path.name for path in sounds]


def test_background_reading_ends_with_its_reader() -> None:
    open_now, made = [True], []

    def source() -> Iterator[np.ndarray]:
        try:
            for number in range(100):
                made.append(number)
                yield np.full(3, number, np.float32)
        finally:
            open_now[0] = False

    def fails() -> Iterator[np.ndarray]:
        yield np.zeros(3, np.float32)
        raise AudioError("x.wav: damaged")

    with ThreadPoolExecutor(1) as pool:
        blocks = in_background(source(), pool)
        assert not made  # nothing is read before the first is wanted
        assert [next(blocks)[0], next(blocks)[0]] == [0, 1]
        blocks.close()
        assert len(made) <= 3  # one ahead
        assert open_now == [False]
        blocks = in_background(fails(), pool)
        next(blocks)
        with pytest.raises(AudioError, match="damaged"):
            next(blocks)
