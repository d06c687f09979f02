"""Scores of encoders on tasks: the table, its details, and the intervals drawn."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from matpac.report.style import PALE, Mark, look, marks, new_figure, number, printable

if TYPE_CHECKING:
    import matplotlib.figure

MOST_COLUMNS = 6
"""Encoders that stand side by side; more of them stand below each other."""


EDGE = 1.0
"""Per cent beyond 0 and 100 that an axis of scores may reach, so that dots on the edge are whole."""


@dataclass(frozen=True)
class Result:
    """One encoder's score on one task: a record of `results.json`."""

    task: str
    encoder: str
    metric: str
    """Accuracy, mAP or ROC-AUC: a share between 0 and 1 of which more is better."""
    mean: float
    ci95: float = math.nan
    """Half width of the 95 % interval; nan where there is none (one seed)."""
    seeds: tuple[int, ...] = ()
    folds: int = 1
    learning_rates: tuple[float, ...] = ()
    """The distinct ones chosen on validation."""
    used: int | None = None
    total: int | None = None
    """Clips that were used, of those the task has."""
    published: bool = False
    """From a paper, not measured here."""

    def __post_init__(self) -> None:
        """Raise ValueError on a score that is not a share."""
        if not 0 <= self.mean <= 1:
            raise ValueError(f"{self.task}, {self.encoder}: {self.metric} {self.mean} is not between 0 and 1")
        if self.ci95 < 0:
            raise ValueError(f"{self.task}, {self.encoder}: half an interval can't be {self.ci95} wide")

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Result":
        """From JSON: `null` for an interval that does not exist, `learning_rate` one number or several.

        `seeds` and `folds` may be lists; other keys are for other readers. Raises ValueError naming the keys
        that are missing.
        """
        missing = {"task", "encoder", "metric", "mean"} - record.keys()
        if missing:
            raise ValueError(f"a result lacks {', '.join(sorted(missing))}: {dict(record)}")
        values = {field.name: record[field.name] for field in fields(cls) if record.get(field.name) is not None}
        values["mean"] = float(record["mean"])
        values["seeds"] = tuple(values.get("seeds", ()))
        folds = values.get("folds", 1)
        values["folds"] = folds if isinstance(folds, int) else len(folds)
        rates = record.get("learning_rates", record.get("learning_rate"))
        rates = () if rates is None else (rates,) if isinstance(rates, int | float) else rates
        values["learning_rates"] = tuple(sorted({float(rate) for rate in rates}))
        return cls(**values)

    @property
    def label(self) -> str:
        """The encoder as a column or a legend names it."""
        return f"{self.encoder} (published)" if self.published else self.encoder

    @property
    def score(self) -> str:
        """`mean ± half width` in per cent, one decimal."""
        mean = f"{100 * self.mean:.1f}"
        return mean if math.isnan(self.ci95) else f"{mean} ± {100 * self.ci95:.1f}"


@dataclass(frozen=True)
class Cell:
    """One cell of a table."""

    text: str
    strong: bool = False
    note: str = ""
    """Small print beside the text."""


@dataclass(frozen=True)
class Table:
    """Rows of cells under a header; the first column names the rows, numbers stand to the right.

    Raises ValueError where a row's length is not the header's.
    """

    header: Sequence[str | Cell]
    rows: Sequence[Sequence[str | int | float | np.number | Cell]]
    caption: str = ""

    def __post_init__(self) -> None:
        """Check the shape."""
        for row in self.rows:
            if len(row) != len(self.header):
                raise ValueError(f"a row of {len(row)} cells under a header of {len(self.header)}: {list(row)}")

    @property
    def cells(self) -> list[list[Cell]]:
        """All rows as cells, numbers written out."""
        return [[_cell(value) for value in row] for row in self.rows]

    @property
    def header_cells(self) -> list[Cell]:
        """The header as cells."""
        return [_cell(value) for value in self.header]


def results_table(results: Sequence[Result]) -> Table:
    """Tasks by encoders of `mean ± half width` in per cent; encoders down the side where there are many.

    On each task the highest mean is strong only where its interval overlaps no other one, and the caption says
    so. Raises ValueError on two results of the same encoder, task and metric.
    """
    if not results:
        raise ValueError("a table of results needs one result at least")
    encoders = list(dict.fromkeys(result.label for result in results))
    tasks = list(dict.fromkeys((result.task, result.metric) for result in results))
    grid = _grid(results)
    best = {task: _clear_best([result for (row, _), result in grid.items() if row == task]) for task in tasks}

    def cell(task: tuple[str, str], encoder: str) -> Cell:
        result = grid.get((task, encoder))
        return Cell("–") if result is None else Cell(result.score, strong=result is best[task])

    heads = {result.label: Cell(result.encoder, note="published" * result.published) for result in results}
    names = {task: Cell(task[0], note=task[1]) for task in tasks}
    if len(encoders) > MOST_COLUMNS:
        header = [Cell("Encoder"), *names.values()]
        rows = [[heads[encoder], *(cell(task, encoder) for task in tasks)] for encoder in encoders]
    else:
        header = [Cell("Task"), *heads.values()]
        rows = [[names[task], *(cell(task, encoder) for encoder in encoders)] for task in tasks]
    return Table(header, rows, _caption(results))


def details_table(results: Sequence[Result]) -> Table:
    """What is behind each measured score: seeds, folds, learning rates, share of clips used."""
    rows = [
        [
            Cell(result.task, note=result.metric),
            result.encoder,
            result.score,
            ", ".join(map(str, result.seeds)) or "–",
            result.folds,
            ", ".join(f"{rate:g}" for rate in result.learning_rates) or "–",
            _share(result),
        ]
        for result in results
        if not result.published
    ]
    header = ["Task", "Encoder", "Score (%)", "Seeds", "Folds", "Learning rates", "Clips used"]
    return Table(header, rows, "Learning rates are those chosen on validation.")


def score_intervals(
    results: Sequence[Result], colours: Mapping[str, Mark] | None = None
) -> "matplotlib.figure.Figure":
    """A dot and its 95 % interval for each encoder on each task; published ones are hollow.

    `colours` are the encoders' marks on the whole page (`marks(names)`); without them, by order of appearance.
    """
    if not results:
        raise ValueError("a figure of results needs one result at least")
    _grid(results)
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
        _legend(figure, axes, labels)
    return figure


def _dots(axes: Any, mine: Sequence[Result], rows: Sequence[float], mark: Mark) -> None:
    means = np.array([100 * result.mean for result in mine])
    halves = np.nan_to_num([100 * result.ci95 for result in mine])
    axes.errorbar(
        means,
        rows,
        # no score is below 0 or above 100, whatever Student's t makes of two seeds; of arrays of one value, as
        # 3.10 takes them apart, Matplotlib has NumPy warn
        xerr=[np.minimum(halves, means).tolist(), np.minimum(halves, 100 - means).tolist()],
        linestyle="none",
        color=mark.colour,
        marker=mark.marker,
        markersize=5.5,
        markerfacecolor="white" if mine[0].published else mark.colour,
        elinewidth=1.6,
        capsize=2.5,
    )


def _legend(figure: Any, axes: Any, labels: Sequence[str]) -> None:
    """Above the axes; texts are set afterwards, since matplotlib leaves out those that begin with `_`."""
    shown = [printable(label, 40) for label in labels]
    columns = max(1, min(len(shown), 110 // (max(map(len, shown)) + 6)))
    legend = figure.legend(
        axes.containers, ["x" * len(label) for label in shown], loc="outside upper left", ncols=columns
    )
    for text, label in zip(legend.get_texts(), shown, strict=True):
        text.set_text(label)


def _grid(results: Sequence[Result]) -> dict[tuple[tuple[str, str], str], Result]:
    grid: dict[tuple[tuple[str, str], str], Result] = {}
    for result in results:
        key = ((result.task, result.metric), result.label)
        if key in grid:
            raise ValueError(
                f"two results of {result.label} on {result.task} ({result.metric}): which one counts?"
            )
        grid[key] = result
    return grid


def _clear_best(results: Sequence[Result]) -> Result | None:
    """The one whose interval lies above all others; None where it overlaps one, or one has no interval."""
    if len(results) < 2 or any(math.isnan(result.ci95) for result in results):
        return None
    best, *others = sorted(results, key=lambda result: -result.mean)
    highest = max(other.mean + other.ci95 for other in others)
    return best if best.mean - best.ci95 > highest else None


def _caption(results: Sequence[Result]) -> str:
    told = ["Mean ± half the 95 % interval, in per cent."]
    if any(math.isnan(result.ci95) for result in results):
        told.append("A score without ± has one run only and so no interval.")
    told.append("Bold: the best on its task, and its interval overlaps no other one.")
    if any(result.published for result in results):
        told.append("Published: as the paper gives it, not measured here.")
    return " ".join(told)


def _share(result: Result) -> str:
    if result.used is None:
        return "–"
    if not result.total:
        return f"{result.used:,}"
    # rounded down, so that 100 % means all of them
    return f"{result.used:,} of {result.total:,} ({1000 * result.used // result.total / 10:.1f} %)"


def _cell(value: str | int | float | np.number | Cell) -> Cell:
    if isinstance(value, Cell):
        return value
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return Cell(f"{value:,}".replace("-", "−"))
    if isinstance(value, float | np.floating):
        return Cell("–" if math.isnan(value) else f"{value:.4g}".replace("-", "−"))
    return Cell(str(value))
