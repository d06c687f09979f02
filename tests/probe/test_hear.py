"""Other people's encoders through the HEAR interface, with made-up modules."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.hear_modules import GOOD, importable
from matpac import AudioError, MatpacError
from matpac.probe.encoders import EncoderError
from matpac.probe.hear import BATCH_SIZE, open_hear


def noise(*lengths: int) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [0.1 * random.standard_normal(length).astype(np.float32) for length in lengths]


def by_hand(clip: np.ndarray) -> list[float]:
    clip = clip.astype(np.float64)
    return [np.abs(clip).mean(), clip.std(ddof=1), (clip[1:] * clip[:-1] < 0).mean()]


def test_vectors_are_those_of_the_module_clip_by_clip(tmp_path: Path) -> None:
    with importable(tmp_path, "hear_vectors", GOOD) as name:
        encoder = open_hear(name)
        clips = noise(400, 400, 300, 400, 500, 500)
        found = encoder.embed(clips)
        np.testing.assert_allclose(found.numpy(), [by_hand(clip) for clip in clips], atol=1e-6)
        assert found.dtype == torch.float32
        calls = importlib.import_module(name).calls
        assert calls == [(2, 400), (1, 300), (1, 400), (2, 500)]
        calls.clear()
        encoder.embed(noise(*[200] * (BATCH_SIZE + 1)))
        assert calls == [(BATCH_SIZE, 200), (1, 200)]
        assert encoder.embed([]).shape == (0, 3)


def test_weights_are_passed_on(tmp_path: Path) -> None:
    weights = tmp_path / "gain.txt"
    weights.write_text("2.0")
    clips = noise(400)
    with importable(tmp_path, "hear_weights", GOOD) as name:
        plain, doubled = open_hear(name), open_hear(name, str(weights))
        torch.testing.assert_close(doubled.embed(clips), 2 * plain.embed(clips))
        assert doubled.name == f"hear:{name}:{weights}"
        weights.write_text("3.0")
        tripled = open_hear(name, str(weights))
    assert len({plain.key, doubled.key, tripled.key}) == 3


def test_the_key_is_of_code_and_weights(tmp_path: Path) -> None:
    keys = []
    for folder, source in (("a", GOOD), ("b", GOOD), ("c", GOOD + "\n# another version\n")):
        with importable(tmp_path / folder, "hear_code", source) as name:
            keys.append(open_hear(name).key)
    assert keys[0] == keys[1] != keys[2]


def test_the_key_of_a_package_is_of_all_its_code(tmp_path: Path) -> None:
    keys = []
    for number, inner in enumerate(("x = 1", "x = 1", "x = 2")):
        folder = tmp_path / str(number)
        package = folder / "hear_package"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(GOOD)
        (package / "inner.py").write_text(inner)
        with importable(folder, "hear_unused", "") as _:
            keys.append(open_hear("hear_package").key)
            sys.modules.pop("hear_package")
    assert keys[0] == keys[1] != keys[2]


def test_folders_of_weights_count_by_their_files(tmp_path: Path) -> None:
    source = GOOD.replace("float(Path(model_file_path).read_text()) if model_file_path else 1.0", "1.0")
    folder = tmp_path / "weights"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep/part.bin").write_bytes(b"1")
    with importable(tmp_path, "hear_folder", source) as name:
        one = open_hear(name, str(folder)).key
        (folder / "deep/part.bin").write_bytes(b"2")
        assert open_hear(name, str(folder)).key != one
        assert open_hear(name, "a-name").key not in (one, open_hear(name).key)


def test_arrays_that_are_not_torchs_are_taken(tmp_path: Path) -> None:
    source = GOOD.replace("return model.gain * torch", "return np.asarray(torch").replace("dim=1)", "dim=1))")
    with importable(tmp_path, "hear_numpy", source) as name:
        found = open_hear(name).embed(noise(400))
    np.testing.assert_allclose(found.numpy(), [by_hand(noise(400)[0])], atol=1e-6)


def test_a_model_without_torch(tmp_path: Path) -> None:
    source = """
class Model:
    sample_rate, scene_embedding_size = 8000, 1

def load_model(model_file_path=""):
    return Model()

def get_scene_embeddings(audio, model):
    return audio.mean(1, keepdim=True).numpy()
"""
    clips = noise(300)
    with importable(tmp_path, "hear_plain", source) as name:
        found = open_hear(name).embed(clips)
    assert found.item() == pytest.approx(float(clips[0].mean()), abs=1e-7)


@pytest.mark.parametrize(
    ("end", "told"),
    [
        ("audio.new_zeros(len(audio), 4)", r"gave shape \[2, 4\] for 2 clips instead of \[2, 3\]"),
        ("audio.new_zeros(1, 3)", r"gave shape \[1, 3\] for 2 clips"),
        ("audio.new_zeros(3)", r"gave shape \[3\]"),
        ("[['a', 'b', 'c']] * len(audio)", "not numbers"),
    ],
)
def test_wrong_shapes_are_told(end: str, told: str, tmp_path: Path) -> None:
    source = GOOD.split("    crossings")[0] + f"    return {end}\n"
    with importable(tmp_path, "hear_shapes", source) as name, pytest.raises(EncoderError, match=told) as caught:
        open_hear(name).embed(noise(400, 400))
    assert str(caught.value).startswith(f"hear:{name}: get_scene_embeddings gave")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("def get_scene_embeddings", "def other"), "has no get_scene_embeddings"),
        (("def load_model", "def other"), "has no load_model"),
        (("    sample_rate = 8000", ""), "its model has no sample_rate"),
        (("= 8000", "= '8k'"), "sample_rate of its model is '8k'"),
        (("size = 3", "size = 0"), "scene_embedding_size of its model is 0"),
        (("size = 3", "size = float('nan')"), "scene_embedding_size of its model is nan"),
        (
            ("import torch", "import torch, no_such_library"),
            "can't be imported (No module named 'no_such_library')",
        ),
        (("import torch", "import torch +"), "module hear_wrong fails on import (SyntaxError: "),
        (
            ("    return Model", "    raise RuntimeError('corrupt\\nfile')\n    return Model"),
            "load_model of module hear_wrong fails (RuntimeError: corrupt file)",
        ),
    ],
)
def test_what_is_no_hear_module_is_told(change: tuple[str, str], told: str, tmp_path: Path) -> None:
    assert change[0] in GOOD
    with (
        importable(tmp_path, "hear_wrong", GOOD.replace(*change)) as name,
        pytest.raises(EncoderError) as caught,
    ):
        open_hear(name)
    assert told in str(caught.value)
    assert str(caught.value).startswith(f"hear:{name}: ")


@pytest.mark.parametrize("module", ["./my_encoder.py", "my_encoder.py", "folder/my_encoder", ".my_encoder"])
def test_a_file_is_no_module(module: str) -> None:
    with pytest.raises(EncoderError, match=r"write hear:.*my_encoder"):
        open_hear(module)


def test_clips_that_are_none(tmp_path: Path) -> None:
    with importable(tmp_path, "hear_input", GOOD) as name:
        encoder = open_hear(name)
        with pytest.raises(AudioError, match="clip 1: no samples"):
            encoder.embed([*noise(400), np.zeros(0, np.float32)])
        with pytest.raises(MatpacError, match="clip 0: holds values that are not finite"):
            encoder.embed([np.full(400, np.nan, np.float32)])
