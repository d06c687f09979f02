"""`matpac quickstart`: one command from nothing to an encoder trained, evaluated and used."""

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
from matpac.quickstart.masks import predict_masked
from matpac.quickstart.page import Story, write_page
from matpac.quickstart.synthetic import CorpusConfig, make_corpus
from matpac.tasks import Task, read_task
from matpac.vectors.embed import EmbedOptions, embed_files

PRETRAINED, UNTRAINED, STATISTICS = "pre-trained", "untrained", "log-mel statistics"
PACKAGED = "tiny, of the package"


@dataclass(frozen=True)
class QuickstartOptions:
    """What the quickstart makes, and how much of it; see `quickstart`."""

    output: str = "quickstart"
    seed: int = 0
    epochs: float = 10
    clips: int = 4000
    labelled: int = 600


def quickstart(
    *, output: str = "quickstart", seed: int = 0, epochs: float = 10, clips: int = 4000, labelled: int = 600
) -> int:
    """Pre-train, evaluate and use a tiny encoder on synthetic sounds.

    Generates a small corpus, pre-trains the tiny MATPAC++ recipe on its unlabelled part, probes the frozen encoder
    on its labelled parts, and writes a report and vectors. About ten minutes on two cores; run the same command
    again to resume.
    Exit code: 0 when everything is done, 2 for an error.

    Args:
        output: the folder for everything it writes
        seed: random seed of sounds, weights, masks and crops
        epochs: of pre-training; the default fits ten minutes on two cores with everything else
        clips: unlabelled clips to pre-train on
        labelled: labelled training clips of each task; validation has a third of it, test two thirds
    """
    run_steps(QuickstartOptions(output, seed, epochs, clips, labelled))
    return 0


def run_steps(options: QuickstartOptions) -> Outcome:
    """Everything, in order; returns the scores.

    Raises:
        MatpacError: the output folder holds something else, or an earlier quickstart with other settings.
    """
    began = time.monotonic()
    folder = Path(options.output)
    say("1/5  generating sounds")
    corpus = make_corpus(folder / "corpus", corpus_config(options))
    say("2/5  pre-training without labels")
    recipe = replace(tiny(), epochs=options.epochs)
    run = folder / "run"
    to_run = PretrainOptions(data=str(corpus.pretrain), output=str(run), seed=options.seed)
    finished = pretrain_to_end(recipe, to_run, "tiny")
    say("3/5  probing frozen vectors on labelled, held-out sounds")
    tasks = [read_task("table", task.table) for task in corpus.tasks]
    outcome = probe(tasks, folder, recipe, options.seed)
    say("4/5  embedding the test clips")
    embed_test_clips(tasks, run, folder / "vectors.parquet")
    say("5/5  drawing the report")
    assert finished.checkpoint is not None
    story = Story(
        outcome,
        tasks,
        (PRETRAINED, PACKAGED, UNTRAINED, STATISTICS),
        run / "metrics.jsonl",
        predict_masked(
            finished.checkpoint, recipe, Path(tasks[1].paths[int(tasks[1].folds[0].test[0])]), options.seed
        ),
        facts(options, recipe, finished.steps, time.monotonic() - began),
        next_commands(folder),
    )
    page = write_page(story, folder / "report.html")
    show(outcome)
    say(f"\nreport: {page}; {(time.monotonic() - began) / 60:.1f} min\n\nNext:\n{next_commands(folder)}")
    return outcome


def corpus_config(options: QuickstartOptions) -> CorpusConfig:
    """The sounds that the options ask for."""
    return CorpusConfig(
        pretrain_clips=options.clips,
        train_clips=options.labelled,
        valid_clips=max(16, options.labelled // 3),
        test_clips=max(16, 2 * options.labelled // 3),
        seed=options.seed,
    )


def probe(tasks: Sequence[Task], folder: Path, recipe: Recipe, seed: int) -> Outcome:
    """The trained encoder, the one that comes with matpac, the first untrained, and features without learning."""
    encoders = [
        named_embedder(PRETRAINED, load(folder / "run")),
        named_embedder(PACKAGED, load("tiny")),
        named_embedder(UNTRAINED, untrained(recipe.objective.encoder, recipe.logmel, seed)),
        replace(open_encoder("logmel"), name=STATISTICS),
    ]
    return run_probes(encoders, tasks, folder)


def embed_test_clips(tasks: Sequence[Task], run: Path, output: Path) -> None:
    """Vectors of all test clips as one table, by the code behind `matpac embed`."""
    clips = [task.paths[number] for task in tasks for number in task.folds[0].test]
    result = embed_files(clips, load(run), EmbedOptions(str(output)))
    say(f"{output}: {result.files} vectors")


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
    """The same with one's own sounds."""
    return (
        f"matpac embed YOUR_FOLDER --encoder {folder / 'run'} --output vectors.parquet\n"
        "matpac pretrain --recipe tiny --data YOUR_FOLDER --output runs/mine\n"
        "matpac embed YOUR_FOLDER --encoder tiny --output vectors.parquet       # the one that comes with matpac\n"
        "matpac embed YOUR_FOLDER --encoder matpac++ --output vectors.parquet   # the papers' encoder"
    )


def say(text: str) -> None:
    """A line at the terminal."""
    print(text, flush=True)
