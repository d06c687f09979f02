"""A folder of parts: whole or not there, one encoder's, and read as one table."""

import json
from pathlib import Path

import numpy as np
import pytest
from pyarrow import dataset, parquet

from matpac import MatpacError
from matpac.vectors import vector_parts
from matpac.vectors.vector_parts import VectorParts, open_vector_parts, write_left_out

ABOUT = {"encoder": {"name": "mine"}, "encoder_key": "a" * 64, "frames": False, "layers": False}


def add(parts: VectorParts, name: str, rows: int = 1) -> None:
    for _ in range(rows):
        parts.write(name, 1.5, np.full((2, 3), len(name), np.float32))
    parts.end_clip()


def paths_in(folder: Path) -> list[str]:
    return sorted(set(dataset.dataset(folder).to_table()["path"].to_pylist()))


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir() if not file.name.startswith("."))


def test_parts_are_closed_between_clips_by_size_and_by_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector_parts, "PART_BYTES", 2 * 24)
    with open_vector_parts(tmp_path / "v", ABOUT) as parts:
        for name in ("a", "b", "c"):
            add(parts, name)
        add(parts, "d", 5)
        assert names(tmp_path / "v") == ["part-0-0.parquet", "part-0-1.parquet"]
    assert [parquet.read_metadata(file).num_rows for file in sorted((tmp_path / "v").glob("p*"))] == [4, 12]
    monkeypatch.setattr(vector_parts, "PART_SECONDS", 0.0)
    with open_vector_parts(tmp_path / "v", ABOUT) as parts:
        add(parts, "e")
        add(parts, "f")
    assert names(tmp_path / "v") == [f"part-0-{number}.parquet" for number in range(4)]
    assert paths_in(tmp_path / "v") == list("abcdef")


def test_ranks_do_not_meet_and_all_see_what_is_done(tmp_path: Path) -> None:
    with open_vector_parts(tmp_path / "v", ABOUT, 0) as one, open_vector_parts(tmp_path / "v", ABOUT, 10) as other:
        add(one, "a")
        add(other, "b")
        assert one.done() == {}
    with open_vector_parts(tmp_path / "v", ABOUT, 1) as parts:
        done = parts.done()
        assert set(done) == {"a", "b"}
        assert done["a"] == (tmp_path / "v" / "part-0-0.parquet").stat().st_mtime
        add(parts, "c")
    assert names(tmp_path / "v") == ["part-0-0.parquet", "part-1-0.parquet", "part-10-0.parquet"]
    schema = dataset.dataset(tmp_path / "v").schema
    assert json.loads((schema.metadata or {})[b"matpac"]) == ABOUT


def test_an_error_between_clips_loses_nothing_and_one_within_a_clip_the_part(tmp_path: Path) -> None:
    def stop(after: str, whole: bool) -> None:
        with open_vector_parts(tmp_path / "v", ABOUT) as parts:
            add(parts, after)
            if not whole:
                parts.write("half", 1.5, np.zeros((1, 3), np.float32))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop("a", whole=True)
    assert paths_in(tmp_path / "v") == ["a"]
    with pytest.raises(KeyboardInterrupt):
        stop("b", whole=False)
    assert paths_in(tmp_path / "v") == ["a"]
    assert names(tmp_path / "v") == ["part-0-0.parquet"]
    assert not list((tmp_path / "v").glob(".part*"))


def test_drafts_of_a_killed_run_go(tmp_path: Path) -> None:
    with open_vector_parts(tmp_path / "v", ABOUT) as parts:
        add(parts, "a")
    drafts = [tmp_path / "v" / f".part-{rank}-1-12345678.parquet" for rank in range(3)]
    with open_vector_parts(tmp_path / "v", ABOUT, 1):
        for draft in drafts:
            draft.touch()
        with open_vector_parts(tmp_path / "v", ABOUT) as parts:
            assert set(parts.done()) == {"a"}
        assert [draft.exists() for draft in drafts] == [False, True, False]  # rank 1 is at work


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"encoder": {"name": "yours"}, "encoder_key": "b" * 64},
            r"part-0-0\.parquet: holds scenes of the last layer of mine \(a{12}\), and these would be scenes "
            r"of the last layer of yours \(b{12}\); write to another folder",
        ),
        ({"frames": True}, "holds scenes of the last layer .* would be frames of the last layer"),
        ({"layers": True}, "holds scenes of the last layer .* would be scenes of all layers"),
    ],
)
def test_parts_of_other_settings_are_refused_by_name(change: dict, said: str, tmp_path: Path) -> None:
    with open_vector_parts(tmp_path / "v", ABOUT) as parts:
        add(parts, "a")
    with open_vector_parts(tmp_path / "v", {**ABOUT, **change}) as parts, pytest.raises(MatpacError, match=said):
        parts.done()
    with open_vector_parts(tmp_path / "v", {**ABOUT, "encoder": {"name": "its other name"}}) as parts:
        assert set(parts.done()) == {"a"}


def test_parts_named_from_another_folder_are_refused(tmp_path: Path) -> None:
    """Also beside parts without one: of absolute paths, or of an earlier release."""

    def done(place: str | None) -> set[str]:
        with open_vector_parts(tmp_path / "v", {**ABOUT, "working_folder": place}) as parts:
            return set(parts.done())

    with open_vector_parts(tmp_path / "v", ABOUT) as parts:
        add(parts, "a")
    assert done("/p") == done("/q") == {"a"}
    with open_vector_parts(tmp_path / "v", {**ABOUT, "working_folder": "/p"}) as parts:
        add(parts, "b")
    assert done("/p") == done(None) == {"a", "b"}
    told = (
        r"part-0-1\.parquet: names its sounds from /p; these, from /q, may be others of the same names; "
        "go on from there, name them by absolute paths or write to another folder"
    )
    with pytest.raises(MatpacError, match=told):
        done("/q")


def test_what_is_no_part_is_refused(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    part = tmp_path / "v" / "part-0-0.parquet"
    part.write_bytes(b"cut short")
    with (
        open_vector_parts(tmp_path / "v", ABOUT) as parts,
        pytest.raises(MatpacError, match=r"part-0-0\.parquet: no"),
    ):
        parts.done()
    part.rename(tmp_path / "v" / "mine.parquet")
    with (
        pytest.raises(MatpacError, match=r"mine\.parquet: no part that matpac embed wrote"),
        open_vector_parts(tmp_path / "v", ABOUT),
    ):
        pass
    with (
        pytest.raises(MatpacError, match=r"there is no folder .*missing"),
        open_vector_parts(tmp_path / "missing" / "v", ABOUT),
    ):
        pass


def test_one_process_a_rank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_parts, "LOCK_SECONDS", 0.0)
    with (
        open_vector_parts(tmp_path / "v", ABOUT, 3),
        pytest.raises(MatpacError, match=r"another process writes to it \(rank 3\)"),
        open_vector_parts(tmp_path / "v", ABOUT, 3),
    ):
        pass
    with open_vector_parts(tmp_path / "v", ABOUT, 3):
        pass


def test_what_was_left_out_is_written_down(tmp_path: Path) -> None:
    for rank in range(4):
        write_left_out(tmp_path, rank, 4, [(f"{rank}.wav", "empty"), ("ä.wav", "nöt")])
    write_left_out(tmp_path, 0, 2, [])
    assert names(tmp_path) == ["_left_out-0.jsonl", "_left_out-1.jsonl"]
    assert (tmp_path / "_left_out-0.jsonl").read_text() == ""
    lines = (tmp_path / "_left_out-1.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [
        {"path": "1.wav", "reason": "empty"},
        {"path": "ä.wav", "reason": "nöt"},
    ]
