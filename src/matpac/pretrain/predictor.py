"""The predictor: from visible tokens to one or several hypotheses of the masked ones."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from matpac.errors import MatpacError, require
from matpac.model.linear import Linear
from matpac.model.vit import EncoderConfig, Transformer, initialise, sincos_positions
from matpac.pretrain.masking import MaskSplit, gather_tokens


@dataclass(frozen=True)
class PredictorConfig:
    """Size of the predictor. The default is MATPAC++'s; MATPAC has one hypothesis.

    Args:
        width: width of its tokens.
        depth: number of blocks.
        heads: attention heads.
        hypotheses: guesses for every masked token (r); with one it is MATPAC's predictor.
    """

    width: int = 512
    depth: int = 8
    heads: int = 16
    hypotheses: int = 5

    def __post_init__(self) -> None:
        require(self, "predictor.", "at least 1", "width", "depth", "heads", "hypotheses")
        if self.width % self.heads or self.width % 4:
            raise MatpacError(f"predictor.width {self.width} must divide by 4 and by heads {self.heads}")


class Predictor(nn.Module):
    """Puts visible tokens and mask tokens in their places and predicts the latents of the masked ones.

    All hypotheses share the transformer and have one linear layer each; those are rows of one matrix.
    """

    positions: Tensor

    def __init__(self, config: PredictorConfig, encoder: EncoderConfig):
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.embed = Linear(encoder.width, config.width)
        self.mask_token = nn.Parameter(torch.empty(config.width))
        table = sincos_positions(config.width, encoder.bands, encoder.steps)
        self.register_buffer("positions", table, persistent=False)
        self.transformer = Transformer(config.width, config.depth, config.heads)
        self.hypotheses = Linear(config.width, config.hypotheses * encoder.width)
        initialise(self.embed)
        nn.init.zeros_(self.hypotheses.bias)
        for layer in self.hypotheses.weight.detach().chunk(config.hypotheses):
            nn.init.xavier_uniform_(layer)
        nn.init.normal_(self.mask_token, std=0.02)  # as in MAE and both papers

    def forward(
        self, visible: Float[Tensor, "batch cls_and_visible width"], split: MaskSplit
    ) -> Float[Tensor, "batch masked hypothesis width"]:
        """Hypotheses for the masked tokens, in the split's order.

        Args:
            visible: the student's output, [CLS] first.
            split: which patches those are, and which are to be predicted.
        """
        x = self.embed(visible)
        batch, masked = split.masked.shape
        mask_tokens = self.mask_token.to(x.dtype).expand(batch, masked, -1)
        patches = gather_tokens(torch.cat([x[:, 1:], mask_tokens], dim=1), split.restore())
        x = self.transformer(torch.cat([x[:, :1], patches], dim=1) + self.positions)
        x = gather_tokens(x[:, 1:], split.masked)
        return self.hypotheses(x).unflatten(-1, (self.config.hypotheses, self.encoder.width))
