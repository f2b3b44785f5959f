"""Requests and answers of inference over HTTP: a JSON part, and tensors as bytes after it."""

from __future__ import annotations

from typing import Any

from .priority import current_priority
from .tensor_bytes import EMBEDDING, ERROR, OutputTensor


def infer_header(input_name: str, num_items: int, num_bytes: int) -> dict[str, Any]:
    """The JSON part of a request whose only input follows in `num_bytes` bytes."""
    parameters = {"binary_data_size": num_bytes}
    tensor = {"name": input_name, "shape": [num_items, 1], "datatype": "BYTES", "parameters": parameters}
    outputs = [{"name": name, "parameters": {"binary_data": True}} for name in (EMBEDDING, ERROR)]
    return {"parameters": {"priority": current_priority()}, "inputs": [tensor], "outputs": outputs}


def split_outputs(header: dict[str, Any], data: bytes) -> dict[str, OutputTensor]:
    """The outputs of an answer, by its JSON part and the bytes after it.

    Raises:
        KeyError, TypeError: it is none of Triton's.
    """
    tensors, place = {}, 0
    for output in header["outputs"]:
        size = output["parameters"]["binary_data_size"]
        tensors[output["name"]] = OutputTensor(output["datatype"], output["shape"], data[place : place + size])
        place += size
    return tensors
