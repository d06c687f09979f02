"""Vectors in two dimensions, coloured by label: panels for a report, and a map of sounds that can be clicked."""

import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Integer

from matpac.report.style import (
    GRID,
    PALE,
    Mark,
    look,
    marks,
    new_figure,
    outer_legend,
    panel_grid,
    panels,
    printable,
)

if TYPE_CHECKING:
    import matplotlib.figure

MOST_LABELS = 16
"""Labels with a colour of their own: the most frequent ones. All others share one grey."""

OTHER = "#c4c8ce"
"""Grey of the other labels."""

MOST_VECTORS = 2000
"""Vectors shown: t-SNE takes some 10 s for these on one core, and more points hide each other."""

FEWEST_FOR_TSNE = 30
"""Vectors that t-SNE needs to find neighbourhoods; fewer are projected by PCA."""

MAP_INCHES, MAP_DPI = 6.25, 144
"""Height of a sound map, a whole number of pixels, and its resolution: twice the page's, for dense screens."""

NEAR = 0.03
"""Share of a map's width within which a click means the nearest sound; default, about three dots wide."""

Groups = Mapping[str, tuple[Mark, np.ndarray]]
"""By legend text: how the group is drawn, and the numbers of its clips."""


def project(vectors: Float[np.ndarray, "clip dim"], seed: int = 0) -> Float[np.ndarray, "clip 2"]:
    """Vectors in two dimensions: each dimension standardised, PCA to 50, then t-SNE with a fixed seed.

    Fewer than 30 vectors: the first two principal components. Perplexity 30, or a third of the vectors if they are
    few (van der Maaten and Hinton 2008 recommend 5 to 50). Raises ValueError without vectors or on values that are
    not finite.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    if not vectors.size or not np.isfinite(vectors).all():
        raise ValueError(f"vectors of shape {vectors.shape} to project: empty, or with values that are not finite")
    centred = vectors.astype(np.float64) - vectors.mean(0, dtype=np.float64)
    spread = centred.std(0)
    # a constant dimension has no information; its rounding errors must not be scaled up
    constant = spread <= 1e-7 * np.abs(vectors).max(0)
    standard = np.where(constant, 0.0, centred / np.where(constant, 1.0, spread))
    count = len(vectors)
    few = count < FEWEST_FOR_TSNE
    components = min(2 if few else 50, *standard.shape)
    if not standard.any():
        return np.zeros((count, 2))
    # one thread: sums in the same order on every machine, and no threads that wait for each other on busy cores
    with threadpool_limits(1):
        reduced = PCA(components, random_state=seed).fit_transform(standard)
        if few or components < 2:
            return np.pad(reduced, ((0, 0), (0, 2 - components)))
        found = TSNE(2, perplexity=min(30.0, count / 3), init="pca", random_state=seed).fit_transform(reduced)
    return found.astype(np.float64)


def shown_vectors(count: int) -> Integer[np.ndarray, " shown"]:
    """Numbers of the vectors that a projection shows: all, or a random 2,000 of more, in order."""
    if count <= MOST_VECTORS:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).permutation(count)[:MOST_VECTORS])


def projections(
    encoders: Mapping[str, Float[np.ndarray, "clip dim"]],
    labels: Sequence[str],
    colours: Mapping[str, Mark],
) -> "matplotlib.figure.Figure":
    """Several encoders' vectors of the same clips side by side, coloured by label.

    Beyond 16 labels the rarer ones are grey, beyond 2,000 clips a random sample is shown; the figure reports both.

    Args:
        encoders: vectors by name.
        labels: one per clip.
        colours: the encoders' marks on the whole page (`marks(names)`), shown as a bar over each panel.

    Raises:
        ValueError: the numbers of vectors and labels differ, or vectors can't be projected.
    """
    for name, vectors in encoders.items():
        if len(vectors) != len(labels):
            raise ValueError(f"{name}: {len(vectors)} vectors with {len(labels)} labels")
    shown = shown_vectors(len(labels))
    groups = _label_groups([labels[int(clip)] for clip in shown])
    rows, columns = panel_grid(len(encoders))
    with look():
        height = {1: 5.2, 2: 4.6, 3: 3.4}[columns]
        figure = new_figure(rows * height + 0.22 * -(-len(groups) // _legend_columns(groups)) + 0.2)
        grid = panels(figure, len(encoders))
        for axes, (name, vectors) in zip(grid, encoders.items(), strict=True):
            _panel(axes, vectors[shown], len(vectors), groups)
            axes.set_title(printable(name, 90 // columns))
            axes.spines["top"].set(color=colours[name].colour, linewidth=4)
        _legend(figure, grid[0], groups)
    return figure


@dataclass(frozen=True, eq=False)
class SoundMap:
    """Vectors in two dimensions as a picture.

    Args:
        png: the picture.
        size: its width and height in pixels.
        places: of the sounds in it, in pixels from its upper left corner.
    """

    png: bytes
    size: tuple[int, int]
    places: Float[np.ndarray, "sound 2"]

    def at(self, x: float, y: float) -> int | None:
        """The number of the sound nearest to a pixel; None if all are far from it."""
        away = np.hypot(*(self.places - (x, y)).T)
        nearest = int(away.argmin())
        return nearest if away[nearest] <= NEAR * self.size[0] else None


def sound_map(vectors: Float[np.ndarray, "sound width"], labels: Sequence[str]) -> SoundMap:
    """Draw vectors, projected as by `project`, in the colours of their labels.

    Raises ValueError where there is no vector, one that is not finite, or another number of labels.
    """
    if len(vectors) != len(labels):
        raise ValueError(f"{len(vectors)} vectors with {len(labels)} labels")
    groups = _label_groups(labels)
    with look():
        figure = new_figure(MAP_INCHES)
        axes = figure.subplots()
        points = _panel(axes, vectors, len(vectors), groups)
        _legend(figure, axes, groups)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=MAP_DPI)
        width, height = (round(float(inches) * MAP_DPI) for inches in figure.get_size_inches())
        # the layout is final only once it is drawn; shares of the figure do not depend on its resolution
        shares = figure.transFigure.inverted().transform(axes.transData.transform(points))
    places = np.column_stack([shares[:, 0] * width, (1 - shares[:, 1]) * height])
    return SoundMap(buffer.getvalue(), (width, height), places)


def _panel(axes: Any, vectors: np.ndarray, of: int, groups: Groups) -> Float[np.ndarray, "clip 2"]:
    """Project and draw vectors, and note how many `of` all they are; returns points in the axes' units."""
    points = project(vectors)
    for mark, clips in groups.values():
        axes.scatter(
            *points[clips].T,
            s=16,
            c=mark.colour,
            marker=mark.marker,
            alpha=0.8,
            linewidths=0,
            zorder=1 if mark.colour == OTHER else 2,
        )
    axes.margins(0.04)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    shown, width = vectors.shape
    how = "PCA" if shown < FEWEST_FOR_TSNE or width < 2 else "t-SNE"
    part = f"{shown:,}" if shown == of else f"{shown:,} of {of:,}"
    axes.set_xlabel(f"{how}, {part} vectors of {width:,}", color=PALE, fontsize=8)
    for side in ("left", "right", "bottom", "top"):
        axes.spines[side].set(visible=True, color=GRID)
    return points


def _label_groups(labels: Sequence[str]) -> Groups:
    """The most frequent labels in natural order (`class 2` before `class 10`), all others in one grey group."""
    counts = Counter(labels)
    frequent = sorted(counts, key=lambda label: (-counts[label], label))[:MOST_LABELS]
    frequent.sort(key=lambda label: [(int(part or 0), text) for text, part in re.findall(r"(\D*)(\d*)", label)])
    column = np.array(labels, dtype=object)
    groups = {label: (mark, np.flatnonzero(column == label)) for label, mark in marks(frequent).items()}
    rare = len(counts) - len(groups)
    if rare:
        rest = np.flatnonzero([label not in groups for label in labels])
        groups[f"{rare} other label{'s' * (rare > 1)}"] = (Mark(OTHER, "o"), rest)
    return groups


def _legend_columns(groups: Groups) -> int:
    longest = max((len(printable(label, 30)) for label in groups), default=1)
    return max(1, min(8, 110 // (longest + 5)))


def _legend(figure: Any, axes: Any, groups: Groups) -> None:
    """Below all panels."""
    style = {"loc": "outside lower left", "handletextpad": 0.2, "columnspacing": 1.4, "markerscale": 1.5}
    names = [printable(label, 30) for label in groups]
    outer_legend(figure, axes.collections, names, _legend_columns(groups), **style)
