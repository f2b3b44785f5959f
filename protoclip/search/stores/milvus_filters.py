"""Conditions on metadata as Milvus' expressions over the JSON field `fields`.

Versions of Milvus differ in how they read odd texts, and in what they make of a field that an entry lacks, so
nothing of a user's stands in an expression, and "not" is said of nothing that may be missing. `fields` has a list
`tags`, always there: a digest for each thing that a value is equal to, and for each field that has one; what is
ordered are hexadecimal digits, of UTF-8 for texts, and `sortable_number` for numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from protoclip.search.conditions import Compared, Condition, Value, by_halves

from .comparable import Comparable, comparable_fields, sortable_number

EVERY, NONE = 'digest != ""', 'digest == ""'
_SIGNS = {"lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_TAGS = 'fields["tags"]'


def fields_of(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The field `fields` of an entry."""
    found: dict[str, Any] = {"tags": []}
    for name, value in comparable_fields(metadata).items():
        found["tags"] += _tags(name, value)
        if value.text is not None:
            found[_key("text", name)] = value.text.encode().hex()
        if value.number is not None:
            found[_key("number", name)] = sortable_number(value.number)
    return found


def expression_of(condition: Condition) -> str:
    """An expression that holds, or not, for an entry."""
    if isinstance(condition, Compared):
        return _compared(condition)
    return _joined(condition.how, [expression_of(part) for part in condition.parts])


def listed(values: Sequence[str]) -> str:
    """A list of digests."""
    return f"[{', '.join(map(_quoted, values))}]"


def _tags(name: str, value: Comparable) -> Iterator[str]:
    if value.null:
        yield _tag("null", name)
        return
    yield _tag("there", name)
    if value.text is not None:
        yield _tag("text", name, value.text)
    if value.number is not None:
        yield _tag("number", name, sortable_number(value.number))
    if value.flag is not None:
        yield _tag("flag", name, str(value.flag))


def _joined(how: str, parts: Sequence[str]) -> str:
    if not parts:
        return EVERY if how == "and" else NONE
    return by_halves(parts, lambda left, right: f"({left} {how} {right})")


def _compared(condition: Compared) -> str:
    name, value = condition.name, condition.value
    if condition.operator == "in":
        assert isinstance(value, tuple)
        tags = dict.fromkeys(_tag_of(name, one) for one in value)
        return f"json_contains_any({_TAGS}, {listed(list(tags))})" if tags else NONE
    assert not isinstance(value, tuple)
    if condition.operator == "exists":
        return _contains(_tag("there", name), negated=not value)
    if condition.operator in _SIGNS:
        kind = "text" if isinstance(value, str) else "number"
        return f'fields["{_key(kind, name)}"] {_SIGNS[condition.operator]} {_quoted(_digits(value))}'
    return _contains(_tag_of(name, value), negated=condition.operator == "ne")


def _contains(tag: str, *, negated: bool) -> str:
    found = f"json_contains({_TAGS}, {_quoted(tag)})"
    return f"(not {found})" if negated else found


def _tag_of(name: str, value: Value) -> str:
    if value is None:
        return _tag("null", name)
    if isinstance(value, bool):
        return _tag("flag", name, str(value))
    return _tag("text", name, value) if isinstance(value, str) else _tag("number", name, sortable_number(value))


def _digits(value: Value) -> str:
    assert value is not None
    return value.encode().hex() if isinstance(value, str) else sortable_number(value)


def _tag(kind: str, name: str, value: str = "") -> str:
    # A NUL is in neither of them.
    return hashlib.blake2b("\0".join((kind, name, value)).encode(), digest_size=16).hexdigest()


def _key(kind: str, name: str) -> str:
    return f"{kind}_{hashlib.blake2b(name.encode(), digest_size=16).hexdigest()}"


def _quoted(digits: str) -> str:
    return f'"{digits}"'
