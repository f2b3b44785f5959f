"""The parity gate's thresholds: what every comparison of an engine with torch has to meet.

Adding a precision is adding its gate to `GATES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from protoclip.contract.manifest import Precision

from .checks import Check, bounded
from .compare import Comparison


@dataclass(frozen=True)
class Gate:
    """Thresholds that every comparison has to meet, besides being finite; None: not checked."""

    max_abs_difference: float | None = None
    min_cosine: float | None = None
    min_centred_cosine: float | None = None
    max_error_to_neighbour: float | None = None


FP32_GATE = Gate(max_abs_difference=1e-5, min_cosine=0.999999)
# Below half the distance to the neighbour an embedding stays nearest to its own reference, for at least half
# of the rows.
_HALF = Gate(min_centred_cosine=0.999, max_error_to_neighbour=0.25)
_EIGHT_BITS = Gate(min_centred_cosine=0.98, max_error_to_neighbour=0.5)
GATES: Mapping[Precision, Gate] = {
    "fp32": FP32_GATE,
    "fp16": _HALF,
    "bf16": _HALF,
    "int8": _EIGHT_BITS,
    "int8_static": _EIGHT_BITS,
    "fp8": _EIGHT_BITS,
}
FROM_FILES = "image, from files"
# Pillow rounds between the two passes of a resize, and from 13 on runs them in another order for some sizes:
# our pixels, which are the same with every version, then differ from open_clip's by one grey level.
_FROM_FILES_GATE = Gate(min_centred_cosine=0.999, max_error_to_neighbour=0.1)


def gate_of(precision: Precision, comparison: str) -> Gate:
    """The gate of the comparison of that name: that of the precision, except for fp32 from files."""
    return _FROM_FILES_GATE if (precision, comparison) == ("fp32", FROM_FILES) else GATES[precision]


def comparison_check(name: str, found: Comparison, gate: Gate) -> Check:
    """The check that `found` meets every threshold of `gate`."""
    missed = missed_thresholds(found, gate)
    return bounded(name, not missed, "; ".join(missed), _measured(found), _bound(gate))


def missed_thresholds(found: Comparison, gate: Gate) -> list[str]:
    """The thresholds that `found` misses, each in words; empty if it passes."""
    difference, cosine = found.max_abs_difference, found.min_cosine
    if not found.finite or difference is None:
        return ["NaN or infinity"]
    missed = []
    if gate.max_abs_difference is not None and difference > gate.max_abs_difference:
        missed.append(f"off by {difference:.1e}, allowed {gate.max_abs_difference:.0e}")
    if cosine is None:
        missed.append("an embedding is zero")
    elif gate.min_cosine is not None and cosine < gate.min_cosine:
        missed.append(f"cosine {cosine:.7f}, needed {gate.min_cosine}")
    return missed + _missed_in_the_crowd(found, gate)


def _missed_in_the_crowd(found: Comparison, gate: Gate) -> list[str]:
    missed = []
    centred, error = found.min_centred_cosine, found.error_to_neighbour
    if gate.min_centred_cosine is not None:
        if centred is None:
            missed.append("all embeddings are alike, so that no error shows")
        elif centred < gate.min_centred_cosine:
            missed.append(f"centred cosine {centred:.5f}, needed {gate.min_centred_cosine}")
    if gate.max_error_to_neighbour is not None and (error is None or error > gate.max_error_to_neighbour):
        size = "no distance" if error is None else f"{error:.2f} of the distance"
        missed.append(f"error is {size} to a neighbour, allowed {gate.max_error_to_neighbour}")
    return missed


def _measured(found: Comparison) -> str:
    if not found.finite:
        return "NaN or infinity"
    numbers = (
        ("difference", found.max_abs_difference, ".1e"),
        ("cosine", found.min_cosine, ".7f"),
        ("centred cosine", found.min_centred_cosine, ".5f"),
        ("error ÷ neighbour", found.error_to_neighbour, ".1e"),
    )
    return ", ".join(f"{what} {value:{form}}" for what, value, form in numbers if value is not None)


def _bound(gate: Gate) -> str:
    asked = (
        ("difference ≤", gate.max_abs_difference),
        ("cosine ≥", gate.min_cosine),
        ("centred cosine ≥", gate.min_centred_cosine),
        ("error ÷ neighbour ≤", gate.max_error_to_neighbour),
    )
    return ", ".join(f"{what} {value:g}" for what, value in asked if value is not None)
