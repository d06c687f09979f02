"""The unsupervised classification task: DINO's projection head and the centre of its targets."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from matpac.errors import require
from matpac.model.linear import Linear
from matpac.model.vit import initialise

CenterOn = Literal["probabilities", "logits"]


@dataclass(frozen=True)
class HeadConfig:
    """Size of the classification head; the default is both papers'.

    Args:
        hidden: width of the two hidden layers.
        bottleneck: width before the last layer.
        classes: pseudo-classes (K).
        center_on: what the centre averages: the teacher's probabilities, as in the published code, or its logits,
            as in DINO.
        center_momentum: momentum of that running mean (DINO, published code).
    """

    hidden: int = 2048
    bottleneck: int = 256
    classes: int = 2048
    center_on: CenterOn = "probabilities"
    center_momentum: float = 0.9

    def __post_init__(self) -> None:
        require(self, "head.", "at least 1", "hidden", "bottleneck", "classes")
        require(self, "head.", "between 0 and 1", "center_momentum")


class ClassificationHead(nn.Module):
    """Three layers to a normalised bottleneck, then a weight-normed layer to the pseudo-classes (DINO)."""

    def __init__(self, width: int, config: HeadConfig):
        super().__init__()
        self.mlp = nn.Sequential(
            Linear(width, config.hidden),
            nn.GELU(),
            Linear(config.hidden, config.hidden),
            nn.GELU(),
            Linear(config.hidden, config.bottleneck),
        )
        # the direction is PyTorch's default draw of a linear layer; the gain starts at one and is trained
        self.direction = nn.Parameter(nn.Linear(config.bottleneck, config.classes, bias=False).weight.detach())
        self.gain = nn.Parameter(torch.ones(config.classes, 1))
        initialise(self.mlp)

    def forward(self, x: Float[Tensor, "token width"]) -> Float[Tensor, "token class"]:
        """Logits of the pseudo-classes."""
        bottleneck = F.normalize(self.mlp(x), dim=-1, eps=1e-12)
        return F.linear(bottleneck, F.normalize(self.direction, dim=-1) * self.gain)


class Center(nn.Module):
    """Running mean that is subtracted from the teacher's logits; the training loop moves it."""

    value: Tensor

    def __init__(self, config: HeadConfig):
        super().__init__()
        self.momentum = config.center_momentum
        self.register_buffer("value", torch.zeros(config.classes))

    @torch.no_grad()
    def update(self, batch_mean: Float[Tensor, " class"]) -> None:
        """c ← m·c + (1 − m)·(mean over all tokens of all ranks)."""
        self.value.mul_(self.momentum).add_(batch_mean, alpha=1 - self.momentum)
