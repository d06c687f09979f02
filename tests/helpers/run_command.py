"""`matpac probe` as tests run it."""

import json
from pathlib import Path
from typing import Any

import pytest

from matpac.cli import main


def probe(output: Path, *arguments: str | Path) -> list[dict[str, Any]]:
    """Run the command; the records that it wrote."""
    code = main(["probe", "--output", str(output), "--seeds", "[42,43]", *map(str, arguments)])
    assert code == 0
    return json.loads((output / "results.json").read_text())


def fails(capsys: pytest.CaptureFixture[str], output: Path, *arguments: str | Path) -> str:
    """The one line that the command ends with."""
    capsys.readouterr()
    code = main(["probe", "--output", str(output), "--seeds", "[42,43]", *map(str, arguments)])
    told = capsys.readouterr().err.strip()
    assert code == 2
    assert told.startswith("matpac probe: ")
    assert "\n" not in told
    return told
