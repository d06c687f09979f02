"""Shapes and types are checked at run time in tests, and in tests only."""

import os

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

from jaxtyping import install_import_hook

install_import_hook("matpac", "type_checker.check")

from pathlib import Path

import pytest
import torch

from helpers.sound_files import make_mixed_folder
from helpers.tiny_encoder import tiny
from matpac import save

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """xdist runs one process a core: more threads than that only get in each other's way."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of files made by running the published code on random weights and signals."""
    return GOLDEN


@pytest.fixture(scope="module")
def mixed_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sounds of many kinds, `GOOD` and `BAD` ones of `helpers.sound_files`; read, never written to."""
    root = tmp_path_factory.mktemp("mixed")
    make_mixed_folder(root)
    return root


@pytest.fixture(scope="module")
def tiny_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file of `helpers.tiny_encoder.tiny`."""
    return str(save(tiny(), tmp_path_factory.mktemp("encoder") / "tiny.safetensors"))
