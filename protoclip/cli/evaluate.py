"""`protoclip evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from .app import JsonOption, app, console


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder that `protoclip train` wrote.")],
    data: Annotated[
        list[str] | None, typer.Option(help="Measure on these files instead: they need the run's columns.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Pictures at a time.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a run: retrieval, zero-shot, probes, prototypes. Example: protoclip evaluate runs/emoji"""
    from rich.progress import Progress

    from protoclip.evaluation.run import evaluate_run, result_path
    from protoclip.evaluation.table import evaluation_tables

    with Progress(console=console, transient=True) as progress:
        found = evaluate_run(run, data=data or (), batch_size=batch_size, progress=progress)
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
        return
    Console().print(*evaluation_tables(found))
    console.print(f"written to {result_path(run, data or ())}", soft_wrap=True)
