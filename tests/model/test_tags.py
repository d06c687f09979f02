"""Tags and frame probabilities, against the head's formula written out, and what is said without a head."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.tiny_encoder import tiny
from matpac import MatpacError
from matpac.model.embedder import Card, Embedder
from matpac.model.heads import SceneProbe, Tag, Tagger, class_names, most_probable
from matpac.model.logmel import LogMelConfig
from matpac.model.vit import Encoder, EncoderConfig

RATE = 16_000
TWO_BANDS = EncoderConfig(width=8, depth=1, heads=2, mels=32, frames=32)


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE)).astype(np.float32)


def tagger(exclusive: bool = False) -> Embedder:
    """Two bands, and a head of which every number counts."""
    head = Tagger(TWO_BANDS.width, 3)
    mean, variance = head.norm.running_mean, head.norm.running_var
    assert mean is not None
    assert variance is not None
    mean.copy_(torch.linspace(-1, 1, TWO_BANDS.width))
    variance.copy_(torch.linspace(0.5, 2, TWO_BANDS.width))
    card = Card(labels=("a", "b", "c"), exclusive=exclusive)
    return Embedder(Encoder(TWO_BANDS), LogMelConfig(mels=32), head, card)


@pytest.mark.parametrize("exclusive", [True, False])
def test_frames_go_through_the_head_each_by_itself(exclusive):
    encoder = tagger(exclusive)
    head = encoder.head
    assert isinstance(head, Tagger)
    sound = noise(1.3)
    found, times = encoder.frame_probabilities(sound, RATE)
    frames, expected_times = encoder.frames(sound, RATE)
    assert isinstance(found, torch.Tensor)
    assert torch.equal(torch.as_tensor(times), torch.as_tensor(expected_times))
    assert found.shape == (1, frames.shape[1], 3)
    mean, variance = (np.asarray(part) for part in (head.norm.running_mean, head.norm.running_var))
    matrix, bias = head.linear.weight.numpy(), head.linear.bias.numpy()
    for step, frame in enumerate(frames[0].numpy()):
        low, high = frame[:8], frame[8:]
        logits = matrix @ (((low + high) / 2 - mean) / np.sqrt(variance + 1e-5)) + bias
        expected = np.exp(logits) / np.exp(logits).sum() if exclusive else 1 / (1 + np.exp(-logits))
        np.testing.assert_allclose(found[0, step].numpy(), expected, atol=1e-5)


def test_frames_of_a_batch_and_of_a_list():
    encoder = tagger()
    one, other = noise(1.0), noise(2.1, 1)
    parts, times = encoder.frame_probabilities([one, other], RATE)
    assert isinstance(parts, list)
    assert [tuple(part.shape) for part in parts] == [(7, 3), (13, 3)]
    assert [len(part) for part in times] == [7, 13]
    alone, _ = encoder.frame_probabilities(one, RATE)
    batch, _ = encoder.frame_probabilities(np.stack([one, one]), RATE)
    assert isinstance(alone, torch.Tensor)
    assert isinstance(batch, torch.Tensor)
    torch.testing.assert_close(alone[0], parts[0])
    torch.testing.assert_close(batch, alone.expand(2, -1, -1))
    nothing, _ = encoder.frame_probabilities([], RATE)
    assert nothing == []


def test_a_scene_probe_sees_all_bands():
    probe = SceneProbe(16, 2)
    encoder = Embedder(Encoder(TWO_BANDS), LogMelConfig(mels=32), probe, Card(exclusive=True))
    scene = encoder.scene(noise(1.0), RATE)
    logits = scene.numpy() @ probe.linear.weight.numpy().T + probe.linear.bias.numpy()
    np.testing.assert_allclose(encoder.logits(noise(1.0), RATE).numpy(), logits, atol=1e-5)
    frames, _ = encoder.frames(noise(1.0), RATE)
    found, _ = encoder.frame_probabilities(noise(1.0), RATE)
    assert isinstance(found, torch.Tensor)
    torch.testing.assert_close(found[0], probe(frames[0]).softmax(1))


def test_tags_are_the_probabilities_in_order():
    encoder = tagger()
    clips = [noise(0.7), noise(1.9, 1)]
    found = encoder.tags(clips, RATE)
    for tags, row in zip(found, encoder.probabilities(clips, RATE).tolist(), strict=True):
        assert tags == [Tag(*pair) for pair in sorted(zip("abc", row, strict=True), key=lambda pair: -pair[1])]
    assert encoder.tags(clips, RATE, top=1) == [tags[:1] for tags in found]
    least = found[0][1].probability
    kept = encoder.tags(clips, RATE, threshold=least)
    assert kept[0] == found[0][:2]
    assert kept[1] == [tag for tag in found[1] if tag.probability >= least]
    assert encoder.tags([], RATE) == []


def test_without_label_names_classes_are_numbered():
    encoder = tiny(20)
    probabilities = encoder.probabilities(noise(0.5), RATE)[0].tolist()
    [tags] = encoder.tags(noise(0.5), RATE, top=None)
    assert {tag.label: tag.probability for tag in tags} == {f"class {n}": p for n, p in enumerate(probabilities)}
    assert class_names(("a", "b"), 2) == ["a", "b"]


@pytest.mark.parametrize("what", ["tags", "frame_probabilities", "probabilities", "logits"])
def test_without_a_head_it_says_where_one_comes_from(what):
    with pytest.raises(MatpacError, match=r"bare has no head to name sounds with; load a tagger .*finetune"):
        getattr(tiny(name="bare"), what)(noise(0.5), RATE)


@pytest.mark.parametrize(("options", "told"), [({"top": 0}, "top 0"), ({"threshold": 1.5}, "threshold 1.5")])
def test_options_out_of_range(options, told):
    with pytest.raises(MatpacError, match=told):
        tagger().tags(noise(0.5), RATE, **options)


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.floats(0, 1, width=32), max_size=12),
    st.none() | st.integers(1, 14),
    st.none() | st.floats(0, 1),
)
def test_most_probable_against_a_slow_loop(values, top, threshold):
    names = [f"n{number}" for number in range(len(values))]
    expected, left = [], list(range(len(values)))
    while left and (top is None or len(expected) < top):
        best = left[0]
        for number in left:
            if values[number] > values[best]:
                best = number
        left.remove(best)
        if threshold is not None and values[best] < threshold:
            break
        expected.append(Tag(names[best], values[best]))
    assert most_probable(torch.tensor(values, dtype=torch.float32), names, top, threshold) == expected
