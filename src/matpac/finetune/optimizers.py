"""Optimizers of fine-tuning: AdamW, SGD or LARS over parameter groups whose learning rate falls with depth."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from matpac.errors import MatpacError, require
from matpac.model.vit import Encoder

TRUST_COEFFICIENT = (
    1e-3  # η of LARS: how far a tensor moves at rate 1, in shares of its norm (arXiv 1708.03888, MAE)
)


@dataclass(frozen=True)
class OptimizerConfig:
    """The optimizer and its learning rate over the run: linear warm-up, then half a cosine.

    Args:
        kind: adamw, sgd or lars.
        learning_rate: its peak, for the head and the last norm.
        final_learning_rate: at the end of the run.
        warmup_epochs: linear rise from zero.
        weight_decay: not applied to biases and norms.
        momentum: of sgd and lars.
        beta1: of adamw.
        beta2: of adamw.
        layer_decay: ratio of a block's learning rate to that of the block above it; 1 for equal rates.
        clip: largest norm of the gradient; 0 for no clipping.
    """

    kind: Literal["adamw", "sgd", "lars"] = "adamw"
    learning_rate: float = 1e-3
    final_learning_rate: float = 0.0
    warmup_epochs: float = 0
    weight_decay: float = 0.0
    momentum: float = 0.9
    beta1: float = 0.9
    beta2: float = 0.999
    layer_decay: float = 1.0
    clip: float = 0.0

    def __post_init__(self) -> None:
        require(self, "optimizer.", "above 0", "learning_rate")
        require(self, "optimizer.", "at least 0", "final_learning_rate", "warmup_epochs", "weight_decay")
        require(self, "optimizer.", "at least 0 and below 1", "momentum", "beta1", "beta2")
        if not 0 < self.layer_decay <= 1:
            raise MatpacError(f"optimizer.layer_decay must be above 0 and at most 1, not {self.layer_decay}")
        if not self.clip >= 0:
            raise MatpacError(f"optimizer.clip must be at least 0 (0 for no clipping), not {self.clip}")


def build_optimizer(encoder: Encoder, head: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """AdamW, SGD or LARS over `layerwise_groups`, its state plain tensors of each parameter.

    AdamW is decoupled; SGD's and LARS' weight decay is added to the gradient. LARS is You, Gitman and Ginsburg's
    (arXiv 1708.03888): g ← (∇ + βw) · η‖w‖ / (‖∇‖ + β‖w‖) for each tensor, v ← m·v + g, w ← w − lr·v. As in MAE's
    code, and unlike the paper, tensors of one dimension (biases, norms, [CLS]) take plain SGD steps without decay,
    and the learning rate stands outside v, which differs only while the rate changes. Its step overwrites `.grad`.

    Raises:
        MatpacError: LARS is asked for and its library is not installed.
    """
    groups = layerwise_groups(encoder, head, config)
    if config.kind == "adamw":
        return torch.optim.AdamW(groups, betas=(config.beta1, config.beta2), fused=True)
    if config.kind == "sgd":
        return torch.optim.SGD(groups, momentum=config.momentum, fused=True)
    try:
        from pytorch_optimizer.optimizer.lars import LARS  # late: takes a second
    except ImportError as error:
        raise MatpacError(
            f"LARS is not installed ({error}): pip install 'matpac[finetune]', or choose --optimizer.kind "
            "sgd or adamw"
        ) from error
    return LARS(groups, momentum=config.momentum, trust_coefficient=TRUST_COEFFICIENT)


def layerwise_groups(encoder: Encoder, head: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """All parameters in groups of one learning rate and one weight decay, from the input up.

    The rate is learning_rate · layer_decay^(depth + 1 − l): l = 0 for patch embedding and [CLS], l = 1 … depth for
    the blocks, l = depth + 1, and so the full rate, for the last norm and the head (BEiT, arXiv 2106.08254; EAT
    uses it at 0.65). Groups of equal rate and decay are one.

    Returns:
        `params`, `lr` and `weight_decay` of each group, and `lr_scale`, its share of the run's learning rate.
    """
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for layers_above, parameter in _by_depth(encoder, head):
        scale = config.layer_decay**layers_above
        decay = config.weight_decay if parameter.ndim > 1 else 0.0
        group = {"params": [], "lr": config.learning_rate * scale, "lr_scale": scale, "weight_decay": decay}
        groups.setdefault((scale, decay), group)["params"].append(parameter)
    return list(groups.values())


def _by_depth(encoder: Encoder, head: nn.Module) -> Iterator[tuple[int, nn.Parameter]]:
    """Every parameter with the number of layers between it and the head's rate, from the input up."""
    blocks, norm = encoder.transformer.blocks, encoder.transformer.norm
    above = {id(parameter) for part in (*blocks, norm) for parameter in part.parameters()}
    layers = [[parameter for parameter in encoder.parameters() if id(parameter) not in above]]
    layers += [list(block.parameters()) for block in blocks]
    layers += [[*norm.parameters(), *head.parameters()]]
    for number, parameters in enumerate(layers):
        for parameter in parameters:
            yield len(layers) - 1 - number, parameter


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """The run's rate at this step, scaled for each group of `layerwise_groups`."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group["lr_scale"]
