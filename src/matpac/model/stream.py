"""Frames of live sound: blocks of any size go in, frames with their times come out.

Joined, they are what `Embedder.frames` gives for the whole. So a frame has to wait until its chunk is complete: in
the network every frame attends to its whole chunk, including later sound. The first frames come after
`Stream.latency` seconds of sound (6.095 s for the papers' encoders), the next ones every `Stream.period` (6.08 s).
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from matpac.audio import AudioError, Resampler
from matpac.errors import MatpacError
from matpac.model.chunks import Chunk, Cutter
from matpac.model.embedder import Embedder, Layers
from matpac.model.waveforms import Waveform, as_mono, too_short


class TimedFrames(NamedTuple):
    """Frames and the times of their centres in seconds from the stream's start."""

    frames: Float[Tensor, "*layer step width"]
    times: Float64[Tensor, " step"]


class Stream:
    """A stream to push blocks of sound into, or to iterate over where `blocks` are given.

        with matpac.stream(encoder, 44_100) as stream:
            for block in microphone:
                frames, times = stream.push(block)   # [t, width], [t]: empty until a chunk is complete
        frames, times = stream.finish()              # the last, shorter chunk

        for frames, times in matpac.stream(encoder, 44_100, blocks): ...

    Memory does not grow with what has passed.

    Args:
        encoder: as `matpac.load` gives it.
        sample_rate: of the blocks, in Hz; any rate is resampled as it comes.
        blocks: mono, of any sizes, floats in [-1, 1] or int16 or int32.
        layers: see `Layers`; None gives [t, width], otherwise [layer, t, width].

    Raises:
        ValueError: a rate that is not positive, or a layer that is not there.
    """

    def __init__(
        self,
        encoder: Embedder,
        sample_rate: int,
        blocks: Iterable[Waveform] | None = None,
        layers: Layers = None,
    ):
        self.encoder, self.sample_rate = encoder, sample_rate
        self.layers: Layers = layers
        self._layer_axis = () if layers is None else (len(encoder.which(layers)),)
        self._resampler = Resampler(sample_rate, encoder.sample_rate)
        self._cutter = Cutter(encoder.logmel.config, encoder.config.frames)
        self._blocks = blocks
        self._pushed = self._samples = self._steps = 0
        self._last: TimedFrames | None = None
        self._closed = False

    @property
    def latency(self) -> float:
        """Seconds of sound before the first frames come; resampling adds some milliseconds."""
        config = self.encoder.logmel.config
        return config.samples(self._cutter.frames) / config.sample_rate

    @property
    def period(self) -> float:
        """Seconds of sound from one chunk's frames to the next one's."""
        config = self.encoder.logmel.config
        return self._cutter.frames * config.hop / config.sample_rate

    def push(self, block: Waveform) -> TimedFrames:
        """Take a block; the frames of the chunks that it completes, mostly none: [0, width].

        Raises:
            AudioError: not mono, not numbers, or not finite; names the block and takes nothing of it.
            MatpacError: the stream has ended.
        """
        if self._closed:
            raise MatpacError("this stream has ended; start another one for other sound")
        samples = as_mono(block, f"block {self._pushed}")
        self._pushed += 1
        return self._embed(self._cut(self._resampler.push(samples)))

    def finish(self) -> TimedFrames:
        """The sound has ended: the frames that are left. Called again it gives the same.

        Raises:
            AudioError: all that came is shorter than a frame.
            MatpacError: the stream was left by an error.
        """
        if self._last is None:
            if self._closed:
                raise MatpacError("this stream was left by an error; its last frames are lost")
            self._closed = True
            chunks = [*self._cut(self._resampler.finish()), *self._cutter.finish()]
            if not self._cutter.index:
                raise AudioError(f"stream: {too_short(self._samples, self._cutter.config)}")
            self._last = self._embed(chunks)
        return self._last

    def __iter__(self) -> Iterator[TimedFrames]:
        """Frames of the given blocks, as they are complete.

        Raises:
            MatpacError: no blocks were given; otherwise as `push` and `finish`.
        """
        if self._blocks is None:
            raise MatpacError("no blocks to go over: pass them to matpac.stream, or push them one by one")
        for block in self._blocks:
            if len((found := self.push(block)).times):
                yield found
        if len((found := self.finish()).times):
            yield found

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        """Finish, so that `finish()` gives the last frames; after an error it only ends."""
        if kind is None:
            self.finish()
        self._closed = True

    def _cut(self, samples: Float[np.ndarray, " samples"]) -> Iterator[Chunk]:
        self._samples += len(samples)
        return self._cutter.push(samples)

    def _embed(self, chunks: Iterable[Chunk]) -> TimedFrames:
        samples = [chunk.samples for chunk in chunks]
        if samples:
            parts, _ = self.encoder.frames(samples, self.encoder.sample_rate, self.layers)
            frames = torch.cat(parts, dim=-2)
        else:
            frames = torch.empty(*self._layer_axis, 0, self.encoder.width)
        times = self.encoder.times(frames.shape[-2], self._steps)
        self._steps += len(times)
        return TimedFrames(frames, times)


stream = Stream
