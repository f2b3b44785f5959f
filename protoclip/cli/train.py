"""`protoclip train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .app import app, console


@app.command()
def train(
    config: Annotated[Path | None, typer.Argument(help="TOML file with the run's settings.")] = None,
    out: Annotated[Path, typer.Option(help="Run folder to fill.")] = Path("runs/run"),
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Override a setting: section.field=value. Repeatable.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in --out.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bars.")] = False,
) -> None:
    """Train a ProtoCLIP model on image-text pairs.

    Example: protoclip train shop.toml --out runs/shop --set train.batch_size=256
    """
    from protoclip.config import load_config
    from protoclip.train import train as run_training

    run = run_training(load_config(config, settings or ()), out, resume=resume, quiet=quiet)
    console.print(f"wrote {run}; next: [bold]protoclip evaluate {run}[/] or [bold]protoclip export {run}[/]")
