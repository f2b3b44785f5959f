"""Tensors as bytes, in the format common to the server's gRPC and HTTP protocols.

Numbers are little-endian without padding; an element of type BYTES is a 4-byte length and its bytes. Source:
the binary tensor data extension of the KServe V2 protocol.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

from protoclip.contract.errors import ServerError

from .transport import Answer

EMBEDDING = "embedding"
ERROR = "error"


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


def read_answer(url: str, tensors: dict[str, tuple[Sequence[int], bytes]], num_items: int) -> Answer:
    """Makes an Answer of the output tensors, given as shape and bytes by name.

    Raises:
        ServerError: an output is missing, or its size doesn't fit `num_items`.
    """
    try:
        shape, data = tensors[EMBEDDING]
        embeddings = np.frombuffer(data, dtype="<f4").reshape(tuple(shape))
        errors = tuple(item.decode("utf-8", "replace") for item in unpack_bytes(tensors[ERROR][1]))
    except (KeyError, ValueError) as error:
        raise ServerError(f"{url}: the answer is not one of a ProtoCLIP model: {error}") from error
    if embeddings.ndim != 2 or len(embeddings) != num_items or len(errors) != num_items:
        raise ServerError(
            f"{url}: {num_items} items were sent, and {len(errors)} came back: is it a ProtoCLIP model?"
        )
    return Answer(embeddings.astype(np.float32), errors)
