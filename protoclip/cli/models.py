"""`protoclip models`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from .app import JsonOption, app, console

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from protoclip.encoders.published_list import ListedWeights


@app.command()
def models(
    pattern: Annotated[
        str | None, typer.Argument(help="Part of a name or tag, or one with * and ?; default: all of them.")
    ] = None,
    online: Annotated[
        bool, typer.Option("--online", help="Ask the hub for licence and size of what is listed.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List published weights: names, tags, sizes, licences, and which are here. Example: protoclip models ViT-B"""
    from protoclip.encoders.published_list import ask_hub, list_published, require_any

    with console.status("reading open_clip's list"):
        listed = list_published(pattern)
    require_any(listed, pattern)
    if online:
        from .pairs import progress_bar

        with progress_bar() as progress:
            listed = ask_hub(listed, progress)
    if as_json:
        typer.echo(json.dumps([_plain(weights) for weights in listed]))
        return
    Console().print(_table(listed))
    first = next((weights for weights in listed if weights.tag is not None), None)
    if first is not None:
        console.print(f"for example: [bold]protoclip export {first.name} --weights {first.tag}[/]")


def _plain(weights: ListedWeights) -> dict[str, Any]:
    return asdict(weights) | {"path": None if weights.path is None else str(weights.path)}


def _table(listed: Sequence[ListedWeights]) -> Table:
    from protoclip.reports.tables import narrow_table

    caption = (
        "params: millions of both towers; – : not known here, --online asks the hub; ✓: on this machine; "
        "(random): nothing is published"
    )
    texts = ("weights", "licence")
    table = narrow_table(("model", "weights", "params", "MB", "licence", "here"), caption=caption, texts=texts)
    for weights in listed:
        published = weights.tag is not None
        table.add_row(
            weights.name,
            weights.tag or "(random)",
            _millions(weights.parameters),
            _millions(weights.num_bytes),
            (weights.licence or "unknown") if published else "",
            "✓" if weights.path is not None else "",
        )
    return table


def _millions(number: int | None) -> str:
    return "–" if number is None else f"{number / 1e6:.{0 if number >= 1e7 else 1}f}"
