"""Single notes and short pieces over General MIDI's programs; those of the test parts are used nowhere else."""

from dataclasses import replace

import numpy as np

from .clips import Clip, Music, Note, Part, draw_clips, share_out

FAMILIES = (
    "piano", "chromatic percussion", "organ", "guitar", "bass", "strings", "ensemble", "brass", "reed", "pipe",
    "synth lead", "synth pad",
)  # fmt: skip
"""General MIDI's groups of eight programs, in its order; without effects, ethnic and percussive ones."""

PROGRAMS_OF_PART: dict[Part, slice] = {"train": slice(0, 5), "valid": slice(5, 6), "test": slice(6, 8)}
"""Of the eight programs of a family, in the seed's order."""

MORE_PROGRAMS = (*range(104, 108), 108, 109, 110, 111, 112, 114)
"""Ethnic instruments, a bell, steel drums: only for pre-training."""

PARALLEL_FIFTHS = 86
"""This program sounds two pitches per note, so it has no pitch class."""

HIGHEST = {43: 57, 58: 72, 67: 72}
"""Above these the contrabass, the tuba and the baritone saxophone of Debian's soundfont are silent."""

HIGHEST_OF_ALL = 84
"""Some of the other instruments are silent above (tried, pitch by pitch)."""

PITCH_CLASSES = ("C", "C sharp", "D", "D sharp", "E", "F", "F sharp", "G", "G sharp", "A", "A sharp", "B")

TEMPI = {"slow": 66.0, "walking": 86.0, "moderate": 112.0, "quick": 145.0, "fast": 188.0}
"""Beats per minute, a factor of 1.3 apart; each piece is within 6 % of its class."""

SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10))
"""Semitones of major and minor."""

ROLES = ("melody", "chords", "arpeggio", "bass")
DRUMS = 9
"""The channel of the drums; kick 36, snare 38, closed hat 42."""


def programs(seed: int, part: Part, family: int) -> list[int]:
    """The programs of a family that a part may use."""
    order = np.random.default_rng([seed, 77, family]).permutation(8)
    return [8 * family + int(number) for number in order[PROGRAMS_OF_PART[part]]]


def playable(program: int, pitch: int) -> int:
    """The pitch, octaves lower where the instrument doesn't reach it."""
    above = pitch - HIGHEST.get(program, HIGHEST_OF_ALL)
    return pitch - 12 * max(0, -(-above // 12))


def family_clips(seed: int, clips: int) -> list[Clip]:
    """`notes_family`: one note of 0.3 to 1.5 s; of which family is the instrument?"""

    def draw(rng: np.random.Generator, part: Part, number: int) -> tuple[tuple[str, ...], str, Music]:
        family = number % len(FAMILIES)
        pool = programs(seed, part, family)
        program = pool[number // len(FAMILIES) % len(pool)]
        pitch = int(rng.integers(*((31, 62) if FAMILIES[family] == "bass" else (43, 84))))
        return (FAMILIES[family],), f"program {program}", Music((_single(rng, program, pitch),))

    return draw_clips("notes_family", (seed, 1), share_out(clips, len(FAMILIES)), 2.0, draw)


def pitch_clips(seed: int, clips: int) -> list[Clip]:
    """`notes_pitch`: one note of four octaves from C2; which pitch class?"""

    def draw(rng: np.random.Generator, part: Part, number: int) -> tuple[tuple[str, ...], str, Music]:
        pool = [p for family in range(len(FAMILIES)) for p in programs(seed, part, family)]
        program = int(rng.choice([p for p in pool if p != PARALLEL_FIFTHS]))
        pitch = 36 + number % 12 + 12 * int(rng.integers(4))
        note = _single(rng, program, pitch)
        return (PITCH_CLASSES[number % 12],), f"program {program}", Music((note,))

    return draw_clips("notes_pitch", (seed, 2), share_out(clips, 12), 2.0, draw)


def _single(rng: np.random.Generator, program: int, pitch: int) -> Note:
    start, length = int(rng.integers(0, 200)), int(rng.integers(300, 1500))
    return Note(program, playable(program, pitch), int(rng.integers(45, 121)), start, length)


def instrument_clips(seed: int, clips: int) -> list[Clip]:
    """`pieces_instruments`: six seconds of one to four families playing together, perhaps drums; which?"""

    def draw(rng: np.random.Generator, part: Part, number: int) -> tuple[tuple[str, ...], str, Music]:
        first = number % len(FAMILIES)
        others = [f for f in rng.permutation(len(FAMILIES)).tolist() if f != first]
        chosen = sorted([first, *others[: int(rng.integers(0, 4))]])
        band = [int(rng.choice(programs(seed, part, family))) for family in chosen]
        music = compose(rng, band, float(rng.uniform(70, 170)), 6000, drums=rng.uniform() < 0.3)
        return tuple(FAMILIES[family] for family in chosen), f"{part} piece {number}", music

    return draw_clips("pieces_instruments", (seed, 3), share_out(clips, len(FAMILIES)), 6.0, draw)


def tempo_clips(seed: int, clips: int) -> list[Clip]:
    """`pieces_tempo`: six seconds of two or three instruments, drums in two of three; how fast?"""
    names = list(TEMPI)

    def draw(rng: np.random.Generator, part: Part, number: int) -> tuple[tuple[str, ...], str, Music]:
        name = names[number % len(names)]
        beats = TEMPI[name] * float(rng.uniform(0.94, 1.06))
        music = compose(rng, _band(rng, seed, part), beats, 6000, drums=rng.uniform() < 0.67)
        return (name,), f"{part} piece {number}", music

    return draw_clips("pieces_tempo", (seed, 4), share_out(clips, len(names)), 6.0, draw)


def _band(rng: np.random.Generator, seed: int, part: Part) -> list[int]:
    families = rng.permutation(len(FAMILIES))[: int(rng.integers(2, 4))].tolist()
    return [int(rng.choice(programs(seed, part, family))) for family in families]


def pretraining_music(rng: np.random.Generator, seed: int) -> Music:
    """A piece by instruments of the training parts and a few that no task has."""
    band = _band(rng, seed, "train")
    if rng.uniform() < 0.3:
        band.append(int(rng.choice(MORE_PROGRAMS)))
    return compose(rng, band, float(rng.uniform(60, 190)), 6000, drums=rng.uniform() < 0.5)


def pretraining_notes(rng: np.random.Generator, seed: int, length: int) -> Music:
    """Single notes of 0.3 to 1.5 s, one by one, by one instrument of the training parts; `length` in ms."""
    program = int(rng.choice(programs(seed, "train", int(rng.integers(len(FAMILIES))))))
    notes, at = [], int(rng.integers(0, 200))
    while at < length - 300:
        note = _single(rng, program, int(rng.integers(31, 84)))
        notes.append(replace(note, start=at))
        at += note.length + int(rng.integers(200, 800))
    return Music(tuple(notes))


def compose(rng: np.random.Generator, band: list[int], beats: float, length: int, drums: bool) -> Music:
    """A piece in four-four time: each program a role over random chords; `beats` per minute, `length` in ms."""
    beat = 60_000 / beats
    scale, key = SCALES[int(rng.integers(2))], int(rng.integers(12))
    chords = [0, *rng.choice([3, 4, 5, 1], size=7).tolist()]
    phase = float(rng.uniform(0, 4))
    steps = int((length / beat + phase) * 2) + 1
    roles = [ROLES[0], *rng.permutation(ROLES[1:]).tolist()]
    notes: list[Note] = []
    for channel, program in enumerate(band):
        role = "bass" if 32 <= program < 40 else roles[channel % len(roles)]
        loud = int(rng.integers(75, 112))
        for step, degrees, held in _role(rng, role, steps, chords):
            start = round((step / 2 - phase) * beat)
            centre = 3 if role == "bass" else 5
            for degree in degrees:
                octave, place = divmod(degree, len(scale))
                pitch = playable(program, 12 * (centre + octave) + key + scale[place])
                velocity = int(np.clip(loud + rng.integers(-12, 13), 30, 125))
                notes.append(Note(program, pitch, velocity, start, round(held * beat / 2 * 0.92), channel))
    if drums:
        notes += _drums(rng, steps, phase, beat)
    return Music(tuple(note for note in notes if 0 <= note.start < length - 50))


def _role(
    rng: np.random.Generator, role: str, steps: int, chords: list[int]
) -> list[tuple[int, tuple[int, ...], int]]:
    """Step (eighths), degrees of the scale, length in steps of every note."""
    played = []
    step = degree = 0
    while step < steps:
        root = chords[step // 8 % len(chords)]
        if role == "chords":
            held = 4
            played.append((step, (root, root + 2, root + 4), held))
        elif role == "bass":
            held = int(rng.choice([1, 2, 2]))
            played.append((step, (root + int(rng.choice([0, 0, 4])),), held))
        elif role == "arpeggio":
            held = 1
            played.append((step, (root + (0, 2, 4, 7)[step % 4],), held))
        else:
            held = int(rng.choice([1, 1, 2, 2, 4]))
            degree = int(np.clip(degree + rng.integers(-2, 3), -3, 8))
            if rng.uniform() < 0.9:
                played.append((step, (root if step % 8 == 0 else degree,), held))
        step += held
    return played


def _drums(rng: np.random.Generator, steps: int, phase: float, beat: float) -> list[Note]:
    """Kick on one and three, snare on two and four, a hat on eighths; each sometimes omitted."""
    notes = []
    for step in range(steps):
        hits = [42] + ([36] if step % 4 == 0 else []) + ([38] if step % 4 == 2 else [])
        for hit in hits:
            if rng.uniform() < 0.92:
                start = round((step / 2 - phase) * beat)
                notes.append(Note(0, hit, int(rng.integers(60, 105)), start, 80, DRUMS))
    return notes
