"""MATPAC for X-ARES (github.com/jimbozhang/xares), whose runner makes an encoder without arguments from a file.

    # my_encoder.py
    from matpac.interop import xares

    class MineEncoder(xares.MatpacEncoder):
        source = "runs/mine"

    $ python -m xares.run my_encoder.py src/tasks/esc50_task.py

X-ARES takes the one name in that file that ends on Encoder.
"""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from matpac.files.load import load


class MatpacEncoder(nn.Module):
    """Frames with the attributes that X-ARES requires of an encoder.

    Args:
        source: whatever `matpac.load` takes; without it the class's.

    Raises:
        CheckpointError, DownloadError: as `matpac.load`.
    """

    source: ClassVar[str] = "matpac++"

    def __init__(self, source: str | None = None):
        super().__init__()
        self.embedder = load(source or self.source)
        self.sampling_rate = self.embedder.sample_rate  # Hz
        self.output_dim = self.embedder.width
        self.hop_size_in_ms = round(1000 * self.embedder.hop)

    @torch.inference_mode()
    def forward(
        self, audio: Float[Tensor, "batch samples"] | Float[Tensor, " samples"]
    ) -> Float[Tensor, "batch time width"]:
        """Frames of mono waveforms in [-1, 1], on the audio's device.

        Raises:
            AudioError: shorter than a window, or not finite.
        """
        return self.embedder.frames(audio, self.sampling_rate)[0].to(audio.device)
