"""`protoclip embed`, `classify` and `search`: the client from the shell.

Exit codes: 0 if at least one item has an answer (failed ones are counted on standard error), 2 if none has, or
on wrong use.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from protoclip.cli.app import JsonOption, app
from protoclip.contract.errors import ConfigError

from .connection import (
    DEFAULT_TIMEOUT_S,
    DEFAULT_URL,
    ModelOption,
    TimeoutOption,
    UrlOption,
    connected,
    tell_left_out,
)

PicturesArgument = Annotated[list[Path], typer.Argument(help="Pictures, or folders of pictures.")]


@app.command()
def embed(
    pictures: Annotated[list[Path] | None, typer.Argument(help="Pictures, or folders of pictures.")] = None,
    text: Annotated[list[str] | None, typer.Option(help="A text instead of pictures. Repeatable.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write ids and vectors to this .npz file.")] = None,
    url: UrlOption = DEFAULT_URL,
    model: ModelOption = None,
    timeout: TimeoutOption = DEFAULT_TIMEOUT_S,
    as_json: JsonOption = False,
) -> None:
    """Turn pictures or texts into vectors. Example: protoclip embed photos/ --out photos.npz"""
    from .output import embed_all, print_embedded, save_embedded

    if bool(pictures) == bool(text):
        raise ConfigError("embed takes either pictures or --text: give one of them")
    if out is not None and out.suffix != ".npz":
        raise ConfigError(f"--out {out}: the file must end in .npz")
    with connected(url, model, timeout) as client:
        embedded = embed_all(client, pictures or [], text or [])
    if out is not None and embedded.ids:
        save_embedded(embedded, out)
    print_embedded(embedded, out, as_json)
    tell_left_out(embedded.failed, len(embedded.ids))


@app.command()
def classify(
    pictures: PicturesArgument,
    labels: Annotated[list[str], typer.Option(help="The classes: cat,dog. Repeatable.")],
    templates: Annotated[
        list[str] | None, typer.Option(help="plain, photo, icon, or a text with {} in it. Repeatable.")
    ] = None,
    url: UrlOption = DEFAULT_URL,
    model: ModelOption = None,
    timeout: TimeoutOption = DEFAULT_TIMEOUT_S,
    as_json: JsonOption = False,
) -> None:
    """Name the most fitting label of each picture. Example: protoclip classify cat.jpg --labels cat,dog"""
    from .output import classify_all, print_classified

    with connected(url, model, timeout) as client:
        classified = classify_all(client, pictures, labels, templates or ["plain"])
    print_classified(classified, as_json)
    tell_left_out(classified.failed, len(classified.answers))


@app.command()
def search(
    index: Annotated[Path, typer.Argument(help="Folder that `protoclip index build` wrote.")],
    text: Annotated[str | None, typer.Option(help="What to look for.")] = None,
    image: Annotated[Path | None, typer.Option(help="A picture to look for, instead of a text.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many hits.")] = 10,
    url: UrlOption = DEFAULT_URL,
    model: ModelOption = None,
    timeout: TimeoutOption = DEFAULT_TIMEOUT_S,
    as_json: JsonOption = False,
) -> None:
    """Find the nearest entries of an index. Example: protoclip search shop.index --text "red shoes" """
    from .output import print_hits, search_one

    if (text is None) == (image is None):
        raise ConfigError("search takes one of --text and --image")
    with connected(url, model, timeout) as client:
        hits = search_one(client, index, text, image, k)
        print_hits(client.model.prefix, hits, as_json)
