"""Reading a tar that a stranger may have made."""

import io
import tarfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.shard_files import tar_bytes
from matpac.data.shards import tar as tar_module
from matpac.data.shards.tar import MOST_MEMBER_BYTES, CutShortError, ShardError, TarReader


class Stream:
    """Gives as little as it likes at a time, and can't seek, as a pipe."""

    def __init__(self, content: bytes, most: int = 700) -> None:
        self._file, self._most = io.BytesIO(content), most

    def read(self, size: int, /) -> bytes:
        return self._file.read(min(size, self._most))


def read_all(content: bytes) -> list[tuple[str, bytes]]:
    reader = TarReader(Stream(content), "s.tar")
    return [(member.name, reader.read()) for member in reader]


PARTS = st.text(
    st.characters(codec="utf-8", exclude_categories=["C"], exclude_characters="/\\"), min_size=1
).filter(lambda part: part not in (".", "..") and part[1:2] != ":" and part.strip())
NAMES = st.lists(PARTS, min_size=1, max_size=4).map("/".join)
KINDS = st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])


@settings(deadline=None, max_examples=80)
@given(st.lists(st.tuples(NAMES, st.binary(max_size=1500)), max_size=6), KINDS)
def test_reads_what_tarfile_writes(members: list[tuple[str, bytes]], kind: int) -> None:
    content = tar_bytes(members, kind)
    assert read_all(content) == [(name.removeprefix("./"), body) for name, body in members]
    with tarfile.open(fileobj=io.BytesIO(content)) as oracle:
        places = [(info.offset_data, info.size) for info in oracle]
    assert [(m.offset, m.size) for m in TarReader(Stream(content), "s.tar")] == places  # contents not read


def test_reads_a_file_by_seeking(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(tar_bytes([("a.wav", b"x" * 5000), ("b.wav", b"y" * 513), ("c.wav", b"")]))
    with path.open("rb") as file:
        reader = TarReader(file, str(path))
        assert [reader.read() if member.name == "b.wav" else b"" for member in reader] == [b"", b"y" * 513, b""]


def test_folders_are_passed_and_names_begin_inside() -> None:
    folder = tarfile.TarInfo("./clips")
    folder.type = tarfile.DIRTYPE
    assert read_all(tar_bytes([(folder, b""), ("./clips/a.wav", b"1")])) == [("clips/a.wav", b"1")]


def special(name: str, kind: bytes, link: str = "", size: int = 0) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info, b""


HOSTILE = {
    "absolute": (("/etc/passwd", b"x"), "names a place outside"),
    "absolute within": ((".//etc/passwd", b"x"), "names a place outside"),
    "up within": (("a/../../b.wav", b"x"), "names a place outside"),
    "up of Windows": (("a\\..\\b.wav", b"x"), "names a place outside"),
    "drive": (("C:\\a.wav", b"x"), "names a place outside"),
    "control characters": (("a\x1b[2J.wav", b"x"), "can't be shown"),
    "link": (special("a.wav", tarfile.SYMTYPE, "/etc/passwd"), "is a link"),
    "hard link": (special("a.wav", tarfile.LNKTYPE, "../b"), "is a link"),
    "device": (special("a.wav", tarfile.CHRTYPE), "is a device"),
    "block device": (special("a.wav", tarfile.BLKTYPE), "is a device"),
    "fifo": (special("a.wav", tarfile.FIFOTYPE), "is a device"),
    "contiguous": (special("a.wav", tarfile.CONTTYPE), "is sparse or of an unknown kind"),
    "sparse": (special("a.wav", tarfile.GNUTYPE_SPARSE), "is sparse or"),
    "unknown": (special("a.wav", b"Z"), "of an unknown kind"),
    "huge": (
        special("a.wav", tarfile.REGTYPE, size=MOST_MEMBER_BYTES + 1),
        "the most is 1073741824; it isn't read",
    ),
    "more than huge": (special("a.wav", tarfile.REGTYPE, size=2**70), "the most is 1073741824"),
    "promises more": (special("a.wav", tarfile.REGTYPE, size=10**9), "cut short"),
    "negative": (special("a.wav", tarfile.REGTYPE, size=-3), "has -3 bytes"),
    "huge header": (special("a.wav", tarfile.GNUTYPE_LONGNAME, size=2**33), "a header of 8589934592 bytes"),
    "huge pax": (special("a.wav", tarfile.XHDTYPE, size=2**33), "a header of 8589934592 bytes"),
    "negative header": (special("a.wav", tarfile.XHDTYPE, size=-3000), "a header of -2560 bytes"),
    "headers without end": ((special("a.wav", tarfile.GNUTYPE_LONGNAME)[0], b""), "a header of 512 bytes"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_members_end_in_a_clear_error(name: str) -> None:
    member, message = HOSTILE[name]
    repeats = 200 if name == "headers without end" else 1
    content = tar_bytes([("good.wav", b"1"), *[member] * repeats], tarfile.GNU_FORMAT)
    reader = TarReader(Stream(content), "s.tar")
    members = iter(reader)
    assert next(members).name == "good.wav"
    assert reader.read() == b"1"
    with pytest.raises(ShardError, match=r"^s\.tar: ") as error:
        _ = [reader.read() for _ in members]
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert "\x1b" not in str(error.value)


def pax(records: bytes, name: str = "a.wav", body: bytes = b"xy") -> bytes:
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, len(records)
    padded = records + bytes(-len(records) % 512)
    member = tarfile.TarInfo(name)
    member.size = len(body)
    return header.tobuf() + padded + member.tobuf() + body + bytes(-len(body) % 512) + bytes(1024)


def record(key: str, value: str) -> bytes:
    body = f" {key}={value}\n".encode()
    size = len(body) + 2
    return f"{size:02d}".encode() + body if size < 100 else f"{size + 1}".encode() + body


@pytest.mark.parametrize(
    ("records", "message"),
    [
        (record("path", "../b.wav"), "names a place outside"),
        (record("size", str(2**40)), "the most is 1073741824"),
        (record("size", "-1"), "has -1 bytes"),
        (record("size", "²"), "damaged at byte 1536"),
        (record("GNU.sparse.major", "1"), "is sparse"),
        (record("GNU.sparse.map", "words"), "damaged at byte 0"),
        (b"99 path=a\n", "can't be shown"),
        (b"0 path=a\n", "damaged at byte 0"),
        (b"9" * 5000 + b" path=a\n", "damaged at byte 0"),
    ],
)
def test_hostile_pax_headers(records: bytes, message: str) -> None:
    with pytest.raises(ShardError, match=message):
        read_all(pax(records))


def test_pax_names_and_sizes_are_used() -> None:
    assert read_all(pax(record("path", "long/name.wav") + record("size", "1"), body=b"x")) == [
        ("long/name.wav", b"x")
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cut short: ends at byte 0"),
        (b"\x1f\x8b" + b"z" * 600, "unpack it if it is compressed"),
        (b"words" * 200, "no tar, or damaged at byte 0"),
    ],
)
def test_what_is_no_tar(content: bytes, message: str) -> None:
    with pytest.raises(ShardError, match=message):
        read_all(content)


GOOD = tar_bytes([("a.flac", b"q" * 900), ("a.json", b"{}"), ("b" * 120 + ".flac", b"r" * 30)], tarfile.GNU_FORMAT)
END = GOOD.rstrip(b"\0")
END = len(END) + -len(END) % 512


@settings(deadline=None, max_examples=80)
@given(st.integers(0, END))
def test_every_cut_is_seen(at: int) -> None:
    with pytest.raises(CutShortError, match="cut short"):
        read_all(GOOD[:at])


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(st.integers(0, END + 511), st.integers(0, 255)), min_size=1, max_size=4))
def test_any_damage_ends_in_a_shard_error_or_in_members_within_the_tar(changes: list[tuple[int, int]]) -> None:
    content = bytearray(GOOD)
    for place, value in changes:
        content[place] = value
    found = []
    with suppress(ShardError):
        found = read_all(bytes(content))
    assert sum(len(body) for _, body in found) < len(content)


def test_a_size_that_lies_takes_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Counting(Stream):
        def read(self, size: int, /) -> bytes:
            asked.append(size)
            return super().read(size)

    content = tar_bytes([special("a.wav", tarfile.REGTYPE, size=10**9)])
    reader = TarReader(Counting(content), "s.tar")
    assert next(iter(reader)).size == 10**9
    with pytest.raises(CutShortError):
        reader.read()
    assert max(asked) <= tar_module.READ_BYTES
