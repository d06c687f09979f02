"""Batches of chunks: each chunk once, of one length, within the budget, and none kept waiting for long."""

from collections.abc import Iterator

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from matpac.model.chunks import PASSED, Chunk, Cutter, batches
from matpac.model.logmel import LogMelConfig
from matpac.model.vit import PATCH

FULL, BATCH, WAITING = 38, 4, 16
BUDGET = FULL * BATCH


def chunk(number: int, steps: int) -> Chunk:
    return Chunk(number, 0, 0, np.zeros(1, np.float32), steps * PATCH)


@settings(deadline=None, max_examples=50)
@given(steps=st.lists(st.integers(1, FULL), max_size=300), waiting=st.integers(1, 4))
def test_every_chunk_comes_once_among_its_equals(steps: list[int], waiting: int) -> None:
    groups = list(batches((chunk(n, s) for n, s in enumerate(steps)), FULL, BATCH, waiting))
    assert sorted(c.clip for group in groups for c in group) == list(range(len(steps)))
    for group in groups:
        assert len({c.steps for c in group}) == 1
        assert len(group) * group[0].steps <= BUDGET
        assert [c.clip for c in group] == sorted(c.clip for c in group)


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10**6), common=st.integers(1, FULL), rare=st.floats(0, 0.2))
def test_memory_and_waiting_are_bounded(seed: int, common: int, rare: float) -> None:
    rng = np.random.default_rng(seed)
    steps = [1, *(int(rng.integers(1, FULL + 1)) if rng.random() < rare else common for _ in range(1500))]
    passed = 0
    taken_at: list[int] = []

    def source() -> Iterator[Chunk]:
        nonlocal passed
        for number, size in enumerate(steps):
            taken_at.append(passed)
            passed += size
            yield chunk(number, size)

    waiting: set[int] = set()
    last = 0
    for group in batches(source(), FULL, BATCH, WAITING):
        waiting |= set(range(last, len(taken_at)))
        last = len(taken_at)
        ended = len(taken_at) == len(steps)
        if not ended:
            assert sum(steps[number] for number in waiting) <= BUDGET * WAITING + FULL
            # a group goes a step, one group a chunk: a few may be due at once
            assert passed - min(taken_at[number] for number in waiting) <= BUDGET * WAITING * PASSED + FULL * FULL
        waiting -= {c.clip for c in group}
    assert not waiting


@settings(deadline=None, max_examples=60)
@given(samples=st.integers(0, 20_000), sizes=st.lists(st.integers(0, 7_000), min_size=1).filter(any))
def test_blocks_of_any_size_are_cut_into_the_same_chunks_which_own_their_samples(
    samples: int, sizes: list[int]
) -> None:
    """32 log-mel frames: 5360 samples every 5120."""
    waveform = np.random.default_rng(samples).normal(size=samples).astype(np.float32)
    cutter = Cutter(LogMelConfig(), 32, clip=7)
    chunks, place, turn = [], 0, 0
    while place < samples:
        size = sizes[turn % len(sizes)]
        chunks += cutter.push(waveform[place : place + size])
        place, turn = place + size, turn + 1
        assert len(chunks) == max(0, (min(place, samples) - 240) // 5120)  # as soon as they are complete
    chunks += cutter.finish()
    for number, found in enumerate(chunks):
        assert (found.clip, found.index) == (7, number)
        assert found.samples.base is None
        assert np.array_equal(found.samples, waveform[number * 5120 :][: 240 + 160 * found.frames])
    assert sum(found.frames for found in chunks) == (0 if samples < 400 else 1 + (samples - 400) // 160)
    assert all(found.frames == 32 for found in chunks[:-1])
