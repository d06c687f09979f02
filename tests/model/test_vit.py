"""The network against formulas written out: positions, patches, attention, layers."""

import math

import pytest
import torch
from torch.nn import functional as F

from matpac.errors import MatpacError
from matpac.model.vit import SIZES, Attention, Encoder, EncoderConfig, sincos_positions

SMALL = EncoderConfig(width=32, depth=3, heads=2, frames=96)


def test_base_has_the_papers_size():
    with torch.device("meta"):
        parameters = sum(p.numel() for p in Encoder(SIZES["base"]).parameters())
    assert round(parameters / 1e6, 1) == 85.3
    assert SIZES["base"].tokens == 190


def test_positions_are_the_published_table(golden):
    published = torch.load(golden / "tiny_official.pt", weights_only=True)["pos_embed"][0]
    torch.testing.assert_close(sincos_positions(128, 5, 6), published, atol=1e-6, rtol=0)


def test_positions_follow_the_formula():
    width, bands, steps = 16, 3, 4
    table = sincos_positions(width, bands, steps)
    assert not table[0].any()
    for f in range(bands):
        for t in range(steps):
            row = table[1 + f * steps + t]
            for half, position in ((row[:8], t), (row[8:], f)):
                for i in range(4):
                    omega = 10_000 ** (-i / 4)
                    assert half[i] == pytest.approx(math.sin(position * omega), abs=1e-6)
                    assert half[4 + i] == pytest.approx(math.cos(position * omega), abs=1e-6)


@pytest.mark.parametrize("steps", [2, 6])
def test_patches_are_a_strided_convolution_at_the_first_columns_of_the_table(steps):
    encoder = Encoder(SMALL)
    logmel = torch.randn(2, 80, 16 * steps)
    kernel = encoder.patch_embed.weight.view(32, 1, 16, 16)
    grid = F.conv2d(logmel[:, None], kernel, encoder.patch_embed.bias, stride=16)
    table = encoder.positions[1:].view(5, 6, 32)[:, :steps].flatten(0, 1)
    expected = grid.flatten(2).transpose(1, 2) + table
    torch.testing.assert_close(encoder.patch_tokens(logmel), expected, atol=1e-5, rtol=1e-5)


def test_attention_is_softmax_of_scaled_products():
    attention = Attention(12, 3)
    x = torch.randn(2, 5, 12)
    query, key, value = attention.qkv(x).chunk(3, dim=-1)
    heads = []
    for h in range(3):
        part = slice(4 * h, 4 * h + 4)
        weights = torch.softmax(query[..., part] @ key[..., part].transpose(1, 2) / 2, dim=-1)
        heads.append(weights @ value[..., part])
    torch.testing.assert_close(attention(x), attention.proj(torch.cat(heads, dim=-1)), atol=1e-5, rtol=1e-5)


def test_layers_end_with_the_encoders_output():
    encoder = Encoder(SMALL).eval()
    logmel = torch.randn(2, 80, 64)
    layers = encoder.layers(logmel, [0, 1, 2])
    assert layers.shape == (2, 3, 20, 32)
    torch.testing.assert_close(layers[:, -1], encoder(logmel))
    first = encoder.transformer.get_submodule("blocks.0")
    block = first(encoder.with_cls(encoder.patch_tokens(logmel)))
    torch.testing.assert_close(layers[:, 0], block[:, 1:])


def test_start_is_xavier():
    encoder = Encoder(EncoderConfig(width=128, depth=1, heads=2))
    weight = encoder.transformer.get_parameter("blocks.0.mlp.fc1.weight")
    bound = math.sqrt(6 / (128 + 512))
    assert 0.95 * bound < weight.abs().max() <= bound
    assert encoder.patch_embed.weight.abs().max() <= math.sqrt(6 / (256 + 128))
    assert not encoder.patch_embed.bias.any()


@pytest.mark.parametrize(
    ("name", "value"), [("mels", 81), ("frames", 100), ("width", 66), ("width", -4), ("depth", 0), ("heads", 0)]
)
def test_impossible_sizes_are_refused(name, value):
    with pytest.raises(MatpacError, match=rf"{name}.* {value}"):
        EncoderConfig(**{name: value})


@pytest.mark.parametrize(("mels", "frames"), [(64, 96), (80, 112)])
def test_input_that_does_not_fit_is_refused(mels, frames):
    with pytest.raises(ValueError, match=f"{mels} bands × {frames} frames"):
        Encoder(SMALL)(torch.zeros(1, mels, frames))
