"""`matpac probe` as tests run it."""

import json
from pathlib import Path
from typing import Any

import pytest

from matpac.cli import main

SEEDS = ("--seeds", "42", "43")


def probe(output: Path, *arguments: str | Path) -> list[dict[str, Any]]:
    """Run the command; the records that it wrote."""
    assert main(["probe", "--output", str(output), *SEEDS, *map(str, arguments)]) == 0
    return json.loads((output / "results.json").read_text())


def fails(capsys: pytest.CaptureFixture[str], output: Path, *arguments: str | Path) -> str:
    """The one line that the command ends with."""
    seeds = () if "--seeds" in arguments else SEEDS
    assert main(["probe", "--output", str(output), *seeds, *map(str, arguments)]) == 2
    message = capsys.readouterr().err.strip()
    assert message.startswith("matpac probe: ")
    assert "\n" not in message
    return message
