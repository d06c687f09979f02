"""Reports for people: blocks and figures from plain numbers, written as one HTML file that stands alone.

`style` (one look, SVG) → `curves`, `layers_curve`, `figures`, `spectrogram`, `listening`, `maps`, `results`
(figures, tables) → `page` (the file).
"""

from matpac.report.curves import loss_curves
from matpac.report.figures import (
    CONFUSION_CLASSES,
    class_scores,
    confusion,
    confusion_counts,
    project,
    projection,
    projections,
)
from matpac.report.layers_curve import layers_curve
from matpac.report.listening import heard_figure, similarity_figure
from matpac.report.maps import SoundMap, sound_map
from matpac.report.page import Report
from matpac.report.results import Cell, Result, Table, details_table, results_table, score_intervals
from matpac.report.spectrogram import mask_figure
from matpac.report.style import Mark, marks

__all__ = [
    "Report",
    "Result",
    "results_table",
    "details_table",
    "score_intervals",
    "Table",
    "Cell",
    "loss_curves",
    "layers_curve",
    "project",
    "projection",
    "projections",
    "mask_figure",
    "heard_figure",
    "similarity_figure",
    "SoundMap",
    "sound_map",
    "confusion",
    "confusion_counts",
    "CONFUSION_CLASSES",
    "class_scores",
    "Mark",
    "marks",
]
