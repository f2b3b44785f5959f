"""Searches by a text, a picture, an entry, and sums of them, over a client whose encoders are two functions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from protoclip.client import Client, InMemoryTransport, MemoryModel
from protoclip.contract.errors import ConfigError, ItemError
from protoclip.search import Index

AXES = ["red", "shoe", "heel", "blue"]


def _embed(item: Any) -> NDArray[np.float32]:
    words = item if isinstance(item, str) else bytes(item).decode()
    if not set(words.split()) <= set(AXES):
        raise ValueError("unknown words")
    return np.array([1.0 if axis in words.split() else 0.01 for axis in AXES], dtype=np.float32)


@pytest.fixture
def client() -> Iterator[Client]:
    model = MemoryModel(_embed, _embed, 4, name="words", fingerprint="0123456789abcdef")
    with Client(transport=InMemoryTransport(model)) as client:
        yield client


@pytest.fixture
def index(client: Client, tmp_path: Path) -> Index:
    texts = ["red shoe", "red shoe heel", "blue shoe", "red", "heel", "blue"]
    index = Index.create(tmp_path / "x.index", "0123456789abcdef", 4)
    index.add(client.embed_texts(texts), texts, [{"price": len(text)} for text in texts])
    return index


def ids(client: Client, index: Index, **arguments: Any) -> list[str]:
    return [hit.id for hit in client.search(index, **arguments)]


def unit(words: str) -> NDArray[np.float64]:
    vector = _embed(words).astype(np.float64)
    return vector / np.linalg.norm(vector)


@pytest.mark.parametrize(
    ("arguments", "query"),
    [
        ({"text": "red"}, unit("red")),
        ({"text": {"red": 2, "shoe": 0.5}}, 2 * unit("red") + 0.5 * unit("shoe")),
        ({"text": "red shoe", "minus": "heel"}, unit("red shoe") - unit("heel")),
        (
            {"text": "shoe", "minus": {"heel": 0.25, "red": 0.5}},
            unit("shoe") - 0.25 * unit("heel") - 0.5 * unit("red"),
        ),
        ({"text": "blue", "image": b"shoe"}, unit("blue") + unit("shoe")),
        ({"image": b"heel", "minus": "blue"}, unit("heel") - unit("blue")),
    ],
)
def test_a_weighted_sum(
    client: Client, index: Index, arguments: dict[str, Any], query: NDArray[np.float64]
) -> None:
    hits = client.search(index, **arguments)
    expected = index.search(query)
    assert [hit.id for hit in hits] == [hit.id for hit in expected]
    np.testing.assert_allclose([hit.score for hit in hits], [hit.score for hit in expected], atol=1e-6)


def test_more_like_an_entry_is_not_that_entry(client: Client, index: Index) -> None:
    found = ids(client, index, like="red shoe")
    assert found == [hit.id for hit in index.search(unit("red shoe"))][1:]
    assert found[0] == "red shoe heel"
    both = ids(client, index, like={"red": 1, "blue": 1}, text="shoe", k=2)
    assert set(both) == {"red shoe", "blue shoe"}


def test_by_an_id_alone_no_server_is_asked(index: Index) -> None:
    with Client("http://127.0.0.1:9", timeout_s=0.1) as client:
        assert ids(client, index, like="blue", k=1) == ["blue shoe"]


def test_pages_conditions_and_groups_go_to_the_index(client: Client, index: Index) -> None:
    everything = ids(client, index, text="red shoe")
    assert ids(client, index, text="red shoe", k=2, offset=2) == everything[2:4]
    assert ids(client, index, text="red shoe", offset=6) == []
    short = ids(client, index, text="red shoe", where={"price": {"le": 4}})
    assert short == [name for name in everything if len(name) <= 4]
    # heel and blue have four letters each.
    assert len(ids(client, index, text="red shoe", group_by="price")) == 5


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ConfigError, "something to look for: text=, image= or like="),
        ({"minus": "red"}, ConfigError, "something to look for"),
        ({"text": {"red": -1}}, ConfigError, "the weight of 'red' is -1: it must be a number above 0"),
        ({"text": {"red": True}}, ConfigError, "the weight of 'red' is True"),
        ({"text": {"red": float("nan")}}, ConfigError, "the weight of 'red' is nan"),
        ({"text": {}}, ConfigError, "text= is empty: leave it out"),
        ({"text": ["red"]}, ConfigError, "text= takes one text, or a mapping"),
        ({"text": "red", "minus": "red"}, ConfigError, "minus='red' is what text= asks for"),
        ({"text": "red", "like": "red", "minus": {"red shoe": 1}, "k": 0}, ConfigError, "k=0 must be at least 1"),
        ({"image": b"red", "minus": "red"}, ConfigError, "the parts of the query cancel out"),
        ({"like": "nobody"}, ConfigError, "no entry has the id 'nobody'"),
        ({"like": 3}, ConfigError, "like=3 is no text"),
        ({"image": [b"red"]}, ConfigError, "image= takes one item"),
        ({"text": "green"}, ItemError, "unknown words"),
        ({"text": "red", "where": {"price": {"near": 3}}}, ConfigError, "'near' of 'price' is unknown"),
    ],
)
def test_wrong_questions(
    client: Client, index: Index, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        client.search(index, **arguments)
