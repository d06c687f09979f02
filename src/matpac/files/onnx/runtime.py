"""An ONNX file as the network of an `Embedder`: chunks go through the file's graph in ONNX Runtime."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from matpac.files.onnx.files import OnnxFile, library, read_model
from matpac.files.onnx.graph import FRAMES, LENGTHS, SCENE, WAVEFORM
from matpac.files.tensor_files import CheckpointError
from matpac.model.chunks import Chunk
from matpac.model.embedder import Embedder
from matpac.model.network import padded, weights_digest
from matpac.model.vit import EncoderConfig

QUIET = 4
"""Level of ONNX Runtime's log from which messages are shown, its highest: errors are raised as exceptions too."""


class OnnxNetwork:
    """A `matpac.model.network.Network` whose weights and computing are ONNX Runtime's.

    Args:
        file: what `read_model` found in it.
        session: of ONNX Runtime.
        name: of the file, for errors.
    """

    device = torch.device("cpu")  # what goes in and out, wherever ONNX Runtime computes
    depth = 0  # the file gives the last layer's output alone

    def __init__(self, file: OnnxFile, session: Any, name: str):
        self.config: EncoderConfig = file.description.encoder
        self.file, self.name, self._session = file, name, session

    def digest(self) -> bytes:
        """SHA-256 that depends on every byte of the file."""
        return weights_digest({"digest": torch.frombuffer(bytearray(self.file.digest), dtype=torch.uint8)})

    def chunk_frames(
        self, chunks: list[Chunk], which: list[int], sums: bool = False
    ) -> Float[Tensor, "chunk layer *step width"]:
        """See `matpac.model.network.Network`."""
        # a batch shares the ranges of its 8-bit activations: only alone is a chunk independent of the others
        groups = [chunks] if self.file.precision == "float32" else [[chunk] for chunk in chunks]
        return torch.cat([self._run(group, sums) for group in groups])[:, None]

    def _run(self, chunks: list[Chunk], sums: bool) -> Float[Tensor, "chunk *step width"]:
        lengths = np.array([len(chunk.samples) for chunk in chunks], np.int64)
        inputs = {WAVEFORM: padded(chunks, int(lengths.max())), LENGTHS: lengths}
        try:
            found = self._session.run([SCENE if sums else FRAMES], inputs)[0]
        except Exception as error:  # its errors share no class below this one
            raise CheckpointError(f"{self.name}: ONNX Runtime can't compute it ({_line(error)})") from error
        steps, width = chunks[0].steps, self.config.bands * self.config.width
        shape = (len(chunks), width) if sums else (len(chunks), steps, width)
        if found.shape != shape or found.dtype != np.float32:
            raise CheckpointError(
                f"{self.name}: gave {found.dtype} {list(found.shape)}, not float32 {list(shape)}"
            )
        if not np.isfinite(found).all():
            raise CheckpointError(f"{self.name}: gives values that are not finite; export or download it again")
        return torch.from_numpy(found) * steps if sums else torch.from_numpy(found)


def load_onnx(path: str | Path, device: str | torch.device = "cpu") -> Embedder:
    """The encoder in an ONNX file by `export_onnx`, on as many threads as PyTorch has now.

    Args:
        path: of the file.
        device: "cpu", or "cuda" where onnxruntime-gpu is installed; else a warning says that the CPU computes.

    Raises:
        CheckpointError: as `read_model`, or ONNX Runtime refuses it.
        MatpacError: onnx or onnxruntime is missing.
        OSError: it can't be read.
    """
    file = read_model(Path(path))
    # by its path: ONNX Runtime needs half the memory that it needs for bytes
    network = OnnxNetwork(file, _session(str(path), torch.device(device)), str(path))
    return Embedder(network, file.description.logmel, file.head, file.description.card)


def _session(name: str, device: torch.device) -> Any:
    runtime = library("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = QUIET
    providers = ["CPUExecutionProvider"]
    if device.type != "cpu":
        wanted = f"{device.type.upper()}ExecutionProvider"
        if wanted in runtime.get_available_providers():
            providers.insert(0, wanted)
        else:
            message = f"{name}: runs on the CPU, since this onnxruntime has no {wanted}; see docs/onnx.md"
            warnings.warn(message, stacklevel=4)
    try:
        return runtime.InferenceSession(name, options, providers=providers, enable_fallback=0)
    except Exception as error:  # its errors share no class below this one
        raise CheckpointError(f"{name}: ONNX Runtime {runtime.__version__} refuses it ({_line(error)})") from error


def _line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")[:200] or type(error).__name__
