"""Building blocks of all synthetic sounds: noises, filters, envelopes, wavetables, and the recording of a scene.

All signals are mono float32 at `SAMPLE_RATE`. Frequencies are in hertz, times in seconds.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Float32, Shaped

from matpac.audio import SAMPLE_RATE

TABLE_SIZE = 2048
"""Samples of one wavetable period: read linearly, 40 harmonics have errors below -60 dB."""

HIGHEST_HARMONIC = 7_600.0
"""Hz. Higher harmonics are omitted: half the rate, less what a vibrato needs."""

ROOM_SECONDS = 0.6
"""Length of a room's impulse response; the longest decay drawn has fallen by 45 dB there."""


def seconds_to_samples(seconds: float) -> int:
    """Number of samples nearest to a duration."""
    return round(seconds * SAMPLE_RATE)


def clock(samples: int) -> Float32[np.ndarray, " samples"]:
    """Time in seconds of each of `samples` samples."""
    return np.arange(samples, dtype=np.float32) / np.float32(SAMPLE_RATE)


def decibels(level: float) -> float:
    """Amplitude ratio of a level in dB."""
    return float(10.0 ** (level / 20.0))


def rms(signal: Float[np.ndarray, " samples"]) -> float:
    """Root mean square of a signal; never zero, so that it can be a divisor."""
    return float(np.sqrt(np.dot(signal, signal) / signal.size + 1e-12))


def shaped_noise(
    rng: np.random.Generator, samples: int, gain: Callable[[np.ndarray], np.ndarray]
) -> Float32[np.ndarray, " samples"]:
    """Gaussian noise of unit RMS whose spectrum follows `gain`, a function of frequency.

    The noise is drawn as a spectrum and transformed once: cheaper than filtering white noise.
    """
    size = quick_length(samples)
    frequencies = np.fft.rfftfreq(size, 1 / SAMPLE_RATE).astype(np.float32)
    spectrum = rng.standard_normal(2 * frequencies.size, dtype=np.float32).view(np.complex64)
    spectrum *= gain(frequencies)
    noise = np.fft.irfft(spectrum, size)[:samples].astype(np.float32)
    return noise / np.float32(rms(noise))


def coloured_noise(rng: np.random.Generator, samples: int, slope: float) -> Float32[np.ndarray, " samples"]:
    """Noise of unit RMS with a spectral slope in dB per octave: 0 is white, -3 pink, -6 brown."""
    # 6.02 dB per octave are one power of frequency
    return shaped_noise(rng, samples, lambda hz: np.maximum(hz, 30.0) ** (slope / 6.02))


def band_noise(rng: np.random.Generator, samples: int, low: float, high: float) -> Float32[np.ndarray, " samples"]:
    """Noise of unit RMS between two frequencies, with skirts of 12 dB per octave."""
    return shaped_noise(
        rng, samples, lambda hz: 1 / (1 + (low / np.maximum(hz, 1.0)) ** 2) / (1 + (hz / high) ** 2)
    )


def resonances(
    hz: Float[np.ndarray, " bins"],
    centres: Shaped[np.ndarray, " peaks"],
    widths: Shaped[np.ndarray, " peaks"],
) -> Float[np.ndarray, " bins"]:
    """Amplitude of a sum of resonances (1 at each centre), as of a body or a vocal tract."""
    distance = (hz[:, None] - centres[None, :]) / widths[None, :]
    return (1 / np.sqrt(1 + np.square(2 * distance))).sum(axis=1)


def _ramp(samples: int) -> Float32[np.ndarray, " samples"]:
    return np.square(np.sin(np.linspace(0, np.pi / 2, samples, endpoint=False, dtype=np.float32)))


def envelope(samples: int, attack: float, decay: float, release: float) -> Float32[np.ndarray, " samples"]:
    """Loudness over a note: a smooth rise, an exponential fall, a smooth end.

    `decay` is the time to fall by 1/e (`inf`: held). The rise and the end are cut short when the
    note is shorter than both.
    """
    gain = np.exp(-clock(samples) / np.float32(decay)).astype(np.float32)
    rise = min(seconds_to_samples(attack), samples // 2)
    end = min(seconds_to_samples(release), samples // 2)
    gain[:rise] *= _ramp(rise)
    gain[samples - end :] *= _ramp(end)[::-1]
    return gain


def fade_ends(signal: Float32[np.ndarray, " samples"], seconds: float = 0.005) -> Float32[np.ndarray, " samples"]:
    """The signal with its first and last samples brought smoothly to zero, so that a cut doesn't click."""
    return signal * envelope(signal.size, seconds, float("inf"), seconds)


def wavetable(amplitudes: Float[np.ndarray, " harmonics"], hz: float) -> Float32[np.ndarray, "2048"]:
    """One period with the given harmonic amplitudes (the fundamental first), those that fit under `hz`."""
    fitting = min(amplitudes.size, max(1, int(HIGHEST_HARMONIC / hz)))
    spectrum = np.zeros(TABLE_SIZE // 2 + 1, dtype=np.complex64)
    spectrum[1 : fitting + 1] = -1j * amplitudes[:fitting] * (TABLE_SIZE / 2)
    return np.fft.irfft(spectrum, TABLE_SIZE).astype(np.float32)


def cycles_of(hz: Float[np.ndarray, " samples"]) -> Float[np.ndarray, " samples"]:
    """Phase in cycles of a tone whose frequency at each sample is `hz`."""
    return np.cumsum(hz, dtype=np.float64) / SAMPLE_RATE


def read_table(
    table: Float32[np.ndarray, "2048"], cycles: Float[np.ndarray, " samples"]
) -> Float32[np.ndarray, " samples"]:
    """A wavetable read along a phase in cycles, linear between its points."""
    return blend_tables(table, table, cycles, None)


def blend_tables(
    first: Float32[np.ndarray, "2048"],
    second: Float32[np.ndarray, "2048"],
    cycles: Float[np.ndarray, " samples"],
    share: Float32[np.ndarray, " samples"] | None,
) -> Float32[np.ndarray, " samples"]:
    """Two wavetables read along one phase, mixed with a `share` of the second (None: no second)."""
    position = cycles * TABLE_SIZE
    whole = position.astype(np.int64)
    rest = (position - whole).astype(np.float32)
    here = whole & (TABLE_SIZE - 1)
    sound = first[here] + rest * (np.roll(first, -1) - first)[here]
    if share is None:
        return sound
    change = second - first
    return sound + share * (change[here] + rest * (np.roll(change, -1) - change)[here])


def sine(cycles: Float[np.ndarray, " samples"]) -> Float32[np.ndarray, " samples"]:
    """Sine of a phase in cycles; wrapped first, so that float32 is exact enough at any time."""
    wrapped = (cycles - np.floor(cycles)).astype(np.float32)
    return np.sin(np.float32(2 * np.pi) * wrapped)


def quick_length(samples: int) -> int:
    """The shortest length of `samples` or more without a prime factor above 5, quick to transform."""
    length = samples
    while True:
        rest = length
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return length
        length += 1


def add_at(mix: Float32[np.ndarray, " samples"], part: Float32[np.ndarray, " part"], start: int) -> None:
    """Add `part` to `mix` from sample `start` on, in place; cut off at the end."""
    end = min(mix.size, start + part.size)
    if end > start:
        mix[start:end] += part[: end - start]


def record(rng: np.random.Generator, dry: Float32[np.ndarray, " samples"]) -> Float32[np.ndarray, " samples"]:
    """A dry scene through a random recording chain: room, equaliser, background noise, gain.

    As any two recordings do, clips differ in these, so that classes must be recognised by the structure of the
    sound rather than by its mean spectrum. The peak is between -24 and -1 dB of full scale.
    """
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
    """Amplitude at each frequency: a tilt within ±2 dB per octave, a random curve of ±5 dB, a low cut."""
    octaves = np.log2(np.maximum(hz, 60.0) / 1000.0)
    knots = np.linspace(octaves[0], octaves[-1], 7)
    curve = np.interp(octaves, knots, rng.uniform(-5, 5, knots.size))
    level = rng.uniform(-2, 2) * octaves + curve.astype(np.float32)
    low_cut = np.square(hz) / (np.square(hz) + 40.0**2)  # no microphone records a constant pressure
    return low_cut * np.exp(level * np.float32(np.log(10) / 20))
