"""Encoders from elsewhere: any module that follows the HEAR interface (neuralaudio.ai/hear2021-api).

A module has `load_model(model_file_path)` and `get_scene_embeddings(audio [n, samples], model) → [n, D]`; a model
has `sample_rate` and `scene_embedding_size`.
"""

import importlib
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from jaxtyping import Float
from pooch import file_hash
from torch import Tensor, nn

from matpac.audio import AudioError
from matpac.errors import one_line
from matpac.model.network import weights_digest
from matpac.model.waveforms import as_clips
from matpac.probe.encoders import HEAR, EncoderError

BATCH_SIZE = 16
"""Clips of one length at once; default; such models keep the values of all their layers in memory."""

FUNCTIONS = ("load_model", "get_scene_embeddings")
ATTRIBUTES = ("sample_rate", "scene_embedding_size")


class HearEncoder:
    """A HEAR module with its model, as a `FrozenEncoder`."""

    def __init__(self, name: str, module: ModuleType, model: object, key: str, device: torch.device):
        self.name, self.module, self.model, self.key, self.device = name, module, model, key, device
        rate, width = (getattr(model, attribute) for attribute in ATTRIBUTES)
        self._rate, self.width = int(rate), int(width)

    @property
    def sample_rate(self) -> int:
        """Rate in Hz of the waveforms that `embed` takes."""
        return self._rate

    def embed(self, clips: Sequence[np.ndarray | Tensor]) -> Float[Tensor, "clip width"]:
        """One vector per clip. Neighbouring clips of one length go through the model together, others alone.

        Raises:
            EncoderError: the module gave another shape or no numbers.
            AudioError: a clip is not a waveform, or has no samples.
        """
        waveforms, _ = as_clips(list(clips), self.sample_rate, self.sample_rate)
        vectors = torch.empty(len(waveforms), self.width)
        start = 0
        while start < len(waveforms):
            length, end = len(waveforms[start]), start + 1
            if not length:
                raise AudioError(f"clip {start}: no samples; remove it")
            while end < len(waveforms) and end - start < BATCH_SIZE and len(waveforms[end]) == length:
                end += 1
            vectors[start:end] = self._scenes(np.stack(waveforms[start:end]))
            start = end
        return vectors

    @torch.no_grad()
    def _scenes(self, waveforms: Float[np.ndarray, "clip samples"]) -> Float[Tensor, "clip width"]:
        found = self.module.get_scene_embeddings(torch.from_numpy(waveforms).to(self.device), self.model)
        if not isinstance(found, Tensor):  # other libraries' arrays
            found = np.asarray(found)
        wanted = [len(waveforms), self.width]
        if list(found.shape) != wanted:
            raise EncoderError(
                f"{self.name}: get_scene_embeddings gave shape {list(found.shape)} for {wanted[0]} clips "
                f"instead of {wanted} (clips, scene_embedding_size); correct the module"
            )
        if isinstance(found, Tensor):
            return found.detach().cpu().float()
        if not np.issubdtype(found.dtype, np.number):
            raise EncoderError(f"{self.name}: get_scene_embeddings gave {found.dtype}, not numbers; correct it")
        return torch.from_numpy(found.astype(np.float32))


def open_hear(module_name: str, weights: str = "", device: str | torch.device = "cpu") -> HearEncoder:
    """Import a HEAR module and load its model.

    Args:
        module_name: dotted name of an importable module.
        weights: argument of `load_model`, which is called without one if empty.
        device: where PyTorch models compute.

    Raises:
        EncoderError: the module does not exist, can't be imported, fails, or does not follow HEAR.
    """
    name = f"{HEAR}{module_name}" + (f":{weights}" if weights else "")
    if not module_name:
        raise EncoderError(f"{name}: no module named; write {HEAR}<module>[:weights]")
    if module_name.startswith(".") or Path(module_name).suffix == ".py" or len(Path(module_name).parts) > 1:
        raise EncoderError(
            f"{name}: {module_name} is not a module name; write {HEAR}{Path(module_name).stem}, and put the "
            "folder of its file on PYTHONPATH"
        )
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise EncoderError(
            f"{name}: module {module_name} can't be imported ({error}); install it, or put its "
            "folder on PYTHONPATH"
        ) from error
    except Exception as error:
        raise EncoderError(
            f"{name}: module {module_name} fails on import ({_in_words(error)}); correct it"
        ) from error
    _require(name, f"module {module_name}", module, FUNCTIONS)
    try:
        model = module.load_model(weights) if weights else module.load_model()
    except Exception as error:
        raise EncoderError(
            f"{name}: load_model of module {module_name} fails ({_in_words(error)}); check weights and module"
        ) from error
    _require(name, "its model", model, ATTRIBUTES)
    for attribute in ATTRIBUTES:
        value = getattr(model, attribute)
        whole = isinstance(value, (int, np.integer)) or (isinstance(value, float) and value.is_integer())
        if not whole or value < 1:
            raise EncoderError(f"{name}: {attribute} of its model is {value!r}, not a whole number from 1 up")
    place = torch.device(device if isinstance(model, nn.Module) else "cpu")
    if isinstance(model, nn.Module):
        model.to(place).eval()
    return HearEncoder(name, module, model, _key(module, model, weights), place)


def _in_words(error: Exception) -> str:
    """Kind and message, on one line."""
    return f"{type(error).__name__}: {one_line(error)}"


def _require(name: str, what: str, thing: object, attributes: Sequence[str]) -> None:
    if absent := [attribute for attribute in attributes if not hasattr(thing, attribute)]:
        raise EncoderError(f"{name}: {what} has no {' and no '.join(absent)}; does it follow HEAR's interface?")


def _key(module: ModuleType, model: object, weights: str) -> str:
    """SHA-256 over the module's code, the weights' files and, of a PyTorch model, the weights themselves.

    A package's code is all its .py files; what the module imports from elsewhere is not in it.
    """
    digest = sha256()
    for file, shown in _code(module):
        digest.update(f"{shown} {file_hash(file)}\n".encode())
    digest.update(f"weights {_weights_key(weights)}\n".encode())
    if isinstance(model, nn.Module):
        digest.update(weights_digest(dict(model.state_dict())))
    return digest.hexdigest()


def _code(module: ModuleType) -> list[tuple[Path, str]]:
    """(file, name in the package) of what the module is made of."""
    folders = [Path(folder) for folder in getattr(module, "__path__", [])]
    found = [(file, file.relative_to(folder).as_posix()) for folder in folders for file in folder.rglob("*.py")]
    if not found and module.__file__:
        found = [(Path(module.__file__), Path(module.__file__).name)]
    return sorted(found)


def _weights_key(weights: str) -> str:
    path = Path(weights)
    if not weights or not path.exists():
        return f"named {weights}"
    if path.is_file():
        return file_hash(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    listed = "\n".join(f"{file.relative_to(path).as_posix()} {file_hash(file)}" for file in files)
    return sha256(listed.encode()).hexdigest()
