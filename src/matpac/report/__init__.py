"""Reports for people: tables and figures from plain numbers, written as one self-contained HTML file.

`style` (the look, SVG) → `curves`, `scores`, `maps`, `spectrograms` (figures), `results` (tables) → `page`.
"""

from matpac.report.curves import Panel, loss_curves
from matpac.report.maps import projections
from matpac.report.page import Report
from matpac.report.results import Cell, Result, Table, details_table, results_table
from matpac.report.scores import (
    CONFUSION_CLASSES,
    class_scores,
    confusion,
    confusion_counts,
    layers_curve,
    score_intervals,
)
from matpac.report.spectrograms import MaskedClip, mask_figure
from matpac.report.style import Mark, marks

__all__ = [
    "CONFUSION_CLASSES",
    "Cell",
    "Mark",
    "MaskedClip",
    "Panel",
    "Report",
    "Result",
    "Table",
    "class_scores",
    "confusion",
    "confusion_counts",
    "details_table",
    "layers_curve",
    "loss_curves",
    "marks",
    "mask_figure",
    "projections",
    "results_table",
    "score_intervals",
]
