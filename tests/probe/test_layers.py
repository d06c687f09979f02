"""Per-layer probes and the learned mixture of layers, on made-up layers of which one knows the class."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from matpac.probe import token_batches
from matpac.probe.compare import paired_test
from matpac.probe.layers import LayerMixture, layer_weighting_probe, per_layer_probes
from matpac.probe.linear_probe import ProbeConfig, linear_probe
from matpac.probe.token_batches import TokenBatch
from matpac.tasks.task import Fold, LabelKind

CONFIG = ProbeConfig(learning_rates=(1e-2, 1e-1), seeds=(42, 43), batch_size=50, max_epochs=30, patience=8)
INFORMATIVE = 2


def layered(count=400, layers=5, informative=INFORMATIVE, dim=6, classes=3, seed=0):
    """Noise in every layer but one; layers differ in scale and offset."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    features = random.normal(size=(count, layers, dim))
    features[:, informative] += 1.3 * random.normal(size=(classes, dim))[labels]
    features = features * (10.0 ** np.arange(layers))[:, None] / 100 + np.arange(layers)[:, None]
    return features.astype(np.float32), labels


def two_folds(count=400):
    a, b, c = np.array_split(np.random.default_rng(1).permutation(count), [count // 2, 3 * count // 4])
    half = len(a) // 2
    return [Fold(a, b, c), Fold(np.concatenate([b, c]), a[:half], a[half:])]


def test_the_curve_peaks_where_the_information_is_and_is_the_linear_probe_of_each_layer():
    features, labels = layered()
    curve = per_layer_probes(features, labels, two_folds(), CONFIG)
    assert curve.mean.shape == curve.ci95.shape == (5,)
    assert curve.mean.argmax() == INFORMATIVE
    assert np.delete(curve.mean, INFORMATIVE).max() < 0.45 < 0.75 < curve.mean.max()
    for layer, result in enumerate(curve.results):
        alone = linear_probe(np.ascontiguousarray(features[:, layer]), labels, two_folds(), CONFIG)
        np.testing.assert_array_equal(result.scores, alone.scores)


def test_the_mixture_finds_the_informative_layer_and_matches_its_linear_probe():
    features, labels = layered()
    found = layer_weighting_probe(features, labels, two_folds(), CONFIG)
    assert found.weights.shape == (2, 2, 5)
    np.testing.assert_allclose(found.weights.sum(axis=2), 1, rtol=1e-5)
    assert (found.weights.argmax(axis=2) == INFORMATIVE).all()
    assert (found.weights[:, :, INFORMATIVE] > 0.6).all()
    alone = linear_probe(features[:, INFORMATIVE], labels, two_folds(), CONFIG)
    assert found.result.mean == pytest.approx(alone.mean, abs=0.03)
    assert paired_test(found.result.scores, alone.scores).difference == pytest.approx(0, abs=0.03)


@pytest.mark.parametrize("kind", ["single", "multi", "partial"])
def test_one_layer_is_the_linear_probe(kind, monkeypatch):
    # blocks of 8 clips: a batch's gradient is summed over several
    monkeypatch.setattr(token_batches, "BYTES_AT_ONCE", 8 * 4 * 6)
    features, labels = layered(150, layers=1, informative=0)
    random = np.random.default_rng(3)
    targets = (random.random((150, 3)) < 0.3).astype(np.int64) | np.eye(3, dtype=np.int64)[labels]
    known = random.random((150, 3)) < 0.6 if kind == "partial" else None
    config = replace(CONFIG, max_epochs=12, patience=4)
    splits, wanted = two_folds(150), labels if kind == "single" else targets
    which: LabelKind = "single" if kind == "single" else "multi"
    one = layer_weighting_probe(features, wanted, splits, config, which, known).result
    linear = linear_probe(features[:, 0], wanted, splits, config, which, known)
    for fold in range(2):
        np.testing.assert_allclose(one.predictions[fold], linear.predictions[fold], atol=2e-3)
    np.testing.assert_allclose(one.scores, linear.scores)
    np.testing.assert_array_equal(one.best_epochs, linear.best_epochs)
    np.testing.assert_array_equal(one.epochs, linear.epochs)
    np.testing.assert_array_equal(one.learning_rates, linear.learning_rates)
    np.testing.assert_allclose(one.valid_scores, linear.valid_scores)
    np.testing.assert_allclose(one.per_class, linear.per_class)
    assert one.left_out == linear.left_out


def test_the_mixture_is_the_formula_and_its_gradient_is_right():
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(4, 3, 1, 5, generator=generator, dtype=torch.float64)
    batch = TokenBatch(values, torch.ones(4, 1, dtype=torch.bool))
    head = LayerMixture(2, 3, 5)
    start = {name: value.double().repeat(2, *[1] * value.ndim) for name, value in head.start(generator).items()}
    start["mixture"] = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    weights = start["mixture"].exp() / start["mixture"].exp().sum(1, keepdim=True)
    for rate in range(2):
        mixed = torch.stack([weights[rate, layer] * values[:, layer, 0] for layer in range(3)]).sum(0)
        wanted = mixed @ start["weight"][rate].T + start["bias"][rate]
        torch.testing.assert_close(head.logits(start, batch)[rate], wanted)
    names = list(start)
    inputs = [start[name].requires_grad_() for name in names]
    assert torch.autograd.gradcheck(
        lambda *tensors: head.logits(dict(zip(names, tensors, strict=True)), batch), inputs
    )


def test_the_same_seed_gives_the_same_and_float16_maps_are_read(tmp_path):
    features, labels = layered(120)
    features = (features / 100).astype(np.float16)
    np.save(tmp_path / "features.npy", features)
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    config = ProbeConfig(learning_rates=(1e-2,), seeds=(42,), max_epochs=4)
    splits = two_folds(120)[:1]
    curves = [per_layer_probes(given, labels, splits, config).results[3] for given in (features, mapped)]
    np.testing.assert_array_equal(curves[0].predictions[0], curves[1].predictions[0])
    first, second = (layer_weighting_probe(given, labels, splits, config) for given in (features, mapped))
    np.testing.assert_array_equal(first.weights, second.weights)
    np.testing.assert_array_equal(first.result.predictions[0], second.result.predictions[0])


def test_bad_layers_are_told():
    features, labels = layered(150)
    for probe in (per_layer_probes, layer_weighting_probe):
        features[7, 3, 2] = np.nan
        with pytest.raises(ValueError, match="layer 3"):
            probe(features, labels, two_folds(150), CONFIG)
    alone = np.where(np.arange(150) == two_folds(150)[0].test[0], 3, labels)
    with pytest.raises(ValueError, match="no training clip has class 3"):
        layer_weighting_probe(features, alone, two_folds(150))
    with pytest.raises(ValueError, match=r"labels of kind 'single' for 149 clips"):
        per_layer_probes(features[:-1], labels, two_folds(150))
