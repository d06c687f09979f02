"""`matpac tag`: parse, tag, write, show."""

import argparse
import sys
import time
import warnings
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from matpac.audio import find_audio
from matpac.command_line import Parser
from matpac.console import track
from matpac.errors import MatpacError
from matpac.files.load import NamelessClasses, load
from matpac.files.probes import PROBES
from matpac.machine import choose_device
from matpac.model.embedder import Embedder
from matpac.model.heads import TOP
from matpac.tag.outputs import is_audacity, open_output, text
from matpac.tag.sounds import TaggedSound, TaggedSounds, TagOptions
from matpac.tag.timeline import THRESHOLD, TimelineConfig

DESCRIPTION = """Names for sounds: by a tagger, a fine-tuned encoder, or a published probe.

  matpac tag recordings --encoder matpac++-audioset-tagger
  matpac tag recordings --encoder runs/mine --threshold 0.3 --output tags.csv
  matpac tag meeting.wav --encoder runs/mine --output meeting.txt
  matpac tag song.flac --encoder matpac++ --head gtzan

Exit code: 0 when every file was tagged, 1 when some were left out (each is named with its reason), 2 when none
was, or for an error."""

OUTPUT_HELP = (
    "tags.csv (a row a tag or a segment), tags.jsonl (a line a sound), or Audacity's label files, which imply "
    "--timeline: labels.txt for one sound, a folder for a file a sound (labels/song.wav.txt)"
)
TIMELINE_HELP = (
    "what sounds when: classes whose probability in frames of 160 ms (of tiny 320) reaches the threshold, as "
    "segments with start, end, highest and mean probability"
)
LABELS_HELP = (
    "a file that names the head's classes: AudioSet's class_labels_indices.csv, or text with a name on every line"
)
THRESHOLD_HELP = f"least probability of a tag (default: any), or of a frame of the timeline (default: {THRESHOLD})"

SHOWN = 40
"""Rows of the table on the terminal where all of them go to a file; ours."""

UNFOLDED = 1_000
"""Columns of a table that goes into a file or another program: no path is folded; ours."""

Row = tuple[str, ...]


@dataclass
class _Done:
    """How it went, and what is shown of it: rows of tags or segments, all of them unless `most` says otherwise."""

    most: int | None = None
    sounds: int = 0
    nameless: int = 0
    seconds: float = 0.0
    rows: int = 0
    shown: list[Row] = field(default_factory=list)

    def add(self, sound: TaggedSound) -> None:
        self.sounds += 1
        self.seconds += sound.duration
        self.nameless += not (sound.tags or sound.segments)
        rows = _rows(sound)
        self.rows += len(rows)
        self.shown += rows[: None if self.most is None else self.most - len(self.shown)]

    def summary(self, took: float) -> str:
        length = f"{self.seconds:.1f} s of audio in {took:.1f} s ({self.seconds / took:.1f} s per second)"
        nameless = f"; {self.nameless} have no name" if self.nameless else ""
        return f"{self.sounds} sounds, {length}{nameless}"


def run_tag(arguments: list[str]) -> int:
    """Parse and run; returns the exit code."""
    options = _parser().parse_args(arguments)
    timeline = options.timeline or (options.output is not None and is_audacity(options.output))
    how = _tag_options(options, timeline)
    paths = find_audio(options.sources)
    if not paths:
        raise MatpacError(f"{', '.join(options.sources)}: no sound files there")
    sounds = TaggedSounds(paths, _load(options), how)
    began = time.monotonic()
    done = _tag(sounds, options.output, timeline)
    took = time.monotonic() - began

    show(done.shown, timeline)
    if done.rows > len(done.shown):
        print(f"the first {len(done.shown)} of {done.rows} rows; {options.output} has all of them")
    print(f"{options.output}: {done.summary(took)}" if options.output else done.summary(took), end="; ")
    print(f"{len(sounds.left_out)} files left out")
    for item in sounds.left_out:
        print(f"left out: {item.path}: {item.reason}", file=sys.stderr)
    return 1 if sounds.left_out else 0


def _parser() -> Parser:
    parser = Parser("tag", DESCRIPTION)
    parser.add_argument("sources", nargs="+", help="sound files or folders (searched deep)")
    parser.add_argument(
        "--encoder", required=True, help="a published name, a file, a run folder, or hub:owner/name"
    )
    parser.add_argument(
        "--head", choices=list(PROBES), help="the published probe of a task, on matpac++ or matpac++-music"
    )
    parser.add_argument("--labels", help=LABELS_HELP)
    parser.add_argument("--top", type=int, help=f"tags a sound, at most (default: {TOP})")
    parser.add_argument("--threshold", type=float, help=THRESHOLD_HELP)
    parser.add_argument("--timeline", action="store_true", help=TIMELINE_HELP)
    parser.add_argument("--output", help=OUTPUT_HELP)
    parser.add_argument("--batch-size", "--batch_size", type=int, help="chunks computed at once")
    parser.add_argument("--device", default="auto", help="cpu, cuda, mps, or auto")
    return parser


def _tag_options(options: argparse.Namespace, timeline: bool) -> TagOptions:
    if not timeline:
        top = TOP if options.top is None else options.top
        return TagOptions(top, options.threshold, batch_size=options.batch_size)
    if options.top is not None:
        raise MatpacError("--top counts tags of whole sounds; what a timeline tells is up to --threshold")
    config = TimelineConfig() if options.threshold is None else TimelineConfig(options.threshold)
    return TagOptions(timeline=config, batch_size=options.batch_size)


def _load(options: argparse.Namespace) -> Embedder:
    """The encoder; that its classes have no names is told as errors are, in a line."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", NamelessClasses)
        embedder = load(options.encoder, choose_device(options.device), options.head, options.labels)
    for warning in told:
        if issubclass(warning.category, NamelessClasses):
            print(f"matpac tag: {warning.message}", file=sys.stderr)
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return embedder


def _tag(sounds: TaggedSounds, output: str | None, timeline: bool) -> _Done:
    """Tag and write.

    Raises:
        MatpacError: not one sound could be tagged.
    """
    done = _Done(most=SHOWN if output else None)
    with (
        open_output(output, sounds.paths, timeline) if output else nullcontext() as write,
        closing(iter(sounds)) as found,
    ):
        for sound in track(found, "Tagging", len(sounds.paths)):
            if sound is None:
                continue
            if write is not None:
                write(sound)
            done.add(sound)
        if not done.sounds:
            first = sounds.left_out[0]
            raise MatpacError(
                f"not one of {len(sounds.paths)} files could be tagged; the first: {first.path}: {first.reason}"
            )
    return done


def show(rows: list[Row], timeline: bool) -> None:
    """A table of tags or segments, a line between two sounds."""
    from rich.console import Console
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
    Console(width=None if sys.stdout.isatty() else UNFOLDED).print(table)


def _rows(sound: TaggedSound) -> list[Row]:
    """A sound's rows, of which the first has its path; one of dashes where it has no name."""
    rows = [
        (f"{part.start:.2f}", f"{part.end:.2f}", text(part.label), f"{part.peak:.2f}", f"{part.mean:.2f}")
        for part in sound.segments
    ] or [(text(tag.label), f"{tag.probability:.2f}") for tag in sound.tags]
    return [("" if number else text(_short(sound.path)), *row) for number, row in enumerate(rows or [("–",)])]


def _short(path: Path) -> Path:
    """As seen from here."""
    folder = Path.cwd()
    return path.relative_to(folder) if path.is_relative_to(folder) else path
