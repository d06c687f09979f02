"""The network that is fine-tuned: an encoder that learns, and the published tagger's head on its mean token."""

from dataclasses import dataclass, replace

from jaxtyping import Float, Int
from torch import Tensor, nn

from matpac.finetune.augmentations import drop_path
from matpac.model.embedder import Card, Embedder, Tagger
from matpac.model.logmel import LogMelConfig
from matpac.model.vit import Block, Encoder, positions_agree

HEAD_DEVIATION = 0.02
"""Of a new head's weights, as ViTs start their last layer; behind BatchNorm all logits then start near zero."""


class FineTuned(nn.Module):
    """Encoder and head; its tensors are named as those of an encoder's file.

    Args:
        encoder: what is fine-tuned.
        classes: of the head, which starts anew.
        drop_path_rate: chance that the last block is skipped for a clip; rises linearly from 0 at the first.
    """

    def __init__(self, encoder: Encoder, classes: int, drop_path_rate: float = 0.0):
        super().__init__()
        self.encoder = encoder
        self.head = Tagger(encoder.config.width, classes)
        nn.init.trunc_normal_(self.head.linear.weight, std=HEAD_DEVIATION)
        nn.init.zeros_(self.head.linear.bias)
        if drop_path_rate:
            _skip_at_random(encoder, drop_path_rate)

    def forward(
        self, logmel: Float[Tensor, "batch mel frame"], kept: Int[Tensor, "batch kept"] | None = None
    ) -> Float[Tensor, "batch class"]:
        """Logits; `kept` are the patches that the network sees (structured patch-out), None for all."""
        tokens = self.encoder.patch_tokens(logmel)
        if kept is not None:
            tokens = tokens.gather(1, kept[..., None].expand(-1, -1, tokens.shape[2]))
        seen = self.encoder.transformer(self.encoder.with_cls(tokens))[:, 1:]
        return self.head(seen.mean(dim=1))


def _skip_at_random(encoder: Encoder, rate: float) -> None:
    """Stochastic depth (Huang et al. 2016), by hooks: pre-training's blocks know nothing of it."""
    blocks = encoder.transformer.blocks
    for number, block in enumerate(blocks):
        assert isinstance(block, Block)
        chance = rate * number / max(1, len(blocks) - 1)
        for part in (block.attn, block.mlp) if chance else ():
            part.register_forward_hook(_SkipAtRandom(chance))


@dataclass(frozen=True)
class _SkipAtRandom:
    """A forward hook."""

    chance: float

    def __call__(self, module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        return drop_path(output, self.chance, module.training)


def with_frames(encoder: Encoder, frames: int) -> tuple[Encoder, str]:
    """The encoder for inputs of at most `frames` frames; positions beyond its own are made anew.

    Returns:
        the encoder (itself where it is long enough) and a sentence for the log, empty where nothing changed.
    """
    before = encoder.config
    if frames <= before.frames:
        return encoder, ""
    longer = Encoder(replace(before, frames=frames))
    longer.load_state_dict(encoder.state_dict() | {"positions": longer.positions})
    sentence = f"positions for {frames} frames made anew, the encoder had {before.frames}"
    if not positions_agree(encoder, longer):
        sentence += "; its own table was not the papers' sine-cosine one, so that all of them changed"
    return longer, sentence


def as_embedder(network: FineTuned, logmel: LogMelConfig, card: Card) -> Embedder:
    """The network as `matpac.load` will give it, with the same weights (not copies), in evaluation mode."""
    learns = [parameter.requires_grad for parameter in network.parameters()]
    embedder = Embedder(network.encoder, logmel, network.head, card)
    embedder.logmel.to(embedder.device)
    # the embedder froze what it was given, and the network goes on learning
    for parameter, learned in zip(network.parameters(), learns, strict=True):
        parameter.requires_grad_(learned)
    network.eval()
    return embedder
