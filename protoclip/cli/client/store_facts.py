"""What `protoclip index info` says of an index in an engine."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from protoclip.search import Store, StoreTraits, traits_of


def print_store_facts(index: Store, as_json: bool) -> None:
    """What it holds, and what it promises."""
    stats, traits = index.stats(), traits_of(index)
    facts: dict[str, str | int] = {
        "index": str(index.path),
        "entries": stats.entries,
        "dimensions": index.dim,
        "model": index.model,
        "fingerprint": index.fingerprint,
        **({} if index.artifact is None else {"artifact": index.artifact}),
        **({} if stats.bytes is None else {"bytes": stats.bytes}),
        "search": traits.search,
    }
    if as_json:
        typer.echo(json.dumps({**facts, **asdict(traits)}, ensure_ascii=False))
        return
    table = Table(show_header=False)
    for name, value in {**facts, **_lacking(traits)}.items():
        table.add_row(name, Text(f"{value:,}" if isinstance(value, int) else value, overflow="fold"))
    Console().print(table)


def _lacking(traits: StoreTraits) -> dict[str, str]:
    """What it does not promise, and an index of this machine does."""
    has = {
        "transactions": traits.transactions,
        "a refusal for one of two adds of an id": traits.unique_ids,
        "the order of addition": traits.keeps_order,
        "iterations of one moment": traits.snapshots,
    }
    without = ", ".join(name for name, there in has.items() if not there)
    return {"without": without} if without else {}
