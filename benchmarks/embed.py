"""How fast does ViT-B embed on a CPU, as a share of the rate of a large float32 matrix product?

    python benchmarks/embed.py [--rounds 5]

10 s clips in batches of 1, 4 and 16, and 400 clips of 0.5 to 12 s at once; without decoding. The weights are
random, since speed does not depend on them.
"""

import argparse

import numpy as np
from rates import encoder_operations, machine, measure

from matpac.model.embedder import Embedder
from matpac.model.vit import PATCH, Encoder


def operations(embedder: Embedder, clips: list[np.ndarray]) -> float:
    """Operations of the chunks that the clips are cut into."""
    config = embedder.encoder.config
    total = 0.0
    for clip in clips:
        whole, rest = divmod(embedder.logmel.config.frames(len(clip)), config.frames)
        total += whole * encoder_operations(config, config.steps)
        total += encoder_operations(config, -(-rest // PATCH)) if rest else 0
    return total


def main() -> None:
    """Measure all cases and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clips", type=int, default=400, help="clips in the mixed case")
    options = parser.parse_args()
    embedder = Embedder(Encoder())
    rng = np.random.default_rng(0)

    def noise(seconds: float) -> np.ndarray:
        return rng.normal(0, 0.1, int(16_000 * seconds)).astype(np.float32)

    cases = {f"10 s clips, batch {n}": [noise(10.0)] * n for n in (1, 4, 16)}
    mixed = [noise(seconds) for seconds in rng.uniform(0.5, 12, options.clips)]
    cases[f"{options.clips} mixed clips of 0.5–12 s"] = mixed
    print(machine())
    print(f"{'case':32} {'audio s/s':>10} {'GFLOP/s':>8} {'limit':>8} {'share':>6}")
    for name, clips in cases.items():
        work = operations(embedder, clips)
        rounds = options.rounds if len(clips) < 100 else max(3, options.rounds // 2)
        found = measure(lambda clips=clips: embedder.scene(clips, 16_000), work, rounds)
        audio = sum(map(len, clips)) / 16_000
        rate = work / found.seconds / 1e9
        print(f"{name:32} {audio / found.seconds:10.1f} {rate:8.1f} {found.limit / 1e9:8.1f} {found.share:6.2f}")


if __name__ == "__main__":
    main()
