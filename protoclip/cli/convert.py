"""`protoclip convert`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .app import JsonOption, app, console
from .pairs import SourceOptions, TokenizerOption, WeightsOption

if TYPE_CHECKING:
    from export.formats.converted import Converted

Format = Literal["hf"]


@app.command("convert")
def convert_command(
    source: Annotated[
        str, typer.Argument(help="Run folder, RUN/best, RUN/last, or the name of an open_clip model.")
    ],
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    to: Annotated[Format, typer.Option(help="hf: a folder for transformers and sentence-transformers.")],
    weights: WeightsOption = None,
    tokenizer: TokenizerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a model as other programs load it.

    Example: protoclip convert runs/emoji hf/emoji --to hf
    """
    from export.formats.target import check_new
    from export.formats.transformers_folder import CONFIG_FILE, write_transformers

    check_new(out, CONFIG_FILE)
    found = write_transformers(SourceOptions(source, weights, tokenizer).load().clip, out)
    _print(found, as_json)


def _print(found: Converted, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"folder": str(found.folder), "kind": found.kind, "notes": found.notes}))
        return
    for note in found.notes:
        console.print(f"[yellow]note:[/] {note}", soft_wrap=True, highlight=False)
    console.print(f"wrote {found.folder}, a {found.kind}", soft_wrap=True)
