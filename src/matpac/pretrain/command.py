"""`matpac pretrain`: recipe, configuration file and options to a run."""

from matpac.pretrain.options import RunOptions
from matpac.pretrain.recipes import RECIPES, Recipe
from matpac.train.parsing import RecipeCommand

DESCRIPTION = """Pre-train an encoder on your sounds.

  matpac pretrain --recipe tiny --data FOLDER --output runs/x
  matpac pretrain --recipe matpac++ --data clips.parquet --output runs/y --batch_size 256 --epochs 30
  matpac pretrain --resume --output runs/x

Below are the defaults of the chosen recipe; every number of it can be changed by its name.
Exit code: 0 when the last step was done or the run was stopped and saved, 2 for an error."""

USAGE = "matpac pretrain --recipe NAME --data SOUNDS --output RUN [--any.option value …] [--config FILE]"

COMMAND = RecipeCommand("matpac pretrain", USAGE, DESCRIPTION, RECIPES, "matpac++", Recipe, RunOptions)


def run_pretrain(arguments: list[str]) -> int:
    """Parse, run; returns the exit code."""
    name, recipe, options = parse(arguments)
    from matpac.pretrain.job import pretrain

    pretrain(recipe, options, name)
    return 0


def parse(arguments: list[str]) -> tuple[str, Recipe, RunOptions]:
    """As `RecipeCommand.parse`."""
    return COMMAND.parse(arguments)
