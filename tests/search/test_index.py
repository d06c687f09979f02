"""A database follows a folder: what is new, changed or gone, and nothing else."""

import math
import os
from collections.abc import Generator, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.sound_files import cut_file, make_mixed_folder, write_sound
from helpers.stored_sounds import make_collection
from helpers.tiny_encoder import tiny
from matpac import read
from matpac.audio import AudioError
from matpac.errors import MatpacError
from matpac.files.save import save
from matpac.search import index as module
from matpac.search.database import SearchError, SoundDatabase
from matpac.search.index import Indexed, IndexOptions, index_sounds
from matpac.search.query import Searcher
from matpac.search.writer import RowBuffer
from matpac.vectors.road import Road, Row
from matpac.vectors.states import path_text, text_path

ENCODER = tiny(name="mine")


def index(folder: Path, database: Path, **options: object) -> Indexed:
    return index_sounds([folder], database, ENCODER, IndexOptions(**options))  # type: ignore[arg-type]


def counts(done: Indexed) -> tuple[int, int, int, int]:
    return done.added, done.changed, done.removed, done.unchanged


def stored_rows(database: Path) -> dict[str, list[dict]]:
    found: dict[str, list[dict]] = {}
    for row in SoundDatabase.open(database).table.to_arrow().to_pylist():
        found.setdefault(row["path"], []).append(row)
    return found


def test_rows_are_the_scenes_of_the_files(tmp_path):
    made = make_collection(tmp_path / "sounds")
    done = index(tmp_path / "sounds", tmp_path / "db")
    assert counts(done) == (5, 0, 0, 0)
    assert (done.files, done.rows, done.skipped) == (5, 5, [])
    assert done.settings == SoundDatabase.open(tmp_path / "db").settings
    found = stored_rows(tmp_path / "db")
    assert found.keys() == {str(path) for path in made.values()}
    for path, [row] in found.items():
        waveform, state = read(path), Path(path).stat()
        assert (row["start"], row["size"], row["modified"]) == (0.0, state.st_size, state.st_mtime_ns)
        assert row["end"] == row["duration"] == pytest.approx(len(waveform) / ENCODER.sample_rate)
        assert row["tags"] == []
        expected = ENCODER.scene(waveform, ENCODER.sample_rate)[0].numpy()
        np.testing.assert_allclose(row["vector"], expected, atol=1e-5)


def test_only_what_differs_is_embedded(tmp_path, monkeypatch):
    made = make_collection(tmp_path / "sounds")
    index(tmp_path / "sounds", tmp_path / "db")
    embedded: list[str] = []

    class Noted(Road):
        def rows(self, clips: Iterable[Any]) -> Generator[Row, None, None]:
            clips = list(clips)
            embedded.extend(clips)
            return super().rows(clips)

    monkeypatch.setattr(module, "Road", Noted)
    assert counts(index(tmp_path / "sounds", tmp_path / "db")) == (0, 0, 0, 5)
    assert embedded == []

    dog, bark, percent, *_ = made.values()
    write_sound(dog, 16_000, 1.0, seed=30)
    bark.unlink()
    touched = percent.stat().st_mtime_ns + 1_000
    os.utime(percent, ns=(touched, touched))
    new = write_sound(tmp_path / "sounds" / "new 'one'.wav", 16_000, 0.7, seed=31)
    done = index(tmp_path / "sounds", tmp_path / "db")
    assert counts(done) == (1, 2, 1, 2)
    assert (done.files, done.rows) == (5, 5)
    assert {*embedded} == {str(dog), str(percent), str(new)}
    found = stored_rows(tmp_path / "db")
    assert found.keys() == {str(path) for path in [*made.values(), new] if path != bark}
    expected = ENCODER.scene(read(dog), ENCODER.sample_rate)[0].numpy()
    np.testing.assert_allclose(found[str(dog)][0]["vector"], expected, atol=1e-5)
    assert found[str(percent)][0]["modified"] == touched


def test_windows_of_a_shortened_file_go(tmp_path):
    long = write_sound(tmp_path / "sounds" / "long.wav", 16_000, 3.0)
    done = index(tmp_path / "sounds", tmp_path / "db", window=1.0)
    assert [row["start"] for row in stored_rows(tmp_path / "db")[str(long)]] == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert done.settings.windows == (1.0, 0.5)
    write_sound(long, 16_000, 1.2)
    done = index(tmp_path / "sounds", tmp_path / "db")  # the windows are remembered
    assert counts(done) == (0, 1, 0, 0)
    assert [(row["start"], row["end"]) for row in stored_rows(tmp_path / "db")[str(long)]] == [(0, 1), (0.5, 1.2)]


def test_files_that_cannot_be_used_are_named_and_their_old_vectors_go(tmp_path):
    made = make_mixed_folder(tmp_path / "sounds")
    done = index(tmp_path / "sounds", tmp_path / "db")
    bad = {str(made[name]) for name in ("empty.wav", "text.wav", "cut.flac", "click.wav")}
    assert {item.path for item in done.skipped} == bad
    assert all(item.reason and item.path not in item.reason[:10] for item in done.skipped)
    assert counts(done) == (6, 0, 0, 0)

    cut_file(made["mono_48k.flac"], made["mono_48k.flac"])
    done = index(tmp_path / "sounds", tmp_path / "db")
    assert counts(done) == (0, 0, 0, 5)
    assert str(made["mono_48k.flac"]) in {item.path for item in done.skipped}
    assert (done.files, done.rows) == (5, 5)
    assert str(made["mono_48k.flac"]) not in stored_rows(tmp_path / "db")


def test_sources_do_not_touch_each_other(tmp_path):
    for folder in ("a", "ab", "b"):
        write_sound(tmp_path / folder / "1.wav", 16_000, 0.5)
        write_sound(tmp_path / folder / "2.wav", 16_000, 0.5, seed=1)
    for folder in ("a", "ab", "b"):
        index(tmp_path / folder, tmp_path / "db")
    (tmp_path / "ab" / "1.wav").unlink()
    (tmp_path / "b" / "1.wav").unlink()
    assert counts(index(tmp_path / "a", tmp_path / "db")) == (0, 0, 0, 2)
    done = index_sounds([tmp_path / "ab", tmp_path / "b" / "2.wav"], tmp_path / "db")
    assert counts(done) == (0, 0, 1, 2)
    assert len(stored_rows(tmp_path / "db")) == 5


def test_an_emptied_folder_takes_nothing_out(tmp_path):
    """It may be a disk that is not mounted."""
    for number, name in enumerate(("a/1.wav", "a/2.wav", "b/3.wav", "b/4.wav")):
        write_sound(tmp_path / name, 16_000, 0.5, seed=number)
    sources = [tmp_path / "a", tmp_path / "b"]
    index_sounds(sources, tmp_path / "db", ENCODER)
    for name in ("a/1.wav", "b/3.wav", "b/4.wav"):
        (tmp_path / name).unlink()
    done = index_sounds(sources, tmp_path / "db", ENCODER)
    assert counts(done) == (0, 0, 1, 1)
    assert [item.path for item in done.skipped] == [str(tmp_path / "b")]
    with pytest.raises(SearchError, match=r"b: .*2 files in the database are kept"):
        index(tmp_path / "b", tmp_path / "db")
    (tmp_path / "b").rmdir()
    with pytest.raises(AudioError, match="b"):
        index(tmp_path / "b", tmp_path / "db")
    assert (done.files, len(stored_rows(tmp_path / "db"))) == (3, 3)


def test_a_first_call_that_fails_binds_the_database_to_nothing(tmp_path):
    """Neither tags that are not available nor files that can't be used: another encoder may follow."""
    (tmp_path / "sounds").mkdir()
    (tmp_path / "sounds" / "words.wav").write_text("words")
    with pytest.raises(SearchError, match="has no head"):
        index(tmp_path / "sounds", tmp_path / "db", tags="head")
    assert SoundDatabase.find(tmp_path / "db") is None
    with pytest.raises(SearchError, match="not one of 1 files"):
        index(tmp_path / "sounds", tmp_path / "db")
    write_sound(tmp_path / "sounds" / "1.wav", 16_000, 0.5)
    with pytest.raises(SearchError, match="--encoder"):
        index_sounds([tmp_path / "sounds"], tmp_path / "db")
    done = index_sounds([tmp_path / "sounds"], tmp_path / "db", tiny(name="other"), IndexOptions(window=0.25))
    assert (done.added, done.settings.encoder, done.settings.window) == (1, "other", 0.25)
    assert SoundDatabase.open(tmp_path / "db").settings == done.settings


def test_what_was_written_stays_when_the_work_is_stopped(tmp_path, monkeypatch):
    made = make_collection(tmp_path / "sounds")

    class Stopped(Road):
        def rows(self, clips: Iterable[Any]) -> Generator[Row, None, None]:
            for number, row in enumerate(super().rows(clips)):
                if number == 3:
                    raise KeyboardInterrupt
                yield row

    monkeypatch.setattr(module, "RowBuffer", partial(RowBuffer, flush_bytes=1))
    monkeypatch.setattr(module, "Road", Stopped)
    with pytest.raises(KeyboardInterrupt):
        index(tmp_path / "sounds", tmp_path / "db")
    assert len(stored_rows(tmp_path / "db")) == 3
    monkeypatch.undo()
    assert counts(index(tmp_path / "sounds", tmp_path / "db")) == (2, 0, 0, 3)
    assert stored_rows(tmp_path / "db").keys() == {str(path) for path in made.values()}


def test_the_encoder_is_remembered_and_another_one_refused(tmp_path):
    make_collection(tmp_path / "sounds")
    file = save(tiny(), tmp_path / "encoder.safetensors")
    index_sounds([tmp_path / "sounds"], tmp_path / "db", os.path.relpath(file))
    assert SoundDatabase.open(tmp_path / "db").settings.encoder == str(file)
    assert counts(index_sounds([tmp_path / "sounds"], tmp_path / "db")) == (0, 0, 0, 5)
    new = write_sound(tmp_path / "sounds" / "new.wav", 16_000, 0.5)
    assert counts(index_sounds([tmp_path / "sounds"], tmp_path / "db")) == (1, 0, 0, 5)

    other = save(tiny(), tmp_path / "other.safetensors")
    with pytest.raises(SearchError, match=r"of another encoder: .*encoder\.safetensors, .*other\.safetensors is"):
        index_sounds([tmp_path / "sounds"], tmp_path / "db", str(other))
    moved = file.rename(tmp_path / "moved.safetensors")
    assert counts(index_sounds([tmp_path / "sounds"], tmp_path / "db", str(moved))) == (0, 0, 0, 6)
    new.unlink()
    assert counts(index_sounds([tmp_path / "sounds"], tmp_path / "db")) == (0, 0, 1, 5)  # which needs no encoder
    write_sound(new, 16_000, 0.6)
    with pytest.raises(SearchError, match=r"not available: .*--encoder"):
        index_sounds([tmp_path / "sounds"], tmp_path / "db")
    other.rename(file)
    with pytest.raises(SearchError, match=r"now .*encoder\.safetensors is"):
        index_sounds([tmp_path / "sounds"], tmp_path / "db")


def test_names_that_are_not_utf8(tmp_path):
    name = "b\udcffd\\udcff.wav"
    sounds = []
    for folder in ("a", "\udcfe"):
        (tmp_path / "sounds" / folder).mkdir(parents=True)
        sounds.append(write_sound(tmp_path / "1.wav", 16_000, 0.5).rename(tmp_path / "sounds" / folder / name))
    assert counts(index(tmp_path / "sounds", tmp_path / "db", tags="folder")) == (2, 0, 0, 0)
    tags = SoundDatabase.open(tmp_path / "db").tags()
    assert tags == {path_text(sounds[0]): ("a",), path_text(sounds[1]): ("\\udcfe",)}
    assert counts(index(tmp_path / "sounds", tmp_path / "db")) == (0, 0, 0, 2)
    sounds[0].unlink()
    assert counts(index(tmp_path / "sounds", tmp_path / "db")) == (0, 0, 1, 1)
    [match] = Searcher(tmp_path / "db", ENCODER).similar(sounds[1])
    assert text_path(match.path) == str(sounds[1])


def test_an_onnx_file_is_an_encoder_of_its_own(tmp_path):
    """It may be rounded to int8: its vectors are not those of the encoder that it was exported from."""
    from matpac.files.onnx.export import export_onnx

    make_collection(tmp_path / "sounds")
    encoder = tiny()
    exported = tmp_path / "mine.onnx"
    export_onnx(encoder, exported)
    assert counts(index_sounds([tmp_path / "sounds"], tmp_path / "db", str(exported))) == (5, 0, 0, 0)
    for path, [row] in stored_rows(tmp_path / "db").items():
        expected = encoder.scene(read(path), encoder.sample_rate)[0].numpy()
        np.testing.assert_allclose(row["vector"], expected, atol=1e-3)
    with pytest.raises(SearchError, match="of another encoder"):
        index_sounds([tmp_path / "sounds"], tmp_path / "db", encoder)


def test_other_windows_are_refused(tmp_path):
    write_sound(tmp_path / "sounds" / "1.wav", 16_000, 0.5)
    index(tmp_path / "sounds", tmp_path / "db", window=1.0, hop=0.25)
    for window, reason in (
        (2.0, "windows of 1 s every 0.25 s, not windows of 2 s every 1 s"),
        (1.0, "every 0.5 s"),
    ):
        with pytest.raises(SearchError, match=reason):
            index(tmp_path / "sounds", tmp_path / "db", window=window)
    assert counts(index(tmp_path / "sounds", tmp_path / "db", window=1.0, hop=0.25)) == (0, 0, 0, 1)


def test_what_makes_no_database_makes_no_folder(tmp_path):
    write_sound(tmp_path / "sounds" / "1.wav", 16_000, 0.5)
    (tmp_path / "empty").mkdir()
    for folder, encoder, options, reason in (
        ("sounds", None, IndexOptions(), "--encoder"),
        ("sounds", "matpacc", IndexOptions(), "matpacc"),
        ("sounds", "logmel", IndexOptions(), "logmel: "),
        ("sounds", ENCODER, IndexOptions(window=0.05), "0.05 s"),
        ("empty", ENCODER, IndexOptions(), "empty"),
    ):
        with pytest.raises(MatpacError, match=reason):
            index_sounds([tmp_path / folder], tmp_path / "db", encoder, options)
    assert not (tmp_path / "db").exists()


@pytest.mark.parametrize("wrong", [{"hop": 1.0}, {"window": math.nan}, {"window": math.inf}])
def test_numbers_that_are_no_windows(wrong):
    with pytest.raises(SearchError, match=str(*wrong)):
        IndexOptions(**wrong)
