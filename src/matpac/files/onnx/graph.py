"""The network as an ONNX graph, from waveform to scene and frames, written node by node.

Not by `torch.onnx.export`: its tracer fixes the lengths that it sees (one chunk or several, one patch or several),
and ONNX Runtime's STFT is off by 4e-5 of the spectrum's largest value, which the logarithm makes visible in quiet
bands. So the transform is a convolution with windowed cosines and sines, as exact as `torch.stft`. Whether the
graph computes what the network computes is measured at every export (`matpac.files.onnx.export`).

Weights are named as in `matpac.model.vit.Encoder`; matrices are transposed, as ONNX multiplies.
"""

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

    graph, bands, width = _Graph(), embedder.config.bands, embedder.width
    graph.constant(LENGTHS, np.array([WHOLE]))
    logmel, frames = _logmel(graph, embedder.logmel.config)
    x, own_steps, steps = _transformed(graph, embedder.encoder, logmel, frames)
    valid = graph.op("Less", graph.range(steps), graph.op("Unsqueeze", own_steps, [1]))
    graph.op("Where", graph.op("Unsqueeze", valid, [2]), x, 0.0, name=FRAMES)
    total = graph.op("ReduceSum", FRAMES, [1], keepdims=0)
    graph.op(
        "Div", total, graph.op("Unsqueeze", graph.op("Cast", own_steps, to=TensorProto.FLOAT), [1]), name=SCENE
    )
    outputs = {SCENE: ["batch", width], FRAMES: ["batch", "time", width]}
    if embedder.head is not None:
        weight, bias = head_matrix(embedder.head, bands)
        scores = graph.op("MatMul", SCENE, graph.constant(HEAD_WEIGHT, weight.T), name="head")
        graph.op("Add", scores, graph.constant(HEAD_BIAS, bias), name=LOGITS)
        outputs[LOGITS] = ["batch", len(bias)]
    value = helper.make_tensor_value_info
    inputs = [
        value(WAVEFORM, TensorProto.FLOAT, ["batch", "samples"]),
        value(LENGTHS, TensorProto.INT64, ["lengths"]),
    ]
    results = [value(name, TensorProto.FLOAT, axes) for name, axes in outputs.items()]
    made = helper.make_graph(graph.nodes, "matpac", inputs, results, list(graph.constants.values()))
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
    """Nodes and constants in the order they are needed; every node has one output, which has its name."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def op(self, kind: str, *inputs: str | float | list[int], name: str = "", **attributes: Any) -> str:
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
        return self.op("Range", 0, end, 1)

    def size(self, x: str, axis: int) -> str:
        """Size of an axis, as a whole number without axes."""
        return self.op("Gather", self.op("Shape", x), axis)

    def shape(self, *sizes: str | int) -> str:
        """Shape for Reshape and Expand, of numbers known now and numbers known when the graph runs."""
        parts = [[part] if isinstance(part, int) else self.op("Unsqueeze", part, [0]) for part in sizes]
        return self.op("Concat", *parts, axis=0)

    def reshape(self, x: str, *sizes: str | int) -> str:
        return self.op("Reshape", x, self.shape(*sizes))

    def ceiling(self, x: str, step: int) -> str:
        """⌈x / step⌉ of whole numbers from 0 up."""
        return self.op("Div", self.op("Add", x, step - 1), step)

    def linear(self, x: str, layer: nn.Linear, name: str) -> str:
        product = self.op("MatMul", x, self.constant(f"{name}.weight", layer.weight.T), name=name)
        return self.op("Add", product, self.constant(f"{name}.bias", layer.bias))

    def norm(self, x: str, layer: nn.LayerNorm, name: str) -> str:
        weight, bias = self.constant(f"{name}.weight", layer.weight), self.constant(f"{name}.bias", layer.bias)
        return self.op("LayerNormalization", x, weight, bias, name=name, axis=-1, epsilon=layer.eps)


def fourier_kernels(config: LogMelConfig) -> Float[np.ndarray, "part 1 window"]:
    """Windowed cosines, then sines: a convolution with them is the short-time Fourier transform."""
    place, bins = np.arange(config.window), np.arange(config.window // 2 + 1)[:, None]
    angle = 2 * np.pi * (place * bins % config.window) / config.window
    window = torch.hann_window(config.window, periodic=True, dtype=torch.float64).numpy()
    return (np.concatenate([np.cos(angle), -np.sin(angle)]) * window)[:, None].astype(np.float32)


def _logmel(graph: _Graph, config: LogMelConfig) -> tuple[str, str]:
    """[batch, mel, frame], zero past each clip's end; and how many frames each clip has, [batch] or [1]."""
    kernels = graph.constant("logmel.fourier", fourier_kernels(config))
    waveform = graph.op("Unsqueeze", WAVEFORM, [1])
    spectrum = graph.op("Conv", waveform, kernels, name="logmel.stft", strides=[config.hop])
    bins = config.window // 2 + 1
    parts = [graph.op("Slice", spectrum, [start], [start + bins], [1]) for start in (0, bins)]
    power = graph.op("Add", *(graph.op("Mul", part, part) for part in parts))
    mel = graph.op("MatMul", graph.constant("logmel.filters", mel_matrix(config)), power, name="logmel.mel")
    logarithm = graph.op("Log", graph.op("Add", mel, LOG_OFFSET))
    x = graph.op("Sub", logarithm, graph.constant("logmel.mean", np.array(config.mean, np.float32)))
    x = graph.op("Div", x, graph.constant("logmel.std", np.array(config.std, np.float32)))
    total = graph.size(x, 2)
    # division of whole numbers rounds toward zero, and a clip shorter than a window has no frame
    started = graph.op("Max", graph.op("Add", LENGTHS, config.hop - config.window), 0)
    frames = graph.op("Min", graph.op("Div", started, config.hop), total)
    inside = graph.op("Less", graph.range(total), graph.op("Unsqueeze", frames, [1, 2]))
    return graph.op("Where", inside, x, 0.0), frames


def _transformed(graph: _Graph, encoder: Encoder, logmel: str, frames: str) -> tuple[str, str, str]:
    """Frames [batch, T, width] of whole clips; each clip's number of them; T."""
    config = encoder.config
    bands, width = config.bands, config.width
    batch, total = graph.size(logmel, 0), graph.size(logmel, 2)
    steps, own = graph.ceiling(total, PATCH), graph.ceiling(frames, PATCH)
    chunks = graph.ceiling(steps, config.steps)
    size = graph.op("Min", steps, config.steps)  # patches along time of every chunk
    padded, rows, tokens = (graph.op("Mul", *pair) for pair in ((chunks, size), (batch, chunks), (size, bands)))
    missing = graph.op("Sub", graph.op("Mul", padded, PATCH), total)
    x = graph.op("Pad", logmel, graph.shape(0, 0, 0, 0, 0, missing))
    x = graph.reshape(x, batch, bands, PATCH, chunks, size, PATCH)
    x = graph.reshape(graph.op("Transpose", x, perm=[0, 3, 1, 4, 2, 5]), rows, tokens, PATCH * PATCH)
    positions = encoder.positions
    table = graph.constant(POSITIONS, positions[1:].view(bands, config.steps, width))
    table = graph.op("Slice", table, [0], graph.op("Unsqueeze", size, [0]), [1])
    x = graph.linear(x, encoder.patch_embed, "encoder.patch_embed")
    x = graph.op("Add", x, graph.reshape(table, tokens, width))
    first = graph.constant("encoder.cls_token", (encoder.cls_token + positions[0])[None, None])
    x = graph.op("Concat", graph.op("Expand", first, graph.shape(rows, 1, width)), x, axis=1)
    x = _blocks(graph, encoder, x, _scores_mask(graph, own, batch, padded, rows, size, bands))
    x = graph.op("Slice", x, [1], [2**31 - 1], [1])
    x = graph.op("Transpose", graph.reshape(x, batch, chunks, bands, size, width), perm=[0, 1, 3, 2, 4])
    x = graph.reshape(x, batch, padded, bands * width)
    x = graph.op("Slice", x, [0], graph.op("Unsqueeze", steps, [0]), [1])
    return x, graph.op("Expand", own, graph.shape(batch)), steps


def _scores_mask(graph: _Graph, own: str, batch: str, padded: str, rows: str, size: str, bands: int) -> str:
    """[batch · chunk, 1, 1, token + 1]: 0 for [CLS] and a clip's own tokens, `MASKED` past its end."""
    inside = graph.op("Less", graph.range(padded), graph.op("Unsqueeze", own, [1]))
    mask = graph.op("Expand", graph.op("Where", inside, 0.0, MASKED), graph.shape(batch, padded))
    mask = graph.reshape(mask, rows, 1, 1, 1, size)
    mask = graph.op("Expand", mask, graph.shape(rows, 1, 1, bands, size))
    return graph.op("Pad", graph.reshape(mask, rows, 1, 1, -1), [0, 0, 0, 1, 0, 0, 0, 0])


def _blocks(graph: _Graph, encoder: Encoder, x: str, mask: str) -> str:
    for number, block in enumerate(encoder.transformer.blocks):
        assert isinstance(block, Block)
        name = f"encoder.transformer.blocks.{number}"
        normed = graph.norm(x, block.norm1, f"{name}.norm1")
        x = graph.op("Add", x, _attention(graph, block.attn, normed, mask, f"{name}.attn"))
        hidden = graph.norm(x, block.norm2, f"{name}.norm2")
        hidden = graph.op("Gelu", graph.linear(hidden, block.mlp.fc1, f"{name}.mlp.fc1"))
        x = graph.op("Add", x, graph.linear(hidden, block.mlp.fc2, f"{name}.mlp.fc2"))
    return graph.norm(x, encoder.transformer.norm, "encoder.transformer.norm")


def _attention(graph: _Graph, attention: Attention, x: str, mask: str, name: str) -> str:
    width, heads = attention.proj.in_features, attention.heads
    joint = graph.linear(x, attention.qkv, f"{name}.qkv")

    def part(number: int, axes: list[int]) -> str:
        rows = graph.op("Slice", joint, [number * width], [(number + 1) * width], [2])
        return graph.op("Transpose", graph.op("Reshape", rows, [0, 0, heads, width // heads]), perm=axes)

    query = graph.op("Mul", part(0, [0, 2, 1, 3]), (width // heads) ** -0.5)
    scores = graph.op("MatMul", query, part(1, [0, 2, 3, 1]), name=f"{name}.scores")
    shares = graph.op("Softmax", graph.op("Add", scores, mask), axis=-1)
    mixed = graph.op("MatMul", shares, part(2, [0, 2, 1, 3]), name=f"{name}.mix")
    mixed = graph.op("Reshape", graph.op("Transpose", mixed, perm=[0, 2, 1, 3]), [0, 0, width])
    return graph.linear(mixed, attention.proj, f"{name}.proj")
