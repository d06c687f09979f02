"""A map of sounds that can be clicked: the picture, and where in it each sound lies."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from matpac.report.figures import label_groups, projection_legend, projection_panel
from matpac.report.style import look, new_figure

DOTS_PER_INCH = 144
"""Twice what the page shows, for screens of twice the pixels; ours."""

HEIGHT = 6.25
"""Inches, a whole number of pixels; ours."""

NEAR = 0.03
"""A click farther from every sound than this, as a share of the picture's width, means none of them; ours."""


@dataclass(frozen=True, eq=False)
class SoundMap:
    """Vectors in two dimensions.

    Args:
        png: the picture.
        size: of the picture in pixels, width and height.
        places: of the sounds in it, in pixels from its upper left corner.
    """

    png: bytes
    size: tuple[int, int]
    places: Float[np.ndarray, "sound 2"]

    def at(self, x: float, y: float) -> int | None:
        """The number of the sound nearest to a pixel; None where all are far."""
        away = np.hypot(*(self.places - (x, y)).T)
        nearest = int(away.argmin())
        return nearest if away[nearest] <= NEAR * self.size[0] else None


def sound_map(vectors: Float[np.ndarray, "sound width"], labels: Sequence[str], seed: int = 0) -> SoundMap:
    """Draw vectors, projected as by `project`, in the colours of their labels.

    Raises ValueError where there is no vector, one that is not finite, or another number of labels.
    """
    if len(vectors) != len(labels):
        raise ValueError(f"{len(vectors)} vectors with {len(labels)} labels")
    groups = label_groups(labels)
    with look():
        figure = new_figure(HEIGHT)
        axes = figure.subplots()
        points = projection_panel(axes, vectors, len(vectors), groups, seed)
        projection_legend(figure, axes, groups)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH)
        width, height = (round(float(inches) * DOTS_PER_INCH) for inches in figure.get_size_inches())
        # the layout is settled once it is drawn; shares of the figure do not depend on its resolution
        shares = figure.transFigure.inverted().transform(axes.transData.transform(points))
    places = np.column_stack([shares[:, 0] * width, (1 - shares[:, 1]) * height])
    return SoundMap(buffer.getvalue(), (width, height), places)
