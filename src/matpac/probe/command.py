"""`matpac probe`: parse, run, write, show."""

import argparse
import io
import sys
from dataclasses import dataclass
from pathlib import Path

from jsonargparse import ArgumentParser

from matpac.errors import MatpacError, one_line
from matpac.machine import choose_device
from matpac.probe.encoders import open_encoder
from matpac.probe.linear_probe import ProbeConfig
from matpac.probe.others import LAYER, OTHERS
from matpac.probe.page import write_page
from matpac.probe.records import write_records
from matpac.probe.run import Outcome, run_probes
from matpac.tasks import OWN, TASKS, Task, TaskError, read_task
from matpac.train.parsing import HelpFormatter
from matpac.vectors.features import TOKEN_BUDGET, folder_bytes

GIB = 2**30

DESCRIPTION = """Linear probes of frozen encoders, one protocol for all.

  matpac probe --encoder matpac++ --encoder logmel --task esc50 --root ESC-50 --output results
  matpac probe --encoder runs/mine --task folder --root MY_SOUNDS --output results
  matpac probe --encoder matpac++ --task all --root CORPORA --output results

Encoders: whatever `matpac embed` takes, random:tiny, random:small, random:base (untrained), logmel (statistics of
log-mel), or hear:MODULE[:WEIGHTS] for any module that follows HEAR.
Exit code: 0 when every task was probed, 1 when some were left out (each is named), 2 for an error."""

TASK_HELP = (
    f"one of {', '.join(TASKS)}, or all; may be given again. `folder` is a folder of class folders, `table` a "
    "CSV, TSV or Parquet of path, label or labels, and split"
)
ALSO_HELP = (
    f"probes beside the linear one, any of {', '.join(OTHERS)}; an encoder that can't (logmel has no layers) "
    "is told and left out"
)
BUDGET_HELP = "GiB of disk for the tokens of one encoder on one task (attention, prototypes); more are an error"
ROOT_HELP = (
    "where the corpus lies. Given once for each --task, or once for all: then each task is looked for in the "
    "root's folder of its name (root/esc50, …)"
)


NOT_IN_ALL = ("audioset", "audioset20k", *OWN)
"""Tasks that `all` leaves out: AudioSet is fine-tuned on, not probed."""


@dataclass(frozen=True)
class Corpus:
    """A task and where it lies."""

    task: str
    root: Path


def run_probe(arguments: list[str]) -> int:
    """Parse and run; returns the exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of folders need not be UTF-8; stderr takes them as it is
        sys.stdout.reconfigure(errors="backslashreplace")
    parser = ArgumentParser(
        prog="matpac probe", description=DESCRIPTION, formatter_class=HelpFormatter, exit_on_error=False
    )
    parser.add_argument("--encoder", action="append", required=True, help="may be given again, to compare")
    parser.add_argument("--task", action="append", required=True, help=TASK_HELP)
    parser.add_argument("--root", action="append", required=True, help=ROOT_HELP)
    parser.add_argument("--output", required=True, help="folder for results.json, results.csv and report.html")
    parser.add_argument("--cache", help="folder of vectors kept between calls (default: OUTPUT/cache)")
    parser.add_argument("--seeds", type=list[int], default=[42, 43, 44], help="of the probes, as [42,43,44]")
    parser.add_argument("--also", nargs="+", action="extend", default=[], choices=list(OTHERS), help=ALSO_HELP)
    parser.add_argument(
        "--token_budget", "--token-budget", type=float, default=TOKEN_BUDGET / GIB, help=BUDGET_HELP
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, mps, or auto, for the encoders")
    try:
        options = parser.parse_args(arguments)
        config = ProbeConfig(seeds=tuple(options.seeds))
    except (argparse.ArgumentError, TypeError, ValueError) as error:
        told = one_line(error)
        raise MatpacError(f"{told}; matpac probe --help tells the options") from error

    output = Path(options.output)
    if options.token_budget < 0:
        raise MatpacError(f"--token_budget {options.token_budget}: give GiB from 0 up")
    cache = Path(options.cache) if options.cache else output / "cache"
    tasks, left_out = read_tasks(find_corpora(options.task, options.root), every="all" in options.task)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise MatpacError(f"--output {output}: there is a file in its place; give a folder") from error
    device = choose_device(options.device)
    encoders = [open_encoder(spec, device) for spec in dict.fromkeys(options.encoder)]
    outcome = run_probes(
        encoders,
        tasks,
        cache,
        config,
        say=lambda text: print(text, flush=True),
        done=lambda outcome: write_records(outcome.records, output),
        also=list(dict.fromkeys(options.also)),
        token_budget=round(options.token_budget * GIB),
    )
    write_page(outcome, output / "report.html", ["matpac", "probe", *arguments])
    show(outcome)
    print(f"\n{output / 'report.html'} shows it all; records: {output / 'results.json'}, {output / 'results.csv'}")
    from rich.filesize import decimal

    print(f"vectors for the next call: {cache} ({decimal(folder_bytes(cache))}; delete the folder when done)")
    for reason in left_out:
        print(f"left out: {reason}", file=sys.stderr)
    return 1 if left_out else 0


def find_corpora(tasks: list[str], roots: list[str]) -> list[Corpus]:
    """Pair tasks with roots.

    Raises:
        MatpacError: they do not pair.
    """
    names = tasks
    if "all" in tasks:
        names = [name for name in TASKS if name not in NOT_IN_ALL]
        names += [name for name in dict.fromkeys(tasks) if name not in ("all", *names)]
    if len(roots) == len(names) and "all" not in tasks:
        return [Corpus(name, Path(root)) for name, root in zip(names, roots, strict=True)]
    if len(roots) != 1:
        raise MatpacError(
            f"{len(names)} tasks and {len(roots)} roots: give one --root for each --task, or one in all"
        )
    return [Corpus(name, Path(roots[0]) / name) for name in names]


def read_tasks(corpora: list[Corpus], every: bool) -> tuple[list[Task], list[str]]:
    """The tasks; with `every`, those that are not there are named instead of raised.

    Raises:
        TaskError: a task asked for by name cannot be read, or none of all is there.
    """
    tasks, left_out = [], []
    for corpus in corpora:
        try:
            tasks.append(read_task(corpus.task, corpus.root))
        except TaskError as error:
            if not every:
                raise
            left_out.append(str(error))
    if not tasks:
        raise TaskError(f"no task could be read; the first: {left_out[0]}")
    return tasks, left_out


def show(outcome: Outcome) -> None:
    """The tables at the terminal, and what the differences are worth."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    def table(title: str, second: str) -> Table:
        made = Table("task", second, title=title)
        for name in outcome.encoders:
            made.add_column(Text(name), justify="right", overflow="fold")
        return made

    linear = table("Linear probes, test %, mean ± 95 % interval over seeds", "metric")
    for task in outcome.tasks:
        row = [outcome.linear.get((task, name)) for name in outcome.encoders]
        metric = next(cell.record.metric for cell in row if cell is not None)
        linear.add_row(Text(task), metric, *("–" if cell is None else cell.record.result().score for cell in row))
    console = Console()
    console.print(linear)
    scores = {(r.task, r.probe, r.encoder): r.result().score for r in outcome.others if LAYER not in r.probe}
    if scores:
        others = table("Other probes, test %", "probe")
        for task, probe in dict.fromkeys((task, probe) for task, probe, _ in scores):
            others.add_row(Text(task), probe, *(scores.get((task, probe, name), "–") for name in outcome.encoders))
        console.print(others)
    for task, _, _, test in outcome.comparisons():
        console.print(f"{task}: {test.verdict}", highlight=False, markup=False)
    for line in outcome.not_compared():
        console.print(line, highlight=False, markup=False)
