"""MATPAC by the HEAR interface (hearbenchmark.com/hear-api.html), for HEAR's own kit and whatever else speaks it.

    hear-validator matpac.interop.hear --model runs/mine
    python -m heareval.embeddings.runner matpac.interop.hear --model runs/mine

Frames come every 160 ms (of tiny 320), which is coarser than the 50 ms that HEAR suggests for transcribing
notes; the papers' encoders have no finer ones.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from matpac.files.loading import load
from matpac.model.embedder import Embedder

DEFAULT = "matpac++"
"""The encoder where none is named."""


class HearModel(nn.Module):
    """An encoder with the attributes that HEAR asks of a model."""

    def __init__(self, encoder: Embedder):
        super().__init__()
        self.encoder = encoder

    @property
    def sample_rate(self) -> int:
        """Of the audio that it takes, in Hz."""
        return self.encoder.sample_rate

    @property
    def scene_embedding_size(self) -> int:
        """Width of a scene."""
        return self.encoder.width

    @property
    def timestamp_embedding_size(self) -> int:
        """Width of a frame: the same."""
        return self.encoder.width

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
    """One vector a sound, on the audio's device.

    Args:
        audio: mono in [-1, 1], at the model's rate.
        model: as `load_model` gave it.

    Raises:
        AudioError: the sounds are shorter than 25 ms, or not finite.
    """
    return model.encoder.scene(audio, model.sample_rate).to(audio.device)


def get_timestamp_embeddings(
    audio: Float[Tensor, "sound samples"], model: HearModel
) -> tuple[Float[Tensor, "sound time width"], Float[Tensor, "sound time"]]:
    """Vectors over time, and the times of their centres in milliseconds: 87.5, 247.5, …

    Args and Raises as `get_scene_embeddings`.
    """
    frames, times = model.encoder.frames(audio, model.sample_rate)
    milliseconds = (1000 * times).expand(len(audio), -1)
    # multiples of half a millisecond: float32 has them exactly for the first two hours
    return frames.to(audio.device), milliseconds.to(audio.device, torch.float32)
