"""How long do the linear probes of ESC-50 and of NSynth take, and how much memory?

    python benchmarks/probe.py [--rounds 1] [--rows 289205] [--only esc50]

ESC-50's whole protocol: 2,000 random vectors of 3,840 dimensions in 50 classes, 5 folds × 3 seeds × 7 rates, all
heads trained together. It is compared with two loops that train one head at a time, on a few heads of every rate,
scaled to all: a minimal one (`torch.nn.Linear`, `torch.optim.Adam`, rows standardised once), and one with a
`DataLoader` over a dataset of single clips, as in evaluation kits. Both use the batches and the start of the same
seed, so that results can be compared. NSynth's size, float16 read through a memory map, runs in its own process,
whose peak resident size comes from the operating system; it has no sequential loop.
"""

import argparse
import copy
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from rates import machine, matrix_rate
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from matpac.probe.heads import LinearHead, Parameters, draw_start
from matpac.probe.inputs import Batch, Inputs
from matpac.probe.probes import linear_probe
from matpac.probe.results import ProbeResult
from matpac.probe.trainer import ProbeConfig
from matpac.tasks import Fold, Task

DIM = 3840
PEAK_UNIT = 1 if sys.platform == "darwin" else 1024
"""Unit of ru_maxrss: bytes on macOS, KiB on Linux."""


def made_up(rows: int, classes: int, spread: float, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Float32 vectors around the centres of their classes, correlated and unevenly scaled as real ones; labels.

    The seed is that of the rows; classes are the same for all seeds.
    """
    common, rng = np.random.default_rng(0), np.random.default_rng(seed)
    factors, scales = common.standard_normal((60, DIM), dtype=np.float32), common.lognormal(0, 1, DIM)
    centres = common.standard_normal((classes, 60), dtype=np.float32)
    labels = np.arange(rows) % classes
    hidden = centres[labels] + spread * rng.standard_normal((rows, 60), dtype=np.float32)
    features = hidden @ factors + 4 * rng.standard_normal((rows, DIM), dtype=np.float32)
    return features * scales.astype(np.float32), labels


def five_folds(rows: int) -> list[Fold]:
    """A fifth of each class for testing, a tenth of the rest for validation."""
    order = np.random.default_rng(1).permutation(rows // 50)
    clips = (order[:, None] * 50 + np.arange(50)).reshape(5, -1)
    splits = []
    for fold in range(5):
        rest = np.concatenate([clips[other] for other in range(5) if other != fold])
        splits.append(Fold(train=rest[160:], valid=rest[:160], test=clips[fold]))
    return splits


def task_of(labels: np.ndarray, splits: list[Fold]) -> Task:
    """A task of one label per clip, without sounds."""
    classes = [str(number) for number in range(int(labels.max()) + 1)]
    clips = [str(number) for number in range(len(labels))]
    return Task("made-up", "single", classes, clips, labels, splits)


@dataclass(frozen=True)
class Alone:
    """Result of training one head alone.

    Args:
        value: best validation accuracy.
        epochs: their number.
        seconds: wall-clock time.
        processor: processor seconds, less affected by other work on the machine.
    """

    value: float
    epochs: int
    seconds: float
    processor: float


class _Clips(Dataset[tuple[Tensor, Tensor]]):
    """One clip at a time, in the order of the epoch."""

    def __init__(self, rows: Tensor, labels: Tensor) -> None:
        self.rows, self.labels = rows, labels

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.rows[index], self.labels[index]


def _batches(
    rows: Tensor, labels: Tensor, order: Tensor, size: int, loader: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    if loader:
        yield from DataLoader(_Clips(rows, labels), size, sampler=order.tolist())
    else:
        for index in order.split(size):
            yield rows[index], labels[index]


def train_alone(
    features: Tensor, labels: Tensor, split: Fold, seed: int, rate: float, config: ProbeConfig, loader: bool
) -> Alone:
    """The protocol for one head."""
    started, processor = time.perf_counter(), time.process_time()
    train, valid = torch.from_numpy(split.train), torch.from_numpy(split.valid)
    mean, scale = (part[0] for part in Inputs(features.numpy()[:, None, None]).fit(train))
    rows, judged = (features[train] - mean) / scale, (features[valid] - mean) / scale
    generator = torch.Generator().manual_seed(seed)
    layer = nn.Linear(DIM, int(labels.max()) + 1)
    with torch.no_grad():
        for parameter, start in zip(
            layer.parameters(), draw_start(layer.out_features, DIM, generator), strict=True
        ):
            parameter.copy_(start)
    optimiser = torch.optim.Adam(layer.parameters(), lr=rate, weight_decay=config.adam.l2)
    best, best_epoch, epoch, layer_of_best = -1.0, 0, 0, layer.state_dict()
    for epoch in range(1, config.max_epochs + 1):
        order = torch.randperm(len(train), generator=generator)
        for inputs, targets in _batches(rows, labels[train], order, config.batch_size, loader):
            optimiser.zero_grad()
            nn.functional.cross_entropy(layer(inputs), targets).backward()
            optimiser.step()
        with torch.no_grad():
            right = (layer(judged).argmax(dim=1) == labels[valid]).double().mean().item()
        if right > best:
            best, best_epoch = right, epoch
            layer_of_best = copy.deepcopy(layer.state_dict())
        elif epoch - best_epoch >= config.patience:
            break
    layer.load_state_dict(layer_of_best)
    return Alone(best, epoch, time.perf_counter() - started, time.process_time() - processor)


def compare(
    result: ProbeResult,
    features: np.ndarray,
    labels: np.ndarray,
    splits: list[Fold],
    rounds: int,
    together: float,
) -> None:
    """Train some heads alone in both loops; print the time for all (`together`: processor seconds at once)."""
    config = ProbeConfig()
    rates, every = len(config.learning_rates), result.valid_scores.size
    chosen = [(n % len(splits), n % len(config.seeds), n % rates) for n in range(rounds * rates)]
    for name, loader in (("tight loop", False), ("loop with DataLoader", True)):
        runs, apart = [], []
        for fold, seed, rate in chosen:
            run = train_alone(
                torch.from_numpy(features), torch.from_numpy(labels), splits[fold], config.seeds[seed],
                config.learning_rates[rate], config, loader,
            )  # fmt: skip
            runs.append(run)
            apart.append(abs(run.value - result.valid_scores[seed, fold, rate]))
        seconds = sum(run.seconds for run in runs) / len(chosen) * every
        processor = sum(run.processor for run in runs) / len(chosen) * every
        print(
            f"{name:22} {seconds:7.1f} s for {every} heads, scaled from {len(chosen)}: "
            f"{seconds / result.seconds:.1f} × the time together, "
            f"{processor / together:.1f} × the processor time; "
            f"best validation accuracies differ by at most {max(apart):.4f}", flush=True,
        )  # fmt: skip


@contextmanager
def counted_operations() -> Iterator[Callable[[], float]]:
    """Count the operations of training steps, forward and backward, inside the block."""
    total, logits = 0.0, LinearHead.logits

    def counting(self: LinearHead, parameters: Parameters, batch: Batch) -> Tensor:
        nonlocal total
        found = logits(self, parameters, batch)
        total += 4 * found.numel() * self.dim * torch.is_grad_enabled()
        return found

    LinearHead.logits = counting
    try:
        yield lambda: total
    finally:
        LinearHead.logits = logits


def esc50(rounds: int) -> None:
    """Train the heads of ESC-50 together and alone."""
    features, labels = made_up(2000, 50, spread=1.6)
    splits = five_folds(2000)
    before = matrix_rate()
    processor = time.process_time()
    with counted_operations() as count:
        result = linear_probe(features, task_of(labels, splits))
    processor = time.process_time() - processor
    limit = (before + matrix_rate()) / 2
    reached = count() / result.seconds
    print(
        f"{'heads together':22} {result.seconds:7.1f} s ({processor:.1f} s of processors), "
        f"{reached / limit:.0%} of the matrix product's "
        f"{limit / 1e9:.0f} GFLOP/s; accuracy {result.mean:.3f} ± {result.ci95:.3f}, rates "
        f"{np.unique(result.learning_rates)}, epochs {result.epochs.min()} to {result.epochs.max()}", flush=True,
    )  # fmt: skip
    compare(result, features, labels, splits, rounds, processor)


def nsynth(rows: int, path: Path) -> None:
    """Write and probe the features in separate processes, since a child's peak starts at its parent's size."""
    writer = get_context("spawn").Process(target=write_features, args=(rows, path))
    writer.start()
    writer.join()
    if writer.exitcode:
        raise RuntimeError(f"writing {path} failed: {writer.exitcode}")
    subprocess.run([sys.executable, __file__, "--nsynth-features", str(path)], check=True)


def write_features(rows: int, path: Path) -> None:
    """Write features block by block, and the labels beside them."""
    features = np.lib.format.open_memmap(path, "w+", np.float16, (rows, DIM))
    labels = np.empty(rows, np.int64)
    for start in range(0, rows, 11_000):
        part = slice(start, min(rows, start + 11_000))
        features[part], labels[part] = made_up(part.stop - start, 11, spread=2.5, seed=start)
    features.flush()
    del features
    np.save(path.with_name("labels.npy"), labels)


def probe_nsynth(path: Path) -> None:
    """Probe in this process; print its peak."""
    features = np.load(path, mmap_mode="r")
    labels = np.load(path.with_name("labels.npy"))
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * PEAK_UNIT
    order = np.random.default_rng(2).permutation(len(features))
    test, valid = len(order) // 70, len(order) // 23  # NSynth's 4,096 and 12,678 of 306 k
    split = Fold(train=order[test + valid :], valid=order[test : test + valid], test=order[:test])
    result = linear_probe(features, task_of(labels, [split]))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * PEAK_UNIT
    print(
        f"{len(features)} × {DIM} float16 ({features.nbytes / 2**30:.2f} GiB): {result.seconds:.0f} s, "
        f"accuracy {result.mean:.3f}, up to {result.epochs.max()} epochs; peak resident {peak / 2**30:.2f} GiB "
        f"(pages of the map included), {base / 2**30:.2f} GiB of it before"
    )


def main() -> None:
    """Measure both sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1, help="heads per rate trained alone, at most 15")
    parser.add_argument("--rows", type=int, default=289_205, help="rows of NSynth's training part")
    parser.add_argument("--only", choices=["esc50", "nsynth"])
    parser.add_argument("--folder", type=Path, help="for NSynth's features, 2.2 GB (default: a temporary folder)")
    parser.add_argument("--nsynth-features", type=Path, help="used by the benchmark itself")
    options = parser.parse_args()
    if options.nsynth_features:
        probe_nsynth(options.nsynth_features)
        return
    print(machine())
    if options.only != "nsynth":
        esc50(options.rounds)
    if options.only != "esc50":
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            nsynth(options.rows, Path(folder) / "features.npy")


if __name__ == "__main__":
    main()
