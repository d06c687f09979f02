"""How fast is a pre-training step of ViT-B on a CPU, as a share of the rate of a float32 matrix product?

    python benchmarks/pretrain_step.py [--rounds 5] [--batch 8]

MATPAC and MATPAC++, 608 frames: forward, backward, clipping, AdamW, teacher and centre; the batch is in memory.
"""

import argparse
from dataclasses import replace

import torch
from rates import machine, measure, training_operations

from matpac.logmel import LogMel
from matpac.pretext import Objective
from matpac.pretext.masking import mask_noise, split_by_noise
from matpac.recipes import PAPER_STEPS, RECIPES, Plan, Recipe
from matpac.training.setup import adamw


class Step:
    """One step as the loop does it, without Fabric and without data."""

    def __init__(self, recipe: Recipe, batch: int):
        torch.manual_seed(0)
        self.recipe, self.batch = recipe, batch
        self.objective = Objective(recipe.objective)
        self.optimizer = adamw(self.objective, recipe.optimizer)
        self.frontend = LogMel(recipe.logmel)
        self.waveforms = torch.randn(batch, recipe.crop_samples) * 0.1
        self.values = Plan(replace(recipe, batch_size=2048), 2_012_615).at(PAPER_STEPS // 2)
        self.number = 0

    def __call__(self) -> None:
        """Everything from log-mel to centre."""
        noise = mask_noise(self.batch, self.recipe.objective.encoder.tokens, (0, self.number))
        split = split_by_noise(noise, self.recipe.objective.mask_ratio)
        output = self.objective(self.frontend(self.waveforms), split, self.values.temperatures)
        output.loss.backward()
        learning = [p for p in self.objective.parameters() if p.requires_grad]
        torch.nn.utils.clip_grad_norm_(learning, self.recipe.optimizer.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.objective.update_teacher(self.values.encoder_decay, self.values.head_decay)
        if self.objective.center is not None and output.center_batch is not None:
            self.objective.center.update(output.center_batch)
        self.number += 1


def main() -> None:
    """Measure both recipes and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=8)
    options = parser.parse_args()
    print(machine())
    print(f"{'recipe, batch':24} {'s/step':>8} {'clips/s':>8} {'GFLOP/s':>8} {'limit':>8} {'share':>6}")
    for name in ("matpac", "matpac++"):
        step = Step(RECIPES[name](), options.batch)
        work = options.batch * training_operations(step.recipe.objective)
        found = measure(step, work, options.rounds)
        print(
            f"{f'{name}, {options.batch}':24} {found.seconds:8.2f} {options.batch / found.seconds:8.2f} "
            f"{work / found.seconds / 1e9:8.1f} {found.limit / 1e9:8.1f} {found.share:6.2f}"
        )


if __name__ == "__main__":
    main()
