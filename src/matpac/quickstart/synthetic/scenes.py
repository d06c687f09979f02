"""What happens in a clip: phrases, melodies, rhythms and mixtures of the sources.

A scene is dry and clean; `signals.record` then adds a room and a microphone.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32

from matpac.audio import SAMPLE_RATE
from matpac.quickstart.synthetic.signals import add_at, decibels, fade_ends, rms, seconds_to_samples
from matpac.quickstart.synthetic.textures import TEXTURES, drum_stroke
from matpac.quickstart.synthetic.voices import REGISTERS, VOICES

SOURCES: tuple[str, ...] = (*VOICES, *TEXTURES)
"""Kinds of sources: classes of the tasks `source` and `mixture`."""

SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 4, 7, 9), (0, 3, 5, 7, 10))
"""Semitones of major, minor and the two pentatonic scales."""


def note_hz(midi: float) -> float:
    """Frequency of a MIDI note number (69 is A4, 440 Hz)."""
    return float(440.0 * 2.0 ** ((midi - 69.0) / 12.0))


def source_phrase(rng: np.random.Generator, kind: str, samples: int) -> Float32[np.ndarray, " samples"]:
    """One source sounding for a whole clip: a texture, or an instrument playing a random phrase."""
    if kind in TEXTURES:
        return TEXTURES[kind](rng, samples)
    voice = VOICES[kind](rng)
    pitches = _scale_pitches(rng, kind)
    place = int(rng.integers(len(pitches)))
    mix = np.zeros(samples, dtype=np.float32)
    pace, chords = rng.uniform(0.18, 0.6), rng.choice([0.0, 0.0, 0.5])
    start = seconds_to_samples(rng.uniform(0, 0.3))
    while start < samples - SAMPLE_RATE // 8:
        seconds = pace * float(rng.choice([0.5, 1, 1, 1, 2]))
        held = seconds_to_samples(max(0.08, seconds * rng.uniform(0.6, 1.0)))
        held = min(held, samples - start)
        loudness = np.float32(rng.uniform(0.5, 1.0))
        add_at(mix, loudness * voice(rng, note_hz(pitches[place]), held), start)
        if rng.uniform() < chords:
            above = min(len(pitches) - 1, place + int(rng.integers(2, 5)))
            add_at(mix, loudness * voice(rng, note_hz(pitches[above]), held), start)
        place = int(np.clip(place + rng.integers(-3, 4), 0, len(pitches) - 1))
        start += seconds_to_samples(seconds)
    return mix


def mixture_kinds(rng: np.random.Generator, first: str) -> tuple[str, ...]:
    """Kinds in a mixture: `first` and up to three others, in the order of `SOURCES`."""
    others = [kind for kind in SOURCES if kind != first]
    chosen = {first, *(others[number] for number in rng.permutation(len(others))[: int(rng.integers(0, 4))])}
    return tuple(kind for kind in SOURCES if kind in chosen)


def mixture(rng: np.random.Generator, kinds: tuple[str, ...], samples: int) -> Float32[np.ndarray, " samples"]:
    """Several sources, each for a part of the clip, at 0 to -12 dB (RMS where it sounds)."""
    mix = np.zeros(samples, dtype=np.float32)
    for kind in kinds:
        length = int(samples * rng.uniform(0.6, 1.0))
        part = fade_ends(source_phrase(rng, kind, length), 0.02)
        level = decibels(rng.uniform(-12, 0)) / rms(part)
        add_at(mix, np.float32(level) * part, int(rng.integers(0, samples - length + 1)))
    return mix


def _rising(rng: np.random.Generator, notes: int) -> np.ndarray:
    return np.cumsum(rng.integers(1, 4, notes))


def _arch(rng: np.random.Generator, notes: int) -> np.ndarray:
    steps = rng.integers(1, 4, notes)
    top = (notes - 1) // 2 + int(rng.integers(0, 2 - notes % 2))  # the middle, or either of two
    return np.cumsum(np.where(np.arange(notes) <= top, steps, -steps))


def _zigzag(rng: np.random.Generator, notes: int) -> np.ndarray:
    signs = np.where(np.arange(notes) % 2, 1, -1) * rng.choice([-1, 1])
    return signs * rng.integers(2, 5, notes)


def _repeated(rng: np.random.Generator, notes: int) -> np.ndarray:
    places = np.zeros(notes, dtype=np.int64)
    places[int(rng.integers(1, notes))] = rng.choice([-2, -1, 1, 2])  # one neighbour note
    return places


CONTOURS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "rising": _rising,
    "falling": lambda rng, notes: -_rising(rng, notes),
    "arch": _arch,
    "valley": lambda rng, notes: -_arch(rng, notes),
    "zigzag": _zigzag,
    "repeated": _repeated,
}
"""Classes of the task `melody`: the steps of the scale of that many notes."""


def melody_pitches(rng: np.random.Generator, contour: str, kind: str) -> list[int]:
    """MIDI numbers of 6 to 10 notes of a contour, in a random key and scale, in the register of a kind."""
    scale = _scale_pitches(rng, kind)
    notes = int(rng.integers(6, 11))
    places = CONTOURS[contour](rng, notes)
    while np.ptp(places) >= len(scale):  # beyond the register: draw other steps, with fewer notes
        notes = max(5, notes - 1)
        places = CONTOURS[contour](rng, notes)
    lowest = int(rng.integers(0, len(scale) - np.ptp(places)))
    return [scale[place] for place in places - places.min() + lowest]


def melody(rng: np.random.Generator, contour: str, kind: str, samples: int) -> Float32[np.ndarray, " samples"]:
    """A melody of a contour on an instrument; even or uneven notes that fill most of the clip."""
    pitches, voice = melody_pitches(rng, contour, kind), VOICES[kind](rng)
    lengths = rng.uniform(1, 1 + rng.choice([0.05, 0.6]), len(pitches))
    lengths *= samples * rng.uniform(0.75, 0.95) / lengths.sum()
    start = int(rng.integers(0, int(samples - lengths.sum())))
    mix = np.zeros(samples, dtype=np.float32)
    legato = rng.uniform(0.65, 1.0)
    for pitch, length in zip(pitches, lengths, strict=True):
        loudness = np.float32(rng.uniform(0.6, 1.0))
        add_at(mix, loudness * voice(rng, note_hz(pitch), int(length * legato)), start)
        start += int(length)
    return mix


STRUCK = ("electric piano", "pluck", "mallet", "drums", "drums", "drums")
"""Instruments of rhythms: sounds with a clear onset; drums as often as all others together."""

PATTERNS: dict[str, tuple[float, ...]] = {
    "steady": (1,),
    "swing": (2, 1),
    "gallop": (2, 1, 1),
    "bursts": (1, 1, 4),
    "accelerating": (),
    "decelerating": (),
}
"""Classes of the task `rhythm`: relative times between strokes, repeated; the last two change continuously."""


def rhythm_onsets(rng: np.random.Generator, pattern: str, seconds: float) -> np.ndarray:
    """Onset times in seconds; the pulse, the shortest time between strokes, is 0.11 to 0.2 s in all patterns."""
    pulse = rng.uniform(0.11, 0.2)
    count = int(seconds / pulse)
    if PATTERNS[pattern]:
        cycle = np.array(PATTERNS[pattern], dtype=np.float64) / min(PATTERNS[pattern])
        gaps = np.resize(np.roll(cycle, int(rng.integers(3))), count) * pulse
    else:
        # as many strokes as fit, from the pulse to three to four times as long
        slowest = pulse * rng.uniform(3, 4)
        count = int(seconds / np.geomspace(pulse, slowest, 50).mean())
        gaps = np.geomspace(slowest, pulse, count)
        gaps = gaps if pattern == "accelerating" else gaps[::-1]
    gaps = gaps * rng.normal(1, 0.02, count)  # a player isn't a clock
    onsets = rng.uniform(0.0, 0.15) + np.concatenate([[0.0], np.cumsum(gaps)])
    return onsets[onsets < seconds - 0.05]


def rhythm(rng: np.random.Generator, pattern: str, kind: str, samples: int) -> Float32[np.ndarray, " samples"]:
    """A rhythm of short strokes on one to three notes of an instrument, or on one drum (`kind` "drums")."""
    onsets = rhythm_onsets(rng, pattern, samples / SAMPLE_RATE)
    mix = np.zeros(samples, dtype=np.float32)
    if kind == "drums":
        strokes = [drum_stroke(rng, str(rng.choice(["kick", "snare", "hat", "tom"])))]
    else:
        voice, held = VOICES[kind](rng), seconds_to_samples(rng.uniform(0.06, 0.1))
        pitches = rng.choice(_scale_pitches(rng, kind), int(rng.integers(1, 4)))
        strokes = [voice(rng, note_hz(float(pitch)), held) for pitch in pitches]
    for onset in onsets:
        stroke = strokes[int(rng.integers(len(strokes)))]
        add_at(mix, np.float32(rng.uniform(0.6, 1.0)) * stroke, seconds_to_samples(onset))
    return mix


def _scale_pitches(rng: np.random.Generator, kind: str) -> list[int]:
    """All notes of a random key and scale in the register of a kind, from low to high."""
    lowest, highest = REGISTERS[kind]
    key, scale = int(rng.integers(12)), SCALES[int(rng.integers(len(SCALES)))]
    return [note for note in range(lowest, highest + 1) if (note - key) % 12 in scale]
