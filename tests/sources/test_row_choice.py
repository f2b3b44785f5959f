"""Rows that are looked up instead of kept give what an array of them gives."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from protoclip.config.schema import RunConfig
from protoclip.data.holdout import split_pairs
from protoclip.sources.pairs import Pairs, table_pairs
from protoclip.sources.row_choice import AllBut, RowsOfRows, all_rows, chosen_rows, marked_rows
from protoclip.sources.stored import Origin

LEFT_OUT = [[], [0], [9], [0, 1, 2], [7, 8, 9], [0, 3, 4, 9], list(range(9)), list(range(10))]


def kept(left_out: list[int]) -> Any:
    return np.setdiff1d(np.arange(10), left_out)


@pytest.mark.parametrize("left_out", LEFT_OUT)
def test_read_like_an_array(left_out: list[int]) -> None:
    rows, expected = AllBut(np.array(left_out, dtype=np.int64), 10), kept(left_out)
    assert (len(rows), rows[:].dtype) == (len(expected), np.int32)
    assert list(rows) == expected.tolist()
    assert np.array_equal(np.asarray(rows), expected)
    assert np.array_equal(rows.left_out, left_out)
    for part in (slice(1, 4), slice(None, None, -2), slice(20, 30)):
        assert np.array_equal(rows[part], expected[part])
    places = np.random.default_rng(0).permutation(len(expected)) - len(expected) // 2
    assert np.array_equal(rows[places], expected[places])
    for place in places:
        assert rows[int(place)] == rows[place] == expected[place]
    for place in (len(expected), -len(expected) - 1):
        with pytest.raises(IndexError, match="beyond"):
            rows[place]


@pytest.mark.parametrize("left_out", LEFT_OUT)
def test_rows_of_rows(left_out: list[int]) -> None:
    expected = kept(left_out)
    rows = AllBut(np.array(left_out, dtype=np.int64), 10)
    further = np.arange(0, len(expected), 3)
    fewer = AllBut(further, len(expected))
    both = chosen_rows(rows, fewer)
    assert isinstance(both, AllBut)
    assert np.array_equal(both[:], np.delete(expected, further))
    of_array = chosen_rows(expected * 7, fewer)
    assert isinstance(of_array, RowsOfRows)
    assert np.array_equal(of_array, np.delete(expected * 7, further))
    again = chosen_rows(of_array, all_rows(len(of_array)))
    assert np.array_equal(again[::-1], np.delete(expected * 7, further)[::-1])
    assert np.array_equal(chosen_rows(rows, further), expected[further])
    assert chosen_rows(None, fewer) is fewer


def test_a_mask_is_kept_as_what_is_smaller() -> None:
    for marked in (0, 3, 5, 6, 9, 10):
        mask = np.random.default_rng(marked).permutation(10) < marked
        rows = marked_rows(mask)
        assert isinstance(rows, AllBut) == (marked > 5)
        assert np.array_equal(rows, np.flatnonzero(mask))


def of_arrow(count: int, num_read: int | None = None) -> Pairs:
    """Pairs of which every other row before each was left out."""
    names = [f"{row}.png" for row in range(count)]
    table = pa.table({"image": names, "texts": [[name] for name in names], ":sku": names})
    return table_pairs(table, [Origin(0, "/a")], np.arange(count, dtype=np.int32) * 2, num_read or 2 * count, ())


@pytest.mark.parametrize("share", [0.1, 0.9])
def test_pairs_of_a_mask_are_those_of_its_rows(share: float) -> None:
    pairs = of_arrow(100)
    mask = np.random.default_rng(0).random(100) < share
    for found in (pairs.select(mask), pairs.select(np.flatnonzero(mask)), pairs.select(mask).select(np.arange(5))):
        rows = np.flatnonzero(mask)[: len(found)]
        assert list(found.texts) == [(f"{row}.png",) for row in rows]
        assert list(found.images) == [Path(f"/a/{row}.png") for row in rows]
        assert found.column("sku").tolist() == [f"{row}.png" for row in rows]
        assert np.array_equal(found.places, rows * 2)
        assert [found.places[place] for place in range(len(found))] == (rows * 2).tolist()
    listed = Pairs(list(pairs.images), list(pairs.texts), {"sku": pairs.column("sku")}).select(mask)
    assert listed.texts == [(f"{row}.png",) for row in np.flatnonzero(mask)]
    assert np.array_equal(listed.places, np.flatnonzero(mask))


def test_pairs_from_the_end_and_in_plain_lists_are_those_of_an_array() -> None:
    """From two folders: a row that is not the one that was meant would be looked for in the wrong one."""
    table = of_arrow(4).images._table  # type: ignore[attr-defined]
    pairs = table_pairs(table, [Origin(0, "/a"), Origin(2, "/b")], all_rows(4), 4, ())
    every = [Path("/a/0.png"), Path("/a/1.png"), Path("/b/2.png"), Path("/b/3.png")]
    for some in (pairs, pairs.select(all_rows(4)), pairs.select(np.arange(4))):
        for chosen in ([-3, 3], [True, False, False, True], [], np.zeros(0)):
            found = some.select(chosen)  # type: ignore[arg-type]
            expected = np.arange(4)[np.array(chosen, dtype=bool if True in chosen else int)]
            assert found.images == [every[row] for row in expected]
            assert found.texts == [(f"{row}.png",) for row in expected]
            assert np.array_equal(found.places, expected)
        for beyond in ([4], [-5], [True] * 3):
            with pytest.raises(IndexError, match="4 pairs"):
                some.select(np.array(beyond))
    with pytest.raises(IndexError, match="not by a mask"):
        all_rows(4)[np.array([True, False, False, True])]


def test_most_rows_take_no_memory_of_their_own() -> None:
    """Each rank of a machine has them: of 15 million, numbers for all took 120 MB more on every one."""
    pairs = of_arrow(200_000)
    config = RunConfig.model_validate(
        {"data": {"path": ["x"]}, "validation": {"fraction": 0.05}, "train": {"steps": 1}}
    )
    tracemalloc.start()
    training, held_out = split_pairs(pairs, config)
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert held_out is not None
    assert (len(training), len(held_out)) == (190_000, 10_000)
    assert size < 3 * 4 * len(held_out) + 20_000
