"""Headers of a request as they came, looked up without a pass over all of them for each."""

from __future__ import annotations

from starlette.types import Scope


def first_values(scope: Scope) -> dict[bytes, bytes]:
    """The first value of each header of a request, by its name in lower case; made once for a request."""
    found: dict[bytes, bytes] | None = scope.get("first_values")
    if found is None:
        found = scope["first_values"] = dict(reversed(list(scope["headers"])))
    return found
