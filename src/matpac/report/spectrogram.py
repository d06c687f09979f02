"""The pretext task on one clip: the spectrogram, what the student saw of it, how far off its predictions were."""

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float

from matpac.report.style import look, new_figure, number

if TYPE_CHECKING:
    import matplotlib.figure

MASKED = 0.80
"""Grey of a masked patch, 0 black to 1 white."""

FREQUENCIES = (8000, 4000, 2000, 1000, 500, 250, 125)
"""Octaves in Hz that the frequency axis names, where the spectrogram has them and they are far enough apart."""

CLOSEST = 0.09
"""Least distance of two named frequencies, as a share of the axis."""


def mask_figure(
    logmel: Float[np.ndarray, "mel frame"],
    masked: Bool[np.ndarray, "band step"],
    error: Float[np.ndarray, "band step"],
    times: Float[np.ndarray, " frame"],
    frequencies: Float[np.ndarray, " mel"],
) -> "matplotlib.figure.Figure":
    """Three panels on the same axes: log-mel; the patches the student saw; the error of those it predicted.

    `times` are the frames' centres in seconds, `frequencies` the bands' in Hz, low first. `error` is
    2 − 2·cos between prediction and target of each masked patch, 0 … 4 (MATPAC paper, the prediction loss), nan
    for visible ones. Raises ValueError where patches do not divide the spectrogram or a masked patch has no error.
    """
    bands, steps = masked.shape
    if logmel.shape[0] % bands or logmel.shape[1] % steps:
        raise ValueError(f"{bands} × {steps} patches don't divide a spectrogram of {logmel.shape}")
    if not np.isfinite(error[masked]).all():
        raise ValueError("a masked patch has no prediction error (nan)")
    low, high = np.quantile(logmel, (0.01, 0.999))
    shade = np.clip((logmel - low) / max(high - low, 1e-9), 0, 1)
    highest = _round_up(float(error[masked].max())) if masked.any() else 2.0
    titles = (
        "What is heard",
        f"What the student saw: {100 * np.mean(~masked):.0f} % of the patches",
        "How far its predictions of the others are from the teacher's vectors",
    )
    with look():
        figure = new_figure(6.4)
        grid = figure.add_gridspec(3, 2, width_ratios=(1, 0.015))
        panels = [figure.add_subplot(grid[row, 0]) for row in range(3)]
        for axes, title, picture in zip(panels, titles, _pictures(shade, masked, error / highest), strict=True):
            show_picture(axes, picture, times)
            axes.set_title(title)
            frequency_axes(axes, frequencies, (1, 1) if axes is panels[0] else (bands, steps))
            axes.tick_params(labelbottom=axes is panels[2])
        panels[2].set_xlabel("seconds")
        _colour_bar(figure, grid[0, 1], "magma", (float(low), float(high)), "normalised log-mel")
        _colour_bar(figure, grid[2, 1], "viridis", (0.0, highest), "error, 2 − 2 cos")
    return figure


def _pictures(
    shade: np.ndarray, masked: np.ndarray, error: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """RGB bytes of the three panels, from log-mel and error between 0 and 1."""
    height, width = shade.shape[0] // masked.shape[0], shade.shape[1] // masked.shape[1]
    hidden = _spread(masked, height, width)
    heard = picture_bytes(shade, "magma")
    seen = heard.copy()
    seen[hidden] = round(255 * MASKED)
    # visible patches stay as a pale picture, so that errors are seen beside what they were told from
    wrong = picture_bytes(0.75 + 0.25 * (1 - shade), "gray")
    wrong[hidden] = picture_bytes(_spread(np.where(masked, error, 0.0), height, width), "viridis")[hidden]
    return heard, seen, wrong


def _round_up(value: float) -> float:
    """The end of the error's colour scale: the next half, at most 4, the largest error there can be."""
    return float(min(4.0, max(0.5, np.ceil(2 * value) / 2)))


def _spread(patches: np.ndarray, height: int, width: int) -> np.ndarray:
    """Each patch's value on all its bands and frames."""
    return patches.repeat(height, 0).repeat(width, 1)


def picture_bytes(values: np.ndarray, name: str) -> np.ndarray:
    """RGB bytes of values in [0, 1]; without an alpha channel the pictures are smaller."""
    import matplotlib

    return np.array(matplotlib.colormaps[name](values, bytes=True))[..., :3]


def show_picture(axes: Any, picture: np.ndarray, times: np.ndarray) -> None:
    """Low bands at the bottom; each frame as wide as the time between two."""
    hop = float(times[1] - times[0]) if len(times) > 1 else 0.01
    extent = (float(times[0]) - hop / 2, float(times[-1]) + hop / 2, 0, len(picture))
    axes.imshow(picture, origin="lower", aspect="auto", extent=extent)


def frequency_axes(axes: Any, frequencies: np.ndarray, patches: tuple[int, int] = (1, 1)) -> None:
    """Ticks in kHz where the bands have those frequencies, and thin lines between patches."""
    bands, steps = patches
    left, right = axes.get_xlim()
    ticks: dict[int, float] = {}
    for hz in FREQUENCIES:
        row = float(np.interp(hz, frequencies, np.arange(len(frequencies)) + 0.5))
        apart = min((abs(row - other) for other in ticks.values()), default=np.inf)
        if frequencies[0] <= hz <= frequencies[-1] and apart >= CLOSEST * len(frequencies):
            ticks[hz] = row
    axes.set_yticks(list(ticks.values()), [number(hz / 1000) for hz in ticks])
    axes.set_ylabel("kHz")
    axes.grid(False)
    edges = {"colors": "white", "linewidth": 0.5}
    axes.vlines(np.linspace(left, right, steps + 1)[1:-1], 0, len(frequencies), **edges)
    axes.hlines(np.linspace(0, len(frequencies), bands + 1)[1:-1], left, right, **edges)
    axes.set(xlim=(left, right), ylim=(0, len(frequencies)))


def _colour_bar(figure: Any, place: Any, name: str, limits: tuple[float, float], label: str) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    axes = figure.add_subplot(place)
    bar = figure.colorbar(ScalarMappable(Normalize(*limits), name), cax=axes, label=label)
    bar.outline.set_visible(False)
    axes.yaxis.set_major_formatter(number)
