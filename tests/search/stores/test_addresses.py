"""Addresses: which engine and index, never with a password, and no name that could be more than a name."""

from __future__ import annotations

from pathlib import Path

import pytest

from protoclip.contract.errors import ConfigError
from protoclip.search import open_index
from protoclip.search.stores.addresses import (
    MilvusAddress,
    PostgresAddress,
    is_store_address,
    store_address,
)


@pytest.mark.parametrize(
    ("address", "connection", "index"),
    [
        ("postgresql://me@db:5433/shop?index=a", "postgresql://me@db:5433/shop", "a"),
        ("postgres://db/shop?sslmode=require&index=a_1", "postgresql://db/shop?sslmode=require", "a_1"),
        ("postgresql:///shop?host=/run/pg&index=a", "postgresql:///shop?host=%2Frun%2Fpg", "a"),
        ("postgresql://db?index=a", "postgresql://db", "a"),
        # To libpq a + is a plus, and a blank is %20.
        ("postgresql:///shop?host=/run/a+b&index=a", "postgresql:///shop?host=%2Frun%2Fa%2Bb", "a"),
        (
            "postgresql://db/shop?options=-c%20x%3D1&inde%78=a",
            "postgresql://db/shop?options=-c%20x%3D1",
            "a",
        ),
    ],
)
def test_addresses_of_postgresql(address: str, connection: str, index: str) -> None:
    found = store_address(address)
    assert found == PostgresAddress(connection, index, address)


@pytest.mark.parametrize(
    ("address", "uri", "database", "index"),
    [
        ("milvus://host:19531/shop", "http://host:19531", "", "shop"),
        ("milvus://host/shop", "http://host:19530", "", "shop"),
        ("milvus://[::1]:19530/prod/shop?tls=true", "https://[::1]:19530", "prod", "shop"),
        ("milvus:///data/a%20b.db#shop", "/data/a b.db", "", "shop"),
    ],
)
def test_addresses_of_milvus(address: str, uri: str, database: str, index: str) -> None:
    found = store_address(address)
    assert found == MilvusAddress(uri, database, index, address)
    assert found.is_file == uri.startswith("/")


@pytest.mark.parametrize("path", ["shop.index", "/a/b", "C:\\shop", "s3://bucket/x", "postgresql", "milvus.index"])
def test_paths_are_no_addresses(path: str) -> None:
    assert not is_store_address(path)
    assert not is_store_address(Path("postgresql://x/y"))


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("postgresql://me@db/shop", r"names no index: write postgresql://user@host/database\?index=shop"),
        ("postgresql://db/shop?index=a&index=b", "names no index"),
        ("postgresql://db/shop?index=", "'' is no name of an index"),
        ("postgresql://db/shop?index", "'' is no name of an index"),
        ("postgresql://db/shop?index=a&application_name=caf%e9", "all of it is UTF-8"),
        ("postgresql://db/caf\udce9?index=a", "all of it is UTF-8"),
        ("postgresql://db/shop?index=A", "'A' is no name of an index: up to 40 of a-z"),
        ("postgresql://db/shop?index=a%22;drop", "is no name of an index"),
        (f"postgresql://db/shop?index={'a' * 41}", "is no name of an index"),
        ("milvus://host:19530", "names no index: write milvus://host:19530/shop"),
        ("milvus://host:19530/a/b/c", "names no index"),
        ("milvus://host:19530/a'b", "is no name of an index"),
        ("milvus://me@host/shop", "who you are says MILVUS_TOKEN"),
        ("milvus://host/shop?tls=maybe", r"takes \?tls=true and nothing else"),
        ("milvus:///data/shop", "a file of Milvus Lite is written milvus:///folder/file.db#shop"),
        ("milvus://host:x/shop", "can't be read"),
    ],
)
def test_what_is_no_address(address: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_index(address)


@pytest.mark.parametrize(
    ("address", "way_out"),
    [
        ("postgresql://me:hush@db/shop?index=a", "PGPASSWORD or ~/.pgpass"),
        ("postgresql://db/shop?index=a&password=hush", "PGPASSWORD"),
        ("postgresql://db/shop?index=a&sslpassword=hush", "PGPASSWORD"),
        ("postgresql://db/shop?index=a&oauth_client_secret=hush", "PGPASSWORD"),
        ("postgresql://db/shop?index=a&scram_client_key=hush", "PGPASSWORD"),
        ("milvus://me:hush@host/shop", "MILVUS_TOKEN"),
        ("milvus://host/shop?token=hush", "MILVUS_TOKEN"),
    ],
)
def test_passwords_are_refused_and_not_shown(address: str, way_out: str) -> None:
    with pytest.raises(ConfigError, match=f"holds a password.* put it in {way_out}") as caught:
        open_index(address)
    assert "hush" not in str(caught.value)
