"""What to watch while pre-training: above all whether it collapses. Computed at log intervals only."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from matpac.pretrain.objective import PretextOutput


def deviation(vectors: Float[Tensor, "*batch width"]) -> Float[Tensor, ""]:
    """Mean over dimensions of the standard deviation over L2-normalised vectors, times √width.

    1 for vectors spread evenly over the sphere, 0 when all are the same: collapse.
    """
    flat = torch.nn.functional.normalize(vectors.flatten(0, -2).float(), dim=-1)
    return flat.std(dim=0, correction=0).mean() * math.sqrt(flat.shape[-1])


def perplexity(probabilities: Float[Tensor, "token class"]) -> Float[Tensor, ""]:
    """How many pseudo-classes the batch uses: exp of the entropy of the mean distribution, 1 … K."""
    mean = probabilities.mean(0)
    return torch.exp(-(mean * mean.clamp_min(1e-12).log()).sum())


def agreement(
    probabilities: Float[Tensor, "token class"], logits: Float[Tensor, "token class"]
) -> Float[Tensor, ""]:
    """Share of tokens for which student and teacher name the same pseudo-class."""
    return (probabilities.argmax(-1) == logits.argmax(-1)).float().mean()


def wins(winner: Int[Tensor, "batch masked"], hypotheses: int) -> Float[Tensor, " hypothesis"]:
    """Share of tokens won by each hypothesis; an even share is healthy, a single winner is collapse."""
    numbers = torch.arange(hypotheses, device=winner.device)
    return (winner.flatten()[:, None] == numbers).float().mean(0)


@torch.no_grad()
def task_losses(output: PretextOutput) -> dict[str, Tensor]:
    """The loss of one batch and those of its tasks, as scalars on its device, for which nothing here waits."""
    values = {"loss": output.loss.detach()}
    if output.prediction is not None:
        values["loss/prediction"] = output.prediction.mean()
    if output.classification is not None:
        values["loss/classification"] = output.classification.mean()
    return values


@torch.no_grad()
def monitor(output: PretextOutput, hypotheses: int) -> dict[str, Tensor]:
    """All monitors of one batch as tensors on its device; nothing here waits for the device."""
    values: dict[str, Tensor] = {
        "targets/deviation": deviation(output.targets),
        "predictions/deviation": deviation(output.predictions),
    }
    if output.probabilities is not None and output.student_logits is not None:
        values["classes/perplexity"] = perplexity(output.probabilities)
        values["classes/agreement"] = agreement(output.probabilities, output.student_logits)
    if hypotheses > 1:
        for number, share in enumerate(wins(output.winner, hypotheses)):
            values[f"wins/{number}"] = share
    return values
