"""The transport to a server: one method for inference, and two that list and describe its models.

`n` items in a request, `D` embedding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Vector: TypeAlias = np.ndarray[tuple[int], np.dtype[np.float32]]
Matrix: TypeAlias = np.ndarray[tuple[int, int], np.dtype[np.float32]]


@dataclass(frozen=True)
class Answer:
    """The server's answer to one request.

    Attributes:
        embeddings: `[n, D]`; rows of unit norm where the item was good, undefined where it was bad.
        errors: `[n]`; empty for a good item, else what is wrong with it.
        known: `[n]`, where the model's detector was asked: which pictures are of known kinds; False for bad ones.
        known_scores: `[n]` float32, the detector's; NaN for bad ones.
    """

    embeddings: Array
    errors: tuple[str, ...]
    known: NDArray[np.bool_] | None = None
    known_scores: Array | None = None


@dataclass(frozen=True)
class ModelConfig:
    """A served model's configuration."""

    name: str
    max_batch_size: int
    parameters: Mapping[str, str]


class Transport(Protocol):
    """A transport to a server. All methods may be called from several threads at once.

    `timeout_s` bounds the whole call; None waits for ever. No method retries a request.
    A server that starts or stops is Unavailable, whatever it says of its models.
    Every method raises Unavailable, DeadlineExceeded, ModelNotFound, Refused, or ServerError for an answer
    that isn't understood.
    """

    url: str

    def infer(self, model: str, input_name: str, items: Sequence[bytes], timeout_s: float | None) -> Answer:
        """Sends `items` to `model` in one request.

        Raises:
            Refused: among others, the request's only item is bad; the reason says why.
        """

    def ready_models(self, timeout_s: float | None) -> list[str]:
        """Names of the models that are ready."""

    def model_config(self, model: str, timeout_s: float | None) -> ModelConfig:
        """The configuration of `model`."""

    def close(self) -> None:
        """Ends all connections; running requests fail."""


def host_and_port(host: str, port: int) -> str:
    """`host:port`, with an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
