"""Which rows show the same thing."""

from __future__ import annotations

import numpy as np
import pytest

from protoclip.data.groups import group_numbers


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["b", "a", "b"], [1, 0, 1]),
        (["10", "9", "10", "-1"], [2, 1, 2, 0]),
        (["10", "09", "10"], [1, 0, 1]),
        (["10.0", "9.5", "-0.5"], [2, 1, 0]),
        (["x", "", "x", ""], [0, 1, 0, 2]),
        (["", ""], [0, 1]),
        ([], []),
    ],
)
def test_equal_values_are_a_group_and_rows_without_one_stand_alone(values: list[str], expected: list[int]) -> None:
    assert group_numbers(np.array(values, dtype=object)).tolist() == expected


def test_numbers_that_were_read_as_numbers_before_keep_their_order() -> None:
    """Which groups a run holds out for validation depends on it."""
    values = np.random.default_rng(0).integers(0, 300, 1000)
    before = np.unique(values, return_inverse=True)[1]
    np.testing.assert_array_equal(group_numbers(values.astype(str).astype(object)), before)
