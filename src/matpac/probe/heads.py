"""Many linear heads trained as one batched layer; each ends where training it alone would take it.

Heads of one (split, seed) see the same batches whatever their learning rate, so they form a *group* and share
one matrix product: [batch, dim] × [dim, rates · classes]. Groups are stacked and go through ``bmm``, or where
oneDNN serves, which is up to 1.2 times faster, one after the other. No autograd: the gradient of a linear layer is
two products.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.optim.adam import adam

from matpac.model.linear import grouped_linear


@dataclass(frozen=True)
class AdamConfig:
    """Adam with L2 as part of the gradient, as torch's ``weight_decay`` (values: docs/evaluation.md)."""

    betas: tuple[float, float] = (0.9, 0.999)
    l2: float = 1e-8
    epsilon: float = 1e-8
    """torch.optim.Adam's and scikit-learn's default; the protocol names none."""


def draw_start(
    classes: int, dim: int, generator: torch.Generator
) -> tuple[Float[Tensor, "class dim"], Float[Tensor, "class"]]:
    """Weight and bias as ``torch.nn.Linear(dim, classes)`` draws them by default: both U(-1/√dim, 1/√dim)."""
    weight, bias = torch.empty(classes, dim), torch.empty(classes)
    torch.nn.init.kaiming_uniform_(weight, a=math.sqrt(5), generator=generator)
    bound = 1 / math.sqrt(dim)
    return weight, bias.uniform_(-bound, bound, generator=generator)


class LinearHeads:
    """Groups × learning rates of linear heads with their Adam state, stacked.

    ``weight`` and ``bias`` hold one start per group, the same for all rates. ``groups`` and ``rates`` say
    which head, by its place at the start, is in which place now that some have left (``keep``).
    """

    def __init__(
        self,
        weight: Float[Tensor, "group class dim"],
        bias: Float[Tensor, "group class"],
        learning_rates: Sequence[float],
        config: AdamConfig,
    ) -> None:
        self.config = config
        self.learning_rates = tuple(learning_rates)
        count = len(self.learning_rates)
        self.groups = np.arange(len(weight))
        self.rates = np.tile(np.arange(count), (len(weight), 1))
        self.steps = 0
        self.weight = weight[:, None].repeat(1, count, 1, 1)
        self.bias = bias[:, None].repeat(1, count, 1)
        self._weight_moments = torch.zeros_like(self.weight), torch.zeros_like(self.weight)
        self._bias_moments = torch.zeros_like(self.bias), torch.zeros_like(self.bias)
        self._arrange()

    def logits(self, inputs: Float[Tensor, "group clip dim"]) -> Float[Tensor, "group clip rate class"]:
        """What each head says of the inputs of its group."""
        groups, rates, classes, dim = self.weight.shape
        weight = self.weight.view(groups, rates * classes, dim)
        return grouped_linear(inputs, weight, self.bias.view(groups, -1)).view(groups, -1, rates, classes)

    def step(
        self, inputs: Float[Tensor, "group clip dim"], gradient: Float[Tensor, "group clip rate class"]
    ) -> None:
        """One Adam step from the loss's gradient with respect to the logits of these inputs."""
        flat = gradient.flatten(2).transpose(1, 2).contiguous()
        of_weight = grouped_linear(flat, inputs.transpose(1, 2)).view_as(self.weight)
        of_bias = flat.sum(dim=2).view_as(self.bias)
        self.steps += 1
        for rate, places, (values, first, second, steps) in self._lists:
            gradients = [stack[place] for stack in (of_weight, of_bias) for place in places]
            adam(
                values,
                gradients,
                first,
                second,
                [],
                steps,
                fused=True,  # one pass over memory
                amsgrad=False,
                beta1=self.config.betas[0],
                beta2=self.config.betas[1],
                lr=rate,
                weight_decay=self.config.l2,
                eps=self.config.epsilon,
                maximize=False,
            )

    def keep(self, running: Bool[np.ndarray, "group rate"]) -> None:
        """Let stopped heads leave, where that makes the stack smaller.

        ``running`` is by the heads' present places. The stack stays rectangular: beside a group with more
        running heads another keeps some stopped ones as ballast; nobody reads them any more.
        """
        groups = np.flatnonzero(running.any(axis=1))
        width = int(running.sum(axis=1).max())
        if len(groups) == running.shape[0] and width == running.shape[1]:
            return
        places = np.argsort(~running[groups], axis=1, kind="stable")[:, :width]
        self.rates = np.take_along_axis(self.rates[groups], places, axis=1)
        self.groups = self.groups[groups]
        index = torch.from_numpy(groups)[:, None], torch.from_numpy(places)
        self.weight, self.bias = self.weight[index], self.bias[index]
        self._weight_moments = self._weight_moments[0][index], self._weight_moments[1][index]
        self._bias_moments = self._bias_moments[0][index], self._bias_moments[1][index]
        self._arrange()

    def _arrange(self) -> None:
        """For each rate, the places of its heads and the lists of their tensors that ``adam`` wants."""
        stacks = (self.weight, *self._weight_moments), (self.bias, *self._bias_moments)
        self._lists: list[tuple[float, list[tuple[int, int]], tuple[list[Tensor], ...]]] = []
        for index in np.unique(self.rates):
            places = [(group, place) for group, place in np.argwhere(self.rates == index).tolist()]
            columns = [[stack[k][place] for stack in stacks for place in places] for k in range(3)]
            steps = torch.full((len(columns[0]),), float(self.steps), device=self.weight.device)
            self._lists.append((self.learning_rates[index], places, (*columns, list(steps.unbind()))))


class BestHeads:
    """Early stopping, head by head: the best weights so far, and which heads still run.

    All arrays are [group, rate] by the heads' places at the start, whichever have left the stack since.
    """

    def __init__(self, heads: LinearHeads, patience: int) -> None:
        self.patience = patience
        self.weight, self.bias = torch.empty_like(heads.weight), torch.empty_like(heads.bias)
        self.value = np.full(heads.rates.shape, -np.inf)
        self.best_epoch = np.zeros(heads.rates.shape, int)
        self.epochs = np.zeros(heads.rates.shape, int)
        self.running = np.ones(heads.rates.shape, bool)

    def update(self, heads: LinearHeads, epoch: int, values: Float[np.ndarray, "group rate"]) -> None:
        """Take in the validation metric after ``epoch`` (from 1); ``values`` are by the heads' present places.

        Of epochs with equal values the earliest is the best.
        """
        for place in np.ndindex(heads.rates.shape):
            head = int(heads.groups[place[0]]), int(heads.rates[place])
            if not self.running[head]:
                continue
            self.epochs[head] = epoch
            if values[place] > self.value[head]:
                self.value[head], self.best_epoch[head] = values[place], epoch
                self.weight[head], self.bias[head] = heads.weight[place], heads.bias[place]
            elif epoch - self.best_epoch[head] >= self.patience:
                self.running[head] = False


class StandardisedRows:
    """Rows of one matrix of features, standardised on the way out; the matrix is kept once and never copied.

    ``mean`` and ``scale`` [group, dim] belong to the groups' training parts.
    """

    def __init__(
        self,
        features: Shaped[Tensor, "clip dim"],
        mean: Float[Tensor, "group dim"],
        scale: Float[Tensor, "group dim"],
    ) -> None:
        self.features, self.mean, self.scale = features, mean, scale
        self._buffer = mean.new_empty(0)

    def __call__(
        self, index: Int[Tensor, "member clip"], groups: Int[np.ndarray, "member"]
    ) -> Float[Tensor, "member clip dim"]:
        """Rows ``index[i]`` scaled as ``groups[i]`` has it, in a buffer that the next call overwrites."""
        size = index.numel() * self.features.shape[1]
        if self._buffer.numel() < size:
            self._buffer = self.mean.new_empty(size)  # fresh pages on every batch would cost a third of the step
        rows = self._buffer[:size].view(index.numel(), -1)
        if self.features.dtype == rows.dtype:
            torch.index_select(self.features, 0, index.flatten(), out=rows)
        else:
            rows.copy_(self.features[index.flatten()])
        member = torch.from_numpy(groups)
        return rows.view(*index.shape, -1).sub_(self.mean[member, None]).div_(self.scale[member, None])


def fit_scaler(
    features: Shaped[Tensor, "clip dim"], rows: Int[Tensor, "train"]
) -> tuple[Float[Tensor, "dim"], Float[Tensor, "dim"]]:
    """Mean and (population) deviation of each feature over ``rows``; a constant feature is divided by 1.

    Constant is what varies by less than float32 can tell from its mean. Sums are float64, over blocks of
    rows.
    """
    blocks = rows.split(1024)
    total = sum(features[block].double().sum(dim=0) for block in blocks)
    mean = torch.as_tensor(total) / len(rows)
    squares = torch.zeros_like(mean)
    for block in blocks:
        squares += (features[block].double() - mean).square_().sum(dim=0)
    scale = (squares / len(rows)).sqrt_()
    scale[scale <= torch.finfo(torch.float32).eps * mean.abs()] = 1.0
    return mean.float(), scale.float()
