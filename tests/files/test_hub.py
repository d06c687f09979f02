"""Names to files: the cache, what is said without a connection, and a stand-in for the hub."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.local_server import COMMIT, local_server
from matpac.files import hub
from matpac.files.hub import Published, cache_folder, choose, hub_file, published_file
from matpac.files.hub.receipts import DownloadError

WEIGHTS = b"weights"


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    monkeypatch.setenv("MATPAC_CACHE", str(tmp_path / "matpac"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("matpac.files.hub.downloads.PAUSE", 0.0)


@pytest.fixture
def server():
    with local_server() as local:
        local.repositories["someone/encoder"] = {"README.md": b"hello", "model.safetensors": WEIGHTS}
        yield local


def test_the_table_is_that_of_the_papers_authors():
    assert list(hub.PUBLISHED) == [
        "matpac",
        "matpac++",
        "matpac++-music",
        "matpac++-audioset",
        "matpac++-audioset-tagger",
    ]
    assert hub.PUBLISHED["matpac"].address == (
        "https://github.com/aurianworld/matpac/releases/download/Initial_release/matpac_10_2048.pt"
    )
    for name, published in hub.PUBLISHED.items():
        assert bool(published.url) != bool(published.repository), name
    assert len({published.file for published in hub.PUBLISHED.values()}) == len(hub.PUBLISHED)


def test_cache_folder(tmp_path, monkeypatch):
    assert cache_folder() == tmp_path / "matpac"
    monkeypatch.setenv("MATPAC_CACHE", "~/weights")
    assert cache_folder() == Path.home() / "weights"
    monkeypatch.delenv("MATPAC_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "matpac"
    for unset in ("", "relative/is/ignored"):
        monkeypatch.setenv("XDG_CACHE_HOME", unset)
        assert cache_folder() == Path.home() / ".cache" / "matpac"


def test_a_published_name_is_downloaded_once(server, tmp_path, monkeypatch):
    server.files["/enc.pt"] = WEIGHTS
    monkeypatch.setitem(hub.PUBLISHED, "matpac", Published("mine.pt", url=f"{server.url}/enc.pt"))
    assert published_file("matpac") == tmp_path / "matpac" / "mine.pt"
    assert published_file("matpac").read_bytes() == WEIGHTS
    assert len(server.log) == 1


def test_a_changed_file_is_noticed(server, tmp_path, monkeypatch):
    server.files["/enc.pt"] = WEIGHTS
    monkeypatch.setitem(hub.PUBLISHED, "matpac", Published("mine.pt", url=f"{server.url}/enc.pt"))
    published_file("matpac").write_bytes(WEIGHTS[::-1])
    published_file("matpac")
    with pytest.raises(DownloadError, match="delete it"):
        published_file("matpac", hashed=True)
    (tmp_path / "matpac/mine.pt").write_bytes(WEIGHTS[:-1])
    with pytest.raises(DownloadError, match="delete it"):
        published_file("matpac")


@pytest.fixture
def nowhere() -> str:
    """The address of a server that has gone."""
    with local_server() as local:
        return local.url


def test_without_a_connection_it_says_where_to_put_the_file(tmp_path, monkeypatch, nowhere):
    url = f"{nowhere}/enc.pt"
    monkeypatch.setitem(hub.PUBLISHED, "matpac", Published("mine.pt", url=url))
    with pytest.raises(DownloadError) as caught:
        published_file("matpac")
    place = tmp_path / "matpac" / "mine.pt"
    assert str(caught.value).startswith("matpac: ")
    assert str(caught.value).endswith(f"fetch mine.pt from {url} and put it there: {place}")
    place.write_bytes(b"by hand")
    assert published_file("matpac") == place


def test_without_a_connection_to_the_hub_too(tmp_path, nowhere):
    with pytest.raises(DownloadError) as caught:
        published_file("matpac++", endpoint=nowhere)
    place = tmp_path / "matpac" / "matpac_plus_6s_2048_enconly.pt"
    message = str(caught.value)
    assert message.startswith("matpac++: ")
    assert "no connection to the hub" in message
    assert message.endswith(
        f"from https://huggingface.co/auriankelen/matpac_general_audio and put it there: {place}"
    )
    place.parent.mkdir()
    place.write_bytes(b"by hand")
    assert published_file("matpac++", endpoint=nowhere) == place


def test_published_through_the_hub_once(server):
    server.repositories["auriankelen/matpac_music"] = {"weights.pt": WEIGHTS}
    assert published_file("matpac++-music", endpoint=server.url).read_bytes() == WEIGHTS
    asked = len(server.log)
    assert published_file("matpac++-music", endpoint=server.url).read_bytes() == WEIGHTS
    assert len(server.log) == asked


def test_a_repository_is_asked_for_a_newer_file(server):
    hub_file("someone/encoder", server.url)
    server.repositories["someone/encoder"]["model.safetensors"] = b"newer"
    server.commit = COMMIT[::-1]
    assert hub_file("someone/encoder", server.url).read_bytes() == b"newer"


@pytest.mark.parametrize("revision", ["", "@v1", f"@{COMMIT}"])
def test_a_repository(server, revision):
    assert hub_file(f"someone/encoder{revision}", server.url).read_bytes() == WEIGHTS
    wanted = revision.removeprefix("@") or "main"
    assert ("HEAD", f"/someone/encoder/resolve/{wanted}/model.safetensors", None) in server.log


@pytest.mark.parametrize("file", ["enc.safetensors", "folder/weights.pt", "pytorch_model.bin", "a.pth"])
def test_a_repository_with_another_name_for_its_file(server, file):
    server.repositories["someone/encoder"] = {"README.md": b"hello", file: WEIGHTS}
    path = hub_file("someone/encoder", server.url)
    assert path.read_bytes() == WEIGHTS
    assert path.as_posix().endswith(file)


@pytest.mark.parametrize("file", ["model.safetensors", "weights.pt"])
def test_what_was_fetched_once_is_there_without_a_connection(server, nowhere, file):
    server.repositories["someone/encoder"] = {"README.md": b"hello", file: WEIGHTS}
    hub_file("someone/encoder", server.url)
    assert hub_file("someone/encoder", nowhere).read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("someone/nothing", "no such repository, or a private one"),
        ("someone/encoder@v2", "no revision v2"),
        ("encoder", "hub:owner/name"),
        ("a/b/c", "hub:owner/name"),
        ("../../etc/passwd", "hub:owner/name"),
        ("someone/en..coder", "hub:someone/en..coder: "),
    ],
)
def test_errors_in_one_line(server, reference, message):
    with pytest.raises(DownloadError, match=re.escape(message)) as caught:
        hub_file(reference, server.url)
    assert "\n" not in str(caught.value)


def test_which_file_is_meant():
    assert choose(["x.safetensors", "model.safetensors", "a.pt"], "a/b") == "model.safetensors"
    assert choose(["x.safetensors", "a.pt", "b.bin"], "a/b") == "x.safetensors"
    assert choose(["README.md", "a.pt"], "a/b") == "a.pt"


def test_several_files_or_none(server):
    server.repositories["someone/encoder"] = {"a.pt": WEIGHTS, "b.bin": WEIGHTS}
    with pytest.raises(DownloadError, match=r"several files of weights \(a\.pt, b\.bin\)"):
        hub_file("someone/encoder", server.url)
    server.repositories["someone/encoder"] = {"README.md": b"hello"}
    with pytest.raises(DownloadError, match="no file of weights among 1"):
        hub_file("someone/encoder", server.url)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.sampled_from(["a.pt", "b.bin", "c.pth", "d.safetensors", "e.safetensors", "README"]), unique=True)
)
def test_the_order_of_files_does_not_matter(files):
    def outcome(files: list[str]) -> str:
        try:
            return choose(files, "a/b")
        except DownloadError as error:
            return str(error)

    assert outcome(files) == outcome(files[::-1])
