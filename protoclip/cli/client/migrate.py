"""`protoclip index migrate`: an index moves to another model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.text import Text

from protoclip.cli.app import JsonOption, console
from protoclip.cli.pairs import DEFAULT_SAMPLES
from protoclip.cli.preprocessing import (
    InterpolationOption,
    MeanOption,
    PreprocessingOptions,
    ResizeModeOption,
    StdOption,
)
from protoclip.cli.reading import (
    DEFAULT_ENCODING,
    DelimiterOption,
    EncodingOption,
    ImageColumnOption,
    LayoutOption,
    ReadingOptions,
    SplitOption,
    errors_as_options,
)
from protoclip.contract.errors import ConfigError

from .connection import new_progress, tell_left_out
from .exported import ExportOption, SamplesOption, ToExport, TokenizerOption, WeightsOption, to_export
from .index import index_app, print_facts
from .server_options import DEFAULT_URL, Server, asks_server

if TYPE_CHECKING:
    from protoclip.client import Client
    from protoclip.search import AdapterOptions, Index
    from protoclip.search.migrated import Migrated
    from protoclip.sources import ReadOptions

_NUM_SHOWN = 20


@index_app.command()
@asks_server()
def migrate(
    index: Annotated[Path, typer.Argument(help="Folder that `protoclip index build` wrote.")],
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            help="The new model: an artifact's folder, which then runs here, or a name on the server, as --model; "
            "default: the one that the server offers.",
        ),
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(
            help="Where pictures are now, of the same ids: all that `index build` reads. Default: where the index "
            "was built from, which is asked behind it for what is not there."
        ),
    ] = None,
    image_column: ImageColumnOption = None,
    split: SplitOption = None,
    encoding: EncodingOption = DEFAULT_ENCODING,
    delimiter: DelimiterOption = None,
    layout: LayoutOption = None,
    adapter: Annotated[
        Literal["missing", "all"] | None,
        typer.Option(
            help="Map old vectors to new ones, by a map fitted on entries that have both: of entries that can't "
            "be embedded (missing), or of all but --fit-on (all). Its loss of recall is measured."
        ),
    ] = None,
    fit_on: Annotated[int, typer.Option(min=1, help="Of the adapter: how many entries it is fitted on.")] = 5000,
    min_recall: Annotated[
        float,
        typer.Option(min=0, max=1, help="Of the adapter: with less recall@10 the index stays with its model."),
    ] = 0.95,
    rank: Annotated[
        int | None, typer.Option(min=1, help="Of the adapter: a map of this rank; default: full.")
    ] = None,
    captions: Annotated[
        str | None,
        typer.Option(
            help="Of the adapter: field of the metadata with texts to measure searches by text on; default: the "
            "one that is called like a caption."
        ),
    ] = None,
    leave_out: Annotated[
        bool,
        typer.Option("--leave-out", help="Drop entries whose picture is gone or bad. Otherwise nothing changes."),
    ] = False,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="Give up a migration that isn't finished, and what it has embedded.")
    ] = False,
    *,
    server: Server,
    export: ExportOption = None,
    weights: WeightsOption = None,
    tokenizer: TokenizerOption = None,
    samples: SamplesOption = DEFAULT_SAMPLES,
    mean: MeanOption = None,
    std: StdOption = None,
    interpolation: InterpolationOption = None,
    resize_mode: ResizeModeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Embed all entries again with another model. The old one is searched until the end; ids and metadata stay.

    An interrupted migration goes on with the same command.
    Example: protoclip index migrate shop.index --to artifacts/new
    """
    from protoclip.search import AdapterOptions, Index

    if cancel:
        with Index.open(index) as opened:
            told = "given up" if opened.cancel_migration() else "no migration was under way"
            console.print(f"{index}: {told}", highlight=False, markup=False)
            print_facts(opened, as_json)
        return
    preprocessing = PreprocessingOptions(mean, std, interpolation, resize_mode)
    exported = to_export(export, weights, tokenizer, preprocessing, samples, server)
    reading = ReadingOptions(image_column, None, split, encoding, delimiter, layout, float("inf"))
    given = None if images is None else reading.of(images, texts=False)
    with Index.open(index) as opened:
        with _target(to, server, exported) as client, errors_as_options():
            options = None if adapter is None else AdapterOptions(adapter, fit_on, min_recall, rank, captions)
            migrated = _migrate(opened, client, given, options, leave_out=leave_out)
        print_facts(opened, as_json, embedded=migrated.embedded)
        if migrated.left_out:
            tell_left_out(migrated.left_out, len(opened), "left out", items="entry")


@contextmanager
def _target(to: str | None, server: Server, exported: ToExport | None) -> Iterator[Client]:
    """A client of the model that the index is to have."""
    if to is not None and exported is not None:
        raise ConfigError(f"--to {to} and --export {exported.model.name}: both name the new model: leave one out")
    url = server.url or DEFAULT_URL
    if exported is not None:
        url = str(exported.artifact())
    elif to is not None and Path(to).is_dir():
        url = to
    elif to is not None:
        if server.model not in (None, to):
            raise ConfigError(f"--to {to} and --model {server.model}: both name the new model: leave one out")
        server = replace(server, model=to)
    with server.connected(url) as client:
        yield client


def _migrate(
    index: Index, client: Client, images: ReadOptions | None, adapter: AdapterOptions | None, *, leave_out: bool
) -> Migrated:
    from protoclip.search import BuildProgress

    if client.model.fingerprint == index.fingerprint:
        console.print(
            f"{index.path}: has the model {client.model.name} {index.fingerprint} already",
            highlight=False,
            markup=False,
        )
    with new_progress() as progress:
        task = progress.add_task("embedding", total=None)

        def show(state: BuildProgress) -> None:
            progress.update(task, completed=state.done, total=state.total)

        with _telling_what_is_kept(index.path):
            migrated = index.migrate(client, images, progress=show, leave_out=leave_out, adapter=adapter)
    if migrated.resumed:
        console.print(
            f"went on with {migrated.resumed} entries that an interrupted migration had embedded", highlight=False
        )
    return migrated


@contextmanager
def _telling_what_is_kept(path: Path) -> Iterator[None]:
    from protoclip.contract.errors import IndexBusyError
    from protoclip.search import NotEmbedded
    from protoclip.search.migration_draft import num_embedded

    try:
        yield
    except IndexBusyError:
        raise
    except NotEmbedded as error:
        for item in error.entries[:_NUM_SHOWN]:
            console.print(Text(f"{item.name}: {item.reason}"))
        if len(error.entries) > _NUM_SHOWN:
            console.print(f"… and {len(error.entries) - _NUM_SHOWN} more")
        raise
    except BaseException:
        if kept := num_embedded(path):
            message = f"{path}: {kept} entries are embedded and kept: the same command goes on with them"
            console.print(message, highlight=False, markup=False)
        raise
