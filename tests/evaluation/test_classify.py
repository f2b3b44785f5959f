"""Classes, their texts and their vectors."""

from __future__ import annotations

import numpy as np
import pytest

from protoclip.contract.errors import ConfigError, DataError
from protoclip.evaluation.classify import (
    ClassTexts,
    class_names,
    class_numbers,
    member_texts,
    spoken,
    template_texts,
    vectors_of,
    zero_shot,
)
from protoclip.sources import Pairs


def pairs_of(texts: list[str], **columns: list[str]) -> Pairs:
    return Pairs(
        images=[b""] * len(texts),
        texts=tuple((text,) for text in texts),
        columns={name: np.array(values, dtype=object) for name, values in columns.items()},
    )


def test_names_are_of_all_tables_and_empty_is_none() -> None:
    tables = [pairs_of(["a", "b"], kind=["y", ""]), pairs_of(["c"], kind=["x"])]
    assert class_names(tables, "kind") == ("x", "y")
    assert class_numbers(tables[0], "kind", ("x", "y")).tolist() == [1, -1]
    with pytest.raises(DataError, match="'kind' is empty"):
        class_names([pairs_of(["a"], kind=[""])], "kind")


def test_names_become_words_in_templates() -> None:
    found = template_texts(["face-smiling", "food_drink"], "icon")
    assert found.texts[0] == "face smiling"
    assert found.texts[len(found.texts) // 2] == "food drink"
    assert np.bincount(found.owners).tolist() == [len(found.texts) // 2] * 2
    assert spoken("a--b c_") == "a b c"
    with pytest.raises(ConfigError, match="haiku"):
        template_texts(["a"], "haiku")


def test_members_are_each_groups_label_once_and_only_where_there_is_a_class() -> None:
    train = pairs_of(["cat", "kitty", "dog", "stone"], concept=["1", "1", "2", "3"])
    found = member_texts(train, np.array([0, 0, 0, -1]), "concept")
    assert (found.texts, found.owners.tolist()) == (("cat", "dog"), [0, 0])


def test_a_class_without_texts_is_never_chosen_even_where_all_others_point_away() -> None:
    vectors = vectors_of(ClassTexts(("a",), np.array([1])), np.array([[-1.0, 0.0]], dtype=np.float32), 3)
    assert np.isnan(vectors[[0, 2]]).all()
    assert zero_shot(np.array([[1.0, 0.0]], dtype=np.float32), vectors).tolist() == [1]
