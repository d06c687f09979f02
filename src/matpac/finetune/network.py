"""The network that is fine-tuned, and what it starts from: an encoder, and the published tagger's head."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from matpac.errors import MatpacError
from matpac.finetune.clips import LabelledClips, crop_frames
from matpac.finetune.options import FinetuneOptions
from matpac.finetune.recipes import FinetuneRecipe
from matpac.model.embedder import Card, Embedder
from matpac.model.heads import Tagger
from matpac.model.logmel import LogMelConfig
from matpac.model.vit import Block, Encoder, positions_agree
from matpac.probe.encoders import open_encoder

HEAD_STD = 0.02  # of a new head's weights, as ViTs start their last layer; logits then start near zero
SHOWN = 5  # labels named of a longer list


class HeadError(MatpacError):
    """A head that does not fit the task's labels; the message names both and the way out."""


class TaggingNetwork(nn.Module):
    """Encoder and head; its tensors are named as those of an encoder's file.

    Args:
        encoder: what is fine-tuned.
        classes: of the head, which starts at random.
        drop_path_rate: probability that the last block is skipped for a clip; rises linearly from 0 at the first
            (stochastic depth, arXiv 1603.09382).
    """

    def __init__(self, encoder: Encoder, classes: int, drop_path_rate: float = 0.0):
        super().__init__()
        self.encoder = encoder
        self.head = Tagger(encoder.config.width, classes)
        nn.init.trunc_normal_(self.head.linear.weight, std=HEAD_STD)
        nn.init.zeros_(self.head.linear.bias)
        self.drop_paths: list[DropPath] = []
        blocks = encoder.transformer.blocks
        for number, block in enumerate(blocks):
            assert isinstance(block, Block)
            probability = drop_path_rate * number / max(1, len(blocks) - 1)
            for branch in (block.attn, block.mlp) if probability else ():
                self.drop_paths.append(DropPath(probability))
                branch.register_forward_hook(self.drop_paths[-1])  # pre-training's blocks know nothing of it

    def draw_drop_path(self, batch: int, generator: torch.Generator) -> Float[Tensor, "branch batch"]:
        """Factors of the residual branches: 0 where one is dropped for a clip, else 1/(1 − p)."""
        probability = torch.tensor([drop.probability for drop in self.drop_paths])[:, None]
        kept = torch.rand(len(self.drop_paths), batch, generator=generator) >= probability
        return (kept / (1 - probability)).to(self.encoder.positions.device)

    def forward(
        self,
        logmel: Float[Tensor, "batch mel frame"],
        kept: Int[Tensor, "batch kept"] | None = None,
        drop: Float[Tensor, "branch batch"] | None = None,
    ) -> Float[Tensor, "batch class"]:
        """Logits.

        Args:
            logmel: normalised.
            kept: patches that the network sees (structured patch-out); None for all.
            drop: factors of the residual branches (`draw_drop_path`); None for 1.
        """
        for number, hook in enumerate(self.drop_paths):
            hook.factor = None if drop is None else drop[number]
        tokens = self.encoder.patch_tokens(logmel)
        if kept is not None:
            tokens = tokens.gather(1, kept[..., None].expand(-1, -1, tokens.shape[2]))
        seen = self.encoder.transformer(self.encoder.with_cls(tokens))[:, 1:]
        return self.head(seen.mean(dim=1))


@dataclass
class DropPath:
    """A forward hook that multiplies a residual branch by a factor for each clip, in training.

    Args:
        probability: that a clip goes without the branch.
        factor: of each clip in this forward pass; None for 1.
    """

    probability: float
    factor: Float[Tensor, " batch"] | None = None

    def __call__(self, module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        if self.factor is None or not module.training:
            return output
        return output * self.factor.to(output)[:, None, None]


@dataclass(frozen=True, eq=False)
class Start:
    """The network before its first step.

    Args:
        network: encoder and head.
        logmel: the encoder's front-end.
        frames: of a training crop.
        key: SHA-256 over the encoder's weights and settings.
        notes: sentences for the log on what differs from the encoder's file.
    """

    network: TaggingNetwork
    logmel: LogMelConfig
    frames: int
    key: str
    notes: list[str]


def open_network(options: FinetuneOptions, recipe: FinetuneRecipe, clips: LabelledClips) -> Start:
    """Open the encoder and give it a head; the weights of a new head depend on the seed alone.

    Raises:
        HeadError: `--head keep` with an encoder whose head does not know the task's labels, or is of another kind.
        MatpacError: an encoder that is not available, or not one of matpac's own networks.
    """
    named = open_encoder(options.encoder)
    if not isinstance(named.encoder, Embedder) or not named.layers:  # an ONNX file has no layers to train
        raise MatpacError(f"{options.encoder}: only matpac's own encoders can be fine-tuned; probe this one")
    embedder, classes = named.encoder, clips.task.classes
    logmel = embedder.logmel.config
    frames = crop_frames(recipe, clips, logmel, embedder.config.frames)
    encoder, about_positions = with_frames(embedder.encoder, frames)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        network = TaggingNetwork(encoder, len(classes), recipe.augmentation.drop_path)
    network.requires_grad_(True)
    rows, about_head = rows_to_keep(embedder, classes, options)
    if rows is not None:
        assert embedder.head is not None
        state = embedder.head.state_dict()
        linear = {f"linear.{name}": state[f"linear.{name}"][rows] for name in ("weight", "bias")}
        network.head.load_state_dict(state | linear)
    return Start(network, logmel, frames, named.key, [note for note in (about_positions, about_head) if note])


def with_frames(encoder: Encoder, frames: int) -> tuple[Encoder, str]:
    """The encoder for inputs of at most `frames` frames; positions beyond its own are computed again.

    Returns:
        the encoder (itself where it is long enough) and a sentence for the log, empty where nothing changed.
    """
    before = encoder.config
    if frames <= before.frames:
        return encoder, ""
    longer = Encoder(replace(before, frames=frames))
    longer.load_state_dict(encoder.state_dict() | {"positions": longer.positions})
    sentence = f"positions for {frames} frames computed again, the encoder had {before.frames}"
    if not positions_agree(encoder, longer):
        sentence += "; its own table was not the papers' sine-cosine one, so all of them changed"
    return longer, sentence


def rows_to_keep(embedder: Embedder, classes: list[str], options: FinetuneOptions) -> tuple[list[int] | None, str]:
    """Rows of the encoder's own head that the task's classes take, None for a new head; a sentence for the log.

    Raises:
        HeadError: `--head keep` and a head that does not fit.
    """
    own, labels, keep = embedder.head, embedder.card.labels, options.head == "keep"
    if options.head == "new" or (own is None and not keep):
        return None, "a new head" + ("" if own is None else "; the encoder's own is not used (--head new)")
    if own is None:
        raise HeadError(f"{options.encoder}: has no head to keep; omit --head keep")
    width = own.linear.out_features
    unknown = [name for name in classes if name not in labels]
    unused = [name for name in labels if name not in classes]
    if not isinstance(own, Tagger):
        problem = "is a probe of whole scenes, which fine-tuning does not train"
    elif not labels and (not keep or width != len(classes)):
        problem = f"has {width} classes without names, the task {len(classes)}"
        problem += " (--head keep takes them in order)" if width == len(classes) else ""
    elif labels and unknown:
        problem = f"knows {len(labels)} labels, but not {_some(unknown)}"
    elif labels and unused and not keep:
        problem = f"knows more labels ({_some(unused)}; --head keep takes the task's rows)"
    elif labels:
        also = f"; {len(unused)} others are not used" if unused else ""
        return [labels.index(name) for name in classes], f"the encoder's own head for {len(classes)} labels{also}"
    else:
        return list(range(width)), f"the encoder's own head of {width} classes without names, in the task's order"
    if keep:
        raise HeadError(f"{options.encoder}: its head {problem}; correct the task's labels, or pass --head new")
    return None, f"a new head: the encoder's own {problem}"


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(repr, names[:SHOWN])) + more


def as_embedder(network: TaggingNetwork, logmel: LogMelConfig, card: Card) -> Embedder:
    """The network as `matpac.load` will give it, with the same weights (not copies), in evaluation mode."""
    embedder = Embedder(network.encoder, logmel, network.head, card)
    embedder.logmel.to(embedder.device)
    network.requires_grad_(True)  # the embedder froze what it was given
    network.eval()
    return embedder
