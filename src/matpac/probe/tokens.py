"""Probes over a clip's tokens instead of their mean, which hides what is short: local events.

That pooling is what holds probes of audio encoders back, and changes their ranking, is shown in "Unmute the
patch tokens" (arXiv 2509.24901, prototypes per class over tokens) and in convex gated probing (arXiv
2602.16305, prototypes and gates over all frozen layers). The probes here take up these ideas; they are not
those papers' probes. Both follow linear probing's protocol (``probe.py``) and are reported beside it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer, Shaped
from torch import Tensor

from matpac.probe.heads import draw_start
from matpac.probe.linear_probe import ProbeConfig
from matpac.probe.scores import ProbeResult
from matpac.probe.token_batches import StoredTokens, TokenBatch, TokenSource
from matpac.probe.trained_probe import Head, train_probe
from matpac.tasks.task import Fold, LabelKind

SHORTEST = 1e-12
"""Shorter vectors have no direction; `torch.nn.functional.normalize`'s limit."""


@dataclass(frozen=True, eq=False)
class PrototypeGates:
    """The prototype probe's scores, and where each class found its evidence."""

    result: ProbeResult
    layers: Float[np.ndarray, "seed fold prototype layer"]
    """Convex gate over layers: positive, sums to 1. The prototypes of class c are c·n to c·n + n - 1."""
    sharpness: Float[np.ndarray, "seed fold prototype"]
    """Of the gate over tokens: 0 is their mean, large their maximum, far below 0 their minimum."""


def attention_probe(
    tokens: Float[np.ndarray, "clip token dim"] | TokenSource,
    labels: Shaped[np.ndarray, "labelled *class"],
    splits: Sequence[Fold],
    lengths: Integer[np.ndarray, "clip"] | None = None,
    config: ProbeConfig | None = None,
    kind: LabelKind = "single",
    known: Bool[np.ndarray, "judged class"] | None = None,
    device: str | torch.device = "cpu",
) -> ProbeResult:
    """Linear probe on Σ softmax(q · x_t / √dim)_t x_t over standardised tokens x_t, one learned query q for all.

    ``lengths`` says how many tokens of each clip exist (None: all); ``tokens`` may be a float16 memory map, or a
    source, which has lengths of its own and of whose layers the last is taken. Other arguments and errors as for
    ``linear_probe``.
    """
    if isinstance(tokens, np.ndarray) and tokens.ndim != 3:
        raise ValueError(f"tokens must be [clip, token, dim], not of shape {list(tokens.shape)}")
    source = _source(tokens, lengths)

    def make_head(classes: int) -> AttentionPooling:
        return AttentionPooling(classes, source.dim)

    return train_probe(make_head, source, labels, splits, config, kind, known, device).result


def prototype_probe(
    tokens: Float[np.ndarray, "clip *layer_and_token dim"] | TokenSource,
    labels: Shaped[np.ndarray, "labelled *class"],
    splits: Sequence[Fold],
    lengths: Integer[np.ndarray, "clip"] | None = None,
    config: ProbeConfig | None = None,
    kind: LabelKind = "single",
    known: Bool[np.ndarray, "judged class"] | None = None,
    device: str | torch.device = "cpu",
    per_class: int = 1,
) -> PrototypeGates:
    """``per_class`` prototypes per class with convex gates over layers and tokens (``GatedPrototypes``).

    One prototype per class and layer has the size of a linear layer, so that what is gained comes from where it
    looks; more suit classes that sound in several ways. ``tokens`` are [clip, token, dim] or
    [clip, layer, token, dim], or a source; other arguments and errors as for ``attention_probe``.
    """
    if isinstance(tokens, np.ndarray) and tokens.ndim not in (3, 4):
        raise ValueError(f"tokens must be [clip, token, dim] or with layers second, not {list(tokens.shape)}")
    if per_class < 1:
        raise ValueError(f"per_class must be 1 or more, not {per_class}")
    source = _source(tokens, lengths)

    def make_head(classes: int) -> GatedPrototypes:
        return GatedPrototypes(classes, source.layers, source.dim, per_class)

    trained = train_probe(make_head, source, labels, splits, config, kind, known, device)
    return PrototypeGates(trained.result, trained.learned["layers"], trained.learned["sharpness"])


class AttentionPooling(Head):
    """One linear layer on the tokens' mean weighted by attention to one learned query.

    The query is shared: it adds ``dim`` numbers to the linear probe and starts at 0, where the head is the linear
    probe of the plain mean. Queries per class would cost 2 · classes times as much, and ``GatedPrototypes`` is
    what looks for each class by itself.
    """

    def __init__(self, classes: int, dim: int) -> None:
        self.classes, self.dim = classes, dim

    def start(self, generator: torch.Generator) -> dict[str, Float[Tensor, "..."]]:
        weight, bias = draw_start(self.classes, self.dim, generator)
        return {"weight": weight, "bias": bias, "query": torch.zeros(self.dim)}

    def logits(
        self, parameters: dict[str, Float[Tensor, "rate ..."]], batch: TokenBatch
    ) -> Float[Tensor, "rate clip class"]:
        values = batch.values[:, -1]
        likeness = torch.einsum("btd,rd->rbt", values, parameters["query"]) / math.sqrt(self.dim)
        attention = likeness.masked_fill(~batch.present, -math.inf).softmax(dim=2)
        pooled = torch.einsum("rbt,btd->rbd", attention, values)
        return torch.baddbmm(parameters["bias"][:, None], pooled, parameters["weight"].transpose(1, 2))

    def learned(self, parameters: dict[str, Float[Tensor, "..."]]) -> dict[str, Float[Tensor, "..."]]:
        return {"query": parameters["query"]}


class GatedPrototypes(Head):
    """Evidence for a class in every token, by likeness to its prototypes; gates say which layers and tokens count.

    Of one prototype: its evidence in token t is e_t = s · Σ_l softmax(g)_l cos(w_l, x_lt), with a vector w_l per
    layer (layers share no space) and s > 0. Over tokens it is pooled to Σ_t softmax(α e)_t e_t, with α learned
    from minimum over mean to maximum (auto-pool: McFee, Salamon, Bello 2018, arXiv 1804.10070). A class's
    logit is the sum over its prototypes and a bias. Because w counts by its direction alone, g is not hidden in
    its length.
    """

    def __init__(self, classes: int, layers: int, dim: int, per_class: int) -> None:
        self.classes, self.layers, self.dim, self.per_class = classes, layers, dim, per_class

    def start(self, generator: torch.Generator) -> dict[str, Float[Tensor, "..."]]:
        count = self.classes * self.per_class
        weight, _ = draw_start(count * self.layers, self.dim, generator)
        return {
            "prototypes": weight.view(count, self.layers, self.dim),
            "gates": torch.zeros(count, self.layers),
            # cosines in ``dim`` dimensions are about 1/√dim: evidence starts at about 1, as logits of a linear
            # layer do
            "log_scale": torch.full((count,), math.log(self.dim) / 2),
            # the plain mean: a sharper start follows one token before the prototypes know what they look for, and
            # on needles among noise ended at half the accuracy
            "sharpness": torch.zeros(count),
            "bias": torch.zeros(self.classes),
        }

    def logits(
        self, parameters: dict[str, Float[Tensor, "rate ..."]], batch: TokenBatch
    ) -> Float[Tensor, "rate clip class"]:
        directions = torch.nn.functional.normalize(parameters["prototypes"], dim=3)
        gates = parameters["gates"].softmax(dim=2) * parameters["log_scale"].exp()[:, :, None]
        # layer by layer one matrix, and lengths divided out of the few likenesses instead of the many numbers
        by_layer = batch.values.transpose(0, 1)
        tokens = by_layer.flatten(1, 2)
        wanted = (directions * gates[..., None]).permute(2, 3, 0, 1).flatten(2)
        lengths = torch.linalg.vector_norm(tokens, dim=2, keepdim=True).clamp_(min=SHORTEST)
        evidence = (torch.bmm(tokens, wanted) / lengths).sum(dim=0)
        evidence = evidence.view(*batch.present.shape, *gates.shape[:2])  # [clip, token, rate, prototype]
        likely = parameters["sharpness"] * evidence
        where = likely.masked_fill(~batch.present[:, :, None, None], -math.inf).softmax(dim=1)
        pooled = (where * evidence).sum(dim=1)
        by_class = pooled.unflatten(2, (self.classes, self.per_class)).sum(dim=3)
        return (by_class + parameters["bias"]).transpose(0, 1)

    def learned(self, parameters: dict[str, Float[Tensor, "..."]]) -> dict[str, Float[Tensor, "..."]]:
        return {"layers": parameters["gates"].softmax(dim=1), "sharpness": parameters["sharpness"]}


def _source(
    tokens: Float[np.ndarray, "clip *layer_and_token dim"] | TokenSource,
    lengths: Integer[np.ndarray, "clip"] | None,
) -> TokenSource:
    if isinstance(tokens, TokenSource):
        return tokens
    return StoredTokens(tokens if tokens.ndim == 4 else tokens[:, None], lengths)
