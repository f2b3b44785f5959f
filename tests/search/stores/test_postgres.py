"""PostgreSQL alone: HNSW that loses no hit to a condition, tables of others, and a server that goes away."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from postgres_server import PostgresServer

from protoclip.contract.errors import ConfigError, IndexBusyError, IndexFileError, ServerError
from protoclip.search import Index, copy_index, create_index, open_index, traits_of

FINGERPRINT = "0123456789abcdef"
COUNT, DIM = 3000, 16
psycopg = pytest.importorskip("psycopg", reason="the extra is not installed: pip install 'protoclip[pgvector]'")


def asked(server: PostgresServer, statement: str) -> Any:
    """The first value that a statement gives."""
    with psycopg.connect(server.address, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchone()[0] if cursor.description else None


@pytest.fixture(scope="module")
def approximate(postgres: PostgresServer) -> Iterator[Any]:
    """3,000 entries in HNSW; a thirtieth of them is rare, all of them far from where is searched."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((COUNT, DIM))
    rare = np.arange(COUNT) % 30 == 0
    vectors[rare, 0], vectors[~rare, 0] = -3.0, 3.0
    with create_index(f"{postgres.address}&index=approximate", FINGERPRINT, DIM) as store:
        metadata = [{"rare": bool(one), "number": row} for row, one in enumerate(rare)]
        store.upsert(vectors, [f"{row}" for row in range(COUNT)], metadata)
    # So few rows are sooner sorted, as the planner knows.
    options = quote("-c enable_bitmapscan=off -c enable_seqscan=off -c enable_sort=off")
    with open_index(f"{postgres.address}&options={options}&index=approximate") as store:
        yield store


QUERY = np.eye(DIM)[0] * 3.0 + 0.3


def test_conditions_lose_no_hits(approximate: Any) -> None:
    """Of HNSW's first candidates none fits: it has to go on, or all have to be compared."""
    for k, where in (
        (10, {"rare": True}),
        (100, {"rare": True}),
        (200, {"rare": True}),
        (5, {"number": {"lt": 20}}),
    ):
        expected = approximate.search(QUERY, k, where=where, exact=True)
        found = approximate.search(QUERY, k, where=where)
        assert len(found) == len(expected) == min(k, approximate.count(where))
        assert len({hit.id for hit in found} & {hit.id for hit in expected}) >= 0.9 * len(expected)
        assert all(hit.metadata.get("rare", True) for hit in found if "rare" in where)


def test_it_is_approximate_unless_it_is_asked_otherwise(approximate: Any, postgres: PostgresServer) -> None:
    assert (traits_of(approximate).search, traits_of(approximate).exact_on_demand) == ("approximate", True)
    rng = np.random.default_rng(1)
    queries = rng.standard_normal((20, DIM)).astype(np.float32)
    exact = approximate.search(queries, 10, exact=True)
    recalls = []
    for ef_search in (1, 200, 1000):
        found = approximate.search(queries, 10, ef_search=ef_search)
        common = [
            len({hit.id for hit in one} & {hit.id for hit in two}) for one, two in zip(found, exact, strict=True)
        ]
        recalls.append(sum(common) / 200)
    assert recalls[0] < recalls[1]
    assert recalls[1] >= 0.98
    assert recalls[2] >= recalls[1]
    for ef_search in (0, 1001, True, 2.5):
        with pytest.raises(ConfigError, match="ef_search"):
            approximate.search(queries[0], 10, ef_search=ef_search)


def test_hnsw_is_what_answers(approximate: Any) -> None:
    """Or the two tests above would compare an exact search with itself."""
    from protoclip.search.conditions import parse
    from protoclip.search.stores.engine_facts import Look
    from protoclip.search.stores.postgres_nearest import BY_ALL, BY_HNSW, nearest_statement
    from protoclip.search.stores.postgres_rows import written_vector

    for order, expected in ((BY_HNSW, True), (BY_ALL, False)):
        look = Look(parse({"rare": True}), ["1"], exact=not expected, ef_search=None)
        statement, values = nearest_statement(written_vector(QUERY.astype(np.float32)), 10, look, order)
        with approximate._reading() as connection:
            rows = connection.execute(approximate._sql(f"EXPLAIN {statement}"), values).fetchall()
        assert ("protoclip_approximate_hnsw" in str(rows)) == expected, rows


def test_a_copy_gets_its_graph_at_the_end(approximate: Any, postgres: PostgresServer) -> None:
    target = f"{postgres.address}&index=copied"
    assert copy_index(approximate, target, batch=1000).entries == COUNT
    with open_index(target) as store:
        assert traits_of(store).search == "approximate"
        assert len(store.search(QUERY, 10)) == 10
    exact = f"{postgres.address}&index=copied_exact"
    copy_index(approximate, exact, exact=True)
    with open_index(exact) as store:
        assert traits_of(store).search == "exact"


def test_more_dimensions_than_hnsw_takes(postgres: PostgresServer) -> None:
    with pytest.raises(ConfigError, match=r"dim=2001: pgvector's HNSW takes up to 2,000: give exact=True"):
        create_index(f"{postgres.address}&index=wide", FINGERPRINT, 2001)
    with pytest.raises(IndexFileError, match="no index is here"):
        open_index(f"{postgres.address}&index=wide")
    with create_index(f"{postgres.address}&index=wide", FINGERPRINT, 2001, exact=True) as store:
        store.add(np.ones((1, 2001)), ["a"])
        assert store.search(np.ones(2001))[0].id == "a"
    with pytest.raises(ConfigError, match="dim=16001: pgvector takes up to 16,000"):
        create_index(f"{postgres.address}&index=wider", FINGERPRINT, 16_001, exact=True)


def test_a_copy_that_hnsw_could_not_take_writes_nothing(postgres: PostgresServer, tmp_path: Path) -> None:
    with Index.create(tmp_path / "wide.index", FINGERPRINT, 2001) as wide:
        wide.add(np.ones((1, 2001)), ["a"])
        target = f"{postgres.address}&index=wide_copy"
        with pytest.raises(ConfigError, match=r"up to 2,000: give exact=True \(--exact\)"):
            copy_index(wide, target)
        with pytest.raises(IndexFileError, match="no index is here"):
            open_index(target)
        assert copy_index(wide, target, exact=True).entries == 1


def test_a_name_that_the_graph_needs_is_taken(postgres: PostgresServer) -> None:
    """The server would pass over the graph without a word."""
    create_index(f"{postgres.address}&index=pair_hnsw", FINGERPRINT, 4).close()
    with pytest.raises(IndexFileError, match="protoclip_pair_hnsw is here, as HNSW would be called"):
        create_index(f"{postgres.address}&index=pair", FINGERPRINT, 4)
    create_index(f"{postgres.address}&index=pair", FINGERPRINT, 4, exact=True).close()


def test_a_database_that_cant_hold_every_text(postgres: PostgresServer) -> None:
    with psycopg.connect(postgres.address, autocommit=True) as connection:
        for encoding in ("LATIN1", "SQL_ASCII"):
            connection.execute(f"CREATE DATABASE {encoding} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'")
            address = postgres.address.replace("/postgres?", f"/{encoding.lower()}?")
            with pytest.raises(ConfigError, match=f"the database is of {encoding}, which can't hold every text"):
                create_index(f"{address}&index=a", FINGERPRINT, 4)


def test_no_password_and_a_wrong_one(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = Path(asked(postgres, "SHOW hba_file"))
    kept = rules.read_text(encoding="utf-8")
    address = f"{postgres.address.replace('user=protoclip', 'user=guest')}&index=a"
    asked(postgres, "CREATE ROLE guest LOGIN PASSWORD 'right'")
    rules.write_text(f"local all guest scram-sha-256\n{kept}", encoding="utf-8")
    try:
        asked(postgres, "SELECT pg_reload_conf()")
        for password in (None, "wrong"):
            if password is not None:
                monkeypatch.setenv("PGPASSWORD", password)
            with pytest.raises(
                ConfigError, match=r"refuses this user: .*: check PGPASSWORD or ~/.pgpass"
            ) as caught:
                open_index(address)
            assert "\n" not in str(caught.value)
        monkeypatch.setenv("PGPASSWORD", "right")
        # The password is right; no table is this user's.
        with pytest.raises((IndexFileError, ConfigError), match=r"no index is here|may not do that"):
            open_index(address)
    finally:
        rules.write_text(kept, encoding="utf-8")
        asked(postgres, "SELECT pg_reload_conf()")


def test_bytes_and_entries(approximate: Any) -> None:
    stats = approximate.stats()
    assert stats.entries == COUNT
    assert stats.bytes > COUNT * DIM * 4


def test_a_server_that_is_gone_and_comes_back(postgres: PostgresServer) -> None:
    with create_index(f"{postgres.address}&index=restarted", FINGERPRINT, 4, exact=True) as store:
        store.add(np.eye(4), list("abcd"))
        postgres.stop()
        try:
            with pytest.raises(ServerError, match="PostgreSQL can't be reached"):
                store.count()
            with pytest.raises(ServerError, match="PostgreSQL can't be reached") as caught:
                open_index(f"{postgres.address}&index=restarted")
            assert "\n" not in str(caught.value)
        finally:
            postgres.start()
        assert store.count() == 4
        assert store.search(np.eye(4)[2], 1)[0].id == "c"


def test_a_connection_that_the_server_ends_is_replaced(postgres: PostgresServer) -> None:
    with create_index(f"{postgres.address}&index=ended", FINGERPRINT, 4, exact=True) as store:
        assert store.count() == 0
        with psycopg.connect(postgres.address, autocommit=True) as other:
            other.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND query <> ''"
            )
        store.add(np.eye(4), list("abcd"))
        assert store.count() == 4


def test_who_holds_entries_is_waited_for_and_no_longer(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protoclip.search.stores.postgres_connections.LOCK_WAIT", "50ms")
    with create_index(f"{postgres.address}&index=held", FINGERPRINT, 4, exact=True) as store:
        store.add(np.eye(4), list("abcd"))
        with psycopg.connect(postgres.address) as other:
            other.execute("SELECT * FROM protoclip_held FOR UPDATE")
            with pytest.raises(IndexBusyError, match="somebody else writes these entries"):
                store.upsert(np.eye(4), list("abcd"))
            assert store.count() == 4
            other.rollback()
        store.upsert(np.eye(4), list("abcd"))


def test_a_forked_process_goes_on_with_its_own_connections(postgres: PostgresServer) -> None:
    with create_index(f"{postgres.address}&index=forked", FINGERPRINT, 4, exact=True) as store:
        store.add(np.eye(4)[:1], ["a"])
        child = os.fork()
        if not child:
            try:
                store.add(np.eye(4)[1:2], ["child"])
                os._exit(0 if store.count() == 2 else 1)
            finally:
                os._exit(2)
        assert os.waitpid(child, 0)[1] == 0
        store.add(np.eye(4)[2:3], ["parent"])
        assert [entry.id for entry in store.iterate()] == ["a", "child", "parent"]


def test_other_tables_stay_as_they_are(postgres: PostgresServer) -> None:
    with psycopg.connect(postgres.address, autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS protoclip_mine (a int)")
        connection.execute("INSERT INTO protoclip_mine VALUES (1)")
        for replace in (False, True):
            with pytest.raises(IndexFileError, match="a table protoclip_mine is here that is no index"):
                create_index(f"{postgres.address}&index=mine", FINGERPRINT, 4, replace=replace)
        assert connection.execute("SELECT * FROM protoclip_mine").fetchall() == [(1,)]


def test_an_index_that_was_dropped_says_so(postgres: PostgresServer) -> None:
    with create_index(f"{postgres.address}&index=dropped", FINGERPRINT, 4, exact=True) as store:
        with psycopg.connect(postgres.address, autocommit=True) as connection:
            connection.execute("DROP TABLE protoclip_dropped")
        with pytest.raises(IndexFileError, match="no index is here"):
            store.count()


def test_a_refused_call_logs_nothing_beside_its_error(
    postgres: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    ids = [f"{number}" for number in range(20)]
    with create_index(f"{postgres.address}&index=refused", FINGERPRINT, 4, exact=True) as store:
        store.add(np.ones((20, 4)), ids)
        with pytest.raises(ConfigError, match="is there twice"):
            store.add(np.ones((20, 4)), ids[::-1])
    assert caplog.records == []
