"""Whether benchmarks/served_soak.py finds what must not be: wrong answers, lost items, memory that grows."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from protoclip import ItemError
from protoclip.client import Embeddings
from scripts import load_script

inputs_script = load_script("benchmarks/soak_inputs.py")
page = load_script("benchmarks/soak_page.py")
MODEL = "ab" * 32


@pytest.fixture(scope="module")
def inputs() -> object:
    found = inputs_script.Inputs()
    rng = np.random.default_rng(0)
    found.right[MODEL] = inputs_script.Right(
        {role: rng.standard_normal((len(items), 4)).astype(np.float32) for role, items in found.good.items()},
        {role: tuple(f"bad {number}" for number in range(len(items))) for role, items in found.bad.items()},
    )
    return found


def answer(inputs: object, *, other: int = 0, reason: str = "bad 1", items: int = 3) -> str | None:
    """What is said of an answer for two good items and a bad one between them."""
    planned = inputs_script.Planned(None, "text", (5, -2, 7))
    vectors = inputs.right[MODEL].vectors["text"][[5, 6, 7 + other]]  # type: ignore[attr-defined]
    errors = (ItemError(1, reason),) if reason else ()
    return inputs.mistake(planned, Embeddings(vectors[:items], errors), MODEL)  # type: ignore[attr-defined, no-any-return]


def test_the_right_answer_is_no_mistake(inputs: object) -> None:
    assert answer(inputs) is None


def test_every_kind_of_mistake_is_found(inputs: object) -> None:
    assert "item 2: a component differs by" in str(answer(inputs, other=1))
    assert answer(inputs, reason="another") == "item 1: 'another' instead of 'bad 1'"
    assert answer(inputs, reason="") == "item 1: None instead of 'bad 1'"
    assert answer(inputs, items=2) == "3 items were sent, and 2 came back"
    planned = inputs_script.Planned(None, "text", (5,))
    vector = inputs.right[MODEL].vectors["text"][[5]]  # type: ignore[attr-defined]
    unknown = inputs.mistake(planned, Embeddings(vector), "cd" * 32)  # type: ignore[attr-defined]
    assert unknown == f"an answer of the unknown model {'cd' * 32}"
    refused = inputs.mistake(planned, Embeddings(vector, (ItemError(0, "too many"),)), MODEL)  # type: ignore[attr-defined]
    assert refused == "item 0: 'too many' instead of None"


def test_a_plan_holds_every_kind_of_request_and_bad_items(inputs: object) -> None:
    plan = inputs_script.Plan(inputs, 100.0, 20.0, seed=3)
    planned = []
    while (request := plan.next()) is not None:
        planned.append(request)
    kinds = Counter(request.kind for request in planned)
    assert len(kinds) == 4
    assert len(planned) == plan.given
    assert 1500 < len(planned) < 2500
    numbers = [number for request in planned for number in request.numbers]
    assert 0.01 < sum(number < 0 for number in numbers) / len(numbers) < 0.03
    starts = [request.start_s for request in planned]
    assert starts == sorted(starts)


@pytest.mark.parametrize(("growth", "flat"), [(0.0, True), (0.05, True), (0.3, False), (-0.3, True)])
def test_memory_that_grows_is_not_flat(growth: float, flat: bool) -> None:
    """Over the second half, with a peak in each window that does not count."""
    samples = [
        (float(second), 100 * (1 + growth * max(0, second - 900) / 900) + 80 * (second % 120 < 30))
        for second in range(0, 1800, 2)
    ]
    found = page.flatness(samples, 1800, 120, least=5.0)
    assert found.flat is flat
    assert found.growth == pytest.approx(100 * growth, abs=3)


def test_a_short_run_says_nothing_of_memory() -> None:
    assert page.flatness([(float(second), 1.0) for second in range(120)], 120, 45, least=5.0).flat is None
