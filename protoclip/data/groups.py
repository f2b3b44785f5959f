"""Groups of rows that show the same thing, by the values of a column. `N` rows."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

_NUMBER = re.compile(r"(0|-?[1-9][0-9]*|-?0)(\.[0-9]+)?")


def group_numbers(values: NDArray[Any]) -> NDArray[np.int64]:
    """[N], the group of each row, from 0 in the order of the values; a row without a value is a group by itself.

    Where all values are numbers, written without leading zeros, they are in the order of numbers.
    """
    texts = values.astype(str)
    known = texts != ""
    numbers = np.empty(len(texts), dtype=np.int64)
    distinct, numbers[known] = np.unique(texts[known], return_inverse=True)
    if len(distinct) and all(_NUMBER.fullmatch(text) for text in distinct):
        rank = np.empty(len(distinct), dtype=np.int64)
        rank[sorted(range(len(distinct)), key=lambda row: Decimal(distinct[row]))] = np.arange(len(distinct))
        numbers[known] = rank[numbers[known]]
    numbers[~known] = len(distinct) + np.arange((~known).sum())
    return numbers
