"""A task's features: equal to one clip at a time, bounded in memory, open about what was left out."""

import os
import threading
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
from helpers.made_task import LOGMEL, TINY, Mean, named, never, one_at_a_time, task_of
from matpac import MatpacError
from matpac.audio import read_ahead
from matpac.probe import feature_cache, features
from matpac.probe.encoders import (
    EncoderError,
    NotFiniteError,
    open_encoder,
)
from matpac.probe.features import embed_task
from matpac.tasks import TaskError, read_task
from matpac.vectors import road


@pytest.mark.parametrize("corpus", ["us8k", "fsd50k", "openmic", "gtzan", "mtt", "folder"])
def test_corpora_embed_as_one_clip_at_a_time(corpus: str, tmp_path: Path) -> None:
    corpora.MAKERS[corpus](tmp_path / "corpus")
    task = read_task(corpus, tmp_path / "corpus")
    if task.unit_seconds is not None and task.unit_seconds > 5:  # nearly all of it would be zeros
        task = replace(task, unit_seconds=0.5)
    for encoder in (TINY, LOGMEL):
        found = embed_task(task, encoder, tmp_path / "cache")
        assert isinstance(found.vectors, np.memmap)
        assert found.vectors.dtype == np.float32
        unreadable = {"gtzan": ["jazz.00001.wav"], "mtt": ["empty.mp3"]}.get(corpus, [])
        new = found.task.missing[len(task.missing) :]
        assert [Path(path).name for path, _ in new] == unreadable
        assert found.task.total == task.total
        expected = one_at_a_time(found.task, encoder)
        np.testing.assert_allclose(found.vectors, expected, atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(
    lengths=st.lists(st.floats(0.03, 1.5), min_size=3, max_size=9),
    unit=st.none() | st.floats(0.1, 1.0),
    encoder=st.sampled_from(["tiny", "layers", "logmel", "mean"]),
    block=st.integers(1, 4),
)
def test_any_lengths_embed_as_one_clip_at_a_time(
    lengths: list[float], unit: float | None, encoder: str, block: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("any")
    task = task_of(root / "sounds", lengths, unit)
    which = {"tiny": TINY, "layers": TINY, "logmel": LOGMEL, "mean": named(Mean())}[encoder]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feature_cache, "BLOCK_ROWS", block)
        patch.setattr(road, "LIST_CLIPS", 1 + block)
        found = embed_task(task, which, root / "cache", layers=encoder == "layers")
    expected = one_at_a_time(task, which, encoder == "layers")
    assert found.vectors.shape == expected.shape
    np.testing.assert_allclose(found.vectors, expected, atol=1e-5)


def test_long_clips_come_by_blocks_and_equal_whole_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_of(tmp_path / "sounds", [0.5, 3.0, 1.2, 0.4])
    monkeypatch.setattr(read_ahead, "LONG_SECONDS", 1.0)
    monkeypatch.setattr(road, "LIST_SECONDS", 1.0)
    for encoder in (TINY, LOGMEL):
        found = embed_task(task, encoder, tmp_path / "cache")
        np.testing.assert_allclose(found.vectors, one_at_a_time(task, encoder), atol=1e-5)


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
            patch.setattr(features, "fill", never)
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
            assert found.task.missing == [
                (str(closed), "can't be opened (permission denied); check its permissions")
            ]
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
    with pytest.raises(EncoderError, match=r"000\.wav reaches 7e\+04, and float16 ends at 65504; use float32"):
        embed_task(task, named(Large()), tmp_path / "cache", dtype="float16")


def test_widths_that_change_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Changing(Mean):
        def one(self, clip: np.ndarray) -> Tensor:
            return torch.zeros(len(self.asked))

    monkeypatch.setattr(road, "LIST_CLIPS", 1)
    task = task_of(tmp_path / "sounds", [0.3] * 3)
    with pytest.raises(EncoderError, match=r"mean: its vector of .*001\.wav has shape \[2\], those before \[1\]"):
        embed_task(task, named(Changing()), tmp_path / "cache")


def test_no_layers_and_no_readers(tmp_path: Path) -> None:
    task = task_of(tmp_path / "sounds", [0.3] * 3)
    with pytest.raises(EncoderError, match="logmel: gives no vectors of its layers"):
        embed_task(task, LOGMEL, tmp_path / "cache", layers=True)
    with pytest.raises(MatpacError, match="0 threads"):
        embed_task(task, LOGMEL, tmp_path / "cache", readers=0)


def test_no_thread_is_left_after_an_error(tmp_path: Path) -> None:
    task = task_of(tmp_path / "sounds", [0.35] * 3)
    before = threading.active_count()
    with pytest.raises(NotFiniteError):
        embed_task(task, named(Nan()), tmp_path / "cache")
    assert threading.active_count() == before
