"""The network as an ONNX graph, run by ONNX Runtime alone: what a program without matpac gets from the file."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.tiny_encoder import TINY, tiny
from matpac.files.onnx.graph import fourier_kernels, head_matrix, network_graph
from matpac.model.embedder import Embedder
from matpac.model.heads import SceneProbe, Tagger
from matpac.model.logmel import LogMelConfig
from matpac.model.vit import Encoder, EncoderConfig

WINDOW, CHUNK = 400, 400 + 31 * 160
EDGES = [WINDOW, WINDOW + 160, 2_800, 2_960, CHUNK - 1, CHUNK, CHUNK + 160, 2 * CHUNK, 32 * 160 + WINDOW]
LENGTHS = st.integers(WINDOW, 3 * CHUNK) | st.sampled_from(EDGES)


def session(embedder: Embedder) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(network_graph(embedder).SerializeToString(), options)


def tagger() -> Embedder:
    torch.manual_seed(0)
    embedder = tiny(classes=3)
    assert isinstance(embedder.head, Tagger)
    embedder.head.norm.running_mean = torch.randn(TINY.width)
    embedder.head.norm.running_var = torch.rand(TINY.width) + 0.1
    return embedder


@pytest.fixture(scope="module")
def pair() -> tuple[Embedder, onnxruntime.InferenceSession]:
    embedder = tagger()
    return embedder, session(embedder)


def sound(samples: int, seed: int = 0, level: float = 0.1) -> np.ndarray:
    return (level * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


@settings(deadline=None, max_examples=40)
@given(length=LENGTHS, batch=st.integers(1, 4))
def test_equals_pytorch_on_waveforms_of_any_length(pair, length: int, batch: int) -> None:
    embedder, run = pair
    waveforms = np.stack([sound(length, seed) for seed in range(batch)])
    scene, frames, logits = run.run(["scene", "frames", "logits"], {"waveform": waveforms})
    reference = embedder.frames(waveforms, 16_000)[0].numpy()
    np.testing.assert_allclose(frames, reference, atol=1e-5)
    np.testing.assert_allclose(scene, reference.mean(1), atol=1e-5)
    np.testing.assert_allclose(logits, embedder.logits(waveforms, 16_000).numpy(), atol=1e-5)


@settings(deadline=None, max_examples=40)
@given(lengths=st.lists(LENGTHS, min_size=1, max_size=5))
def test_clips_of_unequal_lengths_give_what_they_give_alone(pair, lengths: list[int]) -> None:
    embedder, run = pair
    clips = [sound(length, seed) for seed, length in enumerate(lengths)]
    waveforms = np.stack([np.pad(clip, (0, max(lengths) - len(clip))) for clip in clips])
    scene, frames = run.run(["scene", "frames"], {"waveform": waveforms, "lengths": np.array(lengths)})
    for clip, vector, rows in zip(clips, scene, frames, strict=True):
        reference = embedder.frames(clip, 16_000)[0][0].numpy()
        np.testing.assert_allclose(rows[: len(reference)], reference, atol=1e-5)
        np.testing.assert_allclose(vector, reference.mean(0), atol=1e-5)
        assert not rows[len(reference) :].any()


def test_samples_past_a_clips_end_do_not_count(pair) -> None:
    _, run = pair
    waveforms = np.stack([sound(9_000), sound(9_000)])
    waveforms[1, 7_000:] = 0.9
    scene, frames = run.run(["scene", "frames"], {"waveform": waveforms, "lengths": np.array([7_000, 7_000])})
    np.testing.assert_array_equal(scene[0], scene[1])
    np.testing.assert_array_equal(frames[0], frames[1])


def test_a_clip_without_a_frame_has_no_scene(pair) -> None:
    _, run = pair
    waveforms, lengths = sound(3 * 9_000).reshape(3, -1), np.array([9_000, 399, 0])
    scene, frames = run.run(["scene", "frames"], {"waveform": waveforms, "lengths": lengths})
    assert np.isfinite(scene[0]).all()
    assert np.isnan(scene[1:]).all()
    assert not frames[1:].any()
    with pytest.raises(Exception, match="Conv"):
        run.run(["scene"], {"waveform": sound(399)[None]})


def test_quiet_bands_beside_a_loud_tone_are_right(pair) -> None:
    """The logarithm shows errors of the spectrum there; ONNX Runtime's own STFT is 4e-5 of the tone off."""
    embedder, run = pair
    tone = np.sin(2 * np.pi * 440 * np.arange(CHUNK) / 16_000).astype(np.float32)
    (scene,) = run.run(["scene"], {"waveform": tone[None]})
    np.testing.assert_allclose(scene, embedder.scene(tone, 16_000).numpy(), atol=1e-4)
    (silence,) = run.run(["scene"], {"waveform": np.zeros((1, CHUNK), np.float32)})
    np.testing.assert_allclose(silence, embedder.scene(np.zeros(CHUNK, np.float32), 16_000).numpy(), atol=1e-5)


def test_the_kernels_are_the_fourier_transform() -> None:
    config = LogMelConfig(window=50, hop=20, mels=16)
    frame = sound(50)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(50) / 50)
    expected = np.fft.rfft(frame * window)
    parts = fourier_kernels(config)[:, 0] @ frame
    np.testing.assert_allclose(parts[:26] + 1j * parts[26:], expected, atol=1e-6)


def test_inputs_and_outputs_are_declared() -> None:
    model = network_graph(tagger())
    onnx.checker.check_model(model, full_check=True)

    def shapes(values) -> dict[str, list]:
        axes = {v.name: v.type.tensor_type.shape.dim for v in values}
        return {name: [axis.dim_param or axis.dim_value for axis in found] for name, found in axes.items()}

    assert shapes(model.graph.input) == {"waveform": ["batch", "samples"], "lengths": ["lengths"]}
    assert shapes(model.graph.output) == {
        "scene": ["batch", 16],
        "frames": ["batch", "time", 16],
        "logits": ["batch", 3],
    }
    assert [value.name for value in network_graph(tiny()).graph.output] == ["scene", "frames"]
    assert {node.domain for node in model.graph.node} == {""}


@pytest.mark.parametrize("bands", [1, 5])
def test_every_head_is_a_matrix_on_the_scene(bands: int) -> None:
    torch.manual_seed(1)
    tagger, probe = Tagger(8, 3).eval(), SceneProbe(8 * bands, 3)
    tagger.norm.running_mean, tagger.norm.running_var = torch.randn(8), torch.rand(8) + 0.1
    scenes = torch.randn(4, 8 * bands)
    for head in (tagger, probe):
        matrix, bias = head_matrix(head, bands)
        found = scenes.numpy() @ matrix.T + bias
        np.testing.assert_allclose(found, head.of_scenes(scenes).detach().numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("config", "logmel"),
    [
        (EncoderConfig(width=12, depth=1, heads=1, mels=16, frames=16), LogMelConfig(mels=16)),
        (EncoderConfig(width=24, depth=1, heads=3, mels=48, frames=64), LogMelConfig(mels=48, mean=-3.0, std=2.0)),
        (
            EncoderConfig(width=16, depth=1, heads=2, mels=32, frames=32),
            LogMelConfig(sample_rate=8_000, window=256, hop=100, mels=32, low=0.0, high=4_000.0),
        ),
    ],
)
def test_other_sizes_and_front_ends(config: EncoderConfig, logmel: LogMelConfig) -> None:
    embedder = Embedder(Encoder(config), logmel)
    run = session(embedder)
    for samples in (logmel.window, 3_000, 20_000):
        frames = np.asarray(run.run(["frames"], {"waveform": sound(samples)[None]})[0])
        expected = embedder.frames(sound(samples), logmel.sample_rate)[0]
        np.testing.assert_allclose(frames, expected.numpy(), atol=1e-5)
