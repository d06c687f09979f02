"""The steps of the quickstart: sounds, pre-training, probes, vectors, report."""

import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from matpac import __version__
from matpac.files.load import load
from matpac.pretrain.job import pretrain_to_end
from matpac.pretrain.options import PretrainOptions
from matpac.pretrain.recipes import Recipe, tiny
from matpac.probe.command import show
from matpac.probe.encoders import named_embedder, open_encoder, untrained
from matpac.probe.run import Outcome, run_probes
from matpac.quickstart.page import Story, predict_masked, write_page
from matpac.quickstart.synthetic.corpus import CorpusConfig, make_corpus
from matpac.tasks import Task, read_task
from matpac.vectors.embed import EmbedOptions, embed_files

ENCODERS = PRETRAINED, PACKAGED, UNTRAINED, STATISTICS = (
    "pre-trained",
    "tiny, of the package",
    "untrained",
    "log-mel statistics",
)
"""Names of what is probed on the page."""


@dataclass(frozen=True)
class QuickstartOptions:
    """What the quickstart generates; see `matpac.quickstart.command.quickstart`."""

    output: str
    seed: int
    epochs: float
    clips: int
    labelled: int


def run_steps(options: QuickstartOptions) -> Outcome:
    """Run all steps, in order; returns the scores.

    Raises:
        MatpacError: the output folder holds something else, or an earlier quickstart with other settings.
    """
    began = time.monotonic()
    folder = Path(options.output)
    run = folder / "run"
    say("1/5  generating sounds")
    sounds = CorpusConfig(
        pretrain_clips=options.clips,
        train_clips=options.labelled,
        valid_clips=max(16, options.labelled // 3),
        test_clips=max(16, 2 * options.labelled // 3),
        seed=options.seed,
    )
    corpus = make_corpus(folder / "corpus", sounds)
    say("2/5  pre-training without labels")
    recipe = replace(tiny(), epochs=options.epochs)
    to_run = PretrainOptions(data=str(corpus.pretrain), output=str(run), seed=options.seed)
    finished = pretrain_to_end(recipe, to_run, "tiny")
    assert finished.checkpoint is not None
    say("3/5  probing frozen vectors on labelled, held-out sounds")
    tasks = [read_task("table", table) for table in corpus.tables]
    outcome = probe(tasks, folder, recipe, options.seed)
    say("4/5  embedding the test clips")
    test_clips = [task.paths[number] for task in tasks for number in task.folds[0].test]
    embedded = embed_files(test_clips, load(run), EmbedOptions(str(folder / "vectors.parquet")))
    say(f"{folder / 'vectors.parquet'}: {embedded.files} vectors")
    say("5/5  drawing the report")
    clip = Path(tasks[1].paths[int(tasks[1].folds[0].test[0])])
    story = Story(
        outcome,
        tasks,
        ENCODERS,
        run / "metrics.jsonl",
        predict_masked(finished.checkpoint, recipe, clip, options.seed),
        facts(options, recipe, finished.steps, time.monotonic() - began),
        next_commands(folder),
    )
    page = write_page(story, folder / "report.html")
    show(outcome)
    say(f"\nreport: {page}; {(time.monotonic() - began) / 60:.1f} min\n\nNext:\n{next_commands(folder)}")
    return outcome


def probe(tasks: Sequence[Task], folder: Path, recipe: Recipe, seed: int) -> Outcome:
    """Probe the trained encoder, the packaged one, the untrained start, and features without learning."""
    encoders = [
        named_embedder(PRETRAINED, load(folder / "run")),
        named_embedder(PACKAGED, load("tiny")),
        named_embedder(UNTRAINED, untrained(recipe.objective.encoder, recipe.logmel, seed)),
        replace(open_encoder("logmel"), name=STATISTICS),
    ]
    return run_probes(encoders, tasks, folder)


def facts(options: QuickstartOptions, recipe: Recipe, steps: int, seconds: float) -> dict[str, object]:
    """What was run, where, for how long."""
    encoder = recipe.objective.encoder
    return {
        "command": " ".join(["matpac quickstart", *(f"--{key} {value}" for key, value in vars(options).items())]),
        "matpac": __version__,
        "encoder": f"width {encoder.width}, depth {encoder.depth}, {encoder.frames} frames",
        "steps": f"{steps} of {recipe.batch_size} clips",
        "seed": options.seed,
        "time before this page": f"{seconds / 60:.1f} min",
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, {platform.system()}",
        "versions": f"Python {platform.python_version()}, torch {torch.__version__}",
        "recipe": str(asdict(recipe)),
    }


def next_commands(folder: Path) -> str:
    """Commands for the user's own sounds."""
    return (
        f"matpac embed YOUR_FOLDER --encoder {folder / 'run'} --output vectors.parquet\n"
        "matpac pretrain --recipe tiny --data YOUR_FOLDER --output runs/mine\n"
        "matpac embed YOUR_FOLDER --encoder tiny --output vectors.parquet       # the one that comes with matpac\n"
        "matpac embed YOUR_FOLDER --encoder matpac++ --output vectors.parquet   # the papers' encoder"
    )


def say(text: str) -> None:
    """Print a line at once, also where the output is a pipe."""
    print(text, flush=True)
