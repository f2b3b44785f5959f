"""Half precision, by ModelOpt's AutoCast: weights and products in 16 bits, sensitive operators in 32.

Two kinds of graph are avoided: at bf16, operators for which ONNX Runtime has no CUDA kernel, so that no GPU could
run the graph; and a Transpose before a MatMul, of which its CPU provider dies at its default level.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .rounding import MAX_FINITE, Rounded
from .tool_output import suppress_tool_output

FLOAT32_OPS = ("Softmax", "LayerNormalization", "Exp", "Pow", "ReduceL2", "Clip", "Div", "Expand", "Sub")
"""Softmax and LayerNorm, and the division by the norm at the end of both encoders (ReduceL2, Clip, Expand, Div):
their sums and exponentials exceed the range of half precision. Pow and Exp: parts of GELU and of scores. Sub: of
the pixels' mean, whose rounding would be in every picture."""

BF16_OPS = frozenset(
    (
        *("Add", "Cast", "Concat", "Conv", "Erf", "Flatten", "Gather", "GatherElements", "GatherND"),
        *("Gelu", "Gemm", "Identity", "MatMul", "Max", "Min", "Mul", "Neg", "ReduceSum", "Relu"),
        *("Reshape", "Shape", "Sigmoid", "Slice", "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Tanh"),
        *("Tile", "Transpose", "Unsqueeze", "Where"),
    )
)
"""What ONNX Runtime's CUDA provider computes in bf16 (its docs/OperatorKernels.md): no mean, no pooling, no norm.
Every other operator of a bf16 graph stays in float32."""

MASK = -(2.0**14)
"""What stands for minus infinity in masks: exact in 16 bits, exp(MASK) is 0, and a score can be added to it."""


def write_half_precision(source: Path, target: Path, precision: Rounded) -> None:
    """Writes the float32 graph `source` to `target` in fp16 (opset 19 or above) or bf16 (22).

    Input and output keep their types. A weight too large for 16 bits becomes infinite, as in torch.
    ModelOpt's exceptions pass through.
    """
    import onnx

    model = onnx.load(source)
    fill_masks(model.graph)
    with suppress_tool_output():
        from modelopt.onnx.autocast import convert_to_f16

        half = convert_to_f16(
            model,
            low_precision_type=precision,
            keep_io_types=True,
            op_block_list=sorted(float32_ops(model.graph, precision)),
        )
    _overflow(half.graph, precision)
    transpose_after_products(half.graph)
    onnx.save(half, target, save_as_external_data=True, location=f"{target.name}.half", size_threshold=2**20)


def float32_ops(graph: Any, precision: Rounded) -> set[str]:
    """The operators of `graph` that stay in float32."""
    kinds = {node.op_type for node in graph.node}
    return {*FLOAT32_OPS, *(kinds - BF16_OPS if precision == "bf16" else ())}


def fill_masks(graph: Any) -> None:
    """Writes `MASK` for minus infinity in constants, in place: the tool would write the lowest half, which the
    addition of a score takes to infinity."""
    from onnx import TensorProto, numpy_helper

    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        if np.isneginf(values).any():
            filled = np.where(np.isneginf(values), np.float32(MASK), values)
            tensor.CopyFrom(numpy_helper.from_array(filled, tensor.name))


def transpose_after_products(graph: Any) -> None:
    """Moves a Transpose that keeps the last axis behind the product with a matrix `[K, N]` that follows it.

    Equal row by row. ONNX Runtime 1.31 fuses the two and dies of it where they are fp16.
    """
    from onnx import helper

    matrices = {tensor.name for tensor in graph.initializer if len(tensor.dims) == 2}
    matrices |= {value.name for value in graph.value_info if len(value.type.tensor_type.shape.dim) == 2}
    makers = {node.output[0]: node for node in graph.node if node.op_type == "Transpose"}
    nodes: list[Any] = []
    for node in graph.node:
        nodes.append(node)
        before = makers.get(node.input[0]) if node.op_type == "MatMul" and node.input[1] in matrices else None
        order = [] if before is None else list(helper.get_node_attr_value(before, "perm"))
        if before is None or order[-1] != len(order) - 1:
            continue
        output, product = node.output[0], f"{node.output[0]}_before_transpose"
        node.input[0], node.output[0] = before.input[0], product
        nodes.append(helper.make_node("Transpose", [product], [output], name=f"{node.name}_transpose", perm=order))
    read = {name for node in nodes for name in node.input} | {value.name for value in graph.output}
    kept = [type(node).FromString(node.SerializeToString()) for node in nodes if read & set(node.output)]
    del graph.node[:]
    graph.node.extend(kept)


def _overflow(graph: Any, precision: Rounded) -> None:
    # The tool writes the largest number for one that is too large, without a word that reaches the user.
    from onnx import TensorProto, numpy_helper

    if precision != "fp16":
        return
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT16:
            continue
        values = numpy_helper.to_array(tensor)
        too_large = np.abs(values) == MAX_FINITE["fp16"]
        if too_large.any():
            infinite = np.where(too_large, np.copysign(np.float16("inf"), values), values)
            tensor.CopyFrom(numpy_helper.from_array(infinite.astype(np.float16), tensor.name))
