"""Made-up HEAR modules, written to disk and importable for the time of a test."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

GOOD = """
from pathlib import Path

import numpy as np
import torch


class Model(torch.nn.Module):
    sample_rate = 8000
    scene_embedding_size = 3

    def __init__(self, gain):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(gain))


calls = []


def load_model(model_file_path=""):
    return Model(float(Path(model_file_path).read_text()) if model_file_path else 1.0)


def get_scene_embeddings(audio, model):
    calls.append(tuple(audio.shape))
    crossings = (audio[:, 1:] * audio[:, :-1] < 0).float().mean(1)
    return model.gain * torch.stack([audio.abs().mean(1), audio.std(1), crossings], dim=1)
"""


@contextmanager
def importable(folder: Path, name: str, source: str) -> Iterator[str]:
    """The name of a module with this source, which is forgotten afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.py").write_text(source)
    sys.path.insert(0, str(folder))
    try:
        yield name
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop(name, None)
        sys.path_importer_cache.pop(str(folder), None)
