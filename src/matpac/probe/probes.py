"""The trained probes: on a clip's vector, on its layers and on its tokens, all by the protocol of `trainer.py`.

Features are float32 or float16 arrays, which may be memory maps, with one row per clip of the task, in its order.
All raise ValueError on features that are not finite or do not fit the task.
"""

import numpy as np
import torch
from jaxtyping import Integer, Shaped

from matpac.probe.heads import AttentionPooling, GatedPrototypes, LayerMixture, LinearHead
from matpac.probe.inputs import Inputs
from matpac.probe.results import ProbeResult
from matpac.probe.trainer import ProbeConfig, train_heads
from matpac.tasks import Task


def linear_probe(
    features: Shaped[np.ndarray, "clip dim"],
    task: Task,
    config: ProbeConfig | None = None,
    device: str | torch.device = "cpu",
) -> ProbeResult:
    """One linear layer on frozen vectors."""
    inputs = Inputs(features[:, None, None], device=device)
    return train_heads(lambda classes: LinearHead(classes, inputs.dim), inputs, task, config)


def layer_probes(
    features: Shaped[np.ndarray, "clip layer dim"],
    task: Task,
    config: ProbeConfig | None = None,
    device: str | torch.device = "cpu",
) -> list[ProbeResult]:
    """``linear_probe`` on every layer by itself, first layer first; its errors with the layer named.

    A layer that is best on these test clips was chosen by looking at them: the curve is for the eye, and
    ``weighting_probe`` is what may be compared with the linear probe.
    """
    results = []
    for layer in range(features.shape[1]):
        try:
            results.append(linear_probe(features[:, layer], task, config, device))
        except ValueError as error:
            raise ValueError(f"layer {layer}: {error}") from error
    return results


def weighting_probe(
    features: Shaped[np.ndarray, "clip layer dim"],
    task: Task,
    config: ProbeConfig | None = None,
    device: str | torch.device = "cpu",
) -> ProbeResult:
    """Linear probe on a learned mixture of standardised layers; `learned["layers"]` has the shares."""
    inputs = Inputs(features[:, :, None], device=device)
    return train_heads(lambda classes: LayerMixture(classes, inputs.layers, inputs.dim), inputs, task, config)


def attention_probe(
    tokens: Shaped[np.ndarray, "clip token dim"],
    task: Task,
    config: ProbeConfig | None = None,
    lengths: Integer[np.ndarray, "clip"] | None = None,
    device: str | torch.device = "cpu",
) -> ProbeResult:
    """Linear probe on tokens pooled by one learned query; ``lengths`` has each clip's tokens (None: all)."""
    inputs = Inputs(tokens[:, None], lengths, device)
    return train_heads(lambda classes: AttentionPooling(classes, inputs.dim), inputs, task, config)


def prototype_probe(
    tokens: Shaped[np.ndarray, "clip layer token dim"],
    task: Task,
    config: ProbeConfig | None = None,
    lengths: Integer[np.ndarray, "clip"] | None = None,
    device: str | torch.device = "cpu",
    per_class: int = 1,
) -> ProbeResult:
    """``per_class`` prototypes per class with convex gates over layers and tokens (``GatedPrototypes``).

    One prototype per class and layer has the size of a linear layer, so that what is gained comes from where it
    looks; more suit classes that sound in several ways.
    """
    if per_class < 1:
        raise ValueError(f"per_class must be 1 or more, not {per_class}")
    inputs = Inputs(tokens, lengths, device)
    return train_heads(
        lambda classes: GatedPrototypes(classes, inputs.layers, inputs.dim, per_class), inputs, task, config
    )
