"""`protoclip index tune`: approximate searches, and how much they find."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from zipfile import BadZipFile

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from protoclip.cli.app import JsonOption, console
from protoclip.contract.errors import DataError
from protoclip.contract.picture_folders import Skipped

from .connection import new_progress, tell_left_out
from .index import index_app
from .server_options import DEFAULT_URL, Server, asks_server, url_for_index
from .tuning_facts import tuning_rows

if TYPE_CHECKING:
    from protoclip.client import Embeddings
    from protoclip.search import Index, Tuning


@index_app.command()
@asks_server(f"the artifact that the index was built with, or else {DEFAULT_URL}")
def tune(
    index: Annotated[Path, typer.Argument(help="Folder that `protoclip index build` wrote.")],
    recall: Annotated[
        float, typer.Option(help="The share of the nearest entries that a search must find, on average.")
    ] = 0.99,
    queries: Annotated[
        str | None,
        typer.Option(
            help="What people look for: a file in UTF-8 with a text a line, 100 or more, better 1000; or what "
            "`protoclip embed --texts-file … --out queries.npz` wrote, for which no server is asked. Without it "
            "those of the last tuning; without these, searches by text stay exact."
        ),
    ] = None,
    *,
    server: Server,
    as_json: JsonOption = False,
) -> None:
    """Make searches approximate, by measuring how much they find; where that doesn't pay they stay exact.

    Example: protoclip index tune shop.index --queries queries.txt
    """
    from protoclip.search import Index

    with Index.open(index) as opened:
        vectors = None if queries is None else _vectors(opened, queries, server)
        tuned = _tune(opened, recall, vectors)
    if as_json:
        typer.echo(json.dumps({"index": str(index), **asdict(tuned)}, ensure_ascii=False))
        return
    table = Table(show_header=False)
    for name, value in tuning_rows(tuned).items():
        table.add_row(name, Text(value, overflow="fold"))
    Console().print(table)
    if not tuned.by_other.queries:
        console.print(
            "searches by text stay exact; to tune them too: "
            f"[bold]protoclip index tune {escape(str(index))} --queries queries.txt[/]",
            highlight=False,
        )


def _tune(index: Index, recall: float, vectors: Embeddings | None) -> Tuning:
    with new_progress() as progress:
        task = progress.add_task("coding", total=None)

        def show(what: str, done: int, total: int) -> None:
            progress.update(task, description={"code": "coding"}.get(what, what), completed=done, total=total)

        return index.tune(recall, vectors, show)


def _vectors(index: Index, queries: str, server: Server) -> Embeddings:
    if queries.endswith(".npz"):
        return _embedded_before(Path(queries))
    from .inputs import text_inputs
    from .standard_input import StandardInput

    inputs = text_inputs([], queries, StandardInput(), "--queries")
    url = url_for_index(index, server.url)
    with server.connected(url, index.fingerprint) as client:
        model = client.model_with(index.fingerprint) or client.model
        index.check_model(model)
    with replace(server, model=model.prefix).connected(url) as client:
        embedded = client.embed_texts(inputs.items, errors="return")
    good = np.isfinite(embedded.vectors).all(axis=1)
    refused = [Skipped(inputs.name(error.position), error.reason) for error in embedded.errors]
    tell_left_out([*refused, *inputs.failed], int(good.sum()), "left out", items="text")
    return replace(embedded, vectors=embedded.vectors[good], errors=())


def _embedded_before(path: Path) -> Embeddings:
    from protoclip.client import Embeddings

    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as found:
            return Embeddings(found["vectors"], fingerprint=str(found["fingerprint"]))
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise DataError(
            f"--queries {path}: not what `protoclip embed --texts-file … --out queries.npz` writes"
        ) from error
