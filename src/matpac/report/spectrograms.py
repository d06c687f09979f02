"""Figures of a clip: spectrogram, pretext task, probabilities over time, similarity of its moments."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float

from matpac.report.style import look, new_figure, number, printable

if TYPE_CHECKING:
    import matplotlib.figure

MASKED = 0.80
"""Grey of a masked patch, 0 black to 1 white."""

FREQUENCIES = (8000, 4000, 2000, 1000, 500, 250, 125)
"""Octaves in Hz named on the frequency axis, if the spectrogram has them and they are far enough apart."""

CLOSEST = 0.09
"""Least distance of two named frequencies, as a share of the axis."""

MOST_COLUMNS = 1600
"""Columns of a spectrogram's picture; default, a little more than the pixels it has on the page."""

ROW_INCHES, SPECTROGRAM_INCHES, EDGE_INCHES = 0.26, 2.4, 0.75
"""Heights of a row of probabilities, of the spectrogram, and of the labels around them."""


@dataclass(frozen=True, eq=False)
class MaskedClip:
    """One clip in the pretext task.

    Args:
        logmel: the spectrogram, low bands first.
        masked: patches hidden from the student.
        error: 2 − 2·cos between prediction and target of each masked patch, 0 … 4 (MATPAC paper, the prediction
            loss); nan for visible patches.
        times: centres of the frames in seconds.
        frequencies: centres of the bands in Hz.

    Raises:
        ValueError: patches do not divide the spectrogram, or a masked patch has no error.
    """

    logmel: Float[np.ndarray, "mel frame"]
    masked: Bool[np.ndarray, "band step"]
    error: Float[np.ndarray, "band step"]
    times: Float[np.ndarray, " frame"]
    frequencies: Float[np.ndarray, " mel"]

    def __post_init__(self) -> None:
        bands, steps = self.masked.shape
        if self.logmel.shape[0] % bands or self.logmel.shape[1] % steps:
            raise ValueError(f"{bands} × {steps} patches don't divide a spectrogram of {self.logmel.shape}")
        if not np.isfinite(self.error[self.masked]).all():
            raise ValueError("a masked patch has no prediction error (nan)")


def mask_figure(clip: MaskedClip) -> "matplotlib.figure.Figure":
    """Three panels on the same axes: log-mel; the patches the student saw; the error of those it predicted."""
    masked = clip.masked
    low, high = np.quantile(clip.logmel, (0.01, 0.999))
    # the end of the error's colour scale: the next half, at most 4, the largest possible error
    worst = float(clip.error[masked].max()) if masked.any() else 2.0
    highest = float(min(4.0, max(0.5, np.ceil(2 * worst) / 2)))
    titles = (
        "What is heard",
        f"What the student saw: {100 * np.mean(~masked):.0f} % of the patches",
        "How far its predictions of the others are from the teacher's vectors",
    )
    with look():
        figure = new_figure(6.4)
        grid = figure.add_gridspec(3, 2, width_ratios=(1, 0.015))
        rows = [figure.add_subplot(grid[row, 0]) for row in range(3)]
        for axes, title, picture in zip(rows, titles, _mask_pictures(clip, highest), strict=True):
            _show(axes, picture, clip.times)
            axes.set_title(title)
            _frequency_axis(axes, clip.frequencies)
            if axes is not rows[0]:
                _patch_edges(axes, *masked.shape)
            axes.tick_params(labelbottom=axes is rows[2])
        rows[2].set_xlabel("seconds")
        _colour_bar(figure, grid[0, 1], "magma", (float(low), float(high)), "normalised log-mel")
        _colour_bar(figure, grid[2, 1], "viridis", (0.0, highest), "error, 2 − 2 cos")
    return figure


def _mask_pictures(clip: MaskedClip, highest: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """RGB bytes of the three panels."""
    height, width = (size // count for size, count in zip(clip.logmel.shape, clip.masked.shape, strict=True))

    def spread(patches: np.ndarray) -> np.ndarray:
        return patches.repeat(height, 0).repeat(width, 1)

    shade = _shade(clip.logmel)
    hidden = spread(clip.masked)
    heard = _colours(shade, "magma")
    seen = heard.copy()
    seen[hidden] = round(255 * MASKED)
    # visible patches stay as a pale picture, so that errors are seen beside what they were predicted from
    wrong = _colours(0.75 + 0.25 * (1 - shade), "gray")
    wrong[hidden] = _colours(spread(np.where(clip.masked, clip.error / highest, 0.0)), "viridis")[hidden]
    return heard, seen, wrong


def heard_figure(
    logmel: Float[np.ndarray, "mel frame"],
    times: Float[np.ndarray, " frame"],
    frequencies: Float[np.ndarray, " mel"],
    rows: Mapping[str, Float[np.ndarray, " step"]],
    steps: Float[np.ndarray, " step"],
) -> "matplotlib.figure.Figure":
    """The log-mel spectrogram, and below it one row per label with its probability (0 to 1) over time.

    A long sound's spectrogram shows the loudest of neighbouring frames.

    Args:
        logmel: the spectrogram, low bands first.
        times: centres of its frames in seconds.
        frequencies: centres of its bands in Hz.
        rows: probabilities by label.
        steps: their times in seconds.
    """
    shade = _shade(logmel)
    together = -(-len(times) // MOST_COLUMNS)
    starts = np.arange(0, len(times), together)
    counts = np.diff(starts, append=len(times))
    shade, times = np.maximum.reduceat(shade, starts, axis=1), np.add.reduceat(times, starts) / counts
    heights = [SPECTROGRAM_INCHES, *([ROW_INCHES * len(rows)] if rows else [])]
    with look():
        figure = new_figure(sum(heights) + EDGE_INCHES)
        panels = np.atleast_1d(figure.subplots(len(heights), 1, sharex=True, height_ratios=heights))
        _show(panels[0], _colours(shade, "magma"), times)
        _frequency_axis(panels[0], frequencies)
        if rows:
            panels[0].tick_params(labelbottom=False)
            labels = list(rows)[::-1]
            _show(panels[1], _colours(np.stack([rows[label] for label in labels]), "Blues"), steps)
            panels[1].set_yticks(np.arange(len(rows)) + 0.5, [printable(label, 28) for label in labels])
            panels[1].grid(False)
        panels[-1].set_xlabel("seconds")
    return figure


def similarity_figure(
    similarity: Float[np.ndarray, "step other"],
    times: tuple[Float[np.ndarray, " step"], Float[np.ndarray, " other"]],
    names: Sequence[str],
) -> "matplotlib.figure.Figure":
    """Cosines of each moment of one sound (up) with each of another (to the right), or of the same.

    Colours range from the least to the greatest cosine.

    Args:
        similarity: the cosines.
        times: centres of the moments of either sound, in seconds.
        names: of the two sounds.
    """
    rows, columns = (_edges(each, 0.16) for each in times)
    with look():
        figure = new_figure(4.6, 5.4)
        axes = figure.subplots()
        image = axes.imshow(similarity, origin="lower", aspect="auto", cmap="viridis", extent=(*columns, *rows))
        axes.grid(False)
        up, right = (printable(name, 40) for name in names)
        axes.set(xlabel=f"seconds of {right}", ylabel=f"seconds of {up}")
        bar: Any = figure.colorbar(image, ax=axes, label="cosine", fraction=0.05)
        bar.outline.set_visible(False)
    return figure


def _shade(logmel: np.ndarray) -> np.ndarray:
    """Log-mel scaled to [0, 1], without the extremes."""
    low, high = np.quantile(logmel, (0.01, 0.999))
    return np.clip((logmel - low) / max(high - low, 1e-9), 0, 1)


def _colours(values: np.ndarray, name: str) -> np.ndarray:
    """RGB bytes of values in [0, 1]; pictures are smaller without an alpha channel."""
    import matplotlib

    return np.array(matplotlib.colormaps[name](values, bytes=True))[..., :3]


def _edges(times: np.ndarray, hop: float) -> tuple[float, float]:
    """Begin and end of the time around moments; `hop` where there is only one."""
    half = (float(times[1] - times[0]) if len(times) > 1 else hop) / 2
    return float(times[0]) - half, float(times[-1]) + half


def _show(axes: Any, picture: np.ndarray, times: np.ndarray) -> None:
    """Draw a picture over time, low bands at the bottom."""
    axes.imshow(picture, origin="lower", aspect="auto", extent=(*_edges(times, 0.01), 0, len(picture)))


def _frequency_axis(axes: Any, frequencies: np.ndarray) -> None:
    """Ticks in kHz where the bands have those frequencies."""
    ticks: dict[int, float] = {}
    for hz in FREQUENCIES:
        row = float(np.interp(hz, frequencies, np.arange(len(frequencies)) + 0.5))
        apart = min((abs(row - other) for other in ticks.values()), default=np.inf)
        if frequencies[0] <= hz <= frequencies[-1] and apart >= CLOSEST * len(frequencies):
            ticks[hz] = row
    axes.set_yticks(list(ticks.values()), [number(hz / 1000) for hz in ticks])
    axes.set_ylabel("kHz")
    axes.grid(False)
    axes.set(xlim=axes.get_xlim(), ylim=(0, len(frequencies)))  # as they are, whatever is drawn next


def _patch_edges(axes: Any, bands: int, steps: int) -> None:
    """Thin lines between patches."""
    (left, right), (_, top) = axes.get_xlim(), axes.get_ylim()
    line = {"colors": "white", "linewidth": 0.5}
    axes.vlines(np.linspace(left, right, steps + 1)[1:-1], 0, top, **line)
    axes.hlines(np.linspace(0, top, bands + 1)[1:-1], left, right, **line)


def _colour_bar(figure: Any, place: Any, name: str, limits: tuple[float, float], label: str) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    axes = figure.add_subplot(place)
    bar = figure.colorbar(ScalarMappable(Normalize(*limits), name), cax=axes, label=label)
    bar.outline.set_visible(False)
    axes.yaxis.set_major_formatter(number)
