"""`matpac.export_onnx`: an encoder as one ONNX file, compared with PyTorch's network before it is written."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from matpac.errors import MatpacError
from matpac.files.description import describe
from matpac.files.onnx.files import LARGEST, Precision, library, write_model
from matpac.files.onnx.graph import network_graph
from matpac.files.onnx.int8 import linear_layers, quantised, smoothed
from matpac.files.onnx.runtime import OnnxNetwork, load_onnx
from matpac.model.embedder import Embedder
from matpac.model.vit import PATCH

CLOSE = 1e-4
"""Largest difference allowed between the file's scenes, frames and logits and PyTorch's, as a share of the largest
value where that is above 1; default: a tenth of what 16-bit numbers would cost (4e-6 is usual)."""

LEAST_COSINE = 0.99
"""Mean cosine of 8-bit scenes to float32's below which a file is refused; default: neighbours would change."""

SOUNDS_FOR_INT8 = 16
"""Synthetic sounds where none are given; default: smoothing by them is as exact as by others (a small encoder)."""


class ExportError(MatpacError):
    """An exported file that does not compute what its encoder does; nothing was written."""


@dataclass(frozen=True)
class Cosines:
    """Cosines of an 8-bit file's scenes to float32's over some sounds."""

    mean: float
    least: float
    sounds: int


@dataclass(frozen=True)
class Exported:
    """A file that was written.

    Args:
        path: of the file.
        size: in bytes.
        precision: "float32" or "int8 dynamic".
        difference: largest difference of the float32 graph from PyTorch, see `CLOSE`.
        lengths: of the clips that were compared, in samples.
        cosines: of the 8-bit scenes to float32's; None in float32.
        layers: names of the linear layers in 8 bits.
    """

    path: Path
    size: int
    precision: Precision
    difference: float
    lengths: tuple[int, ...]
    cosines: Cosines | None
    layers: tuple[str, ...]


def export_onnx(
    encoder: Embedder, path: str | Path, int8: bool = False, sounds: Sequence[Float[np.ndarray, " _"]] = ()
) -> Exported:
    """Write an encoder as an ONNX file: waveforms in, scenes, frames and logits out; `matpac.load` opens it.

    The graph is compared with PyTorch's network over lengths, and an 8-bit one's scenes with float32's; a file
    that does not agree is not written.

    Args:
        encoder: as `matpac.load` gives it.
        path: of the file, `.onnx`.
        int8: 8-bit matrices, with ranges of activations that follow the sound.
        sounds: for 8 bits, at the encoder's rate, like those to be embedded: three of four are used to smooth
            outliers, the others to compare vectors on. Without them, synthetic ones.

    Raises:
        ExportError: the file would not compute what the encoder does.
        MatpacError: an encoder that is ONNX already, another ending, sounds without `int8`, or onnx or
            onnxruntime is missing.
        OSError: it can't be written.
    """
    path, sounds = Path(path), list(sounds)
    _check_call(encoder, path, int8, sounds)
    source, layers, cosines = encoder, (), None
    if int8:
        if not sounds:  # shorter and longer than a chunk, loud and quiet ones among those compared too
            span = encoder.logmel.config.samples(encoder.config.frames)
            sounds = synthetic_sounds([span * (2 + n) // 4 for n in range(SOUNDS_FOR_INT8)], encoder.sample_rate)
            sounds = [sounds[n] for n in np.random.default_rng(0).permutation(SOUNDS_FOR_INT8)]
        source = smoothed(encoder, [sound for number, sound in enumerate(sounds) if number % 4] or sounds)
    model, description, lengths = network_graph(source), describe(encoder), check_lengths(encoder)
    if model.ByteSize() > LARGEST:
        raise MatpacError(f"{path}: the encoder has {model.ByteSize()} bytes, an ONNX file at most {LARGEST}")
    # in the same folder, to be moved to its name once it agrees
    with TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
        draft = Path(folder) / path.name
        write_model(draft, model, description, "float32")
        difference = check_agreement(encoder, load_onnx(draft), lengths)
        if int8:
            layers = linear_layers(model)
            write_model(draft, quantised(model), description, "int8 dynamic")
            cosines = scene_cosines(encoder, load_onnx(draft), sounds[::4])
            if not cosines.mean >= LEAST_COSINE:
                raise ExportError(
                    f"{encoder.card.name}: 8 bits change its scenes too much (mean cosine {cosines.mean:.4f}, at "
                    f"least {LEAST_COSINE:g} is required); nothing was written. Give sounds like yours, or export "
                    "float32"
                )
        draft.replace(path)
    precision: Precision = "int8 dynamic" if int8 else "float32"
    return Exported(path, path.stat().st_size, precision, difference, tuple(lengths), cosines, layers)


def _check_call(encoder: Embedder, path: Path, int8: bool, sounds: Sequence[np.ndarray]) -> None:
    for package in ("onnx", "onnxruntime"):
        library(package)
    if isinstance(encoder.network, OnnxNetwork):
        raise MatpacError(f"{encoder.card.name}: is an ONNX file already; export the encoder it was exported from")
    if path.suffix != ".onnx":
        raise MatpacError(f"{path}: ONNX files end on .onnx")
    if not path.parent.is_dir():
        raise MatpacError(f"{path}: the folder {path.parent} does not exist; create it first")
    if int8 not in (True, False):  # "static" of version 0.1.0
        raise MatpacError(f"{path}: int8={int8!r}; give True for 8 bits with ranges that follow the sound")
    if sounds and not int8:
        raise MatpacError(f"{path}: sounds to smooth outliers with are for 8-bit files; add int8=True")


def check_lengths(embedder: Embedder) -> list[int]:
    """Samples of clips at and around every edge: one frame, one patch, one chunk, and a bit more than two."""
    frames, config = embedder.config.frames, embedder.logmel.config
    edges = {1, PATCH - 1, PATCH, PATCH + 1, frames // 2 + 3, frames - 1, frames, frames + 1, 2 * frames + 5}
    # half a hop more than the last frame needs, so that samples that no frame uses are there too
    return [config.samples(count) + config.hop // 2 for count in sorted(edge for edge in edges if edge > 0)]


def synthetic_sounds(lengths: Sequence[int], sample_rate: int) -> list[Float32[np.ndarray, " _"]]:
    """Sounds of given lengths (samples): gliding tones and noise that swell, from loud to nearly silent."""
    random = np.random.default_rng(0)
    sounds = []
    for number, samples in enumerate(lengths):
        time = np.arange(samples) / sample_rate
        pitch = random.uniform(80, 2_000)
        tone = np.sin(2 * np.pi * pitch * time * (1 + random.uniform(-0.2, 0.2) * time))
        noise = random.standard_normal(samples)
        swell = 0.5 + 0.5 * np.sin(2 * np.pi * random.uniform(0.5, 4) * time)
        loudness = 10.0 ** -(number % 4)
        sound = loudness * (0.5 * tone * swell + random.uniform(0, 0.3) * noise)
        sounds.append(sound.clip(-1, 1).astype(np.float32))
    return sounds


def check_agreement(reference: Embedder, exported: Embedder, lengths: Sequence[int]) -> float:
    """Compare a float32 file with its encoder over lengths, clip by clip and all together.

    Returns:
        the largest difference, see `CLOSE`.

    Raises:
        ExportError: they differ by more than `CLOSE`.
    """
    rate, worst = reference.sample_rate, 0.0
    sounds = synthetic_sounds(lengths, rate)
    for clips in [*([sound] for sound in sounds), sounds]:
        pairs = [(reference.scene(clips, rate), exported.scene(clips, rate))]
        pairs += zip(reference.frames(clips, rate)[0], exported.frames(clips, rate)[0], strict=True)
        if reference.head is not None:
            pairs.append((reference.scene_logits(pairs[0][0]), exported.scene_logits(pairs[0][1])))
        worst = max(worst, *(relative_difference(*pair) for pair in pairs))
    if not worst <= CLOSE:
        raise ExportError(
            f"{reference.card.name}: the exported network differs by {worst:.2g} from PyTorch's, and {CLOSE:g} is "
            "allowed; nothing was written. Report it, with the encoder's configuration and onnxruntime's version"
        )
    return worst


def relative_difference(reference: Float[Tensor, "..."], other: Float[Tensor, "..."]) -> float:
    """The largest, as a share of the reference's largest value where that is above 1; infinite for NaN."""
    difference = (reference - other).abs().max() / reference.abs().max().clamp(min=1)
    return float(difference.nan_to_num(torch.inf, torch.inf))


def scene_cosines(reference: Embedder, exported: Embedder, sounds: Sequence[np.ndarray]) -> Cosines:
    """Cosines of an 8-bit file's scenes to the encoder's."""
    one, other = (embedder.scene(list(sounds), reference.sample_rate) for embedder in (reference, exported))
    cosines = torch.cosine_similarity(one.double(), other.double())
    return Cosines(float(cosines.mean()), float(cosines.min()), len(sounds))
