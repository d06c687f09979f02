"""The network: patches, fixed two-dimensional positions, pre-norm transformer blocks, the encoder.

Sizes and layout are those of the papers (ViT-B of 16×16 patches, M2D's layout of positions).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from matpac.errors import MatpacError, require
from matpac.model.linear import Linear

PATCH = 16
"""Side of a patch, in mel bands and in frames (both papers)."""

HEAD_WIDTH = 64
"""Width of an attention head of the encoder (ViT)."""


@dataclass(frozen=True)
class EncoderConfig:
    """Size of a ViT encoder. The default is the papers' ViT-B, 85.4 M parameters.

    Args:
        width: of a token.
        depth: number of blocks.
        heads: of attention.
        mels: mel bands of the input, a multiple of 16.
        frames: longest input in frames, a multiple of 16; longer clips are cut into chunks of this length.
    """

    width: int = 768
    depth: int = 12
    heads: int = 12
    mels: int = 80
    frames: int = 608

    def __post_init__(self) -> None:
        for name in ("mels", "frames"):
            if (value := getattr(self, name)) % PATCH or value < PATCH:
                raise MatpacError(f"encoder.{name} must be a positive multiple of {PATCH}, not {value}")
        require(self, "encoder.", "at least 1", "width", "depth", "heads")
        if self.width % self.heads or self.width % 4:
            raise MatpacError(f"encoder.width {self.width} must divide by 4 and by encoder.heads {self.heads}")

    @property
    def bands(self) -> int:
        """Patches along frequency (F)."""
        return self.mels // PATCH

    @property
    def steps(self) -> int:
        """Patches along time (T) of the longest input."""
        return self.frames // PATCH

    @property
    def tokens(self) -> int:
        """Patches of the longest input (L = F·T)."""
        return self.bands * self.steps


SIZES = {
    "tiny": EncoderConfig(width=128, depth=4, heads=2),
    "small": EncoderConfig(width=384, depth=12, heads=6),
    "base": EncoderConfig(),
}
"""Named encoders: base is the papers'; small is ViT-S; tiny is for laptops and tests."""


def sincos_positions(width: int, bands: int, steps: int) -> Float[Tensor, "token width"]:
    """Fixed positions: a row of zeros for [CLS], then one row a patch, frequency-major.

    The first half of the width encodes the time index, the second the frequency index, each as
    [sin(p·ω), cos(p·ω)] with ω_i = 10000^(−i / (width/4)).
    """
    omega = 10_000.0 ** (-np.arange(width // 4) / (width / 4))

    def encode(index: np.ndarray) -> np.ndarray:
        angle = index.reshape(-1, 1) * omega
        return np.concatenate([np.sin(angle), np.cos(angle)], axis=1)

    frequency, time = np.meshgrid(np.arange(bands), np.arange(steps), indexing="ij")
    table = np.concatenate([encode(time), encode(frequency)], axis=1)
    return torch.from_numpy(np.concatenate([np.zeros((1, width)), table])).float()


def initialise(module: nn.Module) -> None:
    """The papers' start: Xavier uniform and zero bias in linear layers, one and zero in norms (as in MAE)."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.LayerNorm):
            part.reset_parameters()


class Attention(nn.Module):
    """Multi-head self-attention with one biased projection for queries, keys and values."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = Linear(width, 3 * width)
        self.proj = Linear(width, width)

    def forward(self, x: Float[Tensor, "batch token width"]) -> Float[Tensor, "batch token width"]:
        batch, tokens, width = x.shape
        query, key, value = self.qkv(x).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.proj(mixed.transpose(1, 2).reshape(batch, tokens, width))


class MLP(nn.Module):
    """Two linear layers with an exact GELU between."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1 = Linear(width, hidden)
        self.fc2 = Linear(hidden, width)

    def forward(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        return self.fc2(self.fc1.with_gelu(x))


class Block(nn.Module):
    """Pre-norm transformer block: x += attention(norm(x)); x += mlp(norm(x))."""

    def __init__(self, width: int, heads: int, mlp_ratio: int = 4):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = MLP(width, mlp_ratio * width)

    def forward(self, x: Float[Tensor, "batch token width"]) -> Float[Tensor, "batch token width"]:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """Blocks and a last norm: what the student, the teacher and the predictor each have of their own."""

    activation_checkpointing = False
    """In training, keep only each block's input and recompute the rest for the gradients."""

    def __init__(self, width: int, depth: int, heads: int):
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        initialise(self)

    def forward(self, x: Float[Tensor, "batch token width"]) -> Float[Tensor, "batch token width"]:
        again = self.activation_checkpointing and self.training and torch.is_grad_enabled()
        for block in self.blocks:
            # a block draws nothing at random, so that there is no state of that to restore
            x = checkpoint(block, x, use_reentrant=False, preserve_rng_state=False) if again else block(x)
        return self.norm(x)

    def layers(self, x: Float[Tensor, "batch token width"]) -> list[Tensor]:
        """Output of every block, the last one after the final norm (the papers' layers)."""
        outputs = []
        for block in self.blocks:
            x = block(x)
            outputs.append(x)
        outputs[-1] = self.norm(x)
        return outputs


class Encoder(nn.Module):
    """Patch embedding, positions, [CLS] and a transformer.

    `positions` is a fixed table that a checkpoint carries along: `[1 + F·T, width]`, [CLS] first.
    """

    positions: Tensor

    def __init__(self, config: EncoderConfig | None = None):
        super().__init__()
        self.config = c = config or EncoderConfig()
        self.patch_embed = Linear(PATCH * PATCH, c.width)
        self.cls_token = nn.Parameter(torch.empty(c.width))
        self.register_buffer("positions", sincos_positions(c.width, c.bands, c.steps))
        self.transformer = Transformer(c.width, c.depth, c.heads)
        initialise(self.patch_embed)
        nn.init.normal_(self.cls_token, std=0.02)  # as in MAE and both papers

    def patch_tokens(self, logmel: Float[Tensor, "batch mel frame"]) -> Float[Tensor, "batch token width"]:
        """Patches with their positions, frequency-major; `frame` a multiple of 16, at most the longest."""
        batch, mels, frames = logmel.shape
        c = self.config
        if mels != c.mels or frames % PATCH or not 0 < frames <= c.frames:
            raise ValueError(
                f"log-mel of {mels} bands × {frames} frames does not fit an encoder of {c.mels} bands and "
                f"at most {c.frames} frames (a multiple of {PATCH})"
            )
        steps = frames // PATCH
        patches = logmel.view(batch, c.bands, PATCH, steps, PATCH).transpose(2, 3)
        table = self.positions[1:].view(c.bands, c.steps, c.width)[:, :steps].reshape(-1, c.width)
        return self.patch_embed(patches.reshape(batch, c.bands * steps, PATCH * PATCH)) + table

    def with_cls(self, tokens: Float[Tensor, "batch token width"]) -> Float[Tensor, "batch token+1 width"]:
        """[CLS] in front of whatever tokens a transformer is to see."""
        cls = (self.cls_token + self.positions[0]).expand(len(tokens), 1, -1)
        return torch.cat([cls.to(tokens.dtype), tokens], dim=1)

    def forward(self, logmel: Float[Tensor, "batch mel frame"]) -> Float[Tensor, "batch token width"]:
        """Tokens of whole spectrograms after the last norm, without [CLS]."""
        return self.transformer(self.with_cls(self.patch_tokens(logmel)))[:, 1:]

    def layers(
        self, logmel: Float[Tensor, "batch mel frame"], which: Sequence[int]
    ) -> Float[Tensor, "batch layer token width"]:
        """Tokens after the chosen blocks (0-based; the last one after the final norm), without [CLS]."""
        outputs = self.transformer.layers(self.with_cls(self.patch_tokens(logmel)))
        return torch.stack([outputs[layer][:, 1:] for layer in which], dim=1)


def positions_agree(one: Encoder, other: Encoder) -> bool:
    """Whether encoders of one width and as many bands have the same positions, as far in time as both reach."""
    shared = min(one.config.steps, other.config.steps)
    tables = [
        encoder.positions[1:].view(encoder.config.bands, encoder.config.steps, -1)[:, :shared]
        for encoder in (one, other)
    ]
    return torch.allclose(tables[0], tables[1], atol=1e-5)
