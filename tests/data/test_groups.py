"""Which rows show the same thing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

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
        (["x", " ", "x", " ", "\u00a0"], [0, 1, 0, 2, 3]),
        (["1", "-0", "0", "01"], [3, 0, 1, 2]),
        (["1", "-0", "0", "1.0"], [2, 0, 1, 3]),
        (["9" * 30, "-" + "9" * 30, "1"], [2, 0, 1]),
        (["0." + "1" * 30, "0." + "1" * 29, "0." + "1" * 29 + "2"], [1, 0, 2]),
        (["100000000000000001", "100000000000000000"], [1, 0]),
        (["é", "z", "\uffff", "\U0001f600"], [1, 0, 2, 3]),
        ([], []),
    ],
)
def test_equal_values_are_a_group_and_rows_without_one_stand_alone(values: list[str], expected: list[int]) -> None:
    assert group_numbers(np.array(values, dtype=object)).tolist() == expected


@pytest.mark.parametrize(
    "values",
    [
        np.array([10, 9, 10, 9]),
        np.array([1.5, -1.0, 1.5, -1.0]),
        np.array([10, 9, 10, 9], dtype=object),
        np.array(["b", "a", "b", "a"]),
        np.array([True, False, True, False]),
    ],
)
def test_columns_of_ones_own_may_hold_anything(values: NDArray[Any]) -> None:
    assert group_numbers(values).tolist() == [1, 0, 1, 0]


def test_none_and_nan_are_no_values() -> None:
    """Rows without a product number are not one product."""
    assert group_numbers(np.array([3, None, 3, float("nan"), None], dtype=object)).tolist() == [0, 1, 0, 2, 3]
    assert group_numbers(np.array([3.0, np.nan, 3.0, np.nan])).tolist() == [0, 1, 0, 2]


def test_numbers_that_were_read_as_numbers_before_keep_their_order() -> None:
    """Which groups a run holds out for validation depends on it."""
    values = np.random.default_rng(0).integers(0, 300, 1000)
    before = np.unique(values, return_inverse=True)[1]
    np.testing.assert_array_equal(group_numbers(values.astype(str).astype(object)), before)
