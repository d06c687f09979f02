"""The network as an ONNX graph, from waveform to scene and frames, written node by node.

Not by `torch.onnx.export`: its tracer fixes the lengths that it sees (one chunk or several, one patch or several),
and ONNX Runtime's STFT is off by 4e-5 of the spectrum's largest value, which the logarithm makes visible in quiet
bands. So the transform is a convolution with windowed cosines and sines, as exact as `torch.stft`. Whether the
graph says what the network says is measured at every export (`matpac.files.onnx.export`).

Names of weights are those of `matpac.model.vit.Encoder`; matrices are transposed, as ONNX multiplies.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from matpac.model.embedder import Embedder
from matpac.model.heads import Head, Tagger
from matpac.model.logmel import LOG_OFFSET, LogMelConfig, mel_matrix
from matpac.model.vit import PATCH, Attention, Block, Encoder

OPSET = 20
"""Of ONNX: the first with GELU; ONNX Runtime knows it from 1.17 on."""

IR_VERSION = 9
"""Of the file format: the one that came with opset 20."""

WAVEFORM, LENGTHS = "waveform", "lengths"
SCENE, FRAMES, LOGITS = "scene", "frames", "logits"

WHOLE = 2**62
"""Default of `lengths`: every sample belongs to the clip; ours, larger than any clip."""

MASKED = -1e9
"""Added to scores of tokens past a clip's end: their share after softmax is exactly 0 in float32; ours."""

HEAD_WEIGHT, HEAD_BIAS, POSITIONS = "head.weight", "head.bias", "encoder.positions"


def network_graph(embedder: Embedder) -> Any:
    """An encoder as an `onnx.ModelProto`, without metadata.

    Inputs: `waveform` [batch, samples] float32 at the encoder's rate, and, if wanted, `lengths` [batch] int64:
    samples of each clip, where they are of different lengths and filled up with zeros. Outputs: `scene`
    [batch, width], `frames` [batch, T, width] (zero past a clip's end) and, where there is a head, `logits`
    [batch, class]. Clips longer than a chunk are cut inside as everywhere, the last chunk as long as what is left.
    """
    from onnx import TensorProto, helper

    graph = _Graph()
    config, classes = embedder.config, 0
    logmel, frames = _logmel(graph, embedder.logmel.config)
    x, own_steps, steps = _transformed(graph, embedder.encoder, logmel, frames)
    valid = graph.op("Less", graph.range(steps), graph.op("Unsqueeze", own_steps, graph.ints(1)))
    inside = graph.op("Unsqueeze", valid, graph.ints(2))
    graph.op("Where", inside, x, graph.floats(0), output=FRAMES)
    total = graph.op("ReduceSum", FRAMES, graph.ints(1), keepdims=0)
    count = graph.op("Unsqueeze", graph.op("Cast", own_steps, to=TensorProto.FLOAT), graph.ints(1))
    graph.op("Div", total, count, output=SCENE)
    outputs = {SCENE: ["batch", "width"], FRAMES: ["batch", "time", "width"]}
    shapes = {"width": config.bands * config.width}
    if embedder.head is not None:
        matrix, bias = head_matrix(embedder.head, config.bands)
        weight, classes = graph.constant(HEAD_WEIGHT, matrix.T), len(bias)
        scores = graph.op("MatMul", SCENE, weight, name="head")
        graph.op("Add", scores, graph.constant(HEAD_BIAS, bias), output=LOGITS)
        outputs[LOGITS], shapes["class"] = ["batch", "class"], classes

    def value(name: str, kind: int, axes: Sequence[str]) -> Any:
        return helper.make_tensor_value_info(name, kind, [shapes.get(axis, axis) for axis in axes])

    graph.constant(LENGTHS, np.array([WHOLE]))
    made = helper.make_graph(
        graph.nodes,
        "matpac",
        [
            value(WAVEFORM, TensorProto.FLOAT, ["batch", "samples"]),
            value(LENGTHS, TensorProto.INT64, ["lengths"]),
        ],
        [value(name, TensorProto.FLOAT, axes) for name, axes in outputs.items()],
        list(graph.constants.values()),
    )
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
    """Nodes and constants in the order they are needed; every node has one output, its name unless told."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def op(self, kind: str, *inputs: str, name: str = "", output: str = "", **attributes: Any) -> str:
        from onnx import helper

        name = name or f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output or name], name=name, **attributes))
        return output or name

    def constant(self, name: str, array: np.ndarray) -> str:
        from onnx import numpy_helper

        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.asarray(array, order="C"), name)
        return name

    def ints(self, *values: int) -> str:
        return self.constant(f"ints_{'_'.join(map(str, values))}", np.array(values, np.int64))

    def whole(self, value: int) -> str:
        return self.constant(f"int_{value}", np.array(value, np.int64))

    def floats(self, value: float) -> str:
        return self.constant(f"float_{value:g}", np.array(value, np.float32))

    def range(self, end: str) -> str:
        """0, 1, … end − 1."""
        return self.op("Range", self.whole(0), end, self.whole(1))

    def size(self, x: str, axis: int) -> str:
        """Of an axis, as a whole number without axes."""
        return self.op("Gather", self.op("Shape", x), self.whole(axis))

    def shape(self, *sizes: str | int) -> str:
        """Of numbers known now and numbers known when it runs, for Reshape and Expand."""
        parts = [
            self.ints(part) if isinstance(part, int) else self.op("Unsqueeze", part, self.ints(0))
            for part in sizes
        ]
        return self.op("Concat", *parts, axis=0)

    def ceiling(self, x: str, step: int) -> str:
        """⌈x / step⌉ of whole numbers from 0 up."""
        return self.op("Div", self.op("Add", x, self.whole(step - 1)), self.whole(step))

    def linear(self, x: str, layer: nn.Linear, name: str) -> str:
        weight = self.constant(f"{name}.weight", layer.weight.detach().cpu().numpy().T)
        product = self.op("MatMul", x, weight, name=name)
        return self.op("Add", product, self.constant(f"{name}.bias", layer.bias.detach().cpu().numpy()))

    def norm(self, x: str, layer: nn.LayerNorm, name: str) -> str:
        weight = self.constant(f"{name}.weight", layer.weight.detach().cpu().numpy())
        bias = self.constant(f"{name}.bias", layer.bias.detach().cpu().numpy())
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
    spectrum = graph.op(
        "Conv", graph.op("Unsqueeze", WAVEFORM, graph.ints(1)), kernels, name="logmel.stft", strides=[config.hop]
    )
    bins = config.window // 2 + 1
    # by a sum of squares of slices: Split has two outputs
    parts = [
        graph.op("Slice", spectrum, graph.ints(start), graph.ints(start + bins), graph.ints(1))
        for start in (0, bins)
    ]
    power = graph.op("Add", *(graph.op("Mul", part, part) for part in parts))
    mel = graph.op("MatMul", graph.constant("logmel.filters", mel_matrix(config)), power, name="logmel.mel")
    logarithm = graph.op("Log", graph.op("Add", mel, graph.floats(LOG_OFFSET)))
    x = graph.op("Sub", logarithm, graph.constant("logmel.mean", np.array(config.mean, np.float32)))
    x = graph.op("Div", x, graph.constant("logmel.std", np.array(config.std, np.float32)))
    total = graph.size(x, 2)
    # whole numbers are divided toward zero, and a clip shorter than a window has no frame
    started = graph.op("Add", graph.op("Sub", LENGTHS, graph.whole(config.window)), graph.whole(config.hop))
    counted = graph.op("Div", graph.op("Max", started, graph.whole(0)), graph.whole(config.hop))
    frames = graph.op("Min", counted, total)
    inside = graph.op("Less", graph.range(total), graph.op("Unsqueeze", frames, graph.ints(1, 2)))
    return graph.op("Where", inside, x, graph.floats(0)), frames


def _transformed(graph: _Graph, encoder: Encoder, logmel: str, frames: str) -> tuple[str, str, str]:
    """Frames [batch, T, width] of whole clips; each clip's number of them; T."""
    config = encoder.config
    bands, width = config.bands, config.width
    batch, total = graph.size(logmel, 0), graph.size(logmel, 2)
    steps, own = graph.ceiling(total, PATCH), graph.ceiling(frames, PATCH)
    chunks = graph.ceiling(steps, config.steps)
    size = graph.op("Min", steps, graph.whole(config.steps))  # patches along time of every chunk
    padded = graph.op("Mul", chunks, size)
    missing = graph.op("Sub", graph.op("Mul", padded, graph.whole(PATCH)), total)
    x = graph.op("Pad", logmel, graph.shape(0, 0, 0, 0, 0, missing))
    rows = graph.op("Mul", batch, chunks)
    patches = graph.op("Reshape", x, graph.shape(batch, bands, PATCH, chunks, size, PATCH))
    patches = graph.op("Transpose", patches, perm=[0, 3, 1, 4, 2, 5])
    tokens = graph.op("Mul", size, graph.whole(bands))
    patches = graph.op("Reshape", patches, graph.shape(rows, tokens, PATCH * PATCH))
    positions = encoder.positions.detach().cpu().numpy()
    table = graph.constant(POSITIONS, positions[1:].reshape(bands, config.steps, width))
    table = graph.op("Slice", table, graph.ints(0), graph.op("Unsqueeze", size, graph.ints(0)), graph.ints(1))
    table = graph.op("Reshape", table, graph.shape(tokens, width))
    x = graph.op("Add", graph.linear(patches, encoder.patch_embed, "encoder.patch_embed"), table)
    first = (encoder.cls_token.detach().cpu().numpy() + positions[0])[None, None]
    cls = graph.op("Expand", graph.constant("encoder.cls_token", first), graph.shape(rows, 1, width))
    x = graph.op("Concat", cls, x, axis=1)
    x = _blocks(graph, encoder, x, _scores_mask(graph, own, batch, chunks, size, bands))
    x = graph.op("Slice", x, graph.ints(1), graph.ints(2**31 - 1), graph.ints(1))
    x = graph.op("Reshape", x, graph.shape(batch, chunks, bands, size, width))
    x = graph.op("Transpose", x, perm=[0, 1, 3, 2, 4])
    x = graph.op("Reshape", x, graph.shape(batch, padded, bands * width))
    x = graph.op("Slice", x, graph.ints(0), graph.op("Unsqueeze", steps, graph.ints(0)), graph.ints(1))
    own = graph.op("Expand", own, graph.shape(batch))
    return x, own, steps


def _scores_mask(graph: _Graph, own: str, batch: str, chunks: str, size: str, bands: int) -> str:
    """[batch · chunk, 1, 1, token + 1]: 0 for [CLS] and a clip's own tokens, `MASKED` past its end."""
    inside = graph.op(
        "Less", graph.range(graph.op("Mul", chunks, size)), graph.op("Unsqueeze", own, graph.ints(1))
    )
    mask = graph.op("Where", inside, graph.floats(0), graph.floats(MASKED))
    mask = graph.op("Expand", mask, graph.shape(batch, graph.op("Mul", chunks, size)))
    rows = graph.op("Mul", batch, chunks)
    mask = graph.op("Reshape", mask, graph.shape(rows, 1, 1, 1, size))
    mask = graph.op("Expand", mask, graph.shape(rows, 1, 1, bands, size))
    mask = graph.op("Reshape", mask, graph.shape(rows, 1, 1, -1))
    return graph.op("Pad", mask, graph.ints(0, 0, 0, 1, 0, 0, 0, 0))


def _blocks(graph: _Graph, encoder: Encoder, x: str, mask: str) -> str:
    config, transformer = encoder.config, encoder.transformer
    for number, block in enumerate(transformer.blocks):
        assert isinstance(block, Block)
        name = f"encoder.transformer.blocks.{number}"
        normed = graph.norm(x, block.norm1, f"{name}.norm1")
        x = graph.op("Add", x, _attention(graph, block.attn, config.heads, normed, mask, f"{name}.attn"))
        hidden = graph.norm(x, block.norm2, f"{name}.norm2")
        hidden = graph.op("Gelu", graph.linear(hidden, block.mlp.fc1, f"{name}.mlp.fc1"))
        x = graph.op("Add", x, graph.linear(hidden, block.mlp.fc2, f"{name}.mlp.fc2"))
    return graph.norm(x, transformer.norm, "encoder.transformer.norm")


def _attention(graph: _Graph, attention: Attention, heads: int, x: str, mask: str, name: str) -> str:
    width = attention.proj.in_features
    joint = graph.linear(x, attention.qkv, f"{name}.qkv")

    def part(number: int, axes: list[int]) -> str:
        start, end = graph.ints(number * width), graph.ints((number + 1) * width)
        rows = graph.op("Slice", joint, start, end, graph.ints(2))
        return graph.op("Transpose", graph.op("Reshape", rows, graph.ints(0, 0, heads, width // heads)), perm=axes)

    query = graph.op("Mul", part(0, [0, 2, 1, 3]), graph.floats((width // heads) ** -0.5))
    scores = graph.op("MatMul", query, part(1, [0, 2, 3, 1]), name=f"{name}.scores")
    shares = graph.op("Softmax", graph.op("Add", scores, mask), axis=-1)
    mixed = graph.op("MatMul", shares, part(2, [0, 2, 1, 3]), name=f"{name}.mix")
    mixed = graph.op("Reshape", graph.op("Transpose", mixed, perm=[0, 2, 1, 3]), graph.ints(0, 0, width))
    return graph.linear(mixed, attention.proj, f"{name}.proj")
