"""Figures of vectors, spectrograms and predictions: projections, the pretext task, confusions, class scores."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Integer

from matpac.report.style import (
    COLOURS,
    GRID,
    PALE,
    Mark,
    bare,
    look,
    marks,
    new_figure,
    number,
    panel_grid,
    printable,
)

if TYPE_CHECKING:
    import matplotlib.figure

MOST_LABELS = 16
"""Labels that get a colour of their own in a projection: the most frequent ones."""

OTHER = "#c4c8ce"
"""The grey of all other labels."""

MOST_VECTORS = 2000
"""Vectors a projection shows: t-SNE takes some 10 s for these on one core, and more points hide each other."""

FEWEST_FOR_TSNE = 30
"""Fewer vectors than this have no neighbourhoods to speak of; they are projected by PCA."""

MOST_NUMBERS = 15
"""Classes up to which a confusion matrix has its numbers written in."""

MOST_BARS = 60
"""Classes up to which all scores are drawn; of more, the best and the worst half of this."""


def project(vectors: Float[np.ndarray, "clip dim"], seed: int = 0) -> Float[np.ndarray, "clip 2"]:
    """Vectors in two dimensions: each dimension standardised, PCA to 50, t-SNE from there with a fixed seed.

    Fewer than 30 vectors: the first two principal components. Perplexity 30, or a third of the vectors where
    they are few (van der Maaten and Hinton 2008 ask for 5 to 50). Raises ValueError on values that are not
    finite or no vector.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    if not vectors.size or not np.isfinite(vectors).all():
        raise ValueError(f"vectors of shape {vectors.shape} to project: empty, or with values that are not finite")
    centred = vectors.astype(np.float64) - vectors.mean(0, dtype=np.float64)
    deviation = centred.std(0)
    # what is constant says nothing; rounding must not be blown up to look like something
    constant = deviation <= 1e-7 * np.abs(vectors).max(0)
    standard = np.where(constant, 0.0, centred / np.where(constant, 1.0, deviation))
    count = len(vectors)
    few = count < FEWEST_FOR_TSNE
    components = min(2 if few else 50, *standard.shape)
    if not standard.any():
        return np.zeros((count, 2))
    with threadpool_limits(1):
        reduced = PCA(components, random_state=seed).fit_transform(standard)
    if few or components < 2:
        return np.pad(reduced, ((0, 0), (0, 2 - components)))
    perplexity = min(30.0, count / 3)
    # one thread: sums in the same order on every machine, and no waiting for each other on busy cores
    with threadpool_limits(1):
        found = TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(reduced)
    return found.astype(np.float64)


def projection(
    vectors: Float[np.ndarray, "clip dim"], labels: Sequence[str], title: str = "", seed: int = 0
) -> "matplotlib.figure.Figure":
    """One encoder's vectors in two dimensions, coloured by label; see `projections`."""
    return projections({title: vectors}, labels, seed)


def projections(
    encoders: Mapping[str, Float[np.ndarray, "clip dim"]],
    labels: Sequence[str],
    seed: int = 0,
    colours: Mapping[str, Mark] | None = None,
) -> "matplotlib.figure.Figure":
    """Several encoders' vectors of the same clips side by side, coloured by label.

    Beyond 16 labels the rarer ones are grey, beyond 2,000 clips a random part is shown; the figure says both.
    `colours` gives each panel the encoder's colour on the page as a bar. Raises ValueError where the numbers of
    vectors and labels differ.
    """
    for name, vectors in encoders.items():
        if len(vectors) != len(labels):
            raise ValueError(f"{name or 'projection'}: {len(vectors)} vectors with {len(labels)} labels")
    shown = shown_vectors(len(labels), seed)
    groups = label_groups([labels[int(clip)] for clip in shown])
    rows, columns = panel_grid(len(encoders))
    with look():
        legend_rows = 0.22 * -(-len(groups) // _legend_columns(groups))
        figure = new_figure(rows * (5.2 if columns == 1 else 4.6 if columns == 2 else 3.4) + legend_rows + 0.2)
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, (name, vectors) in zip(grid, encoders.items(), strict=False):
            projection_panel(axes, vectors[shown], len(vectors), groups, seed)
            axes.set_title(printable(name, 90 // columns))
            if colours and name in colours:
                axes.spines["top"].set(color=colours[name].colour, linewidth=4)
        for axes in grid[len(encoders) :]:
            axes.remove()
        projection_legend(figure, grid[0], groups)
    return figure


def shown_vectors(count: int, seed: int = 0) -> Integer[np.ndarray, " shown"]:
    """Which of so many vectors a projection shows: all, or a random 2,000 of more, in order."""
    if count <= MOST_VECTORS:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).permutation(count)[:MOST_VECTORS])


def projection_panel(
    axes: Any,
    vectors: Float[np.ndarray, "clip dim"],
    of: int,
    groups: Mapping[str, tuple[Mark, np.ndarray]],
    seed: int = 0,
) -> Float[np.ndarray, "clip 2"]:
    """Vectors in two dimensions in their groups' marks, framed, with a note: so many of `of`.

    Returns where they are drawn, in the axes' units.
    """
    points = project(vectors, seed)
    _scatter(axes, points, groups)
    bare(axes)
    axes.set_xlabel(_projection_note(vectors, of), color=PALE, fontsize=8)
    for side in ("left", "right", "bottom", "top"):
        axes.spines[side].set(visible=True, color=GRID)
    return points


def label_groups(labels: Sequence[str]) -> dict[str, tuple[Mark, np.ndarray]]:
    """Legend text → mark and the clips, named labels in the alphabet's order, all others in one grey group."""
    counts = Counter(labels)
    frequent = sorted(counts, key=lambda label: (-counts[label], label))[:MOST_LABELS]
    column = np.array(labels, dtype=object)
    groups = {
        label: (mark, np.flatnonzero(column == label))
        for label, mark in marks(sorted(frequent, key=_natural)).items()
    }
    others = [label for label in counts if label not in groups]
    if others:
        rest = np.flatnonzero([label not in groups for label in labels])
        groups[f"{len(others)} other label{'s' * (len(others) > 1)}"] = (Mark(OTHER, "o"), rest)
    return groups


def _natural(label: str) -> list[tuple[int, str]]:
    """Sorts `class 2` before `class 10`."""
    return [(int(part or 0), text) for text, part in re.findall(r"(\D*)(\d*)", label)]


def _projection_note(vectors: np.ndarray, of: int) -> str:
    shown = len(vectors)
    how = "PCA" if shown < FEWEST_FOR_TSNE or vectors.shape[1] < 2 else "t-SNE"
    part = f"{shown:,}" if shown == of else f"{shown:,} of {of:,}"
    return f"{how}, {part} vectors of {vectors.shape[1]:,}"


def _scatter(axes: Any, points: np.ndarray, groups: Mapping[str, tuple[Mark, np.ndarray]]) -> None:
    for mark, clips in groups.values():
        order = 1 if mark.colour == OTHER else 2
        axes.scatter(
            *points[clips].T, s=16, c=mark.colour, marker=mark.marker, alpha=0.8, linewidths=0, zorder=order
        )
    axes.margins(0.04)


def _legend_columns(groups: Mapping[str, Any]) -> int:
    longest = max(len(printable(label, 30)) for label in groups) if groups else 1
    return max(1, min(8, 110 // (longest + 5)))


def projection_legend(figure: Any, axes: Any, groups: Mapping[str, Any]) -> None:
    """Below all panels; texts are set afterwards, since matplotlib leaves out those that begin with `_`."""
    shown = [printable(label, 30) for label in groups]
    legend = figure.legend(
        axes.collections,
        ["x" * len(label) for label in shown],
        loc="outside lower left",
        ncols=_legend_columns(groups),
        handletextpad=0.2,
        columnspacing=1.4,
        markerscale=1.5,
    )
    for text, label in zip(legend.get_texts(), shown, strict=True):
        text.set_text(label)


CONFUSION_CLASSES = 60
"""Classes up to which a confusion matrix can be read; ours."""


def confusion_counts(
    true: Integer[np.ndarray, " clip"], predicted: Integer[np.ndarray, " clip"], classes: int
) -> Integer[np.ndarray, "class class"]:
    """How many clips of a class (rows) are taken for which (columns)."""
    matrix = np.zeros((classes, classes), np.int64)
    np.add.at(matrix, (true, predicted), 1)
    return matrix


def confusion(matrix: Integer[np.ndarray, "class class"], classes: Sequence[str]) -> "matplotlib.figure.Figure":
    """Counts [true, predicted] as shares of each true class, in per cent; numbers written in up to 15 classes.

    A class without clips has a grey row. Beyond 60 classes only every second (third, …) is named. Raises
    ValueError where the names are not as many as the classes.
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
        every = -(-count // 60)
        named = range(0, count, every)
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


def class_scores(
    names: Sequence[str],
    values: Float[np.ndarray, " class"],
    ci: Float[np.ndarray, " interval"] | None = None,
    metric: str = "score",
    colour: str = COLOURS[0],
) -> "matplotlib.figure.Figure":
    """Scores in [0, 1] of each class as bars in per cent, best first, with half intervals `ci`; nan is told.

    Beyond 60 classes the best and the worst 30, and the axis says so. Raises ValueError on other numbers of names.
    """
    if len(names) != len(values) or (ci is not None and len(ci) != len(values)):
        raise ValueError(
            f"{len(names)} class names, {len(values)} scores, {'no' if ci is None else len(ci)} intervals"
        )
    scored = np.flatnonzero(np.isfinite(values))
    if not scored.size:
        raise ValueError("no class has a score")
    order = scored[np.argsort(-values[scored], kind="stable")]
    told = []
    if len(scored) < len(values):
        told.append(f"left out for want of a score: {len(values) - len(scored)}")
    if len(order) > MOST_BARS:
        told.append(f"the best and the worst {MOST_BARS // 2} of {len(order)} classes")
        order = np.concatenate((order[: MOST_BARS // 2], order[-(MOST_BARS // 2) :]))
    rows = np.arange(len(order))
    if len(order) < len(scored):
        rows[MOST_BARS // 2 :] += 1  # a gap where classes are left out
    halves = None if ci is None else np.nan_to_num(100 * ci[order], nan=0.0)
    with look():
        figure = new_figure(0.8 + 0.2 * len(order))
        axes = figure.subplots()
        bar_ink = {"ecolor": "#1f2328", "capsize": 2, "error_kw": {"elinewidth": 1}}
        axes.barh(rows, 100 * values[order], xerr=halves, height=0.7, color=colour, alpha=0.85, **bar_ink)
        axes.set_yticks(rows, [printable(names[int(index)], 32) for index in order])
        axes.set_ylim(rows[-1] + 0.6, -0.6)
        axes.set_xlim(0, 100)
        axes.tick_params(axis="y", length=0)
        axes.grid(False, axis="y")
        axes.xaxis.set_major_formatter(number)
        axes.set_xlabel("; ".join([f"{printable(metric)} in %", *told]), color=PALE)
    return figure
