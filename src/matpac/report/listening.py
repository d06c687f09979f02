"""Figures for one sound or two: the spectrogram with what is heard in it, and how alike its moments are."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from matpac.report.spectrogram import frequency_axes, picture_bytes, show_picture
from matpac.report.style import look, new_figure, printable

if TYPE_CHECKING:
    import matplotlib.figure

MOST_COLUMNS = 1600
"""Of a spectrogram's picture: more than its pixels on the page hide each other; ours."""

ROW_INCHES, SPECTROGRAM_INCHES, EDGE_INCHES = 0.26, 2.4, 0.75
"""Heights of a row of probabilities, of the spectrogram, and of what is around them."""


def heard_figure(
    logmel: Float[np.ndarray, "mel frame"],
    times: Float[np.ndarray, " frame"],
    frequencies: Float[np.ndarray, " mel"],
    rows: Mapping[str, Float[np.ndarray, " step"]],
    steps: Float[np.ndarray, " step"],
) -> "matplotlib.figure.Figure":
    """The log-mel spectrogram, and below it a row for each label with its probability (0 to 1) over time.

    `times` and `steps` are centres in seconds of log-mel frames and of the encoder's, `frequencies` those of the
    bands in Hz. A long sound's spectrogram shows the loudest of neighbouring frames.
    """
    low, high = np.quantile(logmel, (0.01, 0.999))
    logmel, times = _fewer(logmel, times)
    shade = np.clip((logmel - low) / max(high - low, 1e-9), 0, 1)
    heights = [SPECTROGRAM_INCHES, *([ROW_INCHES * len(rows)] if rows else [])]
    with look():
        figure = new_figure(sum(heights) + EDGE_INCHES)
        panels = np.atleast_1d(figure.subplots(len(heights), 1, sharex=True, height_ratios=heights))
        show_picture(panels[0], picture_bytes(shade, "magma"), times)
        frequency_axes(panels[0], frequencies)
        if rows:
            panels[0].tick_params(labelbottom=False)
            _probabilities(panels[1], rows, steps)
        panels[-1].set_xlabel("seconds")
    return figure


def _fewer(logmel: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most `MOST_COLUMNS` columns, the loudest of those that become one."""
    together = -(-len(times) // MOST_COLUMNS)
    if together == 1:
        return logmel, times
    starts = np.arange(0, len(times), together)
    counts = np.diff(starts, append=len(times))
    return np.maximum.reduceat(logmel, starts, axis=1), np.add.reduceat(times, starts) / counts


def _probabilities(axes: Any, rows: Mapping[str, np.ndarray], steps: np.ndarray) -> None:
    """A strip a label, first on top; from white to blue."""
    values = np.stack(list(rows.values())[::-1])
    show_picture(axes, picture_bytes(values, "Blues"), steps)
    axes.set_yticks(np.arange(len(rows)) + 0.5, [printable(label, 28) for label in list(rows)[::-1]])
    axes.grid(False)


def similarity_figure(
    similarity: Float[np.ndarray, "step other"],
    times: tuple[Float[np.ndarray, " step"], Float[np.ndarray, " other"]],
    names: Sequence[str],
) -> "matplotlib.figure.Figure":
    """Cosines of each moment of one sound (up) with each of another (to the right), or of the same.

    `times` are the moments' centres in seconds. Colours go from the least to the greatest cosine there is.
    """
    rows, columns = (_edges(each) for each in times)
    with look():
        figure = new_figure(4.6, 5.4)
        axes = figure.subplots()
        image = axes.imshow(similarity, origin="lower", aspect="auto", cmap="viridis", extent=(*columns, *rows))
        axes.grid(False)
        up, right = (printable(name, 40) for name in names)
        axes.set_xlabel(f"seconds of {right}")
        axes.set_ylabel(f"seconds of {up}")
        bar = figure.colorbar(image, ax=axes, label="cosine", fraction=0.05)
        bar.outline.set_visible(False)  # type: ignore[operator]
    return figure


def _edges(times: np.ndarray) -> tuple[float, float]:
    half = (times[1] - times[0]) / 2 if len(times) > 1 else 0.08
    return float(times[0] - half), float(times[-1] + half)
