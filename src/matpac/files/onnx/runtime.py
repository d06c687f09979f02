"""An ONNX file as an encoder: the same interface, with ONNX Runtime instead of PyTorch's network.

Clips are cut, batched and gathered by `matpac.model.embedder.Embedder`; chunks go through the file's graph.
"""

import warnings
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from matpac.errors import MatpacError
from matpac.files.checkpoint.published import CheckpointError
from matpac.files.onnx.files import OnnxFile, read_model, runtime_library
from matpac.files.onnx.graph import FRAMES, LENGTHS, SCENE, WAVEFORM
from matpac.model.chunks import Chunk
from matpac.model.embedder import Embedder, Layers
from matpac.model.heads import SceneProbe
from matpac.model.vit import Encoder, EncoderConfig

QUIET = 4
"""Level of ONNX Runtime's log from which messages are shown: its end. Errors come as exceptions too."""


class OnnxNetwork(Encoder):
    """Stands where an `Embedder` has its network, and knows its size; the weights are ONNX Runtime's."""

    digest: Tensor

    def __init__(self, config: EncoderConfig, name: str, digest: bytes):
        nn.Module.__init__(self)
        self.config, self.name = config, name
        # what tells its vectors from those of any other encoder: `matpac.model.encoder_key` digests the state
        self.register_buffer("digest", torch.frombuffer(bytearray(digest), dtype=torch.uint8))

    def __getattr__(self, name: str) -> Any:
        if name in ("cls_token", "patch_embed", "positions", "transformer"):
            self._no_weights()
        return super().__getattr__(name)

    def _no_weights(self) -> NoReturn:
        raise MatpacError(
            f"{self.name}: an ONNX file computes scenes and frames; to train it or to look into its layers, load "
            "the encoder that it was exported from"
        )


class OnnxEmbedder(Embedder):
    """A frozen encoder whose network runs in ONNX Runtime, on as many threads as PyTorch had when it was loaded.

    Args:
        file: what `read_model` gave.
        session: of ONNX Runtime.
        name: of the file, for errors.
    """

    def __init__(self, file: OnnxFile, session: Any, name: str):
        description = file.description
        network = OnnxNetwork(description.encoder, name, file.digest)
        super().__init__(network, description.logmel, _head(file), description.card)
        self.precision = file.precision
        self._session = session

    @property
    def depth(self) -> int:
        """0: there are no layers to choose from, the file gives the last one's vectors alone."""
        return 0

    @property
    def device(self) -> torch.device:
        """The CPU: what goes in and what comes out, wherever ONNX Runtime computes."""
        return torch.device("cpu")

    def which(self, layers: Layers) -> list[int]:
        """The last layer, unless others are asked for.

        Raises:
            MatpacError: they are.
        """
        last = self.encoder.config.depth - 1
        if layers is None or (not isinstance(layers, str) and [n % (last + 1) for n in layers] == [last]):
            return [last]
        raise MatpacError(
            f"{self.card.name}: an ONNX file has the last layer alone, not {layers!r}; for others load the "
            "encoder that it was exported from"
        )

    def chunk_frames(
        self, chunks: list[Chunk], which: list[int], sums: bool = False
    ) -> Float[Tensor, "chunk layer *step width"]:
        """Frames of chunks of one length, or their sums over time."""
        # dynamic ranges are a whole batch's: only alone does a chunk give what it gives beside others
        groups = [[chunk] for chunk in chunks] if self.precision == "int8 dynamic" else [chunks]
        return torch.cat([self._run(group, sums) for group in groups])[:, None]

    def _run(self, chunks: list[Chunk], sums: bool) -> Float[Tensor, "chunk *step width"]:
        lengths = np.array([len(chunk.samples) for chunk in chunks], np.int64)
        waveforms = np.zeros((len(chunks), lengths.max()), np.float32)
        for row, chunk in zip(waveforms, chunks, strict=True):
            row[: len(chunk.samples)] = chunk.samples
        wanted, steps = SCENE if sums else FRAMES, chunks[0].steps
        try:
            found = self._session.run([wanted], {WAVEFORM: waveforms, LENGTHS: lengths})[0]
        except Exception as error:  # its errors have no common class below
            raise CheckpointError(f"{self.card.name}: ONNX Runtime can't compute it ({_line(error)})") from error
        shape = (len(chunks), self.width) if sums else (len(chunks), steps, self.width)
        if found.shape != shape or found.dtype != np.float32:
            raise CheckpointError(
                f"{self.card.name}: gave {found.dtype} of shape {list(found.shape)}, not {list(shape)}"
            )
        if not np.isfinite(found).all():
            raise CheckpointError(f"{self.card.name}: gives values that are not finite; export or fetch it again")
        return torch.from_numpy(found) * steps if sums else torch.from_numpy(found)

    def _apply(self, fn: Any, recurse: bool = True) -> "OnnxEmbedder":
        """Nothing of it moves to a device or to another type."""
        return self


def load_onnx(path: str | Path, device: str | torch.device = "cpu") -> OnnxEmbedder:
    """The encoder in an ONNX file by `export_onnx`.

    Args:
        path: of the file.
        device: "cpu", or "cuda" where onnxruntime-gpu is installed; else a warning says that the CPU computes.

    Raises:
        CheckpointError: as `read_model`, or ONNX Runtime refuses it.
        MatpacError: onnx or onnxruntime is missing.
        OSError: it can't be read.
    """
    runtime, path = runtime_library(), Path(path)
    file = read_model(path)
    # by its path, for which ONNX Runtime takes half the memory that it takes for bytes
    return OnnxEmbedder(file, _session(runtime, str(path), torch.device(device)), str(path))


def _session(runtime: Any, name: str, device: torch.device) -> Any:
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
    except Exception as error:  # its errors have no common class below
        raise CheckpointError(f"{name}: ONNX Runtime {runtime.__version__} refuses it ({_line(error)})") from error


def _head(file: OnnxFile) -> SceneProbe | None:
    """The head as a matrix on the scene, which every head is in an ONNX file."""
    if file.head is None:
        return None
    matrix, bias = (torch.from_numpy(np.array(part)) for part in file.head)
    with torch.device("meta"):
        head = SceneProbe(*matrix.shape)
    head.load_state_dict({"linear.weight": matrix.T.contiguous(), "linear.bias": bias}, assign=True)
    return head


def _line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")[:200] or type(error).__name__
