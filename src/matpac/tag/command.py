"""`matpac tag`: names for sounds."""

import sys
import time
import warnings
from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from matpac.console import print_table, report_skipped, track
from matpac.errors import MatpacError, Skipped

if TYPE_CHECKING:
    from matpac.model.embedder import Embedder
    from matpac.tag.sounds import TaggedSound

SHOWN = 40
"""Rows printed when all of them go to a file; default; a screen or two."""

Probe = Literal["esc50", "us8k", "gtzan", "nsynth", "openmic", "mtt", "fsd50k"]


def tag(
    sources: list[str],
    *,
    encoder: str,
    head: Probe | None = None,
    labels: str | None = None,
    top: int | None = None,
    threshold: float | None = None,
    timeline: bool = False,
    output: str | None = None,
    batch_size: int | None = None,
    device: str = "auto",
) -> int:
    """Name sounds with a tagger: a fine-tuned encoder, or a published one.

      matpac tag recordings --encoder matpac++-audioset-tagger
      matpac tag recordings --encoder runs/mine --threshold 0.3 --output tags.csv
      matpac tag meeting.wav --encoder runs/mine --output meeting.txt
      matpac tag song.flac --encoder matpac++ --head gtzan

    Exit code: 0 when every file was tagged, 1 when files were skipped (each is named with its reason), 2 when no
    file could be tagged, or for an error.

    Args:
        sources: sound files or folders (searched recursively)
        encoder: a published name, a file, a run folder, or hub:owner/name
        head: the published probe of a task, for matpac++ or matpac++-music
        labels: a file with the names of the head's classes: AudioSet's class_labels_indices.csv, or text with one
            name per line
        top: tags per sound, at most (default: 5)
        threshold: least probability of a tag (default: any), or of a frame of the timeline (default: 0.5)
        timeline: report what sounds when: classes whose probability in a frame reaches the threshold, as segments
            with start, end, highest and mean probability
        output: tags.csv (one row per tag or segment), tags.jsonl (one line per sound), or Audacity's label files,
            which imply --timeline: labels.txt for one sound, a folder for one file per sound (labels/song.wav.txt)
        batch_size: chunks computed at once (default: what suits the device)
        device: cpu, cuda, mps, or auto
    """
    from matpac.audio import find_audio
    from matpac.machine import choose_device
    from matpac.model.heads import TOP
    from matpac.tag.outputs import is_audacity, open_output
    from matpac.tag.sounds import TagOptions, tag_sounds
    from matpac.tag.timeline import TimelineConfig

    timeline = timeline or (output is not None and is_audacity(output))
    if timeline and top is not None:
        raise MatpacError("--top limits the tags of whole sounds; for a timeline use --threshold")
    if timeline:
        config = TimelineConfig() if threshold is None else TimelineConfig(threshold)
        options = TagOptions(timeline=config, batch_size=batch_size)
    else:
        options = TagOptions(TOP if top is None else top, threshold, batch_size=batch_size)
    paths = find_audio(sources)
    if not paths:
        raise MatpacError(f"{', '.join(sources)}: no sound files there")
    embedder = _load(encoder, choose_device(device), head, labels)

    began, shown, skipped, rows, tagged, nameless, seconds = time.monotonic(), [], [], 0, 0, 0, 0.0
    with (
        open_output(output, paths, timeline) if output else nullcontext() as write,
        closing(tag_sounds(paths, embedder, options)) as found,
    ):
        for sound in track(found, "Tagging", len(paths)):
            if isinstance(sound, Skipped):
                skipped.append(sound)
                continue
            if write is not None:
                write(sound)
            lines = _rows(sound)
            tagged, rows, seconds = tagged + 1, rows + len(lines), seconds + sound.duration
            nameless += not (sound.tags or sound.segments)
            shown += lines[: SHOWN - len(shown)] if output else lines
        if not tagged:
            first = skipped[0]
            raise MatpacError(
                f"not one of {len(paths)} files could be tagged; the first: {first.path}: {first.reason}"
            )
    took = time.monotonic() - began

    _show(shown, timeline)
    if rows > len(shown):
        print(f"the first {len(shown)} of {rows} rows; all of them are in {output}")
    print(
        f"{output}: " * bool(output) + f"{tagged} sounds, {seconds:.1f} s of audio in {took:.1f} s "
        f"({seconds / took:.1f} s per second)"
        + f"; {nameless} without a tag" * bool(nameless)
        + f"; {len(skipped)} files skipped"
    )
    return report_skipped(skipped)


def _load(encoder: str, device: str, head: str | None, labels: str | None) -> "Embedder":
    """The encoder; a warning that its classes have no names is printed like an error, in one line."""
    from matpac.files.load import NamelessClasses, load

    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always", NamelessClasses)
        embedder = load(encoder, device, head, labels)
    for warning in found:
        if issubclass(warning.category, NamelessClasses):
            print(f"matpac tag: {warning.message}", file=sys.stderr)
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return embedder


def _show(rows: list[tuple[str, ...]], timeline: bool) -> None:
    """A table of tags or segments, with a line between two sounds."""
    from rich.table import Table
    from rich.text import Text

    table = Table()
    table.add_column("sound", overflow="fold")
    for name in ("start", "end", "label", "peak", "mean") if timeline else ("label", "probability"):
        table.add_column(name, justify="left" if name == "label" else "right", no_wrap=name != "label")
    for number, row in enumerate(rows):
        if number and row[0]:
            table.add_section()
        table.add_row(*map(Text, row))
    print_table(table)


def _rows(sound: "TaggedSound") -> list[tuple[str, ...]]:
    """The rows of a sound, of which the first has its path; a dash if it has no tag."""
    from matpac.tag.outputs import plain

    rows = [
        (f"{part.start:.2f}", f"{part.end:.2f}", plain(part.label), f"{part.peak:.2f}", f"{part.mean:.2f}")
        for part in sound.segments
    ] or [(plain(tag.label), f"{tag.probability:.2f}") for tag in sound.tags]
    here = Path.cwd()
    path = sound.path.relative_to(here) if sound.path.is_relative_to(here) else sound.path
    return [("" if number else plain(path), *row) for number, row in enumerate(rows or [("–",)])]
