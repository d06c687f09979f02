"""What do ONNX Runtime and 8 bits gain on a CPU, as multiples of PyTorch's speed, and what do they cost?

    python benchmarks/onnx_int8.py [--size base] [--rounds 5] [--threads 2]
    python benchmarks/onnx_int8.py --encoder runs/mine --sounds recordings

Speed: 8 clips of 10 s and clips of 0.5 to 12 s in memory, random weights (speed does not depend on them), all
variants in turn in every round. Cost: cosine of scenes and frames to PyTorch's float32, on sounds that were not
used for calibration; also after subtracting the mean vector, which all scenes share and which hides differences.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from rates import machine

from matpac import audio
from matpac.data.files import list_clips
from matpac.files.load import load
from matpac.files.onnx.export import export_onnx, synthetic_sounds
from matpac.model.embedder import Embedder
from matpac.model.logmel import LogMelConfig
from matpac.model.vit import SIZES, Encoder

CALIBRATION = 48
"""Sounds used for calibration; the others are used for comparison."""


def variants(encoder: Embedder, sounds: list[np.ndarray], folder: Path) -> dict[str, tuple[Embedder, float]]:
    """All variants of the encoder, with the size of their files in MB."""
    ways: dict[str, dict] = {
        "ONNX float32": {},
        "int8, synthetic sounds": {"int8": True},
        "int8, smoothed by these sounds": {"int8": True, "sounds": sounds},
    }
    found = {"PyTorch float32": (encoder, float("nan"))}
    for number, (name, how) in enumerate(ways.items()):
        path = folder / f"{number}.onnx"
        found[name] = (load(export_onnx(encoder, path, **how).path), path.stat().st_size / 1e6)
    return found


def measure_speed(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every run in each round, after a round that does not count."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if number:
                taken[name].append(time.perf_counter() - start)
    return taken


def speed(size: str, rounds: int) -> None:
    """Print the table of speeds."""
    torch.manual_seed(0)
    encoder = Embedder(Encoder(SIZES[size]), LogMelConfig())
    rng = np.random.default_rng(0)
    lengths = {"8 clips of 10 s": [160_000] * 8, "12 clips of 0.5–12 s": list(rng.integers(8_000, 192_000, 12))}
    with TemporaryDirectory() as folder:
        found = variants(encoder, synthetic_sounds([97_600] * 16, 16_000), Path(folder))
        for case, samples in lengths.items():
            clips = synthetic_sounds(samples, 16_000)
            taken = measure_speed(
                {name: partial(one.scene, clips, 16_000) for name, (one, _) in found.items()}, rounds
            )
            medians = {name: statistics.median(seconds) for name, seconds in taken.items()}
            print(f"\n{size}, {case}; medians of {rounds} rounds, {torch.get_num_threads()} threads")
            print(f"{'':32} {'MB':>7} {'audio s/s':>10} {'× PyTorch':>10} {'× ONNX float32':>15}")
            for name, seconds in medians.items():
                rate = sum(samples) / 16_000 / seconds
                shares = medians["PyTorch float32"] / seconds, medians["ONNX float32"] / seconds
                print(f"{name:32} {found[name][1]:7.1f} {rate:10.1f} {shares[0]:10.2f} {shares[1]:15.2f}")


def cost(encoder: Embedder, source: str) -> None:
    """Print the table of cosines."""
    samples = encoder.logmel.config.samples(encoder.config.frames)
    clips = list_clips(source).clips
    drawn = [clips[number] for number in np.random.default_rng(0).permutation(len(clips))[: 4 * CALIBRATION]]
    sounds = [audio.read_crop(clip.path, 0, samples, encoder.sample_rate) for clip in drawn]
    calibration, rest = sounds[:CALIBRATION], sounds[CALIBRATION:]
    if not rest:
        raise SystemExit(f"{source}: {len(sounds)} sounds are too few; more than {CALIBRATION} are needed")
    with TemporaryDirectory() as folder:
        found = variants(encoder, calibration, Path(folder))
        print(f"\ncosine to PyTorch float32 on {len(rest)} sounds of {source}: mean, least")
        print(f"{'':34} {'scenes':>17} {'scenes − mean':>17} {'frames':>17} {'frames − mean':>17}")
        wanted = [vectors(encoder, rest), torch.cat(encoder.frames(rest, encoder.sample_rate)[0])]
        for name, (one, _) in found.items():
            given = [vectors(one, rest), torch.cat(one.frames(rest, one.sample_rate)[0])]
            cells = []
            for a, b in zip(given, wanted, strict=True):
                for centre in (torch.zeros(1), b.mean(0)):
                    cosines = torch.cosine_similarity((a - centre).double(), (b - centre).double())
                    cells.append(f"{cosines.mean():8.5f} {cosines.min():8.5f}")
            print(f"{name:34} " + " ".join(cells))


def vectors(encoder: Embedder, sounds: list[np.ndarray]) -> torch.Tensor:
    """Scene vectors of sounds."""
    return encoder.scene(sounds, encoder.sample_rate)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="base", choices=list(SIZES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--encoder", help="a trained encoder, to measure the cost of 8 bits instead of speed")
    parser.add_argument("--sounds", help="a folder or table of sounds like those it was trained on")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(machine())
    if options.encoder:
        cost(load(options.encoder), options.sounds)
    else:
        speed(options.size, options.rounds)


if __name__ == "__main__":
    main()
