"""Several crops of a clip at a time: where they lie, what is decoded for them, and how often a clip comes."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from helpers.sound_files import cut_file, write_sound
from matpac import audio
from matpac.data.crops import RandomCrops, StepBatches, crop_loader
from matpac.data.files import Clip, DataError

SAMPLES = 8_000


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    root = tmp_path_factory.mktemp("clips")
    lengths = [0.3, 0.5, 0.9, 1.2, 6.0]
    for number, seconds in enumerate(lengths):
        write_sound(root / f"{number}.wav", 16_000, seconds, seed=number)
    return [Clip(str(root / f"{number}.wav"), seconds) for number, seconds in enumerate(lengths)]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Name and samples of what is decoded from now on."""
    found: list[tuple[str, int]] = []
    original = audio.read_crop

    def counting(path: str, start: float, samples: int, rate: int) -> np.ndarray:
        found.append((Path(path).name, samples))
        return original(path, start, samples, rate)

    monkeypatch.setattr(audio, "read_crop", counting)
    return found


def place_of(crop: np.ndarray, whole: np.ndarray) -> int:
    """Where it begins; the test fails where it is no part."""
    starts = np.flatnonzero(whole[: len(whole) - len(crop) + 1] == crop[0])
    (place,) = [start for start in starts if np.array_equal(whole[start : start + len(crop)], crop)][:1]
    return int(place)


def test_crops_are_parts_of_their_clip_at_random_places(clips: list[Clip]) -> None:
    crops = RandomCrops(clips, SAMPLES, seed=1, crops_per_read=3)
    for epoch in range(4):
        for index, clip in enumerate(clips):
            found = crops.__getitems__([(epoch, index)])
            assert [crop.path for crop in found] == [clip.path] * 3
            whole = audio.read(clip.path)
            if len(whole) <= SAMPLES:
                whole = np.tile(whole, 4)
            places = [place_of(crop.waveform.numpy(), whole) for crop in found]
            assert len(set(places)) == (1 if clip.duration == 0.5 else 3)


def test_they_depend_on_the_key_alone(clips: list[Clip]) -> None:
    def drawn(seed: int, epoch: int) -> torch.Tensor:
        crops = RandomCrops(clips, SAMPLES, seed, crops_per_read=4).__getitems__([(epoch, 4)])
        return torch.stack([crop.waveform for crop in crops])

    assert torch.equal(drawn(1, 1), drawn(1, 1))
    assert not torch.equal(drawn(1, 1), drawn(1, 2))
    assert not torch.equal(drawn(1, 1), drawn(2, 1))


def test_what_lies_between_is_decoded_where_that_is_less(clips: list[Clip], reads: list[tuple[str, int]]) -> None:
    crops = RandomCrops(clips, SAMPLES, seed=1, crops_per_read=4)
    crops.__getitems__([(0, 3), (0, 4)])
    short = [samples for name, samples in reads if name == "3.wav"]
    assert len(short) == 1  # 1.2 s instead of four times 0.5 s
    assert SAMPLES < short[0] <= 1.2 * 16_000
    assert [samples for name, samples in reads if name == "4.wav"] == [SAMPLES] * 4  # 6 s


def test_one_crop_is_what_it_was(clips: list[Clip]) -> None:
    one, several = (RandomCrops(clips, SAMPLES, seed=1, crops_per_read=count) for count in (1, 3))
    for index in range(len(clips)):
        (crop,) = one.__getitems__([(0, index)])
        assert torch.equal(crop.waveform, one[0, index].waveform)
        assert torch.equal(several[0, index].waveform, one[0, index].waveform)


def test_a_bad_clip_is_named_once_and_replaced(clips: list[Clip], tmp_path: Path) -> None:
    write_sound(tmp_path / "whole.flac", 16_000, 2.0)
    bad = Clip(str(cut_file(tmp_path / "whole.flac", tmp_path / "cut.flac", 0.3)), 2.0)
    found = RandomCrops([*clips, bad], SAMPLES, seed=1, crops_per_read=3).__getitems__([(0, 5), (0, 1)])
    assert [Path(item.path).name for crop in found for item in crop.failures] == ["cut.flac"]
    assert len({crop.path for crop in found[:3]}) == 1
    assert bad.path not in {crop.path for crop in found}


@settings(deadline=None, max_examples=60)
@given(
    n_clips=st.integers(1, 40),
    world=st.integers(1, 3),
    accumulate=st.integers(1, 2),
    micro=st.integers(1, 3),
    several=st.integers(1, 4),
)
def test_batches_take_fewer_clips_and_an_epoch_more_steps(
    n_clips: int, world: int, accumulate: int, micro: int, several: int
) -> None:
    reads = world * accumulate * micro
    assume(n_clips >= reads)
    batches = [
        StepBatches(n_clips, reads * several, rank, world, 3, 0, 7, accumulate, several) for rank in range(world)
    ]
    assert {batch.steps_per_epoch for batch in batches} == {n_clips // reads}
    keys = [list(batch) for batch in batches]
    assert all(len(part) == micro for rank in keys for part in rank)
    whole = list(StepBatches(n_clips, reads, 0, 1, 3, 0, 7))
    for step in range(7):
        parts = [part for rank in keys for part in rank[step * accumulate : (step + 1) * accumulate]]
        assert [key for part in parts for key in part] == whole[step]


def test_batches_that_cannot_be() -> None:
    with pytest.raises(
        DataError, match="over 1 processes × 2 micro-batches × 3 crops a read; choose a multiple of 6"
    ):
        StepBatches(30, 8, 0, 1, 0, 0, 1, 2, 3)
    with pytest.raises(DataError, match="there are 3, a batch has 4"):
        StepBatches(3, 8, 0, 1, 0, 0, 1, 1, 2)


def test_loaded_batches_are_full(clips: list[Clip], reads: list[tuple[str, int]]) -> None:
    dataset = RandomCrops(clips, SAMPLES, seed=1, crops_per_read=2)
    batches = list(crop_loader(dataset, StepBatches(5, 4, 0, 1, 1, 0, 4, crops_per_read=2), 0))
    assert [batch.waveforms.shape for batch in batches] == [(4, SAMPLES)] * 4
    for batch in batches:
        assert batch.numbers[0] == batch.numbers[1] != batch.numbers[2] == batch.numbers[3]
    first_epoch = Counter(number for batch in batches[:2] for number in batch.numbers)
    assert set(first_epoch.values()) == {2}
    assert len(reads) < 16
