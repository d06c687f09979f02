"""What a sound looks like, as elements of the page."""

import numpy as np

from matpac.app.listening import Heard, moments, similarity
from matpac.report.listening import heard_figure, similarity_figure
from matpac.report.style import svg

WIDE, NARROW = 1200, 560
"""Pixels of pictures over time, and of square ones; ours."""


def heard_picture(heard: Heard) -> str:
    """`<svg>`: the spectrogram, and the most probable labels over time where there are any."""
    figure = heard_figure(heard.logmel, heard.times, heard.frequencies, heard.probabilities, heard.steps)
    below = f" and the probability of {', '.join(heard.probabilities)}" if heard.probabilities else ""
    return _framed(svg(figure, "heard-", f"Log-mel spectrogram of {heard.name}{below} over time"))


def alike_picture(one: Heard, other: Heard) -> str:
    """`<svg>`: how alike each moment of a sound is to each of another, or of its own."""
    (rows, up), (columns, right) = (moments(heard.frames, heard.steps) for heard in (one, other))
    cosines = np.clip(rows @ columns.T, -1, 1)
    figure = similarity_figure(cosines, (up, right), (one.name, other.name))
    alt = f"Cosine of each moment of {one.name} with each of {other.name}"
    return _framed(svg(figure, "alike-", alt), NARROW)


def compared(one: Heard, other: Heard) -> str:
    """What the numbers say of two sounds."""
    return (
        f"**Cosine of the whole sounds: {similarity(one, other):.4f}** (1: the same direction). What is near "
        "depends on the encoder: compare such numbers with each other."
    )


def _framed(element: str, most: int = WIDE) -> str:
    """At most so many pixels wide, white behind it whatever the page's colours: its letters are dark."""
    style = f"background: white; padding: 8px; border-radius: 6px; max-width: {most}px"
    return f'<div style="{style}">{element}</div>'
