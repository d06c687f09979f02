"""The parser of commands that argparse serves."""

import argparse
from typing import NoReturn

from matpac.errors import MatpacError


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as all other errors are said; keeps the lines of its description.

    Args:
        command: `embed` of `matpac embed`.
        description: what it is for, and its exit codes.
    """

    def __init__(self, command: str, description: str):
        super().__init__(
            prog=f"matpac {command}",
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Raise a MatpacError."""
        raise MatpacError(f"{message}; {self.prog} --help tells the options")
