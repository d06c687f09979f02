"""The part of the page that shows the probes beside the linear one."""

from collections.abc import Mapping, Sequence

from matpac.probe.others import LAYER
from matpac.probe.records import Record
from matpac.report import Cell, Mark, Report, Table, layers_curve

ABOUT = {
    "linear": "on the clip's vector",
    "knn": "votes of the 10 nearest training clips",
    "few_shot": "nearest mean of so many clips a class, 10 draws",
    "weighting": "linear on a learned mixture of layers",
    "attention": "linear on tokens pooled by attention",
    "prototypes": "sought in every token of all layers",
}
"""By the beginning of a probe's name."""


def add_other_probes(
    report: Report, linear: Sequence[Record], others: Sequence[Record], colours: Mapping[str, Mark]
) -> None:
    """Tables and the curve over layers of one task; nothing where there are no other probes."""
    if not others:
        return
    encoders = [record.encoder for record in linear]
    beside = [record for record in others if not record.probe.startswith(LAYER)]
    if beside:
        report.table(_scores([*linear, *beside], encoders, "Every probe on the same clips and splits."))
    curves = {
        name: [record.result() for record in others if record.encoder == name and record.probe.startswith(LAYER)]
        for name in encoders
    }
    curves = {name: results for name, results in curves.items() if results}
    if curves:
        report.figure(
            layers_curve(curves, colours),
            "A linear probe on each layer, with 95 % intervals over seeds. The best layer is chosen on test clips "
            "here: for the eye, not for a comparison.",
            "Test score by layer, one line an encoder.",
        )
        layers = [record for record in others if record.probe.startswith(LAYER)]
        report.table(_scores(layers, list(curves), "A linear probe on each layer."), fold="Scores of all layers")
    weighted = [record for record in others if record.layer_weights]
    if weighted:
        report.table(_weights(weighted), fold="What each layer counts in mixtures and gates that are learned")


def _scores(records: Sequence[Record], encoders: Sequence[str], caption: str) -> Table:
    """Probes down, encoders across."""
    scores = {(record.probe, record.encoder): record.result().score for record in records}
    rows = [
        [_probe(probe), *(Cell(scores.get((probe, name), "–")) for name in encoders)]
        for probe in dict.fromkeys(record.probe for record in records)
    ]
    metric = records[0].metric
    return Table(["Probe", *encoders], rows, f"{caption} Test {metric} in per cent, ± half the 95 % interval.")


def _probe(name: str) -> Cell:
    about = next((text for start, text in ABOUT.items() if name.startswith(start)), "")
    return Cell(name.replace("_", " "), note=about)


def _weights(records: Sequence[Record]) -> Table:
    """Layers down, since there may be many, encoders across."""
    deepest = max(len(record.layer_weights) for record in records)
    rows = [
        [
            f"layer {layer + 1}",
            *(
                f"{100 * record.layer_weights[layer]:.1f} %" if layer < len(record.layer_weights) else "–"
                for record in records
            ),
        ]
        for layer in range(deepest)
    ]
    caption = (
        "Mean over seeds and folds, of prototypes over classes too. Layers are standardised first, so that their "
        "weights can be compared."
    )
    return Table(["Layer", *(Cell(record.encoder, note=record.probe) for record in records)], rows, caption)
