"""The road from sounds to vectors: read ahead, embedded in chunks across clips, and reduced to one row per clip.

Everything that embeds files takes it; what differs is the reduction and where the rows go.
"""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from torch import Tensor

from matpac.audio import AudioError
from matpac.audio.read_ahead import LONG_SECONDS, READERS, Clip, Clips
from matpac.errors import MatpacError, reason_of
from matpac.model.embedder import Embedder, Layers
from matpac.model.encoders import EncoderError, FrozenEncoder
from matpac.model.gather import Gathered, Gatherer, Mean
from matpac.vectors.frame_spool import FrameSpool

T = TypeVar("T")

NOT_FINITE = "NaN or infinity in its vectors; check this sound and the encoder"

LIST_CLIPS = 32
"""Clips handed at once to an encoder that takes lists of waveforms; default; fills a batch of any such encoder."""

LIST_SECONDS = 320.0
"""Sound handed at once to such an encoder; default; 20 MB at 16 kHz."""


@dataclass(frozen=True, eq=False)
class Row(Generic[T]):
    """One clip's vectors, or the reason why it has none.

    Args:
        path: the file as it was given; empty for a clip that came as blocks of samples.
        duration: in seconds, of what was embedded.
        vectors: what the reduction made of the clip; None with an error.
        error: the reason, without the path; empty with vectors.
    """

    path: str
    duration: float
    vectors: T | None
    error: str = ""


class Road(Generic[T]):
    """Embeds any number of clips of any length in flat memory; a clip's vectors don't depend on the other clips.

    It holds settings alone: it can be pickled if its encoder can, and used any number of times.

    Args:
        encoder: an `Embedder`, or an encoder that takes lists of waveforms (and then reduces them itself).
        reduction: makes a gatherer for each clip: `Mean` (the scene, [layer, width]), `Frames` ([layer, step,
            width]), `partial(WindowMeans, grid)` ([layer, window, width]), `partial(FrameSpool, folder)` (frames
            of any number, on disk), or your own.
        layers: see `matpac.model.embedder.Layers`; the last alone if None, which leaves a layer axis of one.
        batch_size: full chunks computed at once; None for what suits the device.
        unit_seconds: files are cut or zero-padded to this length; None leaves them as they are.
        readers: threads that decode and resample.
        long_seconds: files of this length and longer are read block by block.

    Raises:
        MatpacError: a batch of no chunk, or no reader.
        EncoderError: a reduction or layers that this encoder does not give.
    """

    def __init__(
        self,
        encoder: Embedder | FrozenEncoder,
        reduction: Callable[[], Gatherer[T]],
        *,
        layers: Layers = None,
        batch_size: int | None = None,
        unit_seconds: float | None = None,
        readers: int = READERS,
        long_seconds: float = LONG_SECONDS,
    ):
        if batch_size is not None and batch_size < 1:
            raise MatpacError(f"a batch of {batch_size} chunks computes nothing; it takes at least 1")
        if readers < 1:
            raise MatpacError(f"{readers} threads read nothing; it takes at least 1")
        if not isinstance(encoder, Embedder):
            if reduction is not Mean:
                raise EncoderError("this encoder gives one vector per clip, no frames; use one of matpac's own")
            if layers is not None:
                raise EncoderError("this encoder gives no vectors of its layers; ask for the last layer alone")
        self.encoder, self.reduction, self.batch_size = encoder, reduction, batch_size
        self.layers: Layers = layers
        self.unit_seconds, self.readers, self.long_seconds = unit_seconds, readers, long_seconds

    def rows(self, clips: Iterable[Clip]) -> Generator[Row[T], None, None]:
        """One row per clip, in order; a clip that can't be used gives a row with its error.

        Files that were not begun are not read if the caller stops early.
        """
        paths: deque[str] = deque()
        rate = self.encoder.sample_rate
        samples = None if self.unit_seconds is None else max(1, round(self.unit_seconds * rate))

        def noted() -> Iterator[Clip]:
            for clip in clips:
                paths.append(str(clip) if isinstance(clip, (str, os.PathLike)) else "")
                yield clip

        with ExitStack() as stack:
            pool = ThreadPoolExecutor(self.readers)
            stack.callback(pool.shutdown, cancel_futures=True)  # files that were not begun are not waited for
            ahead = Clips(noted(), rate, pool, samples, long_seconds=self.long_seconds)
            gathered = stack.enter_context(closing(self._gather(ahead)))
            for found in gathered:
                yield self._row(paths.popleft(), found)
                del found  # or this frame keeps what the caller is done with

    def _gather(self, clips: Iterable[Iterable[np.ndarray]]) -> Generator[Gathered[T], None, None]:
        if isinstance(self.encoder, Embedder):
            return self.encoder.gather(clips, self.reduction, self.layers, self.batch_size)
        return self._by_lists(clips)

    def _row(self, path: str, found: Gathered[T]) -> Row[T]:
        if found.error is not None:
            return Row(path, 0.0, None, reason_of(found.error, path))
        result = found.result
        if isinstance(result, FrameSpool) and not result.is_finite:
            result.discard()
            return Row(path, 0.0, None, NOT_FINITE)
        if isinstance(result, Tensor) and not result.isfinite().all():
            return Row(path, 0.0, None, NOT_FINITE)
        return Row(path, found.samples / self.encoder.sample_rate, result)

    def _by_lists(self, clips: Iterable[Iterable[np.ndarray]]) -> Generator[Gathered[Any], None, None]:
        """By an encoder that takes lists of whole waveforms, some at a time."""
        waiting: list[np.ndarray | AudioError] = []
        samples = 0
        for blocks in clips:
            try:
                waveform = np.concatenate([np.empty(0, np.float32), *blocks])
            except AudioError as error:
                waiting.append(error)
            else:
                waiting.append(waveform)
                samples += len(waveform)
            if len(waiting) == LIST_CLIPS or samples > LIST_SECONDS * self.encoder.sample_rate:
                yield from self._embed_list(waiting)
                waiting, samples = [], 0
        yield from self._embed_list(waiting)

    def _embed_list(self, waiting: Sequence[np.ndarray | AudioError]) -> Iterator[Gathered[Any]]:
        waveforms = [waveform for waveform in waiting if isinstance(waveform, np.ndarray)]
        try:
            vectors = iter(self.encoder.embed(waveforms)[:, None] if waveforms else ())
        except AudioError as error:
            if len(waiting) == 1:
                yield Gathered(0, None, error)
            else:  # one of them is to blame: embed each alone
                for one in waiting:
                    yield from self._embed_list([one])
            return
        for one in waiting:
            yield Gathered(0, None, one) if isinstance(one, AudioError) else Gathered(len(one), next(vectors))
