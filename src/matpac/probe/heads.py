"""What probes compute of frozen features, as functions of stacked parameters.

Prototypes and attention take up two ideas and are not those papers' probes: pooling is what holds probes of audio
encoders back, and changes their ranking (arXiv 2509.24901, prototypes per class over tokens); convex gated
probing (arXiv 2602.16305, prototypes and gates over all frozen layers).
"""

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from matpac.model.linear import grouped_linear
from matpac.probe.inputs import Batch

SHORTEST = 1e-12
"""Shorter vectors have no direction; `torch.nn.functional.normalize`'s limit."""

Parameters = dict[str, Float[Tensor, "..."]]


class Head(ABC):
    """A kind of head, of which several are trained at once: groups (fold and seed) × learning rates."""

    @abstractmethod
    def start(self, generator: torch.Generator) -> Parameters:
        """Parameters of one head before training."""

    @abstractmethod
    def logits(self, parameters: Parameters, batch: Batch) -> Float[Tensor, "group clip rate class"]:
        """Logits of every head for its group's clips; parameters are [group, rate, …]."""

    def learned(self, parameters: Parameters) -> Parameters:
        """What to report of a trained head beside its scores, small enough to keep for all seeds and folds."""
        return {}


def draw_start(
    classes: int, dim: int, generator: torch.Generator
) -> tuple[Float[Tensor, "class dim"], Float[Tensor, "class"]]:
    """Weight and bias as ``torch.nn.Linear(dim, classes)`` draws them by default: both U(-1/√dim, 1/√dim)."""
    weight, bias = torch.empty(classes, dim), torch.empty(classes)
    torch.nn.init.kaiming_uniform_(weight, a=math.sqrt(5), generator=generator)
    bound = 1 / math.sqrt(dim)
    return weight, bias.uniform_(-bound, bound, generator=generator)


class LinearHead(Head):
    """One linear layer on a clip's vector (its first layer and token)."""

    def __init__(self, classes: int, dim: int) -> None:
        self.classes, self.dim = classes, dim

    def start(self, generator: torch.Generator) -> Parameters:
        """As `torch.nn.Linear`."""
        weight, bias = draw_start(self.classes, self.dim, generator)
        return {"weight": weight, "bias": bias}

    def logits(self, parameters: Parameters, batch: Batch) -> Float[Tensor, "group clip rate class"]:
        """One matrix product per group: [clip, dim] × [dim, rates · classes]."""
        weight, bias = parameters["weight"], parameters["bias"]
        found = _GroupedLinear.apply(batch.values[:, 0, :, 0], weight.flatten(1, 2), bias.flatten(1))
        return found.unflatten(2, bias.shape[1:])


class LayerMixture(Head):
    """One linear layer on a convex mixture of layers (of the first token), all layers equal at the start.

    The softmax weighting of frozen layers is ELMo's (arXiv 1802.05365) and SUPERB's (arXiv 2105.01051).
    """

    def __init__(self, classes: int, layers: int, dim: int) -> None:
        self.classes, self.layers, self.dim = classes, layers, dim

    def start(self, generator: torch.Generator) -> Parameters:
        """The linear probe of the layers' mean."""
        weight, bias = draw_start(self.classes, self.dim, generator)
        return {"weight": weight, "bias": bias, "mixture": torch.zeros(self.layers)}

    def logits(self, parameters: Parameters, batch: Batch) -> Float[Tensor, "group clip rate class"]:
        """W · Σ softmax(a)_l x_l + b."""
        mixture = parameters["mixture"].softmax(dim=2)
        return _linear(parameters, torch.einsum("grl,glbd->grbd", mixture, batch.values[:, :, :, 0]))

    def learned(self, parameters: Parameters) -> Parameters:
        """`layers`: each layer's share; positive, sums to 1."""
        return {"layers": parameters["mixture"].softmax(dim=-1)}


class AttentionPooling(Head):
    """One linear layer on the last layer's tokens, averaged with weights softmax(q · x_t / √dim)_t.

    The query is shared: it adds ``dim`` numbers to the linear probe and starts at 0, where the head is the linear
    probe of the plain mean. Queries per class would cost 2 · classes times as much, and ``GatedPrototypes`` is
    what looks for each class by itself.
    """

    def __init__(self, classes: int, dim: int) -> None:
        self.classes, self.dim = classes, dim

    def start(self, generator: torch.Generator) -> Parameters:
        """The linear probe of the tokens' mean."""
        weight, bias = draw_start(self.classes, self.dim, generator)
        return {"weight": weight, "bias": bias, "query": torch.zeros(self.dim)}

    def logits(self, parameters: Parameters, batch: Batch) -> Float[Tensor, "group clip rate class"]:
        """W · Σ softmax(q · x_t / √dim)_t x_t + b."""
        values = batch.values[:, -1]
        likeness = torch.einsum("gbtd,grd->grbt", values, parameters["query"]) / math.sqrt(self.dim)
        if batch.present is not None:
            likeness = likeness.masked_fill(~batch.present[:, None], -math.inf)
        return _linear(parameters, torch.einsum("grbt,gbtd->grbd", likeness.softmax(dim=3), values))

    def learned(self, parameters: Parameters) -> Parameters:
        """`query`."""
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

    def start(self, generator: torch.Generator) -> Parameters:
        """Random directions; the mean over layers and tokens."""
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

    def logits(self, parameters: Parameters, batch: Batch) -> Float[Tensor, "group clip rate class"]:
        """Σ over a class's prototypes of the pooled evidence, + b."""
        directions = torch.nn.functional.normalize(parameters["prototypes"], dim=4)
        gates = parameters["gates"].softmax(dim=3) * parameters["log_scale"].exp()[..., None]
        # layer by layer one matrix, and lengths divided out of the few likenesses instead of the many numbers
        tokens = batch.values.flatten(2, 3)
        wanted = (directions * gates[..., None]).permute(0, 3, 4, 1, 2).flatten(3)
        lengths = torch.linalg.vector_norm(tokens, dim=3, keepdim=True).clamp_(min=SHORTEST)
        likeness = torch.bmm(tokens.flatten(0, 1), wanted.flatten(0, 1)).unflatten(0, tokens.shape[:2])
        evidence = (likeness / lengths).sum(dim=1).unflatten(1, batch.values.shape[2:4])
        evidence = evidence.unflatten(3, gates.shape[1:3])  # [group, clip, token, rate, prototype]
        likely = parameters["sharpness"][:, None, None] * evidence
        if batch.present is not None:
            likely = likely.masked_fill(~batch.present[..., None, None], -math.inf)
        pooled = (likely.softmax(dim=2) * evidence).sum(dim=2)
        return pooled.unflatten(3, (self.classes, self.per_class)).sum(dim=4) + parameters["bias"][:, None]

    def learned(self, parameters: Parameters) -> Parameters:
        """`layers`, [prototype, layer]: gates, positive, sum to 1; `sharpness`, [prototype]: α."""
        return {"layers": parameters["gates"].softmax(dim=-1), "sharpness": parameters["sharpness"]}


def _linear(
    parameters: Parameters, vectors: Float[Tensor, "group rate clip dim"]
) -> Float[Tensor, "group clip rate class"]:
    found = torch.matmul(vectors, parameters["weight"].transpose(2, 3)) + parameters["bias"][:, :, None]
    return found.transpose(1, 2)


class _GroupedLinear(torch.autograd.Function):
    """`grouped_linear` with the gradients of weight and bias; inputs are frozen features."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(inputs)
        return grouped_linear(inputs, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, Tensor]:
        (inputs,) = ctx.saved_tensors
        flat = gradients[0].transpose(1, 2).contiguous()
        return None, grouped_linear(flat, inputs.transpose(1, 2)), flat.sum(dim=2)
