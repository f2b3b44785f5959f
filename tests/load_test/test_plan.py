from __future__ import annotations

from itertools import islice, pairwise

import numpy as np
import pytest

from protoclip.load_test.plan import BROKEN, Mix, plan_closed, plan_open, poisson_starts


def test_arrivals_are_poisson() -> None:
    """Gaps have the mean and the spread of an exponential distribution, and do not depend on those before."""
    starts = np.array(list(poisson_starts(200.0, 100.0, seed=1)))
    assert np.all(np.diff(starts) > 0)
    assert starts[-1] < 100.0
    assert len(starts) == pytest.approx(20_000, abs=4 * np.sqrt(20_000))
    gaps = np.diff(starts)
    assert gaps.mean() == pytest.approx(1 / 200, rel=0.03)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)
    assert abs(np.corrcoef(gaps[:-1], gaps[1:])[0, 1]) < 0.03


def test_the_seed_says_everything() -> None:
    mix = Mix(5, 3, image_share=0.6, broken_share=0.1, batch_size=2)
    assert list(plan_open(50, 4, mix, 7)) == list(plan_open(50, 4, mix, 7))
    assert list(plan_open(50, 4, mix, 7)) != list(plan_open(50, 4, mix, 8))
    open_contents = [(planned.role, planned.numbers) for planned in plan_open(50, 4, mix, 7)]
    closed_contents = [(planned.role, planned.numbers) for planned in islice(plan_closed(mix, 7), 50)]
    assert open_contents[:50] == closed_contents


def test_shares_are_kept() -> None:
    mix = Mix(5, 3, image_share=0.7, broken_share=0.2, batch_size=4)
    requests = list(islice(plan_closed(mix, 1), 5000))
    images = [planned for planned in requests if planned.role == "image"]
    assert len(images) / len(requests) == pytest.approx(0.7, abs=0.03)
    numbers = np.array([planned.numbers for planned in images])
    assert (numbers == BROKEN).mean() == pytest.approx(0.2, abs=0.02)
    assert set(np.unique(numbers)) == {BROKEN, 0, 1, 2, 3, 4}
    texts = {number for planned in requests if planned.role == "text" for number in planned.numbers}
    assert texts == {0, 1, 2}
    assert all(planned.start_s is None and len(planned.numbers) == 4 for planned in requests)


@pytest.mark.parametrize(("share", "role"), [(0.0, "text"), (1.0, "image")])
def test_a_share_of_nothing_is_nothing(share: float, role: str) -> None:
    plan = plan_closed(Mix(2, 2, image_share=share), 0)
    assert {planned.role for planned in islice(plan, 500)} == {role}
    later = list(plan_open(100, 3, Mix(2, 2, image_share=share), 0))
    assert all(before.start_s < after.start_s for before, after in pairwise(later))
