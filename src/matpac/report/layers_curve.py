"""What each layer of an encoder knows: scores of a probe per layer, one line an encoder."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from matpac.report.results import Result
from matpac.report.style import PALE, Mark, look, marks, new_figure, number, printable

if TYPE_CHECKING:
    import matplotlib.figure


def layers_curve(
    encoders: Mapping[str, Sequence[Result]], colours: Mapping[str, Mark] | None = None
) -> "matplotlib.figure.Figure":
    """Scores in per cent over layers, counted from 1, with their 95 % intervals (cut at 0 and 100).

    `encoders` has, by name, one result a layer, the first layer first; encoders may have different depths.
    `colours` are the encoders' marks on the whole page (`marks(names)`); without them, by order of appearance.
    Raises ValueError where there is no layer, or where the metrics differ.
    """
    metrics = {result.metric for results in encoders.values() for result in results}
    if len(metrics) != 1 or not all(encoders.values()):
        raise ValueError(
            f"a curve needs one layer or more of each encoder and one metric, not {sorted(metrics)} of "
            f"{ {name: len(results) for name, results in encoders.items()} }"
        )
    colours = colours or marks(encoders)
    deepest = max(map(len, encoders.values()))
    with look():
        figure = new_figure(3.4)
        axes = figure.subplots()
        lowest, highest = 100.0, 0.0
        for name, results in encoders.items():
            layers = np.arange(1, len(results) + 1)
            means = np.array([100 * result.mean for result in results])
            halves = np.nan_to_num([100 * result.ci95 for result in results])
            mark = colours[name]
            low, high = np.clip([means - halves, means + halves], 0, 100)
            axes.fill_between(layers, low, high, color=mark.colour, alpha=0.18, linewidth=0)
            lowest, highest = min(lowest, low.min()), max(highest, high.max())
            axes.plot(layers, means, color=mark.colour, marker=mark.marker, markersize=5)
        axes.set_xticks(range(1, deepest + 1))
        axes.set_xlim(0.7, deepest + 0.3)
        margin = max(0.05 * (highest - lowest), 1.0)
        axes.set_ylim(lowest - margin, highest + margin)
        axes.yaxis.set_major_formatter(number)
        axes.set_xlabel("layer", color=PALE)
        axes.set_ylabel(f"{printable(metrics.pop(), 28)} in %", color=PALE)
        lines = axes.get_lines()
        columns = max(1, min(len(lines), 3))
        legend = figure.legend(lines, ["x"] * len(lines), loc="outside upper left", ncols=columns)
        # set afterwards, since matplotlib leaves out texts that begin with `_`
        for text, name in zip(legend.get_texts(), encoders, strict=True):
            text.set_text(printable(name, 40))
    return figure
