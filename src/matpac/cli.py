"""The command line. `matpac --help` imports nothing heavy; a command imports what it needs."""

import sys
import textwrap
from collections.abc import Callable, Sequence
from importlib import import_module

from matpac import __version__
from matpac.command_line import Parser
from matpac.devices import choose_device
from matpac.errors import MatpacError

Command = Callable[[list[str]], int]

DESCRIPTION_WIDTH = 100
"""Columns of a description, wherever it is shown; ours."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 when all went well, 1 when files were left out, 2 for an error, 130 for Ctrl-C."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        print(overview())
        return 0
    if given[0] == "--version":
        print(f"matpac {__version__}")
        return 0
    command, rest = given[0], given[1:]
    if command not in COMMANDS:
        print(f"matpac: no command {command!r}; there are {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    try:
        return COMMANDS[command][1](rest)
    except (MatpacError, OSError) as error:  # what the user gave, and what the machine refused: both name it
        print(f"matpac {command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"matpac {command}: stopped", file=sys.stderr)
        return 130


def overview() -> str:
    """What `matpac --help` says: every command on a line."""
    widest = max(map(len, COMMANDS))
    return "\n".join(
        [
            "usage: matpac COMMAND [OPTION …]",
            "",
            "MATPAC and MATPAC++: self-supervised audio representations.",
            "",
            *(f"  {name:<{widest}}  {about}" for name, (about, _) in COMMANDS.items()),
            "",
            "matpac COMMAND --help tells a command's options, matpac --version the version.",
            "Exit code: 0 when all went well, 1 when files were left out (each is named), 2 for an error, 130 for "
            "Ctrl-C.",
        ]
    )


def _parser(command: str, description: str) -> Parser:
    return Parser(command, textwrap.fill(description, DESCRIPTION_WIDTH))


def stats(arguments: list[str]) -> int:
    """`matpac stats`: mean and deviation of a corpus's log-mel."""
    parser = _parser(
        "stats",
        "Mean and deviation of the log-mel of a corpus, for recipes that do not keep AudioSet's: "
        "matpac pretrain … --logmel.mean M --logmel.std S. Exit code: 0 when every file was readable, 1 when some "
        "were left out (each is named with its reason), 2 for an error.",
    )
    parser.add_argument("data", help="a folder (searched deep), a file, a table with a path column, or shards")
    parser.add_argument(
        "--max-clips", "--max_clips", type=int, default=10_000, help="clips to measure, drawn at random"
    )
    parser.add_argument("--seed", type=int, default=0, help="of that draw")
    parser.add_argument(
        "--recipe",
        default="matpac++",
        help="of `matpac pretrain`, whose log-mel it is; all but tiny-fine have the papers'",
    )
    options = parser.parse_args(arguments)

    from matpac.data.corpus import list_corpus
    from matpac.data.statistics import normalisation
    from matpac.pretrain.recipes import RECIPES

    if options.recipe not in RECIPES:
        parser.error(f"--recipe: no recipe {options.recipe!r}; there are {', '.join(RECIPES)}")
    corpus = list_corpus(options.data)
    found = normalisation(
        corpus.clips, RECIPES[options.recipe]().logmel, max_clips=options.max_clips, seed=options.seed
    )
    left_out = [*corpus.skipped, *found.skipped]
    print(f"--logmel.mean {found.mean:.4f} --logmel.std {found.std:.4f}")
    print(f"{found.clips} clips, {found.frames} frames; {len(left_out)} files left out", file=sys.stderr)
    return _name_left_out([f"{file.path}: {file.reason}" for file in left_out])


def embed(arguments: list[str]) -> int:
    """`matpac embed`: files to vectors."""
    parser = _parser(
        "embed",
        "Embed sound files, and folders of them, into one table of vectors. With a folder as output it writes "
        "Parquet parts, and the same command again does only what is missing; under torchrun or srun every "
        "process embeds its share into that folder. Exit code: 0 when every file was embedded (or this is one "
        "process of several), 1 when some were left out (each is named with its reason), 2 when none was, or for "
        "an error.",
    )
    parser.add_argument("sources", nargs="+", help="sound files or folders (searched deep)")
    parser.add_argument(
        "--encoder",
        required=True,
        help="tiny (comes with matpac), a published name, a file, a run folder, or hub:owner/name",
    )
    parser.add_argument(
        "--output", required=True, help="vectors.parquet, vectors.npz, or a folder for parts: vectors/"
    )
    parser.add_argument("--frames", action="store_true", help="a vector every 160 ms (of tiny 320), with its time")
    parser.add_argument(
        "--layers", action="store_true", help="the outputs of all blocks, not the last one's alone"
    )
    parser.add_argument(
        "--batch-size", "--batch_size", type=int, help="chunks computed at once (default: what suits the device)"
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, mps, or auto")
    options = parser.parse_args(arguments)

    from matpac.files.loading import load
    from matpac.shares import this_share
    from matpac.vectors.embed_files import EmbedOptions, embed_files

    how = EmbedOptions(options.output, options.frames, options.layers, options.batch_size)
    encoder = load(options.encoder, device=choose_device(options.device, this_share().local))
    result = embed_files(options.sources, encoder, how)
    several = result.share.count > 1
    process = f" (process {result.share.rank} of {result.share.count})" if several else ""
    found = f"{result.found} were there already; " if result.found else ""
    print(
        f"{options.output}{process}: {result.files} files, {result.seconds_of_audio:.1f} s of audio in "
        f"{result.seconds:.1f} s ({result.seconds_of_audio / result.seconds:.1f} s per second); {found}"
        f"{len(result.skipped)} files left out"
    )
    code = _name_left_out([reason for _, reason in result.skipped])
    return 0 if several else code  # a launcher takes 1 for a failure and stops the other processes


def _elsewhere(module: str, function: str) -> Command:
    """A command whose module is imported when it is called."""

    def run(arguments: list[str]) -> int:
        return getattr(import_module(module), function)(arguments)

    return run


def _name_left_out(reasons: list[str]) -> int:
    for reason in reasons:
        print(f"left out: {reason}", file=sys.stderr)
    return 1 if reasons else 0


COMMANDS: dict[str, tuple[str, Command]] = {
    "quickstart": (
        "pre-train, evaluate and use a tiny encoder on made-up sounds",
        _elsewhere("matpac.quickstart.command", "run_quickstart"),
    ),
    "embed": ("turn sound files into vectors", embed),
    "tag": ("name sounds: tags of clips, or a timeline", _elsewhere("matpac.tag.command", "run_tag")),
    "index": ("make a folder of sounds searchable", _elsewhere("matpac.search.command", "run_index")),
    "search": ("find sounds like a sound", _elsewhere("matpac.search.command", "run_search")),
    "app": ("listen, look and search in a browser", _elsewhere("matpac.app.command", "run_app")),
    "pretrain": (
        "pre-train an encoder on a folder, a table or shards of sounds",
        _elsewhere("matpac.pretrain.command", "run_pretrain"),
    ),
    "stats": ("measure the log-mel mean and deviation of a corpus", stats),
    "pack": ("write a corpus as shards for large runs", _elsewhere("matpac.data.packing.command", "run_pack")),
    "probe": (
        "evaluate frozen encoders on labelled sounds",
        _elsewhere("matpac.probe.command", "run_probe"),
    ),
    "finetune": (
        "train an encoder and a head on labels: a tagger",
        _elsewhere("matpac.finetune.command", "run_finetune"),
    ),
    "export": (
        "write an encoder as ONNX, in float32 or int8",
        _elsewhere("matpac.interop.export_command", "run_export"),
    ),
}


if __name__ == "__main__":
    sys.exit(main())
