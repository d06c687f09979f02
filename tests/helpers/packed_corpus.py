"""A small corpus with bad files in it, and packing it."""

from pathlib import Path

from matpac.data.packing.pack import PackOptions, PackResult, pack

SIZE = 2**17


def packed(source: Path, output: Path, **changes: object) -> PackResult:
    given = {"encoding": "pcm16", "shard_size": SIZE, "workers": 1, **changes}
    return pack(PackOptions(str(source), str(output), **given))  # type: ignore[arg-type]


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
