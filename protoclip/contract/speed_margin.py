"""When a lower precision is worth serving: only where it is clearly faster than a more exact one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

MIN_SPEEDUP = 1.3
"""Below it a lower precision costs accuracy for a gain that another machine, or a busy one, does not have."""

BITS: Mapping[str, int] = {"fp32": 32, "fp16": 16, "bf16": 16, "int8": 8, "int8_static": 8, "fp8": 8}
"""Of weights and activations, by precision."""

Key = TypeVar("Key")


def worth_serving(speeds: Mapping[Key, tuple[str, float]]) -> Key | None:
    """Of things with a precision and a speed the fastest of the most exact, or a lower one that is worth it.

    A lower precision is taken where it is `MIN_SPEEDUP` times as fast as what was chosen of all higher ones. Among
    equals the first; None for none.
    """
    chosen: Key | None = None
    for bits in sorted({BITS[precision] for precision, _ in speeds.values()}, reverse=True):
        of_bits = [key for key, (precision, _) in speeds.items() if BITS[precision] == bits]
        fastest = max(of_bits, key=lambda key: speeds[key][1])
        if chosen is None or speeds[fastest][1] >= MIN_SPEEDUP * speeds[chosen][1]:
            chosen = fastest
    return chosen
