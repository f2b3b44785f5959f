"""`protoclip index calibrate`: how probable it is that a hit is what was asked for."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from protoclip.cli.app import JsonOption, console
from protoclip.contract.errors import DataError

from .connection import new_progress
from .index import index_app
from .relevance_facts import relevance_rows
from .server_options import DEFAULT_URL, Server, asks_server, url_for_index

if TYPE_CHECKING:
    from protoclip.client import Client
    from protoclip.search import Calibration, Index


@index_app.command()
@asks_server(f"the artifact that the index was built with, or else {DEFAULT_URL}")
def calibrate(
    index: Annotated[Path, typer.Argument(help="Folder that `protoclip index build` wrote.")],
    text_column: Annotated[
        str | None,
        typer.Option(
            help="Field of the metadata, as a caption: its texts are the queries, and their entries the answers."
        ),
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            help="What people ask, and what they mean: a CSV in UTF-8 with columns text and id, a row for each "
            "entry that is an answer. Beside --text-column, or instead of it."
        ),
    ] = None,
    group_by: Annotated[
        str | None,
        typer.Option(
            help="Field of the metadata: entries with the same value are hidden together, as a whole kind that is "
            "missing; default: those with the same text."
        ),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Also write a page: FILE.html, with the reliability diagram.")
    ] = None,
    *,
    server: Server,
    as_json: JsonOption = False,
) -> None:
    """Learn from an index's own entries how relevant a hit is, so that a search can say that nothing matches.

    Example: protoclip index calibrate shop.index --text-column label --group-by category
    """
    from protoclip.search import Index

    if report is not None:
        import jinja2  # noqa: F401 - a missing package is told before the work, and not after it
    asked = {} if queries is None else read_queries(queries)
    with Index.open(index) as opened:
        url = url_for_index(opened, server.url)
        with server.connected(url, opened.fingerprint) as client:
            model = client.model_with(opened.fingerprint) or client.model
            opened.check_model(model)
        with replace(server, model=model.prefix).connected(url) as client:
            found = _calibrated(opened, client, text_column, asked, group_by)
    if report is not None:
        from .relevance_report import write_report

        write_report(report, str(index), found)
    if as_json:
        typer.echo(json.dumps({"index": str(index), **asdict(found)}, ensure_ascii=False))
        return
    table = Table(show_header=False)
    for name, value in relevance_rows(found).items():
        table.add_row(name, Text(value, overflow="fold"))
    Console().print(table)
    console.print(
        f"next: [bold]protoclip search {escape(str(index))} --text 'red shoes' "
        f"--min-relevance {found.text.advised.value:.2f}[/]",
        highlight=False,
    )


def read_queries(path: Path) -> dict[str, list[str]]:
    """Texts with the ids of their answers.

    Raises:
        DataError: it can't be read, or lacks a column or a value; names the line.
    """
    found: dict[str, list[str]] = {}
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            rows = csv.DictReader(stream)
            missing = {"text", "id"} - set(rows.fieldnames or ())
            if missing:
                raise DataError(f"--queries {path}: has no column {min(missing)!r}: it needs text and id")
            for row in rows:
                text, name = (row["text"] or "").strip(), row["id"]
                if not text or not name:
                    raise DataError(f"--queries {path}: line {rows.line_num} has no text or no id")
                found.setdefault(text, []).append(name)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"--queries {path}: can't be read: {getattr(error, 'strerror', None) or error}") from error
    return found


def _calibrated(
    index: Index, client: Client, text_column: str | None, asked: dict[str, list[str]], group_by: str | None
) -> Calibration:
    with new_progress() as progress:
        task = progress.add_task("embedding", total=None)

        def show(what: str, done: int, total: int) -> None:
            progress.update(task, description=what, completed=done, total=total)

        return index.calibrate(client, text_column, queries=asked, group=group_by, progress=show)
