"""What an index is given that looks right, and would change or mix up entries without a word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protoclip.contract.errors import ConfigError
from protoclip.search import Index

AXES = np.eye(3)


@pytest.fixture
def index(tmp_path: Path) -> Index:
    index = Index.create(tmp_path / "x.index", "0123456789abcdef", 3)
    index.add(AXES, ["x", "y", "z"], [{"product": None}, {"product": None, "price": 1}, {}])
    return index


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (AXES * 1j, "vectors are no array of numbers: they are of type complex128"),
        (AXES.astype(str), "vectors are no array of numbers: they are of type <U32"),
        (np.full((1, 3), 1e200), "row 0 is too long: scale it down"),
        (np.full((1, 3), np.inf), "row 0 has NaN or infinite components"),
    ],
)
def test_numbers_that_are_none(index: Index, vectors: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        index.search(vectors)
    with pytest.raises(ConfigError, match=message):
        index.upsert(vectors, ["a", "b", "c"][: len(vectors)])


@pytest.mark.parametrize("scale", [1e-44, 1e-150, 1e60])
def test_a_direction_is_kept_at_any_length(index: Index, scale: float) -> None:
    """In float32 these would be a few multiples of the least number, zeros, or infinite."""
    wanted = np.array([3.0, 5.0, -7.0])
    index.upsert(wanted * scale, ["v"])
    np.testing.assert_allclose(index.vector("v"), wanted / np.linalg.norm(wanted), rtol=1e-6)
    assert [hit.id for hit in index.search(wanted * scale, 2)] == ["v", "y"]


def test_a_set_of_ids_has_no_order(index: Index) -> None:
    for ids in ({"a", "b", "c"}, {"a": 1, "b": 2, "c": 3}.keys()):
        with pytest.raises(ConfigError, match="3 vectors need as many ids, in a list"):
            index.add(AXES, ids)  # type: ignore[arg-type]


class _Labelled(list[Any]):
    """As a column of a table is after it was sorted: `[label]` isn't the place."""

    def __getitem__(self, label: Any) -> Any:
        return super().__getitem__(len(self) - 1 - label)


def test_metadata_come_in_their_order(index: Index) -> None:
    index.add(AXES, _Labelled(["a", "b", "c"]), _Labelled([{"row": row} for row in range(3)]))
    assert [index.get(name).metadata for name in "abc"] == [{"row": 0}, {"row": 1}, {"row": 2}]  # type: ignore[union-attr]
    assert index.search(AXES[1], 1, where={"row": {"ge": 0}})[0].id == "b"


def test_null_is_no_group(index: Index) -> None:
    """Entries of which nothing is known would be hidden by one of them."""
    assert [hit.id for hit in index.search([3, 2, 1], group_by="product")] == ["x", "y", "z"]
    assert index.count({"product": {"exists": True}}) == 0


@pytest.mark.parametrize("wrong", [5, None, [5], [None], [b"x"]])
def test_ids_that_are_no_texts(index: Index, wrong: Any) -> None:
    with pytest.raises(ConfigError, match="ids are texts"):
        index.remove(wrong)
    assert len(index) == 3
