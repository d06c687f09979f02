"""The vectors of clips that come one after another, by any encoder."""

from collections.abc import Iterator

import numpy as np
from torch import Tensor

from matpac.audio import AudioError
from matpac.audio.read_ahead import Clips
from matpac.model.embedder import Embedder, Failed
from matpac.probe.encoders import NamedEncoder, NotFiniteError

BATCH_CLIPS = 32
"""Clips handed at once to an encoder that is no `Embedder`; ours."""

BATCH_SECONDS = 320.0
"""Sound handed at once to such an encoder: 20 MB at 16 kHz; ours."""

Numbered = tuple[int, np.ndarray | None]
"""A clip's number and its waveform; None for one that could not be read, which was told already."""


def vectors_in_order(named: NamedEncoder, clips: Clips, layers: bool, failed: Failed) -> Iterator[Tensor | None]:
    """One vector a clip, or [layer, width]; None for a clip that can't be used, once `failed` was told.

    Raises:
        EncoderError: a wrong shape, or (NotFiniteError) NaN or infinity where the encoder itself sees it.
    """
    if isinstance(named.encoder, Embedder):
        return named.encoder.scenes(clips, "all" if layers else None, failed=failed)
    return _by_lists(named, clips, layers, failed)


def _by_lists(named: NamedEncoder, clips: Clips, layers: bool, failed: Failed) -> Iterator[Tensor | None]:
    """Vectors by an encoder that takes lists of whole waveforms, some at a time."""
    waiting: list[Numbered] = []
    samples = 0
    for number, blocks in enumerate(clips):
        try:
            waveform = np.concatenate(list(blocks))
        except AudioError as error:
            failed(number, error)
            waveform = None
        waiting.append((number, waveform))
        samples += 0 if waveform is None else len(waveform)
        if len(waiting) == BATCH_CLIPS or samples > BATCH_SECONDS * clips.sample_rate:
            yield from _embed_list(named, clips, waiting, layers, failed)
            waiting, samples = [], 0
    yield from _embed_list(named, clips, waiting, layers, failed)


def _embed_list(
    named: NamedEncoder,
    clips: Clips,
    numbered: list[Numbered],
    layers: bool,
    failed: Failed,
) -> Iterator[Tensor | None]:
    good = [(number, waveform) for number, waveform in numbered if waveform is not None]
    if not good:
        yield from (None for _ in numbered)
        return
    embed = named.embed_layers if layers else named.embed
    try:
        vectors = iter(embed([waveform for _, waveform in good]))
    except NotFiniteError as error:
        place = error.clip
        raise NotFiniteError(
            named.name, str(clips.paths[good[place][0]]) if isinstance(place, int) else place
        ) from error
    except AudioError as error:  # one of them: each alone tells which
        if len(numbered) == 1:
            failed(numbered[0][0], error)
            yield None
            return
        for one in numbered:
            yield from _embed_list(named, clips, [one], layers, failed)
        return
    for _, waveform in numbered:
        yield None if waveform is None else next(vectors)
