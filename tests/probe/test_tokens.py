"""Probes over tokens: needles that the mean hides, the formulas, gradients, padding."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from matpac.probe import token_batches
from matpac.probe.linear_probe import ProbeConfig, linear_probe
from matpac.probe.token_batches import StoredTokens, TokenBatch, TokenReader
from matpac.probe.tokens import AttentionPooling, GatedPrototypes, attention_probe, prototype_probe
from matpac.tasks import Fold

CONFIG = ProbeConfig(learning_rates=(1e-2, 1e-1), seeds=(42, 43), batch_size=25, max_epochs=40, patience=15)
SHORT = ProbeConfig(learning_rates=(1e-2, 1e-1), seeds=(42,), batch_size=16, max_epochs=3)


def needles(count=600, tokens=30, dim=10, classes=4, seed=0):
    """One token of each clip, marked in the last dimension, shows its class; the others show any, unmarked."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    shown = random.integers(0, classes, (count, tokens))
    place = random.integers(0, tokens, count)
    shown[np.arange(count), place] = labels
    values = 0.3 * random.normal(size=(count, tokens, dim))
    values += 2.0 * np.eye(classes, dim)[shown]
    values[np.arange(count), place, dim - 1] += 4
    return values.astype(np.float32), labels


def events(count=600, tokens=30, dim=10, classes=4, seed=0):
    """One token of each clip shows its class, clearly; the others are noise."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    values = random.normal(size=(count, tokens, dim))
    values[np.arange(count), random.integers(0, tokens, count)] += 6 * np.eye(classes, dim)[labels]
    return values.astype(np.float32), labels


def one_fold(count):
    a, b, c = np.array_split(np.random.default_rng(1).permutation(count), [count // 2, 3 * count // 4])
    return [Fold(a, b, c)]


def test_attention_finds_the_needle_that_the_mean_hides():
    values, labels = needles()
    splits = one_fold(len(labels))
    mean = linear_probe(values.mean(axis=1), labels, splits, CONFIG)
    attention = attention_probe(values, labels, splits, config=CONFIG)
    assert mean.mean < 0.4  # chance is 0.25, and one token in 30 leans a little
    assert attention.mean > 0.9
    assert attention.scores.shape == (2, 1)


def test_prototypes_hear_the_event_that_the_mean_hides():
    values, labels = events()
    splits = one_fold(len(labels))
    mean = linear_probe(values.mean(axis=1), labels, splits, CONFIG)
    gated = prototype_probe(values, labels, splits, config=CONFIG)
    assert gated.result.mean > 0.85
    assert gated.result.mean > mean.mean + 0.25
    assert (gated.sharpness > 0.2).all()  # from the mean, where it starts, towards the maximum
    assert gated.result.scores.shape == (2, 1)
    assert gated.sharpness.shape == (2, 1, 4)


def test_gates_find_the_layer_with_the_event():
    values, labels = events(400, tokens=10)
    noise = np.random.default_rng(5).normal(size=(400, 3, *values.shape[1:])).astype(np.float32)
    noise[:, 1] = values
    gated = prototype_probe(noise, labels, one_fold(400), config=CONFIG)
    assert gated.layers.shape == (2, 1, 4, 3)
    np.testing.assert_allclose(gated.layers.sum(axis=3), 1, rtol=1e-5)
    assert (gated.layers.argmax(axis=3) == 1).all()
    assert gated.result.mean > 0.85


def test_one_token_is_the_linear_probe():
    values, labels = needles(150, tokens=1)
    attention = attention_probe(values, labels, one_fold(150), config=CONFIG)
    linear = linear_probe(values[:, 0], labels, one_fold(150), CONFIG)
    np.testing.assert_allclose(attention.predictions[0], linear.predictions[0], atol=2e-3)
    np.testing.assert_allclose(attention.scores, linear.scores)
    np.testing.assert_array_equal(attention.best_epochs, linear.best_epochs)


def random_head(head, generator, rates=2):
    """Parameters of every rate, none of them at its start."""
    start = head.start(generator)
    return {
        name: torch.randn(rates, *value.shape, generator=generator, dtype=torch.float64)
        for name, value in start.items()
    }


def random_batch(generator, layers, dim=5):
    values = torch.randn(3, layers, 4, dim, generator=generator, dtype=torch.float64)
    present = torch.arange(4) < torch.tensor([4, 1, 3])[:, None]
    return TokenBatch(values * present[:, None, :, None], present)


def attention_by_hand(parameters, values):
    scores = torch.stack([(token @ parameters["query"]) / 5**0.5 for token in values[0]]).exp()
    pooled = sum(score / scores.sum() * token for score, token in zip(scores, values[0], strict=True))
    return parameters["weight"] @ pooled + parameters["bias"]


def prototypes_by_hand(parameters, values):
    layers, tokens, _ = values.shape
    logits = []
    for number in range(2):
        total = parameters["bias"][number]
        for prototype in (3 * number, 3 * number + 1, 3 * number + 2):
            gates = parameters["gates"][prototype].exp() / parameters["gates"][prototype].exp().sum()
            evidence = []
            for token in range(tokens):
                found = torch.zeros((), dtype=torch.float64)
                for layer in range(layers):
                    one, other = parameters["prototypes"][prototype, layer], values[layer, token]
                    found = found + gates[layer] * (one @ other) / one.norm() / other.norm()
                evidence.append(parameters["log_scale"][prototype].exp() * found)
            shares = torch.stack([(parameters["sharpness"][prototype] * one).exp() for one in evidence])
            total = total + sum(s / shares.sum() * e for s, e in zip(shares, evidence, strict=True))
        logits.append(total)
    return torch.stack(logits)


@pytest.mark.parametrize(
    ("head", "layers", "by_hand"),
    [(AttentionPooling(2, 5), 1, attention_by_hand), (GatedPrototypes(2, 3, 5, 3), 3, prototypes_by_hand)],
)
def test_heads_are_their_formula_and_gradients_are_right(head, layers, by_hand):
    generator = torch.Generator().manual_seed(0)
    parameters, batch = random_head(head, generator), random_batch(generator, layers)
    logits = head.logits(parameters, batch)
    assert logits.shape == (2, 3, 2)
    for rate in range(2):
        one = {name: value[rate] for name, value in parameters.items()}
        for clip, length in enumerate((4, 1, 3)):
            torch.testing.assert_close(logits[rate, clip], by_hand(one, batch.values[clip, :, :length]))
    inputs = [value.requires_grad_() for value in parameters.values()]

    def function(*tensors):
        return head.logits(dict(zip(parameters, tensors, strict=True)), batch)

    assert torch.autograd.gradcheck(function, inputs)


@settings(deadline=None, max_examples=8)
@given(extra=st.integers(0, 5), junk=st.sampled_from([0.0, 1e4, np.nan, np.inf]), seed=st.integers(0, 99))
def test_padding_changes_nothing(extra, junk, seed):
    random = np.random.default_rng(seed)
    values, labels = needles(60, tokens=6, seed=seed)
    lengths = random.integers(1, 7, 60)
    longest = np.zeros((60, 6 + extra, values.shape[2]), np.float32)
    longest[:, :6] = values
    padded = np.where((np.arange(6 + extra) < lengths[:, None])[..., None], longest, junk).astype(np.float32)
    splits = one_fold(60)
    plain = attention_probe(values, labels, splits, lengths, SHORT)
    other = attention_probe(padded, labels, splits, lengths, SHORT)
    np.testing.assert_array_equal(plain.predictions[0], other.predictions[0])
    gated = prototype_probe(values, labels, splits, lengths, SHORT)
    same = prototype_probe(padded, labels, splits, lengths, SHORT)
    np.testing.assert_array_equal(gated.result.predictions[0], same.result.predictions[0])


def test_clips_padded_in_a_batch_are_what_they_are_alone():
    values, _ = needles(20, tokens=6)
    lengths = np.array([1, 6] * 10)
    reader = TokenReader(StoredTokens(values[:, None], lengths), torch.device("cpu"))
    reader.fit(torch.arange(10))
    generator = torch.Generator().manual_seed(0)
    for head in (AttentionPooling(4, 10), GatedPrototypes(4, 1, 10, 1)):
        parameters = {name: value.float() for name, value in random_head(head, generator).items()}
        together = head.logits(parameters, reader(torch.tensor([0, 1])))
        alone = [head.logits(parameters, reader(torch.tensor([clip]))) for clip in (0, 1)]
        torch.testing.assert_close(together, torch.cat(alone, dim=1))


def test_the_scaler_is_that_of_the_training_tokens(monkeypatch):
    monkeypatch.setattr(token_batches, "BYTES_AT_ONCE", 4000)  # a few clips at a time
    random = np.random.default_rng(0)
    tokens = random.normal(3, 2, (30, 2, 5, 4)).astype(np.float16)
    tokens[..., 1] = 0.1  # a constant feature
    lengths = random.integers(1, 6, 30)
    train = torch.arange(3, 20)
    reader = TokenReader(StoredTokens(tokens, lengths), torch.device("cpu"))
    reader.fit(train)
    for layer in range(2):
        real = np.concatenate([tokens[row, layer, : lengths[row]] for row in train.tolist()]).astype(np.float64)
        deviation = np.where(np.arange(4) == 1, 1, real.std(0))
        np.testing.assert_allclose(reader.mean[layer, 0, 0], real.mean(0), rtol=1e-6)
        np.testing.assert_allclose(reader.scale[layer, 0, 0], deviation, rtol=1e-6)
        batch = reader(torch.tensor([25]))
        wanted = (tokens[25, layer, : lengths[25]].astype(np.float64) - real.mean(0)) / deviation
        np.testing.assert_allclose(batch.values[0, layer], wanted, atol=1e-5)


def test_blocks_of_a_batch_change_nothing_but_rounding(monkeypatch):
    values, labels = needles(80, tokens=5)
    whole = prototype_probe(values, labels, one_fold(80), config=SHORT, per_class=2)
    monkeypatch.setattr(token_batches, "BYTES_AT_ONCE", 7 * 4 * 5 * 10)
    blocks = prototype_probe(values, labels, one_fold(80), config=SHORT, per_class=2)
    np.testing.assert_allclose(whole.result.predictions[0], blocks.result.predictions[0], atol=1e-3)
    assert whole.layers.shape == (1, 1, 8, 1)


def test_seeds_decide_and_float16_maps_are_read(tmp_path):
    values, labels = needles(80, tokens=5)
    np.save(tmp_path / "tokens.npy", values.astype(np.float16))
    mapped = np.load(tmp_path / "tokens.npy", mmap_mode="r")
    targets = np.eye(4, dtype=np.int64)[labels]
    known = np.random.default_rng(0).random((80, 4)) < 0.8
    config = ProbeConfig(learning_rates=(1e-2,), seeds=(1, 2), max_epochs=2)
    arguments = targets, one_fold(80), None, config, "multi", known
    first = attention_probe(values.astype(np.float16), *arguments)
    second = attention_probe(mapped, *arguments)
    np.testing.assert_array_equal(first.predictions[0], second.predictions[0])
    assert not np.array_equal(first.predictions[0][0], first.predictions[0][1])


def test_bad_tokens_are_told():
    values, labels = needles(80, tokens=5)
    splits = one_fold(80)
    with pytest.raises(ValueError, match=r"lengths must be \[80\] from 1 to 5"):
        attention_probe(values, labels, splits, np.zeros(80, int))
    with pytest.raises(ValueError, match=r"tokens must be \[clip, token, dim\]"):
        prototype_probe(values[:, 0], labels, splits)
    with pytest.raises(ValueError, match="per_class"):
        prototype_probe(values, labels, splits, per_class=0)
    with pytest.raises(ValueError, match="labels of kind 'single'"):
        attention_probe(values[:-1], labels, splits)
    values[9, 4, 0] = np.inf
    with pytest.raises(ValueError, match="clip 9 hold NaN or infinity in layer 0"):
        attention_probe(values, labels, splits)
