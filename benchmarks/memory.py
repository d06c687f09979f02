"""How much memory does an hour of audio take, as scenes and as frames, with ViT-B?

    python benchmarks/memory.py [--minutes 60]

Each case runs in a process of its own, whose peak resident size is read from the operating system. The hour is one
16 kHz FLAC of noise; random weights. The first row is the price of PyTorch and of the weights.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

PEAK_UNIT = 1 if sys.platform == "darwin" else 1024
"""Of ru_maxrss: bytes on macOS, KiB on Linux."""


def write_noise(path: Path, minutes: float) -> None:
    """Noise, minute by minute."""
    import soundfile

    rng = np.random.default_rng(0)
    with soundfile.SoundFile(path, "w", 16_000, 1, subtype="PCM_16") as file:
        for _ in range(int(minutes)):
            file.write(rng.normal(0, 0.1, 60 * 16_000))


def run_case(case: str, sound: Path) -> None:
    """Do one case in this process and print its peak."""
    from matpac.audio import read
    from matpac.embed_files import EmbedOptions, embed_files
    from matpac.embedder import Embedder
    from matpac.vit import Encoder

    embedder = Embedder(Encoder())
    if case == "weights":
        embedder.scene(np.zeros(16_000, np.float32), 16_000)
    elif case == "matpac embed":
        embed_files([str(sound)], embedder, EmbedOptions(str(sound.with_suffix(".parquet"))))
    elif case == "scene":
        embedder.scene(read(sound), 16_000)
    else:
        embedder.frames(read(sound), 16_000)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * PEAK_UNIT)


def main() -> None:
    """Run every case and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--case", help="used by the benchmark itself")
    parser.add_argument("--sound", type=Path, help="used by the benchmark itself")
    options = parser.parse_args()
    if options.case:
        run_case(options.case, options.sound)
        return
    with tempfile.TemporaryDirectory() as folder:
        sound = Path(folder) / "noise.flac"
        write_noise(sound, options.minutes)
        for case in ("weights", "matpac embed", "scene", "frames"):
            command = [sys.executable, __file__, "--case", case, "--sound", str(sound)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            print(f"{case:14} {int(done.stdout) / 2**20:8.0f} MiB peak resident", flush=True)


if __name__ == "__main__":
    main()
