"""Groups of rows that show the same thing, by the values of a column. `N` rows, `U` distinct values."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

_NUMBER = r"^(0|-?[1-9][0-9]*|-?0)(\.[0-9]+)?$"
_EXACT_IN_INT64, _EXACT_IN_FLOAT64 = 18, 15


def group_numbers(values: NDArray[Any]) -> NDArray[np.int64]:
    """[N], the group of each row, from 0 in the order of the values; a row without a value is a group by itself.

    Where all values are numbers, written without leading zeros, they are in the order of numbers. No value is the
    empty text, one of blanks, None or NaN.
    """
    import pyarrow.compute as pc

    encoded = _texts(values).dictionary_encode()
    distinct, rows = encoded.dictionary, encoded.indices.fill_null(-1).to_numpy()
    order = pc.sort_indices(distinct).to_numpy()
    distinct = distinct.take(order)
    if len(distinct) and pc.all(pc.match_substring_regex(distinct, _NUMBER)).as_py():
        order = order[_by_number(distinct)]
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    numbers = np.full(len(values), -1, dtype=np.int64)
    known = rows >= 0
    numbers[known] = rank[rows[known]]
    numbers[~known] = len(order) + np.arange((~known).sum())
    return numbers


def group_numbers_in_sections(values: NDArray[Any], ends: Sequence[int]) -> NDArray[np.int64]:
    """[N], the group of each row of data that grew; N is the last of `ends`.

    As `group_numbers` numbers the rows up to the first end; each later part takes over the numbers of those before
    it, and its new values come after these. So the numbers of the rows up to an end don't depend on later rows.
    """
    numbers = group_numbers(values[: ends[0]])
    for end in ends[1:]:
        grown, count = group_numbers(values[:end]), len(numbers)
        number_of = np.full(int(grown.max()) + 1, -1, dtype=np.int64)
        number_of[grown[:count]] = numbers
        new = number_of < 0
        number_of[new] = int(numbers.max()) + 1 + np.arange(new.sum())
        numbers = number_of[grown]
    return numbers


def _texts(values: NDArray[Any]) -> Any:
    """An Arrow array [N] of texts, null where a row has no value."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        texts = pa.array(values, pa.large_string())
    except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeEncodeError):
        # Columns that a user made in Python: numbers, or texts with half a surrogate pair.
        texts = pa.array([_text(value) for value in values.tolist()], pa.large_string())
    return pc.replace_with_mask(
        texts, pc.equal(pc.utf8_trim_whitespace(texts), ""), pa.scalar(None, pa.large_string())
    )


def _text(value: Any) -> str | None:
    if value is None or value != value:
        return None
    return str(value).encode("utf-8", "backslashreplace").decode("utf-8")


def _by_number(distinct: Any) -> NDArray[np.int64]:
    """The places [U] of texts of numbers, from the smallest; equal ones in their order."""
    import pyarrow as pa
    import pyarrow.compute as pc

    longest = pc.max(pc.utf8_length(distinct)).as_py()
    if longest <= _EXACT_IN_INT64 and not pc.any(pc.match_substring(distinct, ".")).as_py():
        return np.argsort(distinct.cast(pa.int64()).to_numpy(), kind="stable")
    if longest <= _EXACT_IN_FLOAT64:
        return np.argsort(distinct.cast(pa.float64()).to_numpy(), kind="stable")
    texts = distinct.to_pylist()
    return np.array(sorted(range(len(texts)), key=lambda row: Decimal(texts[row])), dtype=np.int64)
