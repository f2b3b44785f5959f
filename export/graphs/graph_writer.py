"""Writes an ONNX graph node by node. `B` rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Tensors = Mapping[str, tuple[Any, int]]
"""By name: the element's NumPy type, and how many a row has."""


class GraphWriter:
    """Nodes and constants of one graph; every method returns the name of what it made."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def constant(self, array: NDArray[Any]) -> str:
        """A tensor of the graph."""
        from onnx import numpy_helper

        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, operator: str, *inputs: str, output: str = "", num_outputs: int = 1, **attributes: Any) -> str:
        """The first output of an operator, called `output` where that is given."""
        from onnx import helper

        name = output or f"{operator}_{len(self._nodes)}"
        others = [f"{name}_{place}" for place in range(1, num_outputs)]
        self._nodes.append(helper.make_node(operator, list(inputs), [name, *others], **attributes))
        return name

    def reduce(self, operator: str, values: str) -> str:
        """Of each row of `[B, K]`: `[B, 1]`."""
        return self.node(operator, values, self.constant(np.array([1])), keepdims=1)

    def float32(self, values: str) -> str:
        """The same in another type."""
        return self._cast(values, np.float32)

    def float64(self, values: str) -> str:
        """The same in another type."""
        return self._cast(values, np.float64)

    def int32(self, values: str) -> str:
        """The same in another type."""
        return self._cast(values, np.int32)

    def model(self, *, inputs: Tensors, outputs: Tensors, opset: int, ir_version: int) -> Any:
        """The whole as ONNX's ModelProto."""
        from onnx import helper

        graph = helper.make_graph(
            self._nodes, "protoclip", _described(inputs), _described(outputs), self._constants
        )
        opsets = [helper.make_opsetid("", opset)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=ir_version, producer_name="protoclip")

    def _cast(self, values: str, kind: Any) -> str:
        from onnx import helper

        return self.node("Cast", values, to=helper.np_dtype_to_tensor_dtype(np.dtype(kind)))


def _described(tensors: Tensors) -> list[Any]:
    from onnx import helper

    return [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(kind)), ["B", size])
        for name, (kind, size) in tensors.items()
    ]
