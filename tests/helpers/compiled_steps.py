"""Steps of compiled objectives and of the same that are not, in a process without the checks of shapes that tests
have, which are nothing to compile. Prints what came out as JSON; test_compiled.py starts it and judges."""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1]))

import torch
from torch import distributed, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn.parallel import DistributedDataParallel

from helpers.tiny_run import lines, make_sounds, options, run, tiny_recipe
from matpac.pretrain import Objective, PretextOutput, Temperatures
from matpac.pretrain.masking import mask_noise, split_by_noise
from matpac.pretrain.recipes import Recipe
from matpac.train import training

TEMPERATURES = [
    Temperatures(0.1, 0.04),
    Temperatures(0.05, 0.055),
    Temperatures(2e-4, 0.07),
    Temperatures(5e-5, 0.07),
]
"""As in a run, the last one so cold that the winner takes all."""


def steps(objective: Objective, module: nn.Module, recipe: Recipe, bf16: bool, eager: bool) -> list[PretextOutput]:
    """Steps of gradient descent, with a teacher that moves."""
    optimizer = torch.optim.SGD([p for p in objective.parameters() if p.requires_grad], lr=0.05)
    generator = torch.Generator().manual_seed(1)
    encoder, outputs = recipe.objective.encoder, []
    for step, temperatures in enumerate(TEMPERATURES):
        split = split_by_noise(mask_noise(4, encoder.tokens, (0, step)), recipe.objective.mask_ratio)
        logmel = torch.randn(4, encoder.mels, encoder.frames, generator=generator)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):  # it keeps copies of weights: one a step
            output = module(logmel, split, temperatures if eager else temperatures.on(logmel.device))
        output.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        objective.update_teacher(0.9, 0.9)
        outputs.append(output)
    return outputs


def compare(
    counter: CompileCounterWithBackend,
    checkpointing: bool = False,
    bf16: bool = False,
    parallel: bool = False,
    **changes: Any,
) -> dict[str, Any]:
    """One case: graphs made, losses of both, and whether names and parameters stayed."""
    torch._dynamo.reset()
    counter.clear()
    recipe = tiny_recipe(**changes)
    plain, other = (_seeded(recipe) for _ in range(2))
    given = options(Path(), Path(), compile=True, activation_checkpointing=checkpointing)
    training.prepare(other, given)
    module = DistributedDataParallel(other) if parallel else other
    expected, found = steps(plain, plain, recipe, bf16, True), steps(other, module, recipe, bf16, False)
    return {
        "graphs": counter.frame_count,
        "eager": [output.loss.item() for output in expected],
        "compiled": [output.loss.item() for output in found],
        "dtype": str(found[0].loss.dtype),
        "same_names": list(plain.state_dict()) == list(other.state_dict()),
        "watched_are_detached": not any(o.targets.requires_grad or o.predictions.requires_grad for o in found),
    }


def _seeded(recipe: Recipe) -> Objective:
    torch.manual_seed(0)
    return Objective(recipe.objective)


def whole_runs(counter: CompileCounterWithBackend) -> dict[str, Any]:
    """Runs of `pretrain` with micro-batches: plain, compiled, and started plain and resumed compiled."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        (root / "sounds").mkdir()
        sounds = make_sounds(root / "sounds")
        run(sounds, root / "plain", accumulate=2)
        torch._dynamo.reset()
        counter.clear()
        run(sounds, root / "compiled", accumulate=2, compile=True)
        graphs = counter.frame_count
        run(sounds, root / "resumed", accumulate=2, checkpoint_every=4)
        for path in (root / "resumed" / "checkpoints").glob("step-00000006"):
            (path / "state.json").unlink()  # as if it had been killed
        run(sounds, root / "resumed", accumulate=2, compile=True, resume=True)
        names = ("plain", "compiled", "resumed")
        losses = {name: [line["loss"] for line in lines(root / name / "metrics.jsonl")] for name in names}
    return {"graphs": graphs, **losses}


def main() -> None:
    """All cases."""
    counter = training.COMPILER = CompileCounterWithBackend("aot_eager")  # type: ignore[assignment]
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    with torch._dynamo.config.patch(error_on_recompile=True):
        found = {
            "matpac++": compare(counter),
            "matpac": compare(counter, hypotheses=1),
            "prediction alone": compare(counter, alpha=1.0),
            "classification alone": compare(counter, alpha=0.0),
            "activation checkpointing": compare(counter, checkpointing=True),
            "bf16": compare(counter, bf16=True),
            "distributed": compare(counter, checkpointing=True, parallel=True),
            "runs": whole_runs(counter),
        }
    distributed.destroy_process_group()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
