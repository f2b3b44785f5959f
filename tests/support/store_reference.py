"""What a store has to answer: conditions and searches entry by entry in Python, and odd metadata to ask about."""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Where = Mapping[str, Any]
_ORDERS = {"lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge}
FIELDS = [
    "price",
    "color",
    "stock",
    "a.b",
    "$",
    '"',
    "\\",
    "",
    "名前",
    "x' OR '1'='1",
    "it's; DROP TABLE entries",
    "null",
]
VALUES: list[Any] = [
    *(
        0,
        1,
        -1,
        49,
        50,
        10**6,
        2**53,
        2**53 + 1,
        2**63 - 1,
        2**63 - 1024,
        2**63,
        -(2**63),
        -(2**63) - 1,
        10**30,
        10**400,
    ),
    *(0.0, -0.0, 0.1, 49.0, 50.5, 1e-300, 1e23, 2.0**53, 2.0**63 - 1024, 1.7976931348623157e308, -1.5),
    *(
        "",
        "red",
        "Red",
        "réd",
        "rot👠",
        "名前",
        "zebra",
        "\ue000",
        "\ud7ff",
        "new\nline",
        'a"b',
        "back\\slash",
        "' OR 1=1 --",
    ),
    *(
        "0",
        "49",
        "49.0",
        " 50",
        "1e2",
        "-0",
        "007",
        "+5",
        "1_000",
        "NaN",
        "Infinity",
        "0x10",
        "9007199254740993",
        "1e999",
    ),
    *(True, False, None, "true", "false", "null", "True", [1], [], {"a": 1}, "%s", "{}", "$1", "%"),
]


def fits(metadata: Mapping[str, Any], where: Where) -> bool:
    """Whether all conditions hold, as docs/search.md says."""
    return all(_holds(metadata, name, wanted) for name, wanted in where.items())


def _holds(metadata: Mapping[str, Any], name: str, wanted: Any) -> bool:
    if name == "or":
        return any(fits(metadata, one) for one in wanted)
    if name == "and":
        return all(fits(metadata, one) for one in wanted)
    compared = wanted if isinstance(wanted, Mapping) else {"eq": wanted}
    there = name in metadata
    own = metadata.get(name)
    for how, value in compared.items():
        if how == "exists":
            answer = (there and own is not None) == value
        elif how == "ne":
            answer = not (there and _equal(own, value))
        elif how == "in":
            answer = there and any(_equal(own, one) for one in value)
        elif how == "eq":
            answer = there and _equal(own, value)
        else:
            answer = there and _ordered(own, how, value)
        if not answer:
            return False
    return True


def _equal(own: Any, value: Any) -> bool:
    if value is None:
        return own is None
    if isinstance(value, bool):
        return own is value or own == ("true" if value else "false")
    if isinstance(value, str):
        return isinstance(own, str) and own == value
    number = _number(own)
    return number is not None and number == _narrow(value)


def _ordered(own: Any, how: str, value: Any) -> bool:
    if isinstance(value, str):
        return isinstance(own, str) and bool(_ORDERS[how](own.encode(), value.encode()))
    number = _number(own)
    return number is not None and bool(_ORDERS[how](number, _narrow(value)))


def _number(own: Any) -> float | int | None:
    if isinstance(own, str):
        if not own.isascii() or not set(own) <= set("0123456789+-.eE \t\r\n"):
            return None
        try:
            own = json.loads(own)
        except ValueError:
            return None
    if isinstance(own, bool) or not isinstance(own, int | float):
        return None
    return _narrow(own)


def _narrow(number: float) -> float | int:
    if isinstance(number, float) or -(2**63) <= number < 2**63:
        return number
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


@dataclass(frozen=True)
class Corpus:
    """Entries that a store is filled with: ids, unit vectors `[n, D]` and metadata."""

    ids: list[str]
    vectors: NDArray[np.float32]
    metadata: list[dict[str, Any]]

    def fitting(self, where: Where | None) -> list[str]:
        """Ids of the entries that fit, in order."""
        return [
            name for name, own in zip(self.ids, self.metadata, strict=True) if where is None or fits(own, where)
        ]

    def nearest(self, query: Any, k: int, where: Where | None = None, without: Sequence[str] = ()) -> list[str]:
        """Ids of the best, by cosines in float64; equal ones in order."""
        fitting = set(self.fitting(where)) - set(without)
        direction = np.asarray(query, np.float64) / np.linalg.norm(np.asarray(query, np.float64))
        scores = self.vectors.astype(np.float64) @ direction
        order = np.argsort(-scores, kind="stable")
        return [self.ids[row] for row in order if self.ids[row] in fitting][:k]


def odd_corpus(count: int, dim: int, seed: int = 0) -> Corpus:
    """Entries whose metadata are drawn from `FIELDS` and `VALUES`, and whose vectors are far from equal."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((count, dim))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    metadata: list[dict[str, Any]] = [
        {
            FIELDS[field]: VALUES[rng.integers(len(VALUES))]
            for field in np.flatnonzero(rng.random(len(FIELDS)) < 0.5)
        }
        for _ in range(count)
    ]
    # Every value at least once in one field, or a rare one would never be compared.
    for row, value in enumerate(VALUES[:count]):
        metadata[row]["price"] = value
    return Corpus([f"entry {row}" for row in range(count)], vectors.astype(np.float32), metadata)


def odd_condition(rng: np.random.Generator, depth: int = 0) -> dict[str, Any]:
    """A condition, of any operator and value that may be compared, and of others inside each other."""
    kind = rng.random()
    if depth < 3 and kind < 0.3:
        how = "or" if rng.random() < 0.6 else "and"
        return {how: [odd_condition(rng, depth + 1) for _ in range(int(rng.integers(0, 4)))]}
    found: dict[str, Any] = {}
    for _ in range(int(rng.integers(1, 3))):
        name = FIELDS[int(rng.integers(len(FIELDS)))] if rng.random() < 0.6 else "price"
        found[name] = _comparison(rng) if rng.random() < 0.8 else _plain(rng)
    return found


def _comparison(rng: np.random.Generator) -> dict[str, Any]:
    how = str(rng.choice(["eq", "ne", "lt", "le", "gt", "ge", "in", "exists"]))
    if how == "exists":
        return {how: bool(rng.random() < 0.5)}
    if how == "in":
        return {how: [_plain(rng) for _ in range(int(rng.integers(0, 6)))]}
    if how in ("eq", "ne"):
        return {how: _plain(rng)}
    while isinstance(value := _plain(rng), bool) or value is None:
        pass
    found = {how: value}
    if rng.random() < 0.2:
        found["ne"] = _plain(rng)
    return found


def _plain(rng: np.random.Generator) -> Any:
    while isinstance(value := VALUES[int(rng.integers(len(VALUES)))], list | dict):
        pass
    return value
