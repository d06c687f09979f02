"""`matpac.export_onnx`: an encoder as one ONNX file, checked before it is written."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

import numpy as np
from jaxtyping import Float

from matpac.errors import MatpacError
from matpac.files.checkpoint.description import describe
from matpac.files.onnx.checking import Agreement, Cosines, check_agreement, check_cosines, made_up_sounds
from matpac.files.onnx.files import LARGEST, Precision, onnx_library, runtime_library, write_model
from matpac.files.onnx.graph import network_graph
from matpac.files.onnx.quantise import Int8, quantise
from matpac.files.onnx.runtime import OnnxNetwork, load_onnx
from matpac.files.onnx.smoothing import smoothed
from matpac.model.embedder import Embedder

CALIBRATION_CHUNKS = 64
"""Of sound, at most, that ranges are measured on; ours: they hardly widen after some dozens."""

MEASURED_SOUNDS = 8
"""Made-up ones that an 8-bit file is compared on where none are given; ours."""


@dataclass(frozen=True)
class Exported:
    """A file that was written.

    Args:
        path: of the file.
        size: in bytes.
        precision: see `matpac.files.onnx.files.Precision`.
        agreement: of the float32 graph with PyTorch.
        cosines: of the 8-bit scenes to float32's; None in float32.
        layers: linear layers in 8 bits.
        kept: linear layers left in float32.
    """

    path: Path
    size: int
    precision: Precision
    agreement: Agreement
    cosines: Cosines | None = None
    layers: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


def export_onnx(
    encoder: Embedder,
    path: str | Path,
    int8: Int8 | None = None,
    sounds: Sequence[Float[np.ndarray, " _"]] = (),
    keep_float: Sequence[str] = (),
) -> Exported:
    """Write an encoder as an ONNX file: waveforms in, scenes, frames and logits out; `matpac.load` opens it.

    The graph is compared with PyTorch's network over lengths, and an 8-bit one's scenes with float32's; a file
    that does not agree is not written.

    Args:
        encoder: as `matpac.load` gives it.
        path: of the file, `.onnx`.
        int8: 8-bit matrices with ranges of activations that follow the sound ("dynamic") or are fixed ("static").
        sounds: at the encoder's rate, like those to be embedded: outliers are smoothed by them and static ranges
            measured on them; every fourth is held out to compare the vectors on. Without them made-up ones are
            compared on.
        keep_float: names or patterns of layers that stay float32 (`*.mlp.fc2`).

    Raises:
        ExportError: the file would not compute what the encoder does.
        MatpacError: an encoder that is ONNX already, another ending, sounds or layers without `int8`, or onnx or
            onnxruntime is missing.
        OSError: it can't be written.
    """
    path = Path(path)
    _check_call(encoder, path, int8, sounds, keep_float)
    used = [sound for number, sound in enumerate(sounds) if number % 4 or len(sounds) < 2]
    source = smoothed(encoder, used) if int8 and used else encoder
    model, description = network_graph(source), describe(encoder)
    if model.ByteSize() > LARGEST:
        raise MatpacError(
            f"{path}: an ONNX file holds {LARGEST} bytes at most, and this encoder has {model.ByteSize()}"
        )
    # in the same folder, to be moved to its name once it agrees
    with TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
        draft = Path(folder) / path.name
        write_model(draft, model, description, "float32")
        agreement = check_agreement(encoder, load_onnx(draft))
        if int8 is None:
            draft.replace(path)
            return Exported(path, path.stat().st_size, "float32", agreement)
        quantised = quantise(model, int8, _chunks(encoder, used), keep_float)
        precision: Precision = "int8 static" if int8 == "static" else "int8 dynamic"
        write_model(draft, quantised.model, description, precision)
        cosines = check_cosines(encoder, load_onnx(draft), list(sounds[::4]) or _made_up(encoder))
        draft.replace(path)
    return Exported(path, path.stat().st_size, precision, agreement, cosines, quantised.layers, quantised.kept)


def _check_call(
    encoder: Embedder, path: Path, int8: Int8 | None, sounds: Sequence[np.ndarray], keep_float: Sequence[str]
) -> None:
    onnx_library()
    runtime_library()
    if isinstance(encoder.network, OnnxNetwork):
        raise MatpacError(
            f"{encoder.card.name}: is an ONNX file already; export the encoder that it was made from"
        )
    if path.suffix != ".onnx":
        raise MatpacError(f"{path}: ONNX files end on .onnx")
    if not path.parent.is_dir():
        raise MatpacError(f"{path}: the folder {path.parent} is not there; make it first")
    if int8 not in (None, *get_args(Int8)):
        raise MatpacError(f"int8 {int8!r}: there are {' and '.join(get_args(Int8))}")
    if int8 is None and (len(sounds) or keep_float):
        raise MatpacError("sounds to calibrate with and layers to keep in float32 are for 8-bit files; add --int8")


def _chunks(encoder: Embedder, sounds: Sequence[np.ndarray]) -> list[np.ndarray]:
    """What the network sees at once: the first chunk of every sound, then the second ones, …"""
    found = []
    for number, sound in enumerate(sounds):
        cutter = encoder.cutter(number)
        found += [*cutter.push(np.asarray(sound, np.float32)), *cutter.finish()]
    found.sort(key=lambda chunk: (chunk.index, chunk.clip))
    return [chunk.samples for chunk in found[:CALIBRATION_CHUNKS]]


def _made_up(encoder: Embedder) -> list[np.ndarray]:
    """Sounds shorter and longer than what the network sees at once."""
    span = encoder.logmel.config.samples(encoder.config.frames)
    return made_up_sounds([span * (2 + number) // 4 for number in range(MEASURED_SOUNDS)], encoder.sample_rate)
