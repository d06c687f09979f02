"""The objective as one graph of torch.compile, the same for all steps of a run."""

from jaxtyping import Float
from torch import Tensor, nn

from matpac.pretrain.masking import Split
from matpac.pretrain.objective import Objective, PretextOutput, Temperatures

BACKEND = "inductor"
"""PyTorch's own compiler; it needs a C++ compiler on a CPU and Triton, which comes with PyTorch, on a GPU."""


class CompiledObjective(nn.Module):
    """An objective that is compiled, forward and backward, when it is first called.

    Only the steps go through here: weights are saved, restored and averaged as those of `objective`. It is made
    before Fabric wraps it. Then PyTorch cuts the graph of one process among several where a bucket of
    DistributedDataParallel is full, so that gradients are on their way while others are computed; elsewhere it is
    one graph, and code that would break it is an error. It is for one shape of batch, which a training run has.

    Args:
        objective: is compiled in place, under its own parameters' names.
    """

    def __init__(self, objective: Objective):
        super().__init__()
        self.objective = objective
        objective.compile(fullgraph=True, dynamic=False, backend=BACKEND)

    def forward(
        self, logmel: Float[Tensor, "batch mel frame"], split: Split, temperatures: Temperatures
    ) -> PretextOutput:
        """As `Objective.forward`, up to rounding."""
        return self.objective(logmel, split, temperatures.on(logmel.device))
