"""The Typer application and what all commands share. Commands import heavy packages in their functions."""

from __future__ import annotations

import io
import os
import sys
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from protoclip.contract.errors import ProtoclipError
from protoclip.contract.install import install_command

# As a user comes to need them.
COMMANDS = (
    "demo",
    "train",
    "evaluate",
    "compare",
    "report",
    "models",
    "export",
    "verify",
    "convert",
    "benchmark",
    "repository",
    "serve",
    "gateway",
    "deploy",
    "load-test",
    "embed",
    "index",
    "search",
    "ui",
    "classify",
    "classes",
    "detect",
    "doctor",
)


class _InOrder(TyperGroup):
    """Lists the commands as `COMMANDS` does, any other one behind them."""

    def list_commands(self, ctx: Any) -> list[str]:
        names = super().list_commands(ctx)
        return sorted(names, key=lambda name: COMMANDS.index(name) if name in COMMANDS else len(COMMANDS))


app = typer.Typer(
    name="protoclip",
    cls=_InOrder,
    help="From image-text pairs to a search box: train, export, serve, search. Example: protoclip demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
# A message is one line, however narrow the terminal and where it is kept: it can be searched for.
console = Console(stderr=True, soft_wrap=True)

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for scripts instead of a table.")]


@app.callback()
def _root(debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False) -> None:
    _settings["debug"] = debug


_settings: dict[str, Any] = {"debug": False}


def main() -> None:
    """Entry point: exit code 0 done, 1 failed verdict, 2 usage, 3 done but not proven, 130 interrupted."""
    # File names that aren't UTF-8 can be printed and, in JSON, read back.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except ProtoclipError as error:
        if _settings["debug"]:
            raise
        rank = os.environ.get("RANK", "0")
        where = "" if rank == "0" else f"rank {rank}: "
        console.print(f"[bold red]error:[/] {where}{_escape(str(error))}", highlight=False)
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        if _settings["debug"] or error.name is None or error.name.startswith(("protoclip", "serving", "export")):
            raise
        console.print(
            f"[bold red]error:[/] this command needs the package {error.name!r}: "
            f"{_escape(install_command('cpu'))} (or \\[gpu])",
            highlight=False,
        )
        sys.exit(2)
    except SystemExit as end:
        # Typer exits like this on Ctrl-C, and prints nothing.
        if end.code == 130:
            console.print("interrupted")
        raise


def _escape(text: str) -> str:
    return " ".join(text.split()).replace("[", "\\[")
