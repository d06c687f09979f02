"""`matpac tag` as a person uses it: tables, files of every kind, exit codes, one line for an error."""

import csv
import json
import re
import warnings
from pathlib import Path

import pytest

import matpac
from helpers.named_sounds import RATE, knowing, write
from helpers.sound_files import make_mixed_folder
from helpers.tiny_encoder import tiny
from matpac import cli
from matpac.errors import MatpacError
from matpac.files.load import NamelessClasses, load
from matpac.files.save import save
from matpac.tag import command


def run_tag(words: list[str]) -> int:
    return cli.run("tag", words)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save(knowing(), tmp_path_factory.mktemp("encoder") / "knowing.safetensors"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "sounds"
    write(root / "beep.wav", ("silence", 1), ("tone", 2), ("silence", 1))
    write(root / "deep/hiss.flac", ("noise", 1.6), rate=44_100)
    write(root / "deep/hiss.wav", ("silence", 1))
    return root


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def cells(printed: str) -> list[list[str]]:
    """The rows of the table."""
    return [
        [cell.strip() for cell in line.split("│")[1:-1]] for line in printed.splitlines() if line.startswith("│")
    ]


def test_tags_on_the_terminal(folder, encoder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    assert run_tag([str(folder), "--encoder", encoder, "--top", "1"]) == 0
    printed = capsys.readouterr()
    beep, hiss, silence = cells(printed.out)
    assert beep[:2] == ["beep.wav", "tone"]
    assert hiss[:2] == ["deep/hiss.flac", "noise"]
    assert float(hiss[2]) > 0.95
    assert silence[0] == "deep/hiss.wav"
    assert re.search(
        r"^3 sounds, 6\.6 s of audio in .* s \(.* s per second\); 0 files skipped$", printed.out, re.M
    )
    assert printed.err == ""


def test_a_timeline_on_the_terminal(folder, encoder, capsys):
    assert run_tag([str(folder / "beep.wav"), "--encoder", encoder, "--timeline"]) == 0
    printed = capsys.readouterr().out
    [beep] = cells(printed)
    assert beep[0] == str(folder / "beep.wav")
    assert [float(beep[1]), float(beep[2])] == pytest.approx([1, 3], abs=0.33)
    assert beep[3] == "tone"
    assert 0.5 <= float(beep[5]) <= float(beep[4]) <= 1


def test_a_sound_without_a_name(folder, encoder, capsys):
    assert run_tag([str(folder / "deep"), "--encoder", encoder, "--threshold", "0.5"]) == 0
    printed = capsys.readouterr().out
    assert [row[1] for row in cells(printed)] == ["noise", "–"]
    assert "; 1 without a tag; 0 files skipped" in printed


def test_csv_and_json_lines_of_tags(folder, encoder, tmp_path, capsys):
    for name in ("tags.csv", "tags.jsonl"):
        file = str(tmp_path / name)
        assert run_tag([str(folder), "--encoder", encoder, "--output", file]) == 0
        assert capsys.readouterr().out.splitlines()[-1].startswith(f"{file}: 3 sounds, 6.6 s of audio in ")
    rows, lines = rows_of(tmp_path / "tags.csv"), lines_of(tmp_path / "tags.jsonl")
    assert list(rows[0]) == ["path", "duration", "rank", "label", "probability"]
    assert [row["rank"] for row in rows] == ["1", "2"] * 3
    model = matpac.load(encoder)
    for number, line in enumerate(lines):
        [expected] = model.tags(matpac.read(line["path"]), RATE)
        for row, tag, wanted in zip(rows[2 * number :][:2], line["tags"], expected, strict=True):
            assert (row["path"], float(row["duration"])) == (line["path"], line["duration"])
            assert row["label"] == tag["label"] == wanted.label
            assert float(row["probability"]) == tag["probability"] == pytest.approx(wanted.probability, abs=6e-5)


def test_csv_and_json_lines_of_a_timeline(folder, encoder, tmp_path):
    for name in ("t.csv", "t.jsonl"):
        given = [str(folder), "--encoder", encoder, "--timeline", "--threshold", "0.6"]
        assert run_tag([*given, "--output", str(tmp_path / name)]) == 0
    lines = lines_of(tmp_path / "t.jsonl")
    assert [Path(line["path"]).name for line in lines] == ["beep.wav", "hiss.flac", "hiss.wav"]
    assert [[part["label"] for part in line["segments"]] for line in lines] == [["tone"], ["noise"], []]
    assert lines[1]["segments"][0]["start"] == 0.0
    assert lines[1]["segments"][0]["end"] == lines[1]["duration"] == 1.6
    rows = rows_of(tmp_path / "t.csv")
    assert list(rows[0]) == ["path", "start", "end", "label", "peak", "mean"]
    for row, line in zip(rows, lines[:2], strict=True):
        [segment] = line["segments"]
        assert row["path"] == line["path"]
        assert {name: float(row[name]) for name in ("start", "end", "peak", "mean")} == {
            name: segment[name] for name in ("start", "end", "peak", "mean")
        }


def read_audacity(path: Path) -> list[tuple[float, float, str]]:
    """As Audacity's manual describes the format: start, end and text, separated by tabs."""
    found = []
    for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
        start, end, label = line.split("\t")
        assert re.fullmatch(r"\d+\.\d{6}", start)
        assert re.fullmatch(r"\d+\.\d{6}", end)
        found.append((float(start), float(end), label))
    return found


def test_audacity_files(folder, encoder, tmp_path):
    """One of one sound, or a folder of them."""
    assert run_tag([str(folder / "beep.wav"), "--encoder", encoder, "--output", str(tmp_path / "beep.txt")]) == 0
    [(start, end, label)] = read_audacity(tmp_path / "beep.txt")
    assert (start, end, label) == (pytest.approx(1, abs=0.33), pytest.approx(3, abs=0.33), "tone")
    for name in ("labels", "more/"):
        assert run_tag([str(folder), "--encoder", encoder, "--output", f"{tmp_path}/{name}"]) == 0
        made = {path.relative_to(tmp_path / name).as_posix() for path in (tmp_path / name).rglob("*.*")}
        assert made == {"beep.wav.txt", "deep/hiss.flac.txt", "deep/hiss.wav.txt"}
        assert read_audacity(tmp_path / name / "deep/hiss.flac.txt") == [(0.0, 1.6, "noise")]
        assert read_audacity(tmp_path / name / "deep/hiss.wav.txt") == []


def test_label_files_stay_in_their_folder(folder, encoder, tmp_path):
    sources = [f"{folder}/deep/../beep.wav", f"{folder}/deep/hiss.wav"]
    output = tmp_path / "labels/mine"
    assert run_tag([*sources, "--encoder", encoder, "--output", str(output)]) == 0
    made = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.txt")}
    assert made == {"labels/mine/beep.wav.txt", "labels/mine/deep/hiss.wav.txt"}


def test_a_label_cannot_break_a_format(folder, tmp_path, capsys):
    """Nor need it be UTF-8."""
    file = save(knowing(labels=("a\ttone\nof b\udcffep", "noise")), tmp_path / "odd.safetensors")
    given = [str(folder / "beep.wav"), "--encoder", str(file)]
    for name in ("b.csv", "b.jsonl", "b.txt"):
        assert run_tag([*given, "--output", str(tmp_path / name)]) == 0
    assert run_tag([*given, "--timeline", "--output", str(tmp_path / "t.csv")]) == 0
    assert {rows_of(tmp_path / name)[0]["label"] for name in ("b.csv", "t.csv")} == {"a\ttone\nof b\ufffdep"}
    assert lines_of(tmp_path / "b.jsonl")[0]["tags"][0]["label"] == "a\ttone\nof b\ufffdep"
    assert [label for _, _, label in read_audacity(tmp_path / "b.txt")] == ["a tone of b\ufffdep"]
    assert "b\ufffdep" in capsys.readouterr().out


def test_what_is_skipped_is_named(folder, encoder, tmp_path, capsys):
    made = make_mixed_folder(folder / "mixed")
    assert run_tag([str(folder), "--encoder", encoder, "--output", str(tmp_path / "t.csv")]) == 1
    printed = capsys.readouterr()
    assert "9 sounds" in printed.out
    assert "4 files skipped" in printed.out
    bad = {str(made[name]) for name in ("click.wav", "cut.flac", "empty.wav", "text.wav")}
    assert {line.split(": ")[1] for line in printed.err.splitlines()} == bad
    assert len({row["path"] for row in rows_of(tmp_path / "t.csv")}) == 9


def test_many_rows_are_not_all_shown_where_they_are_written(folder, encoder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command, "SHOWN", 4)
    assert run_tag([str(folder), "--encoder", encoder, "--output", str(tmp_path / "t.csv")]) == 0
    printed = capsys.readouterr().out
    assert [bool(row[0]) for row in cells(printed)] == [True, False, True, False]
    assert (
        f"the first 4 of 6 rows; all of them are in {tmp_path / 't.csv'}\n{tmp_path / 't.csv'}: 3 sounds"
        in printed
    )
    assert run_tag([str(folder), "--encoder", encoder]) == 0
    printed = capsys.readouterr().out
    assert len(cells(printed)) == 6
    assert "the first" not in printed


def test_names_given(folder, tmp_path, capsys):
    file = save(knowing(labels=()), tmp_path / "nameless.safetensors")
    given = [str(folder / "beep.wav"), "--encoder", str(file), "--top", "1"]
    assert run_tag(given) == 0
    assert cells(capsys.readouterr().out)[0][1] == "class 0"
    (tmp_path / "names.txt").write_text("Piepton\nRauschen\n")
    assert run_tag([*given, "--labels", str(tmp_path / "names.txt")]) == 0
    assert cells(capsys.readouterr().out)[0][1] == "Piepton"


def test_a_tagger_without_names_for_its_classes_says_so(folder, encoder, capsys, monkeypatch):
    def warns(*given: object) -> object:
        warnings.warn("it: put the file there", NamelessClasses, stacklevel=2)
        return load(*given)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr("matpac.files.load.load", warns)
    assert run_tag([str(folder / "beep.wav"), "--encoder", encoder]) == 0
    assert capsys.readouterr().err == "matpac tag: it: put the file there\n"


WRONG = [
    (["FOLDER", "--encoder", "ENCODER", "--top", "0"], "0"),
    (["FOLDER", "--encoder", "ENCODER", "--threshold", "2"], "2.0"),
    (["FOLDER", "--encoder", "ENCODER", "--timeline", "--threshold", "-1"], "-1.0"),
    (["FOLDER", "--encoder", "ENCODER", "--timeline", "--top", "3"], "--top"),
    (["FOLDER", "--encoder", "ENCODER", "--batch-size", "0"], "0"),
    (["FOLDER", "--encoder", "ENCODER", "--output", "tags.parquet"], "tags.parquet"),
    (["FOLDER", "--encoder", "ENCODER", "--output", "all.txt"], "all.txt"),
    (["FOLDER", "--encoder", "ENCODER", "--output", "no/tags.csv"], "no/tags.csv"),
    (["FOLDER", "--encoder", "BARE"], "bare.safetensors"),
    (["FOLDER", "--encoder", "ENCODER", "--head", "gtzan"], "matpac++"),
    (["FOLDER", "--encoder", "ENCODER", "--head", "bogus"], "bogus"),
    (["FOLDER", "--encoder", "ENCODER", "--labels", "none.txt"], "none.txt"),
    (["EMPTY", "--encoder", "ENCODER"], "empty"),
    (["BAD", "--encoder", "ENCODER", "--output", "t.csv"], "x.wav"),
]


@pytest.mark.parametrize(("given", "named"), WRONG)
def test_errors_are_one_line_and_leave_nothing(given, named, folder, encoder, tmp_path, monkeypatch, capsys):
    here = tmp_path / "here"
    here.mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/x.wav").write_text("no sound")
    save(tiny(), tmp_path / "bare.safetensors")
    monkeypatch.chdir(here)
    places = {"FOLDER": folder, "ENCODER": encoder, "EMPTY": tmp_path / "empty", "BAD": tmp_path / "bad"}
    places["BARE"] = tmp_path / "bare.safetensors"
    with pytest.raises(MatpacError) as caught:
        run_tag([str(places.get(word, word)) for word in given])
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capsys.readouterr().out == ""
    assert not list(here.iterdir())


def test_an_interruption_leaves_what_was_there(folder, encoder, tmp_path, monkeypatch):
    (tmp_path / "t.csv").write_text("before")

    def stops(tasks: object, description: str, total: int) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "track", stops)
    with pytest.raises(KeyboardInterrupt):
        run_tag([str(folder), "--encoder", encoder, "--output", str(tmp_path / "t.csv")])
    assert (tmp_path / "t.csv").read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sounds", "t.csv"]


def test_names_that_are_not_utf8(folder, encoder, tmp_path):
    odd = folder / "b\udcffep.wav"
    (folder / "beep.wav").rename(odd)
    assert run_tag([str(odd), "--encoder", encoder, "--output", str(tmp_path / "t.csv")]) == 0
    assert rows_of(tmp_path / "t.csv")[0]["path"] == str(folder / "b\ufffdep.wav")
    assert run_tag([str(odd), "--encoder", encoder, "--output", str(tmp_path / "labels")]) == 0
    assert (tmp_path / "labels/b\udcffep.wav.txt").is_file()
