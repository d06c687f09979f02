"""Learning curves of a training run, from the lines of its `metrics.jsonl`, as small multiples."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from matpac.report.style import COLOURS, PALE, look, new_figure, number, panel_grid, panels

if TYPE_CHECKING:
    import matplotlib.figure

POINTS = 600
"""Most points of a curve: a panel is 290 CSS pixels wide. Neighbours are averaged where there are more."""

SMOOTH_SHARE = 0.02
"""Standard deviation of the Gaussian that smooths a curve, as a share of its points."""

ROUND = (1, 2, 2.5, 5, 10)
"""Steps between ticks, times a power of ten."""


@dataclass(frozen=True)
class Panel:
    """One of the small figures.

    Args:
        title: heading.
        curves: keys of the log lines, and their names in the legend.
        smooth: whether curves are measured, and so are smoothed; schedules are not.
        stacked: whether the curves are shares that add up to one.
        percent: whether the vertical axis is in per cent.
        from_zero: whether the vertical axis begins at zero.
        dashed: height of a dashed line, always in view.
    """

    title: str
    curves: Mapping[str, str]
    smooth: bool = True
    stacked: bool = False
    percent: bool = False
    from_zero: bool = False
    dashed: float | None = None


PANELS = (
    Panel("Loss", {"loss": "total", "loss/prediction": "prediction", "loss/classification": "classification"}),
    Panel(
        "Standard deviation (0 = collapse)",
        {"targets/deviation": "targets", "predictions/deviation": "predictions"},
        from_zero=True,
        dashed=1,
    ),
    Panel("Gradient norm", {"gradient/norm": "before clipping"}),
    Panel("Perplexity of pseudo-classes", {"classes/perplexity": "classes in use"}),
    Panel("Student and teacher agree", {"classes/agreement": "share of tokens"}, percent=True, from_zero=True),
    Panel("Tokens won by hypothesis", {}, stacked=True, percent=True),
    Panel("Learning rate", {"learning_rate": "of the optimizer"}, smooth=False),
    Panel(
        "Temperatures",
        {"temperature/multiple_choice": "hypotheses", "temperature/teacher": "teacher"},
        smooth=False,
    ),
    Panel("Teacher's decay", {"decay/encoder": "encoder", "decay/head": "head"}, smooth=False),
)
"""Panels of a pre-training. The stacked one shows the keys `wins/0`, `wins/1` … that the log has."""


def loss_curves(
    metrics: Sequence[Mapping[str, float]], shown: Sequence[Panel] = PANELS
) -> "matplotlib.figure.Figure":
    """Losses, monitors of collapse, pseudo-classes, hypotheses and schedules by step.

    Measured curves are drawn pale as they are, with the smoothed curve on top.

    Args:
        metrics: log lines of a run, each with `step` and any of the panels' keys.
        shown: panels; those without a key in the log are omitted.

    Raises:
        ValueError: nothing to draw, or a line without a step.
    """
    if any("step" not in line for line in metrics):
        raise ValueError("a log line has no step; give the lines of a run's metrics.jsonl")
    lines = sorted(metrics, key=lambda line: line["step"])
    logged = set().union(*lines)
    wins = sorted(int(found[1]) for key in logged if (found := re.fullmatch(r"wins/(\d+)", key)))
    won = {f"wins/{number}": str(number + 1) for number in wins} if len(wins) > 1 else {}
    drawn = [
        replace(panel, curves={key: name for key, name in (panel.curves or won).items() if key in logged})
        for panel in shown
    ]
    drawn = [panel for panel in drawn if panel.curves]
    if not drawn:
        raise ValueError(f"nothing to draw in {len(lines)} log lines; known keys are loss, learning_rate, …")
    with look():
        figure = new_figure(2.3 * panel_grid(len(drawn))[0] + 0.1)
        for axes, panel in zip(panels(figure, len(drawn)), drawn, strict=True):
            _draw(axes, panel, {name: _series(lines, key) for key, name in panel.curves.items()})
    return figure


def smooth(values: Float[np.ndarray, " point"], width: float) -> Float[np.ndarray, " point"]:
    """Values averaged with their neighbours under a Gaussian with a standard deviation of `width` points.

    At the ends and beside nan the remaining weights are normalised, so a constant stays constant.
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
    """At most `most` points, each the mean of equally many neighbours (the last one of the remainder)."""
    group = -(-steps.size // most)
    if group <= 1:
        return steps, values
    starts = np.arange(0, steps.size, group)
    counts = np.diff(np.append(starts, steps.size))
    return np.add.reduceat(steps, starts) / counts, np.add.reduceat(values, starts) / counts


def _series(lines: Sequence[Mapping[str, float]], key: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of the lines that have the key."""
    pairs = np.array([(line["step"], line[key]) for line in lines if key in line], dtype=float)
    return thin(pairs[:, 0], pairs[:, 1])


def _draw(axes: Any, panel: Panel, series: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """One panel: title, legend under it, curves."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    if panel.stacked:
        _stack(axes, series)
    else:
        for colour, (name, (steps, values)) in zip(COLOURS, series.items(), strict=False):
            width = SMOOTH_SHARE * steps.size
            if not panel.smooth or width < 1:
                axes.plot(steps, values, color=colour, label=name, marker="o" if steps.size == 1 else None)
            else:
                axes.plot(steps, values, color=colour, alpha=0.28, linewidth=0.7)
                axes.plot(steps, smooth(values, width), color=colour, label=name)
    axes.set_title(panel.title, pad=21)
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
    percent = FuncFormatter(lambda value, _: f"{100 * value:.0f} %")
    axes.yaxis.set_major_formatter(percent if panel.percent else FuncFormatter(number))
    axes.set_xlabel("step", color=PALE)
    axes.margins(x=0)
    if panel.from_zero:
        axes.set_ylim(bottom=0)
    if panel.dashed is not None:
        axes.set_ylim(top=max(1.08 * panel.dashed, axes.get_ylim()[1]))
        axes.axhline(panel.dashed, color=PALE, linewidth=0.8, linestyle=(0, (4, 3)))


def _stack(axes: Any, series: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Shares that add up to one."""
    import matplotlib

    count = len(series)
    colours = (
        COLOURS[:count] if count < len(COLOURS) else matplotlib.colormaps["cividis"](np.linspace(0, 1, count))
    )
    steps = next(iter(series.values()))[0]
    shares = [smooth(values, SMOOTH_SHARE * values.size) for _, values in series.values()]
    axes.stackplot(steps, shares, labels=list(series), colors=colours, alpha=0.75, linewidth=0)
    axes.set_ylim(0, 1)
