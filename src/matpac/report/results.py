"""Scores of encoders on tasks, and the tables that show them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

MOST_COLUMNS = 6
"""Encoders that stand side by side in a table; more are listed below each other."""


@dataclass(frozen=True)
class Result:
    """One encoder's score on one task: a record of `results.json`.

    Args:
        task: its name.
        encoder: its name.
        metric: accuracy, mAP or ROC-AUC: a share between 0 and 1, more is better.
        mean: the score.
        ci95: half width of the 95 % interval; nan where there is none (one seed).
        seeds: of the probe.
        folds: their number.
        learning_rates: the distinct ones chosen on validation clips.
        used: clips used.
        total: clips that the task has.
        published: taken from a paper, not measured here.

    Raises:
        ValueError: the score is not a share.
    """

    task: str
    encoder: str
    metric: str
    mean: float
    ci95: float = math.nan
    seeds: tuple[int, ...] = ()
    folds: int = 1
    learning_rates: tuple[float, ...] = ()
    used: int | None = None
    total: int | None = None
    published: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.mean <= 1:
            raise ValueError(f"{self.task}, {self.encoder}: {self.metric} {self.mean} is not between 0 and 1")
        if self.ci95 < 0:
            raise ValueError(f"{self.task}, {self.encoder}: half an interval can't be {self.ci95} wide")

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Result":
        """A result from JSON: `null` for no interval, `learning_rate` one number or several.

        `seeds` and `folds` may be lists; unknown keys are ignored. Raises ValueError that names missing keys.
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
    """One cell of a table; `note` is small print beside the text."""

    text: str
    strong: bool = False
    note: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of cells under a header; the first column names the rows, numbers are aligned right.

    Raises ValueError where a row's length differs from the header's.
    """

    header: Sequence[str | Cell]
    rows: Sequence[Sequence[str | int | float | np.number | Cell]]
    caption: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.header):
                raise ValueError(f"a row of {len(row)} cells under a header of {len(self.header)}: {list(row)}")

    @property
    def cells(self) -> list[list[Cell]]:
        """The header and all rows as cells, with numbers written out."""
        return [[_cell(value) for value in row] for row in (self.header, *self.rows)]


def results_table(results: Sequence[Result]) -> Table:
    """Tasks by encoders of `mean ± half width` in per cent; many encoders are listed down the side.

    On each task the highest mean is bold only if its interval overlaps no other one, as the caption explains.
    Raises ValueError without a result, or on two of the same encoder, task and metric.
    """
    if not results:
        raise ValueError("a table of results needs at least one result")
    encoders = list(dict.fromkeys(result.label for result in results))
    tasks = list(dict.fromkeys((result.task, result.metric) for result in results))
    grid = by_task_and_encoder(results)
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
    caption = ["Mean ± half the 95 % interval, in per cent."]
    if any(math.isnan(result.ci95) for result in results):
        caption.append("A score without ± has only one run and so no interval.")
    caption.append("Bold: the best on its task, and its interval overlaps no other one.")
    if any(result.published for result in results):
        caption.append("Published: as the paper reports it, not measured here.")
    return Table(header, rows, " ".join(caption))


def details_table(results: Sequence[Result]) -> Table:
    """Details of each measured score: seeds, folds, learning rates, share of clips used."""
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


def by_task_and_encoder(results: Sequence[Result]) -> dict[tuple[tuple[str, str], str], Result]:
    """Results by (task, metric) and label. Raises ValueError where two have the same."""
    grid: dict[tuple[tuple[str, str], str], Result] = {}
    for result in results:
        key = ((result.task, result.metric), result.label)
        if key in grid:
            raise ValueError(f"two results of {result.label} on {result.task} ({result.metric}); give one of them")
        grid[key] = result
    return grid


def _clear_best(results: Sequence[Result]) -> Result | None:
    """The result whose interval lies above all others; None if it overlaps one, or if one has no interval."""
    if len(results) < 2 or any(math.isnan(result.ci95) for result in results):
        return None
    best, *others = sorted(results, key=lambda result: -result.mean)
    return best if best.mean - best.ci95 > max(other.mean + other.ci95 for other in others) else None


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
