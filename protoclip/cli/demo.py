"""`protoclip demo`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from .app import JsonOption, app, console


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the run, the artifact and the report.")] = Path(
        "runs/demo"
    ),
    steps: Annotated[
        int | None, typer.Option(help="Train for fewer or more steps than the recipe.", min=20)
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin anew instead of going on where OUT stands.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """The whole way on the bundled corpus: train, evaluate, export, serve, classify, search, report.

    Example: protoclip demo --out runs/demo
    """
    from protoclip.demo.run import INDEX, run_demo

    report = run_demo(out, steps=steps, fresh=fresh)
    if as_json:
        facts = {"report": report, "repository": out / "model_repository", "index": out / INDEX}
        typer.echo(json.dumps({name: str(path) for name, path in facts.items()}))
        return
    console.print(f"open [bold]{report}[/]; serve it with: [bold]protoclip serve {out / 'model_repository'}[/]")
    console.print(f"search it in a browser: [bold]protoclip ui {out / INDEX}[/]")
