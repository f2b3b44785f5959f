"""What pydantic found, as the one line that people see."""

from __future__ import annotations

from pydantic import ValidationError


def first_fault(error: ValidationError) -> str:
    """`field 'train.steps': Input should be greater than 0`: the first of those found, on one line.

    Where no field is to blame, such as in a file that is no JSON, it begins with `the whole of it`.
    """
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    reason = " ".join(first["msg"].removeprefix("Value error, ").split())
    return f"field {place!r}: {reason}" if place else f"the whole of it: {reason}"
