"""Optimizers of fine-tuning: parameter groups whose rate falls with depth, and AdamW, SGD or LARS over them."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from torch import nn

from matpac.errors import MatpacError
from matpac.model.vit import Encoder

Name = Literal["adamw", "sgd", "lars"]
OPTIMIZERS: tuple[Name, ...] = ("adamw", "sgd", "lars")

TRUST_COEFFICIENT = 1e-3
"""Of LARS (η): how far a tensor moves at rate 1, in shares of its norm (arXiv 1708.03888; MAE's too)."""

ParameterGroup = dict[str, Any]
"""What torch's optimizers take: params, lr, weight_decay; and lr_scale, the share of the run's learning rate."""


def layerwise_groups(
    encoder: Encoder,
    head: nn.Module,
    learning_rate: float,
    decay: float,
    weight_decay: float,
    decay_biases_and_norms: bool = False,
) -> list[ParameterGroup]:
    """Everything that learns, in groups of one learning rate and one weight decay, from the input up.

    The rate is learning_rate · decay^(depth + 1 − l): l = 0 for patch embedding and [CLS] (and positions, if they
    learned), l = 1 … depth for the blocks, l = depth + 1, and so the full rate, for the last norm and the head
    (BEiT, arXiv 2106.08254; EAT uses it at 0.65). Groups that come out alike are one: with decay 1 there are two.
    Frozen parameters are left out.

    Args:
        encoder: whose blocks are counted.
        head: learns at the full rate.
        learning_rate: of the head. A schedule sets `group["lr"] = rate * group["lr_scale"]` at every step.
        decay: from one block to the next one down; 1 makes no difference between layers.
        weight_decay: of matrices.
        decay_biases_and_norms: False exempts what has one dimension: biases, norms and [CLS], as most do.

    Raises:
        MatpacError: nothing learns; a decay outside (0, 1].
    """
    if not 0 < decay <= 1:
        raise MatpacError(f"layer decay must be above 0 and at most 1, not {decay}")
    groups: dict[tuple[float, float], ParameterGroup] = {}
    for layers_above, parameter in _by_depth(encoder, head):
        if not parameter.requires_grad:
            continue
        scale = decay**layers_above
        own = weight_decay if decay_biases_and_norms or parameter.ndim > 1 else 0.0
        start = {"params": [], "lr": learning_rate * scale, "lr_scale": scale, "weight_decay": own}
        groups.setdefault((scale, own), start)["params"].append(parameter)
    if not groups:
        raise MatpacError("nothing to train: every parameter of encoder and head is frozen")
    return list(groups.values())


def _by_depth(encoder: Encoder, head: nn.Module) -> Iterator[tuple[int, nn.Parameter]]:
    """Every parameter with the number of layers between it and the head's rate, from the input up."""
    blocks, norm = encoder.transformer.blocks, encoder.transformer.norm
    higher = {id(parameter) for part in (*blocks, norm) for parameter in part.parameters()}
    for parameter in encoder.parameters():
        if id(parameter) not in higher:
            yield len(blocks) + 1, parameter
    for number, block in enumerate(blocks):
        for parameter in block.parameters():
            yield len(blocks) - number, parameter
    for part in (norm, head):
        for parameter in part.parameters():
            yield 0, parameter


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """The run's rate at this step, scaled for each group of `layerwise_groups`."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group["lr_scale"]


def build_optimizer(
    name: str,
    groups: Sequence[ParameterGroup],
    momentum: float = 0.9,
    betas: tuple[float, float] = (0.9, 0.95),
    fused: bool = False,
) -> torch.optim.Optimizer:
    """AdamW, SGD or LARS over the groups of `layerwise_groups`; all state is one tensor or several a parameter.

    AdamW is decoupled; SGD's and LARS' weight decay is added to the gradient. LARS is You, Gitman and Ginsburg's
    (arXiv 1708.03888): g ← (∇ + βw) · η‖w‖ / (‖∇‖ + β‖w‖) for each tensor, v ← m·v + g, w ← w − lr·v. As in MAE's
    code, and unlike the paper, tensors of one dimension (biases, norms, our [CLS]) go by plain SGD without decay,
    and the learning rate stands outside v, which differs only while the rate changes. Its step overwrites `.grad`.

    Args:
        name: adamw, sgd or lars.
        groups: with lr and weight_decay.
        momentum: of sgd (M2D: 0.9) and lars.
        betas: of adamw; the default is EAT's.
        fused: one kernel for all of adamw's or sgd's parameters.

    Raises:
        MatpacError: another name; LARS is asked for and its library is not there.
    """
    groups = [dict(group) for group in groups]  # optimizers write into them
    if name == "adamw":
        return torch.optim.AdamW(groups, betas=betas, fused=fused)
    if name == "sgd":
        return torch.optim.SGD(groups, momentum=momentum, fused=fused)
    if name == "lars":
        return _lars(groups, momentum)
    raise MatpacError(f"unknown optimizer: {name}; choose from {', '.join(OPTIMIZERS)}")


def _lars(groups: list[ParameterGroup], momentum: float) -> torch.optim.Optimizer:
    try:
        from pytorch_optimizer.optimizer.lars import LARS  # late: takes a second
    except ImportError as error:
        raise MatpacError(
            f"LARS is not here ({error}): pip install 'matpac[finetune]', or choose optimizer sgd or adamw"
        ) from error
    return LARS(groups, momentum=momentum, trust_coefficient=TRUST_COEFFICIENT)
