"""MATPAC and MATPAC++: self-supervised learning of audio representations, from pre-training to vectors.

    import matpac
    encoder = matpac.load("matpac++")
    scene = encoder.scene(waveform, sample_rate)             # [batch, 3840]
    frames, times = encoder.frames(waveform, sample_rate)    # [batch, T, 3840], [T] seconds

Imports are late: `import matpac` loads nothing heavy until a name is used.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matpac.audio import AudioError, blocks, find_audio, read
    from matpac.data.files import list_clips
    from matpac.errors import MatpacError
    from matpac.files.load import load
    from matpac.files.onnx.export import export_onnx
    from matpac.files.save import save
    from matpac.interop.push import push_to_hub
    from matpac.model.embedder import Embedder
    from matpac.model.stream import stream
    from matpac.pretrain.options import PretrainOptions
    from matpac.pretrain.recipes import RECIPES
    from matpac.probe.encoders import open_encoder
    from matpac.search.index import IndexOptions, index_sounds
    from matpac.search.query import Searcher
    from matpac.tag.timeline import TimelineConfig, timeline
    from matpac.tasks.task import Task
    from matpac.vectors.embed import EmbedOptions, embed_files

__version__ = "0.1.0"

_MODULES = {  # of each public name
    "load": "files.load",
    "save": "files.save",
    "export_onnx": "files.onnx.export",
    "push_to_hub": "interop.push",
    "read": "audio",
    "blocks": "audio",
    "find_audio": "audio",
    "list_clips": "data.files",
    "Embedder": "model.embedder",
    "stream": "model.stream",
    "embed_files": "vectors.embed",
    "EmbedOptions": "vectors.embed",
    "timeline": "tag.timeline",
    "TimelineConfig": "tag.timeline",
    "index_sounds": "search.index",
    "IndexOptions": "search.index",
    "Searcher": "search.query",
    "open_encoder": "probe.encoders",
    "Task": "tasks.task",
    "RECIPES": "pretrain.recipes",
    "PretrainOptions": "pretrain.options",
    "MatpacError": "errors",
    "AudioError": "audio",
}

__all__ = [
    "load",
    "save",
    "export_onnx",
    "push_to_hub",
    "read",
    "blocks",
    "find_audio",
    "list_clips",
    "Embedder",
    "stream",
    "embed_files",
    "EmbedOptions",
    "timeline",
    "TimelineConfig",
    "index_sounds",
    "IndexOptions",
    "Searcher",
    "open_encoder",
    "Task",
    "RECIPES",
    "PretrainOptions",
    "MatpacError",
    "AudioError",
    "__version__",
]


def __getattr__(name: str) -> object:
    """A public name, imported when it is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module 'matpac' has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(f"matpac.{_MODULES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
