"""JSON of requests, within bounds on depth and number, each name of an object once."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import orjson
from starlette.requests import Request

from .bodies import aside, media_type, read_body
from .errors import Refused, invalid

MAX_DEPTH = 64
MAX_VALUES = 1_000_000


async def read_json(request: Request, most: int) -> object:
    """The body's JSON.

    Raises:
        Refused: 415 where its type is another one, 400 where it is no JSON, nested deeper than 64, of more than a
            million values, or has a name twice; as `read_body`.
    """
    given = media_type(request)
    if given != "application/json" and not given.endswith("+json"):
        raise Refused(415, "unsupported_type", "the body must be JSON: send Content-Type: application/json")
    return await aside(request, parse_json, await read_body(request, most))


def parse_json(data: bytes | str) -> object:
    """JSON from bytes; raises Refused as `read_json`."""
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    brackets = raw.count(b"[") + raw.count(b"{")
    if brackets + raw.count(b",") + raw.count(b":") > MAX_VALUES:
        raise invalid(f"the JSON has more than {MAX_VALUES} values: send less at once")
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise invalid(f"the body is no JSON: {error.msg} at character {error.pos}") from None
    if brackets > MAX_DEPTH:
        _check_depth(value)
    if b"\\u" in raw or raw.count(b":") != _count_colons(value):
        _check_names(raw)
    return value


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level for inner in _inner(outer) if isinstance(inner, dict | list)]
        if not level:
            return
    raise invalid(f"the JSON is nested deeper than {MAX_DEPTH}")


def _inner(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _count_colons(value: Any) -> int:
    """Those that JSON of this value has where it escapes none: more of them stand behind names that are gone."""
    number = 0
    rest = [value]
    while rest:
        one = rest.pop()
        if isinstance(one, str):
            number += one.count(":")
        elif isinstance(one, dict):
            number += len(one) + sum(name.count(":") for name in one)
            rest.extend(one.values())
        elif isinstance(one, list):
            rest.extend(one)
    return number


def _check_names(raw: bytes) -> None:
    """Raises Refused where an object has a name twice, of which a reader would take one in silence."""

    def once(pairs: list[tuple[str, Any]]) -> None:
        names = set()
        for name, _ in pairs:
            if name in names:
                raise invalid(f"the JSON has {name[:64]!r} twice in an object: give each name once")
            names.add(name)

    # Of numbers nothing is asked here, and the longest would take hours.
    json.loads(raw, object_pairs_hook=once, parse_int=len, parse_float=len)
