"""Pictures of sounds, as elements of the page."""

import numpy as np

from matpac.app.listening import Heard, moments, similarity
from matpac.report.spectrograms import heard_figure, similarity_figure
from matpac.report.style import svg

WIDE, NARROW = 1200, 560
"""Widths in pixels of pictures over time, and of square ones; default; they fit the page."""


def heard_picture(heard: Heard) -> str:
    """An `<svg>` of the spectrogram, and of the most probable labels over time if there are any."""
    figure = heard_figure(heard.logmel, heard.times, heard.frequencies, heard.probabilities, heard.steps)
    below = f" and the probability of {', '.join(heard.probabilities)}" if heard.probabilities else ""
    return _framed(svg(figure, "heard-", f"Log-mel spectrogram of {heard.name}{below} over time"))


def alike_picture(one: Heard, other: Heard) -> str:
    """An `<svg>` of the similarity of each moment of a sound with each of another, or of its own."""
    (rows, up), (columns, right) = (moments(heard.frames, heard.steps) for heard in (one, other))
    cosines = np.clip(rows @ columns.T, -1, 1)
    figure = similarity_figure(cosines, (up, right), (one.name, other.name))
    alt = f"Cosine of each moment of {one.name} with each of {other.name}"
    return _framed(svg(figure, "alike-", alt), NARROW)


def compared(one: Heard, other: Heard) -> str:
    """The similarity of two sounds in words."""
    return (
        f"**Cosine of the whole sounds: {similarity(one, other):.4f}** (1: the same direction). What counts as "
        "similar depends on the encoder: compare such numbers with each other."
    )


def _framed(element: str, most: int = WIDE) -> str:
    """An element of limited width on white, since its letters are dark."""
    style = f"background: white; padding: 8px; border-radius: 6px; max-width: {most}px"
    return f'<div style="{style}">{element}</div>'
