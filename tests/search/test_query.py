"""What is found: the nearest by cosine, inside long recordings too, and under conditions."""

from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from helpers.sound_files import make_sound, write_sound
from helpers.stored_sounds import clusters, make_collection, stored
from helpers.tiny_encoder import tiny
from matpac import read
from matpac.errors import MatpacError
from matpac.search.database import SearchError
from matpac.search.index import IndexOptions, index_sounds
from matpac.search.query import Match, Searcher
from matpac.search.writer import writing

torch.manual_seed(1)
ENCODER = tiny()


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    root = tmp_path_factory.mktemp("collection")
    made = make_collection(root / "sounds")
    index_sounds([root / "sounds"], root / "db", ENCODER, IndexOptions(tags="folder"))
    return root, made


def test_the_order_is_that_of_the_cosines(collection):
    root, made = collection
    query = make_sound(44_100, 1.0, seed=9)[:, 0]
    found = Searcher(root / "db", ENCODER).similar(query, 44_100)
    vector = ENCODER.scene(query, 44_100)[0]
    scenes = {path: ENCODER.scene(read(path), 16_000)[0] for path in map(str, made.values())}
    cosines = {path: float(torch.cosine_similarity(vector, scene, dim=0)) for path, scene in scenes.items()}
    assert [match.path for match in found] == sorted(cosines, key=lambda path: -cosines[path])
    for match in found:
        assert match.similarity == pytest.approx(cosines[match.path], abs=1e-5)
        assert (match.start, match.end) == (0, match.duration)


def test_conditions(collection):
    root, made = collection
    searcher = Searcher(root / "db", ENCODER)
    query = made["loose; --.wav"]
    names = {path: name for name, path in made.items()}

    def found(where: str) -> set[str]:
        return {names[type(query)(match.path)] for match in searcher.similar(query, where=where)}

    assert found("duration < 0.65") == {"dog/it's a dog.wav"}
    assert found("array_has(tags, 'dog') AND duration > 0.65") == {'dog/"bark".wav'}
    assert found("path LIKE '%/it''s a dog.wav'") == {"dog/it's a dog.wav"}
    assert found('"end" > 1.2') == {"loose; --.wav"}
    assert found("duration > 100") == set()


@pytest.mark.parametrize("where", ["durations < 5", "duration <", "path < 5", "1", "loud(path)", " "])
def test_what_is_no_condition_is_reported_in_one_line(collection, where):
    root, made = collection
    with pytest.raises(SearchError, match="where") as caught:
        Searcher(root / "db", ENCODER).similar(made["loose; --.wav"], where=where)
    assert "\n" not in str(caught.value)
    assert ".rs" not in str(caught.value)
    assert len(str(caught.value)) < 250


def test_an_excerpt_is_found_at_its_time(tmp_path):
    """On the grid of the encoder's chunks (0.32 s) and as long as its window's frames, it has its vector."""
    recording = np.concatenate([make_sound(16_000, 2.56, seed=seed)[:, 0] for seed in range(10)])
    (tmp_path / "sounds").mkdir()
    soundfile.write(tmp_path / "sounds" / "night.wav", recording, 16_000, subtype="FLOAT")
    index_sounds([tmp_path / "sounds"], tmp_path / "db", ENCODER, IndexOptions(window=1.28, hop=0.64))
    searcher = Searcher(tmp_path / "db", ENCODER)
    for number in range(0, 38, 7):
        begin = round(16_000 * 0.64 * number)
        [match] = searcher.similar(recording[begin : begin + 20_720], 16_000, top=1)
        assert (match.start, match.end) == pytest.approx((0.64 * number, 0.64 * number + 1.28))
        assert match.similarity == pytest.approx(1, abs=1e-5)
        assert match.duration == pytest.approx(25.6)


def test_what_is_written_meanwhile_is_found(collection, tmp_path):
    _, made = collection
    index_sounds([made["loose; --.wav"]], tmp_path / "db", ENCODER)
    searcher = Searcher(tmp_path / "db", ENCODER)
    assert len(searcher.similar(made["loose; --.wav"])) == 1
    index_sounds([made["cat/ünder_score.wav"]], tmp_path / "db", ENCODER)
    assert len(searcher.similar(made["loose; --.wav"])) == 2


def test_another_encoder_is_refused(collection):
    root, made = collection
    with pytest.raises(SearchError, match="another encoder"):
        Searcher(root / "db", tiny()).similar(made["loose; --.wav"])
    with pytest.raises(SearchError, match="made by encoder"):
        Searcher(root / "db").similar(made["loose; --.wav"])


def test_what_is_no_query_is_refused(collection, tmp_path):
    root, _ = collection
    searcher = Searcher(root / "db", ENCODER)
    sound = np.zeros(16_000, np.float32)
    short = write_sound(tmp_path / "short.wav", 16_000, 0.01)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"sound": sound, "sample_rate": 16_000, "top": 0}, "top 0"),
        ({"sound": sound}, "sample_rate"),
        ({"sound": np.stack([sound, sound]), "sample_rate": 16_000}, r"shape \[2, 16000\]"),
        ({"sound": sound[:100], "sample_rate": 16_000}, "shorter than one window"),
        ({"sound": short}, rf"^{short}: .*shorter than one window"),
        ({"sound": tmp_path / "missing.wav"}, rf"^{tmp_path}/missing\.wav: (?!.*missing)"),
    ]
    for given, reason in wrong:
        with pytest.raises(MatpacError, match=reason):
            searcher.similar(**given)
    for vector in (torch.zeros(8), torch.full((16,), torch.nan)):
        with pytest.raises(SearchError, match="16 finite numbers"):
            searcher.nearest(vector)


def test_vectors_are_searched_without_their_encoder(tmp_path):
    """Vectors of any kind, and any number of matches."""
    vectors = clusters(50, 8)
    stored(tmp_path / "db", vectors)
    searcher = Searcher(tmp_path / "db")
    expected = searcher.nearest(torch.tensor(vectors[7]), top=50)
    assert len(expected) == 50
    assert expected[0] == Match(expected[0].similarity, "/sounds/7.wav", 0.0, 1.0, 1.0, ())
    assert expected[0].similarity == pytest.approx(1.0, abs=1e-6)
    assert searcher.nearest(vectors[7], top=10**12) == expected
    assert searcher.nearest(vectors[7].astype(np.float64), top=50) == expected


def test_an_empty_database(tmp_path):
    stored(tmp_path / "db", clusters(1, 8))
    with writing(tmp_path / "db") as writer:
        writer.remove(["/sounds/0.wav"])
    with pytest.raises(SearchError, match="db"):
        Searcher(tmp_path / "db")
