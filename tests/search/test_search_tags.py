"""Tags by folders, a table, and the encoder's head; and other tags without embedding again."""

from pathlib import Path

import pytest
import torch

from helpers.sound_files import write_sound
from helpers.stored_sounds import make_collection
from helpers.tiny_encoder import tiny
from matpac import read
from matpac.data.tables import TableError
from matpac.model.embedder import Embedder
from matpac.model.heads import Tagger, most_probable
from matpac.search import index as module
from matpac.search.database import SearchError, SoundDatabase
from matpac.search.index import IndexOptions, index_sounds
from matpac.search.query import Searcher

ENCODER = tiny()
LETTERS = ("a", "b", "c", "d")


def index(tmp_path, tags, encoder: Embedder | str | None = ENCODER, **options):
    return index_sounds([tmp_path / "sounds"], tmp_path / "db", encoder, IndexOptions(tags=tags, **options))


def tags_of(tmp_path) -> dict[str, tuple[str, ...]]:
    tags = SoundDatabase.open(tmp_path / "db").tags()
    return {path.removeprefix(f"{tmp_path}/sounds/"): names for path, names in tags.items()}


def test_folders(tmp_path):
    made = make_collection(tmp_path / "sounds")
    index(tmp_path, "folder")
    assert tags_of(tmp_path) == {
        "dog/it's a dog.wav": ("dog",),
        'dog/"bark".wav': ("dog",),
        "cat/night/100%.wav": ("cat", "night"),
        "cat/ünder_score.wav": ("cat",),
        "loose; --.wav": (),
    }
    matches = Searcher(tmp_path / "db", ENCODER).similar(made["loose; --.wav"], where="array_has(tags, 'cat')")
    assert {match.tags for match in matches} == {("cat", "night"), ("cat",)}


def test_a_table_and_then_another(tmp_path, monkeypatch):
    make_collection(tmp_path / "sounds")
    table = tmp_path / "labels.csv"
    table.write_text('path,labels\nsounds/cat/night/100%.wav,cat; night\n"sounds/dog/it\'s a dog.wav",dog\n')
    done = index(tmp_path, str(table))
    assert done.retagged == 0
    assert tags_of(tmp_path)["cat/night/100%.wav"] == ("cat", "night")
    assert tags_of(tmp_path)["dog/it's a dog.wav"] == ("dog",)
    assert tags_of(tmp_path)["cat/ünder_score.wav"] == ()

    monkeypatch.setattr(module, "Road", None)  # nothing is embedded from here on
    assert index(tmp_path, str(table)).retagged == 0
    assert index(tmp_path, None).retagged == 0  # and tags stay
    assert tags_of(tmp_path)["cat/night/100%.wav"] == ("cat", "night")
    table.write_text('path,label\n"sounds/dog/it\'s a dog.wav",hound\n')
    assert index(tmp_path, str(table)).retagged == 2
    assert tags_of(tmp_path)["dog/it's a dog.wav"] == ("hound",)
    assert tags_of(tmp_path)["cat/night/100%.wav"] == ()


def test_rows_of_a_table_that_match_no_file_are_named(tmp_path):
    make_collection(tmp_path / "sounds")
    table = tmp_path / "labels.csv"
    said: list[str] = []

    def tagged(rows: str) -> int:
        table.write_text(f"path,label\n{rows}")
        options = IndexOptions(tags=str(table))
        return index_sounds([tmp_path / "sounds"], tmp_path / "db", ENCODER, options, said.append).retagged

    tagged("sounds/cat/ünder_score.wav,cat\n")
    assert said == []
    assert tagged("cat/ünder_score.wav,dog\nsounds/cat/ünder_score.wav,purr\ndog/none.wav,dog\n") == 1
    assert len(said) == 1
    assert f"{tmp_path}/cat/ünder_score.wav" in said[0]
    with pytest.raises(SearchError, match=r"labels\.csv"):
        tagged("cat/ünder_score.wav,dog\n")
    assert tags_of(tmp_path)["cat/ünder_score.wav"] == ("purr",)


def test_a_changed_file_keeps_its_tags(tmp_path):
    made = make_collection(tmp_path / "sounds")
    index(tmp_path, "folder")
    write_sound(made["cat/night/100%.wav"], 16_000, 2.0, seed=40)
    assert index(tmp_path, None).changed == 1
    assert tags_of(tmp_path)["cat/night/100%.wav"] == ("cat", "night")


def varied(path: Path) -> Embedder:
    """An encoder whose head finds other classes in every window of a sound."""
    encoder = tiny(4, labels=LETTERS)
    frames = encoder.frames(read(path), encoder.sample_rate)[0][0]
    assert isinstance(encoder.head, Tagger)
    statistics = {"norm.running_mean": frames.mean(0), "norm.running_var": frames.var(0) / 100}
    encoder.head.load_state_dict(encoder.head.state_dict() | statistics)
    return encoder


def windows_of(tmp_path) -> list[dict]:
    return SoundDatabase.open(tmp_path / "db").table.to_arrow().sort_by("start").to_pylist()


def window_tags(tmp_path) -> list[tuple[str, ...]]:
    return [tuple(row["tags"]) for row in windows_of(tmp_path)]


def test_a_table_that_agrees_with_the_first_window_tags_the_others_too(tmp_path):
    path = write_sound(tmp_path / "sounds" / "long.wav", 16_000, 2.0)
    index(tmp_path, "head", varied(path), window=0.5, hop=0.5)
    first, *rest = window_tags(tmp_path)
    assert first
    assert {*rest} != {first}
    table = tmp_path / "labels.csv"
    table.write_text(f"path,labels\nsounds/long.wav,{';'.join(first)}\n")
    assert index(tmp_path, str(table), None).retagged == 1
    assert {*window_tags(tmp_path)} == {first}
    assert index(tmp_path, str(table), None).retagged == 0


def test_the_head_replaces_other_tags_and_counts_only_what_differs(tmp_path):
    write_sound(tmp_path / "sounds" / "in" / "long.wav", 16_000, 2.0)
    write_sound(tmp_path / "sounds" / "in" / "short.wav", 16_000, 0.5, seed=1)
    encoder = tiny(4, labels=LETTERS)
    assert isinstance(encoder.head, Tagger)
    index(tmp_path, "folder", encoder, window=0.5, hop=0.5)
    assert index(tmp_path, "head", encoder).retagged == 2  # by the vectors that are there
    rows = windows_of(tmp_path)
    probabilities = encoder.scene_probabilities(torch.tensor([row["vector"] for row in rows]))
    expected = [tuple(tag.label for tag in most_probable(row, LETTERS, 3, 0.1)) for row in probabilities]
    assert window_tags(tmp_path) == expected
    assert index(tmp_path, "head", encoder).retagged == 0
    encoder.head.linear.weight.zero_()
    encoder.head.linear.bias.copy_(torch.tensor([-5.0, 5.0, -5.0, 0.0]))
    assert index(tmp_path, "head", encoder).retagged == 2
    assert window_tags(tmp_path) == [("b", "d")] * 5  # an improbable class is no tag
    encoder.head.linear.bias.fill_(-50.0)
    write_sound(tmp_path / "sounds" / "new.wav", 16_000, 0.5, seed=2)
    assert index(tmp_path, "head", encoder).retagged == 2
    assert window_tags(tmp_path) == [()] * 6
    assert index(tmp_path, "head", encoder).retagged == 0


def test_what_gives_no_tags_is_refused(tmp_path):
    make_collection(tmp_path / "sounds")
    with pytest.raises(SearchError, match="head"):
        index(tmp_path, "head")
    with pytest.raises(TableError, match=r"missing\.csv"):
        index(tmp_path, "missing.csv")
    table = tmp_path / "labels.csv"
    table.write_text("path,class\na.wav,dog\n")
    with pytest.raises(SearchError, match=r"labels\.csv: .*path, class"):
        index(tmp_path, str(table))
