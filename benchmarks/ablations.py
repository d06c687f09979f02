"""What does each part of the method contribute? Pre-trainings that differ in one part, on the rendered corpus.

    python benchmarks/corpus.py --output rendered
    python benchmarks/ablations.py --corpus rendered --output runs/ablations [--steps 600] [--seeds 0 1 2]
        [--variants matpac++ matpac …] [--tasks words noises …] [--picture curves.svg]

Each variant is the recipe tiny with one change, with the same steps and seeds. For every seed a network is pre-
trained on rendered/pretrain, and linear probes are trained on its frozen vectors (the average of three seeds of
the probe). The table has mean ± 95 % interval over the seeds of pre-training (Student's t) and, below it, the
paired test of every variant against matpac++ over these seeds. Untrained networks are treated in the same way;
log-mel statistics have no pre-training, so their interval is over seeds of the probe. Finished runs are not
repeated.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from corpus import PRETRAIN, TASKS
from probe_scores import probe_scores

from matpac.pretrain.job import pretrain_to_end
from matpac.pretrain.options import PretrainOptions
from matpac.pretrain.recipes import Recipe, tiny
from matpac.probe.compare import confidence_interval, paired_test
from matpac.probe.encoders import open_encoder
from matpac.probe.trainer import ProbeConfig
from matpac.report.style import look, marks, new_figure
from matpac.tasks import Task, read_task

WHOLE = "matpac++"
LOGMEL = "log-mel statistics"
UNTRAINED = "untrained"


def hypotheses(count: int) -> Callable[[Recipe], Recipe]:
    """Another number of hypotheses."""
    return lambda recipe: replace(
        recipe,
        objective=replace(recipe.objective, predictor=replace(recipe.objective.predictor, hypotheses=count)),
    )


def mask_ratio(ratio: float) -> Callable[[Recipe], Recipe]:
    """Another share of masked patches."""
    return lambda recipe: replace(recipe, objective=replace(recipe.objective, mask_ratio=ratio))


def no_classification(recipe: Recipe) -> Recipe:
    """MATPAC's ablation: one hypothesis, and prediction only."""
    recipe = hypotheses(1)(recipe)
    return replace(recipe, objective=replace(recipe.objective, alpha=1.0))


def center_on_logits(recipe: Recipe) -> Recipe:
    """DINO's centre, instead of the published code's mean of probabilities."""
    return replace(
        recipe, objective=replace(recipe.objective, head=replace(recipe.objective.head, center_on="logits"))
    )


def teacher_as_copy(recipe: Recipe) -> Recipe:
    """The teacher starts as the student instead of from its own random draw."""
    return replace(recipe, objective=replace(recipe.objective, teacher_starts_as_copy=True))


VARIANTS: dict[str, Callable[[Recipe], Recipe]] = {
    WHOLE: lambda recipe: recipe,
    "matpac": hypotheses(1),
    "matpac, no classification": no_classification,
    "centre on logits": center_on_logits,
    "teacher starts as a copy": teacher_as_copy,
    "mask ratio 0.5": mask_ratio(0.5),
    "mask ratio 0.8": mask_ratio(0.8),
    "2 hypotheses": hypotheses(2),
    "10 hypotheses": hypotheses(10),
}
"""Changes by name; matpac++ has 5 hypotheses and a mask ratio of 0.7."""


def run_folder(output: Path, variant: str, seed: int) -> Path:
    """Run folder of one pre-training."""
    return output / f"{variant.replace(', ', '-').replace(' ', '-')}-{seed}"


def trained(variant: str, seed: int, corpus: Path, output: Path, steps: int) -> Path:
    """Pre-train a variant, if it is not finished; returns its run folder."""
    folder = run_folder(output, variant, seed)
    clips = len(list((corpus / PRETRAIN).iterdir()))
    recipe = VARIANTS[variant](tiny())
    # slightly more than the steps, so that rounding does not lose the last one
    recipe = replace(recipe, epochs=(steps + 1e-3) * recipe.batch_size / clips)
    options = PretrainOptions(data=str(corpus / PRETRAIN), output=str(folder), seed=seed, log_every=10, keep=1)
    pretrain_to_end(recipe, options, "tiny")
    return folder


def read_log(run: Path) -> list[dict[str, float]]:
    """Log lines of a run."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def draw_curves(output: Path, variants: Sequence[str], seeds: Sequence[int], picture: Path) -> None:
    """Draw monitors of every variant by step, means over seeds."""
    panels = {
        "prediction loss": "loss/prediction",
        "classification loss": "loss/classification",
        "standard deviation of targets": "targets/deviation",
        "pseudo-classes in use": "classes/perplexity",
    }
    colours = marks(variants)
    logs = {variant: [read_log(run_folder(output, variant, seed)) for seed in seeds] for variant in variants}
    with look():
        figure = new_figure(5.6)
        for axes, (title, name) in zip(figure.subplots(2, 2).flat, panels.items(), strict=True):
            for variant, runs in logs.items():
                lines = [at_step for at_step in zip(*runs, strict=True) if name in at_step[0]]
                if lines:
                    steps = [at_step[0]["step"] for at_step in lines]
                    means = [np.mean([line[name] for line in at_step]) for at_step in lines]
                    axes.plot(steps, means, color=colours[variant].colour, label=variant, lw=1.2)
            axes.set_title(title, loc="left")
            axes.set_xlabel("step")
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
        figure.savefig(picture)


def main() -> None:
    """Pre-train, probe, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="VARIANT")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), metavar="TASK")
    parser.add_argument("--picture", type=Path, help="file for the learning curves")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    kept = options.output / "scores.json"
    scores: dict[str, list[float]] = json.loads(kept.read_text()) if kept.exists() else {}
    tasks = [read_task("table", options.corpus / f"{name}.csv") for name in options.tasks]

    def probed(spec: str, task: Task) -> list[float]:
        encoder = open_encoder(spec)
        key = f"{task.name} {encoder.key}"
        if key not in scores:
            scores[key] = probe_scores(encoder, task, options.output / "cache", ProbeConfig())
            kept.write_text(json.dumps(scores))
        return scores[key]

    table: dict[str, list[np.ndarray]] = {
        LOGMEL: [np.array(probed("logmel", task)) for task in tasks],
        UNTRAINED: [np.array([np.mean(probed(f"random:tiny:{s}", t)) for s in options.seeds]) for t in tasks],
    }
    for variant in options.variants:
        runs = [str(trained(variant, s, options.corpus, options.output, options.steps)) for s in options.seeds]
        table[variant] = [np.array([np.mean(probed(run, task)) for run in runs]) for task in tasks]

    columns = [f"{task.name}, {task.metric}" for task in tasks]
    print(f"| | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
    for name, rows in table.items():
        cells = [confidence_interval(row) for row in rows]
        print(f"| {name} | {' | '.join(f'{100 * mean:.1f} ± {100 * half:.1f}' for mean, half in cells)} |")
    print()
    if WHOLE in table:
        for name in [UNTRAINED, *(variant for variant in options.variants if variant != WHOLE)]:
            for task, row, whole in zip(tasks, table[name], table[WHOLE], strict=True):
                print(f"{task.name}: {paired_test(row[:, None], whole[:, None], (name, WHOLE)).verdict}")
    if options.picture:
        draw_curves(options.output, options.variants, options.seeds, options.picture)


if __name__ == "__main__":
    main()
