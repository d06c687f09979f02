"""Downloads from a server on this machine that breaks off, lies and fails."""

import json
import threading
from hashlib import sha256
from pathlib import Path

import pytest

from helpers.local_server import Reply, local_server
from matpac.files.hub import downloads as module
from matpac.files.hub.downloads import download
from matpac.files.hub.receipts import DownloadError, check

CONTENT = bytes(range(256)) * 5000  # more than one block


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with local_server() as local:
        local.files["/enc.pt"] = CONTENT
        yield local


def fetch(server, folder: Path) -> Path:
    return download(f"{server.url}/enc.pt", folder / "cache" / "enc.pt", pause=0.0)


def ranges(server) -> list[str | None]:
    return [wanted for _, _, wanted in server.log]


def left_in(folder: Path) -> set[str]:
    return {path.name for path in (folder / "cache").iterdir()} - {"enc.pt.lock"}


def test_file_and_receipt(server, tmp_path):
    path = fetch(server, tmp_path)
    assert path.read_bytes() == CONTENT
    assert left_in(tmp_path) == {"enc.pt", "enc.pt.json"}
    assert json.loads((tmp_path / "cache/enc.pt.json").read_text()) == {
        "url": f"{server.url}/enc.pt",
        "etag": '"one"',
        "size": len(CONTENT),
        "sha256": sha256(CONTENT).hexdigest(),
    }
    assert fetch(server, tmp_path) == path
    assert len(server.log) == 1, "the second time nothing is fetched"


def test_goes_on_where_the_connection_broke(server, tmp_path):
    server.replies = [Reply(cut=1000), Reply(cut=500)]
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert ranges(server) == [None, "bytes=1000-", "bytes=1500-"]


def test_goes_on_in_a_later_call(server, tmp_path):
    server.replies = [Reply(cut=1000)] + [Reply(status=503)] * module.TRIES
    with pytest.raises(DownloadError, match=r"503.*the first 0\.0 MB are kept"):
        fetch(server, tmp_path)
    assert left_in(tmp_path) == {"enc.pt.part", "enc.pt.part.json"}
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert ranges(server)[-1] == "bytes=1000-"


def test_a_whole_part_is_not_fetched_again(server, tmp_path):
    path = fetch(server, tmp_path)
    receipt = path.with_name("enc.pt.json")
    path.rename(path.with_name("enc.pt.part"))
    receipt.rename(path.with_name("enc.pt.part.json"))
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert len(server.log) == 1


def test_a_changed_file_begins_anew(server, tmp_path):
    server.replies = [Reply(cut=1000)] + [Reply(status=500)] * module.TRIES
    with pytest.raises(DownloadError):
        fetch(server, tmp_path)
    server.etag, server.files["/enc.pt"] = '"two"', CONTENT[::-1]
    assert fetch(server, tmp_path).read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_without_a_strong_etag_begins_anew(server, tmp_path, etag):
    server.etag = etag
    server.replies = [Reply(cut=1000)]
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert ranges(server) == [None, None]


def test_a_part_longer_than_the_file_begins_anew(server, tmp_path):
    server.replies = [Reply(cut=1000)] + [Reply(status=500)] * module.TRIES
    with pytest.raises(DownloadError):
        fetch(server, tmp_path)
    (tmp_path / "cache/enc.pt.part").write_bytes(CONTENT + b"more")
    server.replies = [Reply(status=416)]
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert ranges(server)[-1] is None


@pytest.mark.parametrize("status", [429, 500, 503])
def test_passing_errors_are_tried_again(server, tmp_path, status):
    server.replies = [Reply(status=status)] * (module.TRIES - 1)
    assert fetch(server, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("status", [403, 404])
def test_lasting_errors_are_not(server, tmp_path, status):
    server.replies = [Reply(status=status)]
    with pytest.raises(DownloadError, match=f"answered {status}.*put it there: .*enc.pt$"):
        fetch(server, tmp_path)
    assert len(server.log) == 1


def test_more_promised_than_sent(server, tmp_path):
    server.replies = [Reply(length=len(CONTENT) + 10)] * 20
    with pytest.raises(DownloadError, match="not downloaded"):
        fetch(server, tmp_path)
    assert not (tmp_path / "cache/enc.pt").exists()


def test_a_length_must_be_told(server, tmp_path):
    server.replies = [Reply(length=-1)]
    with pytest.raises(DownloadError, match="how long"):
        fetch(server, tmp_path)


def test_too_large(server, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LARGEST", 1000)
    with pytest.raises(DownloadError, match="1280000 bytes, and no such file has more than 1000"):
        fetch(server, tmp_path)


def test_no_connection(tmp_path):
    with local_server() as local:
        url = f"{local.url}/enc.pt"
    with pytest.raises(DownloadError, match=r"refused.*put it there: .*/enc\.pt"):
        download(url, tmp_path / "enc.pt", pause=0.0)


@pytest.mark.parametrize("url", ["http://example.org/enc.pt", "file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_https_alone(tmp_path, url):
    with pytest.raises(DownloadError, match="https alone"):
        download(url, tmp_path / "enc.pt")


def test_no_redirection_away_from_https(server, tmp_path):
    server.replies = [Reply(location="http://example.org/enc.pt")]
    with pytest.raises(DownloadError, match=r"example\.org.*https alone"):
        fetch(server, tmp_path)


def test_redirection(server, tmp_path):
    server.replies = [Reply(location="/enc.pt")]
    assert fetch(server, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize(("content", "hashed"), [(CONTENT[:-1], False), (CONTENT[:-1] + b"x", True)])
def test_a_changed_file_in_the_cache(server, tmp_path, content, hashed):
    path = fetch(server, tmp_path)
    path.write_bytes(content)
    with pytest.raises(DownloadError, match=r"not what was downloaded.*delete it and enc\.pt\.json"):
        check(path, hashed)


def test_the_hash_is_checked_on_request_alone(server, tmp_path):
    path = fetch(server, tmp_path)
    check(path, hashed=True)
    path.write_bytes(CONTENT[:-1] + b"x")
    check(path)


def test_a_file_put_there_by_hand_is_taken(tmp_path):
    (tmp_path / "enc.pt").write_bytes(b"mine")
    assert download("https://example.org/enc.pt", tmp_path / "enc.pt").read_bytes() == b"mine"


def test_an_unreadable_receipt(server, tmp_path):
    path = fetch(server, tmp_path)
    (tmp_path / "cache/enc.pt.json").write_text("{")
    with pytest.raises(DownloadError, match=r"enc\.pt\.json: not readable"):
        check(path)


def test_two_at_once_fetch_once(server, tmp_path):
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(fetch(server, tmp_path))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert found[0].read_bytes() == CONTENT
    assert len(server.log) == 1


def test_a_folder_that_cannot_be_written(server, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(DownloadError, match=r"can't be written.*MATPAC_CACHE"):
        fetch(server, tmp_path)


def test_progress_on_a_terminal(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    fetch(server, tmp_path)
    assert "1.3/1.3 MB" in capsys.readouterr().err


def test_silent_elsewhere(server, tmp_path, capsys):
    fetch(server, tmp_path)
    captured = capsys.readouterr()
    assert captured.err + captured.out == ""
