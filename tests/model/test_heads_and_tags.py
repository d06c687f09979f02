"""Tags and frame probabilities, against the head's formula written out."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.tiny_encoder import tiny
from matpac import MatpacError
from matpac.model.embedder import Card, Embedder
from matpac.model.heads import Head, SceneProbe, Tag, Tagger, class_names, most_probable
from matpac.model.logmel import LogMelConfig
from matpac.model.vit import Encoder, EncoderConfig

RATE = 16_000
TWO_BANDS = EncoderConfig(width=8, depth=1, heads=2, mels=32, frames=32)
MEAN, VARIANCE = np.linspace(-1, 1, 8), np.linspace(0.5, 2, 8)


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE)).astype(np.float32)


def tagger() -> Head:
    """A head in which every number counts."""
    head = Tagger(TWO_BANDS.width, 3)
    head.norm.running_mean, head.norm.running_var = torch.tensor(MEAN).float(), torch.tensor(VARIANCE).float()
    return head


def embedder(head: Head, exclusive: bool = False) -> Embedder:
    return Embedder(
        Encoder(TWO_BANDS), LogMelConfig(mels=32), head, Card(labels=tuple("abc"), exclusive=exclusive)
    )


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("head", [tagger(), SceneProbe(16, 3)])
def test_probabilities_follow_the_heads_formula(head: Head, exclusive: bool) -> None:
    encoder, sound = embedder(head, exclusive), noise(1.3)
    matrix, bias = head.linear.weight.numpy(), head.linear.bias.numpy()

    def expected(scene: np.ndarray) -> np.ndarray:
        if isinstance(head, Tagger):  # the bands' mean, normalised
            scene = ((scene[:8] + scene[8:]) / 2 - MEAN) / np.sqrt(VARIANCE + 1e-5)
        logits = matrix @ scene + bias
        return np.exp(logits) / np.exp(logits).sum() if exclusive else 1 / (1 + np.exp(-logits))

    found, times = encoder.frame_probabilities(sound, RATE)
    frames, frame_times = encoder.frames(sound, RATE)
    assert times.equal(frame_times)
    np.testing.assert_allclose(found[0], np.stack([expected(frame) for frame in frames[0].numpy()]), atol=1e-5)
    (scene,) = encoder.scene(sound, RATE).numpy()
    np.testing.assert_allclose(encoder.probabilities(sound, RATE)[0], expected(scene), atol=1e-5)
    parts, _ = encoder.frame_probabilities([sound[:9_000], sound], RATE)
    torch.testing.assert_close(parts[1], found[0])
    batch, _ = encoder.frame_probabilities(np.stack([sound, sound]), RATE)
    torch.testing.assert_close(batch, found.expand(2, -1, -1))


def test_tags_are_the_probabilities_in_order() -> None:
    encoder, clips = embedder(tagger()), [noise(0.7), noise(1.9, 1)]
    found = encoder.tags(clips, RATE)
    for tags, row in zip(found, encoder.probabilities(clips, RATE).tolist(), strict=True):
        assert tags == [Tag(*pair) for pair in sorted(zip("abc", row, strict=True), key=lambda pair: -pair[1])]
    assert encoder.tags(clips, RATE, top=1) == [tags[:1] for tags in found]
    least = found[0][1].probability
    kept = encoder.tags(clips, RATE, threshold=least)
    assert kept == [found[0][:2], [tag for tag in found[1] if tag.probability >= least]]
    assert encoder.tags([], RATE) == []
    for top, threshold in ((0, None), (5, 1.5)):
        with pytest.raises(MatpacError, match=r"top 0|threshold 1\.5"):
            encoder.tags(clips, RATE, top, threshold)


def test_classes_without_names_are_numbered() -> None:
    encoder = tiny(20)
    probabilities = encoder.probabilities(noise(0.5), RATE)[0].tolist()
    [tags] = encoder.tags(noise(0.5), RATE, top=None)
    assert {tag.label: tag.probability for tag in tags} == {f"class {n}": p for n, p in enumerate(probabilities)}
    assert class_names(("a", "b"), 2) == ["a", "b"]


@pytest.mark.parametrize("what", ["tags", "frame_probabilities", "probabilities", "logits"])
def test_an_encoder_without_a_head_is_named(what: str) -> None:
    with pytest.raises(MatpacError, match="bare has no head"):
        getattr(tiny(name="bare"), what)(noise(0.5), RATE)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.floats(0, 1, width=32), max_size=12), st.none() | st.integers(1, 14), st.none() | st.floats(0, 1)
)
def test_most_probable_against_a_slow_loop(values: list[float], top: int | None, threshold: float | None) -> None:
    names = [f"n{number}" for number in range(len(values))]
    expected, left = [], list(range(len(values)))
    while left and (top is None or len(expected) < top):
        best = max(left, key=lambda number: (values[number], -number))
        left.remove(best)
        if threshold is not None and values[best] < threshold:
            break
        expected.append(Tag(names[best], values[best]))
    assert most_probable(torch.tensor(values, dtype=torch.float32), names, top, threshold) == expected
