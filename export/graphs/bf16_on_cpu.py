"""Emulates bf16 graphs on a CPU, where ONNX Runtime has no bf16 kernels: the same graph with bf16 rounding.

Accelerators multiply bf16 numbers, accumulate in float32, and round a node's output to bf16. So does this: every
bf16 tensor becomes a float32 one that holds bf16 numbers. It is for the verdict only, and many times slower.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def emulated_bf16(path: Path) -> bytes:
    """The graph at `path` with float32 instead of bf16, serialized; below 2 GB only.

    Raises:
        ValueError: the graph is larger.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.shape_inference.infer_shapes(onnx.load(path), data_prop=True)
    halves = {v.name for v in model.graph.value_info if v.type.tensor_type.elem_type == TensorProto.BFLOAT16}
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.BFLOAT16:
            values = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    nodes: list[Any] = []
    for node in model.graph.node:
        rounded = [name for name in node.output if name in halves]
        _compute_in_float32(node, TensorProto)
        for name in rounded:
            node.output[list(node.output).index(name)] = f"{name}_float32"
        nodes.append(node)
        for name in rounded:
            nodes.append(helper.make_node("Cast", [f"{name}_float32"], [f"{name}_bf16"], to=TensorProto.BFLOAT16))
            nodes.append(helper.make_node("Cast", [f"{name}_bf16"], [name], to=TensorProto.FLOAT))
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:], model.graph.value_info[:]
    model.graph.node.extend(kept)
    if model.ByteSize() >= 2**31:
        raise ValueError(f"{path.name}: too large to be rounded in memory")
    data: bytes = model.SerializeToString()
    return data


def _compute_in_float32(node: Any, types: Any) -> None:
    for attribute in node.attribute:
        if attribute.name == "to" and attribute.i == types.BFLOAT16:
            attribute.i = types.FLOAT
        if attribute.t.data_type == types.BFLOAT16:
            raise ValueError(f"node {node.name}: a bf16 constant in a node can't be rounded")
