"""`protoclip convert`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .app import JsonOption, app, console
from .pairs import SourceOptions, TokenizerOption, WeightsOption, progress_bar

if TYPE_CHECKING:
    from export.formats.converted import Converted

Target = Literal["hf", "immich"]


@app.command("convert")
def convert_command(
    source: Annotated[
        str,
        typer.Argument(help="What `protoclip export` takes, or, for Immich, an artifact that it wrote."),
    ],
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    to: Annotated[
        Target,
        typer.Option(
            help="hf: for transformers and sentence-transformers; immich: for Immich's machine learning."
        ),
    ],
    weights: WeightsOption = None,
    tokenizer: TokenizerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a model as other programs load it.

    Example: protoclip convert runs/emoji hf/emoji --to hf
    """
    from export.formats.target import check_new

    check_new(out, "config.json")
    options = SourceOptions(source, weights, tokenizer)
    _print(_to_immich(options, out) if to == "immich" else _to_transformers(options, out), as_json)


def _to_transformers(options: SourceOptions, out: Path) -> Converted:
    from export.formats.source import refuse_artifact
    from export.formats.transformers_folder import write_transformers

    refuse_artifact(options.name)
    return write_transformers(options.load().clip, out)


def _to_immich(options: SourceOptions, out: Path) -> Converted:
    from export.formats.immich import write_immich, write_immich_of_artifact
    from export.formats.source import is_artifact

    if is_artifact(options.name):
        return write_immich_of_artifact(Path(options.name), out)
    clip = options.load().clip
    with progress_bar() as progress:
        return write_immich(clip, out, progress)


def _print(found: Converted, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"folder": str(found.folder), "kind": found.kind, "notes": found.notes}))
        return
    for note in found.notes:
        console.print(f"[yellow]note:[/] {note}", soft_wrap=True, highlight=False)
    console.print(f"wrote {found.folder}, a {found.kind}", soft_wrap=True)
