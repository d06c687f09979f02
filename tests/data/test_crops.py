"""Random crops: where they lie, what replaces a bad clip, and which process gets which."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from helpers.sound_files import make_mixed_folder, write_sound
from matpac import audio
from matpac.data.crops import (
    SHORT_POLICIES,
    Crop,
    CropBatch,
    RandomCrops,
    StepBatches,
    Steps,
    crop_loader,
    drop_short,
)
from matpac.data.files import Clip, Corpus, DataError, list_clips
from matpac.errors import Skipped

SAMPLES = 8_000
# Python 3.12 and later say so at every fork of a process that has threads.
FORK = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Six good clips (one of 0.4 s) and cut.flac, whose header is whole."""
    mixed = make_mixed_folder(tmp_path_factory.mktemp("mixed"))
    return list_clips(mixed["text.wav"].parent)


@pytest.fixture(scope="module")
def good(files: Corpus) -> list[Clip]:
    return [clip for clip in files.clips if "cut" not in clip.path]


def index_of(clips: list[Clip], name: str) -> int:
    return next(index for index, clip in enumerate(clips) if name in clip.path)


# --- crops -------------------------------------------------------------------------------------------------


def test_a_crop_is_a_part_of_its_clip(good: list[Clip]) -> None:
    crops = RandomCrops(good, SAMPLES, seed=1)
    index = index_of(good, "stereo_44k.wav")
    whole = audio.read(good[index].path)
    windows = np.lib.stride_tricks.sliding_window_view(whole, SAMPLES)
    places = []
    for epoch in range(12):
        crop = crops[epoch, index]
        assert crop.path == good[index].path
        assert crop.failures == []
        assert crop.waveform.dtype == torch.float32
        distance = np.abs(windows[:, ::400] - crop.waveform.numpy()[::400]).max(axis=1)
        places.append(int(distance.argmin()))
        np.testing.assert_allclose(crop.waveform, windows[places[-1]], atol=1e-5)
    assert min(places) < 8_000 < 24_000 < max(places)  # all over the 32,000 places there are


def test_crops_depend_on_seed_epoch_and_index_alone(good: list[Clip]) -> None:
    one, other, third = (RandomCrops(good, SAMPLES, seed) for seed in (1, 1, 2))
    keys = [(epoch, index) for epoch in (0, 5) for index in range(len(good))]
    for key in keys:
        assert torch.equal(one[key].waveform, other[key].waveform)
    for key in reversed(keys):  # whatever came before
        assert torch.equal(one[key].waveform, other[key].waveform)
        assert not torch.equal(one[key].waveform, third[key].waveform)
    assert not torch.equal(one[0, 0].waveform, one[1, 0].waveform)


def test_short_clips_go_round_from_a_random_place(good: list[Clip]) -> None:
    index = index_of(good, "short_8k")
    whole = audio.read(good[index].path)
    crops = RandomCrops(good, SAMPLES, seed=1)
    phases = set()
    for epoch in range(4):
        waveform = crops[epoch, index].waveform.numpy()
        (phase,) = (p for p in range(len(whole)) if np.array_equal(np.roll(whole, -p)[:50], waveform[:50]))
        np.testing.assert_array_equal(waveform, np.tile(np.roll(whole, -phase), 2)[:SAMPLES])
        phases.add(phase)
    assert len(phases) == 4


def test_short_clips_padded_or_dropped(good: list[Clip]) -> None:
    index = index_of(good, "short_8k")
    waveform = RandomCrops(good, SAMPLES, seed=1, short="pad")[0, index].waveform.numpy()
    np.testing.assert_array_equal(waveform[:6_400], audio.read(good[index].path))
    assert not waveform[6_400:].any()
    with pytest.raises(DataError, match=r"1 clips are shorter than a crop .*drop_short"):
        RandomCrops(good, SAMPLES, seed=1, short="drop")
    kept = drop_short(Corpus(good, [Skipped("x", "y")]), SAMPLES)
    assert kept.clips == [clip for clip in good if "short_8k" not in clip.path]
    assert kept.skipped[0] == Skipped("x", "y")
    assert kept.skipped[1] == Skipped(good[index].path, "too short: 0.400 s, a crop has 0.500 s")
    assert len(RandomCrops(kept.clips, SAMPLES, seed=1, short="drop")) == 5


@pytest.mark.parametrize("short", SHORT_POLICIES)
def test_a_clip_as_long_as_a_crop_is_taken_whole(short: str, tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.wav", 16_000, 0.5)
    waveform = RandomCrops([Clip(str(path), 0.5)], SAMPLES, 0, short)[3, 0].waveform
    np.testing.assert_array_equal(waveform, audio.read(path))


def test_a_header_that_promises_more(tmp_path: Path) -> None:
    """Lengths can be estimates: the crop is filled, or the clip counts as one that can't be decoded."""
    path = str(write_sound(tmp_path / "a.wav", 16_000, 1.0))
    crops = RandomCrops([Clip(path, 1.4)], SAMPLES, seed=0)
    whole = audio.read(path)
    for epoch in range(10):
        crop = crops[epoch, 0]
        assert crop.waveform.shape == (SAMPLES,)
        assert np.isin(crop.waveform.numpy(), whole).all()
        assert all("1.00 s long" in item.reason or "only" in item.reason for item in crop.failures)


def test_bad_clips_are_replaced_and_named(files: Corpus, good: list[Clip]) -> None:
    clips = files.clips
    bad = index_of(clips, "cut.flac")
    crops = RandomCrops(clips, 24_000, seed=0)
    for epoch in range(5):
        crop = crops[epoch, bad]
        assert crop.path in {clip.path for clip in good}
        assert {item.path for item in crop.failures} == {clips[bad].path}
        assert "damaged or cut short" in crop.failures[0].reason
        again = crops[epoch, bad]
        assert torch.equal(again.waveform, crop.waveform)
        assert again.failures == crop.failures


def test_ten_bad_clips_in_a_row_stop(tmp_path: Path) -> None:
    clips = [Clip(str(tmp_path / f"{number}.wav"), 3.0) for number in range(3)]
    with pytest.raises(DataError, match=r"10 clips in a row .*\d\.wav: no such file; check the path"):
        RandomCrops(clips, SAMPLES, seed=0)[0, 0]


def test_what_cannot_be(good: list[Clip]) -> None:
    with pytest.raises(DataError, match="unknown policy for short clips: loop; choose from repeat, pad, drop"):
        RandomCrops(good, SAMPLES, 0, short="loop")
    with pytest.raises(DataError, match="no clips"):
        RandomCrops([], SAMPLES, 0)
    with pytest.raises(DataError, match="too few clips for one batch: there are 3, a batch has 4; lower the"):
        StepBatches(3, Steps(4, 0, 0, 1))
    with pytest.raises(DataError, match="a batch of 6 can't be split equally over 2 processes × 2"):
        Steps(6, 0, 0, 1, world_size=2, accumulate=2)


# --- which clip when ---------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=100)
@given(
    n_clips=st.integers(1, 60),
    world_size=st.integers(1, 4),
    accumulate=st.integers(1, 3),
    micro=st.integers(1, 4),
    seed=st.integers(0, 2**40),
    first=st.integers(0, 20),
    steps=st.integers(0, 20),
)
def test_ranks_and_micro_batches_share_out_the_single_process_batch(
    n_clips: int, world_size: int, accumulate: int, micro: int, seed: int, first: int, steps: int
) -> None:
    batch = world_size * accumulate * micro
    assume(n_clips >= batch)
    last = first + steps
    single = list(StepBatches(n_clips, Steps(batch, seed, 0, last)))
    ranks = [
        list(StepBatches(n_clips, Steps(batch, seed, first, last, rank, world_size, accumulate)))
        for rank in range(world_size)
    ]
    for rank in ranks:
        assert len(rank) == steps * accumulate
        assert all(len(keys) == micro for keys in rank)
    for step in range(steps):
        parts = [keys for rank in ranks for keys in rank[step * accumulate : (step + 1) * accumulate]]
        assert [key for keys in parts for key in keys] == single[first + step]
    spe = StepBatches(n_clips, Steps(batch, seed, 0, last)).steps_per_epoch
    for epoch in range(-(-last // spe)):
        keys = [key for keys in single[epoch * spe : (epoch + 1) * spe] for key in keys]
        assert {key[0] for key in keys} == {epoch}
        assert len(set(keys)) == len(keys)
        assert all(0 <= key[1] < n_clips for key in keys)


def test_every_epoch_has_its_own_order_of_all_clips() -> None:
    keys = [key for keys in StepBatches(12, Steps(4, 0, 0, 6)) for key in keys]
    first, second = [k[1] for k in keys[:12]], [k[1] for k in keys[12:]]
    assert sorted(first) == sorted(second) == list(range(12))
    assert first != second


# --- loading -----------------------------------------------------------------------------------------------


def load(clips: list[Clip], workers: int, first_step: int = 0) -> list[CropBatch]:
    dataset = RandomCrops(clips, SAMPLES, seed=4)
    return list(crop_loader(dataset, StepBatches(len(clips), Steps(2, 4, first_step, 7)), workers))


@FORK
@pytest.mark.slow
def test_loader_gives_the_same_with_workers_and_after_a_resume(files: Corpus) -> None:
    before = torch.random.get_rng_state()
    here, there, resumed = load(files.clips, 0), load(files.clips, 2), load(files.clips, 2, first_step=3)
    assert len(here) == len(there) == 7
    for one, other in [*zip(here, there, strict=True), *zip(here[3:], resumed, strict=True)]:
        assert torch.equal(one.waveforms, other.waveforms)
        assert (one.paths, one.failures) == (other.paths, other.failures)
    assert torch.equal(torch.random.get_rng_state(), before)


class Telltale(RandomCrops):
    """Reports about the worker instead of cropping."""

    def __getitem__(self, key: tuple[int, int]) -> Crop:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        os.write(2, b"a C library complains\n")
        return Crop(torch.tensor([float(torch.get_num_threads())]), str(os.getpid()))


@FORK
@pytest.mark.slow
def test_workers_ignore_ctrl_c_and_keep_c_libraries_quiet(
    good: list[Clip], capfd: pytest.CaptureFixture[str]
) -> None:
    batches = list(crop_loader(Telltale(good, 1, 0), StepBatches(len(good), Steps(2, 0, 0, 3)), workers=1))
    assert all(batch.waveforms.eq(1).all() for batch in batches)
    assert {path for batch in batches for path in batch.paths} != {str(os.getpid())}
    assert capfd.readouterr().err == ""
