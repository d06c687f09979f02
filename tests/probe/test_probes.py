"""Trained probes on made-up features: what the mean of tokens hides, where layers know the class."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.array_task import array_task, one_fold, two_folds
from matpac.probe import inputs
from matpac.probe.probes import attention_probe, layer_probes, linear_probe, prototype_probe, weighting_probe
from matpac.probe.trainer import ProbeConfig

CONFIG = ProbeConfig(learning_rates=(1e-2, 1e-1), seeds=(42, 43), batch_size=50, max_epochs=30, patience=8)
SHORT = ProbeConfig(learning_rates=(1e-2, 1e-1), seeds=(42,), batch_size=16, max_epochs=3)
INFORMATIVE = 2


def layered(count=400, layers=5, informative=INFORMATIVE, dim=6, classes=3):
    """Noise in every layer but one; layers differ in scale and offset."""
    random = np.random.default_rng(0)
    labels = np.arange(count) % classes
    features = random.normal(size=(count, layers, dim))
    features[:, informative] += 1.3 * random.normal(size=(classes, dim))[labels]
    features = features * (10.0 ** np.arange(layers))[:, None] / 100 + np.arange(layers)[:, None]
    return features.astype(np.float32), labels


def needles(count, tokens, dim=10, classes=4, seed=0):
    """One token of each clip, marked in the last dimension, shows its class; the others show any, unmarked."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    shown, place = random.integers(0, classes, (count, tokens)), random.integers(0, tokens, count)
    shown[np.arange(count), place] = labels
    values = 0.3 * random.normal(size=(count, tokens, dim)) + 2.0 * np.eye(classes, dim)[shown]
    values[np.arange(count), place, dim - 1] += 4
    return values.astype(np.float32), labels


def events(count, tokens, dim=10, classes=4):
    """One token of each clip shows its class, clearly; the others are noise."""
    random = np.random.default_rng(0)
    labels = np.arange(count) % classes
    values = random.normal(size=(count, tokens, dim))
    values[np.arange(count), random.integers(0, tokens, count)] += 6 * np.eye(classes, dim)[labels]
    return values.astype(np.float32), labels


def test_the_curve_over_layers_peaks_where_the_information_is():
    features, labels = layered()
    task = array_task(labels, two_folds(400))
    curve = layer_probes(features, task, CONFIG)
    means = np.array([result.mean for result in curve])
    assert means.argmax() == INFORMATIVE
    assert np.delete(means, INFORMATIVE).max() < 0.45 < 0.75 < means.max()
    alone = linear_probe(np.ascontiguousarray(features[:, INFORMATIVE]), task, CONFIG)
    np.testing.assert_array_equal(curve[INFORMATIVE].scores, alone.scores)


def test_the_mixture_finds_the_informative_layer_and_matches_its_linear_probe():
    features, labels = layered()
    task = array_task(labels, two_folds(400))
    found = weighting_probe(features, task, CONFIG)
    shares = found.learned["layers"]
    assert shares.shape == (2, 2, 5)
    np.testing.assert_allclose(shares.sum(axis=2), 1, rtol=1e-5)
    assert (shares.argmax(axis=2) == INFORMATIVE).all()
    assert (shares[:, :, INFORMATIVE] > 0.6).all()
    assert found.mean == pytest.approx(linear_probe(features[:, INFORMATIVE], task, CONFIG).mean, abs=0.03)


def test_attention_finds_the_needle_that_the_mean_hides():
    values, labels = needles(600, 30)
    task, config = array_task(labels, one_fold(600)), replace(CONFIG, batch_size=25, max_epochs=40, patience=15)
    assert linear_probe(values.mean(axis=1), task, config).mean < 0.4  # chance is 0.25
    assert attention_probe(values, task, config).mean > 0.9


def test_gates_find_the_layer_and_the_event_that_the_mean_hides():
    values, labels = events(400, 20)
    noise = np.random.default_rng(5).normal(size=(400, 3, *values.shape[1:])).astype(np.float32)
    noise[:, 1] = values
    task, config = array_task(labels, one_fold(400)), replace(CONFIG, batch_size=25, max_epochs=40, patience=15)
    gated = prototype_probe(noise, task, config)
    assert gated.mean > 0.85
    assert gated.mean > linear_probe(values.mean(axis=1), task, config).mean + 0.1
    layers, sharpness = gated.learned["layers"], gated.learned["sharpness"]
    assert layers.shape == (2, 1, 4, 3)
    np.testing.assert_allclose(layers.sum(axis=3), 1, rtol=1e-5)
    assert (layers.argmax(axis=3) == 1).all()
    assert (sharpness > 0.2).all()  # from the mean, where it starts, towards the maximum


@pytest.mark.parametrize("kind", ["single", "multi", "partial"])
@pytest.mark.parametrize("probe", ["weighting", "attention"])
def test_one_layer_or_token_is_the_linear_probe(probe, kind, monkeypatch):
    features, labels = layered(150, layers=1, informative=0)
    random = np.random.default_rng(3)
    targets = (random.random((150, 3)) < 0.3).astype(np.int64) | np.eye(3, dtype=np.int64)[labels]
    known = random.random((150, 3)) < 0.6 if kind == "partial" else None
    config = replace(CONFIG, max_epochs=12, patience=4)
    task = array_task(labels if kind == "single" else targets, two_folds(150), known)
    linear = linear_probe(features[:, 0], task, config)
    # blocks of 8 clips: a batch's gradient is summed over several
    monkeypatch.setattr(inputs, "BYTES_AT_ONCE", 8 * 4 * 6)
    one = (weighting_probe if probe == "weighting" else attention_probe)(features, task, config)
    for fold in range(2):
        np.testing.assert_allclose(one.predictions[fold], linear.predictions[fold], atol=2e-3)
    for name in ("scores", "valid_scores", "per_class", "learning_rates", "best_epochs", "epochs"):
        np.testing.assert_allclose(getattr(one, name), getattr(linear, name))
    assert one.undefined == linear.undefined


def test_blocks_of_a_batch_change_nothing_but_rounding(monkeypatch):
    values, labels = needles(80, 5)
    task = array_task(labels, one_fold(80))
    whole = prototype_probe(values[:, None], task, SHORT, per_class=2)
    monkeypatch.setattr(inputs, "BYTES_AT_ONCE", 7 * 4 * 5 * 10)
    blocks = prototype_probe(values[:, None], task, SHORT, per_class=2)
    np.testing.assert_allclose(whole.predictions[0], blocks.predictions[0], atol=1e-3)
    assert whole.learned["layers"].shape == (1, 1, 8, 1)


@settings(deadline=None, max_examples=8)
@given(extra=st.integers(0, 5), junk=st.sampled_from([0.0, 1e4, np.nan, np.inf]), seed=st.integers(0, 99))
def test_padding_changes_nothing(extra, junk, seed):
    values, labels = needles(60, 6, seed=seed)
    lengths = np.random.default_rng(seed).integers(1, 7, 60)
    padded = np.full((60, 6 + extra, values.shape[2]), junk, np.float32)
    for row, length in enumerate(lengths):
        padded[row, :length] = values[row, :length]
    task, config = array_task(labels, one_fold(60)), replace(SHORT, learning_rates=(1e-1,), max_epochs=2)
    plain, other = (attention_probe(given, task, config, lengths) for given in (values, padded))
    np.testing.assert_array_equal(plain.predictions[0], other.predictions[0])
    plain, other = (prototype_probe(given[:, None], task, config, lengths) for given in (values, padded))
    np.testing.assert_array_equal(plain.predictions[0], other.predictions[0])


@pytest.mark.parametrize("probe", [linear_probe, weighting_probe, attention_probe, prototype_probe])
def test_float16_maps_are_read_and_seeds_decide(probe, tmp_path):
    values, labels = needles(80, 5)
    features = {linear_probe: values[:, 0], prototype_probe: values[:, None]}.get(probe, values)
    np.save(tmp_path / "features.npy", features.astype(np.float16))
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    task = array_task(
        np.eye(4, dtype=np.int64)[labels], one_fold(80), np.random.default_rng(0).random((80, 4)) < 0.8
    )
    config = replace(SHORT, seeds=(1, 2), max_epochs=2)
    first = probe(features.astype(np.float16).astype(np.float32), task, config)
    second = probe(mapped, task, config)
    np.testing.assert_allclose(first.predictions[0], second.predictions[0], atol=1e-5)
    assert not np.array_equal(second.predictions[0][0], second.predictions[0][1])


def test_bad_input_is_named():
    features, labels = layered(150)
    task = array_task(labels, two_folds(150))
    with pytest.raises(ValueError, match="per_class"):
        prototype_probe(features[:, None], task, per_class=0)
    with pytest.raises(ValueError, match="149"):
        linear_probe(features[:-1, 0], task)
    features[7, 3, 2] = np.nan
    with pytest.raises(ValueError, match=r"layer 3: .*clip 7"):
        layer_probes(features, task, CONFIG)
