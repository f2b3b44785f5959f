"""Requests and answers of inference over HTTP: a JSON part, and tensors as bytes after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .priority import current_priority
from .tensor_bytes import InputTensor, OutputTensor


def infer_header(tensor: InputTensor, outputs: Sequence[str]) -> dict[str, Any]:
    """The JSON part of a request whose only input is `tensor`, the bytes of which follow."""
    described = {
        "name": tensor.name,
        "shape": list(tensor.shape),
        "datatype": tensor.datatype,
        "parameters": {"binary_data_size": len(tensor.data)},
    }
    wanted = [{"name": name, "parameters": {"binary_data": True}} for name in outputs]
    return {"parameters": {"priority": current_priority()}, "inputs": [described], "outputs": wanted}


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
