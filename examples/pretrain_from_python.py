"""Pre-train from Python: a recipe, one number of it changed, and the encoder that comes out.

python examples/pretrain_from_python.py FOLDER RUN [STEPS]
"""

import sys
from dataclasses import replace

import matpac
from matpac.pretrain.job import pretrain


def main(folder: str, run: str, steps: int) -> None:
    """Train `tiny` for a few steps with three hypotheses instead of five."""
    recipe = matpac.RECIPES["tiny"]()
    predictor = replace(recipe.objective.predictor, hypotheses=3)
    clips = len(matpac.list_clips(folder).clips)
    batch = min(recipe.batch_size, clips)
    recipe = replace(
        recipe,
        objective=replace(recipe.objective, predictor=predictor),
        batch_size=batch,
        epochs=steps * batch / clips,
    )
    finished = pretrain(recipe, matpac.PretrainOptions(data=folder, output=run, log_every=max(1, steps // 10)))
    print(f"{finished.step} steps in {finished.seconds:.0f} s; {finished.skipped} files skipped")
    print(matpac.load(run).card)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: pretrain_from_python.py FOLDER RUN [STEPS]")
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 100)
