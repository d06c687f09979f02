"""A task's tokens: the frames, kept where they fit and computed anew where they don't, to the same scores."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.made_task import EMBEDDER, LOGMEL, RATE, TINY, task_of, write
from matpac import read
from matpac.model.gather import Frames
from matpac.probe import feature_cache, token_features
from matpac.probe.encoders import EncoderError
from matpac.probe.linear_probe import ProbeConfig
from matpac.probe.token_features import BudgetError, embed_tokens, frame_count, open_tokens
from matpac.probe.tokens import attention_probe
from matpac.tasks import Fold, Task


@settings(max_examples=40, deadline=None)
@given(samples=st.integers(0, 5 * RATE))
def test_frame_count_is_what_the_embedder_gives(samples: int) -> None:
    clip = np.zeros(samples, np.float32)
    (found,) = EMBEDDER.gather([[clip]], Frames)
    assert frame_count(samples, EMBEDDER) == (0 if found.result is None else found.result.shape[1])


@pytest.mark.parametrize("unit", [None, 0.5])
@pytest.mark.parametrize("layers", [False, True])
def test_tokens_are_the_frames(
    layers: bool, unit: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_cache, "BLOCK_ROWS", 2)
    task = task_of(tmp_path / "sounds", [0.3, 1.1, 0.4, 0.9, 0.2, 0.5], unit)
    Path(task.paths[2]).write_bytes(b"no sound")
    found = embed_tokens(task, TINY, tmp_path / "cache", layers=layers)
    assert found.frames.dtype == np.float16
    assert isinstance(found.frames, np.memmap)
    assert found.frames.ndim == (4 if layers else 3)
    assert len(found.frames) == len(found.lengths) == len(found.task.paths) == 5
    assert found.frames.shape[-2] >= found.lengths.max()
    for path, frames, length in zip(found.task.paths, found.frames, found.lengths, strict=True):
        clip = read(path)
        if unit is not None:
            clip = np.pad(clip[:8_000], (0, max(0, 8_000 - len(clip))))
        expected = EMBEDDER.frames(clip, RATE, "all" if layers else None)[0][0]
        assert length == expected.shape[-2]
        np.testing.assert_allclose(frames[..., :length, :], expected, atol=4e-3)
        assert not frames[..., length:, :].any()
    monkeypatch.setattr(token_features, "fill", None)
    again = embed_tokens(task, TINY, tmp_path / "cache", layers=layers)
    np.testing.assert_array_equal(again.frames, found.frames)
    np.testing.assert_array_equal(again.lengths, found.lengths)


def test_tokens_beyond_the_budget_are_refused(tmp_path: Path) -> None:
    task = task_of(tmp_path / "sounds", [0.3] * 3, 0.5)
    size = 3 * frame_count(8_000, EMBEDDER) * EMBEDDER.width * 2
    with pytest.raises(BudgetError, match=r"made, tiny: 3 clips × 3 frames × 16 numbers in float16 take .* GiB"):
        embed_tokens(task, TINY, tmp_path / "cache", budget_bytes=size - 1)
    assert embed_tokens(task, TINY, tmp_path / "cache", budget_bytes=size).frames.nbytes == size
    with pytest.raises(BudgetError, match="budget"):  # in the cache or not
        embed_tokens(task, TINY, tmp_path / "cache", budget_bytes=size - 1)
    with pytest.raises(BudgetError, match=r"3 clips × 2 layers × 3 frames × 16 numbers"):
        embed_tokens(task, TINY, tmp_path / "cache", layers=True, budget_bytes=size)


def test_tokens_need_an_embedder(tmp_path: Path) -> None:
    task = task_of(tmp_path / "sounds", [0.3] * 3)
    with pytest.raises(EncoderError, match="logmel: only matpac's own encoders give tokens"):
        embed_tokens(task, LOGMEL, tmp_path / "cache")


def two_classes(root: Path, unit_seconds: float | None = None) -> Task:
    """Noise, and noise that is five times louder, of many lengths; one clip can't be read."""
    paths = [str(root / f"{number:03}.wav") for number in range(24)]
    for number, path in enumerate(paths):
        write(Path(path), 0.2 + 0.11 * (number % 7), seed=number)
        if number % 2:
            soundfile.write(path, np.clip(5 * read(path), -1, 1), RATE)
    Path(paths[3]).write_bytes(b"no sound")
    parts = np.array_split(np.random.default_rng(0).permutation(24), 3)
    return Task("two", "single", ["soft", "loud"], paths, np.arange(24) % 2, [Fold(*parts)], unit_seconds)


def test_what_is_kept_follows_the_budget(tmp_path: Path) -> None:
    task = task_of(tmp_path / "sounds", [0.3] * 6, 0.5)
    last = 6 * frame_count(8_000, EMBEDDER) * EMBEDDER.width * 2
    for budget, layers in ((last - 1, False), (last, True)):
        with pytest.raises(BudgetError, match="token_budget"):
            open_tokens(task, TINY, tmp_path / "cache", layers=layers, budget_bytes=budget)
    for budget, layers in ((last, False), (2 * last, True), (2 * last, False)):
        source, _ = open_tokens(task, TINY, tmp_path / "cache", layers=layers, budget_bytes=budget)
        assert source.layers == 1 + layers


def test_attention_over_a_view_of_all_layers_is_that_over_the_last(tmp_path: Path) -> None:
    task = two_classes(tmp_path / "sounds")
    alone = embed_tokens(task, TINY, tmp_path / "cache")
    view, usable = open_tokens(task, TINY, tmp_path / "cache")
    assert view.layers == 1
    config = ProbeConfig(learning_rates=(1e-2,), seeds=(1,), max_epochs=3)
    first = attention_probe(alone.frames, usable.labels, usable.folds, alone.lengths, config)
    second = attention_probe(view, usable.labels, usable.folds, config=config)
    np.testing.assert_array_equal(first.predictions[0], second.predictions[0])
