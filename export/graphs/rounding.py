"""Emulates graphs of 16-bit numbers on a CPU: the same graph in float32, rounded wherever the hardware rounds.

ONNX Runtime has no bf16 kernels for CPUs, and computes fp16 nodes in float32, so that nothing overflows there.
Accelerators multiply 16-bit numbers, add up in float32, and round a node's output to 16 bits, to infinity where it
is too large. So does this: every 16-bit tensor becomes a float32 one that holds 16-bit numbers. It is for the
verdict only, and many times slower.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from protoclip.contract.errors import ModelError
from protoclip.contract.manifest import Precision

from .onnx_files import data_path

Rounded = Literal["fp16", "bf16"]
MAX_FINITE = {"fp16": 65504.0, "bf16": float(2**127 * (2 - 2**-7))}
_MAX_IN_MEMORY = 2**30


def sixteen_bits(precision: Precision) -> Rounded | None:
    """The 16-bit type in graphs of `precision`: fp16 around the products of fp8; None: there is none."""
    if precision == "fp16" or precision == "bf16":
        return precision
    return "fp16" if precision == "fp8" else None


@dataclass(frozen=True)
class RangeOutput:
    """Names of three scalars that an emulated graph computes of `tensor`, before it is rounded.

    The largest finite absolute value, the sum of finite absolute values, and the sum of the absolute errors of
    rounding that are finite.
    """

    tensor: str
    largest: str
    total: str
    error: str


@contextmanager
def emulated(path: Path, precision: Rounded) -> Iterator[tuple[Path, tuple[RangeOutput, ...]]]:
    """A file with the graph at `path` in float32, rounded to `precision`; it is deleted at the end.

    Its outputs are those of the graph, and those named in the second value, which cost nothing if they are not
    asked for (`only_execute_path_to_fetches`).

    Raises:
        ModelError: an operator whose results' types are not known, so that nobody could say what to round.
    """
    import onnx
    import onnx.external_data_helper

    # Types are inferred without large weights, which a message of 2 GB can't hold.
    model = onnx.shape_inference.infer_shapes(onnx.load(path, load_external_data=False), data_prop=True)
    _check_types(path, model.graph)
    onnx.external_data_helper.load_external_data_for_model(model, str(path.parent))
    outputs = _round_outputs(model, precision)
    num_bytes = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    with tempfile.TemporaryDirectory(prefix="protoclip-") as folder:
        file = Path(folder) / path.name
        onnx.save(
            model,
            file,
            save_as_external_data=num_bytes > _MAX_IN_MEMORY,
            location=data_path(file).name,
            size_threshold=1024,
        )
        yield file, outputs


def infinite_weights(path: Path) -> list[str]:
    """Names of the 16-bit weights of the graph at `path` that hold infinity: numbers too large for 16 bits."""
    import onnx
    from onnx import TensorProto, numpy_helper

    halves = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
    return [
        tensor.name
        for tensor in onnx.load(path).graph.initializer
        if tensor.data_type in halves and np.isinf(numpy_helper.to_array(tensor).astype(np.float32)).any()
    ]


def _check_types(path: Path, graph: Any) -> None:
    typed = {value.name for value in (*graph.value_info, *graph.output) if value.type.tensor_type.elem_type}
    for node in graph.node:
        inside = any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute)
        if inside or any(name and name not in typed for name in node.output):
            kind = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            raise ModelError(
                f"{path.name}: the types behind its operator {kind} are not known, so that its 16 bits can't be "
                "rounded as a GPU rounds them: use a graph of ONNX's own operators, as `protoclip export` writes"
            )


def _round_outputs(model: Any, precision: Rounded) -> tuple[RangeOutput, ...]:
    from onnx import NodeProto, TensorProto, helper

    half = TensorProto.FLOAT16 if precision == "fp16" else TensorProto.BFLOAT16
    graph = model.graph
    halves = {value.name for value in graph.value_info if value.type.tensor_type.elem_type == half}
    for tensor in graph.initializer:
        _widen(tensor, half)
    nodes: list[Any] = []
    ranges: list[RangeOutput] = []
    infinity = "protoclip_infinity"
    for node in graph.node:
        _compute_in_float32(node, half)
        rounded = [name for name in node.output if name in halves]
        for place, name in enumerate(node.output):
            if name in rounded:
                node.output[place] = f"{name}_float32"
        nodes.append(node)
        for name in rounded:
            nodes.append(helper.make_node("Cast", [f"{name}_float32"], [f"{name}_half"], to=half))
            nodes.append(helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT))
            if node.op_type not in _MOVES:
                ranges.append(_measure(name, infinity, nodes))
    kept = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(kept)
    graph.initializer.append(helper.make_tensor(infinity, TensorProto.FLOAT, [], [float("inf")]))
    graph.initializer.append(helper.make_tensor("protoclip_zero", TensorProto.FLOAT, [], [0.0]))
    for each in ranges:
        for scalar in (each.largest, each.total, each.error):
            graph.output.append(helper.make_tensor_value_info(scalar, TensorProto.FLOAT, []))
    return tuple(ranges)


_MOVES = frozenset(
    (
        *("Concat", "Constant", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity"),
        *("Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze", "Where"),
    )
)
"""Operators whose outputs are numbers of their inputs: rounding changes nothing, and there is no new range."""


def _measure(name: str, infinity: str, nodes: list[Any]) -> RangeOutput:
    from onnx import helper

    def add(kind: str, inputs: list[str], what: str) -> str:
        output = f"{name}_range_{what}"
        nodes.append(helper.make_node(kind, inputs, [output]))
        if kind.startswith("Reduce"):
            nodes[-1].attribute.append(helper.make_attribute("keepdims", 0))
        return output

    def finite(values: str, what: str) -> str:
        is_finite = add("Less", [values, infinity], f"{what}_finite")
        return add("Where", [is_finite, values, "protoclip_zero"], f"{what}_kept")

    size = finite(add("Abs", [f"{name}_float32"], "abs"), "abs")
    off = add("Abs", [add("Sub", [f"{name}_float32", name], "off")], "error_abs")
    return RangeOutput(
        name,
        add("ReduceMax", [size], "largest"),
        add("ReduceSum", [size], "total"),
        add("ReduceSum", [finite(off, "error")], "error"),
    )


def _compute_in_float32(node: Any, half: int) -> None:
    from onnx import TensorProto

    for attribute in node.attribute:
        if attribute.name == "to" and attribute.i == half:
            attribute.i = TensorProto.FLOAT
        if attribute.t.data_type == half:
            _widen(attribute.t, half)


def _widen(tensor: Any, half: int) -> None:
    from onnx import numpy_helper

    if tensor.data_type == half:
        values: NDArray[np.float32] = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
