"""Heads trained together against a plain loop over splits, seeds and rates, and scikit-learn at convergence."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from helpers.array_task import array_task
from matpac.probe.heads import LinearHead
from matpac.probe.inputs import Batch
from matpac.probe.probes import linear_probe
from matpac.probe.targets import cross_entropy_gradient
from matpac.probe.trainer import AdamConfig, ProbeConfig, StackedHeads
from matpac.tasks import Fold

CONFIG = ProbeConfig((1e-3, 3e-2, 3e-1), seeds=(42, 43), batch_size=20, max_epochs=20, patience=4)


def clips(count=150, dim=10, classes=4, seed=0):
    """Noisy features and labels of both kinds, partly unknown."""
    random = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), random.integers(0, classes, count - classes)])
    centres = random.normal(size=(classes, dim))
    features = centres[labels] + 2.5 * random.normal(size=(count, dim))
    features[:, 0] = 0.1  # a constant feature
    targets = (features @ centres.T + 3 * random.normal(size=(count, classes)) > 4).astype(np.int64)
    return features.astype(np.float32), labels, targets, random.random((count, classes)) < 0.7


def folds(count=150):
    """Two splits whose training parts have the same size and one where it differs."""
    order = np.random.default_rng(1).permutation(count)
    a, b, c, d = np.array_split(order, [count // 3, 2 * count // 3, count - 20])
    return [
        Fold(np.concatenate([a, b]), c, d),
        Fold(np.concatenate([b, a[:40], c[:10]]), c[10:], d),
        Fold(np.concatenate([a, c[:7]]), b, np.concatenate([c[7:], d])),
    ]


def macro_map(logits, targets, known):
    """Mean over classes of scikit-learn's average precision on the known labels."""
    values = [
        average_precision_score(targets[known[:, k], k], logits[known[:, k], k])
        for k in range(targets.shape[1])
        if targets[known[:, k], k].any()
    ]
    return float(np.mean(values))


def alone(features, labels, known, split, seed, rate, config):
    """One head as anybody would write it: best validation metric, test logits, best epoch, epochs."""
    mean, std = features[split.train].mean(0), features[split.train].astype(np.float64).std(0)
    scaled = torch.from_numpy(((features - mean) / np.where(std < 1e-6, 1, std)).astype(np.float32))
    multi = labels.ndim == 2
    seen = np.ones(labels.shape, bool) if known is None else known
    torch.manual_seed(seed)
    linear = torch.nn.Linear(features.shape[1], labels.shape[1] if multi else labels.max() + 1)
    adam = torch.optim.Adam(linear.parameters(), lr=rate, weight_decay=config.adam.l2)
    best, best_epoch, epoch, state = -1.0, 0, 0, {}
    for epoch in range(1, config.max_epochs + 1):
        for batch in torch.randperm(len(split.train)).split(config.batch_size):
            rows = split.train[batch.numpy()]
            logits, target = linear(scaled[rows]), torch.from_numpy(labels[rows])
            if multi:
                mask = torch.from_numpy(seen[rows])
                loss = torch.nn.functional.binary_cross_entropy_with_logits(logits[mask], target[mask].float())
            else:
                loss = torch.nn.functional.cross_entropy(logits, target)
            adam.zero_grad()
            loss.backward()
            adam.step()
        with torch.no_grad():
            logits = linear(scaled[split.valid]).numpy()
        right = labels[split.valid]
        value = macro_map(logits, right, seen[split.valid]) if multi else (logits.argmax(1) == right).mean()
        if value > best + 1e-12:
            best, best_epoch = value, epoch
            state = {name: tensor.clone() for name, tensor in linear.state_dict().items()}
        elif epoch - best_epoch >= config.patience:
            break
    linear.load_state_dict(state)
    with torch.no_grad():
        return best, linear(scaled[split.test]).numpy(), best_epoch, epoch


@pytest.mark.parametrize(
    ("kind", "stack_bytes"), [("single", 1), ("single", 2**29), ("multi", 2**29), ("partial", 2**29)]
)
def test_every_head_is_what_training_it_alone_gives(kind, stack_bytes):
    features, classes, targets, known = clips()
    labels = classes if kind == "single" else targets
    mask = known if kind == "partial" else None
    config = replace(CONFIG, stack_bytes=stack_bytes)
    splits = folds()
    result = linear_probe(features, array_task(labels, splits, mask), config)
    all_epochs = set()
    for fold, split in enumerate(splits):
        for s, seed in enumerate(config.seeds):
            heads = [alone(features, labels, mask, split, seed, rate, config) for rate in config.learning_rates]
            all_epochs |= {head[3] for head in heads}
            np.testing.assert_allclose(result.valid_scores[s, fold], [head[0] for head in heads], rtol=1e-6)
            chosen = config.learning_rates.index(result.learning_rates[s, fold])
            best, logits, best_epoch, epochs = heads[chosen]
            assert best == pytest.approx(max(head[0] for head in heads))
            assert (result.best_epochs[s, fold], result.epochs[s, fold]) == (best_epoch, epochs)
            np.testing.assert_allclose(result.predictions[fold][s], logits, rtol=1e-3, atol=1e-4)
            right = labels[split.test]
            if kind == "single":
                expected = (logits.argmax(1) == right).mean()
            else:
                seen = np.ones(right.shape, bool) if mask is None else mask[split.test]
                expected = macro_map(logits, right, seen)
            assert result.scores[s, fold] == pytest.approx(expected)
    assert len(all_epochs) > 4, "heads must stop at different times for this test to say anything"


def test_mean_and_interval_are_over_seeds_of_the_fold_mean():
    features, labels, _, _ = clips()
    result = linear_probe(features, array_task(labels, folds()), replace(CONFIG, seeds=(1, 2, 3)))
    per_seed = result.scores.mean(axis=1)
    assert result.mean == pytest.approx(per_seed.mean())
    # Student's t for 2 degrees of freedom, from a table
    assert result.ci95 == pytest.approx(4.30265 * per_seed.std(ddof=1) / np.sqrt(3), rel=1e-4)
    one = linear_probe(features, array_task(labels, folds()[:1]), replace(CONFIG, seeds=(1,)))
    assert np.isnan(one.ci95)


def test_neither_test_nor_validation_clips_reach_what_is_trained():
    features, labels, _, _ = clips()
    task, split = array_task(labels, folds()[:1]), folds()[0]
    before, moved = linear_probe(features, task, CONFIG), features.copy()
    moved[split.test] = 1e6 * features[split.test][::-1]
    after = linear_probe(moved, task, CONFIG)
    np.testing.assert_array_equal(before.valid_scores, after.valid_scores)
    np.testing.assert_array_equal(before.learning_rates, after.learning_rates)
    config, moved = replace(CONFIG, max_epochs=1, learning_rates=(1e-2,)), features.copy()
    moved[split.valid] = 1e6 * features[split.valid]
    before, after = (linear_probe(given, task, config) for given in (features, moved))
    np.testing.assert_array_equal(before.predictions[0], after.predictions[0])


def test_of_equal_rates_the_smallest_is_chosen_in_whatever_order_they_come():
    features = np.concatenate([np.full((30, 3), -1.0), np.full((30, 3), 1.0)]).astype(np.float32)
    split = Fold(np.arange(0, 60, 3), np.arange(1, 60, 3), np.arange(2, 60, 3))
    for rates in ((0.3, 0.1, 0.2), (0.1, 0.2, 0.3)):
        task = array_task(np.repeat([0, 1], 30), [split])
        result = linear_probe(features, task, ProbeConfig(learning_rates=rates))
        assert (result.learning_rates == 0.1).all()
        assert (result.scores == 1.0).all()


def test_classes_that_a_test_part_lacks_have_no_score():
    features, labels, _, _ = clips()
    split = folds()[0]
    test = split.test[labels[split.test] != 2]
    result = linear_probe(features, array_task(labels, [Fold(split.train, split.valid, test)]), CONFIG)
    assert result.undefined == ((2,),)
    assert np.isnan(result.per_class[:, 0, 2]).all()


def test_heads_that_stay_are_not_disturbed_by_those_that_leave():
    torch.manual_seed(0)
    config = ProbeConfig(learning_rates=(1e-3, 1e-2, 1e-1), adam=AdamConfig(l2=0.1))
    start, gradient = torch.randn(2, 4, 6), torch.randn(5, 2, 3, 4, 6)
    heads = StackedHeads({"weight": start}, config)
    for step in range(5):
        if step == 2:  # group 0 keeps its rates 1 and 2, group 1 its rate 0 and one as ballast
            heads.keep(np.array([[False, True, True], [True, False, False]]))
            assert heads.rates[0].tolist() == [1, 2]
            assert heads.rates[1, 0] == 0
        if step == 4:  # group 1 alone is left
            heads.keep(np.array([[False, False], [True, False]]))
            assert heads.groups.tolist() == [1]
            assert heads.rates.tolist() == [[0]]
        given = gradient[step][heads.groups[:, None], heads.rates]
        (heads.parameters["weight"] * given).sum().backward()
        heads.step()

    alone = start[1].clone().requires_grad_()
    optimizer = torch.optim.Adam([alone], lr=1e-3, weight_decay=0.1)
    for step in range(5):
        alone.grad = gradient[step, 1, 0]
        optimizer.step()
    torch.testing.assert_close(heads.parameters["weight"][0, 0], alone)


def test_run_to_convergence_it_is_logistic_regression():
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 90)
    features = (random.normal(size=(90, 5)) + np.eye(3, 5)[labels]).astype(np.float32)
    l2 = 0.02
    # Adam's L2 holds the bias too, so scikit-learn gets it as a feature; its C is 1 / (clips · L2)
    oracle = LogisticRegression(C=1 / (90 * l2), fit_intercept=False, tol=1e-10, max_iter=5000)
    oracle.fit(np.hstack([features, np.ones((90, 1))]).astype(np.float64), labels)

    head, targets = LinearHead(3, 5), torch.from_numpy(labels)[None]
    batch = Batch(torch.from_numpy(features)[None, None, :, None], None)
    start = {name: value[None] for name, value in head.start(torch.Generator().manual_seed(0)).items()}
    heads = StackedHeads(start, ProbeConfig(learning_rates=(1e-2, 3e-2), adam=AdamConfig(l2=l2)))
    for _ in range(1200):
        logits = head.logits(heads.parameters, batch)
        logits.backward(cross_entropy_gradient(logits.detach(), targets, torch.tensor([90])))
        heads.step()
    for rate in range(2):
        weight, bias = (heads.parameters[name][0, rate].detach() for name in ("weight", "bias"))
        np.testing.assert_allclose(torch.cat([weight, bias[:, None]], dim=1), oracle.coef_, atol=2e-3)


@pytest.mark.parametrize(
    ("name", "value"),
    [("learning_rates", ()), ("learning_rates", (0.0,)), ("seeds", (1, 1)), ("patience", 0), ("batch_size", 0)],
)
def test_a_configuration_out_of_range_is_refused(name, value):
    with pytest.raises(ValueError, match=name):
        ProbeConfig(**{name: value})


def test_the_protocols_numbers():
    config = ProbeConfig()
    assert (config.batch_size, config.max_epochs, config.patience, config.seeds) == (200, 200, 20, (42, 43, 44))
    assert config.adam == AdamConfig(betas=(0.9, 0.999), l2=1e-8)
    assert {3e-5, 3e-4} <= set(config.learning_rates)
