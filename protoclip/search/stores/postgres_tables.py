"""The tables of indexes in a PostgreSQL database: made, dropped, and what they say of their models."""

from __future__ import annotations

import re
from typing import Any, Literal

from psycopg import errors, sql

from protoclip.contract.errors import ConfigError, IndexFileError

from .addresses import PostgresAddress
from .engine_facts import StoreFacts
from .postgres_connections import Connection

FORMAT = 1
Lock = Literal["SHARE", "NO KEY UPDATE"]
_OLDEST_PGVECTOR = (0, 8)
_MAX_DIM, _MAX_HNSW_DIM = 16_000, 2_000
# Any number that is the same for all who make tables here: they do it one after another.
_MAKING = 0x50434C49
_CATALOG = """
CREATE TABLE IF NOT EXISTS protoclip_indexes (
    name text PRIMARY KEY, format integer NOT NULL, model text NOT NULL, fingerprint text NOT NULL,
    dim integer NOT NULL, artifact text, exact boolean NOT NULL
)
"""
# An id may be of any length, which a B-tree's key may not: its digest is unique instead. `metadata` is the text
# that was written; `fields` is what conditions compare.
_TABLE = """
CREATE TABLE {table} (
    key bigserial PRIMARY KEY, id bytea NOT NULL, metadata json NOT NULL, fields jsonb NOT NULL,
    vector vector({dim}) NOT NULL
)
"""
_INDEXES = (
    "CREATE UNIQUE INDEX ON {table} (sha256(id))",
    "CREATE INDEX ON {table} USING gin (fields jsonb_path_ops)",
)
_GRAPH = (
    "CREATE INDEX IF NOT EXISTS {graph} ON {table} USING hnsw (vector vector_ip_ops) "
    "WITH (m = 16, ef_construction = 128)"
)


def table_of(index: str) -> str:
    """Name of the table of an index."""
    return f"protoclip_{index}"


def _graph_of(index: str) -> str:
    return f"{table_of(index)}_hnsw"


def make_tables(
    connection: Connection, address: PostgresAddress, facts: StoreFacts, *, settled: bool = True
) -> None:
    """Makes the tables of an empty index; not `settled`: without HNSW, which `make_graph` builds later.

    Raises:
        IndexFileError: one of this name is there, or something else with a name that it needs.
        ConfigError: no pgvector, an old one, more dimensions than it takes, or a database that isn't of UTF-8.
    """
    connection.execute("SELECT pg_advisory_xact_lock(%s)", (_MAKING,))
    _check_encoding(connection, address)
    _make_extension(connection, address)
    _check_dim(facts)
    if not facts.exact:
        _check_graph(connection, address)
    connection.execute(_CATALOG)
    row = (address.index, FORMAT, facts.model, facts.fingerprint, facts.dim, facts.artifact, facts.exact)
    try:
        with connection.transaction():
            connection.execute("INSERT INTO protoclip_indexes VALUES (%s, %s, %s, %s, %s, %s, %s)", row)
            _run(connection, _TABLE, address.index, dim=sql.Literal(facts.dim))
    except errors.DuplicateTable as error:
        raise IndexFileError(
            f"{address.shown}: a table {table_of(address.index)} is here that is no index: choose another name"
        ) from error
    except errors.UniqueViolation as error:
        raise IndexFileError(f"{address.shown}: an index is here: open it, or give replace=True") from error
    for statement in _INDEXES:
        _run(connection, statement, address.index)
    if settled and not facts.exact:
        make_graph(connection, address)


def make_graph(connection: Connection, address: PostgresAddress) -> None:
    """Builds HNSW, where there is none."""
    _run(connection, _GRAPH, address.index, graph=sql.Identifier(_graph_of(address.index)))


def drop_tables(connection: Connection, address: PostgresAddress) -> None:
    """Drops an index, if it is there, and no table that is none."""
    if connection.execute("SELECT to_regclass('protoclip_indexes')").fetchone() == (None,):
        return
    named = connection.execute("DELETE FROM protoclip_indexes WHERE name = %s", (address.index,)).rowcount
    if named:
        _run(connection, "DROP TABLE IF EXISTS {table}", address.index)


def read_facts(connection: Connection, address: PostgresAddress, *, lock: Lock | None = None) -> StoreFacts:
    """What an index says of itself; `lock`: nobody replaces it before the transaction ends, and where it isn't
    SHARE nobody else writes to it either.

    Raises:
        IndexFileError: there is none, or it has a newer format.
    """
    row: Any = connection.execute(
        "SELECT format, model, fingerprint, dim, artifact, exact FROM protoclip_indexes WHERE name = %s"
        + ("" if lock is None else f" FOR {lock}"),
        (address.index,),
    ).fetchone()
    if row is None:
        raise IndexFileError(f"{address.shown}: no index is here: make one, or copy one here")
    if row[0] != FORMAT:
        raise IndexFileError(
            f"{address.shown}: its format is {row[0]}, this version reads {FORMAT}: update protoclip"
        )
    return StoreFacts(*row[1:])


def _check_encoding(connection: Connection, address: PostgresAddress) -> None:
    row: Any = connection.execute("SHOW server_encoding").fetchone()
    if row[0] != "UTF8":
        raise ConfigError(
            f"{address.shown}: the database is of {row[0]}, which can't hold every text: make one with "
            "CREATE DATABASE … TEMPLATE template0 ENCODING 'UTF8'"
        )


def _check_dim(facts: StoreFacts) -> None:
    if facts.dim > _MAX_DIM:
        raise ConfigError(f"dim={facts.dim}: pgvector takes up to {_MAX_DIM:,}")
    if facts.dim > _MAX_HNSW_DIM and not facts.exact:
        raise ConfigError(
            f"dim={facts.dim}: pgvector's HNSW takes up to {_MAX_HNSW_DIM:,}: give exact=True (--exact)"
        )


def _check_graph(connection: Connection, address: PostgresAddress) -> None:
    """The server would take a table of that name for the graph, and build none."""
    graph = _graph_of(address.index)
    if connection.execute("SELECT to_regclass(%s)", (graph,)).fetchone() != (None,):
        raise IndexFileError(
            f"{address.shown}: {graph} is here, as HNSW would be called: choose another name, or give exact=True"
        )


def _make_extension(connection: Connection, address: PostgresAddress) -> None:
    try:
        with connection.transaction():
            connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    except (errors.InsufficientPrivilege, errors.FeatureNotSupported, errors.UndefinedFile) as error:
        raise ConfigError(
            f"{address.shown}: the database has no pgvector: install it, and have an administrator run "
            "CREATE EXTENSION vector"
        ) from error
    row: Any = connection.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'").fetchone()
    version = tuple(int(part) for part in re.findall(r"\d+", row[0])[:2])
    if version < _OLDEST_PGVECTOR:
        raise ConfigError(
            f"{address.shown}: pgvector {row[0]} loses hits where conditions are given: 0.8 or newer is needed"
        )


def _run(connection: Connection, statement: Any, index: str, **names: sql.Composable) -> None:
    connection.execute(sql.SQL(statement).format(table=sql.Identifier(table_of(index)), **names))
