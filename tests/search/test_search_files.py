"""Which files are new, changed, the same, gone."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matpac.audio import AudioError
from matpac.search.files import FileState, Listing, compare, list_sounds

NAMES = st.sampled_from([f"/no/such/{folder}/{n}.wav" for folder in ("a", "ab", "b") for n in range(3)])
STATES = st.tuples(st.integers(0, 2), st.integers(0, 2))


@given(there=st.dictionaries(NAMES, STATES), known=st.dictionaries(NAMES, STATES))
def test_every_file_has_one_fate(there: dict[str, tuple[int, int]], known: dict[str, tuple[int, int]]) -> None:
    """None of the names is on this machine's disk: what is not listed is gone."""
    there = {path: state for path, state in there.items() if path.startswith("/no/such/a/")}
    listed = {path: FileState(*state) for path, state in there.items()}
    tagged = {path: FileState(*state, ("dog",)) for path, state in known.items()}  # tags don't matter
    found = compare(Listing(["/no/such/a"], listed), tagged)
    below = {path for path in known if path.startswith("/no/such/a/")}  # and not /no/such/ab
    assert {*found.todo, *found.unchanged} == there.keys()
    assert not {*found.todo} & {*found.unchanged}
    assert {*found.unchanged} == {path for path in there if known.get(path) == there[path]}
    assert {*found.gone} == (below - there.keys() if there else set())
    assert found.emptied == ({} if there or not below else {"/no/such/a": len(below)})
    assert found.below == len(below)


def test_of_a_source_that_lists_nothing_none_is_gone() -> None:
    """Whatever the other sources list, one that it lies in too."""
    known = {f"/no/such/{name}.wav": FileState(1, 1) for name in ("a/1", "a/2", "a/b/3", "a/b/4", "c/5")}
    listing = Listing(["/no/such/a", "/no/such/a/b", "/no/such/d"], {"/no/such/a/1.wav": FileState(1, 1)})
    found = compare(listing, known)
    assert found.gone == ["/no/such/a/2.wav"]
    assert found.emptied == {"/no/such/a/b": 2}


def test_listing(tmp_path: Path) -> None:
    for name in ("b.wav", "a/c.flac", "notes.txt", ".hidden.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"12345")
    os.utime(tmp_path / "b.wav", ns=(0, 123_456_789))
    (tmp_path / "to_nothing.wav").symlink_to(tmp_path / "nothing")
    listing = list_sounds([os.path.relpath(tmp_path)])
    assert listing.files.keys() == {str(tmp_path / "b.wav"), str(tmp_path / "a/c.flac")}
    assert listing.files[str(tmp_path / "b.wav")] == FileState(5, 123_456_789)
    assert [(item.path, item.reason) for item in listing.left_out] == [
        (str(tmp_path / "to_nothing.wav"), "No such file or directory; check the path")
    ]
    with pytest.raises(AudioError, match="no such file or folder"):
        list_sounds([tmp_path / "missing"])


def test_names_that_are_not_text_are_named(tmp_path: Path) -> None:
    strange = os.fsencode(tmp_path) + b"/caf\xe9.wav"
    try:
        Path(os.fsdecode(strange)).write_bytes(b"1")
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    listing = list_sounds([tmp_path])
    assert not listing.files
    assert [item.reason for item in listing.left_out] == ["its name is not UTF-8; rename it"]


def test_a_file_named_itself_is_not_gone_when_its_folder_is_listed(tmp_path: Path) -> None:
    sound = tmp_path / "sound.raw"
    sound.write_bytes(b"1")
    (tmp_path / "other.wav").write_bytes(b"1")
    assert compare(list_sounds([tmp_path]), {str(sound): FileState(1, 1)}).gone == []
    sound.unlink()
    assert compare(list_sounds([tmp_path]), {str(sound): FileState(1, 1)}).gone == [str(sound)]
