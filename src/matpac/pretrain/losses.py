"""The losses of MATPAC and MATPAC++ as pure functions, in float32, one value per token."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

STUDENT_TEMPERATURE = 0.1
"""Temperature of the student's softmax (MATPAC, section 2.2; DINO)."""

HARD_TEMPERATURE = 1e-4
"""At or below this temperature multiple choice learning is winner-takes-all (published code)."""


def hypothesis_losses(
    targets: Float[Tensor, "batch masked width"], hypotheses: Float[Tensor, "batch masked hypothesis width"]
) -> Float[Tensor, "batch masked hypothesis"]:
    """ℓ = 2 − 2·cos(z, ẑ) of every hypothesis (MATPAC, equation 1)."""
    target = F.normalize(targets.float(), dim=-1).unsqueeze(2)
    return 2 - 2 * (F.normalize(hypotheses.float(), dim=-1) * target).sum(-1)


def multiple_choice_loss(
    losses: Float[Tensor, "batch masked hypothesis"], temperature: float | Float[Tensor, ""]
) -> Float[Tensor, "batch masked"]:
    """Annealed multiple choice learning (MATPAC++, section 3): hypotheses weighted by how well they do.

    The weights softmax(−ℓ/T) send no gradient. At T ≤ 1e-4 the best hypothesis takes all. With one
    hypothesis both are the plain loss of MATPAC. With a temperature on the device both forms are computed and the
    device chooses, so that the host need not wait for it.
    """
    if losses.shape[-1] == 1:
        return losses.squeeze(-1)
    if isinstance(temperature, Tensor):
        annealed = _annealed(losses, temperature.clamp_min(HARD_TEMPERATURE))
        return torch.where(temperature <= HARD_TEMPERATURE, losses.min(dim=-1).values, annealed)
    if temperature <= HARD_TEMPERATURE:
        return losses.min(dim=-1).values
    return _annealed(losses, temperature)


def _annealed(
    losses: Float[Tensor, "batch masked hypothesis"], temperature: float | Float[Tensor, ""]
) -> Float[Tensor, "batch masked"]:
    weights = torch.softmax(-losses.detach() / temperature, dim=-1)
    return (weights * losses).sum(-1)


def choose(
    hypotheses: Float[Tensor, "batch masked hypothesis width"], winner: Int[Tensor, "batch masked"]
) -> Float[Tensor, "batch masked width"]:
    """The winning hypothesis of each token, with its gradient."""
    if hypotheses.shape[2] == 1:
        return hypotheses.squeeze(2)
    index = winner[..., None, None].expand(-1, -1, 1, hypotheses.shape[-1])
    return hypotheses.gather(2, index).squeeze(2)


def teacher_probabilities(
    logits: Float[Tensor, "token class"], center: Float[Tensor, " class"], temperature: float | Float[Tensor, ""]
) -> Float[Tensor, "token class"]:
    """Targets of the classification task: softmax of the centred, sharpened logits (DINO)."""
    return torch.softmax((logits.float() - center) / temperature, dim=-1)


def classification_loss(
    probabilities: Float[Tensor, "token class"], logits: Float[Tensor, "token class"]
) -> Float[Tensor, " token"]:
    """Cross-entropy between the teacher's probabilities and the student's (MATPAC, equation 3)."""
    return -(probabilities * F.log_softmax(logits.float() / STUDENT_TEMPERATURE, dim=-1)).sum(-1)
