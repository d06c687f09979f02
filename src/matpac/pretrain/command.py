"""`matpac pretrain`: recipe, configuration file and options to a run."""

import sys

from matpac.console import report_skipped
from matpac.errors import MatpacError
from matpac.pretrain.options import PretrainOptions
from matpac.pretrain.recipes import RECIPES, Recipe
from matpac.train.parsing import RecipeCommand

DESCRIPTION = """Pre-train an encoder on your sounds.

  matpac pretrain --recipe tiny --data FOLDER --output runs/x
  matpac pretrain --recipe matpac++ --data clips.parquet --output runs/y --batch_size 256 --epochs 30
  matpac pretrain --resume --output runs/x

Below are the defaults of the chosen recipe; every number of it can be changed by its name.
Exit code: 0 when the last step was done or the run was stopped and saved, 2 for an error."""

USAGE = "matpac pretrain --recipe NAME --data SOUNDS --output RUN [--any.option value …] [--config FILE]"

COMMAND = RecipeCommand("matpac pretrain", USAGE, DESCRIPTION, RECIPES, "matpac++", Recipe, PretrainOptions)


def pretrain(arguments: list[str]) -> int:
    """Parse, run; returns the exit code."""
    name, recipe, options = COMMAND.parse(arguments)
    from matpac.pretrain import job

    job.pretrain(recipe, options, name)
    return 0


def stats(data: str, *, max_clips: int = 10_000, seed: int = 0, recipe: str = "matpac++") -> int:
    """Mean and standard deviation of a corpus's log-mel, for recipes that do not keep AudioSet's.

      matpac stats recordings
      matpac pretrain … --logmel.mean M --logmel.std S

    Exit code: 0 when every file was readable, 1 when files were skipped (each is named with its reason), 2 for an
    error.

    Args:
        data: a folder (searched recursively), a file, a table with a path column, or shards
        max_clips: clips to measure, sampled at random
        seed: random seed for sampling clips
        recipe: the recipe of `matpac pretrain` whose log-mel is measured; all but tiny-fine have the papers'
    """
    from matpac.data.corpus import list_corpus
    from matpac.data.statistics import normalisation

    if recipe not in RECIPES:
        raise MatpacError(f"--recipe: no recipe {recipe!r}; there are {', '.join(RECIPES)}")
    corpus = list_corpus(data)
    found = normalisation(corpus.clips, RECIPES[recipe]().logmel, max_clips=max_clips, seed=seed)
    skipped = [*corpus.skipped, *found.skipped]
    print(f"--logmel.mean {found.mean:.4f} --logmel.std {found.std:.4f}")
    print(f"{found.clips} clips, {found.frames} frames; {len(skipped)} files skipped", file=sys.stderr)
    return report_skipped(skipped)
