"""Vectors that know which model made them."""

from __future__ import annotations

from typing import Any

import numpy as np

from .transport import Array


class ModelVectors(np.ndarray[Any, np.dtype[np.float32]]):
    """An array that knows which model made it, in all that NumPy makes of it by slicing and arithmetic.

    Attributes:
        fingerprint: of the model; empty where it isn't known.
    """

    fingerprint: str = ""

    def __array_finalize__(self, source: object) -> None:
        self.fingerprint = getattr(source, "fingerprint", "")

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        # A sum is a number and a comparison truth values, as they are of any array: neither is a vector.
        if array.ndim == 0 or array.dtype.kind != "f":
            return np.asarray(array)[()] if array.ndim == 0 else np.asarray(array)
        return of_model(np.asarray(array), self.fingerprint)

    def __reduce__(self) -> Any:
        # A copy in another process is an array like any other.
        return np.asarray(self).__reduce__()


def of_model(vectors: Array, fingerprint: str) -> ModelVectors:
    """The same numbers, with the model that made them."""
    known = vectors.view(ModelVectors)
    known.fingerprint = fingerprint
    return known


def vectors_model(vectors: object) -> str:
    """Fingerprint of the model that made `vectors`; empty where it isn't known."""
    found = getattr(vectors, "fingerprint", "")
    return found if isinstance(found, str) else ""
