"""Shapes and types are checked at run time in tests, and in tests only."""

import os

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

from jaxtyping import install_import_hook

install_import_hook("matpac", "type_checker.check")

from pathlib import Path

import pytest
import torch

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
