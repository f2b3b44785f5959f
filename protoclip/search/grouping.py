"""The best hit of each group, by looking further until there are enough."""

from __future__ import annotations

import json
from collections.abc import Callable

from protoclip.client.results import Hit

_FIRST_LOOK = 4


def best_of_groups(nearest: Callable[[int], list[Hit]], field: str, number: int) -> list[Hit]:
    """The best hit of each value of `field`, at most `number`; `nearest(n)` gives the best `n` hits."""
    look = _FIRST_LOOK * number
    while True:
        hits = nearest(look)
        best: dict[str, Hit] = {}
        for hit in hits:
            best.setdefault(_group(hit, field), hit)
        if len(best) >= number or len(hits) < look:
            return list(best.values())[:number]
        look *= _FIRST_LOOK


def _group(hit: Hit, field: str) -> str:
    """What has no such field is like nothing else; 1.0 is 1, and true is not."""
    if field not in hit.metadata:
        return f"id {hit.id}"
    value = hit.metadata[field]
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, sort_keys=True)
