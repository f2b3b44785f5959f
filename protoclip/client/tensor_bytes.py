"""Tensors as bytes, in the format common to the server's gRPC and HTTP protocols.

Numbers are little-endian without padding; an element of type BYTES is a 4-byte length and its bytes. Source:
the binary tensor data extension of the KServe V2 protocol.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from protoclip.contract.errors import ServerError
from protoclip.contract.reasons import unpack_reasons
from protoclip.contract.served_detector import KNOWN, KNOWN_SCORE

from .transport import Answer, Array

EMBEDDING = "embedding"
ERROR = "error"


@dataclass(frozen=True)
class InputTensor:
    """The only input of a request; `datatype` by its name in the protocol, such as UINT8."""

    name: str
    datatype: str
    shape: Sequence[int]
    data: bytes


@dataclass(frozen=True)
class OutputTensor:
    """One output as the server sends it; `datatype` by its name in the protocol, such as FP32."""

    datatype: str
    shape: Sequence[int]
    data: bytes


@runtime_checkable
class TensorTransport(Protocol):
    """A transport to a server whose models can be asked for any of their outputs; errors as of `Transport`."""

    def infer_tensors(
        self, model: str, tensor: InputTensor, outputs: Sequence[str], timeout_s: float | None
    ) -> dict[str, OutputTensor]:
        """The `outputs` of `model`, by name."""


def items_tensor(name: str, items: Sequence[bytes]) -> InputTensor:
    """A BYTES tensor `[n, 1]`."""
    return InputTensor(name, "BYTES", (len(items), 1), pack_bytes(items))


def pack_bytes(items: Sequence[bytes]) -> bytes:
    """The elements of a BYTES tensor."""
    return b"".join(part for item in items for part in (struct.pack("<I", len(item)), item))


def unpack_bytes(data: bytes) -> list[bytes]:
    """The elements of a BYTES tensor; the inverse of `pack_bytes`.

    Raises:
        ValueError: a length points past the end.
    """
    items, place = [], 0
    while place < len(data):
        if place + 4 > len(data):
            raise ValueError("cut off within a length")
        (size,) = struct.unpack_from("<I", data, place)
        place += 4
        if place + size > len(data):
            raise ValueError("cut off within an element")
        items.append(data[place : place + size])
        place += size
    return items


def read_answer(url: str, tensors: Mapping[str, OutputTensor], num_items: int) -> Answer:
    """Makes an Answer of the output tensors, given by name; those of a detector may be missing.

    Raises:
        ServerError: an output is missing, or its size doesn't fit `num_items`.
    """
    try:
        vectors = tensors[EMBEDDING]
        embeddings = np.frombuffer(vectors.data, dtype="<f4").reshape(tuple(vectors.shape))
        errors = _reasons(tensors[ERROR])
        known, scores = _judged(tensors, num_items) if KNOWN in tensors else (None, None)
    except (KeyError, ValueError) as error:
        raise ServerError(f"{url}: the answer is not one of a ProtoCLIP model: {error}") from error
    if embeddings.ndim != 2 or len(embeddings) != num_items or len(errors) != num_items:
        raise ServerError(
            f"{url}: {num_items} items were sent, and {len(errors)} came back: is it a ProtoCLIP model?"
        )
    return Answer(embeddings.astype(np.float32), errors, known, scores)


def _judged(tensors: Mapping[str, OutputTensor], num_items: int) -> tuple[NDArray[np.bool_], Array]:
    for name, datatype in ((KNOWN, "BOOL"), (KNOWN_SCORE, "FP32")):
        if tensors[name].datatype != datatype:
            raise ValueError(f"{name} is {tensors[name].datatype} in the place of {datatype}")
    known = np.frombuffer(tensors[KNOWN].data, dtype=np.bool_).reshape(num_items)
    return known, np.frombuffer(tensors[KNOWN_SCORE].data, dtype="<f4").reshape(num_items).astype(np.float32)


def _reasons(tensor: OutputTensor) -> tuple[str, ...]:
    if tensor.datatype == "BYTES":
        # Repositories of earlier versions: one string for each item.
        return tuple(item.decode("utf-8", "replace") for item in unpack_bytes(tensor.data))
    if tensor.datatype != "UINT8" or len(tensor.shape) != 2:
        raise ValueError(f"{ERROR} is {tensor.datatype} {list(tensor.shape)}, which this version does not know")
    return unpack_reasons(np.frombuffer(tensor.data, dtype=np.uint8).reshape(tuple(tensor.shape)))
