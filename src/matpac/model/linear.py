"""Linear layers, which are nine tenths of the work: on an x86 CPU by oneDNN, everywhere else by PyTorch's own.

PyTorch's float32 linear layer on a CPU is MKL's matrix product after a copy of the bias. oneDNN, which PyTorch
ships too and uses when it compiles, adds the bias and GELU on the way and is faster at every size tried
(docs/performance.md), above all for few tokens. The sums are the same up to their order.
"""

import platform
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


def _find_onednn() -> Any:
    """The operator, or None where this PyTorch does not have it or the processor is another one's to serve."""
    if platform.machine().lower() not in ("x86_64", "amd64") or not torch.backends.mkldnn.is_available():
        return None
    return getattr(torch.ops.mkldnn, "_linear_pointwise", None)


_ONEDNN = _find_onednn()


def _suits_onednn(x: Tensor, weight: Tensor) -> bool:
    return (
        _ONEDNN is not None
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.numel() > 0
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
    )


def grouped_linear(
    inputs: Float[Tensor, "group row width"],
    weight: Float[Tensor, "group out width"],
    bias: Float[Tensor, "group out"] | None = None,
) -> Float[Tensor, "group row out"]:
    """inputs · weightᵀ + bias, group by group and without a gradient: many linear layers of one shape at once."""
    if _ONEDNN is None or not _suits_onednn(inputs, weight):
        if bias is None:
            return torch.bmm(inputs, weight.transpose(1, 2))
        return torch.baddbmm(bias[:, None], inputs, weight.transpose(1, 2))
    biases = [None] * len(weight) if bias is None else bias.unbind()
    parts = [
        _ONEDNN(x, w, b, "none", [], "") for x, w, b in zip(inputs.unbind(), weight.unbind(), biases, strict=True)
    ]
    return parts[0][None] if len(parts) == 1 else torch.stack(parts)


class _OneDNNLinear(torch.autograd.Function):
    """Forward and the gradient of the input by oneDNN; the weight's is faster by a plain product."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        assert _ONEDNN is not None
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        return _ONEDNN(x, weight, bias, "none", [], "")

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        assert _ONEDNN is not None
        x, weight = ctx.saved_tensors
        rows = gradients[0].reshape(-1, len(weight))
        of_x = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            of_x = _ONEDNN(rows, weight.t(), None, "none", [], "").view_as(x)
        if ctx.needs_input_grad[1]:
            of_weight = rows.t() @ x.reshape(len(rows), -1)
        if ctx.has_bias and ctx.needs_input_grad[2]:
            of_bias = rows.sum(0)
        return of_x, of_weight, of_bias


class Linear(nn.Linear):
    """`torch.nn.Linear`, faster on CPUs."""

    def forward(self, input: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch out"]:
        """x·Wᵀ + b."""
        if not _suits_onednn(input, self.weight):
            return F.linear(input, self.weight, self.bias)
        if torch.is_grad_enabled() and (input.requires_grad or self.weight.requires_grad):
            output = _OneDNNLinear.apply(input, self.weight, self.bias)
            assert isinstance(output, Tensor)
            return output
        return _ONEDNN(input, self.weight, self.bias, "none", [], "")

    def with_gelu(self, input: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch out"]:
        """Exact GELU of the layer's output, in one operation where no gradient is needed."""
        learns = torch.is_grad_enabled() and (input.requires_grad or self.weight.requires_grad)
        if learns or not _suits_onednn(input, self.weight):
            return F.gelu(self(input))
        return _ONEDNN(input, self.weight, self.bias, "gelu", [], "none")
