"""Sinkhorn's balancing of a plan, of NumPy arrays and of torch tensors alike.

`N` pictures, `M` prototypes. Only what both kinds of arrays call by the same names is used, so that training and
detectors compute the same.
"""

from __future__ import annotations

from typing import Any, TypeVar

Plan = TypeVar("Plan", bound=Any)

TEMPERATURE = 0.05
ITERATIONS = 3
_SMALLEST_SUM = 1e-30


def balanced(plan: Plan, iterations: int = ITERATIONS) -> Plan:
    """Weights `[N, M]`: each row sums to 1, the columns are about alike (Cuturi 2013, arXiv 1306.0895).

    Args:
        plan: `[N, M]`, not negative, such as `exp(cosines / 0.05)`; N and M ≥ 1. A column or row of zeros stays.
        iterations: of dividing columns, then rows, by their sums.
    """
    for _ in range(iterations):
        plan = plan / (plan.sum(axis=0, keepdims=True).clip(min=_SMALLEST_SUM) * plan.shape[1])
        plan = plan / (plan.sum(axis=1, keepdims=True).clip(min=_SMALLEST_SUM) * plan.shape[0])
    return plan / plan.sum(axis=1, keepdims=True).clip(min=_SMALLEST_SUM)
