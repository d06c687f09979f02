"""Clips to sound files: fluidsynth for a block of pieces at once, espeak-ng, noises; then a random recording."""

import io
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import soxr

from matpac.audio import SAMPLE_RATE
from matpac.quickstart.synthetic.signals import record, rms

from .clips import Clip, Content, Music, Noises, Over, Speech
from .midi import midi_bytes
from .noises import mix_noises

PACKAGES = {"fluidsynth": "fluidsynth", "espeak-ng": "espeak-ng", "sox": "sox"}
"""Debian packages of the programs."""

SOUNDFONT = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")
"""Place of the soundfont in Debian's package fluid-soundfont-gm."""

SYNTH_RATE = 32_000
"""Hz. Above the corpus's rate, so that notes sampled without a filter alias less."""

TAIL = 1000
"""Milliseconds between clips: more than the largest delay of fluidsynth's player."""

SILENT = 1e-4
"""Root mean square below which rendering has failed."""


class RenderError(RuntimeError):
    """A program or the soundfont is missing or failed; the message says what to install."""


def missing_programs(soundfont: Path = SOUNDFONT) -> list[str]:
    """Missing programs and how to install them, one line each."""
    lines = [
        f"{program} is not installed: apt-get install {package}"
        for program, package in PACKAGES.items()
        if shutil.which(program) is None
    ]
    if not soundfont.is_file():
        lines.append(f"{soundfont} is not there: apt-get install fluid-soundfont-gm, or name another --soundfont")
    return lines


def _run(command: list[str], **options: object) -> bytes:
    done = subprocess.run(command, capture_output=True, **options)  # type: ignore[call-overload]
    if done.returncode:
        raise RenderError(
            f"{command[0]} failed ({done.returncode}): {done.stderr.decode(errors='replace')[-500:]}"
        )
    return done.stdout


def play(pieces: list[tuple[Music, float]], soundfont: Path) -> list[np.ndarray]:
    """Each piece as mono float32 of its length, at the corpus's rate; one fluidsynth for all."""
    apart = round(max(seconds for _, seconds in pieces) * 1000) + TAIL
    with tempfile.TemporaryDirectory() as folder:
        midi, sound = Path(folder) / "block.mid", Path(folder) / "block.wav"
        midi.write_bytes(midi_bytes([music.notes for music, _ in pieces], apart))
        options = ["-R", "0", "-C", "0", "-g", "0.4", "-r", str(SYNTH_RATE), "-T", "wav", "-O", "float"]
        _run(["fluidsynth", "-ni", *options, "-F", str(sound), str(soundfont), str(midi)])
        stereo, rate = soundfile.read(sound, dtype="float32", always_2d=True)
    assert rate == SYNTH_RATE
    mono = stereo.mean(axis=1)
    step = apart * SYNTH_RATE // 1000
    cuts = [mono[n * step :][: round(seconds * SYNTH_RATE)] for n, (_, seconds) in enumerate(pieces)]
    return [
        _fit(soxr.resample(cut, SYNTH_RATE, SAMPLE_RATE), round(seconds * SAMPLE_RATE))
        for cut, (_, seconds) in zip(cuts, pieces, strict=True)
    ]


def say(speech: Speech) -> np.ndarray:
    """Speech as mono float32 at the corpus's rate, of any length."""
    voice = f"{speech.language}+{speech.variant}"
    options = ["-v", voice, "-s", str(speech.speed), "-p", str(speech.pitch), "--stdout"]
    content = _run(["espeak-ng", *options, speech.text])
    sound, rate = soundfile.read(io.BytesIO(content), dtype="float32")
    return soxr.resample(sound, rate, SAMPLE_RATE)


def _fit(sound: np.ndarray, samples: int, start: int = 0) -> np.ndarray:
    """Exactly that many samples: silence before `start` and after the end."""
    out = np.zeros(samples, dtype=np.float32)
    part = sound[: samples - start]
    out[start : start + part.size] = part
    return out


def _music(content: Content) -> Music | None:
    """The part of the content that fluidsynth plays."""
    if isinstance(content, Over):
        return _music(content.behind)
    return content if isinstance(content, Music) else None


def _dry(rng: np.random.Generator, content: Content, samples: int, played: np.ndarray | None) -> np.ndarray:
    """The sound itself, before its recording: float32 [samples]; `played` is the music in it."""
    if isinstance(content, Speech):
        said = say(content)
        return _fit(said, samples, int(rng.integers(0, max(1, samples - said.size))))
    if isinstance(content, Noises):
        return mix_noises(rng, content, samples)
    if isinstance(content, Over):
        said = _dry(rng, content.speech, samples, None)
        behind = _dry(rng, content.behind, samples, played)
        louder = np.float32(10 ** (content.level / 20) * rms(behind) / max(rms(said), SILENT))
        return said * louder + behind
    assert played is not None
    return played


def render_block(folder: Path, clips: list[Clip], soundfont: Path) -> int:
    """Write the missing files of clips, 16-bit FLAC at 16 kHz; returns their number.

    All music of the block is played even if little is missing, since fluidsynth's sound depends on what it played
    before.
    """
    music = [(clip, piece) for clip in clips if (piece := _music(clip.content)) is not None]
    played = play([(piece, clip.seconds) for clip, piece in music], soundfont) if music else []
    ready = {clip.path: sound for (clip, _), sound in zip(music, played, strict=True)}
    missing = [clip for clip in clips if not (folder / clip.path).exists()]
    for clip in missing:
        rng = np.random.default_rng(clip.seed)
        dry = _dry(rng, clip.content, round(clip.seconds * SAMPLE_RATE), ready.get(clip.path))
        loudness = float(np.sqrt(np.mean(np.square(dry))))
        if loudness < SILENT:
            raise RenderError(f"{clip.path}: silent ({loudness:.1e}) though it should hold {clip.content}")
        _write(folder / clip.path, record(rng, dry))
    return len(missing)


def _write(path: Path, sound: np.ndarray) -> None:
    """Write a file atomically."""
    content = io.BytesIO()
    soundfile.write(content, sound, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_bytes(content.getvalue())
    unfinished.replace(path)
