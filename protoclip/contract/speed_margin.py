"""When a lower precision, or one more package, is worth serving: only where it is clearly faster."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeVar

MIN_SPEEDUP = 1.3
"""Below it a lower precision costs accuracy for a gain that another machine, or a busy one, does not have."""

BITS: Mapping[str, int] = {"fp32": 32, "fp16": 16, "bf16": 16, "int8": 8, "int8_static": 8, "fp8": 8}
"""Of weights and activations, by precision."""

Key = TypeVar("Key")


def worth_serving(speeds: Mapping[Key, tuple[str, float]], in_extras: Collection[Key] = ()) -> Key | None:
    """Of things with a precision and a speed the fastest of the most exact, or another one that is worth it.

    A lower precision is taken where it is `MIN_SPEEDUP` times as fast as what was chosen of higher ones, and so
    is one of `in_extras`, which need a package that the others don't, beside others of its precision. Among equals
    the first; None for none.
    """
    chosen: Key | None = None
    ranks = {key: (-BITS[precision], key in in_extras) for key, (precision, _) in speeds.items()}
    for rank in sorted(set(ranks.values())):
        fastest = max((key for key in speeds if ranks[key] == rank), key=lambda key: speeds[key][1])
        if chosen is None or speeds[fastest][1] >= MIN_SPEEDUP * speeds[chosen][1]:
            chosen = fastest
    return chosen
