"""Published files: what is read from them, at full size too, and what is refused by name."""

from pathlib import Path

import librosa
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from helpers.published_files import published_state
from matpac.files.load import load_file
from matpac.files.published import read_published
from matpac.files.tensor_files import CheckpointError
from matpac.model.embedder import Embedder
from matpac.model.vit import EncoderConfig

RATE = 16_000


def slow_embedding(state: dict[str, Tensor], waveform: np.ndarray, chunk: int) -> Tensor:
    """Section 7 of docs/method.md once more, from its formulas: [layer, time, 5 · width], low bands first."""
    windows = np.lib.stride_tricks.sliding_window_view(waveform.astype(np.float64), 400)[::160]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    power = np.abs(np.fft.rfft(windows * hann)) ** 2
    mel = power @ librosa.filters.mel(sr=16000, n_fft=400, n_mels=80, fmin=50, fmax=8000).T
    logmel = torch.from_numpy((np.log(mel + 1.1920929e-07) + 7.056) / 4.193).float().T
    logmel = F.pad(logmel, (0, -logmel.shape[1] % 16))
    return torch.cat([_slow_chunk(state, part) for part in logmel.split(chunk, dim=1)], dim=1)


def _slow_chunk(state: dict[str, Tensor], logmel: Tensor) -> Tensor:
    width = state["cls_token"].shape[-1]
    heads = width // 64
    patches = F.conv2d(
        logmel[None, None], state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=16
    )[0]
    steps = patches.shape[-1]
    longest = (state["pos_embed"].shape[1] - 1) // 5
    table = state["pos_embed"][0]
    tokens = [state["cls_token"][0, 0] + table[0]]
    for band in range(5):
        for time in range(steps):
            tokens.append(patches[:, band, time] + table[1 + band * longest + time])
    x = torch.stack(tokens)

    def norm(name: str, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / torch.sqrt(centred.square().mean(-1, keepdim=True) + 1e-6)
        return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    outputs = []
    depth = sum(name.endswith("attn.qkv.weight") for name in state)
    for block in range(depth):
        name = f"student_encoder.blocks.{block}"
        query, key, value = linear(f"{name}.attn.qkv", norm(f"{name}.norm1", x)).chunk(3, dim=-1)
        mixed = []
        for head in range(heads):
            part = slice(64 * head, 64 * head + 64)
            weights = (query[:, part] @ key[:, part].T / 8.0).exp()  # 8 = √64
            mixed.append(weights / weights.sum(-1, keepdim=True) @ value[:, part])
        x = x + linear(f"{name}.attn.proj", torch.cat(mixed, dim=-1))
        hidden = linear(f"{name}.mlp.fc1", norm(f"{name}.norm2", x))
        gelu = 0.5 * hidden * (1 + torch.erf(hidden / 2**0.5))
        x = x + linear(f"{name}.mlp.fc2", gelu)
        outputs.append(x)
    outputs[-1] = norm("student_encoder.norm", x)
    grid = torch.stack(outputs)[:, 1:].view(depth, 5, steps, width)
    return grid.transpose(1, 2).reshape(depth, steps, 5 * width)


def clip(seconds: float, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(round(seconds * RATE))
    loudness = np.sin(np.arange(len(noise)) / 5000) ** 2
    return (0.1 * noise * loudness).astype(np.float32)


def close(actual: Tensor, expected: Tensor) -> None:
    assert actual.shape == expected.shape
    assert (actual - expected).abs().max() <= 1e-4 * expected.abs().max()


def released(state: dict[str, Tensor], folder: Path) -> Embedder:
    """Loaded from a file as it is released, of 340 MB, in a folder whose name means nothing."""
    path = folder / "tasks" / "as_music" / "enc.pt"
    path.parent.mkdir(parents=True)
    torch.save(state, path)
    encoder = load_file(path)
    path.unlink()
    return encoder


def test_full_size_encoder_of_608_frames(tmp_path):
    state = published_state(width=768, depth=12, frames=608)
    encoder = released(state, tmp_path)
    assert encoder.encoder.config == EncoderConfig()
    assert (encoder.width, encoder.depth, encoder.sample_rate) == (3840, 12, RATE)
    waveform = clip(7.3)  # two chunks
    expected = slow_embedding(state, waveform, 608)
    layers = encoder.frames(waveform, RATE, layers="all")[0]
    assert isinstance(layers, Tensor)
    close(layers[0], expected)
    close(encoder.frames(waveform, RATE)[0][0], expected[-1])
    close(encoder.scene(waveform, RATE)[0], expected[-1].mean(0))
    assert encoder.head is None


def test_full_size_tagger_of_992_frames(tmp_path):
    state = published_state(width=768, depth=12, frames=992, classes=527, seed=1)
    encoder = released(state, tmp_path)
    assert encoder.encoder.config == EncoderConfig(frames=992)
    waveform = clip(10.3)  # two chunks
    frames = slow_embedding(state, waveform, 992)[-1]
    close(encoder.frames(waveform, RATE)[0][0], frames)
    mean = frames.view(len(frames), 5, 768).mean((0, 1))
    normal = (mean - state["head_norm.running_mean"]) / torch.sqrt(state["head_norm.running_var"] + 1e-5)
    logits = state["head.weight"] @ normal + state["head.bias"]
    close(encoder.logits(waveform, RATE)[0], logits)
    close(encoder.probabilities(waveform, RATE)[0], 1 / (1 + (-logits).exp()))
    assert not encoder.card.exclusive


# what follows is the same at any size

WIDTH, DEPTH, FRAMES = 64, 4, 32


def small(classes: int | None = None) -> dict[str, Tensor]:
    return published_state(WIDTH, DEPTH, FRAMES, classes)


def load(state: dict, folder: Path, name: str = "enc.pt"):
    torch.save(state, folder / name)
    return load_file(folder / name)


@pytest.mark.parametrize("prefix", ["", "model.", "encoder.module.", "module.student_encoder."])
@pytest.mark.parametrize("nested", [False, True])
def test_any_common_prefix(tmp_path, prefix, nested):
    state = {prefix + name: tensor for name, tensor in small(7).items()}
    encoder = load({"model": state} if nested else state, tmp_path)
    waveform = clip(1.0)
    close(encoder.frames(waveform, RATE)[0][0], slow_embedding(small(), waveform, FRAMES)[-1])
    assert encoder.logits(waveform, RATE).shape == (1, 7)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_number_formats_become_float32(tmp_path, golden, dtype):
    state = torch.load(golden / "tiny_official.pt", weights_only=True)  # with the front-end's buffers
    encoder = load({name: tensor.to(dtype) for name, tensor in state.items()}, tmp_path)
    assert {tensor.dtype for tensor in encoder.encoder.state_dict().values()} == {torch.float32}
    expected = state["student_encoder.norm.weight"].to(dtype).float()
    assert encoder.encoder.state_dict()["transformer.norm.weight"].equal(expected)


def test_another_front_end_is_refused(tmp_path, golden):
    state = torch.load(golden / "tiny_official.pt", weights_only=True)
    state["log_mel.MelSpectrogram.mel_scale.fb"] = state["log_mel.MelSpectrogram.mel_scale.fb"].flip(1)
    with pytest.raises(CheckpointError, match=r"enc\.pt: log_mel\.MelSpectrogram\.mel_scale\.fb differs"):
        load(state, tmp_path)


OWN = {  # a published name → a pattern for it in errors, under this project's name where the file is in order
    "cls_token": "cls_token",
    "pos_embed": "pos_embed|positions",
    "patch_embed.proj.weight": "patch_embed",
    "student_encoder.blocks.2.attn.qkv.weight": r"transformer\.blocks\.2\.attn\.qkv\.weight",
    "student_encoder.norm.weight": r"student_encoder\.norm\.weight|transformer\.norm\.weight",
    "head_norm.running_var": r"head\.norm\.running_var",
    "head.weight": r"head\.(linear\.)?weight",
    "head.bias": r"head\.linear\.bias",
}


@pytest.mark.parametrize("name", OWN)
def test_a_missing_or_misshapen_tensor_is_named(tmp_path, name):
    state = small(7)
    tensor = state.pop(name)
    with pytest.raises(CheckpointError, match=rf"enc\.pt: .*({OWN[name]})"):
        load(state, tmp_path)
    with pytest.raises(CheckpointError, match=rf"enc\.pt: (encoder\.)?({OWN[name]}).* has the shape \[1"):
        load(state | {name: tensor.unsqueeze(0)}, tmp_path)


def test_a_missing_block_or_a_tensor_too_many_is_named(tmp_path):
    state = {name: tensor for name, tensor in small().items() if ".blocks.2." not in name}
    with pytest.raises(CheckpointError, match=r"blocks \[0, 1, 3\] are not consecutive"):
        load(state, tmp_path)
    for name in ("other.weight", "head.extra", "student_encoder.blocks.1.attn.gate"):
        with pytest.raises(CheckpointError, match=rf"enc\.pt: 1 .*{name.removeprefix('student_encoder.')}"):
            load(small() | {name: torch.zeros(3)}, tmp_path)


@pytest.mark.parametrize(
    ("name", "named", "value"),
    [
        ("student_encoder.blocks.3.attn.qkv.weight", r"transformer\.blocks\.3\.attn\.qkv\.weight", float("nan")),
        ("head_norm.running_var", r"head\.norm\.running_var", float("inf")),
    ],
)
def test_values_that_are_not_finite_are_named(tmp_path, name, named, value):
    state = small(7)
    state[name].view(-1)[0] = value
    with pytest.raises(CheckpointError, match=f"{named} holds values that are not finite"):
        load(state, tmp_path)


@pytest.mark.parametrize("wrong", [torch.zeros(64, dtype=torch.int32), torch.eye(8).to_sparse().sum(0), 3, "text"])
def test_no_tensor_of_weights(tmp_path, wrong):
    with pytest.raises(CheckpointError, match=r"norm\.bias"):
        load(small() | {"student_encoder.norm.bias": wrong}, tmp_path)


def test_no_state_dict():
    with pytest.raises(CheckpointError, match="not a dict of tensors"):
        read_published({"model": torch.zeros(3)})
    with pytest.raises(CheckpointError, match="names of tensors are text"):
        read_published({3: torch.zeros(3)})  # pyright: ignore[reportArgumentType]
    with pytest.raises(CheckpointError, match="no tensors"):
        read_published({})


def test_a_whole_training_checkpoint(tmp_path, golden):
    """The student is the encoder; the rest is known and ignored."""
    archive = np.load(golden / "train_matpacpp.npz")
    pretext = {
        name.removeprefix("final/student/"): torch.from_numpy(archive[name])
        for name in archive.files
        if name.startswith(
            ("final/student/decoder.", "final/student/mcl_heads.", "final/student/cls_student_head.")
        )
    }
    assert len(pretext) > 30
    model = small() | pretext | {"_ema": {"norm.bias": torch.zeros(2)}}
    encoder = load({"model": model, "optimizer": {"lr": 0.1}}, tmp_path)
    waveform = clip(0.5)
    close(encoder.scene(waveform, RATE)[0], slow_embedding(small(), waveform, FRAMES)[-1].mean(0))
