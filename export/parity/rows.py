"""Checks of rows by themselves: their norm, and that a row does not depend on the others of its batch.

Cosines do not see a norm, and a comparison with torch in one arrangement does not see what another would change.
Shapes: `N` inputs, `D` embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .checks import Check, bounded
from .compare import compare, max_abs_difference
from .gates import Gate

Array = NDArray[np.float32]
Encode = Callable[[NDArray[Any]], Array]
NORM_TOLERANCE = 1e-3
# The same row at the same place of a batch of the same size: the same kernels in the same order. Only what is
# added in no fixed order, on some GPUs, differs; a fiftieth of a neighbour's embedding is twenty times more.
_BESIDE_OTHERS, _BESIDE_OTHERS_FP32 = 1e-4, 1e-5


def unit_norm_check(encoder: str, rows: Sequence[Array]) -> Check:
    """The check that every row of all `rows` `[N, D]` has the norm 1, which the encoder's output promises."""
    norms = np.concatenate([np.linalg.norm(part.astype(np.float64), axis=1) for part in rows])
    least, largest = float(norms.min()), float(norms.max())
    passed = bool(np.isfinite(norms).all()) and max(1 - least, largest - 1) <= NORM_TOLERANCE
    worst = least if 1 - least > largest - 1 else largest
    return bounded(
        f"{encoder}, unit norm",
        passed,
        f"a row has the norm {worst:.4f}: cosines and every score with it are wrong",
        f"norms {least:.5f} to {largest:.5f}",
        f"1 ± {NORM_TOLERANCE:g}",
    )


def rows_alone_check(encoder: str, by_size: Mapping[int, Array], crowd: Array, gate: Gate) -> Check:
    """The check that rows of every batch size are those of batches of one; `by_size[1]` has to be there.

    The kernels of another size may round otherwise: half of `gate`'s error is allowed, and all of its difference.
    """
    found = {size: compare(by_size[1], rows, crowd) for size, rows in by_size.items() if size != 1}
    name = f"{encoder}, rows alone"
    if broken := [size for size, one in found.items() if not one.finite]:
        return Check(name, "failed", f"NaN or infinity in batches of {broken[0]}")
    differences = {size: one.max_abs_difference or 0.0 for size, one in found.items()}
    limit, what = gate.max_abs_difference, "difference"
    if limit is None and gate.max_error_to_neighbour is not None:
        errors = {size: one.error_to_neighbour for size, one in found.items()}
        if all(value is not None for value in errors.values()):
            limit, what = gate.max_error_to_neighbour / 2, "error ÷ neighbour"
            differences = {size: value or 0.0 for size, value in errors.items()}
    limit = 1e-5 if limit is None else limit
    size = max(differences, key=lambda size: differences[size])
    return bounded(
        name,
        differences[size] <= limit,
        f"in batches of {size} a row is not what it is alone: {what} {differences[size]:.1e}, allowed {limit:g}",
        f"{what} {differences[size]:.1e}",
        f"≤ {limit:g}",
    )


def rows_beside_others_check(
    encoder: str,
    encode: Encode,
    batches: Mapping[int, tuple[NDArray[Any], Array]],
    others: NDArray[Any],
    gate: Gate,
) -> Check:
    """The check that rows keep their embeddings where others of their batch become hostile inputs.

    Every second row is changed, and in a batch of its own the first half, so that what comes from a neighbour
    shows, and what comes from the first row, as where one row's scale is taken for all.

    Args:
        batches: by size, inputs `[size, ...]` and the embeddings that `encode` gave for them as one batch.
        others: hostile inputs `[A, ...]`.
    """
    limit = _BESIDE_OTHERS if gate.max_abs_difference is None else _BESIDE_OTHERS_FP32
    found = {}
    for size, (inputs, before) in batches.items():
        differences = []
        for places in (np.arange(1, size, 2), np.arange(size // 2)):
            changed = inputs.copy()
            changed[places] = others[np.arange(len(places)) % len(others)]
            kept = np.setdiff1d(np.arange(size), places)
            differences.append(max_abs_difference(before[kept], encode(changed)[kept]))
        found[size] = float(np.max(differences))
    # NaN is the largest for max and argmax, as it should be here.
    size = list(found)[int(np.argmax(list(found.values())))]
    return bounded(
        f"{encoder}, rows beside others",
        found[size] <= limit,
        f"a row's embedding depends on the others in its batch of {size}: difference {found[size]:.1e}, "
        f"allowed {limit:g}",
        f"difference {found[size]:.1e}",
        f"≤ {limit:g}",
    )
