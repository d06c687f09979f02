"""`matpac index` and `matpac search` as they are typed."""

import json
from pathlib import Path

import pytest

from helpers.sound_files import make_mixed_folder
from helpers.stored_sounds import make_collection
from helpers.tiny_encoder import tiny
from matpac import MatpacError, cli
from matpac.files.save import save
from matpac.search.command import clock


def run_index(words: list[str]) -> int:
    return cli.run("index", words)


def run_search(words: list[str]) -> int:
    return cli.run("search", words)


@pytest.fixture
def collection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Five sounds below the working folder, and an encoder."""
    monkeypatch.chdir(tmp_path)
    save(tiny(), tmp_path / "mine.safetensors")
    return make_collection(tmp_path / "sounds")


INDEX = ["--database", "db", "--device", "cpu"]


def test_index_and_search(collection, capsys, tmp_path):
    assert run_index(["sounds", "--encoder", "mine.safetensors", "--tags", "folder", *INDEX]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("db: 5 added, 0 changed, 0 vanished, 0 unchanged, 0 skipped, in ")
    assert second == f"it holds 5 files as 5 whole sounds, by {tmp_path}/mine.safetensors"
    assert run_index(["sounds", "--tags", "folder", *INDEX]) == 0
    assert "0 added, 0 changed, 0 vanished, 5 unchanged, 0 skipped" in capsys.readouterr().out

    query = str(collection["dog/it's a dog.wav"])
    assert run_search([query, "--top", "3", *INDEX]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [word in lines[1] for word in ("similarity", "length", "path", "tags")] == [True] * 4
    rows = [line for line in lines if ".wav" in line]
    assert len(rows) == 3
    assert "1.0000" in rows[0]
    assert "0:00.5" in rows[0]
    assert "sounds/dog/it's a dog.wav" in rows[0]  # as it is seen from here
    assert str(tmp_path) not in rows[0]

    assert run_search([query, "--json", "--where", "array_has(tags, 'cat')", *INDEX]) == 0
    matches = json.loads(capsys.readouterr().out)
    assert {match["path"] for match in matches} == {
        str(collection["cat/night/100%.wav"]),
        str(collection["cat/ünder_score.wav"]),
    }
    assert matches[0].keys() == {"similarity", "path", "start", "end", "duration", "tags"}
    assert run_search([query, "--where", "duration > 100", *INDEX]) == 0
    assert capsys.readouterr().out == "no sound of db meets 'duration > 100'\n"


def test_windows_show_their_times(collection, capsys):
    encoder = ["--encoder", "mine.safetensors"]
    assert run_index(["sounds", *encoder, "--window", "0.4", "--approximate-above", "5", *INDEX]) == 0
    out = capsys.readouterr().out
    assert "windows of 0.4 s every 0.2 s" in out
    assert "approximate index of " in out
    assert run_search([str(collection["loose; --.wav"]), "--top", "1", *INDEX]) == 0
    out = capsys.readouterr().out
    assert " time " in out
    assert " – 0:0" in out


def test_what_is_skipped_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(tiny(), tmp_path / "mine.safetensors")
    make_mixed_folder(tmp_path / "sounds")
    bad = {str(tmp_path / "sounds" / name) for name in ("empty.wav", "text.wav", "cut.flac", "click.wav")}
    for _ in range(2):
        assert run_index(["sounds", "--encoder", "mine.safetensors", *INDEX]) == 1
        out, errors = capsys.readouterr()
        assert "4 skipped" in out
        assert {line.split(": ")[1] for line in errors.splitlines() if line.startswith("skipped: ")} == bad


@pytest.mark.parametrize(
    ("command", "arguments", "reason"),
    [
        (run_index, ["sounds", "--database", "db"], "--encoder"),
        (run_index, ["sounds", "--database", "sounds", "--encoder", "mine.safetensors"], "sounds"),
        (run_index, ["nowhere", "--database", "db", "--encoder", "mine.safetensors"], "nowhere"),
        (run_index, ["sounds", "--database", "db", "--hop", "3"], "3"),
        (run_search, ["query.wav", "--database", "nowhere"], "nowhere"),
    ],
)
def test_errors_are_one_line(collection, command, arguments, reason):
    with pytest.raises(MatpacError, match=reason) as caught:
        command(arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0:00.0"), (59.96, "1:00.0"), (83.25, "1:23.2"), (3_723.4, "1:02:03.4")]
)
def test_clock(seconds, shown):
    assert clock(seconds) == shown
