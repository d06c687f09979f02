"""Which files are new, changed, the same, gone."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matpac.audio import AudioError
from matpac.vectors.states import (
    UNREADABLE,
    FileState,
    Listing,
    compare,
    list_sounds,
    path_text,
    text_path,
)

NAMES = st.sampled_from([f"/no/such/{folder}/{n}.wav" for folder in ("a", "ab", "b") for n in range(3)])
STATES = st.tuples(st.integers(0, 2), st.integers(0, 2))


@given(there=st.dictionaries(NAMES, STATES), known=st.dictionaries(NAMES, STATES))
def test_every_file_has_one_fate(there: dict[str, tuple[int, int]], known: dict[str, tuple[int, int]]) -> None:
    """None of the names is on this machine's disk: what is not listed is gone."""
    there = {path: state for path, state in there.items() if path.startswith("/no/such/a/")}
    listed = {path: FileState(*state) for path, state in there.items()}
    found = compare(Listing(["/no/such/a"], listed), {path: FileState(*state) for path, state in known.items()})
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
    listing = list_sounds([os.path.relpath(tmp_path), tmp_path / "b.wav"])
    relative = os.path.relpath(tmp_path)
    assert listing.files.keys() == {
        *(os.path.join(relative, name) for name in ("a/c.flac", "b.wav", "to_nothing.wav")),  # noqa: PTH118
        str(tmp_path / "b.wav"),
    }
    assert listing.files[str(tmp_path / "b.wav")] == FileState(5, 123_456_789)
    assert listing.files[os.path.join(relative, "to_nothing.wav")] == UNREADABLE  # noqa: PTH118
    assert not UNREADABLE.is_same(UNREADABLE)
    with pytest.raises(AudioError, match="missing"):
        list_sounds([tmp_path / "missing"])


@given(
    name=st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=9)
    | st.binary(max_size=9).map(lambda name: os.fsdecode(name.replace(b"\0", b"")))
    | st.text("\\udc8\udcff", max_size=9)
)
def test_any_name_is_text_and_back(name: str) -> None:
    text = path_text(name)
    assert text_path(text) == name
    text.encode("utf-8")
    if "\\udc" not in name and text != name:
        assert any("\udc80" <= letter <= "\udcff" for letter in name)
