"""`protoclip index build`, `info`, `convert` and `compact`."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from shlex import join
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from protoclip.cli.app import JsonOption, app, console
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
    DEFAULT_MAX_LEFT_OUT,
    DelimiterOption,
    EncodingOption,
    ImageColumnOption,
    LayoutOption,
    MaxLeftOutOption,
    ReadingOptions,
    SplitOption,
    TextColumnOption,
    errors_as_options,
)

from .connection import (
    as_records,
    new_progress,
    tell_left_out,
)
from .exported import (
    ExportOption,
    SamplesOption,
    TokenizerOption,
    WeightsOption,
    to_export,
)
from .relevance_facts import rows_now
from .server_options import DEFAULT_URL, Server, asks_server
from .tuning_facts import search_rows
from .ui import DEFAULT_PORT as UI_PORT
from .ui import show_page

if TYPE_CHECKING:
    from protoclip.client import Client
    from protoclip.search import AdapterReport, Index, Migrating
    from protoclip.search.sources import Metadata
    from protoclip.sources import ReadOptions

index_app = typer.Typer(
    help="Build and look at search indexes. Example: protoclip index build photos/ shop.index",
    no_args_is_help=True,
)
app.add_typer(index_app, name="index")


@index_app.command()
@asks_server()
def build(
    images: Annotated[
        str,
        typer.Argument(help="Pictures: a folder, a table, shards, or an address; all that `train --data` reads."),
    ],
    index: Annotated[Path, typer.Argument(help="Folder to write; an index that stands there is replaced.")],
    metadata: Annotated[
        str | None, typer.Option(help="A table whose column of pictures holds their names below the folder.")
    ] = None,
    metadata_column: Annotated[
        str | None,
        typer.Option(
            help="Column of --metadata with these names; default: the one that is called like a picture."
        ),
    ] = None,
    image_column: ImageColumnOption = None,
    text_column: TextColumnOption = None,
    split: SplitOption = None,
    encoding: EncodingOption = DEFAULT_ENCODING,
    delimiter: DelimiterOption = None,
    layout: LayoutOption = None,
    max_left_out: MaxLeftOutOption = DEFAULT_MAX_LEFT_OUT,
    anew: Annotated[
        bool,
        typer.Option(
            "--anew", help="Embed everything, also what an interrupted build did: after pictures changed."
        ),
    ] = False,
    then_ui: Annotated[
        bool, typer.Option("--ui", help="Then show the page over the index, as `protoclip ui` does.")
    ] = False,
    ui_port: Annotated[int, typer.Option(help="Port of --ui; 0 picks a free one.")] = UI_PORT,
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
    """Embed pictures and make them searchable. An interrupted build goes on with the same command.

    Example: protoclip index build photos/ shop.index --export ViT-B-32 --weights laion2b_s34b_b79k
    """
    preprocessing = PreprocessingOptions(mean, std, interpolation, resize_mode)
    exported = to_export(export, weights, tokenizer, preprocessing, samples, server)
    reading = ReadingOptions(image_column, text_column, split, encoding, delimiter, layout, max_left_out)
    facts = _metadata(metadata, replace(reading, image_column=metadata_column))
    where = server.url or DEFAULT_URL
    if then_ui:
        _check_ui(server)
    if exported is not None:
        _check_before_export(index, reading.of(images, texts=False))
        where = str(exported.artifact())
    with server.connected(where) as client, errors_as_options():
        built = _build(client, reading.of(images, texts=False), index, facts, anew=anew)
    with built:
        print_facts(built, as_json)
        tell_left_out(built.skipped, len(built), "left out")
        own_artifact = built.artifact is not None
    if then_ui:
        settings = {"model": server.model, "timeout_s": server.timeout_s, "port": ui_port}
        show_page(index, None if own_artifact else where, (), settings, as_json=as_json)
    elif not as_json:
        asked = [] if where == DEFAULT_URL or own_artifact else ["--url", where]
        command = join(["protoclip", "search", str(index), "--text", "red shoes", *asked])
        console.print(f"next: [bold]{escape(command)}[/]", highlight=False)


def _check_ui(server: Server) -> None:
    """Before minutes of work, what would refuse the page after them."""
    from protoclip.contract.errors import ConfigError

    if server.headers or server.ca_file or server.client_cert:
        raise ConfigError("--ui shows the index's server no --header and no certificate: leave --ui out")
    try:
        import serving.gateway.server  # noqa: F401
    except ModuleNotFoundError as error:
        raise ConfigError(f"--ui: {error.name} is not installed: pip install 'protoclip[gateway]'") from error


@index_app.command()
def info(
    index: Annotated[
        str,
        typer.Argument(help="Folder that `protoclip index build` wrote, or the address of an index elsewhere."),
    ],
    as_json: JsonOption = False,
) -> None:
    """Check an index and say what it holds; asks no server. Example: protoclip index info shop.index"""
    from protoclip.search import Index, open_index

    from .store_facts import print_store_facts

    with open_index(index) as opened:
        if isinstance(opened, Index):
            print_facts(opened, as_json)
        else:
            print_store_facts(opened, as_json)


@index_app.command()
def convert(
    index: Annotated[Path, typer.Argument(help="Folder of an index of the first format.")],
    as_json: JsonOption = False,
) -> None:
    """Convert an index of the first format (index.json, metadata.jsonl, vectors.faiss) without loss.

    Example: protoclip index convert shop.index
    """
    from protoclip.search import Index

    with Index.open(index) as opened:
        if not opened.convert():
            console.print(f"{escape(str(index))} has today's format already", highlight=False)
        print_facts(opened, as_json)


@index_app.command()
def compact(
    index: Annotated[Path, typer.Argument(help="Folder that `protoclip index build` wrote.")],
    as_json: JsonOption = False,
) -> None:
    """Give back the space of removed entries, and make damaged or missing files anew.

    Example: protoclip index compact shop.index
    """
    from protoclip.search import Index

    with Index.open(index) as opened:
        with new_progress() as progress:
            task = progress.add_task("compacting", total=None)

            def show(what: str, done: int, total: int) -> None:
                progress.update(task, description={"code": "coding"}.get(what, what), completed=done, total=total)

            opened.compact(show)
        print_facts(opened, as_json)


def _metadata(path: str | None, reading: ReadingOptions) -> Metadata | None:
    from protoclip.search.sources import SkippedWarning, read_metadata

    if path is None:
        return None
    table = replace(reading, text_columns=None, split=None, layout="table")
    with errors_as_options({"--image-column": "--metadata-column"}), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", SkippedWarning)
        found = read_metadata(table.of(path, texts=False))
    for one in told:
        console.print(f"[bold yellow]warning:[/] {escape(str(one.message))}", highlight=False)
    return found


def _build(client: Client, images: ReadOptions, path: Path, metadata: Metadata | None, *, anew: bool) -> Index:
    from protoclip.search import BuildProgress, Index, SkippedWarning

    resumed = 0
    with new_progress() as progress, warnings.catch_warnings():
        # They are named one by one at the end.
        warnings.simplefilter("ignore", SkippedWarning)
        task = progress.add_task("embedding", total=None)

        def show(state: BuildProgress) -> None:
            nonlocal resumed
            resumed = state.resumed
            progress.update(task, completed=state.done, total=state.total)

        with _telling_what_is_kept(path):
            built = Index.build(path, client, images, metadata, progress=show, resume=not anew)
    if resumed:
        console.print(f"went on with {resumed} items that an interrupted build had embedded", highlight=False)
    return built


@contextmanager
def _telling_what_is_kept(path: Path) -> Iterator[None]:
    from protoclip.contract.errors import IndexBusyError
    from protoclip.search.draft import num_kept

    try:
        yield
    except IndexBusyError:
        raise
    except BaseException:
        if kept := num_kept(path):
            console.print(f"{path}: {kept} items are kept: the same command goes on with them", highlight=False)
        raise


def _check_before_export(path: Path, images: ReadOptions) -> None:
    """What would stop the index after minutes of export: its place, and the pictures."""
    from protoclip.search.places import check_place
    from protoclip.sources import read_pairs

    check_place(path)
    with errors_as_options():
        read_pairs(images)


def print_facts(index: Index, as_json: bool, **more: int) -> None:
    """What an index is, and `more` beside it; in JSON also what a build left out."""
    stats, going_on, adapter = index.stats(), index.migrating, index.adapter
    facts: dict[str, Any] = {
        "index": str(index.path),
        "entries": stats.entries,
        "dimensions": index.dim,
        "model": index.model,
        "fingerprint": index.fingerprint,
        **({} if index.artifact is None else {"artifact": index.artifact}),
        "bytes": stats.bytes,
        **({"engine": stats.engine} if as_json else {}),
        **({} if adapter is None else {"mapped": stats.mapped}),
        **more,
    }
    if as_json:
        parts = {
            "adapter": adapter,
            "migrating": going_on,
            "tuning": stats.tuning,
            "relevance": index.relevance,
        }
        facts |= {name: asdict(part) for name, part in parts.items() if part is not None}
        facts |= {"tuning_is_due": stats.tuning_is_due}
        typer.echo(json.dumps({**facts, "left_out": as_records(index.skipped)}, ensure_ascii=False))
        return
    relevance = rows_now(index.relevance, stats.entries)
    table = Table(show_header=False)
    for name, value in (facts | search_rows(stats) | relevance | _told_of(adapter, going_on)).items():
        table.add_row(name, Text(f"{value:,}" if isinstance(value, int) else value, overflow="fold"))
    Console().print(table)


def _told_of(adapter: AdapterReport | None, going_on: Migrating | None) -> dict[str, str]:
    """Of a migration that has mapped entries, and of one that isn't finished."""
    told = {}
    if adapter is not None:
        told["mapped from"] = f"{adapter.of_model}, {adapter.method}, fitted on {adapter.fitted_on} entries"
        told["recall@10 by entry"] = str(adapter.by_entry)
        told["recall@10 by text"] = (
            "not measured: no captions" if adapter.by_text is None else str(adapter.by_text)
        )
    if going_on is not None:
        told["migrating to"] = f"{going_on.model} {going_on.fingerprint}"
        told["migrated"] = f"{going_on.done} of {going_on.total}"
    return told
