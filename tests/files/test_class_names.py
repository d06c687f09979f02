"""Names of classes: files that have them, and the published tagger's: cached, downloaded, given or missing."""

import re

import pytest
import torch

import matpac
from helpers.local_server import Reply, local_server
from helpers.published_files import published_state
from matpac import MatpacError
from matpac.data.tables import TableError
from matpac.files import hub
from matpac.files.label_files import read_audioset_labels, read_label_file
from matpac.files.load import AUDIOSET_CLASSES, load_file
from matpac.files.save import save

TAGGER = "matpac++-audioset-tagger"
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


@pytest.fixture
def cache(tmp_path, monkeypatch, weights):
    """A cache that holds the tagger's weights, and an address where nobody answers."""
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / hub.PUBLISHED[TAGGER].file).write_bytes(weights)
    monkeypatch.setenv("MATPAC_CACHE", str(folder))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with local_server() as gone:
        monkeypatch.setattr(hub, "AUDIOSET_LABELS", f"{gone.url}/labels.csv")
    return folder


@pytest.fixture
def server(cache, monkeypatch):
    with local_server() as local:
        monkeypatch.setattr(hub, "AUDIOSET_LABELS", f"{local.url}/labels.csv")
        yield local


@pytest.mark.parametrize("header", ["index,mid,display_name", '"index","mid","display_name"'])
def test_audioset_in_the_order_of_mids(tmp_path, header):
    rows = '0,/m/09x0r,"Speech"\n1,/m/05zppz,"Male speech, man speaking"\n3,/t/dd00001,"Baby laughter"\n'
    (tmp_path / "c.csv").write_text(f"{header}\n{rows}")
    expected = {"/m/05zppz": "Male speech, man speaking", "/m/09x0r": "Speech", "/t/dd00001": "Baby laughter"}
    assert list(read_audioset_labels(tmp_path / "c.csv").items()) == list(expected.items())
    assert read_label_file(tmp_path / "c.csv") == list(expected.values())


def test_one_name_per_line(tmp_path):
    (tmp_path / "names.txt").write_bytes("\ufeffdog, barking\r\n Bär \nmid\n\n".encode())
    assert read_label_file(str(tmp_path / "names.txt")) == ["dog, barking", "Bär", "mid"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\n \n", "it is empty"),
        (b"a\n\nb\n", "line 2 is empty"),
        (b"caf\xe9\n", r"not UTF-8 text \(byte 3\)"),
        (b"index,mid,display_name\n0,/m/1,\n", "line 2 has no display_name"),
        (b"index,mid,display_name\n0,/m/1,a\n1,/m/1,b\n", "'/m/1' is there twice"),
        (None, r"can't be read \(No such file"),
    ],
)
def test_files_without_names(tmp_path, content, message):
    if content is not None:
        (tmp_path / "c.csv").write_bytes(content)
    with pytest.raises(TableError, match=rf"c\.csv: .*{message}"):
        read_label_file(tmp_path / "c.csv")


def test_downloaded_once_and_saved_with_the_encoder(server, cache, tmp_path):
    assert ADDRESS == "https://storage.googleapis.com/us_audioset/youtube_corpus/v1/csv/class_labels_indices.csv"
    server.files["/labels.csv"] = TABLE.encode()
    encoder = matpac.load(TAGGER)
    assert (encoder.card.labels, encoder.card.exclusive) == (EXPECTED, False)
    assert (cache / "class_labels_indices.csv").read_text() == TABLE
    assert matpac.load(TAGGER).card.labels == EXPECTED
    assert len(server.log) == 1
    [tags] = encoder.tags(torch.zeros(8000), 16_000, top=1)
    assert tags[0].label == EXPECTED[int(encoder.logits(torch.zeros(8000), 16_000).argmax())]
    save(encoder, tmp_path / "own")
    assert matpac.load(tmp_path / "own").card.labels == EXPECTED


def test_put_into_the_cache_by_hand_and_for_a_file_elsewhere(cache, tmp_path, weights):
    (cache / "class_labels_indices.csv").write_text(TABLE)
    (tmp_path / "somewhere.bin").write_bytes(weights)
    assert matpac.load(tmp_path / "somewhere.bin").card.labels == EXPECTED


def test_given(cache, tmp_path, golden):
    (tmp_path / "mine.csv").write_text(TABLE)
    assert matpac.load(TAGGER, labels=tmp_path / "mine.csv").card.labels == EXPECTED
    (tmp_path / "few.txt").write_text("one\ntwo\n")
    for source, classes in ((TAGGER, 527), (golden / "tiny_official.pt", 0)):
        with pytest.raises(MatpacError, match=rf"few\.txt: 2 names, and .* has {classes} classes"):
            matpac.load(source, labels=tmp_path / "few.txt")


def test_without_a_connection_it_loads_and_says_where_to_put_the_file(cache):
    place = re.escape(str(cache / "class_labels_indices.csv"))
    with pytest.warns(UserWarning, match=rf"its classes have no names.*put it there: {place}"):
        encoder = matpac.load(TAGGER)
    assert encoder.card.labels == ()
    [tags] = encoder.tags(torch.zeros(8000), 16_000, top=1)
    assert re.fullmatch(r"class \d+", tags[0].label)


@pytest.mark.parametrize(
    ("content", "reply", "message"),
    [
        (b"<html>sorry</html>", Reply(), r"class_labels_indices\.csv: no column 'mid'"),
        (TABLE.encode() + b" " * 2**20, Reply(), "at most 1048576"),
        (TABLE.encode(), Reply(status=503), "503"),
    ],
)
def test_a_file_that_cannot_be_it(server, content, reply, message):
    server.files["/labels.csv"] = content
    server.replies = [reply]
    with pytest.warns(UserWarning, match=message):
        assert matpac.load(TAGGER).card.labels == ()
    assert len(server.log) == 1, "tried once: nobody waits for names"


def test_names_are_asked_for_by_who_needs_them_alone(cache, tmp_path, golden):
    """A saved encoder keeps its names, or goes without; an encoder without a head needs none. No warning."""
    assert matpac.load(golden / "tiny_official.pt").card.labels == ()
    save(load_file(cache / hub.PUBLISHED[TAGGER].file), tmp_path / "own")
    assert matpac.load(tmp_path / "own").card.labels == ()
