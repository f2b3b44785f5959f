from __future__ import annotations

import numpy as np
import pytest

from protoclip.client.transport import Answer
from protoclip.load_test.answers import Judge, Judged
from protoclip.load_test.plan import BROKEN

UNIT = np.eye(4, dtype=np.float32)


def answer(*vectors: np.ndarray, errors: tuple[str, ...] | None = None) -> Answer:
    return Answer(np.stack(vectors).astype(np.float32), errors or ("",) * len(vectors))


def test_right_answers() -> None:
    judge = Judge(4, "fp32")
    assert judge.judge("image", [0, 1], answer(UNIT[0], UNIT[1])) == Judged(2, 0)
    assert judge.judge("image", [1, 0], answer(UNIT[1], UNIT[0])) == Judged(2, 0)
    assert judge.judge("text", [0], answer(UNIT[2])) == Judged(1, 0)


@pytest.mark.parametrize(
    ("vector", "problem"),
    [
        (np.array([np.nan, 0, 0, 0]), "not finite"),
        (np.array([np.inf, 0, 0, 0]), "not finite"),
        (np.zeros(4), "norm 0 instead of 1"),
        (1.01 * UNIT[0], "norm 1.01"),
        (np.array([1.0, 0, 0]), "3 numbers instead of 4"),
    ],
)
def test_wrong_vectors(vector: np.ndarray, problem: str) -> None:
    judged = Judge(4, "fp32").judge("image", [0], answer(vector))
    assert judged.num_good == 0
    assert problem in (judged.wrong or "")


def test_another_inputs_vector_is_wrong() -> None:
    judge = Judge(4, "fp32")
    judge.judge("image", [0, 1], answer(UNIT[0], UNIT[1]))
    judged = judge.judge("image", [0, 1], answer(UNIT[1], UNIT[1]))
    assert judged.num_good == 1
    assert "two answers for the same image differ by 1" in (judged.wrong or "")


@pytest.mark.parametrize(("precision", "is_wrong"), [("fp32", True), ("int8", False)])
def test_lower_precisions_may_differ_by_more(precision: str, is_wrong: bool) -> None:
    judge = Judge(4, precision)
    judge.judge("text", [0], answer(UNIT[0]))
    near = np.array([np.sqrt(1 - 0.01**2), 0.01, 0, 0])
    assert (judge.judge("text", [0], answer(near)).wrong is not None) == is_wrong


def test_broken_items_are_to_be_refused_and_good_ones_not() -> None:
    judge = Judge(4, "fp32")
    zero = np.zeros(4)
    assert judge.judge("image", [BROKEN, 1], answer(zero, UNIT[1], errors=("no", ""))) == Judged(1, 1)
    accepted = judge.judge("image", [BROKEN, 1], answer(UNIT[0], UNIT[1]))
    assert accepted == Judged(1, 0, wrong="a broken picture got a vector")
    refused = judge.judge("image", [BROKEN, 1], answer(zero, zero, errors=("no", "too large")))
    assert refused == Judged(0, 1, refused="too large")
