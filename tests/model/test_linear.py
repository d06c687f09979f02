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
    mine, theirs = Linear(width, out), nn.Linear(width, out)
    theirs.load_state_dict(mine.state_dict())
    return mine, theirs


@given(batch=st.integers(0, 5), tokens=sizes, width=sizes, out=sizes)
@settings(deadline=None, max_examples=50)
def test_values_are_pytorchs(batch, tokens, width, out):
    mine, theirs = pair(width, out)
    x = torch.randn(batch, tokens, width)
    with torch.no_grad():
        torch.testing.assert_close(mine(x), theirs(x), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(mine.with_gelu(x), F.gelu(theirs(x)), atol=1e-5, rtol=1e-5)


@given(tokens=sizes, width=sizes, out=sizes)
@settings(deadline=None, max_examples=50)
def test_gradients_are_pytorchs(tokens, width, out):
    mine, theirs = pair(width, out)
    x = torch.randn(2, tokens, width)
    weigh = torch.randn(2, tokens, out)
    gradients = []
    for layer in (mine, theirs):
        asked = x.clone().requires_grad_()
        (F.gelu(layer(asked)) * weigh).sum().backward()
        gradients.append((asked.grad, layer.weight.grad, layer.bias.grad))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_gelu_in_one_go_has_the_gradient_of_both():
    mine, theirs = pair(8, 12)
    x = torch.randn(3, 8)
    mine.with_gelu(x).sum().backward()
    F.gelu(theirs(x)).sum().backward()
    torch.testing.assert_close(mine.weight.grad, theirs.weight.grad)


def test_frozen_weights_still_pass_gradients_to_their_input():
    mine, theirs = pair(8, 12)
    mine.requires_grad_(False)
    x = torch.randn(3, 8, requires_grad=True)
    mine(x).sum().backward()
    torch.testing.assert_close(x.grad, theirs.weight.sum(0).expand(3, -1))
    assert mine.weight.grad is None


def test_without_bias_and_with_strides():
    layer = Linear(6, 4, bias=False)
    x = torch.randn(6, 5).t()
    torch.testing.assert_close(layer(x), x @ layer.weight.t())


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
    mine, theirs = pair(5, 7)
    x = torch.randn(3, 5)
    assert torch.equal(mine(x), theirs(x))
    assert torch.equal(mine.with_gelu(x), F.gelu(theirs(x)))
