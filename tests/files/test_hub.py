"""Names to files: downloads, the cache, what is reported without a connection, and a stand-in for the hub."""

import re
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from helpers.local_server import COMMIT, Reply, local_server, use_as_hub
from matpac.files import hub
from matpac.files.hub import DownloadError, Published, cache_folder, choose, hub_file, published_file

WEIGHTS = bytes(range(256)) * 5000  # more than one block


@pytest.fixture
def nowhere() -> str:
    """The address of a server that has gone."""
    with local_server() as local:
        return local.url


@pytest.fixture(autouse=True)
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("MATPAC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with local_server() as local:
        use_as_hub(monkeypatch, local.url, tmp_path / "hub")
        local.files["/enc.pt"] = WEIGHTS
        local.repositories["someone/encoder"] = {"README.md": b"hello", "model.safetensors": WEIGHTS}
        monkeypatch.setitem(hub.PUBLISHED, "matpac", Published("mine.pt", url=f"{local.url}/enc.pt"))
        yield local


def test_the_table_is_that_of_the_papers_authors():
    files = ["mine.pt"]  # of the fixture
    files += [f"matpac_plus_{name}_enconly.pt" for name in ("6s_2048", "music_6s_2048", "as_48_1_map")]
    assert [published.file for published in hub.PUBLISHED.values()] == [
        *files,
        "matpac_plus_as_48_1_map_enc_and_head.pt",
    ]
    assert hub.RELEASE == "https://github.com/aurianworld/matpac/releases/download/Initial_release"
    assert all(bool(published.url) != bool(published.repository) for published in hub.PUBLISHED.values())


def test_cache_folder(tmp_path, monkeypatch):
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.setenv("MATPAC_CACHE", "~/weights")
    assert cache_folder() == Path.home() / "weights"
    monkeypatch.delenv("MATPAC_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "matpac"
    for unset in ("", "relative/is/ignored"):
        monkeypatch.setenv("XDG_CACHE_HOME", unset)
        assert cache_folder() == Path.home() / ".cache" / "matpac"


def test_a_published_file_is_downloaded_once_by_all(server, tmp_path, capsys):
    server.replies = [Reply(location="/enc.pt")]  # redirected, as releases are
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(published_file, ["matpac"] * 4))
    assert set(found) == {tmp_path / "cache" / "mine.pt"}
    assert found[0].read_bytes() == WEIGHTS
    assert len(server.log) == 2
    assert {path.name for path in (tmp_path / "cache").iterdir()} - {"mine.pt.lock"} == {"mine.pt"}
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("reply", [Reply(status=503), Reply(cut=1000), Reply(length=len(WEIGHTS) + 10)])
def test_passing_failures_are_tried_again(server, reply):
    server.replies = [reply, reply]
    assert published_file("matpac").read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(status=404), "404"),
        (Reply(cut=1000), "IncompleteRead|broken"),
        (Reply(length=-1), "unknown number of bytes"),
        (Reply(length=2**40), f"{2**40} bytes"),
        (Reply(location="http://localhost:{port}/enc.pt"), "only https"),
    ],
)
def test_what_is_not_the_file_is_refused(server, tmp_path, reply, reason):
    reply.location = reply.location.format(port=server.url.rpartition(":")[2])
    server.replies = [reply] * (1 if reply.location else 9)
    with pytest.raises(DownloadError, match=reason) as caught:
        published_file("matpac")
    assert str(tmp_path / "cache" / "mine.pt") in str(caught.value)
    assert {path.name for path in (tmp_path / "cache").iterdir()} <= {"mine.pt.lock"}


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(DownloadError, match=re.escape(str(tmp_path / "cache"))):
        published_file("matpac")


@pytest.mark.parametrize("name", ["matpac", "matpac++"])
def test_without_a_connection_it_says_where_to_put_the_file(tmp_path, monkeypatch, nowhere, name):
    use_as_hub(monkeypatch, nowhere, tmp_path / "hub")
    monkeypatch.setitem(hub.PUBLISHED, "matpac", Published("mine.pt", url=f"{nowhere}/enc.pt"))
    place = tmp_path / "cache" / hub.PUBLISHED[name].file
    address = {
        "matpac": f"{nowhere}/enc.pt",
        "matpac++": "https://huggingface.co/auriankelen/matpac_general_audio",
    }
    with pytest.raises(DownloadError) as caught:
        published_file(name)
    message = str(caught.value)
    assert address[name] in message
    assert message.endswith(f"put it there: {place}")
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(b"by hand")
    assert published_file(name) == place


def test_published_through_the_hub_once_and_others_are_asked_for_a_newer_file(server):
    server.repositories["auriankelen/matpac_music"] = {"weights.pt": WEIGHTS}
    assert published_file("matpac++-music").read_bytes() == WEIGHTS
    asked = len(server.log)
    assert published_file("matpac++-music").read_bytes() == WEIGHTS
    assert len(server.log) == asked
    hub_file("someone/encoder")
    server.repositories["someone/encoder"]["model.safetensors"] = b"newer"
    server.commit = COMMIT[::-1]
    assert hub_file("someone/encoder").read_bytes() == b"newer"


@pytest.mark.parametrize("revision", ["", "@v1", f"@{COMMIT}"])
def test_a_revision(server, revision):
    assert hub_file(f"someone/encoder{revision}").read_bytes() == WEIGHTS
    wanted = revision.removeprefix("@") or "main"
    assert ("HEAD", f"/someone/encoder/resolve/{wanted}/model.safetensors") in server.log


@pytest.mark.parametrize(("file", "offline"), [("model.safetensors", False), ("folder/weights.pt", True)])
def test_what_was_fetched_once_is_there_without_a_connection(
    server, nowhere, tmp_path, monkeypatch, file, offline
):
    server.repositories["someone/encoder"] = {"README.md": b"hello", file: WEIGHTS}
    assert hub_file("someone/encoder").as_posix().endswith(file)
    asked = len(server.log)
    if offline:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    else:
        use_as_hub(monkeypatch, nowhere, tmp_path / "hub")
    assert hub_file("someone/encoder").read_bytes() == WEIGHTS
    assert len(server.log) == asked
    with pytest.raises(DownloadError, match="hub:someone/other: no connection"):
        hub_file("someone/other")


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("someone/nothing", "no such repository, or a private one"),
        ("someone/encoder@v2", "no such revision"),
        ("encoder", "hub:owner/name"),
        ("../../etc/passwd", "hub:owner/name"),
        ("someone/en..coder", "hub:someone/en..coder: "),
    ],
)
def test_errors_in_one_line(reference, message):
    with pytest.raises(DownloadError, match=re.escape(message)) as caught:
        hub_file(reference)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("order", [list, reversed])
@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["model.safetensors", "a.pt", "x.safetensors"], "model.safetensors"),
        (["a.pt", "b.bin", "x.safetensors"], "x.safetensors"),
        (["README.md", "a.pt", "x.onnx"], "a.pt"),
        (["README.md", "x.onnx"], "x.onnx"),
        (["a.pt", "b.bin"], r"several files of weights \(a\.pt, b\.bin\)"),
        (["x.onnx", "y.onnx"], r"several files of weights \(x\.onnx, y\.onnx\)"),
        (["README.md"], "no file of weights among 1"),
    ],
)
def test_which_file_is_meant(files, expected, order):
    find = partial(choose, list(order(files)), "a/b")
    if expected in files:
        assert find() == expected
    else:
        with pytest.raises(DownloadError, match=f"hub:a/b: {expected}"):
            find()
