"""A sound through an encoder, for the page: what is shown is what the library gives."""

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import soundfile
import torch

from helpers.named_sounds import LABELS, knowing, write
from helpers.tiny_encoder import tiny
from matpac import AudioError, read
from matpac.app import listening
from matpac.app.listening import hear, moments, read_at_most, similarity
from matpac.app.pictures import alike_picture, compared, heard_picture


@pytest.fixture(scope="module")
def knower():
    return knowing()


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("sounds") / "<b>a & b.flac", ("tone", 1.6), ("noise", 1.6), rate=44_100)


def test_what_is_shown_is_what_the_library_gives(knower, path):
    heard = hear(knower, path)
    waveform = read(path)
    frames, times = knower.frames(waveform, 16_000)
    assert heard.name == path.name
    assert heard.duration == pytest.approx(3.2)
    np.testing.assert_allclose(heard.frames, frames[0], atol=1e-6)
    np.testing.assert_array_equal(heard.steps, times)
    np.testing.assert_allclose(heard.scene, knower.scene(waveform, 16_000)[0], atol=1e-5)
    np.testing.assert_allclose(heard.logmel, knower.logmel(torch.from_numpy(waveform)[None])[0], atol=1e-6)
    [tags] = knower.tags(waveform, 16_000)
    assert [tag.label for tag in heard.tags] == [tag.label for tag in tags]
    np.testing.assert_allclose([t.probability for t in heard.tags], [t.probability for t in tags], atol=1e-5)
    [probabilities], _ = knower.frame_probabilities(waveform[None], 16_000)
    for number, label in enumerate(LABELS):
        np.testing.assert_allclose(heard.probabilities[label], probabilities[:, number], atol=1e-5)


def test_times_and_bands_are_those_of_the_spectrogram(path):
    heard = hear(tiny(), path)
    assert heard.times[0] == pytest.approx(0.0125)
    assert np.diff(heard.times) == pytest.approx(0.01)
    assert len(heard.times) == heard.logmel.shape[1]
    assert len(heard.frequencies) == heard.logmel.shape[0]
    assert (np.diff(heard.frequencies) > 0).all()
    assert not heard.tags
    assert not heard.probabilities


def test_only_labels_that_reach_most_are_drawn(path, monkeypatch):
    torch.manual_seed(3)
    encoder = tiny(20)
    monkeypatch.setattr(listening, "ROWS", 3)
    heard = hear(encoder, path)
    assert len(heard.tags) == 20
    [probabilities], _ = encoder.frame_probabilities(read(path)[None], 16_000)
    best = probabilities.max(0).values.argsort(descending=True)[:3]
    assert list(heard.probabilities) == [f"class {number}" for number in best.tolist()]


def test_longer_sounds_are_refused_and_never_read_whole(tmp_path, monkeypatch):
    path = tmp_path / "long.wav"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 16_000 * 100), 16_000)
    read_seconds = []
    whole = listening.blocks

    def counted(*arguments, **options):
        for block in whole(*arguments, **options):
            read_seconds.append(len(block) / 16_000)
            yield block

    monkeypatch.setattr(listening, "blocks", counted)
    with pytest.raises(AudioError, match=r"^long\.wav: longer than 20 s.*--longest"):
        read_at_most(path, 16_000, 20)
    assert sum(read_seconds) < 40
    assert len(read_at_most(path, 16_000, 100)) == 1_600_000


def test_errors_name_the_file_and_not_where_the_page_keeps_it(tmp_path):
    folder = tmp_path / "kept"
    folder.mkdir()
    (folder / "broken.wav").write_bytes(b"no sound at all" * 30)
    soundfile.write(folder / "short.wav", np.zeros(200), 16_000)
    for name in ("broken.wav", "short.wav", "no.wav"):
        with pytest.raises(AudioError, match=f"^{name}: ") as caught:
            hear(tiny(), folder / name)
        assert "kept" not in str(caught.value)


def test_moments_are_means_of_neighbours(monkeypatch):
    monkeypatch.setattr(listening, "MOMENTS", 4)
    frames = np.random.default_rng(0).normal(size=(10, 6)).astype(np.float32)
    steps = np.arange(10) * 0.16 + 0.0875
    vectors, centres = moments(frames, steps)
    wanted = np.stack([frames[start : start + 3].mean(axis=0) for start in (0, 3, 6, 9)])
    np.testing.assert_allclose(vectors, wanted / np.linalg.norm(wanted, axis=1, keepdims=True), rtol=1e-5)
    np.testing.assert_allclose(centres, [steps[start : start + 3].mean() for start in (0, 3, 6, 9)])
    few, same = moments(frames[:3], steps[:3])
    np.testing.assert_allclose(np.linalg.norm(few, axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(same, steps[:3])


def test_a_sound_is_like_itself_and_less_like_another(knower, path, tmp_path):
    heard = hear(knower, path)
    other = hear(knower, write(tmp_path / "noise.wav", ("noise", 2.0)))
    wanted = torch.cosine_similarity(torch.from_numpy(heard.scene), torch.from_numpy(other.scene), dim=0)
    assert similarity(heard, other) == pytest.approx(float(wanted), abs=1e-5)
    assert similarity(heard, heard) == pytest.approx(1)
    assert f"{float(wanted):.4f}" in compared(heard, other)


def test_pictures_are_markup_whatever_the_names(knower, path):
    heard = replace(hear(knower, path), name="<script>alert(1)</script>")
    heard = replace(
        heard, probabilities={"<i>": heard.probabilities["tone"], "b & c": heard.probabilities["noise"]}
    )
    for picture in (heard_picture(heard), alike_picture(heard, heard)):
        root = ElementTree.fromstring(picture)
        assert root.tag == "div"
        assert "script" not in {element.tag for element in root.iter()}
        assert "<script" not in picture
    texts = "".join(ElementTree.fromstring(heard_picture(heard)).itertext())
    assert "<i>" in texts
    assert "b & c" in texts
