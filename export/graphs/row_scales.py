"""Dynamic int8 whose rows do not depend on one another: a scale for each row of activations, not for the batch.

ONNX Runtime's quantizer takes one scale and zero point from all of a tensor, so that an embedding changes with the
other items of its batch. Shapes: `[..., K]` a product's left side, whose last axis is summed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

_LEVELS = 127.0
# Rows of zeros: any scale is right for them, and none may be infinite.
_LEAST = 1e-30
_CENTRE = "row_scales_centre"
_CONSTANTS: dict[str, Any] = {
    _CENTRE: np.uint8(128),
    "row_scales_levels": np.float32(_LEVELS),
    "row_scales_least": np.float32(_LEAST),
    "row_scales_one": np.float32(1),
    "row_scales_axis": np.array([-1], dtype=np.int64),
}


def scale_rows(model: Any) -> None:
    """Gives each row of every dynamically quantized left side `[..., K]` a scale of its own, in place.

    Rows become symmetric unsigned bytes around 128. Weights must be quantized already, by matrix or by column.

    Raises:
        ValueError: a graph that `onnxruntime.quantization.quantize_dynamic` did not write.
    """
    from onnx import NodeProto, helper, numpy_helper

    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    largest: dict[str, str] = {}
    centres: set[str] = set()
    nodes: list[Any] = []
    added: list[Any] = []
    for node in graph.node:
        if node.op_type == "DynamicQuantizeLinear":
            quantized, scale, zero_point = node.output
            largest[scale] = f"{quantized}_largest"
            centres.add(zero_point)
            nodes += _quantize(helper.make_node, node.input[0], quantized, largest[scale])
        elif node.op_type == "Mul" and node.input[0] in largest:
            if (tensor := weights.get(node.input[1])) is None:
                raise ValueError(f"node {node.name}: the weights' scale is no constant")
            inverse = (_LEVELS / numpy_helper.to_array(tensor)).astype(np.float32)
            added.append(numpy_helper.from_array(inverse, f"{node.output[0]}_inverse"))
            # largest / (127 / weights' scale), and not (largest / 127) x the weights' scale: ONNX Runtime fuses a
            # product of two scales and an integer product, and takes the first row's scale for all rows (seen
            # in 1.31: centred cosine 0.957 for 0.998).
            nodes.append(helper.make_node("Div", [largest[node.input[0]], added[-1].name], list(node.output)))
        else:
            nodes.append(node)
    for node in nodes:
        _rename(node, centres)
    kept = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(kept)
    if largest:
        constants = [numpy_helper.from_array(np.asarray(value), name) for name, value in _CONSTANTS.items()]
        graph.initializer.extend([*constants, *added])


def _quantize(make: Callable[..., Any], source: str, quantized: str, largest: str) -> Iterator[Any]:
    names = [f"{quantized}_{part}" for part in ("absolute", "found", "inverse", "scaled")]
    yield make("Abs", [source], [names[0]])
    yield make("ReduceMax", [names[0], "row_scales_axis"], [names[1]], keepdims=1)
    yield make("Max", [names[1], "row_scales_least"], [largest])
    yield make("Div", ["row_scales_levels", largest], [names[2]])
    yield make("Mul", [source, names[2]], [names[3]])
    yield make("QuantizeLinear", [names[3], "row_scales_one", _CENTRE], [quantized])


def _rename(node: Any, centres: set[str]) -> None:
    for place, name in enumerate(node.input):
        if name in centres:
            node.input[place] = _CENTRE
