"""An index in PostgreSQL with pgvector: a table for each index, and one that says which models they are of.

`Q` queries, `n` entries, `D` embedding.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

from psycopg import errors, sql

from protoclip.client.results import Hit
from protoclip.contract.errors import ConfigError, IndexFileError
from protoclip.search.conditions import Condition
from protoclip.search.entries import Entry, Label, id_bytes, id_text
from protoclip.search.store import StoreTraits
from protoclip.search.vectors import Array

from .addresses import PostgresAddress
from .engine import EngineStore
from .engine_facts import EngineStats, Look, StoreFacts, hit
from .postgres_connections import Connection, Connections
from .postgres_filters import fields_json, statement_of
from .postgres_nearest import BY_ALL, BY_HNSW, nearest_statement
from .postgres_rows import digests_of, entry_of, taken_error, written_vector
from .postgres_tables import Lock, drop_tables, make_graph, make_tables, read_facts, table_of

_ITERATED = 500
_EF_SEARCH, _MAX_EF_SEARCH = 200, 1000


class PostgresStore(EngineStore):
    """An index in PostgreSQL; made by `create_index` and `open_index`.

    Each call is one transaction. Searches by HNSW unless `exact`; where a condition leaves HNSW fewer hits than
    were asked for, every vector is compared. Equal scores come in the order of addition in exact searches.
    """

    def __init__(self, address: PostgresAddress, facts: StoreFacts, connections: Connections) -> None:
        """Use `create_index` or `open_index`."""
        super().__init__(address.shown, facts)
        self._address = address
        self._connections = connections
        self._table = table_of(address.index)

    @classmethod
    def create(
        cls, address: PostgresAddress, facts: StoreFacts, *, replace: bool, settled: bool = True
    ) -> PostgresStore:
        """Makes an empty index; errors as `create_index`. Not `settled`: `settle` builds HNSW, and until then
        searches compare with every vector."""
        connections = Connections(address)
        try:
            with connections.writing() as connection:
                if replace:
                    drop_tables(connection, address)
                make_tables(connection, address, facts, settled=settled)
        except BaseException:
            connections.close()
            raise
        return cls(address, facts, connections)

    @classmethod
    def open(cls, address: PostgresAddress) -> PostgresStore:
        """Opens one; errors as `open_index`."""
        connections = Connections(address)
        try:
            with connections.reading() as connection:
                facts = read_facts(connection, address)
        except BaseException:
            connections.close()
            raise
        return cls(address, facts, connections)

    @property
    def traits(self) -> StoreTraits:
        """What it promises."""
        return StoreTraits(
            transactions=True,
            unique_ids=True,
            sees_writes=True,
            keeps_order=True,
            snapshots=True,
            search="exact" if self.exact else "approximate",
            exact_on_demand=True,
        )

    def close(self) -> None:
        """Ends its connections; every other call fails then. May be called twice."""
        self._connections.close()

    def settle(self) -> None:
        """Builds HNSW over all entries, where there is none, unless the index is exact; errors as `add`."""
        if self.exact:
            return
        # Two that do this at once wait for each other here: with a lock that both can have, each would wait for
        # the other to give it back.
        with self._connections.writing() as connection:
            self._check(connection, lock="NO KEY UPDATE")
            make_graph(connection, self._address)

    def stats(self) -> EngineStats:
        """What it holds, and how many bytes it takes."""
        with self._reading() as connection:
            (taken,) = self._one(connection, "SELECT pg_total_relation_size({table}::regclass)", literal=True)
            (entries,) = self._one(connection, "SELECT count(*) FROM {table}")
        return EngineStats(int(entries), int(taken))

    def get_many(self, ids: Sequence[str]) -> list[Entry | None]:
        """As `EngineStore.get_many`."""
        names = [id_bytes(name) for name in ids]
        query = "SELECT id, metadata::text, vector::real[] FROM {table} WHERE sha256(id) = ANY(%s)"
        with self._reading() as connection:
            rows = connection.execute(self._sql(query), (digests_of(names),)).fetchall()
        found = {row[0]: entry_of(row) for row in rows}
        return [found.get(name) for name in names]

    def _insert(self, rows: Array, labels: Sequence[Label], *, replace: bool) -> None:
        if not labels:
            return
        insert = "INSERT INTO {table} (key, id, metadata, fields, vector) VALUES (%s, %s, %s, %s, %s::vector)"
        if replace:
            insert += (
                " ON CONFLICT (sha256(id)) DO UPDATE SET key = EXCLUDED.key, metadata = EXCLUDED.metadata, "
                "fields = EXCLUDED.fields, vector = EXCLUDED.vector"
            )
        digests = digests_of([label.id for label in labels])
        with self._writing() as connection:
            keys = self._new_keys(connection, len(labels))
            values = [
                (key, label.id, label.metadata, fields_json(label.decoded()), written_vector(row))
                for key, label, row in zip(keys, labels, rows, strict=True)
            ]
            # In one order for all writers, or two that have entries in common would wait for each other.
            order = sorted(range(len(labels)), key=digests.__getitem__)
            try:
                connection.cursor().executemany(self._sql(insert), [values[place] for place in order])
            except errors.UniqueViolation as error:
                raise taken_error(error, dict(zip(digests, labels, strict=True))) from error

    def _new_keys(self, connection: Connection, number: int) -> list[int]:
        query = "SELECT nextval(pg_get_serial_sequence({table}, 'key')) FROM generate_series(1, %s)"
        rows = connection.execute(self._sql(query, literal=True), (number,)).fetchall()
        return sorted(cast("int", key) for (key,) in rows)

    def _delete(self, names: Sequence[str]) -> int:
        digests = sorted(digests_of([id_bytes(name) for name in names]))
        with self._writing() as connection:
            # Locked in one order, as entries are written.
            query = "SELECT key FROM {table} WHERE sha256(id) = ANY(%s) ORDER BY sha256(id) FOR UPDATE"
            keys = [key for (key,) in connection.execute(self._sql(query), (digests,)).fetchall()]
            return connection.execute(self._sql("DELETE FROM {table} WHERE key = ANY(%s)"), (keys,)).rowcount

    def _count(self, condition: Condition) -> int:
        where, values = statement_of(condition)
        with self._reading() as connection:
            return int(self._one(connection, f"SELECT count(*) FROM {{table}} WHERE {where}", values)[0])

    def _iterate(self, condition: Condition) -> Iterator[Entry]:
        where, values = statement_of(condition)
        query = f"SELECT id, metadata::text, vector::real[] FROM {{table}} WHERE {where} ORDER BY key"
        with self._reading() as connection, connection.cursor(name="entries") as cursor:
            cursor.itersize = _ITERATED
            cursor.execute(self._sql(query), values)
            for row in cursor:
                yield entry_of(row)

    @property
    def change(self) -> str:
        """As `EngineStore.change`: keys grow with every entry that is written, and none comes back."""
        query = "SELECT {table}::regclass::oid"
        with self._reading() as connection:
            (table,) = self._one(connection, query, literal=True)
            last, number = self._one(connection, "SELECT max(key), count(*) FROM {table}")
        return f"{table}.{last}.{number}"

    def _sample(self, most: int) -> list[Entry]:
        every = "SELECT key, row_number() OVER (ORDER BY key) - 1 AS place, count(*) OVER () AS total FROM {table}"
        # Of places 0 to total - 1, `most` that are as far from one another as can be.
        chosen = f"SELECT key FROM ({every}) AS every WHERE total <= %s OR (place * %s) %% total < %s"
        query = f"SELECT id, metadata::text, vector::real[] FROM {{table}} WHERE key IN ({chosen}) ORDER BY key"
        with self._reading() as connection:
            rows = connection.execute(self._sql(query), (most, most, most)).fetchall()
        return [entry_of(row) for row in rows]

    def _nearest(self, rows: Array, number: int, look: Look) -> list[list[Hit]]:
        ef_search = _EF_SEARCH if look.ef_search is None else look.ef_search
        if ef_search > _MAX_EF_SEARCH:
            raise ConfigError(f"ef_search={ef_search}: pgvector takes up to {_MAX_EF_SEARCH}")
        with self._reading() as connection:
            if not look.exact:
                connection.execute(
                    "SELECT set_config('hnsw.ef_search', %s, true), "
                    "set_config('hnsw.iterative_scan', 'relaxed_order', true)",
                    (str(ef_search),),
                )
            return [self._best(connection, written_vector(row), number, look) for row in rows]

    def _best(self, connection: Connection, query: str, number: int, look: Look) -> list[Hit]:
        if not look.exact:
            found = self._hits(connection, query, number, look, BY_HNSW)
            # An iterative scan ends after a bounded number of entries, whether or not enough of them fitted.
            if len(found) == number:
                return found

        return self._hits(connection, query, number, look, BY_ALL)

    def _hits(self, connection: Connection, query: str, number: int, look: Look, order: str) -> list[Hit]:
        statement, values = nearest_statement(query, number, look, order)
        rows = connection.execute(self._sql(statement), values).fetchall()
        return [hit(id_text(row[0]), float(row[2]), json.loads(row[1])) for row in cast("list[Any]", rows)]

    def _one(
        self, connection: Connection, query: str, values: Sequence[Any] = (), *, literal: bool = False
    ) -> tuple[Any, ...]:
        row = connection.execute(self._sql(query, literal=literal), values).fetchone()
        assert row is not None
        return row

    def _sql(self, query: str, *, literal: bool = False) -> sql.Composed:
        """`query` with the table's name, quoted as a name or as a text; all values are bound."""
        name = sql.Literal(self._table) if literal else sql.Identifier(self._table)
        return sql.SQL(cast("Any", query)).format(table=name)

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._connections.reading() as connection:
            self._check(connection)
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._connections.writing() as connection:
            self._check(connection, lock="SHARE")
            yield connection

    def _check(self, connection: Connection, *, lock: Lock | None = None) -> None:
        facts = read_facts(connection, self._address, lock=lock)
        if (facts.fingerprint, facts.dim) != (self.fingerprint, self.dim):
            raise IndexFileError(f"{self.path}: was made again with another model meanwhile: open it again")
