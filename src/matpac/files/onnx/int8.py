"""8-bit matrices for the network's linear layers: smoothed, then rounded by ONNX Runtime's quantiser.

Weights are rounded per output channel (signed), activations to 0 … 255 with one scale per tensor, from the sound
at hand. Everything else stays float32: front-end, norms, attention's own products, GELU, head.

A token's activations share one scale, so a channel a hundred times louder than the others leaves them few levels.
Dividing such a channel in the norm's weights and multiplying it in the columns of the matrix that follows computes
the same function and moves the difficulty into the weights (SmoothQuant, arXiv 2211.10438).
"""

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from matpac.errors import MatpacError
from matpac.files.onnx.files import INSTALL, library
from matpac.model.embedder import Embedder
from matpac.model.vit import Block

STRENGTH = 0.5
"""Share of the difficulty that goes to the weights (SmoothQuant's α; its authors' default, 0.7 does no better)."""

SMALLEST = 1e-5
"""Below this a channel counts as silent, or a column as empty (SmoothQuant's published code)."""


def smoothed(embedder: Embedder, sounds: Sequence[Float[np.ndarray, " _"]]) -> Embedder:
    """A copy that computes the same, with channels of similar size before every matrix that follows a norm.

    Args:
        embedder: is not changed.
        sounds: at the encoder's rate; the largest value of every channel is measured on them.

    Raises:
        AudioError: a sound is too short for a frame.
    """
    copy = deepcopy(embedder).to("cpu")
    pairs: list[tuple[nn.LayerNorm, nn.Linear]] = []  # every norm with the one matrix that takes its output
    for block in copy.encoder.transformer.blocks:
        assert isinstance(block, Block)
        pairs += [(block.norm1, block.attn.qkv), (block.norm2, block.mlp.fc1)]
    largest: dict[nn.Module, Tensor] = {norm: torch.zeros(norm.weight.shape) for norm, _ in pairs}

    def measure(norm: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        torch.maximum(largest[norm], output.abs().flatten(0, -2).amax(0), out=largest[norm])

    handles = [norm.register_forward_hook(measure) for norm in largest]
    copy.scene(list(sounds), copy.sample_rate)
    for handle in handles:
        handle.remove()
    for norm, linear in pairs:
        weight = linear.weight.abs().amax(0).clamp(min=SMALLEST)
        scale = largest[norm].clamp(min=SMALLEST) ** STRENGTH / weight ** (1 - STRENGTH)
        norm.weight.div_(scale)
        norm.bias.div_(scale)
        linear.weight.mul_(scale)
    return copy


def linear_layers(model: Any) -> tuple[str, ...]:
    """Names of a graph's linear layers, in order: the network's products with a matrix of weights."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return tuple(
        node.name
        for node in model.graph.node
        if node.op_type == "MatMul" and node.name.startswith("encoder.") and node.input[1] in weights
    )


def quantised(model: Any) -> Any:
    """A copy of an `onnx.ModelProto` by `network_graph` with its linear layers in 8 bits.

    Raises:
        MatpacError: onnxruntime's quantiser is missing.
    """
    try:
        from onnxruntime import quantization
    except ImportError as error:
        raise MatpacError(f"8-bit files need onnxruntime's quantiser ({error}); {INSTALL}") from error
    with tempfile.TemporaryDirectory(prefix="matpac-") as folder, _quiet():
        source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        library("onnx").save(model, source)
        quantization.quantize_dynamic(
            source,
            target,
            op_types_to_quantize=["MatMul"],
            nodes_to_quantize=list(linear_layers(model)),
            per_channel=True,
            # weights in 7 of the 8 bits: processors without VNNI add products of u8 and s8 in pairs to 16 bits,
            # which overflow with 8 (ONNX Runtime's page on quantisation), and a file runs on any processor
            reduce_range=True,
            weight_type=quantization.QuantType.QInt8,
        )
        return library("onnx").load(target)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the quantiser's log, which goes through the root logger and would configure it for good."""
    handler, before = logging.NullHandler(), logging.root.manager.disable
    logging.root.addHandler(handler)
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
        logging.root.removeHandler(handler)
