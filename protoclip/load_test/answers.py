"""Whether an answer is right: one vector for each good item, and a refusal for each broken one.

`n` items in a request, `D` embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from protoclip.client.embedder import Role
from protoclip.client.transport import Answer, Array

from .plan import BROKEN

MAX_NORM_ERROR = 1e-3
_BOUND_FP32, _BOUND_LOWER = 1e-4, 2e-2


@dataclass(frozen=True)
class Judged:
    """What is to be said of one answer.

    Attributes:
        num_good: items that got a vector, as they should.
        num_refused: broken items that were refused, as they should.
        refused: why the first good item was refused; None where none was.
        wrong: what is wrong with the first wrong item; None where none is.
    """

    num_good: int
    num_refused: int
    refused: str | None = None
    wrong: str | None = None


class Judge:
    """Compares vectors with the first answer for the same input, which it keeps: `[D]` for each.

    Args:
        precision: of the model; below fp32 the vectors may differ with what else is in a batch, by up to 2e-2 in a
            component instead of 1e-4.
    """

    def __init__(self, embedding_dim: int, precision: str) -> None:
        self._dim = embedding_dim
        self.max_difference = _BOUND_FP32 if precision == "fp32" else _BOUND_LOWER
        self._first: dict[tuple[Role, int], Array] = {}

    def judge(self, role: Role, numbers: Sequence[int], answer: Answer) -> Judged:
        """Of an answer for the inputs `numbers` `[n]`."""
        good, refused, reason, wrong = 0, 0, None, None
        for number, vector, error in zip(numbers, answer.embeddings, answer.errors, strict=True):
            if number == BROKEN:
                refused += bool(error)
                problem = None if error else "a broken picture got a vector"
            elif error:
                reason, problem = reason or error, None
            else:
                problem = self._problem(role, number, vector)
                good += problem is None
            wrong = wrong or problem
        return Judged(good, refused, reason, wrong)

    def _problem(self, role: Role, number: int, vector: Array) -> str | None:
        if vector.shape != (self._dim,):
            return f"a vector has {vector.size} numbers instead of {self._dim}"
        if not np.isfinite(vector).all():
            return "a vector is not finite"
        norm = float(np.linalg.norm(vector))
        if abs(norm - 1) > MAX_NORM_ERROR:
            return f"a vector has the norm {norm:.4g} instead of 1"
        first = self._first.setdefault((role, number), vector)
        difference = float(np.abs(first - vector).max())
        if difference > self.max_difference:
            return f"two answers for the same {role} differ by {difference:.2g} (bound {self.max_difference:g})"
        return None
