"""Tags by folders, a table, and the encoder's head; and other tags without embedding anew."""

from pathlib import Path

import pytest
import torch

from helpers.sound_files import write_sound
from helpers.stored_sounds import make_collection
from helpers.tiny_encoder import TINY, tiny
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


def test_rows_of_a_table_that_match_no_file_are_told(tmp_path):
    make_collection(tmp_path / "sounds")
    table = tmp_path / "labels.csv"
    told: list[str] = []

    def tagged(rows: str) -> int:
        table.write_text(f"path,label\n{rows}")
        options = IndexOptions(tags=str(table))
        return index_sounds([tmp_path / "sounds"], tmp_path / "db", ENCODER, options, told.append).retagged

    tagged("sounds/cat/ünder_score.wav,cat\n")
    assert told == []
    assert tagged("cat/ünder_score.wav,dog\nsounds/cat/ünder_score.wav,purr\ndog/none.wav,dog\n") == 1
    assert len(told) == 1
    assert f"{tmp_path}/cat/ünder_score.wav" in told[0]
    with pytest.raises(SearchError, match=r"labels\.csv"):
        tagged("cat/ünder_score.wav,dog\n")
    assert tags_of(tmp_path)["cat/ünder_score.wav"] == ("purr",)


def test_a_changed_file_keeps_its_tags(tmp_path):
    made = make_collection(tmp_path / "sounds")
    index(tmp_path, "folder")
    write_sound(made["cat/night/100%.wav"], 16_000, 2.0, seed=40)
    assert index(tmp_path, None).changed == 1
    assert tags_of(tmp_path)["cat/night/100%.wav"] == ("cat", "night")


def test_the_heads_tags_of_every_window(tmp_path):
    path = str(write_sound(tmp_path / "sounds" / "long.wav", 16_000, 2.0))
    encoder = tiny(4, labels=("a", "b", "c", "d"))
    index(tmp_path, None, encoder, window=0.5, hop=0.5)
    assert index(tmp_path, "head", encoder).retagged == 1  # by the vectors that are there
    tagged = SoundDatabase.open(tmp_path / "db").table.to_arrow().sort_by("start").to_pylist()
    assert len(tagged) == 4
    for row in tagged:
        [probabilities] = encoder.scene_probabilities(torch.tensor([row["vector"]]))
        expected = most_probable(probabilities, ["a", "b", "c", "d"], 3, 0.1)
        assert row["tags"] == [tag.label for tag in expected]
        assert row["path"] == path
    new = write_sound(tmp_path / "sounds" / "new.wav", 16_000, 0.5)
    assert index(tmp_path, "head", encoder).added == 1
    assert len(tags_of(tmp_path)[new.name]) == 3


def telling(encoder: Embedder, path: Path) -> Embedder:
    """With a head that hears other things in every window of such a sound."""
    frames = encoder.frames(read(path), encoder.sample_rate)[0][0]
    assert isinstance(encoder.head, Tagger)
    assert encoder.head.norm.running_mean is not None
    assert encoder.head.norm.running_var is not None
    encoder.head.norm.running_mean.copy_(frames.mean(0))
    encoder.head.norm.running_var.copy_(frames.var(0) / 100)
    return encoder


def window_tags(tmp_path) -> list[tuple[str, ...]]:
    return [tuple(row["tags"]) for row in windows_of(tmp_path)]


def windows_of(tmp_path) -> list[dict]:
    return SoundDatabase.open(tmp_path / "db").table.to_arrow().sort_by("start").to_pylist()


def head_tags(encoder, rows: list[dict]) -> list[tuple[str, ...]]:
    probabilities = encoder.scene_probabilities(torch.tensor([row["vector"] for row in rows]))
    return [tuple(tag.label for tag in most_probable(row, LETTERS, 3, 0.1)) for row in probabilities]


def test_a_table_that_agrees_with_the_first_window_tags_the_others_too(tmp_path):
    path = write_sound(tmp_path / "sounds" / "long.wav", 16_000, 2.0)
    index(tmp_path, "head", telling(tiny(4, labels=LETTERS), path), window=0.5, hop=0.5)
    first, *others = window_tags(tmp_path)
    assert first
    assert {*others} != {first}
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
    assert index(tmp_path, "head", encoder).retagged == 2
    assert window_tags(tmp_path) == head_tags(encoder, windows_of(tmp_path))
    assert index(tmp_path, "head", encoder).retagged == 0
    encoder.head.linear.bias.fill_(-50.0)
    assert index(tmp_path, "head", encoder).retagged == 2
    assert window_tags(tmp_path) == [()] * 5
    assert index(tmp_path, "head", encoder).retagged == 0  # no tag is what its head hears


def test_an_improbable_class_is_no_tag(tmp_path):
    write_sound(tmp_path / "sounds" / "one.wav", 16_000, 0.5)
    encoder = tiny(4, labels=("a", "b", "c", "d"))
    head = encoder.head
    assert isinstance(head, Tagger)
    head.linear.weight.zero_()
    head.linear.bias.copy_(torch.tensor([-5.0, 5.0, -5.0, 0.0]))
    assert head.linear.in_features == TINY.width
    index(tmp_path, "head", encoder)
    assert tags_of(tmp_path) == {"one.wav": ("b", "d")}


def test_what_gives_no_tags_is_refused(tmp_path):
    make_collection(tmp_path / "sounds")
    with pytest.raises(SearchError, match=r"--tags head: .* has no head"):
        index(tmp_path, "head")
    with pytest.raises(TableError, match=r"missing\.csv: .*check the path"):
        index(tmp_path, "missing.csv")
    table = tmp_path / "labels.csv"
    table.write_text("path,class\na.wav,dog\n")
    with pytest.raises(SearchError, match=r"labels\.csv: a column label, .* it has path, class"):
        index(tmp_path, str(table))
