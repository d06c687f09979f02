"""How fast does `matpac embed` turn a folder into Parquet, as a multiple of a plain loop's speed?

    python benchmarks/folder.py [--files 400] [--rounds 3] [--size base] [--folder DIR]

The folder has clips of 0.5 to 12 s in mixed formats, rates and channel counts. The plain loop is the obvious code:
read a file with soundfile, average the channels, resample with soxr, send one clip at a time through the same
network with PyTorch's own linear layers, and write one Parquet file with one row per file at the end. It is
compared with the same loop with matpac's linear layers, `embed_files`, and `embed_files` with the encoder exported
to ONNX with 8-bit matrices. Every round runs all of them in turn; the vectors are compared. The last table shows
the time of each part of `embed_files` alone, on the same files.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
import soxr
import torch
from rates import machine
from torch.nn import functional as F

from matpac.audio import find_audio, read
from matpac.files.load import load
from matpac.files.onnx.export import export_onnx, synthetic_sounds
from matpac.model import linear
from matpac.model.embedder import Embedder
from matpac.model.vit import SIZES, Encoder
from matpac.vectors.embed import EmbedOptions, embed_files

RATE = 16_000
KINDS = [
    ("wav", 16_000, 1), ("wav", 44_100, 2), ("flac", 48_000, 2), ("flac", 16_000, 1),
    ("mp3", 44_100, 2), ("ogg", 22_050, 1), ("ogg", 48_000, 2), ("wav", 8_000, 1),
]  # fmt: skip
"""Suffix, rate in Hz and channels of the files, in turn."""


def make_folder(folder: Path, count: int) -> float:
    """Write the files; returns their total seconds."""
    rng, total = np.random.default_rng(0), 0.0
    for number in range(count):
        suffix, rate, channels = KINDS[number % len(KINDS)]
        seconds = rng.uniform(0.5, 12)
        at = np.arange(round(seconds * rate)) / rate
        chord = sum(np.sin(2 * np.pi * rng.uniform(80, 2000) * at) for _ in range(4))
        sound = 0.1 * np.asarray(chord)[:, None] * rng.uniform(0.5, 1, channels) + 0.02 * rng.standard_normal(
            (len(at), channels)
        )
        soundfile.write(folder / f"{number:04d}.{suffix}", sound, rate)
        total += seconds
    return total


def read_plainly(path: Path) -> np.ndarray:
    """Read a file as mono at 16 kHz."""
    sound, rate = soundfile.read(path, dtype="float32", always_2d=True)
    sound = sound.mean(axis=1)
    return sound if rate == RATE else soxr.resample(sound, rate, RATE)


def loop(folder: Path, encoder: Embedder, output: Path) -> None:
    """Embed one clip at a time."""
    paths = sorted(folder.iterdir())
    rows = [encoder.scene(read_plainly(path), RATE)[0].numpy() for path in paths]
    vectors = pa.array(list(rows), pa.list_(pa.float32()))
    pq.write_table(pa.table({"path": list(map(str, paths)), "vector": vectors}), output)


@contextmanager
def torch_linear() -> Iterator[None]:
    """Use PyTorch's own linear layers inside the block."""
    own, own_gelu = linear.Linear.forward, linear.Linear.with_gelu
    linear.Linear.forward = lambda self, input: F.linear(input, self.weight, self.bias)
    linear.Linear.with_gelu = lambda self, input: F.gelu(F.linear(input, self.weight, self.bias))
    try:
        yield
    finally:
        linear.Linear.forward, linear.Linear.with_gelu = own, own_gelu


def plain_loop(folder: Path, encoder: Embedder, output: Path) -> None:
    """Run `loop` with PyTorch's own linear layers."""
    with torch_linear():
        loop(folder, encoder, output)


def whole_way(folder: Path, encoder: Embedder, output: Path) -> None:
    """Embed as `matpac embed` does."""
    embed_files([str(folder)], encoder, EmbedOptions(str(output)))


def timed(call: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def cosines(of: Path, to: Path) -> np.ndarray:
    """Cosines between the vectors of two files, row by row."""
    one, two = (np.stack(pq.read_table(path)["vector"].to_numpy()) for path in (of, to))
    return (one * two).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(two, axis=1)


def parts(folder: Path, encoder: Embedder, whole: float) -> None:
    """Time each part of the work alone."""
    paths = find_audio([str(folder)])
    sounds: list[np.ndarray] = []
    decoding = timed(lambda: sounds.extend(read(path, RATE) for path in paths))
    with torch.inference_mode():
        front = timed(lambda: [encoder.logmel(torch.from_numpy(sound)[None]) for sound in sounds])
    network = timed(lambda: encoder.scene(sounds, RATE)) - front
    print(f"\n{'part, alone':32} {'s':>7} {'of embed_files':>15}")
    for name, seconds in (
        ("read and resample, one thread", decoding), ("log-mel", front), ("network and means", network),
    ):  # fmt: skip
        print(f"{name:32} {seconds:7.2f} {seconds / whole:15.0%}")


def main() -> None:
    """Make the folder, measure all ways in turn, print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", choices=sorted(SIZES), default="base")
    parser.add_argument("--folder", help="where the files are written (default: the system's temporary folder)")
    options = parser.parse_args()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        root = Path(temporary)
        (root / "sounds").mkdir()
        seconds = make_folder(root / "sounds", options.files)
        encoder = Embedder(Encoder(SIZES[options.size]))
        sounds = synthetic_sounds([97_600] * 16, RATE)
        exported = load(export_onnx(encoder, root / "encoder.onnx", int8=True, sounds=sounds).path)
        ways = {
            "plain loop": (plain_loop, encoder),
            "the loop, oneDNN's layers": (loop, encoder),
            "embed_files": (whole_way, encoder),
            "embed_files, int8": (whole_way, exported),
        }
        print(machine(), f"{options.files} files, {seconds:.0f} s of sound", sep="\n", flush=True)
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(options.rounds):
            for number, (name, (way, one)) in enumerate(ways.items()):
                output = root / f"{number}.parquet"
                output.unlink(missing_ok=True)
                taken[name].append(
                    timed(lambda way=way, one=one, output=output: way(root / "sounds", one, output))
                )
        plain = taken["plain loop"]
        print(f"{'way':28} {'s':>7} {'audio s/s':>10} {'× plain loop':>13} {'cosine, mean':>13} {'least':>9}")
        for number, (name, times) in enumerate(taken.items()):
            gain = statistics.median(slow / fast for slow, fast in zip(plain, times, strict=True))
            near = cosines(root / "0.parquet", root / f"{number}.parquet")
            median = statistics.median(times)
            print(
                f"{name:28} {median:7.1f} {seconds / median:10.1f} {gain:13.2f} {near.mean():13.6f} "
                f"{near.min():9.6f}"
            )
        parts(root / "sounds", encoder, statistics.median(taken["embed_files"]))


if __name__ == "__main__":
    main()
