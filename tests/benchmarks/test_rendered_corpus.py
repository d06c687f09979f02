"""The rendered corpus: its plan, its MIDI, its splits and, where its programs are installed, its sounds."""

# pyright: reportMissingImports=false
# benchmarks/ is a folder of scripts, found by the path in conftest.py
import csv
import io
import struct
from pathlib import Path

import corpus
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from rendered import music, speech
from rendered.clips import Content, Music, Note, Over, Speech
from rendered.midi import midi_bytes, variable_length
from rendered.noises import NOISES
from rendered.render import missing_programs

from matpac.tasks import read_task

ALL = [*corpus.TASKS, *corpus.UNLABELLED]
MISSING = missing_programs()


def read_midi(content: bytes) -> list[tuple[int, bytes]]:
    """Time in ms and message of every event, by the standard's grammar, independent of the writer."""
    magic, size, kind, tracks, ticks = struct.unpack(">4sIHHH", content[:14])
    assert (magic, size, kind, tracks, ticks) == (b"MThd", 6, 0, 1, 1000)
    assert content[14:18] == b"MTrk"
    assert int.from_bytes(content[18:22], "big") == len(content) - 22
    place, now, events = 22, 0, []
    while place < len(content):
        delta = 0
        while True:
            byte = content[place]
            place += 1
            delta = delta * 128 + byte % 128
            if byte < 128:
                break
        now += delta
        status = content[place]
        length = 3 + content[place + 2] if status == 0xFF else 2 if status >> 4 == 0xC else 3
        events.append((now, content[place : place + length]))
        place += length
    return events


@given(st.integers(0, 2**28 - 1))
def test_variable_length_reads_back(number: int) -> None:
    written = variable_length(number)
    assert all(byte >= 128 for byte in written[:-1])
    assert written[-1] < 128
    assert sum((byte % 128) << (7 * place) for place, byte in enumerate(reversed(written))) == number


NOTES = st.lists(
    st.builds(
        Note,
        program=st.just(5),
        pitch=st.integers(0, 127),
        velocity=st.integers(1, 127),
        start=st.integers(0, 999),
        length=st.integers(1, 2000),
        channel=st.integers(0, 15),
    ),
    max_size=8,
)


@settings(deadline=None)
@given(st.lists(NOTES, min_size=1, max_size=4))
def test_midi_holds_every_note_in_its_scene(scenes: list[list[Note]]) -> None:
    events = read_midi(midi_bytes(scenes, 1000))
    on = sorted((time, m[0] % 16, m[1], m[2]) for time, m in events if m[0] >> 4 == 9)
    expected = [(n * 1000 + x.start, x.channel, x.pitch, x.velocity) for n, s in enumerate(scenes) for x in s]
    assert on == sorted(expected)
    assert sum(m[0] >> 4 == 8 for _, m in events) == len(expected)
    for number in range(len(scenes)):
        silenced = {m[0] % 16 for time, m in events if m[0] >> 4 == 0xB and m[1] == 120 and time == number * 1000}
        assert silenced == set(range(16))
    assert events[-1] == (len(scenes) * 1000, b"\xff\x2f\x00")


def test_notes_that_midi_cannot_hold_are_refused() -> None:
    with pytest.raises(ValueError, match="different programs"):
        midi_bytes([[Note(1, 60, 80, 0, 100), Note(2, 60, 80, 0, 100)]], 1000)
    with pytest.raises(ValueError, match="pitch=128"):
        midi_bytes([[Note(1, 128, 80, 0, 100)]], 1000)


@pytest.mark.parametrize("task", ALL)
def test_a_plan_depends_on_the_seed_and_no_clip_repeats(task: str) -> None:
    clips = corpus.plan(task, 3, clips=120)
    assert clips == corpus.plan(task, 3, clips=120)
    assert [clip.content for clip in clips] != [clip.content for clip in corpus.plan(task, 4, clips=120)]
    assert len({clip.path for clip in clips}) == len({clip.seed for clip in clips}) == len(clips)


@pytest.mark.parametrize("task", corpus.TASKS)
def test_every_part_has_every_class_and_no_group_crosses(task: str) -> None:
    clips = corpus.plan(task, 0, clips=240)
    groups: dict[str, set[str]] = {}
    for part in ("train", "valid", "test"):
        mine = [clip for clip in clips if clip.part == part]
        groups[part] = {clip.group for clip in mine}
        assert {x for clip in mine for x in clip.labels} == {x for clip in clips for x in clip.labels}
    assert not groups["train"] & groups["test"]
    assert not groups["valid"] & (groups["train"] | groups["test"])


def sources(content: Content) -> list[Content]:
    """Contents that sound at once in a clip."""
    return [content.speech, content.behind] if isinstance(content, Over) else [content]


def test_sources_of_the_test_parts_are_used_nowhere_else() -> None:
    """Programs, voices and words, from what is played and said."""
    clips = [clip for task in ALL for clip in corpus.plan(task, 0, clips=120)]
    programs: dict[bool, set[int]] = {True: set(), False: set()}
    voices: dict[bool, set[str]] = {True: set(), False: set()}
    words: dict[bool, set[tuple[str, str]]] = {True: set(), False: set()}
    for clip, content in ((each, source) for each in clips for source in sources(each.content)):
        test = clip.part == "test"
        if isinstance(content, Music):
            programs[test] |= {note.program for note in content.notes if note.channel != music.DRUMS}
        elif isinstance(content, Speech):
            if not clip.path.startswith("speech_voice"):
                voices[test].add(content.variant)
            if not clip.path.startswith("words"):
                said = [word.strip(".") for word in content.text.split()]
                words[test] |= {(content.language, word) for word in said if not word.isdigit()}
    for kinds in (programs, voices, words):
        assert kinds[True]
        assert not kinds[True] & kinds[False]
    assert not set(speech.VOICES) & {voice for part in speech.SPEAKERS.values() for voice in part}


def test_second_unlabelled_part_has_notes_words_and_mixtures_in_turn() -> None:
    clips = corpus.plan(corpus.MORE, 0, clips=60)
    assert len({clip.seed for clip in [*clips, *corpus.plan(corpus.PRETRAIN, 0, clips=60)]}) == 120
    behind = set()
    for number, clip in enumerate(clips):
        if number % 3 == 0:
            assert isinstance(clip.content, Music)
            ends = [0, *(note.start + note.length for note in clip.content.notes)]
            assert all(end <= note.start for end, note in zip(ends, clip.content.notes, strict=False))
            assert len({note.program for note in clip.content.notes}) == 1
        elif number % 3 == 1:
            assert isinstance(clip.content, Speech)
            assert 5 <= clip.content.text.count(". ") <= 6
        else:
            assert isinstance(clip.content, Over)
            behind.add(type(clip.content.behind))
    assert len(behind) == 2


def test_pieces_play_what_their_labels_say() -> None:
    for clip in corpus.plan("pieces_instruments", 0, clips=120):
        assert isinstance(clip.content, Music)
        played = {n.program // 8 for n in clip.content.notes if n.channel != music.DRUMS}
        assert {music.FAMILIES[family] for family in played} == set(clip.labels), clip.path


def test_folder_of_another_corpus_is_refused(tmp_path: Path) -> None:
    corpus.claim(tmp_path / "new", {"seed": 1})
    corpus.claim(tmp_path / "new", {"seed": 1})
    with pytest.raises(corpus.RenderError, match="new"):
        corpus.claim(tmp_path / "new", {"seed": 2})
    (tmp_path / "own.txt").write_text("mine")
    with pytest.raises(corpus.RenderError, match=str(tmp_path)):
        corpus.claim(tmp_path, {"seed": 1})


def test_missing_programs_name_their_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    lines = missing_programs(tmp_path / "no.sf2")
    for line, package in zip(lines, ("fluidsynth", "espeak-ng", "sox", "fluid-soundfont-gm"), strict=True):
        assert f"apt-get install {package}" in line


def test_tables_name_the_labels() -> None:
    clips = corpus.plan("noises", 0, clips=30)
    rows = list(csv.DictReader(io.StringIO(corpus.table("noises", clips))))
    assert [row["labels"].split(";") for row in rows] == [list(clip.labels) for clip in clips]
    assert {row["split"] for row in rows} == {"train", "valid", "test"}


@pytest.mark.parametrize("kind", sorted(set(NOISES) - {"machine"}))
def test_noises_sound_and_differ_by_seed(kind: str) -> None:
    one, same, other = (NOISES[kind](np.random.default_rng(seed), 40_000) for seed in (1, 1, 2))
    assert one.shape == (40_000,)
    assert one.dtype == np.float32
    assert np.isfinite(one).all()
    assert np.sqrt(np.mean(one**2)) > 1e-3
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason="; ".join(MISSING))
def test_renders_whole_clips_the_same_twice_and_resumes(tmp_path: Path) -> None:
    for task in ALL:
        clips = corpus.plan(task, 0, clips=20 if task in corpus.TASKS else 3)[:3]
        for run in ("one", "two"):
            corpus.make(tmp_path / run, task, clips, corpus.SOUNDFONT, workers=1)
        for clip in clips:
            sound, rate = soundfile.read(tmp_path / "one" / clip.path)
            assert rate == 16_000
            assert len(sound) == round(clip.seconds * rate)
            assert (tmp_path / "one" / clip.path).read_bytes() == (tmp_path / "two" / clip.path).read_bytes()
        (tmp_path / "one" / clips[1].path).unlink()
        assert corpus.make(tmp_path / "one", task, clips, corpus.SOUNDFONT, workers=1) == 1
        assert (tmp_path / "one" / clips[1].path).read_bytes() == (tmp_path / "two" / clips[1].path).read_bytes()


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason="; ".join(MISSING))
def test_rendered_table_is_read_as_a_task(tmp_path: Path) -> None:
    clips = corpus.plan("words", 0, clips=20)
    corpus.make(tmp_path, "words", clips, corpus.SOUNDFONT, workers=1)
    task = read_task("table", tmp_path / "words.csv")
    assert set(task.classes) == set(speech.WORDS)
    assert len(task.folds) == 1
    assert len(task.folds[0].train) == sum(clip.part == "train" for clip in clips)
