"""Which shards a name means, and reading what lies at an address."""

import io
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.spec import AbstractFileSystem
from hypothesis import given
from hypothesis import strategies as st

from helpers.local_server import Reply, local_server
from helpers.shard_files import write_shards
from matpac.data.shards import addresses
from matpac.data.shards.addresses import (
    TRIES,
    beside,
    find_shards,
    is_url,
    names_shards,
    open_address,
    read_address,
)
from matpac.data.shards.tar import CutShortError, ShardError


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "PAUSE", 0.0)


def test_names_that_mean_shards(tmp_path: Path) -> None:
    odd = tmp_path / "odd{1,2}.tar folder"
    odd.mkdir()
    for data in ("a.tar", "x/{000..007}.tar", "http://h/{1,2}.tar", "s3://b/k.tar", "hf://a/b"):
        assert names_shards(data), data
    for data in ("sounds", "clips.csv", "a.wav", "c:/clips", str(odd), "{a,b}/x.wav"):
        assert not names_shards(data), data
    assert [is_url(a) for a in ("/a:b.tar", "C:/b.tar", "pipe:x", "hf://a/b.tar")] == [False, False, False, True]


def test_patterns_are_expanded_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [str(path) for path in write_shards(tmp_path, [1] * 4)]
    assert find_shards(f"{tmp_path}/{{000..003}}.tar") == paths
    assert find_shards(f"{tmp_path}/{{003,001}}.tar::{tmp_path}/002.tar") == [paths[3], paths[1], paths[2]]
    assert find_shards(f"file://{tmp_path}/{{000..001}}.tar") == paths[:2]
    assert find_shards("s3://b/{a,b}{1..2}.tar") == [f"s3://b/{name}.tar" for name in ("a1", "a2", "b1", "b2")]
    monkeypatch.chdir(tmp_path)
    assert find_shards("{001..000}.tar") == [paths[1], paths[0]]


@given(st.integers(0, 300), st.integers(0, 300), st.integers(1, 4))
def test_ranges_are_those_of_braceexpand(first: int, last: int, width: int) -> None:
    from braceexpand import braceexpand  # WebDataset's own

    pattern = f"s3://b/{{{first:0{width}d}..{last:0{width}d}}}.tar"
    assert find_shards(pattern) == list(braceexpand(pattern))


@pytest.mark.parametrize(
    ("data", "named"),
    [
        ("{000..002}.tar", r"002\.tar: .*1 of 3"),
        ("{000..001.tar", "brace"),
        ("{000,001,000}.tar", r"000\.tar: named twice"),
        ("{0..9999999}.tar", "more than 99"),
        ("{0..999999}{0..999999}.tar", "more than 99"),
    ],
)
def test_patterns_that_cannot_be(data: str, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "MOST_SHARDS", 99)
    write_shards(tmp_path, [1, 1])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ShardError, match=named):
        find_shards(data)


def test_what_lies_beside() -> None:
    assert beside("/a/b.tar", "index.json") == "/a/index.json"
    assert beside("https://h/a/b.tar?key=1", "index.json") == "https://h/a/index.json?key=1"
    assert beside("s3://bucket/b.tar", "index.json") == "s3://bucket/index.json"


# --- transfers ---------------------------------------------------------------------------------------------


class Flaky(AbstractFileSystem):
    """One file; each opening breaks off after the next number of bytes, by an error or as if that were the end."""

    protocol = "flaky"
    content = bytes(range(256)) * 40
    breaks: ClassVar[list[int]] = []
    opened, seeks, silent = 0, True, False

    def _open(self, *place: Any, **options: Any) -> Any:
        Flaky.opened += 1
        return _Breaking(Flaky.breaks.pop(0) if Flaky.breaks else len(self.content))


class _Breaking(io.BytesIO):
    def __init__(self, left: int) -> None:
        super().__init__(Flaky.content)
        self.left, self.size = left, len(Flaky.content)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        if not Flaky.seeks:
            raise ValueError("can't seek")
        return super().seek(offset, whence)

    def read(self, size: int | None = -1, /) -> bytes:
        content = super().read(min(size or 0, self.left))
        self.left -= len(content)
        if not content and self.tell() < self.size and not Flaky.silent:
            raise TimeoutError
        return content


@pytest.fixture
def flaky(monkeypatch: pytest.MonkeyPatch) -> type[Flaky]:
    fsspec.register_implementation("flaky", Flaky, clobber=True)
    monkeypatch.setattr(Flaky, "opened", 0)
    monkeypatch.setattr(Flaky, "breaks", [])
    monkeypatch.setattr(addresses, "BUFFER_BYTES", 512)
    return Flaky


@pytest.mark.parametrize("silent", [True, False])
@pytest.mark.parametrize(("seeks", "breaks"), [(True, [700, 0, 0, 900]), (False, [700, 0, 900, 2000])])
def test_a_transfer_resumes_where_it_broke_off(
    seeks: bool, silent: bool, breaks: list[int], flaky: type[Flaky], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flaky, "seeks", seeks)
    monkeypatch.setattr(flaky, "silent", silent)
    flaky.breaks[:] = breaks
    with open_address("flaky://x") as stream:
        assert stream.read() == flaky.content
    assert flaky.opened == 5
    flaky.breaks[:] = [512] + [0] * TRIES
    with open_address("flaky://x") as stream, pytest.raises(CutShortError, match=r"^flaky://x: .* byte 512 "):
        stream.read()
    assert flaky.opened == 5 + TRIES


def test_reading_all_of_an_address(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    assert read_address(str(tmp_path / "a"), 5) == read_address(f"local://{tmp_path}/a", 5) == b"12345"
    with pytest.raises(ShardError, match="more than 4 bytes"):
        read_address(f"local://{tmp_path}/a", 4)
    with pytest.raises(ShardError, match="gone: no such file"):
        read_address(f"local://{tmp_path}/gone", 4)
    with pytest.raises(ShardError, match="can't be read"):
        read_address(str(tmp_path), 4)


@pytest.mark.parametrize(("address", "named"), [("strange://x", "strange"), ("s3://bucket/a.tar", "s3fs")])
def test_protocols_that_are_not_there(address: str, named: str) -> None:
    with pytest.raises(ShardError, match=f"^{address}: .*{named}"):
        open_address(address)


def test_http_with_breaks_and_refusals() -> None:
    content = Flaky.content * 300
    with local_server() as server:
        server.files = {"/a.tar": content}
        url = f"{server.url}/a.tar"
        server.replies = [Reply(), Reply(cut=10), Reply(status=503), Reply(status=503), Reply(), Reply(cut=2**20)]
        assert read_address(url, 2**23) == content
        assert not server.replies
        server.replies = [Reply(status=403)] * 99
        with pytest.raises(CutShortError, match=rf"^{url}: .*tried {TRIES} times"):
            read_address(url, 2**23)
        server.log.clear()
        with pytest.raises(ShardError, match="gone: no such file"):
            read_address(f"{server.url}/gone", 4)
        assert [method for method, _ in server.log] == ["HEAD", "GET"]  # not tried again
    with pytest.raises(CutShortError, match=f"tried {TRIES} times"):
        read_address(url, 2**23)
