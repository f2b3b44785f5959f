"""What `search` takes beside the query: conditions on metadata, and weights."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from protoclip.contract.errors import ConfigError

_CONDITION = re.compile(r"(?P<field>[^<>=!]+)(?P<sign><=|>=|!=|=|<|>)(?P<value>.*)", re.DOTALL)
_OPERATORS = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge", "=": "eq", "!=": "ne"}
PARTS = ("text", "like", "minus")


def where_of(conditions: Sequence[str]) -> dict[str, Any] | None:
    """All of the conditions, as `Index.search` takes them; None for none.

    A value is a number, true, false or null as JSON writes them, or else a text: `sku="007"` is one too.

    Raises:
        ConfigError: one can't be read.
    """
    found = [_condition(one) for one in conditions]
    return {"and": found} if found else None


def weights_of(given: Sequence[str]) -> Mapping[str, float]:
    """Weights by part of the query, from `minus=0.5`.

    Raises:
        ConfigError: another part, twice, or no number.
    """
    weights: dict[str, float] = {}
    for one in given:
        name, _, value = one.partition("=")
        if name not in PARTS or name in weights:
            raise ConfigError(f"--weight {one}: takes {', '.join(f'{part}=0.5' for part in PARTS)}, each once")
        try:
            weights[name] = float(value)
        except ValueError as error:
            raise ConfigError(f"--weight {one}: {value!r} is no number") from error
    return weights


def _condition(given: str) -> dict[str, Any]:
    if given.lstrip().startswith("{"):
        try:
            found = json.loads(given)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"--where {given}: no JSON: {error}") from error
        assert isinstance(found, dict)
        return found
    matched = _CONDITION.fullmatch(given)
    if matched is None:
        raise ConfigError(f"--where {given}: write 'price<50', 'stock=true' or a condition in JSON")
    value = matched["value"].strip()
    if not value or value[0] in "<>=!":
        raise ConfigError(f"--where {given}: the value is {value!r}: put a text like this between double quotes")
    return {matched["field"].strip(): {_OPERATORS[matched["sign"]]: _value(value)}}


def _value(text: str) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    # A list or an object would need in: of the shell's signs none means that.
    return text if isinstance(value, list | dict) else value
