"""Pitched sources: each function draws an instrument of its kind, a `Voice` that plays notes of any pitch.

Two draws of one kind differ in spectrum, body, envelope and vibrato, as two instruments and players do. Registers
overlap widely, so that kinds can't be recognised by pitch alone. Ranges of the parameters are defaults, chosen by
listening and from spectrograms, after the classical synthesis of each kind (additive, Chowning's FM,
Karplus-Strong, modal).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from matpac.audio import SAMPLE_RATE
from matpac.quickstart.synthetic.signals import (
    HIGHEST_HARMONIC,
    band_noise,
    blend_tables,
    clock,
    cycles_of,
    envelope,
    resonances,
    seconds_to_samples,
    sine,
    wavetable,
)

Voice = Callable[[np.random.Generator, float, int], np.ndarray]
"""`voice(rng, hz, samples)` → float32 [samples + release]: one note of about unit level, held for `samples`."""

HARMONICS = np.arange(1, 41, dtype=np.float64)
"""Harmonics of the additive voices: 40 fill the band for notes from 190 Hz up."""


@dataclass(frozen=True)
class HarmonicTimbre:
    """An additive instrument.

    Args:
        soft: amplitudes of the harmonics when played softly.
        loud: the same when played loudly.
        body_hz: centres of the body's resonances.
        body_width: their widths in Hz.
        attack: seconds of the rise.
        decay: seconds to fall by 1/e while held.
        release: seconds of the end.
        vibrato_hz: rate of vibrato and tremolo.
        vibrato_cents: depth of the vibrato.
        tremolo: depth of the tremolo, as a share.
        breath: level of the noise of breath or bow beside the tone.
        breath_hz: band of that noise.
    """

    soft: Float[np.ndarray, " harmonics"]
    loud: Float[np.ndarray, " harmonics"]
    body_hz: Float[np.ndarray, " peaks"]
    body_width: Float[np.ndarray, " peaks"]
    attack: float
    decay: float
    release: float
    vibrato_hz: float
    vibrato_cents: float
    tremolo: float
    breath: float
    breath_hz: tuple[float, float]

    def __call__(self, rng: np.random.Generator, hz: float, samples: int) -> np.ndarray:
        """One note of `hz` held for `samples`, then released."""
        length = samples + seconds_to_samples(self.release)
        time = clock(length)
        swing = np.sin(2 * np.pi * (self.vibrato_hz * time + rng.uniform()))
        depth = self.vibrato_cents * np.minimum(time / 0.25, 1)  # vibrato sets in after the attack
        cycles = cycles_of(hz * np.exp2(depth * swing / 1200)) + rng.uniform()
        gain = envelope(length, self.attack, self.decay, self.release)
        body = 0.3 + resonances(HARMONICS * hz, self.body_hz, self.body_width)
        soft, loud = (wavetable(spectrum * body, hz) for spectrum in (self.soft, self.loud))
        scale = np.float32(1 / max(np.std(soft), np.std(loud), 1e-6))
        brightness = gain * np.float32(rng.uniform(0.6, 1.0))
        note = blend_tables(soft, loud, cycles, brightness) * scale
        if self.breath > 0:
            note = note + np.float32(self.breath) * band_noise(rng, length, *self.breath_hz)
        return note * gain * (1 + np.float32(self.tremolo) * swing.astype(np.float32))


def _body(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Centres and widths (Hz) of a body's resonances, spread evenly in octaves."""
    centres = 2.0 ** rng.uniform(np.log2(250), np.log2(5000), count)
    return centres, centres * rng.uniform(0.3, 0.8, count)


def flute(rng: np.random.Generator) -> Voice:
    """Few harmonics, breath, slow vibrato."""
    spectrum = HARMONICS ** -rng.uniform(2.0, 3.0)
    spectrum[1] *= rng.uniform(0.7, 2.2)
    spectrum[2] *= rng.uniform(0.7, 1.6)
    return HarmonicTimbre(
        spectrum * HARMONICS**-0.6, spectrum, *_body(rng, 2),
        attack=rng.uniform(0.04, 0.12), decay=float("inf"), release=rng.uniform(0.05, 0.12),
        vibrato_hz=rng.uniform(4.2, 6.0), vibrato_cents=rng.uniform(0, 25), tremolo=rng.uniform(0.0, 0.2),
        breath=rng.uniform(0.03, 0.15), breath_hz=(rng.uniform(600, 1500), rng.uniform(3000, 6000)),
    )  # fmt: skip


def clarinet(rng: np.random.Generator) -> Voice:
    """Odd harmonics, as of a tube closed at one end; hardly any vibrato."""
    spectrum = HARMONICS ** -rng.uniform(0.9, 1.5)
    spectrum[1::2] *= rng.uniform(0.01, 0.08)
    return HarmonicTimbre(
        spectrum * HARMONICS**-0.7, spectrum, *_body(rng, 2),
        attack=rng.uniform(0.02, 0.07), decay=float("inf"), release=rng.uniform(0.03, 0.09),
        vibrato_hz=rng.uniform(4.0, 6.0), vibrato_cents=rng.uniform(0, 8), tremolo=rng.uniform(0.0, 0.05),
        breath=rng.uniform(0.005, 0.04), breath_hz=(800.0, 4000.0),
    )  # fmt: skip


def brass(rng: np.random.Generator) -> Voice:
    """Harmonics that appear with loudness, higher ones later."""
    loud = HARMONICS ** -rng.uniform(0.4, 1.1)
    peak = rng.uniform(700, 1800)
    return HarmonicTimbre(
        loud * HARMONICS ** -rng.uniform(1.5, 2.2), loud, np.array([peak]), np.array([peak * 0.9]),
        attack=rng.uniform(0.05, 0.14), decay=rng.uniform(0.8, 3.0), release=rng.uniform(0.05, 0.1),
        vibrato_hz=rng.uniform(4.5, 6.0), vibrato_cents=rng.uniform(0, 15), tremolo=rng.uniform(0.0, 0.05),
        breath=rng.uniform(0.0, 0.02), breath_hz=(500.0, 3000.0),
    )  # fmt: skip


def strings(rng: np.random.Generator) -> Voice:
    """A sawtooth through a body of many resonances; vibrato; bow noise."""
    spectrum = HARMONICS ** -rng.uniform(0.8, 1.3)
    return HarmonicTimbre(
        spectrum * HARMONICS**-0.3, spectrum, *_body(rng, 6),
        attack=rng.uniform(0.05, 0.18), decay=float("inf"), release=rng.uniform(0.08, 0.2),
        vibrato_hz=rng.uniform(4.8, 6.8), vibrato_cents=rng.uniform(8, 38), tremolo=rng.uniform(0.0, 0.12),
        breath=rng.uniform(0.01, 0.05), breath_hz=(1500.0, 6500.0),
    )  # fmt: skip


def organ(rng: np.random.Generator) -> Voice:
    """Drawbars: a few harmonics an octave or a fifth apart, held at a constant level."""
    spectrum = np.zeros(HARMONICS.size)
    bars = np.array([1, 2, 3, 4, 5, 6, 8])
    spectrum[bars - 1] = rng.uniform(0, 1, bars.size) ** 2 + 0.02
    spectrum[0] += 0.3
    spectrum[[1, 3, 7]] += rng.uniform(0.0, 0.5, 3)
    rotary = rng.uniform(0, 1) < 0.4
    return HarmonicTimbre(
        spectrum, spectrum, *_body(rng, 1),
        attack=rng.uniform(0.004, 0.02), decay=float("inf"), release=rng.uniform(0.02, 0.06),
        vibrato_hz=rng.uniform(5.5, 7.0), vibrato_cents=10.0 * rotary, tremolo=0.15 * rotary,
        breath=0.0, breath_hz=(500.0, 3000.0),
    )  # fmt: skip


def electric_piano(rng: np.random.Generator) -> Voice:
    """FM at ratio 1 with a falling index, and the struck tine at a high one."""
    index, tine_level = rng.uniform(0.6, 2.5), rng.uniform(0.05, 0.35)
    decay, release = rng.uniform(0.4, 1.4), rng.uniform(0.05, 0.15)
    detune, tine_ratio = rng.uniform(0.0, 1.0), float(rng.integers(5, 15))

    def note(rng: np.random.Generator, hz: float, samples: int) -> np.ndarray:
        length = samples + seconds_to_samples(release)
        cycles = cycles_of(np.full(length, hz)) + rng.uniform()
        strike = np.float32(index * rng.uniform(0.6, 1.2) / (2 * np.pi))
        fall = envelope(length, 0.001, decay * 0.4, 0.0) * strike
        tone = sine(cycles + fall * sine(cycles + detune * clock(length)))
        ratio = min(tine_ratio, np.floor(HIGHEST_HARMONIC / hz))
        tine = sine(ratio * cycles) * envelope(length, 0.001, 0.06, 0.0)
        return (tone + np.float32(tine_level) * tine) * envelope(length, 0.003, decay, release)

    return note


def bell(rng: np.random.Generator) -> Voice:
    """Chowning's bell: FM at a ratio that isn't an integer, index and level falling together."""
    ratio, index = float(rng.choice([1.4, 1.4142, 2.4, 2.76, 3.5])), rng.uniform(1.5, 5.0)
    decay, release = rng.uniform(0.5, 1.6), rng.uniform(0.2, 0.6)

    def note(rng: np.random.Generator, hz: float, samples: int) -> np.ndarray:
        length = samples + seconds_to_samples(release)
        cycles = cycles_of(np.full(length, hz)) + rng.uniform()
        # the index stays below what fits into the band (Carson's rule), so nothing aliases
        room = max(0.5, (HIGHEST_HARMONIC / hz - 1) / ratio - 1)
        fall = envelope(length, 0.001, decay * 0.7, 0.0) * np.float32(min(index, room) / (2 * np.pi))
        return sine(cycles + fall * sine(cycles * ratio)) * envelope(length, 0.002, decay, release)

    return note


def pluck(rng: np.random.Generator) -> Voice:
    """Karplus-Strong: a burst of noise in a loop that dampens each harmonic at every turn."""
    smoothing, loss = rng.uniform(0.1, 0.5), rng.uniform(0.985, 0.998)
    hardness, position = rng.uniform(0.0, 1.0), rng.uniform(0.08, 0.45)
    release = rng.uniform(0.05, 0.15)

    def note(rng: np.random.Generator, hz: float, samples: int) -> np.ndarray:
        length = samples + seconds_to_samples(release)
        period = max(8, int(SAMPLE_RATE / hz))
        speed = hz * period / SAMPLE_RATE  # resampling from the integer period to the true one
        burst = rng.uniform(-1, 1, period)
        burst = hardness * burst + (1 - hardness) * (burst + np.roll(burst, 1) + np.roll(burst, 2)) / 3
        burst -= np.roll(burst, max(1, int(position * period)))  # nodes at the place where it is plucked
        # the gain of the loop's two-point mean at each harmonic, to the power of the turns: all turns at once
        turn_angle = 2 * np.pi * np.arange(period // 2 + 1) / period
        gain = loss * np.abs(1 - smoothing + smoothing * np.exp(-1j * turn_angle))
        turns = np.arange(int(length * speed) // period + 2)
        spectra = np.fft.rfft(burst) * np.exp(turns[:, None] * np.log(gain + 1e-6)[None, :])
        heard = np.fft.irfft(spectra, period, axis=1).ravel()
        tone = np.interp(np.arange(length) * speed, np.arange(heard.size), heard).astype(np.float32)
        return 2 * tone * envelope(length, 0.001, float("inf"), release)

    return note


def mallet(rng: np.random.Generator) -> Voice:
    """A struck bar: three modes of a tuned bar, higher ones shorter, and the knock of the stick."""
    ratios = np.array([1.0, rng.uniform(3.8, 4.1), rng.uniform(9.0, 10.2)])
    levels = np.array([1.0, rng.uniform(0.1, 0.6), rng.uniform(0.03, 0.3)])
    decay, knock = rng.uniform(0.12, 0.5), rng.uniform(0.05, 0.4)
    release = rng.uniform(0.1, 0.3)

    def note(rng: np.random.Generator, hz: float, samples: int) -> np.ndarray:
        length = samples + seconds_to_samples(release)
        cycles = cycles_of(np.full(length, hz))
        tone = np.zeros(length, dtype=np.float32)
        for ratio, level in zip(ratios, levels, strict=True):
            if ratio * hz < HIGHEST_HARMONIC:
                tone += np.float32(level) * sine(cycles * ratio) * envelope(length, 0.001, decay / ratio, 0.0)
        stick = band_noise(rng, length, 500.0, 3000.0) * envelope(length, 0.001, 0.008, 0.0)
        return 1.5 * (tone + np.float32(knock) * stick) * envelope(length, 0.002, float("inf"), release)

    return note


VOICES: dict[str, Callable[[np.random.Generator], Voice]] = {
    "flute": flute,
    "clarinet": clarinet,
    "brass": brass,
    "strings": strings,
    "organ": organ,
    "electric piano": electric_piano,
    "bell": bell,
    "pluck": pluck,
    "mallet": mallet,
}
"""Pitched kinds by name."""

REGISTERS: dict[str, tuple[int, int]] = {
    "flute": (60, 91),
    "clarinet": (50, 84),
    "brass": (43, 75),
    "strings": (50, 86),
    "organ": (43, 79),
    "electric piano": (45, 81),
    "bell": (57, 89),
    "pluck": (40, 76),
    "mallet": (53, 88),
}
"""Lowest and highest MIDI note of each kind: the middle of the range of such instruments."""
