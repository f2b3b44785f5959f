"""An index is searched with the model that made it, whichever others are served, and nobody has to name it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protoclip.client import AsyncClient, Client, InMemoryTransport, MemoryModel, ModelNotFound
from protoclip.client.errors import SeveralModels
from protoclip.client.transport import Answer
from protoclip.contract.errors import IndexFileError
from protoclip.search import Index

OLD, NEW = "ab12cd34", "ffffff00"
GONE = r"x\.index: made with the model ab12cd34, which memory:// doesn't serve: .*`protoclip index migrate`"


class Served(InMemoryTransport):
    """Models that come and go; counts what is asked about them."""

    def __init__(self, *fingerprints: str) -> None:
        super().__init__()
        self.asked = 0
        for fingerprint in fingerprints:
            self.load(fingerprint)

    def load(self, fingerprint: str) -> None:
        axis = np.eye(4)[int(fingerprint == NEW)]
        model = MemoryModel(lambda data: axis, lambda text: axis, 4, "shop", fingerprint)
        self._models |= {f"{model.prefix}_{role}": model for role in ("image", "text")}

    def unload(self, fingerprint: str) -> None:
        self._models = {name: model for name, model in self._models.items() if model.fingerprint != fingerprint}

    def ready_models(self, timeout_s: float | None) -> list[str]:
        self.asked += 1
        return super().ready_models(timeout_s)

    def infer(self, model: str, input_name: str, items: Any, timeout_s: float | None) -> Answer:
        if model not in self._models:
            raise ModelNotFound(f"{self.url}: {model} is not there")
        return super().infer(model, input_name, items, timeout_s)


class InTurn:
    """AsyncClient's methods, each run to its end."""

    def __init__(self, **options: Any) -> None:
        self._client = AsyncClient(**options)

    def __getattr__(self, name: str) -> Any:
        return lambda *given, **options: asyncio.run(getattr(self._client, name)(*given, **options))


@pytest.fixture(params=[Client, InTurn])
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def index(tmp_path: Path) -> Index:
    with Client(transport=Served(OLD)) as client:
        return Index.build(tmp_path / "x.index", client, texts=["a", "b"])


def test_of_several_it_is_the_indexs(kind: Any, index: Index) -> None:
    transport = Served(NEW, OLD)
    client = kind(transport=transport)
    for _ in range(3):
        assert client.search(index, text="a", k=1)[0].score == pytest.approx(1)
        assert client.search(index, image=b"a", minus="b" * 9, text={"a": 2}, k=1)[0].score == pytest.approx(1)
    # Once for the models that there are, once for that of the index.
    assert transport.asked == 2
    with pytest.raises(SeveralModels, match="serves shop_ab12cd, shop_ffffff: say which"):
        client.embed_texts("a")


def test_also_where_another_one_is_named(kind: Any, index: Index) -> None:
    client = kind(transport=Served(NEW, OLD), model="shop_ffffff")
    assert client.search(index, text="a", k=1)[0].score == pytest.approx(1)
    assert client.embed_texts("a").tolist() == [0, 1, 0, 0]


def test_gone_it_is_one_line(kind: Any, index: Index) -> None:
    message = "made with shop ab12cd34, but the client uses shop ffffff00: .*`protoclip index migrate`"
    with pytest.raises(IndexFileError, match=message):
        kind(transport=Served(NEW)).search(index, text="a")
    with pytest.raises(IndexFileError, match=GONE):
        kind(transport=Served(NEW, "00ff00ff")).search(index, text="a")


@pytest.mark.parametrize("first", [(OLD,), (OLD, NEW)])
def test_gone_while_a_client_is_in_use(kind: Any, index: Index, first: tuple[str, ...]) -> None:
    transport = Served(*first)
    client = kind(transport=transport)
    assert client.search(index, text="a", k=1)[0].score == pytest.approx(1)
    transport.load(NEW)
    transport.unload(OLD)
    with pytest.raises(IndexFileError, match=GONE):
        client.search(index, text="a")
    transport.load(OLD)
    assert client.search(index, text="a", k=1)[0].score == pytest.approx(1)


def test_after_follow_the_server_is_asked_again(kind: Any) -> None:
    transport = Served(NEW, OLD)
    client = kind(transport=transport)
    assert client.model_with(OLD).prefix == "shop_ab12cd"
    transport.load("00ff00ff")
    transport.unload(OLD)
    with pytest.raises(SeveralModels):
        client.follow()
    assert client.model_with(OLD) is None


def test_opened_with_a_client(index: Index) -> None:
    with Client(transport=Served(NEW, OLD)) as client:
        assert len(Index.open(index.path, client)) == 2
    with Client(transport=Served(NEW, "00ff00ff")) as client, pytest.raises(IndexFileError, match=GONE):
        Index.open(index.path, client)
