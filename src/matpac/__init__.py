"""MATPAC and MATPAC++: self-supervised learning of audio representations, from pre-training to vectors.

    import matpac
    encoder = matpac.load("matpac++")
    scene = encoder.scene(waveform, sample_rate)             # [batch, 3840]
    frames, times = encoder.frames(waveform, sample_rate)    # [batch, T, 3840], [T] seconds

Imports are late: `import matpac` loads nothing heavy until a name is used.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matpac.audio import AudioError, read
    from matpac.errors import MatpacError
    from matpac.files.loading import load
    from matpac.files.onnx.export import export_onnx
    from matpac.interop.push import push_to_hub
    from matpac.model.embedder import Embedder
    from matpac.model.stream import stream

__version__ = "0.1.0"

__all__ = [
    "load",
    "read",
    "stream",
    "export_onnx",
    "push_to_hub",
    "Embedder",
    "MatpacError",
    "AudioError",
    "__version__",
]

_HOMES = {
    "load": "matpac.files.loading",
    "export_onnx": "matpac.files.onnx.export",
    "push_to_hub": "matpac.interop.push",
    "read": "matpac.audio",
    "stream": "matpac.model.stream",
    "Embedder": "matpac.model.embedder",
    "MatpacError": "matpac.errors",
    "AudioError": "matpac.audio",
}


def __getattr__(name: str) -> object:
    """A public name, imported when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'matpac' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
