"""8-bit matrices for the network's linear layers, by ONNX Runtime's quantiser.

Weights are rounded per output channel (signed), activations to 0 … 255 with one scale a tensor: that of the sound
at hand (dynamic), or one for good, measured on given sounds (static). Everything else stays float32: front-end,
norms, attention's own products, GELU, head.
"""

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from matpac.errors import MatpacError
from matpac.files.onnx.files import INSTALL, onnx_library, runtime_library
from matpac.files.onnx.graph import WAVEFORM

Int8 = Literal["dynamic", "static"]

WARNINGS, ERRORS = 2, 3
"""Levels of ONNX Runtime's log; the first is its default."""


@dataclass(frozen=True)
class Quantised:
    """A graph with 8-bit matrices.

    Args:
        model: `onnx.ModelProto`.
        layers: names of the linear layers in 8 bits.
        kept: names of those that stayed float32.
    """

    model: Any
    layers: tuple[str, ...]
    kept: tuple[str, ...]


def quantise(
    model: Any, int8: Int8, sounds: Sequence[Float[np.ndarray, " _"]] = (), keep_float: Sequence[str] = ()
) -> Quantised:
    """Round the linear layers of a graph by `network_graph`.

    Args:
        model: `onnx.ModelProto`, not changed.
        int8: see above.
        sounds: at the encoder's rate and at most a chunk long, for static ranges.
        keep_float: names or patterns (`*.mlp.fc2`, `*.blocks.11.*`) of layers to leave as they are.

    Raises:
        MatpacError: static without sounds, a pattern that fits no layer, nothing left to round, or onnxruntime's
            quantiser is missing.
    """
    if int8 == "static" and not sounds:
        raise MatpacError(
            "static int8 fixes the ranges of activations on sounds: give some like yours (--calibrate)"
        )
    names = linear_layers(model)
    for pattern in keep_float:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise MatpacError(f"--keep-float {pattern}: fits no layer; there are {', '.join(names[:5])}, …")
    kept = [name for name in names if any(fnmatchcase(name, pattern) for pattern in keep_float)]
    layers = [name for name in names if name not in kept]
    if not layers:
        raise MatpacError(
            f"--keep-float {' '.join(keep_float)}: leaves nothing to round to 8 bits; export float32"
        )
    with tempfile.TemporaryDirectory(prefix="matpac-") as folder, _quiet():
        source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        onnx_library().save(model, source)
        _round(source, target, int8, sounds, layers)
        return Quantised(onnx_library().load(target), tuple(layers), tuple(kept))


def linear_layers(model: Any) -> list[str]:
    """Names of the network's linear layers, in order: products with a matrix of weights."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [
        node.name
        for node in model.graph.node
        if node.op_type == "MatMul" and node.name.startswith("encoder.") and node.input[1] in weights
    ]


def _round(source: Path, target: Path, int8: Int8, sounds: Sequence[np.ndarray], layers: list[str]) -> None:
    try:
        from onnxruntime import quantization
    except ImportError as error:
        raise MatpacError(f"8-bit files need onnxruntime's quantiser ({error}); {INSTALL}") from error
    # weights in 7 of the 8 bits: processors without VNNI add products of u8 and s8 in pairs to 16 bits, which
    # overflow with 8 (ONNX Runtime's page on quantisation), and a file goes to processors that are not known
    what = {
        "op_types_to_quantize": ["MatMul"],
        "nodes_to_quantize": layers,
        "per_channel": True,
        "reduce_range": True,
    }
    if int8 == "dynamic":
        quantization.quantize_dynamic(source, target, weight_type=quantization.QuantType.QInt8, **what)
        return

    class Sounds(quantization.CalibrationDataReader):
        """One sound after the other, alone: the ranges of a batch are those of its members."""

        def __init__(self) -> None:
            self._left = iter(sounds)

        def get_next(self) -> dict[str, np.ndarray] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
            sound = next(self._left, None)
            return None if sound is None else {WAVEFORM: sound[None].astype(np.float32)}

    quantization.quantize_static(
        source,
        target,
        Sounds(),
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        # rounding what comes out of a layer too costs exactness and gains nothing: float32 follows
        extra_options={"OpTypesToExcludeOutputQuantization": ["MatMul"]},
        **what,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the quantiser's log, which goes through the root logger and would set it up for good."""
    handler, before = logging.NullHandler(), logging.root.manager.disable
    logging.root.addHandler(handler)
    logging.disable(logging.WARNING)
    runtime_library().set_default_logger_severity(ERRORS)  # of the session that it makes for static ranges
    try:
        yield
    finally:
        runtime_library().set_default_logger_severity(WARNINGS)
        logging.disable(before)
        logging.root.removeHandler(handler)
