"""`matpac embed`: sound files to vectors."""

import sys

from matpac.console import report_skipped


def embed(
    sources: list[str],
    *,
    encoder: str,
    output: str,
    frames: bool = False,
    layers: bool = False,
    batch_size: int | None = None,
    device: str = "auto",
) -> int:
    """Embed sound files, and folders of them, into one table of vectors.

      matpac embed recordings --encoder matpac++ --output vectors.parquet
      matpac embed recordings --encoder matpac++ --output vectors/

    If the output is a folder, Parquet parts are written to it; run the same command again to embed what is new or
    has changed. Under torchrun or srun, every process embeds its share into that folder.
    Exit code: 0 when every file was embedded (or this is one process of several), 1 when files were skipped (each
    is named with its reason), 2 when no file could be embedded, or for an error.

    Args:
        sources: sound files or folders (searched recursively)
        encoder: tiny (comes with matpac), a published name, a file, a run folder, or hub:owner/name
        output: vectors.parquet, vectors.npz, or a folder for parts: vectors/
        frames: one vector per frame, with its time, instead of one per file
        layers: the outputs of all layers instead of the last one
        batch_size: chunks computed at once (default: what suits the device)
        device: cpu, cuda, mps, or auto
    """
    from matpac.files.load import load
    from matpac.machine import choose_device, this_share
    from matpac.vectors.embed import EmbedOptions, embed_files

    options = EmbedOptions(output, frames, layers, batch_size)
    result = embed_files(sources, load(encoder, choose_device(device, this_share().local)), options)
    several = result.share.count > 1
    process = f" (process {result.share.rank} of {result.share.count})" if several else ""
    counts = {
        "recomputed because they changed": result.recomputed,
        "already there": result.found,
        "vanished, their vectors kept": len(result.gone),
    }
    print(
        f"{output}{process}: {result.files} files, {result.seconds_of_audio:.1f} s of audio in "
        f"{result.seconds:.1f} s ({result.seconds_of_audio / result.seconds:.1f} s per second); "
        + "".join(f"{count} {what}; " for what, count in counts.items() if count)
        + f"{len(result.skipped)} files skipped"
    )
    for path in result.gone:
        print(f"vanished: {path}", file=sys.stderr)
    code = report_skipped(result.skipped)
    return 0 if several else code  # a launcher takes 1 for a failure and stops the other processes
