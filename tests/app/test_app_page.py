"""The page as a browser calls it, and what it works with."""

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from helpers.asked_page import PATIENCE, Asked, PageError, served
from helpers.named_sounds import LABELS, knowing, write
from matpac import cli
from matpac.app import collection as app_collection
from matpac.app.collection import UNTAGGED, draw_map, play
from matpac.errors import MatpacError
from matpac.files.save import save
from matpac.search.index import IndexOptions, index_sounds
from matpac.search.query import Searcher


@pytest.fixture(scope="module")
def collection(tmp_path_factory) -> tuple[Path, Searcher]:
    root = tmp_path_factory.mktemp("collection")
    for number in range(4):
        write(root / "sounds" / "tones" / f"{number}.wav", ("tone", 1.0 + number / 4), seed=number)
        write(root / "sounds" / "noises" / f"{number}.flac", ("noise", 1.5), seed=number)
    encoder = str(save(knowing(), root / "knowing.safetensors"))
    index_sounds([root / "sounds"], root / "db", encoder, IndexOptions(tags="folder"))
    return root, Searcher(root / "db")


@pytest.fixture(scope="module")
def page(collection, tmp_path_factory):
    root, _ = collection
    with served(tmp_path_factory.mktemp("page"), "--database", str(root / "db"), "--longest", "20") as asked:
        yield asked


def tabs(page: Asked) -> list[str]:
    return [block["props"]["label"] for block in page.config()["components"] if block["type"] == "tabitem"]


@pytest.mark.slow
def test_listen_names_what_sounds(page: Asked, tmp_path):
    assert tabs(page) == ["Listen", "Compare", "Search", "Map"]
    path = write(tmp_path / "a tone.flac", ("tone", 2.0))
    tags, over_time, alike = page.call("listen", page.upload(path))
    assert tags["label"] == "tone"
    assert {entry["label"] for entry in tags["confidences"]} == set(LABELS)
    assert "Log-mel spectrogram of a tone.flac" in over_time
    assert "seconds of a tone.flac" in alike
    tags, *pictures = page.call("listen", None)  # the sound is removed
    assert not tags
    assert pictures == ["", ""]


@pytest.mark.slow
def test_compare_gives_the_cosine(page: Asked, collection):
    root, searcher = collection
    one, other = root / "sounds" / "tones" / "0.wav", root / "sounds" / "noises" / "1.flac"
    verdict, picture = page.call("compare", page.upload(one), page.upload(other))
    [match] = searcher.similar(one, where=f"path = '{other}'")
    assert f"{match.similarity:.4f}" in verdict
    assert "<svg" in picture


@pytest.mark.slow
def test_search_finds_what_the_library_finds(page: Asked, collection):
    root, searcher = collection
    query = root / "sounds" / "tones" / "2.wav"
    table = page.call("search", page.upload(query), 3, "")[0]
    wanted = searcher.similar(query, top=3)
    assert table["headers"] == ["similarity", "place", "sound", "tags", "folder"]
    assert [row[2] for row in table["data"]] == [Path(match.path).name for match in wanted]
    assert table["data"][0] == ["1.0000", "0:00.0 – 0:01.5", "2.wav", "tones", str(query.parent)]
    table = page.call("search", page.upload(query), 50, "array_has(tags, 'noises')")[0]
    assert {row[3] for row in table["data"]} == {"noises"}
    with pytest.raises(PageError, match=r"color = 3.*columns are path"):
        page.call("search", page.upload(query), 3, "color = 3")


@pytest.mark.slow
def test_what_is_no_sound_is_named(page: Asked, tmp_path):
    """Without markup, and without the folder that the page keeps it in."""
    broken, long, markup = (tmp_path / name for name in ("broken.wav", "long.wav", "<img src=x>.wav"))
    for path in (broken, markup):
        path.write_bytes(b"this is no sound" * 40)
    soundfile.write(long, np.zeros(16_000 * 21), 16_000)
    for path, reason in ((broken, r"^broken\.wav: "), (long, r"^long\.wav: longer than 20 s"), (markup, "img")):
        with pytest.raises(PageError, match=reason) as shown:
            page.call("listen", page.upload(path))
        assert "<" not in str(shown.value)
    with pytest.raises(PageError, match="no sound yet"):
        page.call("compare", page.upload(write(tmp_path / "a.wav", ("tone", 1.0))), None)


@pytest.mark.slow
def test_files_that_were_not_uploaded_cannot_be_named(page: Asked, collection):
    """A visitor may not have the page open what lies elsewhere on this machine."""
    root, _ = collection
    path = root / "sounds" / "tones" / "0.wav"
    with pytest.raises(PageError):
        page.call("listen", {"path": str(path), "meta": {"_type": "gradio.FileData"}})
    assert "InvalidPathError" in page.log.read_text()


@pytest.mark.slow
def test_a_page_without_a_database(tmp_path):
    with served(tmp_path) as alone:
        assert tabs(alone) == ["Listen", "Compare"]
        tags, *_ = alone.call("listen", alone.upload(write(tmp_path / "a.wav", ("tone", 1.0))))
        assert not tags  # it has no head
        alone.process.send_signal(signal.SIGINT)
        assert alone.process.wait(60) == 0
    assert alone.log.read_text() == f"{alone.address}  (tiny; Ctrl-C ends it)\n"


def test_map_has_every_sound_and_plays_what_is_asked(collection):
    _, searcher = collection
    drawn, places = draw_map(searcher)
    assert len(places) == len(drawn.places) == 8
    assert {place.tags for place in places} == {("tones",), ("noises",)}
    number = drawn.at(*drawn.places[3])
    assert number is not None
    place = places[number]
    rate, samples = play(place.path, place.start, place.end)
    whole, _ = soundfile.read(place.path, dtype="int16")
    assert rate == 16_000
    assert np.abs(samples.astype(int) - whole).max() <= 1


def test_map_of_many_shows_some_and_names_those_without_tags(collection, monkeypatch, tmp_path):
    root, searcher = collection
    index_sounds([root / "sounds"], tmp_path / "untagged", searcher.embedder)
    monkeypatch.setattr("matpac.report.maps.MOST_VECTORS", 5)
    labels = []
    drawing = app_collection.sound_map
    monkeypatch.setattr(app_collection, "sound_map", lambda *given: labels.append(given[1]) or drawing(*given))
    drawn, places = draw_map(Searcher(tmp_path / "untagged", searcher.embedder))
    assert len(places) == len(drawn.places) == 5
    assert labels == [[UNTAGGED] * 5]


def test_playing_is_bounded(collection, tmp_path, monkeypatch):
    monkeypatch.setattr(app_collection, "PLAYED", 0.5)
    root, _ = collection
    _, samples = play(str(root / "sounds" / "tones" / "3.wav"), 0.25, 1.75)
    assert len(samples) == 8_000
    with pytest.raises(MatpacError, match=r"gone\.wav"):
        play(str(tmp_path / "gone.wav"), 0, 1)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--database", "nowhere"], "nowhere"),
        (["--encoder", "nobody"], "nobody"),
        (["--longest", "0"], "0"),
        (["--port", "70000"], "70000"),
        (["--host", "300.1.1.1"], r"300\.1\.1\.1"),
        (["--host", "192.0.2.1"], r"192\.0\.2\.1"),
    ],
)
def test_what_cannot_be_served(options, named, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MatpacError, match=named):
        cli.run("app", [*options, "--device", "cpu"])


def test_without_gradio(monkeypatch):
    monkeypatch.setattr("matpac.app.command.find_spec", lambda name: None)
    with pytest.raises(MatpacError, match=r"pip install 'matpac\[app\]'"):
        cli.run("app", [])


@pytest.mark.slow
def test_a_port_in_use(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "matpac", "app", "--port", str(port), "--device", "cpu"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 2
    assert re.match(rf"matpac app: 127\.0\.0\.1:{port}: .*Try --port {port + 1}\n$", done.stderr), done.stderr
