"""Whether 16 bits hold every tensor of an engine: the largest value of each over all inputs, before rounding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from export.graphs.rounded import Measure, TensorRange
from export.graphs.rounding import MAX_FINITE, Rounded, infinite_weights

from .checks import Check, bounded
from .reference import LARGEST_BATCH, Inputs, Reference

_ENCODERS = ("image", "text")


def range_checks(
    reference: Reference, measures: Sequence[Measure], paths: Sequence[Path], precision: Rounded
) -> list[Check]:
    """ "image, range of fp16" and the text's: failed where a weight or a tensor exceeds the largest finite number.

    A number that is too large becomes infinite, and its row NaN; another input may reach it where these nearly do.

    Args:
        measures: of the image and the text encoder.
        paths: their files.

    Raises:
        ModelError: the engine can't run a batch.
    """
    inputs = (reference.images, reference.texts)
    return [
        range_check(f"{name}, range of {precision}", precision, infinite_weights(path), ranges_of(measure, each))
        for name, measure, each, path in zip(_ENCODERS, measures, inputs, paths, strict=True)
    ]


def range_check(
    name: str, precision: Rounded, infinite: Sequence[str], ranges: Mapping[str, TensorRange]
) -> Check:
    """The check of one encoder from its infinite weights and its tensors' ranges, in the graph's order."""
    limit = MAX_FINITE[precision]
    largest = max(ranges, key=lambda tensor: ranges[tensor].largest)
    coarsest = max(ranges, key=lambda tensor: ranges[tensor].rounding)
    first = next((tensor for tensor, found in ranges.items() if found.largest > limit), None)
    if infinite:
        why = f"weight {infinite[0]} holds larger numbers{_more(len(infinite))}: use fp32"
    else:
        why = "" if first is None else f"tensor {first} reaches {ranges[first].largest:.3g}"
        too_large = sum(found.largest > limit for found in ranges.values())
        why += f"{_more(too_large)}, and {precision} ends at {limit:.6g}: use {_wider(precision)}"
    measured = (
        f"at most {ranges[largest].largest:.3g} in {largest}; "
        f"rounding takes at most {ranges[coarsest].rounding:.1e} of a tensor, {coarsest}"
    )
    return bounded(name, not infinite and first is None, why, measured, _bound(precision))


def ranges_of(measure: Measure, inputs: Inputs) -> dict[str, TensorRange]:
    """The ranges over all inputs, real and adversarial: of each number the largest of any batch."""
    found: dict[str, TensorRange] = {}
    for part in (inputs.real, inputs.adversarial):
        for start in range(0, len(part), LARGEST_BATCH):
            for tensor, new in measure(np.asarray(part[start : start + LARGEST_BATCH])).items():
                old = found.get(tensor, new)
                found[tensor] = TensorRange(max(old.largest, new.largest), max(old.rounding, new.rounding))
    return found


def _bound(precision: Rounded) -> str:
    return f"≤ {MAX_FINITE[precision]:.6g}"


def _wider(precision: Rounded) -> str:
    return "bf16 or fp32" if precision == "fp16" else "fp32"


def _more(count: int) -> str:
    return "" if count < 2 else f" (and {count - 1} more)"
