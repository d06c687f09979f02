"""The batched probe against a plain loop over splits, seeds and rates: torch.nn.Linear, torch.optim.Adam."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from matpac.probe.heads import AdamConfig
from matpac.probe.linear_probe import ProbeConfig, linear_probe
from matpac.tasks import Fold

CONFIG = ProbeConfig(learning_rates=(1e-3, 3e-2, 3e-1), batch_size=20, max_epochs=20, patience=4)


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
    mean, deviation = features[split.train].mean(0), features[split.train].astype(np.float64).std(0)
    scaled = torch.from_numpy(((features - mean) / np.where(deviation < 1e-6, 1, deviation)).astype(np.float32))
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
    config = ProbeConfig(**{**vars(CONFIG), "stack_bytes": stack_bytes})
    splits = folds()
    result = linear_probe(features, labels, splits, config, "single" if kind == "single" else "multi", mask)
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


def test_each_fold_is_what_it_is_alone():
    features, labels, _, _ = clips()
    splits = folds()
    together = linear_probe(features, labels, splits, CONFIG)
    for fold, split in enumerate(splits):
        single = linear_probe(features, labels, [split], CONFIG)
        np.testing.assert_allclose(single.predictions[0], together.predictions[fold], rtol=1e-3, atol=1e-4)
        np.testing.assert_array_equal(single.scores[:, 0], together.scores[:, fold])


def test_mean_and_interval_are_over_seeds_of_the_fold_mean():
    features, labels, _, _ = clips()
    result = linear_probe(features, labels, folds(), CONFIG)
    per_seed = result.scores.mean(axis=1)
    assert result.mean == pytest.approx(per_seed.mean())
    # Student's t for 2 degrees of freedom, from a table
    assert result.ci95 == pytest.approx(4.30265 * per_seed.std(ddof=1) / np.sqrt(3), rel=1e-4)
    one = linear_probe(features, labels, folds(), ProbeConfig(**{**vars(CONFIG), "seeds": (1,)}))
    assert np.isnan(one.ci95)


def test_neither_test_nor_validation_clips_reach_what_is_trained():
    features, labels, _, _ = clips()
    split = folds()[0]
    before = linear_probe(features, labels, [split], CONFIG)
    changed = features.copy()
    changed[split.test] = 1e6 * features[split.test][::-1]
    after = linear_probe(changed, labels, [split], CONFIG)
    np.testing.assert_array_equal(before.valid_scores, after.valid_scores)
    np.testing.assert_array_equal(before.learning_rates, after.learning_rates)
    config = ProbeConfig(**{**vars(CONFIG), "max_epochs": 1, "learning_rates": (1e-2,)})
    before = linear_probe(features, labels, [split], config)
    changed = features.copy()
    changed[split.valid] = 1e6 * features[split.valid]
    np.testing.assert_array_equal(
        before.predictions[0], linear_probe(changed, labels, [split], config).predictions[0]
    )


def test_of_equal_rates_the_smallest_is_chosen_in_whatever_order_they_come():
    features = np.concatenate([np.full((30, 3), -1.0), np.full((30, 3), 1.0)]).astype(np.float32)
    labels = np.repeat([0, 1], 30)
    split = Fold(np.arange(0, 60, 3), np.arange(1, 60, 3), np.arange(2, 60, 3))
    for rates in ((0.3, 0.1, 0.2), (0.1, 0.2, 0.3)):
        result = linear_probe(features, labels, [split], ProbeConfig(learning_rates=rates))
        assert (result.learning_rates == 0.1).all()
        assert (result.scores == 1.0).all()


def test_float16_and_read_only_features_are_taken_as_they_are(tmp_path):
    features, labels, _, _ = clips()
    half = features.astype(np.float16)
    np.save(tmp_path / "features.npy", half)
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    expected = linear_probe(half.astype(np.float32), labels, folds(), CONFIG)
    result = linear_probe(mapped, labels, folds(), CONFIG)
    for mine, other in zip(result.predictions, expected.predictions, strict=True):
        np.testing.assert_array_equal(mine, other)


def test_classes_that_a_test_part_lacks_are_told():
    features, labels, _, _ = clips()
    split = folds()[0]
    test = split.test[labels[split.test] != 2]
    result = linear_probe(features, labels, [Fold(split.train, split.valid, test)], CONFIG)
    assert result.left_out == ((2,),)
    assert np.isnan(result.per_class[:, 0, 2]).all()


def broken(**changes):
    """Good arguments but for what is changed."""
    features, labels, _, _ = clips()
    good = {"features": features, "labels": labels, "splits": folds(), "config": CONFIG}
    return linear_probe(**{**good, **changes})


def test_bad_input_is_named():
    features, labels, targets, known = clips()
    split = folds()[0]
    spoiled = features.copy()
    spoiled[17, 3], spoiled[20] = np.nan, np.inf
    with pytest.raises(ValueError, match="2 of 150 clips hold NaN or infinity, first row 17"):
        broken(features=spoiled)
    with pytest.raises(ValueError, match="must be float32 or float16, not float64"):
        broken(features=features.astype(np.float64))
    with pytest.raises(ValueError, match=r"for 150 clips must be \[150\], not \[149\]"):
        broken(labels=labels[:-1])
    with pytest.raises(ValueError, match=r"must be \[150\], not \[150, 4\]"):
        broken(labels=targets)
    with pytest.raises(ValueError, match=r"must be \[150, class\], not \[150\]"):
        broken(kind="multi")
    with pytest.raises(ValueError, match="class indices from 0 up"):
        broken(labels=labels - 1)
    with pytest.raises(ValueError, match="must be 0 or 1"):
        broken(labels=targets - 1, kind="multi")
    with pytest.raises(ValueError, match=r"known must be as labels, \[150, 4\], not \[149, 4\]"):
        broken(labels=targets, known=known[1:], kind="multi")
    with pytest.raises(ValueError, match="known is for kind 'multi'"):
        broken(known=known)
    rare = np.where(np.arange(150) == split.test[0], 4, labels)
    holding = Fold(np.append(split.train, split.test[0]), split.valid, split.test[1:])
    with pytest.raises(ValueError, match="split 1: no training clip has class 4 "):
        broken(labels=rare, splits=[holding, split])


def test_bad_splits_are_named():
    split = folds()[0]
    nothing = np.array([], int)
    with pytest.raises(ValueError, match="splits is empty"):
        broken(splits=[])
    with pytest.raises(ValueError, match="split 0: its valid part is empty"):
        broken(splits=[Fold(split.train, nothing, split.test)])
    with pytest.raises(ValueError, match=r"split 0: its test part has row .* to 150 of 150 clips"):
        broken(splits=[Fold(split.train, split.valid, np.append(split.test, 150))])
    with pytest.raises(ValueError, match=f"split 0: 1 clips are in train and test, first row {split.train[5]}"):
        broken(splits=[Fold(split.train, split.valid, np.append(split.test, split.train[5]))])
    _, _, targets, known = clips()
    known[split.valid] = False
    with pytest.raises(ValueError, match="no class has a known positive in its valid part"):
        broken(labels=targets, kind="multi", known=known, splits=[split])


@pytest.mark.parametrize(
    ("name", "value"),
    [("learning_rates", ()), ("learning_rates", (0.0,)), ("seeds", (1, 1)), ("patience", 0), ("batch_size", 0)],
)
def test_a_configuration_that_cannot_be_meant_is_refused(name, value):
    with pytest.raises(ValueError, match=name):
        ProbeConfig(**{name: value})


def test_the_protocols_numbers():
    config = ProbeConfig()
    assert (config.batch_size, config.max_epochs, config.patience, config.seeds) == (200, 200, 20, (42, 43, 44))
    assert config.adam == AdamConfig(betas=(0.9, 0.999), l2=1e-8)
    assert {3e-5, 3e-4} <= set(config.learning_rates)
