"""`matpac finetune`: parse, run, write, show."""

import shlex

USAGE = (
    "matpac finetune --encoder X --task NAME --root DIR --output RUN [--recipe NAME] [--any.option value …] "
    "[--config FILE]"
)

DESCRIPTION = """Fine-tune an encoder on labelled sounds; the result is a tagger.

  matpac finetune --encoder matpac++ --recipe small --task folder --root MY_SOUNDS --output runs/tagger
  matpac finetune --encoder runs/mine --recipe small --task esc50 --root ESC-50 --fold 1 --output runs/esc50
  matpac finetune --encoder matpac++ --recipe audioset-2m --task audioset --root AUDIOSET --output runs/as2m
  matpac finetune --resume --output runs/tagger

Tasks: {tasks}.
Below are the defaults of the chosen recipe; change any of its numbers by name.
Exit code: 0 when the last step was done or the run was stopped and saved, 1 when clips were skipped (each is named
in left_out.jsonl), 2 for an error."""


def finetune(arguments: list[str]) -> int:
    """Parse, run, write and show; returns the exit code."""
    from matpac.finetune import job
    from matpac.finetune.options import FinetuneOptions
    from matpac.finetune.recipes import RECIPES, FinetuneRecipe
    from matpac.finetune.results import write_page, write_results
    from matpac.tasks import TASKS
    from matpac.train.parsing import RecipeCommand

    description = DESCRIPTION.format(tasks=", ".join(TASKS))
    command = RecipeCommand(
        "matpac finetune", USAGE, description, RECIPES, "small", FinetuneRecipe, FinetuneOptions
    )
    name, recipe, options = command.parse(arguments)
    done = job.finetune(recipe, options, name)
    if done.test is None or not done.first:  # stopped; of several processes one writes and shows
        return 0
    write_results(done, done.test, name, options)
    page = write_page(done, done.test, options, ["matpac", "finetune", *arguments])
    print(f"{done.folder}: test {done.test}; epoch {done.epoch}, validation {100 * done.valid:.1f} %")
    if done.skipped:
        print(f"{done.skipped} clips skipped, see {done.folder / 'left_out.jsonl'}")
    print(f"report: {page}; use it: matpac tag FILES --encoder {shlex.quote(str(done.folder))}")
    return 1 if done.skipped else 0
