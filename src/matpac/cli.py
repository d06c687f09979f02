"""The command line. `matpac --help` imports nothing heavy; a command imports what it needs."""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from matpac import __version__
from matpac.errors import MatpacError

Command = Callable[[list[str]], int]


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


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as all other errors are said."""

    def error(self, message: str) -> NoReturn:
        raise MatpacError(f"{message}; {self.prog} --help tells the options")


def _parser(command: str, description: str) -> _Parser:
    return _Parser(prog=f"matpac {command}", description=description, allow_abbrev=False)


def pretrain(arguments: list[str]) -> int:
    """`matpac pretrain`."""
    from matpac.training.command import run_pretrain

    return run_pretrain(arguments)


def stats(arguments: list[str]) -> int:
    """`matpac stats`: mean and deviation of a corpus's log-mel."""
    parser = _parser(
        "stats",
        "Mean and deviation of the log-mel of a corpus, for recipes that do not keep AudioSet's: "
        "matpac pretrain … --logmel.mean M --logmel.std S. Exit code: 0 when every file was readable, 1 when some "
        "were left out (each is named with its reason), 2 for an error.",
    )
    parser.add_argument("data", help="a folder (searched deep), a file, or a table with a path column")
    parser.add_argument(
        "--max-clips", "--max_clips", type=int, default=10_000, help="clips to measure, drawn at random"
    )
    parser.add_argument("--seed", type=int, default=0, help="of that draw")
    options = parser.parse_args(arguments)

    from matpac.data.files import list_clips
    from matpac.data.statistics import normalisation

    corpus = list_clips(options.data)
    found = normalisation(corpus.clips, max_clips=options.max_clips, seed=options.seed)
    left_out = [*corpus.left_out, *found.left_out]
    print(f"--logmel.mean {found.mean:.4f} --logmel.std {found.std:.4f}")
    print(f"{found.clips} clips, {found.frames} frames; {len(left_out)} files left out", file=sys.stderr)
    return _name_left_out([f"{file.path}: {file.reason}" for file in left_out])


def embed(arguments: list[str]) -> int:
    """`matpac embed`: files to vectors."""
    parser = _parser(
        "embed",
        "Embed sound files, and folders of them, into one table of vectors. Exit code: 0 when every file was "
        "embedded, 1 when some were left out (each is named with its reason), 2 when none was, or for an error.",
    )
    parser.add_argument("sources", nargs="+", help="sound files or folders (searched deep)")
    parser.add_argument(
        "--encoder", required=True, help="a published name, a file, a run folder, or hub:owner/name"
    )
    parser.add_argument("--output", required=True, help="vectors.parquet or vectors.npz")
    parser.add_argument("--frames", action="store_true", help="a vector every 160 ms, with its time")
    parser.add_argument(
        "--layers", action="store_true", help="the outputs of all blocks, not the last one's alone"
    )
    parser.add_argument(
        "--batch-size", "--batch_size", type=int, help="chunks computed at once (default: what suits the device)"
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, mps, or auto")
    options = parser.parse_args(arguments)

    from matpac.embed_files import EmbedOptions, embed_files
    from matpac.loading import load

    how = EmbedOptions(options.output, options.frames, options.layers, options.batch_size)
    encoder = load(options.encoder, device=choose_device(options.device))
    result = embed_files(options.sources, encoder, how)
    print(
        f"{options.output}: {result.files} files, {result.seconds_of_audio:.1f} s of audio in "
        f"{result.seconds:.1f} s ({result.seconds_of_audio / result.seconds:.1f} s per second); "
        f"{len(result.skipped)} files left out"
    )
    return _name_left_out([reason for _, reason in result.skipped])


def probe(arguments: list[str]) -> int:
    """`matpac probe`: encoders on tasks."""
    from matpac.probing.command import run_probe

    return run_probe(arguments)


def quickstart(arguments: list[str]) -> int:
    """`matpac quickstart`: the whole way on made-up sounds."""
    from matpac.quickstart.command import run_quickstart

    return run_quickstart(arguments)


def choose_device(name: str) -> str:
    """The device meant by `auto`: a GPU where there is one.

    Raises:
        MatpacError: torch knows no such device, or this machine has none.
    """
    import torch

    if name != "auto":
        try:
            torch.empty(0, device=name)
        except (RuntimeError, AssertionError) as error:  # a torch without CUDA asserts
            reason = str(error).splitlines()[0]
            raise MatpacError(f"--device {name}: cannot be used here ({reason})") from error
        return name
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _name_left_out(reasons: list[str]) -> int:
    for reason in reasons:
        print(f"left out: {reason}", file=sys.stderr)
    return 1 if reasons else 0


COMMANDS: dict[str, tuple[str, Command]] = {
    "quickstart": ("pre-train, evaluate and use a tiny encoder on made-up sounds", quickstart),
    "pretrain": ("pre-train an encoder on a folder or table of sounds", pretrain),
    "stats": ("measure the log-mel mean and deviation of a corpus", stats),
    "embed": ("turn sound files into vectors", embed),
    "probe": ("evaluate frozen encoders on labelled sounds", probe),
}


if __name__ == "__main__":
    sys.exit(main())
