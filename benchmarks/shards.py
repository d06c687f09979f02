"""How fast are crops read from shards, relative to a folder of the same FLAC files?

    python benchmarks/shards.py [--clips 400] [--seconds 10] [--rounds 5] [--folder DIR]

One process reads crops of the paper's 6.1 s from clips of 10 s: from shards of FLAC and of 16-bit PCM at random
positions, and as a stream (`local://`); batch by batch in turn, so that other work on the machine affects all
alike. After the first round the files are in the page cache, so opening, seeking and decoding are measured, not
the disk.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
from rates import machine

from matpac import audio
from matpac.data.corpus import list_corpus
from matpac.data.crops import CropBatch, RandomCrops, Steps, crop_loader
from matpac.data.packing.pack import PackOptions, pack
from matpac.data.shards.streams import keep_lanes, order_clips
from matpac.pretrain.recipes import matpacpp

BATCH = 32


def make_clips(folder: Path, count: int, seconds: float) -> None:
    """Write 16-bit FLAC at 16 kHz: a chord over noise, which FLAC compresses about as much as recordings."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    at = np.arange(round(seconds * audio.SAMPLE_RATE)) / audio.SAMPLE_RATE
    for number in range(count):
        chord = sum(np.sin(2 * np.pi * rng.uniform(80, 2000) * at) for _ in range(5))
        sound = 0.1 * chord * (0.6 + 0.4 * np.sin(3 * at)) + 0.01 * rng.standard_normal(len(at))
        soundfile.write(folder / f"{number:06d}.flac", sound, audio.SAMPLE_RATE)


def batches(data: str, run: Path, steps: int, seed: int) -> Iterator[CropBatch]:
    """Batches of a run with one process, read on demand."""
    run.mkdir(exist_ok=True)
    clips = list_corpus(data, run).clips
    keep_lanes(run, clips, 1, 1)
    sounds, order = order_clips(clips, run, Steps(BATCH, seed, 0, steps))
    return iter(crop_loader(RandomCrops(clips, matpacpp().crop_samples, seed, sounds=sounds), order, workers=0))


def main() -> None:
    """Write the corpus, measure all cases in turn, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=400)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a clip")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", help="where the corpus is written (default: the system's temporary folder)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        root = Path(place)
        make_clips(root / "files", options.clips, options.seconds)
        for encoding in ("flac", "pcm16"):
            pack(PackOptions(str(root / "files"), str(root / encoding), encoding, 16 * 10**6))
        last = len(list((root / "flac").glob("*.tar"))) - 1
        cases = {
            "folder of FLAC files": str(root / "files"),
            "FLAC shards": str(root / "flac"),
            "PCM shards": str(root / "pcm16"),
            "FLAC shards, streamed": f"local://{root}/flac/{{000000..{last:06d}}}.tar",
        }
        measure(cases, root, options.clips // BATCH, options.rounds)


def measure(cases: dict[str, str], root: Path, steps: int, rounds: int) -> None:
    """Print medians over rounds, and medians of the ratio to the first case in the same round."""
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(rounds + 1):
        loaders = {
            name: batches(data, root / f"run{case}", steps, seed=number)
            for case, (name, data) in enumerate(cases.items())
        }
        spent = dict.fromkeys(cases, 0.0)
        for _ in range(steps):
            for name, loader in loaders.items():
                began = time.perf_counter()
                next(loader)
                spent[name] += time.perf_counter() - began
        if number:  # the first round fills the page cache
            for name, found in spent.items():
                seconds[name].append(found)
    base, *_ = seconds.values()
    print(machine())
    print(f"{'case':24} {'crops/s':>8} {'ratio':>6}")
    for name, found in seconds.items():
        ratio = statistics.median(other / one for one, other in zip(found, base, strict=True))
        print(f"{name:24} {BATCH * steps / statistics.median(found):8.0f} {ratio:6.2f}")


if __name__ == "__main__":
    main()
