"""One sound through an encoder: everything that the page shows of it."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from matpac.audio import AudioError, blocks
from matpac.model.embedder import Embedder
from matpac.model.heads import Tag, class_names, most_probable
from matpac.model.logmel import band_frequencies, frame_centres
from matpac.model.waveforms import too_short
from matpac.report.style import printable

LONGEST = 600.0
"""Longest sound that the page takes, in seconds; default; ten minutes take some 200 MB to compute and show."""

ROWS = 8
"""Labels whose probability is drawn over time; default; the most probable ones at any moment."""

MOMENTS = 300
"""Moments that are compared with each other; default; in longer sounds each is the mean of several frames."""


@dataclass(frozen=True, eq=False)
class Heard:
    """A sound, and what an encoder computes of it.

    Args:
        name: file name.
        duration: in seconds.
        logmel: as the encoder sees it.
        times: centres of its frames, in seconds.
        frequencies: of its bands, in Hz.
        frames: vectors, one per `Embedder.hop`.
        steps: their centres, in seconds.
        tags: of the whole sound, most probable first; empty for an encoder without a head.
        probabilities: of the most probable labels over the steps.
    """

    name: str
    duration: float
    logmel: Float[np.ndarray, "mel frame"]
    times: Float[np.ndarray, " frame"]
    frequencies: Float[np.ndarray, " mel"]
    frames: Float[np.ndarray, "step width"]
    steps: Float[np.ndarray, " step"]
    tags: list[Tag]
    probabilities: dict[str, Float[np.ndarray, " step"]]

    @property
    def scene(self) -> Float[np.ndarray, " width"]:
        """The vector of the whole: the mean over time."""
        return self.frames.mean(axis=0)


def hear(embedder: Embedder, path: str | Path, longest: float = LONGEST) -> Heard:
    """Read a file and embed it.

    Raises:
        AudioError: it can't be read, is shorter than a window of the log-mel, or longer than `longest` seconds;
            names the file without its folder, since uploads are kept elsewhere.
    """
    rate, name = embedder.sample_rate, printable(Path(path).name)
    waveform = read_at_most(path, rate, longest)
    config = embedder.logmel.config
    if len(waveform) < config.window:
        raise AudioError(f"{name}: {too_short(len(waveform), config)}")
    frames, steps = embedder.frames(waveform, rate)
    with torch.inference_mode():
        logmel = embedder.logmel(torch.from_numpy(waveform)[None].to(embedder.device))[0].cpu().numpy()
    tags: list[Tag] = []
    probabilities: dict[str, np.ndarray] = {}
    if embedder.head is not None:
        whole = embedder.scene_probabilities(frames[0].mean(dim=0, keepdim=True))[0]
        names = class_names(embedder.card.labels, len(whole))
        tags = most_probable(whole, names, top=None)
        over_time = embedder.scene_probabilities(frames[0]).numpy()
        most = np.argsort(-over_time.max(axis=0), kind="stable")[:ROWS]
        probabilities = {names[number]: over_time[:, number] for number in most.tolist()}
    return Heard(
        name,
        len(waveform) / rate,
        logmel,
        frame_centres(config, logmel.shape[1]),
        band_frequencies(config),
        frames[0].numpy(),
        steps.numpy(),
        tags,
        probabilities,
    )


def read_at_most(path: str | Path, sample_rate: int, longest: float) -> Float[np.ndarray, " samples"]:
    """The whole file, mono, at `sample_rate` (Hz). Raises AudioError as `hear`; reads no more than `longest`."""
    name = printable(Path(path).name)
    parts: list[np.ndarray] = []
    samples = 0
    try:
        for block in blocks(path, sample_rate=sample_rate):
            parts.append(block)
            samples += len(block)
            if samples > longest * sample_rate:
                raise AudioError(
                    f"{name}: longer than {longest:g} s, which is what this page takes; start it with matpac app "
                    "--longest SECONDS, or use matpac tag and matpac embed, which take any length"
                )
    except AudioError as error:
        raise AudioError(str(error).replace(str(path), name)) from error
    if not parts:
        raise AudioError(f"{name}: no samples in this file; remove it")
    return np.concatenate(parts)


def moments(
    frames: Float[np.ndarray, "step width"], steps: Float[np.ndarray, " step"]
) -> tuple[Float[np.ndarray, "moment width"], Float[np.ndarray, " moment"]]:
    """At most `MOMENTS` unit vectors, means of neighbouring frames, and their centres in seconds."""
    together = math.ceil(len(frames) / MOMENTS)
    starts = np.arange(0, len(frames), together)
    counts = np.diff(starts, append=len(frames))
    means = np.add.reduceat(frames, starts, axis=0) / counts[:, None]
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    return means, np.add.reduceat(steps, starts) / counts


def similarity(one: Heard, other: Heard) -> float:
    """Cosine of the scenes of two sounds."""
    a, b = one.scene.astype(np.float64), other.scene.astype(np.float64)
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
