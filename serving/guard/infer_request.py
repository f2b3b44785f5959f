"""The JSON part of a request, read by known names and written anew.

Written anew, because two parsers may read one text differently (a repeated key, say): what Triton reads is what
was checked here. Triton 2.51 ends at some 100,000 nested brackets; the parser here stops at a thousand.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from http import HTTPStatus
from itertools import chain
from typing import Any

from .refusal import Refusal

Check = Callable[[Any, str], Any]

MAX_CHARACTERS = 256
"""Of names and ids."""
MAX_TENSORS = 8
MAX_DIMENSIONS = 8
MAX_NUMBER = 2**31 - 1
"""Triton 2.51 cuts longer numbers of items to 32 bits."""
DATA_DEPTH = 6
DATATYPES = frozenset(
    (
        "BOOL",
        "UINT8",
        "UINT16",
        "UINT32",
        "UINT64",
        "INT8",
        "INT16",
        "INT32",
        "INT64",
        "FP16",
        "FP32",
        "FP64",
        "BYTES",
    )
)


def check_infer(text: bytes, binary_bytes: int, max_batch_size: int) -> bytes:
    """The JSON part to pass on for the one that came.

    Args:
        text: JSON part; the binary part that follows it has `binary_bytes`.
        max_batch_size: most items that the model takes.

    Raises:
        Refusal: 400, with the field that is wrong.
    """
    request = _object(_parse(text), "the request", _REQUEST)
    if not request.get("inputs"):
        raise _bad("inputs is missing: it lists the model's tensors")
    sizes = sum(_binary_size(tensor, max_batch_size) for tensor in request["inputs"])
    if sizes != binary_bytes:
        raise _bad(
            f"{binary_bytes} bytes follow the JSON part, but binary_data_size of all inputs together is {sizes}"
        )
    return _dump(request)


def check_index(text: bytes) -> bytes:
    """The same for a request that lists models; an empty body stays one."""
    return _dump(_object(_parse(text), "the request", {"ready": _is(bool, "true or false")})) if text else b""


def _parse(text: bytes) -> Any:
    try:
        return json.loads(text.decode("utf-8"), parse_constant=_no_constant)
    except RecursionError:
        raise _bad("the JSON part is nested too deep") from None
    except ValueError as error:
        raise _bad(f"the JSON part can't be read: {str(error)[:200]}") from None


def _dump(value: Any) -> bytes:
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
    except ValueError:
        raise _bad("the JSON part has a number that is not finite") from None


def _binary_size(tensor: Mapping[str, Any], max_batch_size: int) -> int:
    missing = [key for key in ("name", "shape", "datatype") if key not in tensor]
    if missing:
        raise _bad(f"inputs: {missing[0]} is missing")
    if not 1 <= tensor["shape"][0] <= max_batch_size:
        raise _bad(f"inputs: shape begins with {tensor['shape'][0]}: this model takes 1 to {max_batch_size} items")
    size = tensor.get("parameters", {}).get("binary_data_size")
    if ("data" in tensor) == (size is not None):
        raise _bad("inputs: either data or the parameter binary_data_size, and not both")
    if "data" in tensor and not _kinds(tensor["data"]) <= _VALUES.get(tensor["datatype"], {int}):
        raise _bad(f"inputs: data has other values than {tensor['datatype']}")
    if "data" in tensor and len(_values(tensor["data"])) != math.prod(tensor["shape"]):
        # Triton answers 500.
        raise _bad(f"inputs: data has {len(_values(tensor['data']))} values, and shape is {tensor['shape']}")
    if "data" in tensor and not _all_fit(tensor["data"], tensor["datatype"]):
        raise _bad(f"inputs: data has numbers that {tensor['datatype']} does not hold")
    return size or 0


def _object(value: Any, where: str, fields: Mapping[str, Check]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _bad(f"{where} is no JSON object")
    for key, item in value.items():
        if key not in fields:
            raise _bad(f"{where}: {key[:MAX_CHARACTERS]!r} is not known here: there are {', '.join(fields)}")
        fields[key](item, key)
    return value


def _fields(fields: Mapping[str, Check]) -> Check:
    return lambda value, where: _object(value, where, fields)


def _each(check: Check) -> Check:
    def checked(value: Any, where: str) -> None:
        if not isinstance(value, list) or len(value) > MAX_TENSORS:
            raise _bad(f"{where} is no list of {MAX_TENSORS} at most")
        for item in value:
            check(item, where)

    return checked


def _is(kind: type, meaning: str) -> Check:
    def checked(value: Any, where: str) -> None:
        if type(value) is not kind:
            raise _bad(f"{where} must be {meaning}")

    return checked


def _name(value: Any, where: str) -> None:
    if not isinstance(value, str) or len(value) > MAX_CHARACTERS:
        raise _bad(f"{where} must be a text of {MAX_CHARACTERS} characters at most")


def _datatype(value: Any, where: str) -> None:
    if not isinstance(value, str) or value not in DATATYPES:
        raise _bad(f"{where} must be one of {', '.join(sorted(DATATYPES))}")


def _number(value: Any, where: str) -> None:
    if type(value) is not int or not 0 <= value <= MAX_NUMBER:
        raise _bad(f"{where} must be a number from 0 to {MAX_NUMBER}")


def _shape(value: Any, where: str) -> None:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_DIMENSIONS:
        raise _bad(f"{where} must be a list of 1 to {MAX_DIMENSIONS} numbers")
    for size in value:
        _number(size, where)


def _data(value: Any, where: str) -> None:
    if not isinstance(value, list) or not _kinds(value) <= {str, int, float, bool}:
        raise _bad(f"{where} must be a list of values, or lists of those as deep as the shape")


def _kinds(data: list[Any]) -> set[type]:
    return set(map(type, _values(data)))


def _values(level: list[Any]) -> list[Any]:
    """In lists of lists: level by level, so that C does the work."""
    for _ in range(DATA_DEPTH - 1):
        if set(map(type, level)) != {list}:
            break
        level = list(chain.from_iterable(level))
    return level


def _all_fit(data: list[Any], datatype: str) -> bool:
    """Whether whole numbers are within their type's range: Triton 2.51 cuts off what is beyond."""
    sign, is_whole, bits = datatype.partition("INT")
    if not is_whole:
        return True
    values, low, high = _values(data), 0, 2 ** int(bits)
    if sign != "U":
        low, high = -high // 2, high // 2
    return not values or (min(values) >= low and max(values) < high)


def _bad(reason: str) -> Refusal:
    return Refusal(HTTPStatus.BAD_REQUEST, reason)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


_FLOATS: set[type] = {int, float}
_VALUES: dict[str, set[type]] = {"BYTES": {str}, "BOOL": {bool}, "FP16": _FLOATS, "FP32": _FLOATS, "FP64": _FLOATS}
"""What stands in `data`; whole numbers for all others."""
_TRUTH = _is(bool, "true or false")
_INPUT = {
    "name": _name,
    "shape": _shape,
    "datatype": _datatype,
    "data": _data,
    "parameters": _fields({"binary_data_size": _number}),
}
_OUTPUT = {"name": _name, "parameters": _fields({"binary_data": _TRUTH})}
_REQUEST = {
    "inputs": _each(_fields(_INPUT)),
    "id": _name,
    "outputs": _each(_fields(_OUTPUT)),
    "parameters": _fields({"binary_data_output": _TRUTH, "priority": _number}),
}
