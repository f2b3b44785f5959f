"""The statement by which PostgreSQL finds the nearest entries, by HNSW or by comparing all."""

from __future__ import annotations

from typing import Any

from protoclip.search.entries import id_bytes

from .engine_facts import Look
from .postgres_filters import statement_of
from .postgres_rows import digests_of

# What is no operator's result alone is not looked up in HNSW.
BY_HNSW, BY_ALL = "vector <#> %s::vector", "(vector <#> %s::vector) + 0, key"
# What LIMIT takes, a number of 64 bits, and no table has.
_MAX_HITS = 2**63 - 1


def nearest_statement(query: str, number: int, look: Look, order: str) -> tuple[str, list[Any]]:
    """For the best `number` hits of a written vector, by BY_HNSW or BY_ALL; `{table}` stands for the table."""
    where, values = statement_of(look.condition)
    if look.without:
        where = f"({where}) AND NOT sha256(id) = ANY(%s)"
        values = [*values, digests_of([id_bytes(name) for name in look.without])]
    statement = (
        "SELECT id, metadata::text, -distance FROM ("
        f"SELECT key, vector <#> %s::vector AS distance FROM {{table}} WHERE {where} ORDER BY {order} LIMIT %s"
        ") AS nearest JOIN {table} USING (key) ORDER BY distance, key"
    )
    return statement, [query, *values, query, min(number, _MAX_HITS)]
