"""How fast is a pre-training step, as a share of the rate of a large matrix product on the same device?

    python benchmarks/pretrain.py [--device auto|cpu|cuda] [--size base|tiny] [--batch 8 …] [--rounds 5]
        [--recipes matpac matpac++] [--precision auto] [--compile] [--activation-checkpointing] [--data SHARDS]

The step is the training loop's own (`Pretraining.step`): masks, log-mel, forward, backward, clipping, AdamW,
teacher and centre, on sounds that are on the device already. On a GPU the limit is the product in the precision of
the step; peak memory and the places where a step waits for the device are printed. Below each row is the time of
each part of the step, unless it is compiled. With `--data` the step is also measured with the loader of a run.
"""

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from pretrain_parts import Parts, print_parts
from rates import machine, matrix_rate, measure, synchronize, training_operations

from matpac.data.crops import PREFETCHED, CropBatch
from matpac.data.files import Clip, Corpus
from matpac.pretrain.job import Pretraining, clip_loader, find_clips
from matpac.pretrain.options import PretrainOptions
from matpac.pretrain.recipes import PAPER_CLIPS, PAPER_STEPS, RECIPES, Plan, Recipe
from matpac.train.batches import by_steps, count_workers
from matpac.train.training import Training

DTYPES = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
HEADER = f"{'recipe, batch':24} {'s/step':>8} {'clips/s':>8} {'GFLOP/s':>8} {'limit':>8} {'share':>6}"
PAPER = Plan(RECIPES["matpac++"](), PAPER_CLIPS)


class Steps:
    """Steps of a run on one batch that stays on the device."""

    def __init__(self, recipe: Recipe, options: PretrainOptions):
        training = Training(recipe, options)
        nobody = Corpus([Clip("none", 10.0)] * recipe.batch_size, [])
        corpus = nobody if options.data == "none" else find_clips(recipe, options, training.run, training.fabric)
        self.job = Pretraining(recipe, options, training, corpus)
        self.job.plan, training.step = PAPER, PAPER_STEPS // 2
        self.fabric, self.device, self.batch = training.fabric, training.fabric.device, recipe.batch_size
        generator = torch.Generator().manual_seed(0)
        waveforms = 0.1 * torch.randn(recipe.batch_size, recipe.crop_samples, generator=generator)
        self.resident = CropBatch(waveforms.to(self.device), [], [])

    def __call__(self, batches: list[CropBatch] | None = None) -> None:
        """Start one step on the device."""
        self.job.step([self.resident] if batches is None else batches)

    def finish(self, count: int) -> None:
        """Run that many steps, and wait for the device."""
        for _ in range(count):
            self()
        synchronize(self.device)

    def waits(self) -> str:
        """Places where a step waits for a GPU, as PyTorch reports them."""
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            self()
            torch.cuda.set_sync_debug_mode("default")
        places = [
            f"{warning.filename}:{warning.lineno}" for warning in seen if "synchroniz" in str(warning.message)
        ]
        return f"waits {len(places)} times: {', '.join(sorted(set(places)))}" if places else "never waits"

    def peak(self) -> float:
        """Peak GiB of a GPU's memory in a step."""
        torch.cuda.reset_peak_memory_stats(self.device)
        self.finish(1)
        return torch.cuda.max_memory_allocated(self.device) / 2**30


@contextmanager
def prepared(recipe: Recipe, given: argparse.Namespace) -> Iterator[Steps]:
    """A run of the recipe in a temporary folder, on --data or on a corpus that is never read."""
    with tempfile.TemporaryDirectory() as place:
        options = PretrainOptions(
            data=given.data or "none",
            output=str(Path(place) / "run"),
            device=given.device,
            devices=1,
            precision=given.precision,
            compile=given.compile,
            activation_checkpointing=given.activation_checkpointing,
        )
        yield Steps(recipe, options)


def measure_steps(name: str, steps: Steps, given: argparse.Namespace) -> None:
    """Print the row of a recipe and a batch size, and its parts."""
    device, batch = steps.device, steps.batch
    dtype = DTYPES.get(steps.fabric.strategy.precision.precision, torch.float32)
    count = 1 if device.type == "cpu" else 10
    work = batch * training_operations(steps.job.recipe.objective)
    steps.finish(2)  # compiles, and fills the optimizer's state
    found = measure(
        lambda: steps.finish(count), count * work, given.rounds, lambda: matrix_rate(0.5, device, dtype)
    )
    seconds = found.seconds / count
    print(
        f"{f'{name}, {batch}':24} {seconds:8.3f} {batch / seconds:8.2f} {work / seconds / 1e9:8.1f} "
        f"{found.limit / 1e9:8.1f} {found.share:6.2f}"
    )
    if device.type == "cuda":
        print(f"  peak of memory {steps.peak():.1f} GiB; the step {steps.waits()}")
    if not given.compile:
        print_parts(Parts(steps.job, steps.resident.waveforms), steps, given.rounds)


def measure_feeding(steps: Steps, given: argparse.Namespace) -> None:
    """Print the time of a step fed by the loader, and of one whose sounds are on the device, measured in turn."""
    job, count = steps.job, 5 if steps.device.type == "cpu" else 50
    workers = count_workers(job.options, steps.device)
    endless = replace(job.recipe, epochs=1e6)
    batches = clip_loader(endless, job.options, job.corpus.clips, steps.fabric, 0)
    loader = by_steps(batches, Plan(endless, len(job.corpus.clips)).steps, 1)
    fed, resident, ratios = [], [], []
    with closing(loader):
        for _ in range(given.rounds):
            for _ in range(workers * PREFETCHED):  # batches that the readers had time to prepare
                steps(next(loader))
            synchronize(steps.device)
            began = time.perf_counter()
            for _ in range(count):
                steps(next(loader))
            synchronize(steps.device)
            fed.append((time.perf_counter() - began) / count)
            began = time.perf_counter()
            steps.finish(count)
            resident.append((time.perf_counter() - began) / count)
            ratios.append(fed[-1] / resident[-1])
    print(
        f"  fed by {workers} readers {statistics.median(fed):.3f} s per step, from the device "
        f"{statistics.median(resident):.3f} s, ratio {statistics.median(ratios):.3f}"
    )


def sized(recipe: Recipe, size: str) -> Recipe:
    """The recipe unchanged, or its objective with the networks of `tiny`."""
    if size == "base":
        return recipe
    small, own = RECIPES["tiny"]().objective, recipe.objective
    predictor = replace(small.predictor, hypotheses=own.predictor.hypotheses)
    return replace(recipe, objective=replace(small, alpha=own.alpha, predictor=predictor))


def main() -> None:
    """Measure every recipe with every batch size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--size", choices=["base", "tiny"], default="base")
    parser.add_argument("--batch", type=int, nargs="+", default=[8], help="one or more batch sizes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--recipes", nargs="+", choices=sorted(RECIPES), default=["matpac", "matpac++"])
    parser.add_argument("--precision", choices=["auto", "32-true", "bf16-mixed", "16-mixed"], default="auto")
    parser.add_argument("--compile", action="store_true", help="torch.compile, in one graph")
    parser.add_argument("--activation-checkpointing", action="store_true")
    parser.add_argument("--data", help="also feed the step from this corpus, as matpac pretrain takes it")
    given = parser.parse_args()
    for number, name in enumerate(given.recipes):
        for batch in given.batch:
            recipe = replace(sized(RECIPES[name](), given.size), batch_size=batch)
            with prepared(recipe, given) as steps:
                if not number and batch == given.batch[0]:
                    precision = steps.fabric.strategy.precision.precision
                    print(f"{machine(steps.device)}, {precision}")
                    print(HEADER)
                measure_steps(name, steps, given)
                if given.data:
                    measure_feeding(steps, given)


if __name__ == "__main__":
    main()
