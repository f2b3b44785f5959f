"""`protoclip index copy`: from one index into another, wherever they are."""

from __future__ import annotations

import json
from dataclasses import asdict
from shlex import join
from typing import Annotated

import typer
from rich.markup import escape

from protoclip.cli.app import JsonOption, console

from .connection import new_progress
from .index import index_app

_ADDRESSES = "a folder, postgresql://user@host/database?index=shop, or milvus://host:19530/shop"
_BATCH = 1000


@index_app.command()
def copy(
    source: Annotated[str, typer.Argument(help=f"The index to read: {_ADDRESSES}.")],
    target: Annotated[str, typer.Argument(help=f"Where to write it; made where it isn't there: {_ADDRESSES}.")],
    exact: Annotated[
        bool,
        typer.Option("--exact", help="Make the target without HNSW: every search compares with every vector."),
    ] = False,
    batch: Annotated[int, typer.Option(min=1, help="Entries that are read and written at a time.")] = _BATCH,
    as_json: JsonOption = False,
) -> None:
    """Copy an index between this machine, PostgreSQL and Milvus. The same command again goes on where it stood.

    Example: protoclip index copy shop.index "postgresql://shop@db.example.com/shop?index=shop"
    """
    from protoclip.search import CopyProgress, copy_index, left_behind, open_index

    with open_index(source) as origin, new_progress() as progress:
        behind = left_behind(origin, target)
        if behind and not as_json:
            console.print(f"stays behind: {escape('; '.join(behind))}", highlight=False)
        task = progress.add_task("copying", total=None)

        def show(state: CopyProgress) -> None:
            progress.update(task, completed=state.done, total=state.total)

        copied = copy_index(origin, target, exact=exact, batch=batch, progress=show)
    if as_json:
        typer.echo(json.dumps({"source": source, "target": target, **asdict(copied)}, ensure_ascii=False))
        return
    kept = f", {copied.kept} were there already" if copied.kept else ""
    console.print(
        f"{escape(target)}: {copied.entries} entries, {copied.written} written{kept}; {copied.compared} read "
        "again, and as in the source",
        highlight=False,
    )
    command = join(["protoclip", "search", target, "--text", "red shoes"])
    console.print(f"next: [bold]{escape(command)}[/]", highlight=False)
