"""The examples run as their docstrings describe."""

import subprocess
import sys
from pathlib import Path

import pytest

from helpers.named_sounds import knowing, write
from helpers.sound_files import make_mixed_folder
from helpers.tiny_encoder import tiny
from matpac import save

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(example: str, *arguments: str) -> str:
    command = [sys.executable, str(EXAMPLES / example), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def sounds(tmp_path: Path) -> list[str]:
    made = make_mixed_folder(tmp_path / "sounds")
    return [str(path) for name, path in made.items() if path.suffix in (".ogg", ".opus", ".mp3")]


def test_embed_your_sounds(tmp_path, sounds):
    encoder = save(tiny(), tmp_path / "encoder.safetensors")
    out = run("embed_your_sounds.py", str(encoder), *sounds)
    assert out.count("is most like") == len(sounds)
    assert "the first at 0.0875 s" in out


def test_pretrain_from_python(tmp_path, sounds):
    folder = str(Path(sounds[0]).parent)
    out = run("pretrain_from_python.py", folder, str(tmp_path / "run"), "3")
    assert "3 steps" in out
    assert "matpac pretraining" in out


def test_tag_your_sounds(tmp_path):
    encoder = save(knowing(), tmp_path / "tagger.safetensors")
    beep = write(tmp_path / "beep.wav", ("silence", 1), ("tone", 2), ("silence", 1))
    hiss = write(tmp_path / "hiss.flac", ("noise", 1.6))
    out = run("tag_your_sounds.py", str(encoder), str(beep), str(hiss)).splitlines()
    assert out[1].split()[:2] == ["hiss.flac", "noise"]
    assert out[3] == "beep.wav over time:"
    assert out[4].rstrip(")0123456789.").endswith("s  tone (at most ")
    assert out[-1] == "25 frames × 2 classes, the first at 0.0875 s"


def test_find_similar_sounds(tmp_path, sounds):
    encoder = save(tiny(), tmp_path / "encoder.safetensors")
    arguments = ["find_similar_sounds.py", str(encoder), str(tmp_path / "sounds"), sounds[0]]
    out = run(*arguments, str(tmp_path / "sounds.lance")).splitlines()
    assert out[0] == "6 files added, 0 changed, 0 vanished, 0 unchanged"
    assert sum(line.startswith("skipped: ") for line in out) == 4
    found = out.index(f"like {sounds[0]}:") + 1
    assert out[found].split()[1] == sounds[0]
    assert float(out[found].split()[0]) > 0.9
    assert out[found + 3] == "of sounds shorter than 2.5 s:"
    assert len(out) == found + 7
