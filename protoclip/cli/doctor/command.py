"""`protoclip doctor`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from protoclip.cli.app import JsonOption, app, console

if TYPE_CHECKING:
    from protoclip.doctor import Diagnosis

_COLOURS = {"ok": "green", "missing": "yellow", "problem": "bold red"}


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """Say what is installed, what works here, and what to do about the rest; exit code 1 if something is broken.

    What is optional and missing, and what is the machine's matter (a taken port, a full disk), leaves it at 0.

    Example: protoclip doctor --json
    """
    from protoclip.doctor import diagnose, machine_checks, package_checks, probed_checks

    from .server import server_checks

    with console.status("looking around"):
        found = diagnose({**package_checks(), **probed_checks(), **server_checks(), **machine_checks()})
    _print(found, as_json)
    raise typer.Exit(0 if found.sound else 1)


def _print(found: Diagnosis, as_json: bool) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if as_json:
        typer.echo(json.dumps({"sound": found.sound, "checks": [asdict(check) for check in found.checks]}))
        return
    table = Table("check", "state", "found, and what to do")
    for check in found.checks:
        state = Text(check.state, style=_COLOURS[check.state])
        told = Text(check.found, overflow="fold")
        if check.advice:
            told.append(f"\n→ {check.advice}", style="bold")
        table.add_row(check.name, state, told)
    Console().print(table)
