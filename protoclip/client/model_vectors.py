"""Vectors that know which model made them, and are not mixed with another's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from protoclip.contract.errors import ConfigError

from .transport import Array

# Whether two models agree may be asked; what comes out is no vector.
_COMPARISONS = {
    np.equal,
    np.not_equal,
    np.less,
    np.less_equal,
    np.greater,
    np.greater_equal,
    np.allclose,
    np.isclose,
    np.array_equal,
    np.array_equiv,
}


class ModelVectors(np.ndarray[Any, np.dtype[np.float32]]):
    """An array that knows which model made it, in all that NumPy makes of it by slicing, arithmetic and joining.

    Arithmetic on vectors of two models, or joining them, raises ConfigError; `np.asarray` makes an array like any
    other of them, and so does a list.

    Attributes:
        fingerprint: of the model; empty where it isn't known.
    """

    fingerprint: str = ""

    def __array_finalize__(self, source: object) -> None:
        self.fingerprint = getattr(source, "fingerprint", "")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        fingerprint = _common_model(ufunc, (inputs, options))
        result = getattr(ufunc, method)(
            *map(_plain, inputs), **{name: _plain(one) for name, one in options.items()}
        )
        out = options.get("out", ())
        if any(isinstance(one, ModelVectors) for one in out):
            for one in out:
                if isinstance(one, ModelVectors):
                    one.fingerprint = fingerprint
            return out[0] if len(out) == 1 else out
        return (
            tuple(_made(one, fingerprint) for one in result)
            if isinstance(result, tuple)
            else _made(result, fingerprint)
        )

    def __array_function__(self, func: Callable[..., Any], types: Iterable[type], args: Any, kwargs: Any) -> Any:
        fingerprint = _common_model(func, (args, kwargs))
        return _made(func(*_plain(args), **_plain(kwargs)), fingerprint)

    def dot(self, other: Any, out: Any = None) -> Any:
        """As `np.dot`, which the method of the same name goes past."""
        return np.dot(self, other, out)

    def __reduce__(self) -> Any:
        # A copy in another process is an array like any other.
        return np.asarray(self).__reduce__()


def _common_model(function: object, given: object) -> str:
    found = sorted({one for one in _models_in(given) if one})
    if len(found) > 1 and function not in _COMPARISONS:
        raise ConfigError(
            f"vectors of two models meet, {found[0]} and {found[1]}, and can't be compared: embed all with one; "
            "np.asarray(vectors) is an array that knows no model"
        )
    return found[0] if found else ""


def _models_in(given: object) -> Iterator[str]:
    if isinstance(given, ModelVectors):
        yield given.fingerprint
    elif isinstance(given, list | tuple):
        for one in given:
            yield from _models_in(one)
    elif isinstance(given, Mapping):
        yield from _models_in(list(given.values()))


def _plain(given: Any) -> Any:
    if isinstance(given, ModelVectors):
        return given.view(np.ndarray)
    if type(given) in (list, tuple):
        return type(given)(map(_plain, given))
    return {name: _plain(one) for name, one in given.items()} if type(given) is dict else given


def _made(result: Any, fingerprint: str) -> Any:
    """A sum is a number and a comparison truth values, as they are of any array: neither is a vector."""
    if type(result) is np.ndarray and result.ndim and result.dtype.kind == "f":
        return of_model(result, fingerprint)
    return result


def of_model(vectors: Array, fingerprint: str) -> ModelVectors:
    """The same numbers, with the model that made them."""
    known = vectors.view(ModelVectors)
    known.fingerprint = fingerprint
    return known


def vectors_model(vectors: object) -> str:
    """Fingerprint of the model that made `vectors`; empty where it isn't known."""
    found = getattr(vectors, "fingerprint", "")
    return found if isinstance(found, str) else ""
