"""`matpac pack`: pack a corpus or verify shards, and report the result."""

import re
import shlex
import sys
from pathlib import Path
from typing import Literal

from matpac.console import report_skipped
from matpac.errors import MatpacError

UNITS = {"": 1, "B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "MiB": 2**20, "GiB": 2**30}
SHOWN = 20  # skipped files that are named at the end; all are in left_out.jsonl


def pack(
    source: str | None = None,
    *,
    output: str | None = None,
    format: Literal["flac", "pcm16"] = "flac",
    shard_size: str = "1GB",
    workers: int | None = None,
    verify: str | None = None,
) -> int:
    """Pack a corpus into shards: tar files of 16 kHz mono clips, as WebDataset reads them.

      matpac pack SOUNDS --output shards
      matpac pack clips.csv --output shards --format pcm16 --shard_size 500MB --workers 8
      matpac pack --verify shards

    Each clip is KEY.flac or KEY.wav with KEY.json beside it: source, duration, and labels where a table has them.
    index.json has counts, sizes and hashes, clips.parquet one row per file. Run the same command again to resume
    after a break, or to write shards again that are missing or of another size.
    Exit code: 0 when everything was packed, or is whole, 1 when files were skipped or shards are damaged (each is
    named), 2 for an error.

    Args:
        source: a folder (searched recursively), a table with a path column, or a file
        output: folder of the shards
        format: encoding of the sounds
        shard_size: planned size of a shard, such as 500MB or 1GiB; FLAC is planned at 0.6 of PCM
        workers: processes (default: one per core)
        verify: read every byte of the shards in this folder instead, and report damage
    """
    if workers is not None and workers < 1:
        raise MatpacError(f"--workers must be at least 1, not {workers}")
    if verify is not None:
        if source is not None or output is not None:
            raise MatpacError("--verify checks existing shards; give no SOURCE and no --output")
        return _verify(Path(verify), workers)
    if source is None or output is None:
        raise MatpacError("give what to pack, and where to: matpac pack SOURCE --output SHARDS")
    from matpac.data.packing.pack import LEFT_OUT, PackOptions
    from matpac.data.packing.pack import pack as write_shards

    result = write_shards(PackOptions(source, output, format, parse_size(shard_size), workers))
    index = result.index
    text = (
        f"{output}: {len(index.shards):,} shards, {index.clips:,} clips, {index.seconds / 3600:.2f} h, "
        f"{index.bytes / 1e6:,.1f} MB"
    )
    there = f"; all of it existed, by its sizes (matpac pack --verify {shlex.quote(output)} reads every byte)"
    text += f" in {result.seconds:.1f} s" if result.written else there
    if index.left_out:
        text += f"; {index.left_out:,} files skipped, see {output}/{LEFT_OUT}"
    print(f"{text}\ntrain on it: matpac pretrain --data {shlex.quote(output)} --output RUN")
    report_skipped(result.skipped[:SHOWN])
    if len(result.skipped) > SHOWN:
        print(f"skipped: {len(result.skipped) - SHOWN} more, in {output}/{LEFT_OUT}", file=sys.stderr)
    return 1 if result.skipped else 0


def parse_size(text: str) -> int:
    """Bytes of `1GB`, `500MB`, `64MiB` or a plain number. Raises MatpacError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text.strip())
    if found is None or found[2] not in UNITS:
        raise MatpacError(f"--shard_size {text}: not a size; give one like 500MB, 1GB or 2GiB")
    return round(float(found[1]) * UNITS[found[2]])


def _verify(folder: Path, workers: int | None) -> int:
    from matpac.data.packing.verify import verify

    found = verify(folder, workers)
    index, problems = found.index, found.problems
    for problem in problems:
        print(f"damaged: {problem}", file=sys.stderr)
    if problems:
        print(
            "to repair it: remove the damaged shards and run the matpac pack that wrote them again, which writes "
            f"what is missing from {folder}; or copy them again from where they are whole",
            file=sys.stderr,
        )
    whole = f"{len(problems)} things differ from the index" if problems else "all whole"
    print(f"{folder}: {len(index.shards):,} shards, {index.clips:,} clips, {index.bytes / 1e6:,.1f} MB: {whole}")
    return 1 if problems else 0
