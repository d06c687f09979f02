"""Files to names: as one waveform at a time gives them, in order, in flat memory, naming what is skipped."""

from pathlib import Path

import pytest

from helpers.named_sounds import RATE, knowing, write
from helpers.sound_files import make_mixed_folder
from helpers.tiny_encoder import tiny
from matpac import MatpacError, read
from matpac.errors import Skipped
from matpac.model.embedder import Embedder
from matpac.tag.sounds import TaggedSound, TagOptions, tag_sounds
from matpac.tag.timeline import TimelineConfig, timeline


@pytest.fixture(scope="module")
def encoder() -> Embedder:
    return knowing()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Good ones of several lengths and rates; the third, fifth and last are bad."""
    root = tmp_path_factory.mktemp("sounds")
    mixed = make_mixed_folder(root / "mixed")
    return [
        write(root / "a.wav", ("tone", 2.1)),
        write(root / "b.flac", ("silence", 1), ("noise", 1.7), ("silence", 0.6), rate=44_100),
        mixed["text.wav"],
        write(root / "c.wav", ("noise", 0.3), ("tone", 4), ("noise", 0.5), ("tone", 1), seed=3),
        mixed["click.wav"],
        write(root / "d.ogg", ("silence", 0.8), rate=22_050),
        mixed["cut.flac"],
    ]


def tagged(files: list[Path], encoder: Embedder, options: TagOptions) -> list[TaggedSound]:
    found = list(tag_sounds(files, encoder, options))
    assert [Path(item.path) for item in found] == files
    skipped = [Path(item.path).name for item in found if isinstance(item, Skipped)]
    assert skipped == ["text.wav", "click.wav", "cut.flac"]
    return [sound for sound in found if isinstance(sound, TaggedSound)]


@pytest.mark.parametrize("batch_size", [None, 1])
def test_tags_are_those_of_one_at_a_time(files, encoder, batch_size):
    for sound in tagged(files, encoder, TagOptions(top=1, batch_size=batch_size)):
        waveform = read(sound.path)
        [[expected]] = encoder.tags(waveform, RATE, top=1)
        assert sound.duration == len(waveform) / RATE
        assert sound.segments == []
        assert sound.tags[0].label == expected.label
        assert sound.tags[0].probability == pytest.approx(expected.probability, abs=1e-5)


def test_tags_over_a_threshold(files, encoder):
    found = tagged(files, encoder, TagOptions(threshold=0.5))
    assert [[tag.label for tag in sound.tags] for sound in found[::3]] == [["tone"], []]


@pytest.mark.parametrize("batch_size", [None, 1])
def test_timelines_are_those_of_one_at_a_time(files, encoder, batch_size):
    options = TagOptions(timeline=TimelineConfig(threshold=0.4), batch_size=batch_size)
    found = tagged(files, encoder, options)
    for sound in found:
        expected = timeline(encoder, read(sound.path), RATE, options.timeline)
        assert sound.tags == []
        assert [(part.label, part.start, part.end) for part in sound.segments] == [
            (part.label, part.start, part.end) for part in expected
        ]
        for part, other in zip(sound.segments, expected, strict=True):
            assert (part.peak, part.mean) == pytest.approx((other.peak, other.mean), abs=1e-5)
    assert [part.label for part in found[0].segments] == ["tone"]
    assert len(found[2].segments) > 1
    assert found[3].segments == []


def test_what_gives_no_tags(files):
    with pytest.raises(MatpacError, match="bare"):
        next(tag_sounds(files, tiny(name="bare"), TagOptions()))


@pytest.mark.parametrize("wrong", [{"top": 0}, {"threshold": -0.1}])
def test_numbers_out_of_range_of_tags(wrong):
    with pytest.raises(MatpacError, match=str(*wrong)):
        TagOptions(**wrong)
