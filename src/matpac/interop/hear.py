"""MATPAC by the HEAR interface (hearbenchmark.com/hear-api.html), for HEAR's own kit and other programs.

    hear-validator matpac.interop.hear --model runs/mine
    python -m heareval.embeddings.runner matpac.interop.hear --model runs/mine

Frames come every `encoder.hop` (160 ms with the papers' front-end), coarser than the 50 ms that HEAR suggests for
transcribing notes.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from matpac.files.load import load
from matpac.model.embedder import Embedder

DEFAULT = "matpac++"
"""The encoder where none is named."""


class HearModel(nn.Module):
    """An encoder with the attributes that HEAR requires of a model; calling it gives scenes."""

    def __init__(self, encoder: Embedder):
        super().__init__()
        self.encoder = encoder
        self.sample_rate = encoder.sample_rate  # Hz
        self.scene_embedding_size = self.timestamp_embedding_size = encoder.width

    def forward(self, audio: Float[Tensor, "sound samples"]) -> Float[Tensor, "sound width"]:
        """As `get_scene_embeddings`."""
        return get_scene_embeddings(audio, self)


def load_model(model_file_path: str = "") -> HearModel:
    """A model on the CPU, to be moved to where it is wanted.

    Args:
        model_file_path: whatever `matpac.load` takes; "matpac++" where it is empty.

    Raises:
        CheckpointError, DownloadError: as `matpac.load`.
    """
    return HearModel(load(model_file_path or DEFAULT))


def get_scene_embeddings(audio: Float[Tensor, "sound samples"], model: HearModel) -> Float[Tensor, "sound width"]:
    """One vector per sound, on the audio's device.

    Args:
        audio: mono in [-1, 1], at the model's rate.
        model: as `load_model` gave it.

    Raises:
        AudioError: the sounds are shorter than a window, or not finite.
    """
    return model.encoder.scene(audio, model.sample_rate).to(audio.device)


def get_timestamp_embeddings(
    audio: Float[Tensor, "sound samples"], model: HearModel
) -> tuple[Float[Tensor, "sound time width"], Float[Tensor, "sound time"]]:
    """Vectors over time, and the times of their centres in milliseconds; otherwise as `get_scene_embeddings`."""
    frames, times = model.encoder.frames(audio, model.sample_rate)
    milliseconds = (1000 * times).expand(len(audio), -1)
    # multiples of half a millisecond, which float32 holds exactly for the first two hours
    return frames.to(audio.device), milliseconds.to(audio.device, torch.float32)
