"""`matpac finetune`: parse, run, write, show."""

import csv
import io
import json
import shlex
from pathlib import Path

from matpac.atomic import escaped, write_text
from matpac.finetune.finetune import Finetuned, Tested, finetune
from matpac.finetune.options import FinetuneOptions
from matpac.finetune.page import write_page
from matpac.finetune.recipes import RECIPES, FinetuneRecipe
from matpac.probe.scores import by_class
from matpac.tasks import TASKS
from matpac.train.parsing import RecipeCommand

DESCRIPTION = f"""Fine-tune an encoder on labelled sounds; the result is a tagger.

  matpac finetune --encoder matpac++ --recipe small --task folder --root MY_SOUNDS --output runs/tagger
  matpac finetune --encoder runs/mine --recipe small --task esc50 --root ESC-50 --fold 1 --output runs/esc50
  matpac finetune --encoder matpac++ --recipe audioset-2m --task audioset --root AUDIOSET --output runs/as2m
  matpac finetune --resume --output runs/tagger

Tasks: {", ".join(TASKS)}.
Below are the defaults of the chosen recipe; every number of it can be changed by its name.
Exit code: 0 when the last step was done or the run was stopped and saved, 1 when clips were left out (each is
named in left_out.jsonl), 2 for an error."""

USAGE = (
    "matpac finetune --encoder X --task NAME --root DIR --output RUN [--recipe NAME] [--any.option value …] "
    "[--config FILE]"
)

COMMAND = RecipeCommand("matpac finetune", USAGE, DESCRIPTION, RECIPES, "small", FinetuneRecipe, FinetuneOptions)


def run_finetune(arguments: list[str]) -> int:
    """Parse, run, write and show; returns the exit code."""
    name, recipe, options = COMMAND.parse(arguments)
    done = finetune(recipe, options, name)
    if not done.first:  # one process of several tells and writes
        return 0
    if done.test is None:
        print(f"{done.folder}: stopped and saved at step {done.step:,} of {done.steps:,}")
        print(f"go on: matpac finetune --resume --output {shlex.quote(str(done.folder))}")
        return 0
    write_results(done, done.test, name, options)
    page = write_page(done, done.test, options, ["matpac", "finetune", *arguments])
    show(done, done.test, page)
    return 1 if done.left_out else 0


def write_results(done: Finetuned, test: Tested, recipe: str, options: FinetuneOptions) -> None:
    """results.json and classes.csv in the run folder, each whole or not at all. Scores are shares."""
    task, score = done.clips.task, test.score
    classes = by_class(task.classes, score.per_class)
    record = {
        "task": task.name,
        "fold": done.clips.fold,
        "encoder": options.encoder,
        "recipe": recipe,
        "seed": options.seed,
        "metric": score.metric,
        "test": score.value,
        "roc_auc": score.roc_auc,
        "d_prime": score.d_prime,
        "validation": done.valid,
        "epoch": done.epoch,
        "tested": score.clips,
        "used": done.used,
        "total": task.total,
        "seconds": done.seconds,
        "per_class": classes,
        "notes": task.notes,
    }
    write_text(done.folder / "results.json", escaped(json.dumps(record, indent=2, ensure_ascii=False)) + "\n")
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["class", score.metric])
    table.writerows([[name, "" if value is None else value] for name, value in classes.items()])
    write_text(done.folder / "classes.csv", escaped(text.getvalue()))


def show(done: Finetuned, test: Tested, page: Path) -> None:
    """The summary at the terminal."""
    print(
        f"{done.folder}: {done.steps:,} steps done in {done.seconds / 60:.1f} min; test {test.score}; epoch "
        f"{done.epoch}, validation {100 * done.valid:.1f} %"
    )
    if done.left_out:
        print(f"{done.left_out} clips left out, see {done.folder / 'left_out.jsonl'}")
    folder = shlex.quote(str(done.folder))
    print(f"{page} shows it; use it: matpac tag FILES --encoder {folder}")
