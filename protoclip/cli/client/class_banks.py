"""`protoclip classes build` and `protoclip classes info`."""

from __future__ import annotations

from pathlib import Path
from shlex import join
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from protoclip.cli.app import JsonOption, app, console

from .class_options import (
    LabelOption,
    LabelsFileOption,
    LabelsOption,
    TemplatesOption,
)
from .server_options import Server, asks_server
from .standard_input import StandardInput

if TYPE_CHECKING:
    from protoclip.client import ClassBank

classes_app = typer.Typer(
    help="Embed classes once, and classify with them. Example: protoclip classes info pets.classes",
    no_args_is_help=True,
)
app.add_typer(classes_app, name="classes")


@classes_app.command()
@asks_server()
def build(
    bank: Annotated[Path, typer.Argument(help="File to write; one that stands there is replaced.")],
    labels: LabelsOption = None,
    label: LabelOption = None,
    labels_file: LabelsFileOption = None,
    templates: TemplatesOption = None,
    *,
    server: Server,
    as_json: JsonOption = False,
) -> None:
    """Embed labels, and keep them with their vectors in a file for `classify --classes`.

    Example: protoclip classes build pets.classes --labels-file pets.txt --templates imagenet
    """
    from .classes import templates_of
    from .inputs import labels_of

    stdin = StandardInput()
    names = labels_of(labels or [], label or [], labels_file, stdin)
    texts = templates_of(templates or [], stdin)
    with server.connected() as client, console.status(f"embedding {len(names) * len(texts):,} texts"):
        built = client.class_bank(names, texts)
    built.save(bank)
    _print_facts(built, bank, as_json)
    if not as_json:
        command = join(["protoclip", "classify", "photos/", "--classes", str(bank)])
        console.print(f"next: [bold]{escape(command)}[/]", highlight=False)


@classes_app.command()
def info(
    bank: Annotated[Path, typer.Argument(help="File that `protoclip classes build` wrote.")],
    as_json: JsonOption = False,
) -> None:
    """Check a file of classes and say what it holds. Example: protoclip classes info pets.classes"""
    from protoclip.client import ClassBank

    _print_facts(ClassBank.open(bank), bank, as_json)


def _print_facts(bank: ClassBank, path: Path, as_json: bool) -> None:
    from .output import print_json

    facts: dict[str, str | int] = {
        "classes": str(path),
        "labels": len(bank),
        "templates": len(bank.templates),
        "dimensions": int(bank.vectors.shape[1]),
        "model": bank.model,
        "fingerprint": bank.fingerprint,
    }
    if as_json:
        print_json(facts)
        return
    table = Table(show_header=False)
    for name, value in facts.items():
        table.add_row(name, Text(f"{value:,}" if isinstance(value, int) else value, overflow="fold"))
    Console().print(table)
