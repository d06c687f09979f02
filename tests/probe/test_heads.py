"""Batched heads against autograd, torch.optim.Adam, scikit-learn's logistic regression and its scaler."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from matpac.probe.heads import (
    AdamConfig,
    LinearHeads,
    StandardisedRows,
    draw_start,
    fit_scaler,
)
from matpac.probe.targets import binary_cross_entropy_gradient, cross_entropy_gradient


def test_the_start_is_what_nn_linear_draws():
    torch.manual_seed(7)
    linear = torch.nn.Linear(13, 4)
    weight, bias = draw_start(4, 13, torch.Generator().manual_seed(7))
    assert torch.equal(weight, linear.weight)
    assert torch.equal(bias, linear.bias)


@pytest.mark.parametrize("partial", [None, 0.0, 0.5])
def test_gradients_are_autograds(partial):
    torch.manual_seed(0)
    logits = torch.randn(2, 6, 3, 5, requires_grad=True)
    labels, targets = torch.randint(0, 5, (2, 6)), torch.randint(0, 2, (2, 6, 5), dtype=torch.uint8)
    heads = [(group, rate) for group in range(2) for rate in range(3)]
    cross_entropy = torch.nn.functional.cross_entropy
    loss = torch.stack([cross_entropy(logits[g, :, r], labels[g]) for g, r in heads]).sum()
    (expected,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(cross_entropy_gradient(logits.detach(), labels), expected)

    known = None if partial is None else torch.rand(2, 6, 5) < partial
    mask = torch.ones(2, 6, 5, dtype=torch.bool) if known is None else known
    loss = logits.sum() * 0.0
    for g, r in heads:
        if mask[g].any():
            bce = torch.nn.functional.binary_cross_entropy_with_logits
            loss = loss + bce(logits[g, :, r][mask[g]], targets[g][mask[g]].float())
    (expected,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(binary_cross_entropy_gradient(logits.detach(), targets, known), expected)


def test_heads_that_stay_are_not_disturbed_by_those_that_leave():
    torch.manual_seed(0)
    rates, config = (1e-3, 1e-2, 1e-1), AdamConfig(l2=0.1)
    start = torch.randn(2, 4, 6), torch.randn(2, 4)
    inputs, gradient = torch.randn(5, 2, 8, 6), torch.randn(5, 2, 8, 3, 4)
    heads = LinearHeads(*start, rates, config)
    for step in range(5):
        if step == 2:  # group 0 keeps its rates 1 and 2, group 1 its rate 0 and one as ballast
            heads.keep(np.array([[False, True, True], [True, False, False]]))
            assert heads.rates[0].tolist() == [1, 2]
            assert heads.rates[1, 0] == 0
        if step == 4:  # group 1 alone is left
            heads.keep(np.array([[False, False], [True, False]]))
            assert heads.groups.tolist() == [1]
            assert heads.rates.tolist() == [[0]]
        part = torch.stack([gradient[step, g][:, heads.rates[i]] for i, g in enumerate(heads.groups)])
        heads.step(inputs[step, heads.groups], part)

    weight, bias = start[0][1].clone().requires_grad_(), start[1][1].clone().requires_grad_()
    alone = torch.optim.Adam([weight, bias], lr=rates[0], weight_decay=0.1)
    for step in range(5):
        weight.grad = gradient[step, 1, :, 0].T @ inputs[step, 1]
        bias.grad = gradient[step, 1, :, 0].sum(dim=0)
        alone.step()
    torch.testing.assert_close(heads.weight[0, 0], weight.detach())
    torch.testing.assert_close(heads.bias[0, 0], bias.detach())


def test_run_to_convergence_it_is_logistic_regression():
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 90)
    features = (random.normal(size=(90, 5)) + np.eye(3, 5)[labels]).astype(np.float32)
    l2 = 0.02
    # Adam's L2 holds the bias too, so scikit-learn gets it as a feature; its C is 1 / (clips · L2)
    oracle = LogisticRegression(C=1 / (90 * l2), fit_intercept=False, tol=1e-10, max_iter=5000)
    oracle.fit(np.hstack([features, np.ones((90, 1))]).astype(np.float64), labels)

    inputs, targets = torch.from_numpy(features)[None], torch.from_numpy(labels)[None]
    weight, bias = draw_start(3, 5, torch.Generator().manual_seed(0))
    heads = LinearHeads(weight[None], bias[None], (3e-3, 1e-2), AdamConfig(l2=l2))
    for _ in range(3000):
        heads.step(inputs, cross_entropy_gradient(heads.logits(inputs), targets))
    for rate in range(2):
        found = torch.cat([heads.weight[0, rate], heads.bias[0, rate, :, None]], dim=1).numpy()
        np.testing.assert_allclose(found, oracle.coef_, atol=2e-3)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_rows_are_standardised_as_scikit_learn_does_by_the_training_part_alone(dtype):
    random = np.random.default_rng(0)
    features = (random.normal(size=(50, 6)) * 10.0 ** np.arange(-2, 4) + 5).astype(dtype)
    features[:, 2] = 0.1  # constant: divided by 1, whatever float rounding makes of its deviation
    train = np.arange(10, 40)
    mean, scale = fit_scaler(torch.from_numpy(features), torch.from_numpy(train))
    assert scale[2] == 1.0
    rows = StandardisedRows(torch.from_numpy(features), mean[None], scale[None])
    index = torch.tensor([[3, 12, 49]])
    exact = features.astype(np.float64)
    expected = np.asarray(StandardScaler().fit(exact[train]).transform(exact[index[0].numpy()]))
    np.testing.assert_allclose(rows(index, np.array([0]))[0].numpy(), expected, rtol=1e-4, atol=1e-5)
