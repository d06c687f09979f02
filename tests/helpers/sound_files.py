"""Small real sound files for tests: many formats, rates and channel counts, and the ways files go wrong."""

from pathlib import Path

import numpy as np
import soundfile

# name: (rate in Hz, channels, seconds, libsndfile format, subtype)
GOOD = {
    "stereo_44k.wav": (44_100, 2, 2.5, "WAV", "PCM_16"),
    "mono_48k.flac": (48_000, 1, 2.0, "FLAC", "PCM_16"),
    "album/stereo_22k.ogg": (22_050, 2, 3.0, "OGG", "VORBIS"),
    "album/mono_16k.mp3": (16_000, 1, 2.2, "MP3", "MPEG_LAYER_III"),
    "album/deep/stereo_48k.OPUS": (48_000, 2, 1.5, "OGG", "OPUS"),
    "short_8k.aiff": (8_000, 1, 0.4, "AIFF", "PCM_16"),
}
BAD = {"empty.wav", "text.wav", "cut.flac", "click.wav"}


def make_sound(rate: int, seconds: float, channels: int = 1, seed: int = 0, floor: float = 0.02) -> np.ndarray:
    """A swelling chord of random pitch over noise, [samples, channels], float32 within ±1."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(rate * seconds)) / rate
    pitch = rng.uniform(110, 440)
    chord = sum(np.sin(2 * np.pi * pitch * n * time * (1 + 0.03 * time)) / n for n in (1, 2, 3, 5))
    gains = rng.uniform(0.3, 1.0, channels)
    noise = floor * rng.standard_normal((len(time), channels))
    sound = 0.2 * np.outer(chord * (0.6 + 0.4 * np.sin(9 * time)), gains) + noise
    return np.clip(sound, -1, 1).astype(np.float32)


def write_sound(path: Path, rate: int, seconds: float, channels: int = 1, seed: int = 0) -> Path:
    """Writes `make_sound` to a file of the format that its suffix names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, make_sound(rate, seconds, channels, seed), rate)
    return path


def cut_file(path: Path, target: Path, share: float = 0.5) -> Path:
    """Writes the first `share` of a file's bytes to `target`."""
    content = path.read_bytes()
    target.write_bytes(content[: int(len(content) * share)])
    return target


def make_mixed_folder(root: Path) -> dict[str, Path]:
    """A folder of six good files (`GOOD`), one too short, and three bad ones; returns name → path.

    The bad: `empty.wav` (0 bytes), `text.wav` (text), `cut.flac` (half a file); `click.wav` lasts 20 ms, less
    than one log-mel window. A hidden file and a text file named `.txt` are there to be left alone.
    """
    paths = {}
    for seed, (name, (rate, channels, seconds, kind, subtype)) in enumerate(GOOD.items()):
        paths[name] = root / name
        paths[name].parent.mkdir(parents=True, exist_ok=True)
        sound = make_sound(rate, seconds, channels, seed)
        soundfile.write(paths[name], sound, rate, format=kind, subtype=subtype)
    for name in ("empty.wav", "text.wav", "cut.flac", "click.wav"):
        paths[name] = root / name
    paths["empty.wav"].touch()
    paths["text.wav"].write_text("These are words, not sound.\n" * 20, encoding="utf-8")
    cut_file(paths["mono_48k.flac"], paths["cut.flac"])
    write_sound(paths["click.wav"], 16_000, 0.02)
    (root / "notes.txt").write_text("not to be read", encoding="utf-8")
    (root / ".hidden.wav").write_bytes(paths["click.wav"].read_bytes())
    return paths
