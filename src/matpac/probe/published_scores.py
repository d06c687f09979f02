"""Published linear-probing scores, mean ± 95 % interval in per cent.

The table of MATPAC++ (arXiv 2508.12709) and, for the rows that say so, of MATPAC (arXiv 2502.12031).
"""

from matpac.report import Result
from matpac.tasks.task import METRICS

TASKS = ("openmic", "nsynth", "gtzan", "mtt", "fsd50k", "esc50", "us8k")
_MAP = ("openmic", "mtt", "fsd50k")

SCORES: dict[str, str] = {
    "MATPAC++": "85.6±0.1 76.8±0.2 87.6±0.0 40.8±0.1 56.1±0.1 93.1±0.1 89.7±0.3",
    "MATPAC": "85.5±0.0 76.2±0.3 85.5±0.6 41.1±0.0 55.6±0.0 93.0±0.0 89.7±0.3",
    "MATPAC (its paper)": "85.3±0.0 74.3±0.2 85.3±0.4 41.1±0.0 55.2±0.1 93.5±0.1 89.4±0.1",
    "MATPAC, τ 20 epochs": "85.4±0.0 74.6±0.5 85.9±0.3 41.0±0.0 54.8±0.1 93.2±0.1 88.0±0.0",
    "MATPAC without classification": "85.1±0.0 73.7±1.1 84.2±0.4 40.8±0.0 54.4±0.2 92.5±0.1 87.5±0.1",
    "M2D": "84.8±0.0 76.2±0.6 84.3±1.3 40.6±0.1 53.4±0.1 92.1±0.4 88.5±0.3",
    "ASiT": "85.2±0.1 77.0±0.3 81.5±0.5 40.6±0.1 49.9±0.1 87.1±0.4 88.9±0.1",
    "ATST-Clip": "84.4±0.1 71.7±0.5 79.5±1.8 39.1±0.1 50.9±0.0 91.4±0.1 86.2±0.1",
    "Dasheng 0.6B": "82.0±0.0 76.5±0.3 83.3±0.7 39.6±0.1 48.2±0.0 88.2±0.2 85.8±0.2",
    "BEATs iter3": "83.5±0.0 74.2±0.1 80.0±0.4 39.0±0.0 49.4±0.0 88.9±0.1 86.1±0.2",
    "ATST-Frame": "83.2±0.0 70.3±1.4 80.3±0.9 39.3±0.1 46.6±0.1 87.6±0.1 83.6±0.0",
    "Dasheng Base": "81.2±0.1 73.5±0.1 79.1±1.0 39.9±0.0 45.3±0.0 87.1±0.1 84.8±0.2",
    "MAE-AST": "79.6±0.0 73.5±0.3 65.9±0.8 37.2±0.1 42.7±0.0 84.6±0.2 82.6±0.1",
    "Data2vec": "79.4±0.2 65.9±0.1 74.4±0.7 36.7±0.1 37.4±0.1 78.2±0.2 78.3±0.3",
    "HuBERT": "78.1±0.0 59.6±1.4 74.2±0.8 36.8±0.0 35.0±0.1 74.5±0.2 78.1±0.2",
    "PaSST (supervised)": "86.4±0.2 73.2±0.2 87.5±0.7 40.4±0.2 62.3±0.1 96.9±0.1 89.6±0.3",
    "BEATs iter3+ (supervised)": "86.8±0.1 73.4±0.2 85.5±0.0 40.4±0.1 60.1±0.7 96.0±0.1 90.0±0.1",
    "HTS-AT (supervised)": "86.3±0.0 70.0±0.2 85.5±0.4 40.1±0.0 59.7±0.0 95.9±0.1 85.7±0.1",
}
"""By encoder, in the order of `TASKS`."""


def published_results(corpus: str) -> list[Result]:
    """What papers report on a public corpus (`Task.corpus`), best first; empty for one they do not have."""
    if corpus not in TASKS:
        return []
    column = TASKS.index(corpus)
    results = []
    for encoder, row in SCORES.items():
        mean, half = (float(part) / 100 for part in row.split()[column].split("±"))
        metric = METRICS["multi" if corpus in _MAP else "single"]
        results.append(Result(corpus, encoder, metric, mean, half, published=True))
    return sorted(results, key=lambda result: -result.mean)
