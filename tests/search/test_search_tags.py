"""Tags by folders, a table, and the encoder's head; and other tags without embedding anew."""

import pytest
import torch
from stored_sounds import make_collection

from matpac.downstream.tasks import TaskError
from matpac.search import index as module
from matpac.search.database import SearchError, SoundDatabase
from matpac.search.index import IndexOptions, index_sounds
from matpac.search.query import Searcher
from matpac.tags import Tagger, most_probable
from sound_files import write_sound
from tiny_encoder import TINY, tiny

ENCODER = tiny()


def index(tmp_path, tags, encoder=ENCODER, **options):
    return index_sounds([tmp_path / "sounds"], tmp_path / "db", encoder, IndexOptions(tags=tags, **options))


def tags_of(tmp_path) -> dict[str, tuple[str, ...]]:
    files = SoundDatabase.open(tmp_path / "db").files()
    return {path.removeprefix(f"{tmp_path}/sounds/"): state.tags for path, state in files.items()}


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

    monkeypatch.setattr(module, "Sounds", None)  # nothing is embedded from here on
    assert index(tmp_path, str(table)).retagged == 0
    assert index(tmp_path, None).retagged == 0  # and tags stay
    assert tags_of(tmp_path)["cat/night/100%.wav"] == ("cat", "night")
    table.write_text('path,label\n"sounds/dog/it\'s a dog.wav",hound\n')
    assert index(tmp_path, str(table)).retagged == 2
    assert tags_of(tmp_path)["dog/it's a dog.wav"] == ("hound",)
    assert tags_of(tmp_path)["cat/night/100%.wav"] == ()


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
    with pytest.raises(TaskError, match="no such table"):
        index(tmp_path, "missing.csv")
    table = tmp_path / "labels.csv"
    table.write_text("path,class\na.wav,dog\n")
    with pytest.raises(SearchError, match="one of the columns label and labels is needed; it has path, class"):
        index(tmp_path, str(table))
