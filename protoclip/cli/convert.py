"""`protoclip convert`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .app import JsonOption, app, console
from .pairs import SourceOptions, TokenizerOption, WeightsOption, progress_bar
from .preprocessing import (
    InterpolationOption,
    MeanOption,
    PreprocessingOptions,
    ResizeModeOption,
    StdOption,
)

if TYPE_CHECKING:
    from export.formats.converted import Converted

Target = Literal["hf", "immich"]
Origin = Literal["hf"]


@app.command("convert")
def convert_command(
    source: Annotated[
        str,
        typer.Argument(
            help="What `protoclip export` takes, or an artifact; with --from, a folder.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Argument(help="Folder to write.", show_default=False)],
    to: Annotated[
        Target | None,
        typer.Option(
            help="hf: for transformers and sentence-transformers; immich: for Immich's machine learning."
        ),
    ] = None,
    from_: Annotated[
        Origin | None,
        typer.Option(
            "--from", help="hf: a CLIPModel or SiglipModel, written as a folder for export and training."
        ),
    ] = None,
    weights: WeightsOption = None,
    tokenizer: TokenizerOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    interpolation: InterpolationOption = None,
    resize_mode: ResizeModeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a model as other programs load it, or read one of theirs.

    Example: protoclip convert runs/emoji hf/emoji --to hf
    """
    from protoclip.contract.errors import ConfigError

    preprocessing = PreprocessingOptions(mean, std, interpolation, resize_mode)
    options = SourceOptions(source, weights, tokenizer, preprocessing)
    if (to is None) == (from_ is None):
        raise ConfigError("name one format: --to hf, --to immich or --from hf")
    if from_ is not None:
        _print(_from_transformers(options, out), as_json)
    elif to == "immich":
        _print(_to_immich(options, out), as_json)
    else:
        _print(_to_transformers(options, out), as_json)


def _from_transformers(options: SourceOptions, out: Path) -> Converted:
    from export.formats.from_transformers import read_transformers
    from protoclip.contract.errors import ConfigError

    if options != SourceOptions(options.name):
        raise ConfigError(
            "--from hf takes all from the folder: leave --weights, --tokenizer and preprocessing out"
        )
    return read_transformers(Path(options.name), out)


def _to_transformers(options: SourceOptions, out: Path) -> Converted:
    from export.formats.source import is_artifact, load_source_of
    from export.formats.target import check_new
    from export.formats.transformers_folder import CONFIG_FILE, write_transformers

    check_new(out, CONFIG_FILE)
    if is_artifact(options.name):
        _check_named_alone(options)
        return write_transformers(load_source_of(Path(options.name)), out)
    return write_transformers(options.load().clip, out)


def _to_immich(options: SourceOptions, out: Path) -> Converted:
    from export.formats.immich import CONFIG_FILE, write_immich, write_immich_of_artifact
    from export.formats.source import is_artifact
    from export.formats.target import check_new

    check_new(out, CONFIG_FILE)
    if is_artifact(options.name):
        _check_named_alone(options)
        return write_immich_of_artifact(Path(options.name), out)
    clip = options.load().clip
    with progress_bar() as progress:
        return write_immich(clip, out, progress)


def _check_named_alone(options: SourceOptions) -> None:
    from protoclip.contract.errors import ConfigError

    if options != SourceOptions(options.name):
        raise ConfigError(
            f"{options.name}: an artifact has weights, tokenizer and preprocessing of its own: name it alone"
        )


def _print(found: Converted, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"folder": str(found.folder), "kind": found.kind, "notes": found.notes}))
        return
    for note in found.notes:
        console.print(f"[yellow]note:[/] {note}", highlight=False)
    console.print(f"wrote {found.folder}, a {found.kind}")
