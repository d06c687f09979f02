"""What is found: the nearest by cosine, inside long recordings too, and under conditions."""

import numpy as np
import pytest
import soundfile
import torch

from helpers.sound_files import make_sound, write_sound
from helpers.stored_sounds import clusters, make_collection, stored
from helpers.tiny_encoder import tiny
from matpac import AudioError, read
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


def test_a_file_is_most_like_itself(collection):
    root, made = collection
    searcher = Searcher(root / "db", ENCODER)
    for path in made.values():
        [match] = searcher.similar(path, top=1)
        assert match.path == str(path)
        assert match.similarity == pytest.approx(1, abs=1e-5)


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


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ("durations < 5", r"No field named durations.*; columns are path, start, end, duration"),
        ("duration <", r"sql parser error"),
        ("path < 5", r"could not convert"),
        ("1", "does not return a boolean"),
        ("loud(path)", "Invalid function 'loud'"),
        (" ", "an empty condition"),
    ],
)
def test_what_is_no_condition_is_told_in_a_line(collection, where, reason):
    root, made = collection
    with pytest.raises(SearchError, match=reason) as caught:
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


def test_a_call_is_found_in_a_long_night(tmp_path):
    """Anywhere, off all grids: four calls in a minute of noise, and the query is another call."""
    rng = np.random.default_rng(0)
    night = 0.1 * rng.standard_normal(60 * 16_000).astype(np.float32)
    calls = [7.3, 21.9, 40.15, 52.77]
    for seed, time in enumerate(calls):
        begin = round(time * 16_000)
        night[begin : begin + 32_000] = make_sound(16_000, 2.0, seed=seed)[:, 0]
    (tmp_path / "sounds").mkdir()
    soundfile.write(tmp_path / "sounds" / "night.flac", night, 16_000)
    index_sounds([tmp_path / "sounds"], tmp_path / "db", ENCODER, IndexOptions(window=2.0, hop=0.5))
    found = Searcher(tmp_path / "db", ENCODER).similar(make_sound(16_000, 2.0, seed=9)[:, 0], 16_000, top=12)
    nearest = [min(calls, key=lambda call, start=match.start: abs(call - start)) for match in found]
    assert {*nearest} == {*calls}
    assert all(  # half of the window at least
        abs(match.start - call) <= 1.0 for match, call in zip(found, nearest, strict=True)
    )


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
    with pytest.raises(SearchError, match="top 0"):
        searcher.similar(sound, 16_000, top=0)
    with pytest.raises(SearchError, match="sample_rate"):
        searcher.similar(sound)
    with pytest.raises(SearchError, match=r"shape \[2, 16000\]"):
        searcher.similar(np.stack([sound, sound]), 16_000)
    with pytest.raises(AudioError, match="shorter than one window"):
        searcher.similar(sound[:100], 16_000)
    short = write_sound(tmp_path / "short.wav", 16_000, 0.01)
    with pytest.raises(AudioError, match=rf"^{short}: .*shorter than one window"):
        searcher.similar(short)
    with pytest.raises(AudioError, match=rf"^{tmp_path}/missing\.wav: (?!.*missing)"):
        searcher.similar(tmp_path / "missing.wav")
    with pytest.raises(SearchError, match="a query is 16 finite numbers"):
        searcher.nearest(torch.zeros(8))
    with pytest.raises(SearchError, match="a query is 16 finite numbers"):
        searcher.nearest(torch.full((16,), torch.nan))


def test_vectors_are_searched_without_their_encoder(tmp_path):
    vectors = clusters(50, 8)
    stored(tmp_path / "db", vectors)
    [match] = Searcher(tmp_path / "db").nearest(torch.tensor(vectors[7]), top=1)
    assert match == Match(match.similarity, "/sounds/7.wav", 0.0, 1.0, 1.0, ())
    assert match.similarity == pytest.approx(1.0, abs=1e-6)


def test_vectors_of_any_kind_and_any_number_of_matches(tmp_path):
    vectors = clusters(50, 8)
    stored(tmp_path / "db", vectors)
    searcher = Searcher(tmp_path / "db")
    expected = searcher.nearest(torch.tensor(vectors[7]), top=50)
    assert len(expected) == 50
    assert searcher.nearest(vectors[7], top=10**12) == expected
    assert searcher.nearest(vectors[7].astype(np.float64), top=50) == expected


def test_an_empty_database_is_told(tmp_path):
    stored(tmp_path / "db", clusters(1, 8))
    with writing(tmp_path / "db") as writer:
        writer.remove(["/sounds/0.wav"])
    with pytest.raises(SearchError, match="db"):
        Searcher(tmp_path / "db")
