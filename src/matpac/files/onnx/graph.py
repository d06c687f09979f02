"""The network as an ONNX graph, from waveform to scene and frames, written node by node.

Not by `torch.onnx.export`: its tracer fixes the lengths that it sees (one chunk or several, one patch or several),
and ONNX Runtime's STFT is off by 4e-5 of the spectrum's largest value, which the logarithm makes visible in quiet
bands. So the transform is a convolution with windowed cosines and sines, as exact as `torch.stft`. Whether the
graph computes what the network computes is measured at every export (`matpac.files.onnx.export`).

Weights are named as in `matpac.model.vit.Encoder`; matrices are transposed, as ONNX multiplies.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from matpac.model.embedder import Embedder
from matpac.model.heads import Head, Tagger
from matpac.model.logmel import LOG_OFFSET, LogMelConfig, mel_matrix
from matpac.model.vit import PATCH, Attention, Block, Encoder

OPSET, IR_VERSION = 20, 9
"""Versions of ONNX's operators (the first with GELU) and of the file format that came with it."""

WAVEFORM, LENGTHS, SCENE, FRAMES, LOGITS = "waveform", "lengths", "scene", "frames", "logits"
HEAD_WEIGHT, HEAD_BIAS, POSITIONS = "head.weight", "head.bias", "encoder.positions"

WHOLE = 2**62
"""Default of `lengths`, larger than any clip: every sample belongs to the clip."""

MASKED = -1e9
"""Added to scores of tokens past a clip's end; default: their share after softmax is exactly 0 in float32."""


def network_graph(embedder: Embedder) -> Any:
    """An encoder as an `onnx.ModelProto`, without metadata.

    Inputs: `waveform` [batch, samples] float32 at the encoder's rate, and optionally `lengths` [batch] int64:
    samples of each clip, where they are of different lengths and filled up with zeros. Outputs: `scene`
    [batch, width], `frames` [batch, T, width] (zero past a clip's end) and, where there is a head, `logits`
    [batch, class]. Clips longer than a chunk are cut inside as everywhere, the last chunk as long as what is left.
    """
    from onnx import TensorProto, helper

    g, width = _Graph(), embedder.width
    g.constant(LENGTHS, np.array([WHOLE]))
    x, own, steps = _transformed(g, embedder.encoder, *_logmel(g, embedder.logmel.config))
    g.Where(g.Unsqueeze(g.Less(g.range(steps), g.Unsqueeze(own, [1])), [2]), x, 0.0, name=FRAMES)
    count = g.Unsqueeze(g.Cast(own, to=TensorProto.FLOAT), [1])
    g.Div(g.ReduceSum(FRAMES, [1], keepdims=0), count, name=SCENE)
    outputs = {SCENE: ["batch", width], FRAMES: ["batch", "time", width]}
    if embedder.head is not None:
        weight, bias = head_matrix(embedder.head, embedder.config.bands)
        scores = g.MatMul(SCENE, g.constant(HEAD_WEIGHT, weight.T), name="head")
        g.Add(scores, g.constant(HEAD_BIAS, bias), name=LOGITS)
        outputs[LOGITS] = ["batch", len(bias)]
    value = helper.make_tensor_value_info
    inputs = [
        value(WAVEFORM, TensorProto.FLOAT, ["batch", "samples"]),
        value(LENGTHS, TensorProto.INT64, ["lengths"]),
    ]
    results = [value(name, TensorProto.FLOAT, axes) for name, axes in outputs.items()]
    made = helper.make_graph(g.nodes, "matpac", inputs, results, list(g.constants.values()))
    opset = [helper.make_opsetid("", OPSET)]
    return helper.make_model(made, opset_imports=opset, ir_version=IR_VERSION, producer_name="matpac")


def head_matrix(head: Head, bands: int) -> tuple[Float[np.ndarray, "class scene"], Float[np.ndarray, " class"]]:
    """Any head as one matrix on the scene and a bias: all of them are affine."""
    weight, bias = (part.detach().cpu().double() for part in (head.linear.weight, head.linear.bias))
    if isinstance(head, Tagger):
        mean, variance = head.norm.running_mean, head.norm.running_var
        assert mean is not None
        assert variance is not None
        weight = weight / (variance.cpu().double() + head.norm.eps).sqrt()
        bias = bias - weight @ mean.cpu().double()
        weight = weight.repeat(1, bands) / bands
    return weight.float().numpy(), bias.float().numpy()


class _Graph:
    """Nodes and constants in the order they are needed: `g.Add(x, y)` adds ONNX's node Add and gives its name.

    Every node has one output, which has the node's name.
    """

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def __getattr__(self, kind: str) -> Callable[..., str]:
        return partial(self._node, kind)

    def _node(self, kind: str, *inputs: str | float | list[int], name: str = "", **attributes: Any) -> str:
        """Add a node; numbers among its inputs become constants, whole ones of int64, others of float32."""
        from onnx import helper

        name = name or f"{kind}_{len(self.nodes)}"
        names = [part if isinstance(part, str) else self._number(part) for part in inputs]
        self.nodes.append(helper.make_node(kind, names, [name], name=name, **attributes))
        return name

    def _number(self, value: float | list[int]) -> str:
        array = np.array(value, np.float32 if isinstance(value, float) else np.int64)
        return self.constant(f"{array.dtype}_{value}", array)

    def constant(self, name: str, array: np.ndarray | Tensor) -> str:
        from onnx import numpy_helper

        if name not in self.constants:
            values = array.detach().cpu().numpy() if isinstance(array, Tensor) else array
            self.constants[name] = numpy_helper.from_array(np.asarray(values, order="C"), name)
        return name

    def range(self, end: str) -> str:
        """0, 1, … end − 1."""
        return self.Range(0, end, 1)

    def size(self, x: str, axis: int) -> str:
        """Size of an axis, as a whole number without axes."""
        return self.Gather(self.Shape(x), axis)

    def shape(self, *sizes: str | int) -> str:
        """Shape for Reshape and Expand, of numbers known now and numbers known when the graph runs."""
        return self.Concat(*([s] if isinstance(s, int) else self.Unsqueeze(s, [0]) for s in sizes), axis=0)

    def reshape(self, x: str, *sizes: str | int) -> str:
        return self.Reshape(x, self.shape(*sizes))

    def ceiling(self, x: str, step: int) -> str:
        """⌈x / step⌉ of whole numbers from 0 up."""
        return self.Div(self.Add(x, step - 1), step)

    def first(self, x: str, count: str) -> str:
        """The first `count` places of axis 1."""
        return self.Slice(x, [0], self.Unsqueeze(count, [0]), [1])

    def linear(self, x: str, layer: nn.Linear, name: str) -> str:
        product = self.MatMul(x, self.constant(f"{name}.weight", layer.weight.T), name=name)
        return self.Add(product, self.constant(f"{name}.bias", layer.bias))

    def norm(self, x: str, layer: nn.LayerNorm, name: str) -> str:
        weight, bias = self.constant(f"{name}.weight", layer.weight), self.constant(f"{name}.bias", layer.bias)
        return self.LayerNormalization(x, weight, bias, name=name, axis=-1, epsilon=layer.eps)


def fourier_kernels(config: LogMelConfig) -> Float[np.ndarray, "part 1 window"]:
    """Windowed cosines, then sines: a convolution with them is the short-time Fourier transform."""
    place, bins = np.arange(config.window), np.arange(config.window // 2 + 1)[:, None]
    angle = 2 * np.pi * (place * bins % config.window) / config.window
    window = torch.hann_window(config.window, periodic=True, dtype=torch.float64).numpy()
    return (np.concatenate([np.cos(angle), -np.sin(angle)]) * window)[:, None].astype(np.float32)


def _logmel(g: _Graph, config: LogMelConfig) -> tuple[str, str]:
    """[batch, mel, frame], zero past each clip's end; and how many frames each clip has, [batch] or [1]."""
    kernels = g.constant("logmel.fourier", fourier_kernels(config))
    spectrum = g.Conv(g.Unsqueeze(WAVEFORM, [1]), kernels, name="logmel.stft", strides=[config.hop])
    bins = config.window // 2 + 1
    parts = [g.Slice(spectrum, [start], [start + bins], [1]) for start in (0, bins)]
    power = g.Add(*(g.Mul(part, part) for part in parts))
    x = g.MatMul(g.constant("logmel.filters", mel_matrix(config)), power, name="logmel.mel")
    x = g.Sub(g.Log(g.Add(x, LOG_OFFSET)), g.constant("logmel.mean", np.array(config.mean, np.float32)))
    x = g.Div(x, g.constant("logmel.std", np.array(config.std, np.float32)))
    total = g.size(x, 2)
    # division of whole numbers rounds toward zero, and a clip shorter than a window has no frame
    frames = g.Min(g.Div(g.Max(g.Add(LENGTHS, config.hop - config.window), 0), config.hop), total)
    return g.Where(g.Less(g.range(total), g.Unsqueeze(frames, [1, 2])), x, 0.0), frames


def _transformed(g: _Graph, encoder: Encoder, logmel: str, frames: str) -> tuple[str, str, str]:
    """Frames [batch, T, width] of whole clips; each clip's number of them; T."""
    config, positions = encoder.config, encoder.positions
    bands, width = config.bands, config.width
    batch, total = g.size(logmel, 0), g.size(logmel, 2)
    steps, own = g.ceiling(total, PATCH), g.ceiling(frames, PATCH)
    chunks = g.ceiling(steps, config.steps)
    size = g.Min(steps, config.steps)  # patches along time of every chunk
    padded, rows, tokens = g.Mul(chunks, size), g.Mul(batch, chunks), g.Mul(size, bands)
    x = g.Pad(logmel, g.shape(0, 0, 0, 0, 0, g.Sub(g.Mul(padded, PATCH), total)))
    x = g.reshape(x, batch, bands, PATCH, chunks, size, PATCH)
    x = g.reshape(g.Transpose(x, perm=[0, 3, 1, 4, 2, 5]), rows, tokens, PATCH * PATCH)
    table = g.first(g.constant(POSITIONS, positions[1:].view(bands, config.steps, width)), size)
    x = g.Add(g.linear(x, encoder.patch_embed, "encoder.patch_embed"), g.reshape(table, tokens, width))
    cls = g.constant("encoder.cls_token", (encoder.cls_token + positions[0])[None, None])
    x = g.Concat(g.Expand(cls, g.shape(rows, 1, width)), x, axis=1)
    # scores: 0 for [CLS] and a clip's own tokens, `MASKED` past its end, [batch · chunk, 1, 1, token + 1]
    mask = g.Where(g.Less(g.range(padded), g.Unsqueeze(own, [1])), 0.0, MASKED)
    mask = g.reshape(g.Expand(mask, g.shape(batch, padded)), rows, 1, 1, 1, size)
    mask = g.reshape(g.Expand(mask, g.shape(rows, 1, 1, bands, size)), rows, 1, 1, -1)
    x = _blocks(g, encoder, x, g.Pad(mask, [0, 0, 0, 1, 0, 0, 0, 0]))
    x = g.reshape(g.Slice(x, [1], [2**31 - 1], [1]), batch, chunks, bands, size, width)
    x = g.reshape(g.Transpose(x, perm=[0, 1, 3, 2, 4]), batch, padded, bands * width)
    return g.first(x, steps), g.Expand(own, g.shape(batch)), steps


def _blocks(g: _Graph, encoder: Encoder, x: str, mask: str) -> str:
    for number, block in enumerate(encoder.transformer.blocks):
        assert isinstance(block, Block)
        name = f"encoder.transformer.blocks.{number}"
        x = g.Add(x, _attention(g, block.attn, g.norm(x, block.norm1, f"{name}.norm1"), mask, f"{name}.attn"))
        hidden = g.linear(g.norm(x, block.norm2, f"{name}.norm2"), block.mlp.fc1, f"{name}.mlp.fc1")
        x = g.Add(x, g.linear(g.Gelu(hidden), block.mlp.fc2, f"{name}.mlp.fc2"))
    return g.norm(x, encoder.transformer.norm, "encoder.transformer.norm")


def _attention(g: _Graph, attention: Attention, x: str, mask: str, name: str) -> str:
    width, heads = attention.proj.in_features, attention.heads
    joint = g.linear(x, attention.qkv, f"{name}.qkv")

    def part(number: int, axes: list[int]) -> str:
        rows = g.Slice(joint, [number * width], [(number + 1) * width], [2])
        return g.Transpose(g.Reshape(rows, [0, 0, heads, width // heads]), perm=axes)

    query = g.Mul(part(0, [0, 2, 1, 3]), (width // heads) ** -0.5)
    scores = g.Add(g.MatMul(query, part(1, [0, 2, 3, 1]), name=f"{name}.scores"), mask)
    mixed = g.MatMul(g.Softmax(scores, axis=-1), part(2, [0, 2, 1, 3]), name=f"{name}.mix")
    mixed = g.Reshape(g.Transpose(mixed, perm=[0, 2, 1, 3]), [0, 0, width])
    return g.linear(mixed, attention.proj, f"{name}.proj")
