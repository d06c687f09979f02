"""The course of a training run, from the lines of its `metrics.jsonl`, as small multiples."""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from matpac.report.style import COLOURS, PALE, look, new_figure, number, panel_grid

if TYPE_CHECKING:
    import matplotlib.figure

POINTS = 600
"""Most points of a drawn curve; of more lines, neighbours are averaged, since a panel is 290 CSS pixels wide."""

SMOOTH_SHARE = 0.02
"""Width (deviation) of the Gaussian that smooths a curve, as a share of its points."""

ROUND = (1, 2, 2.5, 5, 10)
"""Steps between ticks, times a power of ten."""

PANELS: tuple[tuple[str, Mapping[str, str]], ...] = (
    ("Loss", {"loss": "total", "loss/prediction": "prediction", "loss/classification": "classification"}),
    (
        "Deviation of vectors (0 = collapse)",
        {"targets/deviation": "targets", "predictions/deviation": "predictions"},
    ),
    ("Gradient norm", {"gradient/norm": "before clipping"}),
    ("Perplexity of pseudo-classes", {"classes/perplexity": "classes in use"}),
    ("Student and teacher agree", {"classes/agreement": "share of tokens"}),
    ("Tokens won by hypothesis", {}),
    ("Learning rate", {"learning_rate": "of the optimizer"}),
    ("Temperatures", {"temperature/multiple_choice": "hypotheses", "temperature/teacher": "teacher"}),
    ("Teacher's decay", {"decay/encoder": "encoder", "decay/head": "head"}),
)
"""Title, and the keys drawn with their names in the legend. `wins/0` … are found by their form."""

SCHEDULES = ("Learning rate", "Temperatures", "Teacher's decay")
"""Panels of numbers that are computed, not measured: nothing to smooth."""


Panels = Sequence[tuple[str, Mapping[str, str]]]
"""Titles, and under each the keys that are drawn with their names in the legend."""


def loss_curves(metrics: Sequence[Mapping[str, float]], panels: Panels = PANELS) -> "matplotlib.figure.Figure":
    """Losses, monitors of collapse, pseudo-classes, hypotheses and schedules over the steps.

    `metrics` are a run's log lines, each with `step` and any of the keys of `PANELS`; a panel none of whose
    keys occurs is left out. Measured curves are drawn pale as they are, and smoothed on top of that. Raises
    ValueError where no line holds anything to draw or a line has no step.
    """
    if any("step" not in line for line in metrics):
        raise ValueError("a log line has no step; give the lines of a run's metrics.jsonl")
    lines = sorted(metrics, key=lambda line: line["step"])
    hypotheses = sorted(
        {int(found[1]) for line in lines for key in line if (found := re.fullmatch(r"wins/(\d+)", key))}
    )
    won = {f"wins/{number}": str(number + 1) for number in hypotheses} if len(hypotheses) > 1 else {}
    drawn = [(title, keys or won) for title, keys in panels]
    drawn = [
        (title, {key: name for key, name in keys.items() if any(key in line for line in lines)})
        for title, keys in drawn
    ]
    drawn = [(title, keys) for title, keys in drawn if keys]
    if not drawn:
        raise ValueError(f"nothing to draw in {len(lines)} log lines; known keys are loss, learning_rate, …")
    rows, columns = panel_grid(len(drawn))
    with look():
        figure = new_figure(2.3 * rows + 0.1)
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, (title, keys) in zip(grid, drawn, strict=False):
            _panel(axes, title, {name: _series(lines, key) for key, name in keys.items()})
        for axes in grid[len(drawn) :]:
            axes.remove()
    return figure


def smooth(values: Float[np.ndarray, " point"], width: float) -> Float[np.ndarray, " point"]:
    """Values averaged with their neighbours under a Gaussian of deviation `width` points.

    At the ends and beside nan the weights that are left count alone, so a constant stays what it is.
    """
    if width <= 0 or values.size < 3:
        return values
    reach = int(np.ceil(3 * width))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    finite = np.isfinite(values)
    total = np.convolve(np.where(finite, values, 0.0), weights)[reach:-reach]
    weight = np.convolve(finite.astype(float), weights)[reach:-reach]
    return np.where(finite, total / np.where(finite, weight, 1.0), np.nan)


def thin(
    steps: Float[np.ndarray, " point"], values: Float[np.ndarray, " point"], most: int = POINTS
) -> tuple[Float[np.ndarray, " kept"], Float[np.ndarray, " kept"]]:
    """At most `most` points, each the mean of as many neighbours (the last one of what is left)."""
    group = -(-steps.size // most)
    if group <= 1:
        return steps, values
    starts = np.arange(0, steps.size, group)
    counts = np.diff(np.append(starts, steps.size))
    return np.add.reduceat(steps, starts) / counts, np.add.reduceat(values, starts) / counts


def _series(
    lines: Sequence[Mapping[str, float]], key: str
) -> tuple[Float[np.ndarray, " point"], Float[np.ndarray, " point"]]:
    """Steps and values of the lines that have the key."""
    pairs = np.array([(line["step"], line[key]) for line in lines if key in line], dtype=float)
    return thin(pairs[:, 0], pairs[:, 1])


def _panel(axes: Any, title: str, series: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """One panel: title, legend under it, curves."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    if title.startswith("Tokens won"):
        _area(axes, series)
    else:
        for colour, (name, (steps, values)) in zip(COLOURS, series.items(), strict=False):
            _curve(axes, name, steps, values, colour, title not in SCHEDULES)
    axes.set_title(title, pad=21)
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=len(series),
        borderaxespad=0.3,
        borderpad=0,
        columnspacing=1.0,
        handlelength=1.0,
        handletextpad=0.5,
    )
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, steps=ROUND))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=ROUND))
    axes.xaxis.set_major_formatter(FuncFormatter(number))
    axes.yaxis.set_major_formatter(FuncFormatter(number))
    axes.set_xlabel("step", color=PALE)
    axes.margins(x=0)
    if title.startswith(("Deviation", "Student and")):
        axes.set_ylim(bottom=0)
    if title.startswith("Deviation"):
        axes.set_ylim(top=max(1.08, axes.get_ylim()[1]))
        axes.axhline(1, color=PALE, linewidth=0.8, linestyle=(0, (4, 3)))
    if title.startswith(("Student and", "Tokens won")):
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))


def _curve(axes: Any, name: str, steps: np.ndarray, values: np.ndarray, colour: str, measured: bool) -> None:
    """The curve as it is, pale, and its smoothed course; what is computed or has few points is drawn once."""
    width = SMOOTH_SHARE * steps.size
    if not measured or width < 1:
        marker = "o" if steps.size == 1 else None
        axes.plot(steps, values, color=colour, label=name, marker=marker)
        return
    axes.plot(steps, values, color=colour, alpha=0.28, linewidth=0.7)
    axes.plot(steps, smooth(values, width), color=colour, label=name)


def _area(axes: Any, series: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Shares that add up to one, stacked."""
    import matplotlib

    count = len(series)
    colours = (
        COLOURS[:count] if count < len(COLOURS) else matplotlib.colormaps["cividis"](np.linspace(0, 1, count))
    )
    steps = next(iter(series.values()))[0]
    shares = [smooth(values, SMOOTH_SHARE * values.size) for _, values in series.values()]
    axes.stackplot(steps, shares, labels=list(series), colors=colours, alpha=0.75, linewidth=0)
    axes.set_ylim(0, 1)
