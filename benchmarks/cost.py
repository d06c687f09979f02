"""What do the papers' 300 epochs of AudioSet cost on 1, 8 and 64 GPUs? An estimate, not a measurement.

    python benchmarks/cost.py [--share 0.3 0.55] [--batch 2048] [--crops 200 600] [--link 50]

Operations are counted (benchmarks/rates.py), sizes follow from the formats; everything else is an assumption, an
option whose source is in --help. docs/scaling.md explains the tables.
"""

import argparse

from rates import training_operations

from matpac.pretrain import Objective
from matpac.pretrain.recipes import PAPER_CLIPS, RECIPES

SECONDS = 10.0
"""Length of a clip of AudioSet."""

GPUS = (1, 8, 64)
NODE = 8
"""GPUs in a machine, joined by links so fast that their part of the all-reduce is omitted."""

PCM_RATE = 32_000
"""Bytes per second of 16-bit mono sound at 16 kHz."""


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="matpac++", choices=["matpac", "matpac++", "matpac-no-classification"])
    parser.add_argument("--tflops", type=float, default=790, help="bf16 matrix products of an H200, measured rate")
    parser.add_argument(
        "--share", type=float, nargs="+", default=[0.3, 0.55], help="share of that rate which training reaches"
    )
    parser.add_argument("--batch", type=int, default=2048, help="clips per step over all GPUs; the papers'")
    parser.add_argument(
        "--crops",
        type=float,
        nargs=2,
        default=[200, 600],
        help="crops per second and core, FLAC and PCM: docs/shards.md",
    )
    parser.add_argument(
        "--flac", type=float, default=0.6, help="size of FLAC relative to PCM: the rendered corpus's"
    )
    parser.add_argument("--link", type=float, default=50, help="GB/s between machines per GPU: 400 Gbit/s each")
    options = parser.parse_args()
    recipe = RECIPES[options.recipe]()
    work = training_operations(recipe.objective)
    learning = sum(p.numel() for p in Objective(recipe.objective).parameters() if p.requires_grad)
    seen = recipe.epochs * PAPER_CLIPS
    pcm = PAPER_CLIPS * SECONDS * PCM_RATE
    print(f"{options.recipe}: {work / 1e9:.1f} GFLOP per clip, {learning / 1e6:.1f} M parameters that learn")
    print(f"{seen / 1e6:.1f} M clips, {work * seen / 1e18:.1f} EFLOP")
    print(f"AudioSet packed: {pcm / 1e9:.0f} GB of PCM, {options.flac * pcm / 1e9:.0f} GB of FLAC")
    volume = 4 * learning / 1e9
    print(f"all-reduce: {volume:.2f} GB of float32 gradients per step; each GPU sends up to twice as much\n")
    print(
        "| share | GPUs | clips/s | step, ms | all-reduce, ms | hours | GPU hours | cores per GPU, FLAC | PCM | "
        "sound read, GB/s of PCM |\n|---|---|---|---|---|---|---|---|---|---|"
    )
    for share in options.share:
        rate = share * options.tflops * 1e12 / work
        for count in GPUS:
            compute = options.batch / count / rate
            # a ring over machines: every GPU sends its part of the gradients twice, less its own
            nodes = max(1, count // NODE)
            reduce = 2 * (nodes - 1) / nodes * volume / options.link
            step = max(compute, reduce)  # at best the all-reduce runs wholly beside the backward pass
            total, hours = options.batch / step, seen / (options.batch / step) / 3600
            flac, pcm_cores = (total / count / crops for crops in options.crops)
            sound = total * recipe.crop_samples / recipe.logmel.sample_rate * PCM_RATE / 1e9
            print(
                f"| {share:.2f} | {count} | {total:,.0f} | {1e3 * step:.1f} | {1e3 * reduce:.1f} | {hours:.1f} | "
                f"{hours * count:.0f} | {flac:.1f} | {pcm_cores:.1f} | {sound:.2f} |"
            )
        most = options.batch / rate * options.link / (2 * volume)
        print(f"\nat {share:.2f}: compute hides the all-reduce up to {most:.0f} GPUs\n")


if __name__ == "__main__":
    main()
