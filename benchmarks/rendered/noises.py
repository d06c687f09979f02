"""Noises of sox and numpy, alone and mixed: rain, wind, engines, water, bells, steps and more.

`NOISES[kind](rng, samples)` sounds for the whole length at any level. Rain, engine, crackle, siren and birdsong
are those of `matpac.quickstart.synthetic`. Ranges of the parameters are defaults, chosen by listening.
"""

import shutil
import subprocess
from collections.abc import Callable

import numpy as np

from matpac.audio import SAMPLE_RATE
from matpac.quickstart.synthetic.signals import add_at, band_noise, clock, coloured_noise, cycles_of, rms, sine
from matpac.quickstart.synthetic.textures import birdsong, crackle, engine, rain, siren

from .clips import Clip, Noises, Part, draw_clips, share_out


def wind(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Brown noise and a whistling band, in gusts."""
    gusts = np.interp(clock(samples), np.linspace(0, samples / SAMPLE_RATE, 9), rng.uniform(0.1, 1.0, 9))
    low = float(rng.uniform(200, 700))
    howl = band_noise(rng, samples, low, low * 1.3) * np.float32(rng.uniform(0.2, 0.8))
    return ((coloured_noise(rng, samples, -7.0) + howl) * gusts).astype(np.float32)


def waves(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Surf: pink noise that swells and breaks every three to six seconds."""
    turn = (clock(samples) / rng.uniform(3, 6) + rng.uniform()) % 1.0
    swell = np.where(turn < 0.6, (turn / 0.6) ** 2, np.exp(-5 * (turn - 0.6) / 0.4))
    broken = band_noise(rng, samples, 800.0, 5000.0) * swell**2
    return (coloured_noise(rng, samples, -3.0) * (0.15 + swell) + broken).astype(np.float32)


def _struck(rng: np.random.Generator, samples: int, every: float, stroke: Callable[[], np.ndarray]) -> np.ndarray:
    """Strokes at a nearly steady pace."""
    mix = np.zeros(samples, dtype=np.float32)
    start = int(rng.integers(0, max(1, int(every * SAMPLE_RATE))))
    while start < samples:
        add_at(mix, stroke() * np.float32(rng.uniform(0.7, 1.0)), start)
        start += max(1, int(every * rng.uniform(0.93, 1.07) * SAMPLE_RATE))
    return mix


def clock_ticks(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Short bright clicks, one to five per second."""
    hz, decay = rng.uniform(1800, 5000), rng.uniform(150, 500)
    time = clock(1600)
    click = (np.sin(2 * np.pi * hz * time) * np.exp(-decay * time)).astype(np.float32)
    return _struck(rng, samples, 1 / rng.uniform(1, 5), lambda: click)


def footsteps(rng: np.random.Generator, samples: int) -> np.ndarray:
    """A thud and a scrape, one and a half to three times per second."""
    low, grit = rng.uniform(60, 160), rng.uniform(0.1, 0.6)
    time = clock(3200)

    def step() -> np.ndarray:
        thud = np.sin(2 * np.pi * low * time) * np.exp(-25 * time)
        scrape = band_noise(rng, time.size, 700.0, 5000.0) * np.exp(-40 * np.abs(time - 0.05))
        return (thud + grit * scrape).astype(np.float32)

    return _struck(rng, samples, 1 / rng.uniform(1.5, 3), step)


def bells(rng: np.random.Generator, samples: int) -> np.ndarray:
    """A struck bell: six inharmonic partials, ringing."""
    hz = rng.uniform(250, 1200)
    partials = np.array([0.5, 1.0, 1.19, 1.5, 2.0, 2.74]) * hz
    time = clock(2 * SAMPLE_RATE)
    ring = (np.sin(2 * np.pi * partials[:, None] * time) * np.exp(-partials[:, None] / 400 * time)).mean(axis=0)
    return _struck(rng, samples, rng.uniform(0.8, 2.5), lambda: ring.astype(np.float32))


def bubbles(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Water: many short rising tones between 300 and 2,500 Hz (Minnaert's bubbles)."""
    mix = np.zeros(samples, dtype=np.float32)
    for _ in range(int(rng.uniform(12, 50) * samples / SAMPLE_RATE)):
        seconds, hz = rng.uniform(0.02, 0.09), 2.0 ** rng.uniform(8.2, 11.3)
        time = clock(int(seconds * SAMPLE_RATE))
        rising = cycles_of(hz * (1 + rng.uniform(0.1, 0.6) * time / seconds))
        add_at(mix, sine(rising) * np.exp(-4 * time / seconds), int(rng.integers(samples)))
    return mix + np.float32(0.02) * coloured_noise(rng, samples, -3.0)


def beeps(rng: np.random.Generator, samples: int) -> np.ndarray:
    """An electronic beeper: a steady tone, on and off."""
    hz, period = rng.uniform(700, 3200), rng.uniform(0.15, 0.9)
    on = ((clock(samples) / period + rng.uniform()) % 1.0) < rng.uniform(0.3, 0.7)
    return (np.tanh(3 * sine(cycles_of(np.full(samples, hz)))) * on).astype(np.float32)


def applause(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Hundreds of claps: short bursts of a band around 1 to 2.5 kHz."""
    mix = np.zeros(samples, dtype=np.float32)
    claps = [
        band_noise(rng, 480, rng.uniform(600, 1200), rng.uniform(1800, 3000)) * np.exp(-np.arange(480) / 70)
        for _ in range(20)
    ]
    for start in rng.integers(0, samples, size=int(rng.uniform(40, 200) * samples / SAMPLE_RATE)):
        add_at(mix, claps[int(rng.integers(20))].astype(np.float32) * rng.uniform(0.3, 1), int(start))
    return mix


def machine(rng: np.random.Generator, samples: int) -> np.ndarray:
    """A hum with its harmonics and a tremolo: sox's synthesiser through its overdrive, flanger and echo."""
    if shutil.which("sox") is None:
        raise FileNotFoundError("sox is not installed: apt-get install sox")
    hz, beat = rng.uniform(50, 240), rng.uniform(4, 25)
    command = [
        "sox", "-R", "-n", "-r", str(SAMPLE_RATE), "-c", "1", "-e", "floating-point", "-b", "32", "-t", "raw", "-",
        "synth", f"{samples}s", str(rng.choice(["sawtooth", "square", "trapezium"])), f"{hz:.2f}",
        "gain", "-12", "overdrive", f"{rng.uniform(2, 20):.1f}", "flanger", "tremolo", f"{beat:.2f}",
        f"{rng.uniform(20, 80):.0f}", "echo", "0.8", "0.8", f"{rng.uniform(10, 60):.0f}", "0.4",
    ]  # fmt: skip
    done = subprocess.run(command, check=True, capture_output=True)
    hum = np.frombuffer(done.stdout, "<f4")
    return np.resize(hum, samples).astype(np.float32) + np.float32(0.05) * coloured_noise(rng, samples, -3.0)


NOISES: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "applause": applause, "beeps": beeps, "bells": bells, "birdsong": birdsong, "bubbles": bubbles,
    "clock": clock_ticks, "crackle": crackle, "engine": engine, "footsteps": footsteps, "machine": machine,
    "rain": rain, "siren": siren, "waves": waves, "wind": wind,
}  # fmt: skip
"""Sources by class name."""


def noise_clips(seed: int, clips: int) -> list[Clip]:
    """`noises`: five seconds of one to three sources at 0 to -12 dB; which?"""
    names = list(NOISES)

    def draw(rng: np.random.Generator, part: Part, number: int) -> tuple[tuple[str, ...], str, Noises]:
        content = _mixture(rng, number % len(names))
        return content.kinds, f"{part} mixture {number}", content

    return draw_clips("noises", (seed, 8), share_out(clips, len(names)), 5.0, draw)


def _mixture(rng: np.random.Generator, first: int) -> Noises:
    names = list(NOISES)
    others = [kind for kind in rng.permutation(len(names)).tolist() if kind != first]
    kinds = sorted([first, *others[: int(rng.integers(0, 3))]])
    return Noises(tuple(names[kind] for kind in kinds), tuple(rng.uniform(-12, 0, len(kinds)).round(2).tolist()))


def pretraining_noises(rng: np.random.Generator) -> Noises:
    """A random mixture."""
    return _mixture(rng, int(rng.integers(len(NOISES))))


def mix_noises(rng: np.random.Generator, noises: Noises, samples: int) -> np.ndarray:
    """The sources at their levels (RMS), float32 [samples]."""
    mix = np.zeros(samples, dtype=np.float32)
    for kind, level in zip(noises.kinds, noises.levels, strict=True):
        source = NOISES[kind](rng, samples)
        mix += source / np.float32(rms(source)) * np.float32(10 ** (level / 20))
    return mix
