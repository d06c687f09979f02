"""Train the encoder that comes with the package, and write its card: `make tiny-encoder`.

    python benchmarks/tiny_encoder.py --output FOLDER [--scale 20]

Renders the corpora (benchmarks/corpus.py: scale 20 of its two unlabelled parts, 30 hours each; scale 1 of its
labelled tables) and pre-trains the recipe tiny-fine: once from scratch, then twice from its student with a new
teacher, predictor and heads, with two seeds. Writes the mean of the last two students in float16 to
src/matpac/weights/tiny.safetensors, probes that file on the tables beside the same network untrained and log-mel
statistics, and writes src/matpac/weights/tiny.md. Takes three and a half hours on one core; resumes when
interrupted.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from corpus import PRETRAIN_CLIPS, PRETRAIN_SECONDS, TASKS, UNLABELLED

import matpac
from matpac.files.hub import PACKAGED
from matpac.files.save import save
from matpac.pretrain.job import pretrain_to_end
from matpac.pretrain.options import PretrainOptions
from matpac.pretrain.recipes import Plan, Recipe, tiny_fine
from matpac.probe.encoders import open_encoder
from matpac.probe.run import Outcome, run_probes
from matpac.probe.trainer import ProbeConfig
from matpac.tasks import read_task

MORE_EPOCHS = 4
"""Epochs of each run after the first; limited by the time available on two cores."""

MORE_SEEDS = (2, 3)
"""Seeds of two runs on other crops in another order, whose mean is better than either (Wortsman et al. 2022, arXiv
2203.05482)."""

PROBES = ProbeConfig(seeds=tuple(range(42, 52)))
"""Ten seeds; with three, the difference from log-mel statistics is within the noise on most tasks."""

NAMES = {
    "tiny": "tiny",
    "random:tiny-fine": "the same untrained",
    "logmel": "log-mel statistics",
    "logmel:tiny-fine": "statistics of its own log-mel",
}


def render(folder: Path, scale: float, parts: Iterable[str]) -> None:
    """Render what is missing."""
    only = [word for part in parts for word in ("--only", part)]
    script = Path(__file__).with_name("corpus.py")
    subprocess.run([sys.executable, script, "--output", folder, "--scale", str(scale), *only], check=True)


def more() -> Recipe:
    """Recipe of a run after the first."""
    return replace(tiny_fine(), epochs=MORE_EPOCHS)


def pretrain(unlabelled: Path, output: Path) -> list[Path]:
    """Pre-train the students whose mean is shipped; resumes what is not finished."""
    first = output / "first"
    pretrain_to_end(tiny_fine(), PretrainOptions(data=str(unlabelled), output=str(first)), "tiny-fine")
    runs = [output / f"more-{seed}" for seed in MORE_SEEDS]
    for seed, run in zip(MORE_SEEDS, runs, strict=True):
        options = PretrainOptions(data=str(unlabelled), output=str(run), encoder=str(first), seed=seed)
        pretrain_to_end(more(), options, "tiny-fine")
    return runs


def ship(sources: Sequence[Path], target: Path) -> None:
    """Write the mean of the students' weights, in float16.

    Students with a common start can be averaged; the mean of these two is better than either (docs/results.md).
    """
    students = [matpac.load(source) for source in sources]
    states = [student.encoder.state_dict() for student in students]
    encoder = students[-1]
    encoder.encoder.load_state_dict(
        {name: torch.stack([state[name] for state in states]).mean(dim=0) for name in states[0]}
    )
    encoder.card = replace(encoder.card, name="tiny")
    target.parent.mkdir(parents=True, exist_ok=True)
    save(encoder, target, half=True)


def probe(corpus: Path, output: Path) -> Outcome:
    """Probe the shipped file and what it is compared with."""
    return run_probes(
        [open_encoder(name) for name in NAMES],
        [read_task("table", corpus / f"{task}.csv") for task in TASKS],
        output,
        config=PROBES,
    )


def scores(outcome: Outcome) -> str:
    """A table of scores, and the differences beyond the noise."""
    lines = [f"| task | metric | {' | '.join(NAMES.values())} |", "|---|---" + "|---" * len(NAMES) + "|"]
    for task in outcome.tasks:
        records = [outcome.linear[task, name].record for name in NAMES]
        cells = " | ".join(f"{record.result().score}" for record in records)
        lines.append(f"| {task} | {records[0].metric} | {cells} |")
    tests = ["", "Paired tests over these seeds (p < 0.05 counts as beyond the noise):", "", *verdicts(outcome)]
    return "\n".join([*lines, *tests])


def verdicts(outcome: Outcome) -> list[str]:
    """Tasks on which the encoder is above each of the others, below it, or neither."""
    lines = []
    for other, name in list(NAMES.items())[1:]:
        tests = {task: test for task, one, two, test in outcome.comparisons() if (one, two) == ("tiny", other)}
        groups = {
            "above on": [task for task, test in tests.items() if test.beyond_noise and test.difference > 0],
            "below on": [task for task, test in tests.items() if test.beyond_noise and test.difference < 0],
            "within the noise on": [task for task, test in tests.items() if not test.beyond_noise],
        }
        groups_text = "; ".join(f"{what} {', '.join(tasks)}" for what, tasks in groups.items() if tasks)
        lines.append(f"- against {name}: {groups_text}.")
    return lines


def card(clips: int, outcome: Outcome) -> str:
    """Text of the page beside the weights."""
    encoder = matpac.load("tiny")
    config, recipe = encoder.encoder.config, tiny_fine()
    first, second = (Plan(each, clips).steps for each in (recipe, more()))
    crops = (first + len(MORE_SEEDS) * second) * recipe.batch_size
    hours, logmel = clips * PRETRAIN_SECONDS / 3600, recipe.logmel
    seconds = recipe.crop_samples / recipe.logmel.sample_rate
    weights = sum(tensor.numel() for tensor in encoder.encoder.parameters())
    return f"""# tiny: the encoder that comes with matpac

`matpac.load("tiny")`: {weights / 1e6:.1f} M parameters (ViT, width {config.width}, {config.depth} blocks of
{config.heads} heads; log-mel of {config.mels} bands every {1000 * logmel.hop / logmel.sample_rate:.0f} ms), scenes
and frames of {encoder.width} numbers, one frame every {1000 * encoder.hop:.0f} ms, chunks of {seconds:.1f} s.
Float16, {PACKAGED["tiny"].stat().st_size / 1e6:.1f} MB. Made by `make tiny-encoder`; under matpac's licence.

## What it is for

Trying everything at once and offline: the examples, search, fine-tuning, tests. It was pre-trained without labels
on **rendered sound alone**, so it knows General MIDI's instruments, synthetic voices and noises, but no real
recordings. For real work load the papers' encoders (`matpac.load("matpac++")`), or pre-train on sounds like
yours.

## How it was trained

MATPAC++, recipe `tiny-fine`, in batches of {recipe.batch_size} crops of {seconds:.1f} s, on {hours:.0f} hours of
pieces of music, speech, noises, notes and words one by one, and speech over music or noises: {first:,} steps from
scratch, then twice {second:,} steps starting from its student (seeds {" and ".join(map(str, MORE_SEEDS))}), each
time with a new teacher, predictor and heads. The weights are the mean of the last two
students. {crops:,} crops in all.
`benchmarks/corpus.py` renders the sounds (fluidsynth's General MIDI soundfont, espeak-ng, sox and NumPy, in random
rooms). Their programs, voices and words are none of those in the test parts below.

## Scores

Linear probes of frozen vectors on the labelled tables of the same corpus, test %, mean ± 95 % interval over
{len(PROBES.seeds)} seeds of the probe (one pre-training):

{scores(outcome)}
"""


def main() -> None:
    """Run all steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument(
        "--scale", type=float, default=20.0, help="scale of the two unlabelled parts; 1 is 1.5 hours each"
    )
    options = parser.parse_args()
    unlabelled, labelled = options.output / "unlabelled", options.output / "labelled"
    render(unlabelled, options.scale, UNLABELLED)
    render(labelled, 1.0, TASKS)
    ship(pretrain(unlabelled, options.output), PACKAGED["tiny"])
    outcome = probe(labelled, options.output / "results")
    page = PACKAGED["tiny"].with_suffix(".md")
    page.write_text(card(round(PRETRAIN_CLIPS * options.scale) * len(UNLABELLED), outcome), encoding="utf-8")
    print(f"{PACKAGED['tiny']}, {page}")


if __name__ == "__main__":
    main()
