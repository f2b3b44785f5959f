"""`protoclip train --settings`: every setting, without starting anything."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

if TYPE_CHECKING:
    from protoclip.config.catalogue import Setting


def show_settings(*, as_json: bool) -> None:
    """Prints the settings to standard output: wrapped on a terminal, a paragraph a line in a pipe."""
    from protoclip.config.catalogue import settings_sections

    if as_json:
        typer.echo(
            json.dumps([asdict(setting) for section in settings_sections() for setting in section.settings])
        )
        return
    output = Console(highlight=False)
    for section in settings_sections():
        _print(output, Text(f"[{section.name}]  {section.description}", style="bold"))
        for setting in section.settings:
            _print(output, Text(f"{setting.name} = {setting.default or '(must be given)'}"))
            _print(output, Text(_meaning(setting), style="dim"), indent=4)
        output.print()


def _meaning(setting: Setting) -> str:
    reason = f" Default: {setting.reason}." if setting.reason else ""
    return f"{setting.description} ({setting.values}).{reason}"


def _print(output: Console, text: Text, indent: int = 0) -> None:
    if output.is_terminal:
        output.print(Padding(text, (0, 0, 0, indent)))
    else:
        output.print(" " * indent + text.plain, soft_wrap=True, markup=False)
