"""`matpac pack`: parse, pack or verify, and say what came of it."""

import argparse
import re
import shlex
import sys
from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentParser

from matpac.data.packing.encode import CONTAINERS
from matpac.data.packing.pack import LEFT_OUT, PackOptions, PackResult, count_workers, pack
from matpac.data.packing.verify import verify
from matpac.errors import MatpacError
from matpac.train.parsing import HelpFormatter

DESCRIPTION = """Pack a corpus into shards: tar files of 16 kHz mono clips, as WebDataset reads them.

  matpac pack SOUNDS --output shards
  matpac pack clips.csv --output shards --format pcm16 --shard-size 500MB --workers 8
  matpac pack --verify shards

Each clip is KEY.flac or KEY.wav with KEY.json beside it: source, duration, and labels where a table has them.
index.json has counts, sizes and hashes, clips.parquet a row a file. Killed, the same command goes on; later it
writes the shards again that are gone or of another size. --verify reads every byte.
Exit code: 0 when all is packed, or whole, 1 when files were left out or shards are damaged (each is named), 2 for
an error."""

UNITS = {"": 1, "B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "MiB": 2**20, "GiB": 2**30}
SHOWN = 20
"""Files left out that are named at the end; the others are in left_out.jsonl."""


def run_pack(arguments: list[str]) -> int:
    """Parse and run; returns the exit code."""
    parser = ArgumentParser(
        prog="matpac pack", description=DESCRIPTION, formatter_class=HelpFormatter, exit_on_error=False
    )
    parser.add_argument(
        "source", nargs="?", help="a folder (searched deep), a table with a path column, or a file"
    )
    parser.add_argument("--output", help="the folder of the shards")
    parser.add_argument("--format", default="flac", choices=list(CONTAINERS), help="of the sounds")
    parser.add_argument(
        "--shard-size", "--shard_size", default="1GB",
        help="of a shard, as 500MB or 1GiB. It is planned, FLAC at 0.6 of the bytes of PCM",
    )  # fmt: skip
    parser.add_argument("--workers", help="processes (default: one a core)")
    parser.add_argument("--verify", metavar="SHARDS", help="look whether the shards of this folder are whole")
    try:
        options = parser.parse_args(arguments)
    except (argparse.ArgumentError, TypeError) as error:
        raise MatpacError(f"{' '.join(str(error).split())}; matpac pack --help tells the options") from error
    workers = _parse_workers(options.workers)
    if options.verify is not None:
        if options.source is not None or options.output is not None:
            raise MatpacError("--verify looks at shards that are there; give no SOURCE and no --output")
        return _verify(Path(options.verify), count_workers(workers))
    if options.source is None or options.output is None:
        raise MatpacError("what to pack, and where to? matpac pack SOURCE --output SHARDS")
    size = parse_size(options.shard_size)
    result = pack(PackOptions(options.source, options.output, options.format, size, workers))
    print(summary(result, options.output))
    for file in result.skipped[:SHOWN]:
        print(f"left out: {file.path}: {file.reason}", file=sys.stderr)
    if len(result.skipped) > SHOWN:
        print(f"left out: {len(result.skipped) - SHOWN} more, in {options.output}/{LEFT_OUT}", file=sys.stderr)
    return 1 if result.skipped else 0


def _parse_workers(given: object) -> int | Literal["auto"]:
    if given is None or given == "auto":
        return "auto"
    if not str(given).isdigit() or int(str(given)) < 1:
        raise MatpacError(f"--workers {given}: a number of processes from 1 up is needed")
    return int(str(given))


def parse_size(text: str) -> int:
    """Bytes of `1GB`, `500MB`, `64MiB` or a plain number. Raises MatpacError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", str(text).strip())
    if found is None or found[2] not in UNITS:
        raise MatpacError(f"--shard-size {text}: a size like 500MB, 1GB or 2GiB is needed")
    return round(float(found[1]) * UNITS[found[2]])


def summary(result: PackResult, output: str) -> str:
    """What lies there, and what to type next."""
    index = result.index
    text = (
        f"{output}: {len(index.shards):,} shards, {index.clips:,} clips, {index.seconds / 3600:.2f} h, "
        f"{index.bytes / 1e6:,.1f} MB"
    )
    there = f"; all of it was there, by its sizes (matpac pack --verify {shlex.quote(output)} reads every byte)"
    text += f" in {result.seconds:.1f} s" if result.written else there
    if index.left_out:
        text += f"; {index.left_out:,} files left out, see {output}/{LEFT_OUT}"
    return f"{text}\ntrain on it: matpac pretrain --data {shlex.quote(output)} --output RUN"


def _verify(folder: Path, workers: int) -> int:
    found = verify(folder, workers)
    for problem in found.problems:
        print(f"damaged: {problem}", file=sys.stderr)
    if found.problems:
        print(
            "to mend it: remove the shards that are damaged and call the matpac pack that made them again, which "
            f"writes what is missing from {folder}; or copy them again from where they are whole",
            file=sys.stderr,
        )
    index = found.index
    whole = "all whole" if not found.problems else f"{len(found.problems)} things are not as the index says"
    print(f"{folder}: {len(index.shards):,} shards, {index.clips:,} clips, {index.bytes / 1e6:,.1f} MB: {whole}")
    return 1 if found.problems else 0
