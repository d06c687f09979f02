"""The examples run as their docstrings say."""

import subprocess
import sys
from pathlib import Path

import pytest

from matpac.checkpoint import save
from sound_files import make_mixed_folder
from tiny_encoder import tiny

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(*arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_examples_are_short():
    for example in EXAMPLES.glob("*.py"):
        assert len(example.read_text().splitlines()) <= 80, example.name


@pytest.fixture
def sounds(tmp_path: Path) -> list[str]:
    made = make_mixed_folder(tmp_path / "sounds")
    return [str(path) for name, path in made.items() if path.suffix in (".ogg", ".opus", ".mp3")]


def test_embed_your_sounds(tmp_path, sounds):
    encoder = save(tiny(), tmp_path / "encoder.safetensors")
    out = run(str(EXAMPLES / "embed_your_sounds.py"), str(encoder), *sounds)
    assert out.count("is most like") == len(sounds)
    assert "the first at 0.0875 s" in out


def test_pretrain_from_python(tmp_path, sounds):
    folder = str(Path(sounds[0]).parent)
    out = run(str(EXAMPLES / "pretrain_from_python.py"), folder, str(tmp_path / "run"), "3")
    assert "3 steps" in out
    assert "matpac pretraining" in out
