"""Figures of scores: encoders on tasks, layers, classes, and confusions between classes."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Integer

from matpac.report.results import Result, by_task_and_encoder
from matpac.report.style import COLOURS, GRID, PALE, Mark, look, marks, new_figure, number, outer_legend, printable

if TYPE_CHECKING:
    import matplotlib.figure

EDGE = 1.0
"""Per cent beyond 0 and 100 that an axis of scores may reach, so that dots at its ends are whole."""

MOST_BARS = 60
"""Classes up to which all scores are drawn; of more, the best and the worst half of this."""

CONFUSION_CLASSES = 60
"""Classes up to which a confusion matrix can be read; default, by the size of its labels."""

MOST_NUMBERS = 15
"""Classes up to which a confusion matrix has its numbers written in."""


def score_intervals(
    results: Sequence[Result], colours: Mapping[str, Mark] | None = None
) -> "matplotlib.figure.Figure":
    """A dot and its 95 % interval for each encoder on each task; published ones are hollow.

    Args:
        results: at least one.
        colours: the encoders' marks on the whole page (`marks(names)`); by order of appearance if None.

    Raises:
        ValueError: no result, or two of the same encoder, task and metric.
    """
    if not results:
        raise ValueError("a figure of results needs at least one result")
    by_task_and_encoder(results)
    colours = colours or marks(result.encoder for result in results)
    labels = list(dict.fromkeys(result.label for result in results))
    tasks = list(dict.fromkeys((result.task, result.metric) for result in results))
    step = 0.72 / max(len(labels), 3)
    with look():
        figure = new_figure(0.9 + len(tasks) * max(0.5, 0.17 * len(labels)))
        axes = figure.subplots()
        for row in range(0, len(tasks), 2):
            axes.axhspan(row - 0.5, row + 0.5, color="#f3f4f6", linewidth=0, zorder=0)
        for turn, label in enumerate(labels):
            offset = (turn - (len(labels) - 1) / 2) * step
            mine = [result for result in results if result.label == label]
            rows = [tasks.index((result.task, result.metric)) + offset for result in mine]
            _dots(axes, mine, rows, colours[mine[0].encoder])
        axes.set_yticks(
            range(len(tasks)), [f"{printable(task, 28)}\n{printable(metric, 28)}" for task, metric in tasks]
        )
        axes.set_ylim(len(tasks) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.grid(False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_formatter(number)
        axes.set_xlabel("score in %, with 95 % interval", color=PALE)
        left, right = axes.get_xlim()
        axes.set_xlim(max(left, -EDGE), min(right, 100 + EDGE))
        names = [printable(label, 40) for label in labels]
        columns = max(1, min(len(names), 110 // (max(map(len, names)) + 6)))
        outer_legend(figure, axes.containers, names, columns, loc="outside upper left")
    return figure


def _dots(axes: Any, mine: Sequence[Result], rows: Sequence[float], mark: Mark) -> None:
    means, halves = _in_per_cent(mine)
    axes.errorbar(
        means,
        rows,
        # no score is below 0 or above 100, however wide Student's t makes the interval of two seeds; lists, since
        # Matplotlib 3.10 takes arrays of one value apart in a way that NumPy warns about
        xerr=[np.minimum(halves, means).tolist(), np.minimum(halves, 100 - means).tolist()],
        linestyle="none",
        color=mark.colour,
        marker=mark.marker,
        markersize=5.5,
        markerfacecolor="white" if mine[0].published else mark.colour,
        elinewidth=1.6,
        capsize=2.5,
    )


def _in_per_cent(results: Sequence[Result]) -> tuple[np.ndarray, np.ndarray]:
    """Means and half intervals, 0 where there is none."""
    means = np.array([100 * result.mean for result in results])
    return means, np.nan_to_num([100 * result.ci95 for result in results])


def layers_curve(
    encoders: Mapping[str, Sequence[Result]], colours: Mapping[str, Mark]
) -> "matplotlib.figure.Figure":
    """Scores in per cent of a probe on each layer, with 95 % intervals cut at 0 and 100; one line per encoder.

    Args:
        encoders: by name, one result per layer, the first layer first; depths may differ.
        colours: the encoders' marks on the whole page (`marks(names)`).

    Raises:
        ValueError: an encoder without layers, or different metrics.
    """
    metrics = {result.metric for results in encoders.values() for result in results}
    if len(metrics) != 1 or not all(encoders.values()):
        raise ValueError(
            f"a curve needs one layer or more of each encoder and one metric, not {sorted(metrics)} of "
            f"{ {name: len(results) for name, results in encoders.items()} }"
        )
    deepest = max(map(len, encoders.values()))
    with look():
        figure = new_figure(3.4)
        axes = figure.subplots()
        lowest, highest = 100.0, 0.0
        for name, results in encoders.items():
            layers = np.arange(1, len(results) + 1)
            means, halves = _in_per_cent(results)
            low, high = np.clip([means - halves, means + halves], 0, 100)
            mark = colours[name]
            axes.fill_between(layers, low, high, color=mark.colour, alpha=0.18, linewidth=0)
            axes.plot(layers, means, color=mark.colour, marker=mark.marker, markersize=5)
            lowest, highest = min(lowest, low.min()), max(highest, high.max())
        margin = max(0.05 * (highest - lowest), 1.0)
        axes.set_xticks(range(1, deepest + 1))
        axes.set(xlim=(0.7, deepest + 0.3), ylim=(lowest - margin, highest + margin))
        axes.yaxis.set_major_formatter(number)
        axes.set_xlabel("layer", color=PALE)
        axes.set_ylabel(f"{printable(metrics.pop(), 28)} in %", color=PALE)
        names = [printable(name, 40) for name in encoders]
        outer_legend(figure, axes.get_lines(), names, min(len(names), 3), loc="outside upper left")
    return figure


def class_scores(
    names: Sequence[str], values: Float[np.ndarray, " class"], metric: str, colour: str = COLOURS[0]
) -> "matplotlib.figure.Figure":
    """Scores in [0, 1] of each class as bars in per cent, best first.

    The axis reports classes without a score (nan), and that beyond 60 only the best and the worst 30 are shown.

    Raises:
        ValueError: the numbers of names and scores differ, or no class has a score.
    """
    if len(names) != len(values):
        raise ValueError(f"{len(names)} class names, {len(values)} scores")
    scored = np.flatnonzero(np.isfinite(values))
    if not scored.size:
        raise ValueError("no class has a score")
    order = scored[np.argsort(-values[scored], kind="stable")]
    rows = np.arange(len(order))
    about = [f"{printable(metric)} in %"]
    if len(scored) < len(values):
        about.append(f"without a score: {len(values) - len(scored)}")
    if len(order) > MOST_BARS:
        half = MOST_BARS // 2
        about.append(f"the best and the worst {half} of {len(order)} classes")
        order = np.concatenate((order[:half], order[-half:]))
        rows = np.arange(MOST_BARS) + (np.arange(MOST_BARS) >= half)  # a gap for the classes that are not shown
    with look():
        figure = new_figure(0.8 + 0.2 * len(order))
        axes = figure.subplots()
        axes.barh(rows, 100 * values[order], height=0.7, color=colour, alpha=0.85)
        axes.set_yticks(rows, [printable(names[int(index)], 32) for index in order])
        axes.set_ylim(rows[-1] + 0.6, -0.6)
        axes.set_xlim(0, 100)
        axes.tick_params(axis="y", length=0)
        axes.grid(False, axis="y")
        axes.xaxis.set_major_formatter(number)
        axes.set_xlabel("; ".join(about), color=PALE)
    return figure


def confusion_counts(
    true: Integer[np.ndarray, " clip"], predicted: Integer[np.ndarray, " clip"], classes: int
) -> Integer[np.ndarray, "class class"]:
    """How many clips of each class (rows) are taken for which class (columns)."""
    matrix = np.zeros((classes, classes), np.int64)
    np.add.at(matrix, (true, predicted), 1)
    return matrix


def confusion(matrix: Integer[np.ndarray, "class class"], classes: Sequence[str]) -> "matplotlib.figure.Figure":
    """Counts [true, predicted] as shares of each true class, in per cent; numbers written in up to 15 classes.

    A class without clips has a grey row. Beyond 60 classes only every second (third, …) is named.

    Raises:
        ValueError: the numbers of names and classes differ.
    """
    if len(classes) != len(matrix):
        raise ValueError(f"{len(classes)} class names for a matrix of {matrix.shape}")
    totals = matrix.sum(1, keepdims=True)
    shares = np.where(totals > 0, 100.0 * matrix / np.maximum(totals, 1), np.nan)
    count = len(classes)
    with look():
        figure = new_figure(min(8.5, 2.4 + 0.42 * count))
        figure.set_layout_engine("compressed")
        axes = figure.subplots()
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100, aspect="equal")
        bar = figure.colorbar(image, ax=axes, label="% of the true class", fraction=0.04, pad=0.02)
        bar.outline.set_visible(False)
        bar.ax.yaxis.set_major_formatter(number)
        named = range(0, count, -(-count // CONFUSION_CLASSES))
        size = 8.5 if count <= 25 else 6.5
        names = [printable(classes[index], 24) for index in named]
        axes.set_xticks(named, names, rotation=45, ha="right", rotation_mode="anchor", fontsize=size)
        axes.set_yticks(named, names, fontsize=size)
        axes.tick_params(length=0)
        axes.grid(False)
        axes.set_facecolor(GRID)
        axes.set(xlabel="predicted", ylabel="true")
        if count <= MOST_NUMBERS:
            for (row, column), share in np.ndenumerate(shares):
                if share >= 0.5:
                    ink = "white" if share > 55 else "black"
                    axes.text(column, row, f"{share:.0f}", ha="center", va="center", color=ink, fontsize=8)
    return figure
