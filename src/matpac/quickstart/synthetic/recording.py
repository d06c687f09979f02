"""A random recording chain: room, equaliser, background noise, gain.

Two recordings of one thing differ in these; here they do too, at random for each clip, so that
what sounds must be told from the structure of the sound rather than from its mean spectrum.
"""

import numpy as np
from jaxtyping import Float, Float32

from matpac.audio import SAMPLE_RATE
from matpac.quickstart.synthetic.signals import (
    clock,
    coloured_noise,
    decibels,
    fade_ends,
    quick_length,
    rms,
    seconds_to_samples,
)

ROOM_SECONDS = 0.6
"""Length of the impulse response; the longest decay drawn is down by 45 dB there."""


def record(rng: np.random.Generator, dry: Float32[np.ndarray, " samples"]) -> Float32[np.ndarray, " samples"]:
    """The dry scene as recorded somewhere by something: peak between -24 and -1 dB of full scale."""
    size = quick_length(dry.size + seconds_to_samples(ROOM_SECONDS))
    bins = np.fft.rfftfreq(size, 1 / SAMPLE_RATE).astype(np.float32)
    spectrum = np.fft.rfft(dry, size) * np.fft.rfft(room(rng), size) * equaliser(rng, bins)
    wet = np.fft.irfft(spectrum, size)[: dry.size].astype(np.float32)
    background = coloured_noise(rng, dry.size, rng.uniform(-6, 0))
    recorded = wet / np.float32(rms(wet)) + background * np.float32(decibels(-rng.uniform(6, 35)))
    peak = decibels(rng.uniform(-24, -1))
    return fade_ends(recorded * np.float32(peak / np.abs(recorded).max()))


def room(rng: np.random.Generator) -> Float32[np.ndarray, " taps"]:
    """Impulse response: the direct sound, then noise that decays by 60 dB in 0.1 to 0.8 s."""
    length = seconds_to_samples(ROOM_SECONDS)
    decay = rng.uniform(0.1, 0.8)
    tail = rng.standard_normal(length, dtype=np.float32) * np.exp(-6.9 / decay * clock(length))
    tail *= np.float32(decibels(rng.uniform(-25, -6)) / np.sqrt(np.square(tail).sum()))
    tail[0] = 1.0
    return tail


def equaliser(rng: np.random.Generator, hz: Float[np.ndarray, " bins"]) -> Float[np.ndarray, " bins"]:
    """Amplitude at each frequency: a tilt within ±2 dB an octave and a gentle random curve of ±5 dB; a low cut."""
    octaves = np.log2(np.maximum(hz, 60.0) / 1000.0)
    knots = np.linspace(octaves[0], octaves[-1], 7)
    curve = np.interp(octaves, knots, rng.uniform(-5, 5, knots.size))
    level = rng.uniform(-2, 2) * octaves + curve.astype(np.float32)
    low_cut = np.square(hz) / (np.square(hz) + 40.0**2)  # no microphone hears a standing pressure
    return low_cut * np.exp(level * np.float32(np.log(10) / 20))
