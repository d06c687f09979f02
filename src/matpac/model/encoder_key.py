"""What tells one encoder's vectors from any other's: a digest of its weights and settings."""

import json
from dataclasses import asdict
from hashlib import sha256

import torch
from torch import Tensor

from matpac.model.embedder import Embedder


def embedder_key(embedder: Embedder) -> str:
    """SHA-256 over the encoder's weights, its configuration and the front-end's; a tagger's head is not in it."""
    settings = {"encoder": asdict(embedder.encoder.config), "logmel": asdict(embedder.logmel.config)}
    digest = sha256(settings_key(settings).encode())
    digest.update(weights_digest(embedder.encoder.state_dict()))
    return digest.hexdigest()


def weights_digest(state: dict[str, Tensor]) -> bytes:
    """SHA-256 over named tensors: names, kinds, shapes and every byte; their order and device don't matter."""
    digest = sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.digest()


def settings_key(settings: object) -> str:
    """SHA-256 over settings that JSON can hold, whatever the order of their names."""
    return sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
