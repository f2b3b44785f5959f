"""Conditions on metadata give the same entries in every store, and those that a reference in Python gives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from search_engines import Engine
from store_reference import FIELDS, VALUES, Corpus, odd_condition, odd_corpus

from protoclip.contract.errors import ConfigError
from protoclip.search import Store, traits_of

COUNT, DIM = 120, 8
CORPUS = odd_corpus(COUNT, DIM)
COMPARED = [value for value in VALUES if not isinstance(value, list | dict)]
Filled = tuple[Store, Corpus]


@pytest.fixture(scope="module")
def filled(engine: Engine) -> Iterator[Filled]:
    with engine.create(DIM) as store:
        store.add(CORPUS.vectors, CORPUS.ids, CORPUS.metadata)
        yield store, CORPUS


def found(store: Store, where: Any) -> list[str]:
    names = [entry.id for entry in store.iterate(where)]
    return names if traits_of(store).keeps_order else sorted(names, key=CORPUS.ids.index)


def test_every_value_by_every_operator(filled: Filled) -> None:
    """Of each value: equal, unequal, among others, and on either side of it where it has sides."""
    store, corpus = filled
    for value in COMPARED:
        wheres: list[Any] = [{"price": value}, {"price": {"ne": value}}, {"price": {"in": [value, "gone"]}}]
        if not (isinstance(value, bool) or value is None):
            wheres += [{"price": {how: value}} for how in ("lt", "le", "gt", "ge")]
        for where in wheres:
            assert found(store, where) == corpus.fitting(where), where


@pytest.mark.parametrize("seed", range(4))
def test_any_conditions(filled: Filled, seed: int) -> None:
    store, corpus = filled
    rng = np.random.default_rng(seed)
    sizes = set()
    for _ in range(60):
        where = odd_condition(rng)
        expected = corpus.fitting(where)
        assert found(store, where) == expected, where
        assert store.count(where) == len(expected), where
        sizes.add(len(expected))
    assert len(sizes) > 15


@pytest.mark.parametrize("seed", range(2))
def test_searches_among_what_fits(filled: Filled, seed: int) -> None:
    store, corpus = filled
    rng = np.random.default_rng(seed)
    for _ in range(25):
        where, query = odd_condition(rng), rng.standard_normal(DIM)
        hits = store.search(query.astype(np.float32), 7, where=where)
        assert [hit.id for hit in hits] == corpus.nearest(query, 7, where), where


def test_each_field_is_told_from_others(filled: Filled) -> None:
    store, corpus = filled
    for name in FIELDS:
        for where in ({name: {"exists": True}}, {name: {"exists": False}}, {name: None}, {name: {"ne": None}}):
            assert found(store, where) == corpus.fitting(where), where


def test_no_condition_many_and_long_lists(filled: Filled) -> None:
    store, corpus = filled
    assert found(store, {}) == found(store, None) == corpus.ids
    assert found(store, {"or": []}) == []
    assert found(store, {"and": []}) == corpus.ids
    assert found(store, {"price": {"in": []}}) == []
    for where in (
        {"or": [{"price": number} for number in range(-500, 500)]},
        {"and": [{"price": {"ne": number}} for number in range(1000)]},
        {"price": {"in": [*range(3000), "red", True, None, 0.1, "gone"]}},
    ):
        assert found(store, where) == corpus.fitting(where)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"price": {"less": 3}}, "'less' of 'price' is unknown"),
        ({"price": {"lt": True}}, "can't be compared with True"),
        ({"price": {"eq": float("nan")}}, "can't be compared with nan"),
        ({"price": {"in": "red"}}, "'in' of 'price' needs a list"),
        ({"caf\udce9": 1}, "no text in UTF-8"),
        ({"color": "\udce9"}, "no text in UTF-8"),
        ({"color": "a\0b"}, "holds the character NUL"),
        ({"or": [{"n": number} for number in range(1001)]}, "1001 conditions are more than 1000"),
    ],
)
def test_what_can_not_be_asked(filled: Filled, where: Any, message: str) -> None:
    store, _ = filled
    for ask in (
        store.count,
        lambda where: list(store.iterate(where)),
        lambda where: store.search(np.ones(DIM), where=where),
    ):
        with pytest.raises(ConfigError, match=message):
            ask(where)
