"""How much memory does a long file take, and does it grow with the file? ViT-B, in every way to embed it.

    python benchmarks/memory.py [--minutes 60 | --hours 10] [--size base] [--cases load,embed,…]

Each case runs in its own process: its peak resident size comes from the operating system, its growth from a line
through the resident sizes after every batch of the second half (Linux only). The sound is one 16 kHz FLAC of
noise; the weights are random, in a file that `matpac.load` reads, as in real use. The last two cases get the whole
waveform in memory, and the last one returns all frames.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

PEAK_UNIT = 1 if sys.platform == "darwin" else 1024
"""Unit of ru_maxrss: bytes on macOS, KiB on Linux."""

PAGES = Path("/proc/self/statm")


def write_noise(path: Path, minutes: float) -> None:
    """Write noise, minute by minute."""
    import soundfile

    rng = np.random.default_rng(0)
    with soundfile.SoundFile(path, "w", 16_000, 1, subtype="PCM_16") as file:
        for _ in range(int(minutes)):
            file.write(rng.normal(0, 0.1, 60 * 16_000))


def load(weights: Path, sound: Path) -> None:
    """Load PyTorch and the weights only."""
    import matpac

    matpac.load(weights).scene(np.zeros(16_000, np.float32), 16_000)


def embed(weights: Path, sound: Path, frames: bool = False) -> None:
    """Embed as the command does: scenes, or frames, to a Parquet file."""
    from matpac import load
    from matpac.vectors.embed import EmbedOptions, embed_files

    embed_files([str(sound)], load(weights), EmbedOptions(str(sound.with_suffix(".parquet")), frames=frames))


def embed_frames(weights: Path, sound: Path) -> None:
    """Embed as the command does with --frames."""
    embed(weights, sound, frames=True)


def stream(weights: Path, sound: Path) -> None:
    """Push blocks into a stream, and drop the frames."""
    import matpac
    from matpac.audio import blocks

    for _ in matpac.stream(matpac.load(weights), 16_000, blocks(sound)):
        pass


def scene(weights: Path, sound: Path) -> None:
    """Compute a scene of the whole waveform."""
    import matpac

    matpac.load(weights).scene(matpac.read(sound), 16_000)


def frames(weights: Path, sound: Path) -> None:
    """Compute all frames of the whole waveform."""
    import matpac

    matpac.load(weights).frames(matpac.read(sound), 16_000)


CASES: dict[str, Callable[[Path, Path], None]] = {
    "load": load,
    "embed": embed,
    "embed-frames": embed_frames,
    "stream": stream,
    "scene": scene,
    "frames": frames,
}


def watched() -> list[tuple[float, float]]:
    """A list that receives the minutes of sound embedded and the resident size (MiB) after every batch."""
    from matpac.model.chunks import Chunk
    from matpac.model.network import VitNetwork

    sizes: list[tuple[float, float]] = []
    real = VitNetwork.chunk_frames

    def watch(self: VitNetwork, chunks: list[Chunk], *options: Any, **named: Any) -> Any:
        result = real(self, chunks, *options, **named)
        frames = sum(chunk.frames for chunk in chunks)
        minutes = (
            sizes[-1][0] if sizes else 0
        ) + frames * self.logmel.config.hop / self.logmel.config.sample_rate / 60
        resident = int(PAGES.read_text().split()[1]) * resource.getpagesize() / 2**20
        sizes.append((minutes, resident))
        return result

    if PAGES.exists():
        VitNetwork.chunk_frames = watch
    return sizes


def run_case(case: str, weights: Path, sound: Path) -> None:
    """Run one case in this process; print its peak (MiB) and growth (MiB per minute of sound) as JSON."""
    sizes = watched()
    CASES[case](weights, sound)
    half = np.array(sizes[len(sizes) // 2 :])
    growth = np.polyfit(half[:, 0], half[:, 1], 1)[0] if len(half) > 10 else None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * PEAK_UNIT / 2**20
    print(json.dumps({"peak": peak, "growth": growth}))


def main() -> None:
    """Run the cases and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--hours", type=float, help="instead of minutes")
    parser.add_argument("--size", default="base", help="tiny, small or base")
    parser.add_argument("--cases", default=",".join(CASES), help="some of %(default)s")
    parser.add_argument("--case", help="used by the benchmark itself")
    parser.add_argument("--folder", type=Path, help="used by the benchmark itself")
    options = parser.parse_args()
    minutes = options.minutes if options.hours is None else 60 * options.hours
    if options.case:
        run_case(options.case, options.folder / "weights.safetensors", options.folder / "noise.flac")
        return
    from matpac import Embedder, save
    from matpac.model.vit import SIZES, Encoder

    with tempfile.TemporaryDirectory() as folder:
        write_noise(Path(folder) / "noise.flac", minutes)
        save(Embedder(Encoder(SIZES[options.size])), Path(folder) / "weights.safetensors")
        print(f"{options.size}, {minutes:g} minutes of sound")
        for case in options.cases.split(","):
            command = [sys.executable, __file__, "--case", case, "--folder", folder]
            began = time.monotonic()
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found = json.loads(done.stdout)
            growth = "" if found["growth"] is None else f"{found['growth']:8.3f} MiB per minute of sound"
            seconds = time.monotonic() - began
            print(f"{case:14} {found['peak']:8.0f} MiB peak resident {growth} ({seconds:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
