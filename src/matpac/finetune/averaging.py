"""Averaged weights: exponentially over steps (EMA), or plainly over some epochs' ends (SWA)."""

from collections.abc import Mapping
from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from matpac.errors import MatpacError
from matpac.finetune.recipes import AveragingConfig

Network = TypeVar("Network", bound=nn.Module)
Tensors = tuple[Tensor, ...] | list[Tensor]


def ema_decay(updates: int, decay: float) -> float:
    """min(decay, (1 + n) / (10 + n)): what an average of n networks keeps of itself when the next one comes.

    The ramp is TensorFlow's (tf.train.ExponentialMovingAverage, num_updates): without it a run of some hundred
    steps would end near the weights that it began with.
    """
    return min(decay, (1 + updates) / (10 + updates))


def swa_is_due(epoch: int, start: int, every: int) -> bool:
    """Whether the end of this epoch, counted from 1, belongs to the average: start, start + every, …"""
    return epoch >= start and (epoch - start) % every == 0


class Averaging:
    """The average of a network over a run, as its recipe wants it; nothing where that is off.

    On torch's AveragedModel: the first network taken in is copied, later ones move the average. BatchNorm's
    running statistics are averaged with the weights, not copied from the newest network: to first order, the mean
    features of averaged weights are the average of the mean features, while the newest network's are those of
    weights that the average lags behind. Nothing needs another pass over the training part.

    Args:
        network: that is trained; copied, on its device.
        config: of the recipe.
    """

    def __init__(self, network: nn.Module, config: AveragingConfig):
        self.config = config
        self._averaged = None
        if config.kind != "off":
            self._averaged = AveragedModel(network, multi_avg_fn=self._move, use_buffers=True)
            self._averaged.requires_grad_(False).eval()

    @property
    def active(self) -> bool:
        """Whether the recipe averages at all."""
        return self._averaged is not None

    @property
    def updates(self) -> int:
        """How many networks are in the average; counted on the CPU, so that no GPU is waited for."""
        return 0 if self._averaged is None else int(self._averaged.n_averaged)

    def update(self, network: nn.Module, step: int, steps_per_epoch: int) -> None:
        """Take the network in if it is its turn: after every step for EMA, at the end of some epochs for SWA.

        Args:
            network: as it is after its step.
            step: how many are done.
            steps_per_epoch: of the run.
        """
        if self._averaged is None:
            return
        epoch, rest = divmod(step, steps_per_epoch)
        ends = rest == 0 and swa_is_due(epoch, self.config.start_epoch, self.config.every_epochs)
        if self.config.kind == "ema" or ends:
            self._averaged.update_parameters(network)

    @torch.no_grad()
    def _move(self, averages: Tensors, values: Tensors, updates: Tensor | int) -> None:
        """Floats move by a share of the way; counters (BatchNorm's number of batches) are the network's."""
        if not averages[0].is_floating_point():
            torch._foreach_copy_(averages, values)
            return
        ema = self.config.kind == "ema"
        share = 1 - ema_decay(self.updates, self.config.decay) if ema else 1 / (1 + self.updates)
        torch._foreach_lerp_(averages, values, share)

    def network(self, network: Network) -> Network:
        """The averaged network; the given one itself while there is no average."""
        if self._averaged is None or not self.updates:
            return network
        return cast(Network, self._averaged.module)

    def state_dict(self) -> dict[str, Tensor]:
        """Plain tensors: the average and how many it holds; none where averaging is off."""
        return {} if self._averaged is None else dict(self._averaged.state_dict())

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from `state_dict`.

        Raises:
            MatpacError: the tensors are not those of this network's average.
        """
        own = self.state_dict()
        wrong = own.keys() ^ tensors.keys()
        wrong |= {name for name in own.keys() - wrong if own[name].shape != tensors[name].shape}
        if wrong:
            raise MatpacError(
                f"the averaged weights kept with the checkpoint do not fit this run ({len(wrong)} tensors, first "
                f"{min(wrong)}); go on with the recipe that it began with"
            )
        if self._averaged is not None:
            self._averaged.load_state_dict(dict(tensors))
