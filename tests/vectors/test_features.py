"""A task's features: equal to one clip at a time, bounded in memory, open about what was left out."""

import os
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from helpers import corpora
from helpers.hear_modules import GOOD, importable
from helpers.made_task import (
    EMBEDDER,
    LOGMEL,
    RATE,
    TINY,
    Mean,
    named,
    never,
    one_at_a_time,
    task_from,
    task_of,
    write,
)
from matpac import MatpacError, read
from matpac.audio import read_ahead
from matpac.model.encoders import EncoderError, NamedEncoder, NotFiniteError
from matpac.model.gather import Frames
from matpac.probe.encoders import open_encoder
from matpac.tasks import TaskError, read_task
from matpac.vectors import features, road
from matpac.vectors.features import BudgetError, embed_task, embed_tokens, frame_count
from matpac.vectors.road import Road, Row


@pytest.mark.parametrize("corpus", ["us8k", "fsd50k", "openmic", "gtzan", "mtt", "folder"])
def test_corpora_embed_as_one_clip_at_a_time(corpus: str, tmp_path: Path) -> None:
    corpora.MAKERS[corpus](tmp_path / "corpus")
    task = read_task(corpus, tmp_path / "corpus")
    if task.unit_seconds is not None and task.unit_seconds > 5:  # nearly all of it would be zeros
        task = replace(task, unit_seconds=0.5)
    for encoder in (TINY, LOGMEL):
        found = embed_task(task, encoder, tmp_path / "cache")
        assert found.vectors.dtype == np.float32
        unreadable = {"gtzan": ["jazz.00001.wav"], "mtt": ["empty.mp3"]}.get(corpus, [])
        new = found.task.missing[len(task.missing) :]
        assert [Path(path).name for path, _ in new] == unreadable
        assert found.task.total == task.total
        expected = one_at_a_time(found.task, encoder)
        np.testing.assert_allclose(found.vectors, expected, atol=1e-5)


@pytest.mark.parametrize("unit", [None, 0.3])
@pytest.mark.parametrize("encoder", ["tiny", "layers", "logmel", "mean"])
def test_any_lengths_embed_as_one_clip_at_a_time(
    unit: float | None, encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = task_of(tmp_path / "sounds", [0.3, 1.2, 0.03, 0.7, 0.31], unit)
    which = {"tiny": TINY, "layers": TINY, "logmel": LOGMEL, "mean": named(Mean())}[encoder]
    monkeypatch.setattr(features, "IN_MEMORY", 0 if unit else 10**9)
    found = embed_task(task, which, tmp_path / "cache", layers=encoder == "layers")
    assert isinstance(found.vectors, np.memmap) == (unit is not None)
    expected = one_at_a_time(task, which, encoder == "layers")
    assert found.vectors.shape == expected.shape
    np.testing.assert_allclose(found.vectors, expected, atol=1e-5)


def test_hear_modules_are_embedded(tmp_path: Path) -> None:
    task = task_of(tmp_path / "sounds", [0.3, 0.5, 0.4, 0.3])
    with importable(tmp_path, "hear_features", GOOD) as name:
        encoder = open_encoder(f"hear:{name}")
        found = embed_task(task, encoder, tmp_path / "cache")
        np.testing.assert_allclose(found.vectors, one_at_a_time(task, encoder), atol=1e-5)


def test_only_the_unit_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_of(tmp_path / "sounds", [2.0, 0.1, 0.2], 0.2)
    monkeypatch.setattr(read_ahead, "read", never)
    monkeypatch.setattr(read_ahead, "blocks", never)
    assert embed_task(task, TINY, tmp_path / "cache").vectors.shape == (3, 16)


def test_unreadable_clips_are_named_and_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_of(tmp_path / "sounds", [0.3, 0.3, 0.02, 0.3, 0.3, 0.3])
    Path(task.paths[4]).write_bytes(b"")
    for encoder, short in ((TINY, True), (LOGMEL, True), (named(Mean()), False)):
        found = embed_task(task, encoder, tmp_path / "cache")
        reasons = dict(found.task.missing)
        assert list(reasons) == [task.paths[number] for number in ([2, 4] if short else [4])]
        assert reasons[task.paths[4]].startswith("empty file")
        if short:
            assert reasons[task.paths[2]].startswith("20.0 ms of sound is shorter than one window (25 ms)")
        np.testing.assert_allclose(found.vectors, one_at_a_time(found.task, encoder), atol=1e-5)
        with monkeypatch.context() as patch:
            patch.setattr(Road, "rows", no_clips)
            assert embed_task(task, encoder, tmp_path / "cache").task.missing == found.task.missing


def test_a_file_that_vanished_is_looked_for_again(tmp_path: Path) -> None:
    task = task_of(tmp_path / "sounds", [0.3] * 6)
    aside = Path(task.paths[0]).rename(tmp_path / "aside.wav")
    found = embed_task(task, TINY, tmp_path / "cache")
    assert [path for path, _ in found.task.missing] == [task.paths[0]]
    aside.rename(task.paths[0])
    assert embed_task(task, TINY, tmp_path / "cache").task.missing == []


def test_a_file_without_permission_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_of(tmp_path / "sounds", [0.3] * 6)
    closed, allowed = Path(task.paths[0]), os.access

    def access(path: str | Path, *given: int, **how: bool) -> bool:  # root may read all
        return str(path) != str(closed) and allowed(path, *given, **how)

    closed.chmod(0)
    encoder = Mean()
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", access)
        for _ in range(2):
            found = embed_task(task, named(encoder), tmp_path / "cache")
            assert [path for path, _ in found.task.missing] == [str(closed)]
    assert sum(encoder.asked) == 5
    closed.chmod(0o644)
    found = embed_task(task, named(encoder), tmp_path / "cache")
    assert (found.task.missing, sum(encoder.asked)) == ([], 6)  # the others were copied
    np.testing.assert_allclose(found.vectors, one_at_a_time(task, named(Mean())), atol=1e-5)


def test_no_clip_at_all(tmp_path: Path) -> None:
    task = task_of(tmp_path / "sounds", [0.3] * 3)
    for path in task.paths:
        Path(path).write_bytes(b"no sound")
    for _ in range(2):
        with pytest.raises(
            MatpacError, match=r"made, mean: not one of 3 clips can be used; the first, .*000.wav: "
        ):
            embed_task(task, named(Mean()), tmp_path / "cache")


def test_a_part_without_clips_is_told(tmp_path: Path) -> None:
    task = task_of(tmp_path / "sounds", [0.3] * 3)
    Path(task.paths[1]).write_bytes(b"no sound")
    with pytest.raises(TaskError, match=r"its valid part has no clip .*001\.wav: not a sound file"):
        embed_task(task, named(Mean()), tmp_path / "cache")


class Nan(Mean):
    """NaN for the clip whose file is 0.35 s long."""

    def one(self, clip: np.ndarray) -> Tensor:
        return super().one(clip) * (float("nan") if len(clip) == 2_800 else 1)


def test_nan_is_told_with_encoder_and_clip(tmp_path: Path) -> None:
    task = task_of(tmp_path / "sounds", [0.3, 0.3, 0.3, 0.35])
    Path(task.paths[0]).write_bytes(b"no sound, so that numbers in the list are not those of the task")
    with pytest.raises(NotFiniteError) as caught:
        embed_task(task, named(Nan()), tmp_path / "cache")
    assert str(caught.value).startswith(f"mean: NaN or infinity in its vector of {task.paths[3]}")


def test_float16_overflow_is_told(tmp_path: Path) -> None:
    class Large(Mean):
        def one(self, clip: np.ndarray) -> Tensor:
            return torch.tensor([7e4, 1.0])

    task = task_of(tmp_path / "sounds", [0.3] * 3)
    assert embed_task(task, named(Large()), tmp_path / "cache").vectors[0, 0] == 7e4
    with pytest.raises(EncoderError, match=r"000\.wav reaches 7e\+04"):
        embed_task(task, named(Large()), tmp_path / "cache", dtype="float16")


def test_widths_that_change_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Changing(Mean):
        def one(self, clip: np.ndarray) -> Tensor:
            return torch.zeros(len(self.asked))

    monkeypatch.setattr(road, "LIST_CLIPS", 1)
    task = task_of(tmp_path / "sounds", [0.3] * 3)
    with pytest.raises(EncoderError, match=r"001\.wav"):
        embed_task(task, named(Changing()), tmp_path / "cache")


def test_no_layers_and_no_readers(tmp_path: Path) -> None:
    task = task_of(tmp_path / "sounds", [0.3] * 3)
    with pytest.raises(EncoderError, match="logmel: gives no vectors of its layers"):
        embed_task(task, LOGMEL, tmp_path / "cache", layers=True)
    with pytest.raises(MatpacError, match="0 threads"):
        embed_task(task, LOGMEL, tmp_path / "cache", readers=0)


def no_clips(self: Road, clips: Iterable[str]) -> Generator[Row, None, None]:
    assert not list(clips), "this was in the cache"
    yield from ()


def test_what_is_known_is_not_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor for another task of the same files, by another name of their folder; what changed is."""
    task = task_of(tmp_path / "sounds", [0.3] * 7)
    first = embed_task(task, named(Mean()), tmp_path / "cache")
    (tmp_path / "link").symlink_to(tmp_path / "sounds")
    linked = task_from(tmp_path / "link", 5)
    with monkeypatch.context() as patch:
        patch.setattr(Road, "rows", no_clips)
        np.testing.assert_array_equal(embed_task(task, named(Mean()), tmp_path / "cache").vectors, first.vectors)
        found = embed_task(linked, named(Mean()), tmp_path / "cache")
        np.testing.assert_array_equal(found.vectors, first.vectors[:5])
    write(Path(task.paths[2]), 0.4, seed=9)
    encoder = Mean()
    found = embed_task(task, named(encoder), tmp_path / "cache")
    assert sum(encoder.asked) == 1
    np.testing.assert_allclose(found.vectors, one_at_a_time(task, named(Mean())), atol=1e-5)


def test_other_encoders_and_settings_share_nothing(tmp_path: Path) -> None:
    task, encoder, cache = task_of(tmp_path / "sounds", [0.3] * 3), Mean(), tmp_path / "cache"
    for key, unit in (("0", None), ("1", None), ("0", 0.2)):
        embed_task(replace(task, unit_seconds=unit), NamedEncoder("mean", encoder, key), cache)
    assert embed_task(task, NamedEncoder("mean", encoder, "0"), cache, dtype="float16").vectors.dtype == np.float16
    assert sum(encoder.asked) == 12


def test_an_interrupted_run_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopped(Mean):
        def one(self, clip: np.ndarray) -> Tensor:
            if len(self.asked) == 5:
                raise KeyboardInterrupt
            return super().one(clip)

    monkeypatch.setattr(road, "LIST_CLIPS", 1)
    task = task_of(tmp_path / "sounds", [0.3] * 7)
    with pytest.raises(KeyboardInterrupt):
        embed_task(task, named(Stopped()), tmp_path / "cache")
    encoder = Mean()
    found = embed_task(task, named(encoder), tmp_path / "cache")
    assert sum(encoder.asked) == 3
    np.testing.assert_allclose(found.vectors, one_at_a_time(task, named(Mean())), atol=1e-5)


def test_two_at_once_compute_once(tmp_path: Path) -> None:
    task = task_of(tmp_path / "sounds", [0.2] * 5)
    encoders = [Mean() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda one: embed_task(task, named(one), tmp_path / "cache"), encoders))
    assert sorted(sum(one.asked) for one in encoders) == [0, 0, 0, 5]
    for one in found:
        np.testing.assert_array_equal(one.vectors, found[0].vectors)


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MatpacError, match="file/cache"):
        embed_task(task_of(tmp_path / "sounds", [0.3] * 3), LOGMEL, tmp_path / "file" / "cache")


@settings(max_examples=40, deadline=None)
@given(samples=st.integers(0, 5 * RATE))
def test_frame_count_is_what_the_embedder_gives(samples: int) -> None:
    (found,) = EMBEDDER.gather([[np.zeros(samples, np.float32)]], Frames)
    assert frame_count(samples, EMBEDDER) == (0 if found.result is None else found.result.shape[1])


@pytest.mark.parametrize("unit", [None, 0.5])
@pytest.mark.parametrize("layers", [False, True])
def test_tokens_are_the_frames(
    layers: bool, unit: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = task_of(tmp_path / "sounds", [0.3, 1.1, 0.4, 0.9, 0.2, 0.5], unit)
    Path(task.paths[2]).write_bytes(b"no sound")
    found = embed_tokens(task, TINY, tmp_path / "cache", layers=layers)
    assert found.frames.dtype == np.float16
    assert found.frames.ndim == (4 if layers else 3)
    assert len(found.frames) == len(found.lengths) == len(found.task.paths) == 5
    for path, frames, length in zip(found.task.paths, found.frames, found.lengths, strict=True):
        clip = read(path)
        if unit is not None:
            clip = np.pad(clip[:8_000], (0, max(0, 8_000 - len(clip))))
        expected = EMBEDDER.frames(clip, RATE, "all" if layers else None)[0][0]
        assert length == expected.shape[-2]
        np.testing.assert_allclose(frames[..., :length, :], expected, atol=4e-3)
        assert not frames[..., length:, :].any()
    monkeypatch.setattr(Road, "rows", no_clips)
    monkeypatch.setattr(features, "IN_MEMORY", 0)
    again = embed_tokens(task, TINY, tmp_path / "cache", layers=layers)
    np.testing.assert_array_equal(again.frames, found.frames)
    np.testing.assert_array_equal(again.lengths, found.lengths)


def test_tokens_beyond_the_budget_are_refused(tmp_path: Path) -> None:
    task = task_of(tmp_path / "sounds", [0.3] * 3, 0.5)
    size = 3 * frame_count(8_000, EMBEDDER) * EMBEDDER.width * 2
    with pytest.raises(BudgetError, match=f"{size} bytes.*token_budget"):
        embed_tokens(task, TINY, tmp_path / "cache", budget_bytes=size - 1)
    assert embed_tokens(task, TINY, tmp_path / "cache", budget_bytes=size).frames.nbytes == size
    with pytest.raises(BudgetError, match=f"{2 * size} bytes"):
        embed_tokens(task, TINY, tmp_path / "cache", layers=True, budget_bytes=size)
    with pytest.raises(EncoderError, match="logmel"):
        embed_tokens(task, LOGMEL, tmp_path / "cache")
