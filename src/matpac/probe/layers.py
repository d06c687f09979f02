"""Which layer of an encoder knows what: a linear probe on each layer, and on a learned mixture of all.

Both take the scene of every layer, [clip, layer, dim], and follow linear probing's protocol (``probe.py``).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from matpac.probe.heads import draw_start
from matpac.probe.linear_probe import ProbeConfig, linear_probe
from matpac.probe.scores import ProbeResult
from matpac.probe.token_batches import StoredTokens, TokenBatch
from matpac.probe.trained_probe import Head, train_probe
from matpac.tasks.task import Fold, LabelKind


@dataclass(frozen=True, eq=False)
class LayerCurve:
    """A linear probe per layer, first layer first."""

    results: tuple[ProbeResult, ...]

    @property
    def mean(self) -> Float[np.ndarray, "layer"]:
        """Mean over seeds and folds, layer by layer."""
        return np.array([result.mean for result in self.results])

    @property
    def ci95(self) -> Float[np.ndarray, "layer"]:
        """Half width of each layer's 95 % interval (Student t over seeds); nan with one seed."""
        return np.array([result.ci95 for result in self.results])


@dataclass(frozen=True, eq=False)
class LayerWeighting:
    """A linear probe on the learned mixture of layers, and the mixture."""

    result: ProbeResult
    weights: Float[np.ndarray, "seed fold layer"]
    """Positive, sum to 1 over layers. Layers are standardised before, so that weights can be compared."""


def per_layer_probes(
    features: Float[np.ndarray, "clip layer dim"],
    labels: Shaped[np.ndarray, "labelled *class"],
    splits: Sequence[Fold],
    config: ProbeConfig | None = None,
    kind: LabelKind = "single",
    known: Bool[np.ndarray, "judged class"] | None = None,
    device: str | torch.device = "cpu",
) -> LayerCurve:
    """``linear_probe`` on every layer by itself; arguments as there, its errors with the layer named.

    A layer that is best on these test clips was chosen by looking at them: the curve is for the eye, and
    ``layer_weighting_probe`` is what may be compared with the linear probe.
    """
    _check_layers(features)
    results = []
    for layer in range(features.shape[1]):
        try:
            results.append(linear_probe(features[:, layer], labels, splits, config, kind, known, device))
        except ValueError as error:
            raise ValueError(f"layer {layer}: {error}") from error
    return LayerCurve(tuple(results))


def layer_weighting_probe(
    features: Float[np.ndarray, "clip layer dim"],
    labels: Shaped[np.ndarray, "labelled *class"],
    splits: Sequence[Fold],
    config: ProbeConfig | None = None,
    kind: LabelKind = "single",
    known: Bool[np.ndarray, "judged class"] | None = None,
    device: str | torch.device = "cpu",
) -> LayerWeighting:
    """Linear probe on Σ softmax(a)_l x_l over standardised layers x_l, with a trained jointly from all equal.

    The softmax weighting of frozen layers is ELMo's (arXiv 1802.05365) and SUPERB's (arXiv 2105.01051).
    Arguments and errors as for ``linear_probe``.
    """
    _check_layers(features)
    _, layers, dim = features.shape

    def make_head(classes: int) -> LayerMixture:
        return LayerMixture(classes, layers, dim)

    tokens = StoredTokens(features[:, :, None])
    trained = train_probe(make_head, tokens, labels, splits, config, kind, known, device)
    return LayerWeighting(trained.result, trained.learned["weights"])


class LayerMixture(Head):
    """One linear layer on a convex mixture of layers; of a clip's tokens it reads the first."""

    def __init__(self, classes: int, layers: int, dim: int) -> None:
        self.classes, self.layers, self.dim = classes, layers, dim

    def start(self, generator: torch.Generator) -> dict[str, Float[Tensor, "..."]]:
        weight, bias = draw_start(self.classes, self.dim, generator)
        return {"weight": weight, "bias": bias, "mixture": torch.zeros(self.layers)}

    def logits(
        self, parameters: dict[str, Float[Tensor, "rate ..."]], batch: TokenBatch
    ) -> Float[Tensor, "rate clip class"]:
        mixture = parameters["mixture"].softmax(dim=1)
        mixed = torch.einsum("rl,bld->rbd", mixture, batch.values[:, :, 0])
        return torch.baddbmm(parameters["bias"][:, None], mixed, parameters["weight"].transpose(1, 2))

    def learned(self, parameters: dict[str, Float[Tensor, "..."]]) -> dict[str, Float[Tensor, "..."]]:
        return {"weights": parameters["mixture"].softmax(dim=0)}


def _check_layers(features: Float[np.ndarray, "..."]) -> None:
    if features.ndim != 3 or 0 in features.shape:
        raise ValueError(f"features must be [clip, layer, dim], not of shape {list(features.shape)}")
