"""An image encoder's graph with the input of other programs: pictures that the caller has normalised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx

from export.graphs.onnx_files import save_onnx
from protoclip.contract.errors import ModelError

# How `ImageEncoder` begins: float, channels first, divided by 255, mean taken off, divided by the deviation.
_NORMALISING = ("Cast", "Transpose", "Div", "Sub", "Div")


def take_normalised(source: Path, target: Path, name: str, size: tuple[int, int], max_embedded_bytes: int) -> None:
    """Copies an image encoder, without its normalisation: float32 `[B, 3, H, W]`, called `name`, for uint8 pixels.

    Raises:
        ModelError: the graph doesn't begin as ours do.
    """
    model = onnx.load(source)
    pixels = model.graph.input[0]
    chain = _chain(model.graph, pixels.name)
    normalised = chain[-1].output[0]
    for node in chain:
        model.graph.node.remove(node)
    # A node that asks for the batch's size is left, and finds it in the first dimension of both.
    _rename(model.graph, {normalised: name, pixels.name: name})
    batch = pixels.type.tensor_type.shape.dim[0].dim_param or "batch"
    new = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [batch, 3, *size])
    model.graph.input[0].CopyFrom(new)
    save_onnx(model, target, max_embedded_bytes)


def rename_input(source: Path, target: Path, name: str, max_embedded_bytes: int) -> None:
    """Copies an encoder whose input is called `name` in the copy."""
    model = onnx.load(source)
    old = model.graph.input[0].name
    _rename(model.graph, {old: name})
    model.graph.input[0].name = name
    save_onnx(model, target, max_embedded_bytes)


def _chain(graph: Any, start: str) -> list[Any]:
    found, value = [], start
    for kind in _NORMALISING:
        users = [node for node in graph.node if value in node.input and node.op_type != "Shape"]
        if len(users) != 1 or users[0].op_type != kind:
            raise ModelError(f"the image encoder's graph doesn't begin with {', '.join(_NORMALISING)}, as ours do")
        found.append(users[0])
        value = users[0].output[0]
    return found


def _rename(graph: Any, names: dict[str, str]) -> None:
    for node in graph.node:
        for index, value in enumerate(node.input):
            node.input[index] = names.get(value, value)
