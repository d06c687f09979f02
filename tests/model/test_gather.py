"""What is gathered of chunks: whatever their order, in the clips' order, and released where a clip fails."""

from collections.abc import Callable, Generator, Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from matpac import AudioError
from matpac.model.chunks import Chunk, Cutter
from matpac.model.gather import Frames, Gathered, Mean, gather
from matpac.model.logmel import LogMelConfig
from matpac.model.vit import PATCH
from matpac.vectors.frame_spool import FrameSpool

FULL = 3
SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 4))


def chunks_of(steps: int) -> list[Chunk]:
    """Chunks of a clip of so many steps."""
    sizes = [FULL] * (steps // FULL) + ([steps % FULL] if steps % FULL else [])
    return [
        Chunk(0, index, FULL * index, np.zeros(1, np.float32), size * PATCH) for index, size in enumerate(sizes)
    ]


@settings(deadline=None, max_examples=60)
@given(steps=st.integers(1, 40), shape=SHAPES, seed=st.integers(0, 99), most=st.sampled_from([1, 100, 10**6]))
def test_chunks_in_any_order_are_one_clip(
    steps: int, shape: tuple[int, int], seed: int, most: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    layers, width = shape
    random = np.random.default_rng(seed)
    whole = torch.from_numpy(random.normal(size=(layers, steps, width)).astype(np.float32))
    chunks = chunks_of(steps)
    folder = tmp_path_factory.mktemp("spool")
    mean, frames, spool = Mean(), Frames(), FrameSpool(folder, most)
    for place in random.permutation(len(chunks)).tolist():
        part = whole[:, place * FULL : place * FULL + chunks[place].steps]
        mean.add(chunks[place], part.sum(1))
        frames.add(chunks[place], part)
        spool.add(chunks[place], part)
    assert torch.equal(frames.result(), whole)
    np.testing.assert_allclose(mean.result(), whole.double().mean(1), atol=1e-6)
    assert spool._file._rolled == (whole.nbytes > most)  # type: ignore[attr-defined]
    with spool.result() as found:
        assert (found.layers, found.nbytes, found.is_finite) == (layers, whole.nbytes, True)
        for layer in range(layers):
            parts = list(found.parts(layer))
            assert [start for start, _ in parts] == [chunk.first for chunk in chunks]
            assert np.array_equal(np.concatenate([part for _, part in parts]), whole[layer].numpy())
    assert not list(folder.iterdir())


def test_a_mean_of_many_chunks_stays_exact() -> None:
    """In float32 the sum of ten hours would be 1e-4 off."""
    mean = Mean()
    for index in range(6_000):
        chunk = Chunk(0, index, FULL * index, np.zeros(1, np.float32), PATCH * FULL)
        mean.add(chunk, torch.full((1, 2), 3 * 0.7))
    np.testing.assert_allclose(mean.result(), 0.7, rtol=1e-7)


class Counted(Mean):
    open = 0

    def __init__(self) -> None:
        super().__init__()
        Counted.open += 1

    def result(self) -> Tensor:
        Counted.open -= 1
        return super().result()

    def discard(self) -> None:
        Counted.open -= 1


CONFIG = LogMelConfig()
CHUNK = CONFIG.samples(PATCH)
Group = Callable[[Iterator[Chunk]], Iterator[list[Chunk]]]


def one_by_one(chunks: Iterator[Chunk]) -> Iterator[list[Chunk]]:
    for chunk in chunks:
        yield [chunk]


def last_first(chunks: Iterator[Chunk]) -> Iterator[list[Chunk]]:
    for chunk in reversed(list(chunks)):
        yield [chunk]


def loudness(chunks: list[Chunk]) -> list[Tensor]:
    return [torch.tensor([[chunk.samples.mean() * chunk.steps]]) for chunk in chunks]


def clip(value: float, chunks: int) -> list[np.ndarray]:
    return [np.full(CHUNK + (chunks - 1) * PATCH * CONFIG.hop, value, np.float32)]


def gathered(clips: list, group: Group = one_by_one) -> Generator[Gathered[Tensor], None, None]:
    return gather(clips, lambda number: Cutter(CONFIG, PATCH, number), group, loudness, Counted)


def fails_late() -> Iterator[np.ndarray]:
    yield clip(0.5, 4)[0]
    raise AudioError("late.wav: damaged")


@pytest.mark.parametrize("group", [one_by_one, last_first])
def test_results_come_in_the_clips_order_and_failed_clips_give_their_error(group: Group) -> None:
    clips = [clip(0.1, 3), clip(0.2, 1), fails_late(), [np.zeros(10, np.float32)], clip(0.3, 2)]
    found = list(gathered(clips, group))
    values = [None if one.result is None else round(one.result.item(), 4) for one in found]
    assert values == [0.1, 0.2, None, None, 0.3]
    assert "late.wav" in str(found[2].error)
    assert "clip 3: " in str(found[3].error)
    assert [one.samples for one in found[2:]] == [len(clip(0, 4)[0]), 10, len(clip(0, 2)[0])]
    assert Counted.open == 0


def test_what_is_no_longer_wanted_is_released() -> None:
    found = gathered([clip(0.1, 1), clip(0.2, 3), clip(0.3, 3)])
    next(found)
    found.close()
    assert Counted.open == 0
