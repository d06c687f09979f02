"""Sources without a melody: drums, speech, sirens, birdsong, engines, rain, crackle.

`texture(rng, samples)` → float32 [samples] at any level, random in every parameter. Ranges of the parameters are
defaults, chosen by listening and from spectrograms.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Float32

from matpac.audio import SAMPLE_RATE
from matpac.quickstart.synthetic.signals import (
    add_at,
    band_noise,
    blend_tables,
    clock,
    cycles_of,
    envelope,
    quick_length,
    read_table,
    resonances,
    rms,
    seconds_to_samples,
    shaped_noise,
    sine,
    wavetable,
)

VOWELS = np.array(
    [
        [730, 1090, 2440],
        [270, 2290, 3010],
        [300, 870, 2240],
        [530, 1840, 2480],
        [570, 840, 2410],
        [440, 1020, 2240],
    ],
    dtype=np.float64,
)
"""Hz of the first three formants of six English vowels (Peterson and Barney 1952, table II, men)."""

CONSONANTS = ((4000.0, 7500.0, 0.12), (2200.0, 6000.0, 0.10), (1500.0, 4000.0, 0.02), (500.0, 2000.0, 0.03))
"""Band (Hz) and length (s) of the noise of s, sh, t and k."""


def drum_stroke(rng: np.random.Generator, kind: str) -> Float32[np.ndarray, " samples"]:
    """One stroke of a `kick`, `snare`, `hat` or `tom`; each call draws another drum."""
    if kind == "hat":
        length = seconds_to_samples(rng.uniform(0.04, 0.2))
        noise = band_noise(rng, length, rng.uniform(4000, 6500), 9000.0)
        return np.float32(0.4) * noise * envelope(length, 0.001, length / SAMPLE_RATE / 4, 0.01)
    low, sweep, seconds = {
        "kick": (rng.uniform(45, 75), rng.uniform(1.5, 4.0), rng.uniform(0.15, 0.35)),
        "snare": (rng.uniform(150, 230), 0.4, rng.uniform(0.12, 0.25)),
        "tom": (rng.uniform(80, 220), rng.uniform(0.3, 0.8), rng.uniform(0.2, 0.4)),
    }[kind]
    length = seconds_to_samples(seconds)
    skin = sine(cycles_of(low * (1 + sweep * np.exp(-clock(length) / 0.03))))
    stroke = skin * envelope(length, 0.002, seconds / 3, 0.02)
    rattle = {"kick": 0.05, "snare": rng.uniform(0.4, 0.9), "tom": 0.08}[kind]
    noise = band_noise(rng, length, 700.0, 6000.0) * envelope(length, 0.001, seconds / 4, 0.02)
    return stroke + np.float32(rattle) * noise


def drums(rng: np.random.Generator, samples: int) -> Float32[np.ndarray, " samples"]:
    """A kit that plays a random pattern of sixteenths at 75 to 150 beats per minute."""
    step = 60 / rng.uniform(75, 150) / 4
    kit = {kind: drum_stroke(rng, kind) for kind in ("kick", "snare", "hat", "tom")}
    chance = {
        "kick": np.tile([0.9, 0.05, 0.2, 0.1], 4),
        "snare": np.tile([0.05, 0.05, 0.05, 0.1, 0.85, 0.05, 0.1, 0.1], 2),
        "hat": np.tile([0.8, rng.choice([0.1, 0.8])], 8),
        "tom": np.full(16, rng.choice([0.0, 0.15])),
    }
    pattern = {kind: rng.uniform(size=16) < odds for kind, odds in chance.items()}
    level = {kind: rng.uniform(0.3, 1.0) for kind in kit}
    first = int(rng.integers(16))
    mix = np.zeros(samples, dtype=np.float32)
    for number in range(int(samples / SAMPLE_RATE / step) + 1):
        for kind, stroke in kit.items():
            if pattern[kind][(number + first) % 16]:
                loudness = np.float32(level[kind] * rng.uniform(0.7, 1.0))
                add_at(mix, loudness * stroke, seconds_to_samples(number * step))
    return mix


def speech(rng: np.random.Generator, samples: int) -> Float32[np.ndarray, " samples"]:
    """Syllables: a noise for the consonant, then a voice gliding between two vowels' formants."""
    pitch, tract = rng.uniform(90, 260), rng.uniform(0.95, 1.25)
    rate, tilt = rng.uniform(3.0, 6.0), rng.uniform(1.0, 1.6)
    mix = np.zeros(samples, dtype=np.float32)
    start = 0
    while start < samples:
        length = seconds_to_samples(rng.uniform(0.6, 1.2) / rate)
        if rng.uniform() < 0.6:
            low, high, seconds = CONSONANTS[int(rng.integers(len(CONSONANTS)))]
            hiss = band_noise(rng, seconds_to_samples(seconds), low, high)
            hiss *= envelope(hiss.size, seconds / 3, float("inf"), seconds / 3)
            add_at(mix, np.float32(rng.uniform(0.1, 0.35)) * hiss, start)
            start += seconds_to_samples(seconds * 0.8)
        add_at(mix, _syllable(rng, length, pitch * rng.uniform(0.85, 1.2), tract, tilt), start)
        pause = rng.uniform(0.15, 0.5) if rng.uniform() < 0.12 else rng.uniform(0.0, 0.05)
        start += length + seconds_to_samples(pause)
    return mix


def _syllable(
    rng: np.random.Generator, samples: int, hz: float, tract: float, tilt: float
) -> Float32[np.ndarray, " samples"]:
    vowels = VOWELS[rng.integers(len(VOWELS), size=2)] * tract
    cycles = cycles_of(np.linspace(hz, hz * rng.uniform(0.75, 1.15), samples))
    harmonics = np.arange(1, 61, dtype=np.float64)
    widths = np.array([80.0, 110.0, 160.0])
    tables = [
        wavetable(harmonics**-tilt * resonances(harmonics * hz, formants, widths), hz) for formants in vowels
    ]
    start, end = (table / np.float32(rms(table)) for table in tables)
    voice = blend_tables(start, end, cycles, np.linspace(0, 1, samples, dtype=np.float32))
    return voice * envelope(samples, 0.03, float("inf"), 0.05) * np.float32(rng.uniform(0.5, 1.0))


def siren(rng: np.random.Generator, samples: int) -> Float32[np.ndarray, " samples"]:
    """A tone sweeping up and down: wailing, yelping, or changing between two pitches."""
    low = rng.uniform(350, 900)
    octaves, rate = rng.uniform(0.4, 1.3), 2.0 ** rng.uniform(-2, 2.3)
    turn = (rate * clock(samples) + rng.uniform()) % 1.0
    shape = int(rng.integers(4))
    if shape == 0:
        height = 0.5 - 0.5 * np.cos(2 * np.pi * turn)
    elif shape == 1:
        height = 1 - np.abs(2 * turn - 1)
    elif shape == 2:
        height = np.minimum(turn / 0.9, (1 - turn) / 0.1)  # up, and quickly back
    else:
        height = 1 / (1 + np.exp(np.clip(60 * (np.abs(turn - 0.5) - 0.25), -50, 50)))  # high, low
    cycles = cycles_of(low * 2.0 ** (octaves * height))
    spectrum = np.arange(1, 11, dtype=np.float64) ** -rng.uniform(0.8, 3.0)
    return read_table(wavetable(spectrum, low * 2.0**octaves), cycles)


def birdsong(rng: np.random.Generator, samples: int) -> Float32[np.ndarray, " samples"]:
    """Quick chirps between 1.8 and 6 kHz in groups that repeat a few shapes."""
    centre = rng.uniform(2200, 4800)
    shapes = [
        (
            seconds_to_samples(rng.uniform(0.03, 0.16)),
            rng.uniform(-0.5, 0.5),
            rng.uniform(-0.4, 0.4),
            rng.uniform(8, 60),
        )
        for _ in range(int(rng.integers(1, 4)))
    ]
    trill = rng.uniform(0.0, 0.08)
    mix = np.zeros(samples, dtype=np.float32)
    start = 0
    while start < samples:
        length, slope, bend, wobble = shapes[int(rng.integers(len(shapes)))]
        repeats, gap = int(rng.integers(1, 6)), seconds_to_samples(rng.uniform(0.01, 0.06))
        along = np.linspace(-1, 1, length)
        curve = slope * along + bend * (along**2 - 0.5) + trill * np.sin(2 * np.pi * wobble * clock(length))
        hz = np.clip(centre * 2.0**curve, 1800, 6500)
        chirp = sine(cycles_of(hz)) * envelope(length, 0.012, float("inf"), 0.02)
        for _ in range(repeats):
            add_at(mix, chirp * np.float32(rng.uniform(0.6, 1.0)), start)
            start += length + gap
        start += seconds_to_samples(rng.uniform(0.05, 0.4))
    return mix


def engine(rng: np.random.Generator, samples: int) -> Float32[np.ndarray, " samples"]:
    """Firing pulses 20 to 110 times a second, revving, through an exhaust; air noise in their beat."""
    base, swing = rng.uniform(20, 75), rng.uniform(0.0, 0.6)
    turn = np.sin(2 * np.pi * (rng.uniform(0.1, 0.6) * clock(samples) + rng.uniform()))
    jitter = rng.standard_normal(samples, dtype=np.float32)
    cycles = cycles_of(base * (1 + swing * turn) + 2 * jitter) + rng.uniform()
    harmonics = np.arange(1, 121, dtype=np.float64)
    pipes = 2.0 ** rng.uniform(np.log2(80), np.log2(1800), 4)
    spectrum = harmonics**-0.4 * (0.05 + resonances(harmonics * base, pipes, pipes * 0.6))
    # cylinders differ: the table holds two firings, the second of another strength
    spectrum[::2] *= rng.uniform(0.2, 1.0)
    pulses = read_table(wavetable(spectrum, base), cycles)
    beat = np.square(0.5 + 0.5 * sine(cycles))
    air = band_noise(rng, samples, rng.uniform(200, 900), rng.uniform(1500, 4000)) * beat
    return pulses / np.float32(rms(pulses)) + np.float32(rng.uniform(0.1, 0.7)) * air


def rain(rng: np.random.Generator, samples: int) -> Float32[np.ndarray, " samples"]:
    """Many small drops on one or two surfaces over a hiss."""
    hiss = band_noise(rng, samples, rng.uniform(500, 2500), rng.uniform(3000, 7000))
    drops = _impacts(rng, samples, rate=rng.uniform(60, 400), spread=rng.uniform(0.5, 1.0))
    surface = 2.0 ** rng.uniform(np.log2(800), np.log2(4500), 2)
    ringing = _ringing(drops, surface, rng.uniform(300, 1500))
    return hiss * np.float32(rng.uniform(0.1, 0.6)) + ringing


def crackle(rng: np.random.Generator, samples: int) -> Float32[np.ndarray, " samples"]:
    """A fire: few sharp cracks of very different strength, in flurries, over a low roar."""
    flurry = 1 + sine(cycles_of(np.full(samples, rng.uniform(0.3, 1.5))) + rng.uniform())
    cracks = _impacts(rng, samples, rate=rng.uniform(8, 45), spread=rng.uniform(1.0, 1.6), density=flurry)
    wood = 2.0 ** rng.uniform(np.log2(900), np.log2(4500), 3)
    roar = shaped_noise(rng, samples, lambda hz: 1 / (1 + (hz / 150.0) ** 1.5))
    return _ringing(cracks, wood, rng.uniform(600, 2500)) + np.float32(rng.uniform(0.1, 0.5)) * roar


def _impacts(
    rng: np.random.Generator,
    samples: int,
    rate: float,
    spread: float,
    density: Float[np.ndarray, " samples"] | None = None,
) -> Float32[np.ndarray, " samples"]:
    """Single-sample impacts, `rate` per second on average, of log-normal strength and either sign."""
    odds = np.full(samples, rate / SAMPLE_RATE) if density is None else rate / SAMPLE_RATE * density
    places = np.flatnonzero(rng.random(samples, dtype=np.float32) < odds)
    impacts = np.zeros(samples, dtype=np.float32)
    impacts[places] = rng.lognormal(0, spread, places.size) * rng.choice([-1, 1], places.size)
    return impacts


def _ringing(
    impacts: Float32[np.ndarray, " samples"], centres: Float[np.ndarray, " peaks"], damping: float
) -> Float32[np.ndarray, " samples"]:
    """Impacts through the decaying resonances of what they hit; unit RMS."""
    time = clock(seconds_to_samples(0.03))
    response = np.sin(2 * np.pi * centres[:, None] * time).sum(axis=0) * np.exp(-damping * time)
    size = quick_length(impacts.size + time.size)
    spectrum = np.fft.rfft(impacts, size) * np.fft.rfft(response.astype(np.float32), size)
    heard = np.fft.irfft(spectrum, size)[: impacts.size]
    return (heard / rms(heard)).astype(np.float32)


TEXTURES: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "drums": drums,
    "speech": speech,
    "siren": siren,
    "birdsong": birdsong,
    "engine": engine,
    "rain": rain,
    "crackle": crackle,
}
"""Kinds without a melody by name."""
