"""`matpac probe`: parse, run, write, show."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from matpac.errors import MatpacError

if TYPE_CHECKING:
    from matpac.probe.run import Outcome
    from matpac.tasks import Task

GIB = 2**30


def probe(
    *,
    encoder: list[str],
    task: list[str],
    root: list[str],
    output: str,
    also: list[str] | None = None,
    seeds: list[int] | None = None,
    cache: str | None = None,
    token_budget: float = 8.0,
    device: str = "auto",
) -> int:
    """Evaluate frozen encoders on labelled sounds by linear probes, one protocol for all.

      matpac probe --encoder matpac++ logmel --task esc50 --root ESC-50 --output results
      matpac probe --encoder runs/mine --task folder --root MY_SOUNDS --output results --also knn layers
      matpac probe --encoder matpac++ --task all --root CORPORA --output results

    Tasks: esc50, us8k, gtzan, nsynth, openmic, mtt, fsd50k, mtg_genre, mtg_instrument, mtg_moodtheme, mtg_top50,
    audioset, audioset20k; `folder`, a folder with a folder per class; `table`, a CSV, TSV or Parquet file of path,
    label or labels, and split; `all`, every public corpus that lies in the root, but AudioSet.
    Exit code: 0 when every task was probed, 1 when some were skipped (each is named), 2 for an error.

    Args:
        encoder: what to compare: whatever `matpac embed` takes; random:SIZE[:SEED] (untrained: tiny, small, base
            or a recipe); logmel[:RECIPE] (statistics of log-mel); hear:MODULE[:WEIGHTS] (modules that follow HEAR)
        task: one or more tasks, or all
        root: where the corpus lies: one for each task, or one for all, which holds a folder per task by its name
        output: folder for results.json, results.csv and report.html
        also: probes beside the linear one: knn, few_shot, layers, weighting, attention, prototypes; an encoder
            without layers or tokens is skipped with a message
        seeds: seeds of the probes (default: 42 43 44)
        cache: folder of vectors kept between calls (default: OUTPUT/cache)
        token_budget: GiB of disk for the tokens of one encoder on one task (attention, prototypes); if they need
            more, the probe is skipped
        device: cpu, cuda, mps, or auto, for the encoders and the probes over tokens
    """
    given = {name: value for name, value in locals().items() if value is not None}
    import shlex

    from rich.filesize import decimal

    from matpac.machine import choose_device
    from matpac.probe.encoders import open_encoder
    from matpac.probe.page import write_page
    from matpac.probe.run import PROBES, run_probes
    from matpac.probe.trainer import ProbeConfig
    from matpac.vectors.features import folder_bytes

    also = also or []
    if unknown := [name for name in also if name not in PROBES]:
        raise MatpacError(f"--also {' '.join(unknown)}: no such probe; there are {', '.join(PROBES)}")
    if token_budget < 0:
        raise MatpacError(f"--token_budget {token_budget}: give GiB from 0 up")
    try:
        config = ProbeConfig(seeds=tuple(seeds)) if seeds else ProbeConfig()
    except ValueError as error:
        raise MatpacError(f"--seeds: {error}") from error
    tasks, skipped = read_tasks(find_corpora(task, root), every="all" in task)
    folder = Path(output)
    vectors = Path(cache) if cache else folder / "cache"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise MatpacError(f"--output {output}: there is a file in its place; give a folder") from error
    place = choose_device(device)
    encoders = [open_encoder(spec, place) for spec in dict.fromkeys(encoder)]
    budget = round(token_budget * GIB)
    outcome = run_probes(encoders, tasks, folder, also=also, config=config, cache=vectors, token_budget=budget)
    page = write_page(outcome, folder / "report.html", shlex.join(["matpac", "probe", *_words(given)]))
    show(outcome)
    print(f"\nreport: {page}; records: {folder / 'results.json'}, {folder / 'results.csv'}")
    print(f"vectors for the next call: {vectors} ({decimal(folder_bytes(vectors))}; delete the folder when done)")
    for reason in skipped:
        print(f"skipped: {reason}", file=sys.stderr)
    return 1 if skipped else 0


def _words(options: Mapping[str, object]) -> list[str]:
    """Options as they are typed."""
    words = []
    for name, value in options.items():
        words += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
    return words


def find_corpora(tasks: Sequence[str], roots: Sequence[str]) -> list[tuple[str, Path]]:
    """Pair the names of tasks with their roots.

    Raises:
        MatpacError: they do not pair.
    """
    from matpac.tasks import OWN, TASKS

    names = list(tasks)
    if "all" in tasks:  # AudioSet is fine-tuned on, not probed
        names = [name for name in TASKS if name not in ("audioset", "audioset20k", *OWN)]
        names += [name for name in dict.fromkeys(tasks) if name not in ("all", *names)]
    elif len(roots) == len(names):
        return [(name, Path(root)) for name, root in zip(names, roots, strict=True)]
    if len(roots) != 1:
        raise MatpacError(
            f"{len(names)} tasks and {len(roots)} roots: give one --root for each --task, or one in all"
        )
    return [(name, Path(roots[0]) / name) for name in names]


def read_tasks(corpora: Sequence[tuple[str, Path]], every: bool) -> "tuple[list[Task], list[str]]":
    """The tasks; with `every`, the errors of those that are not there are returned instead of raised.

    Raises:
        TaskError: a task asked for by name cannot be read, or none of all is there.
    """
    from matpac.tasks import TaskError, read_task

    tasks, skipped = [], []
    for name, root in corpora:
        try:
            tasks.append(read_task(name, root))
        except TaskError as error:
            if not every:
                raise
            skipped.append(str(error))
    if not tasks:
        raise TaskError(f"no task could be read; the first: {skipped[0]}")
    return tasks, skipped


def show(outcome: "Outcome") -> None:
    """Print the tables, and whether differences are beyond the noise."""
    from matpac.probe.run import LAYER

    linear = {
        (task, cell.record.metric, name): cell.record.result().score
        for (task, name), cell in outcome.linear.items()
    }
    others = {(r.task, r.probe, r.encoder): r.result().score for r in outcome.others if LAYER not in r.probe}
    _print_scores("Linear probes, test %, mean ± 95 % interval over seeds", "metric", outcome.encoders, linear)
    if others:
        _print_scores("Other probes, test %", "probe", outcome.encoders, others)
    for task, _, _, test in outcome.comparisons():
        print(f"{task}: {test.verdict}")
    for line in outcome.not_compared():
        print(line)


def _print_scores(
    title: str, second: str, encoders: Sequence[str], scores: Mapping[tuple[str, str, str], str]
) -> None:
    """A table of scores by task, metric or probe, and encoder."""
    from rich.table import Table
    from rich.text import Text

    from matpac.console import print_table

    table = Table("task", second, title=title)
    for name in encoders:
        table.add_column(Text(name), justify="right", overflow="fold")
    for task, row in dict.fromkeys((task, row) for task, row, _ in scores):
        table.add_row(Text(task), row, *(scores.get((task, row, name), "–") for name in encoders))
    print_table(table)
