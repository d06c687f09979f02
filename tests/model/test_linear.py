"""Linear layers against PyTorch's own, forward and backward, wherever the faster path may be taken."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from matpac.model import linear
from matpac.model.linear import Linear

sizes = st.integers(1, 70)


def pair(width: int, out: int) -> tuple[Linear, nn.Linear]:
    fast, plain = Linear(width, out), nn.Linear(width, out)
    plain.load_state_dict(fast.state_dict())
    return fast, plain


def close(one, other, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(one, other, atol=tolerance, rtol=tolerance)


@given(batch=st.integers(0, 5), tokens=sizes, width=sizes, out=sizes)
@settings(deadline=None, max_examples=50)
def test_values_are_pytorchs(batch, tokens, width, out):
    fast, plain = pair(width, out)
    x = torch.randn(batch, tokens, width)
    with torch.no_grad():
        close(fast(x), plain(x))
        close(fast.with_gelu(x), F.gelu(plain(x)))


@given(tokens=sizes, width=sizes, out=sizes, gelu=st.booleans())
@settings(deadline=None, max_examples=50)
def test_gradients_are_pytorchs(tokens, width, out, gelu):
    fast, plain = pair(width, out)
    x, weigh = torch.randn(2, tokens, width), torch.randn(2, tokens, out)
    gradients = []
    for layer in (fast, plain):
        inputs = x.clone().requires_grad_()
        output = layer.with_gelu(inputs) if gelu and isinstance(layer, Linear) else F.gelu(layer(inputs))
        (output * weigh).sum().backward()
        gradients.append((inputs.grad, layer.weight.grad, layer.bias.grad))
    close(*gradients, tolerance=1e-4)
    fast.requires_grad_(False).weight.grad = None
    inputs = x.clone().requires_grad_()
    (fast(inputs) * weigh).sum().backward()
    close(inputs.grad, weigh @ plain.weight, tolerance=1e-4)  # frozen weights pass gradients on
    assert fast.weight.grad is None


def test_without_bias_and_with_strides():
    layer, x = Linear(6, 4, bias=False), torch.randn(6, 5).t()
    close(layer(x), x @ layer.weight.t())


def test_double_precision_and_autocast_take_pytorchs_path(monkeypatch):
    def never(*_):
        raise AssertionError("oneDNN was called")

    monkeypatch.setattr(linear, "_ONEDNN", never)
    assert Linear(4, 3).double()(torch.randn(2, 4, dtype=torch.float64)).dtype == torch.float64
    with torch.autocast("cpu", torch.bfloat16):
        assert Linear(4, 3)(torch.randn(2, 4)).dtype == torch.bfloat16
    with pytest.raises(AssertionError, match="oneDNN was called"):
        Linear(4, 3)(torch.randn(2, 4))


def test_where_onednn_is_missing_pytorch_serves(monkeypatch):
    monkeypatch.setattr(linear, "_ONEDNN", None)
    fast, plain = pair(5, 7)
    x = torch.randn(3, 5)
    assert torch.equal(fast(x), plain(x))
    assert torch.equal(fast.with_gelu(x), F.gelu(plain(x)))
