"""What an `Embedder` computes chunks with: the protocol, and the network in PyTorch that implements it.

The other implementation runs an ONNX file (`matpac.files.onnx.runtime`).
"""

import json
from hashlib import sha256
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from matpac.model.chunks import Chunk
from matpac.model.logmel import LogMel
from matpac.model.vit import PATCH, Encoder, EncoderConfig


@runtime_checkable
class Network(Protocol):
    """Turns chunks of waveform into frames.

    Args:
        config: size of the network.
        depth: number of layers to choose from; 0 where only the last one's output is available.
        device: where it computes, as far as PyTorch knows.
    """

    @property
    def config(self) -> EncoderConfig: ...

    @property
    def depth(self) -> int: ...

    @property
    def device(self) -> torch.device: ...

    def chunk_frames(
        self, chunks: list[Chunk], which: list[int], sums: bool = False
    ) -> Float[Tensor, "chunk layer *step width"]:
        """Frames of chunks of equal `steps`, or their sums over time; float32 on the CPU.

        Args:
            chunks: from any clips; a chunk's result does not depend on the others.
            which: numbers of the layers wanted.
            sums: give the sum over a chunk's steps instead of its frames.
        """
        ...

    def digest(self) -> bytes:
        """SHA-256 of the weights."""
        ...


class VitNetwork(nn.Module):
    """A `Network` of log-mel and ViT in PyTorch."""

    def __init__(self, encoder: Encoder, logmel: LogMel):
        super().__init__()
        self.encoder, self.logmel = encoder, logmel
        self.config, self.depth = encoder.config, encoder.config.depth

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.encoder.positions.device

    @torch.inference_mode()
    def chunk_frames(
        self, chunks: list[Chunk], which: list[int], sums: bool = False
    ) -> Float[Tensor, "chunk layer *step width"]:
        """See `Network`."""
        frames, device = chunks[0].steps * PATCH, self.device
        waveforms = torch.from_numpy(padded(chunks, self.logmel.config.samples(frames))).to(device)
        lengths = torch.tensor([chunk.frames for chunk in chunks], device=device)
        beyond = torch.arange(frames, device=device) >= lengths[:, None]
        logmel = self.logmel(waveforms).masked_fill_(beyond[:, None, :], 0.0)
        if which == [self.depth - 1]:
            tokens = self.encoder(logmel).unsqueeze(1)
        else:
            tokens = self.encoder.layers(logmel, which)
        tokens = tokens.float().view(len(chunks), len(which), self.config.bands, -1, self.config.width)
        return (tokens.sum(3).flatten(2) if sums else tokens.transpose(2, 3).flatten(3)).cpu()

    def digest(self) -> bytes:
        """SHA-256 of the encoder's weights."""
        return weights_digest(self.encoder.state_dict())


def padded(chunks: list[Chunk], samples: int) -> Float[np.ndarray, "chunk samples"]:
    """Waveforms of chunks as one array, filled up with zeros."""
    waveforms = np.zeros((len(chunks), samples), np.float32)
    for row, chunk in zip(waveforms, chunks, strict=True):
        row[: len(chunk.samples)] = chunk.samples
    return waveforms


def weights_digest(state: dict[str, Tensor]) -> bytes:
    """SHA-256 over named tensors: names, types, shapes and every byte, whatever their order and device."""
    digest = sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.digest()


def settings_key(settings: object) -> str:
    """SHA-256 over settings that JSON can hold, whatever the order of their names."""
    return sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
