"""The published tagger's names: cached, downloaded, given, or told to be missing; nothing stops the loading."""

import re

import pytest
import torch

import matpac
from helpers.local_server import Reply, local_server
from helpers.published_files import published_state
from matpac import MatpacError
from matpac.files import hub
from matpac.files.hub import DownloadError
from matpac.files.load import AUDIOSET_CLASSES, load_file
from matpac.files.save import save

ADDRESS = hub.AUDIOSET_LABELS
MIDS = [f"/m/{number * 7919 % 100_000:05d}" for number in range(526)] + ["/t/dd00001"]
TABLE = "index,mid,display_name\n" + "".join(f'{n},{mid},"Name, {mid}"\n' for n, mid in enumerate(MIDS))
EXPECTED = tuple(f"Name, {mid}" for mid in sorted(MIDS))
"""An order that is not that of the column index, as in the official file."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("tagger") / "weights.pt"
    torch.save(published_state(64, 1, 32, classes=AUDIOSET_CLASSES), path)
    return path.read_bytes()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch, weights):
    """A cache that holds the tagger's weights, and an address where nobody answers."""
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / hub.PUBLISHED["matpac++-audioset-tagger"].file).write_bytes(weights)
    monkeypatch.setenv("MATPAC_CACHE", str(folder))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with local_server() as gone:
        monkeypatch.setattr(hub, "AUDIOSET_LABELS", f"{gone.url}/labels.csv")
    return folder


@pytest.fixture
def server(monkeypatch):
    with local_server() as local:
        monkeypatch.setattr(hub, "AUDIOSET_LABELS", f"{local.url}/labels.csv")
        yield local


def test_the_address_is_audiosets():
    assert ADDRESS == ("https://storage.googleapis.com/us_audioset/youtube_corpus/v1/csv/class_labels_indices.csv")


def test_downloaded_once(server, cache):
    server.files["/labels.csv"] = TABLE.encode()
    encoder = matpac.load("matpac++-audioset-tagger")
    assert encoder.card.labels == EXPECTED
    assert not encoder.card.exclusive
    assert (cache / "class_labels_indices.csv").read_text() == TABLE
    assert matpac.load("matpac++-audioset-tagger").card.labels == EXPECTED
    assert len(server.log) == 1
    [tags] = encoder.tags(torch.zeros(8000), 16_000, top=1)
    assert tags[0].label == EXPECTED[int(encoder.logits(torch.zeros(8000), 16_000).argmax())]


def test_put_into_the_cache_by_hand_and_for_a_file_elsewhere(cache, tmp_path, weights):
    (cache / "class_labels_indices.csv").write_text(TABLE)
    (tmp_path / "somewhere.bin").write_bytes(weights)
    assert matpac.load(tmp_path / "somewhere.bin").card.labels == EXPECTED


def test_given(tmp_path):
    (tmp_path / "mine.csv").write_text(TABLE)
    assert matpac.load("matpac++-audioset-tagger", labels=tmp_path / "mine.csv").card.labels == EXPECTED
    (tmp_path / "few.txt").write_text("one\ntwo\n")
    with pytest.raises(MatpacError, match=r"few\.txt: 2 names, and matpac\+\+-audioset-tagger has 527 classes"):
        matpac.load("matpac++-audioset-tagger", labels=tmp_path / "few.txt")


def test_without_a_connection_it_loads_and_says_where_to_put_the_file(cache):
    with pytest.warns(UserWarning, match="its classes have no names") as told:
        encoder = matpac.load("matpac++-audioset-tagger")
    [warning] = told
    assert f"put it there: {cache / 'class_labels_indices.csv'}" in str(warning.message)
    assert encoder.card.labels == ()
    [tags] = encoder.tags(torch.zeros(8000), 16_000, top=1)
    assert re.fullmatch(r"class \d+", tags[0].label)


@pytest.mark.parametrize(
    ("content", "reply", "message"),
    [
        (b"<html>sorry</html>", Reply(), r"class_labels_indices\.csv: no column 'mid'"),
        (TABLE.replace("/m/00000", "/m/07919").encode(), Reply(), "there twice"),
        (TABLE.encode() + b" " * 2**20, Reply(), "at most 1048576"),
        (TABLE.encode(), Reply(status=503), "503"),
    ],
)
def test_a_file_that_cannot_be_it(server, cache, content, reply, message):
    server.files["/labels.csv"] = content
    server.replies = [reply]
    with pytest.warns(UserWarning, match=message):
        assert matpac.load("matpac++-audioset-tagger").card.labels == ()
    assert len(server.log) == 1, "tried once: nobody waits for names"


def test_names_are_asked_for_by_who_needs_them_alone(tmp_path, golden, weights):
    """A file of ours keeps its names, or goes without; an encoder without a head needs none. No warning."""
    assert matpac.load(golden / "tiny_official.pt").card.labels == ()
    save(load_file(hub.cache_folder() / hub.PUBLISHED["matpac++-audioset-tagger"].file), tmp_path / "own")
    assert matpac.load(tmp_path / "own").card.labels == ()
    with pytest.raises(DownloadError, match="put it there"):
        hub.audioset_label_file()


def test_names_stay_with_the_encoder(server, tmp_path):
    server.files["/labels.csv"] = TABLE.encode()
    save(matpac.load("matpac++-audioset-tagger"), tmp_path / "own")
    assert matpac.load(tmp_path / "own").card.labels == EXPECTED


def test_labels_for_an_encoder_without_a_head(golden, tmp_path):
    (tmp_path / "mine.txt").write_text("one\n")
    with pytest.raises(MatpacError, match=r"mine\.txt: 1 names, and .* has 0 classes"):
        matpac.load(golden / "tiny_official.pt", labels=tmp_path / "mine.txt")
