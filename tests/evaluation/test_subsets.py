"""Subsets by split value, unions, and the label texts of groups."""

from __future__ import annotations

import numpy as np
import pytest

from protoclip.contract.errors import ConfigError, DataError
from protoclip.evaluation.subsets import label_texts, split_subsets
from protoclip.sources import Pairs


def pairs_of(**columns: list[str]) -> Pairs:
    texts = columns.pop("texts")
    return Pairs(
        images=[b""] * len(texts),
        texts=tuple((text, "other") for text in texts),
        columns={name: np.array(values, dtype=object) for name, values in columns.items()},
    )


PAIRS = pairs_of(
    texts=["a", "b", "c", "d", "e", "f"],
    split=["train", "style", "concept", "both", "", "train"],
)
TRAIN = PAIRS.select(PAIRS.columns["split"] == "train")


def firsts(pairs: Pairs) -> list[str]:
    return [texts[0] for texts in pairs.texts]


def test_each_value_is_a_subset() -> None:
    subsets = split_subsets(PAIRS, "split", TRAIN, "train", {})
    assert list(subsets) == ["train", "style", "concept", "both"]
    assert [firsts(subset) for subset in subsets.values()] == [["a", "f"], ["b"], ["c"], ["d"]]
    assert subsets["train"] is TRAIN


def test_named_unions_are_the_cells_in_their_order() -> None:
    unions = {"new": ["both", "concept"], "alias": ["style"], "known": ["train"]}
    subsets = split_subsets(PAIRS, "split", TRAIN, "train", unions)
    assert list(subsets) == ["new", "alias", "known"]
    assert [firsts(subset) for subset in subsets.values()] == [["c", "d"], ["b"], ["a", "f"]]
    assert subsets["known"] is TRAIN


@pytest.mark.parametrize("parts", [["concept", "nowhere"], [], ["train", "both"]])
def test_a_union_must_be_of_held_out_values(parts: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"evaluation\.cells\.new"):
        split_subsets(PAIRS, "split", TRAIN, "train", {"new": parts})


def test_a_missing_split_column_is_named() -> None:
    with pytest.raises(DataError, match="part"):
        split_subsets(PAIRS, "part", TRAIN, "train", {})


def test_groups_share_the_text_of_their_first_row() -> None:
    pairs = pairs_of(texts=["cat", "dog", "a cat", "dog"], concept=["1", "2", "1", "2"])
    labels = label_texts(pairs, "concept")
    assert labels.texts == ("cat", "dog")
    assert labels.owners.tolist() == [0, 1, 0, 1]
    assert labels.groups.tolist() == [0, 1, 0, 1]


def test_a_text_of_two_groups_counts_once_but_the_groups_stay_apart() -> None:
    pairs = pairs_of(texts=["star", "moon", "star"], concept=["1", "2", "3"])
    labels = label_texts(pairs, "concept")
    assert labels.texts == ("star", "moon")
    assert labels.owners.tolist() == [0, 1, 0]
    assert labels.groups.tolist() == [0, 1, 2]


def test_without_a_group_column_equal_label_texts_are_a_group() -> None:
    labels = label_texts(pairs_of(texts=["x", "y", "x"]), None)
    assert (labels.texts, labels.owners.tolist(), labels.groups.tolist()) == (("x", "y"), [0, 1, 0], [0, 1, 0])
