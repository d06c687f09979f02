"""The teacher: running averages of the student's transformer and classification head."""

import copy
from collections.abc import Iterable

import torch
from torch import nn

from matpac.model.vit import Transformer, initialise
from matpac.pretrain.classification import ClassificationHead


class Teacher(nn.Module):
    """Float32 copies that learn only by averaging; patch embedding and [CLS] are the student's.

    Args:
        transformer: the student's.
        head: the student's classification head, None without that task.
        start_as_copy: False, as published, gives the teacher's encoder and the heads' hidden layers their own
            random draw (the head's last layer is shared); True starts them all equal to the student.
    """

    def __init__(self, transformer: Transformer, head: ClassificationHead | None, start_as_copy: bool = False):
        super().__init__()
        self.transformer = copy.deepcopy(transformer)
        self.head = copy.deepcopy(head)
        if not start_as_copy:
            initialise(self.transformer)
            if self.head is not None:
                initialise(self.head.mlp)
        self.requires_grad_(False)

    @torch.no_grad()
    def update(
        self,
        transformer: Transformer,
        head: ClassificationHead | None,
        encoder_decay: float,
        head_decay: float,
    ) -> None:
        """γ ← λγ + (1 − λ)θ, with a decay for the encoder and one for the head (MATPAC, section 3.1)."""
        _average(self.transformer, transformer, encoder_decay)
        if self.head is not None and head is not None:
            _average(self.head, head, head_decay)


def _average(teacher: nn.Module, student: nn.Module, decay: float) -> None:
    pairs: Iterable[tuple[nn.Parameter, nn.Parameter]] = zip(
        teacher.parameters(), student.parameters(), strict=True
    )
    averages, values = map(list, zip(*pairs, strict=True))
    torch._foreach_mul_(averages, decay)
    torch._foreach_add_(averages, values, alpha=1 - decay)
