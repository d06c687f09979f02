"""Is fine-tuning from pre-trained weights better than from scratch, and than a linear probe?

    python benchmarks/finetune.py --encoder RUN --root TASK.csv --output FOLDER [--epochs 40] [--every 4]

For each task (tables as `matpac finetune --task table` takes them) and each of three seeds: fine-tuning of the
encoder with the recipe `small`, the same from a random start of the same network, and the linear probe of the
frozen encoder. Prints test scores, mean ± 95 % interval over seeds (Student's t), and paired tests over them. The
test split is scored once per run; nothing was tuned on it. Finished runs are read, not repeated. With --every 4
only one of four training clips of each class is used (for tables with one label per clip).
"""

import argparse
import csv
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
from probe_scores import probe_scores

import matpac
from matpac.files.save import save
from matpac.finetune.job import finetune
from matpac.finetune.options import FinetuneOptions
from matpac.finetune.recipes import FinetuneRecipe, small
from matpac.probe.compare import confidence_interval, paired_test
from matpac.probe.encoders import open_encoder, untrained
from matpac.probe.trainer import ProbeConfig
from matpac.tasks import read_task

SEEDS = (43, 44, 45)
"""Seeds of M2D's fine-tuning."""


def fewer(table: Path, every: int) -> Path:
    """Write the table with every n-th training clip of each class beside it, since paths are relative to it."""
    with table.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        rows, columns = list(reader), reader.fieldnames or []
    seen: Counter[str] = Counter()
    kept = []
    for row in rows:
        if row["split"] == "train":
            seen[row["label"]] += 1
            if (seen[row["label"]] - 1) % every:
                continue
        kept.append(row)
    path = table.with_name(f"{table.stem}_every{every}.csv")
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(kept)
    return path


def from_scratch(encoder: str, folder: Path, seed: int) -> Path:
    """Write a file with the encoder's network before training."""
    trained = matpac.load(encoder)
    path = folder / f"scratch-{seed}.safetensors"
    save(untrained(trained.encoder.config, trained.logmel.config, seed), path)
    return path


def tuned(encoder: str, root: Path, output: Path, seed: int, recipe: FinetuneRecipe) -> float:
    """Test score of one run, between 0 and 1."""
    kept = output / "score.json"
    if kept.exists():
        return json.loads(kept.read_text())
    resume = (output / "config.json").exists()
    options = FinetuneOptions(
        encoder=encoder, task="table", root=str(root), output=str(output), seed=seed, resume=resume, head="new"
    )
    done = finetune(recipe, options, "small")
    assert done.test is not None
    kept.write_text(json.dumps(done.test.value))
    return done.test.value


def main() -> None:
    """Run everything and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--root", type=Path, action="append", required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--epochs", type=float, default=40)
    parser.add_argument("--every", type=int, default=1, help="use every n-th training clip of each class")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    recipe = replace(small(), epochs=options.epochs)
    print("| task | metric | fine-tuned | from scratch | linear probe |\n|---|---|---|---|---|", flush=True)
    for root in options.root if options.every == 1 else [fewer(table, options.every) for table in options.root]:
        folder = options.output / root.stem
        scores: dict[str, list[float]] = {"fine-tuned": [], "from scratch": []}
        for seed in SEEDS:
            scratch = str(from_scratch(options.encoder, options.output, seed))
            for name, start in (("fine-tuned", options.encoder), ("from scratch", scratch)):
                run = folder / f"{name.replace(' ', '-')}-{seed}"
                scores[name].append(tuned(start, root, run, seed, recipe))
        encoder, task = open_encoder(options.encoder), read_task("table", root)
        scores["linear probe"] = probe_scores(encoder, task, options.output / "cache", ProbeConfig(seeds=SEEDS))
        cells = [confidence_interval(np.array(values)) for values in scores.values()]
        shown = " | ".join(f"{100 * mean:.1f} ± {100 * half:.1f}" for mean, half in cells)
        print(f"| {root.stem} | {task.metric} | {shown} |", flush=True)
        for other in ("from scratch", "linear probe"):
            tuned_scores, others = (np.array(scores[name])[:, None] for name in ("fine-tuned", other))
            print(f"  {paired_test(tuned_scores, others, ('fine-tuned', other)).verdict}", flush=True)


if __name__ == "__main__":
    main()
