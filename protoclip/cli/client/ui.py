"""`protoclip ui`."""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
import urllib.request
import webbrowser
from http.client import HTTPException
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from protoclip.cli.app import JsonOption, app, console
from protoclip.cli.signals import signals_interrupt

from .server_options import DEFAULT_URL, url_for_index

DEFAULT_PORT = 8090
_WARM_UP_S = 60.0


@app.command()
def ui(
    index: Annotated[Path, typer.Argument(help="Folder that `protoclip index build` or the demo wrote.")],
    port: Annotated[int, typer.Option(help="Port to listen on; 0 picks a free one.")] = DEFAULT_PORT,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            help="A name under which browsers ask, as pc.example, besides addresses and localhost. Repeatable."
        ),
    ] = None,
    pictures: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder below which the index's pictures lie now; default: where they were when it was built. "
            "Repeatable."
        ),
    ] = None,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    url: Annotated[
        str | None,
        typer.Option(
            envvar="PROTOCLIP_URL",
            help="A server with the index's model, or an artifact's folder, which then runs here.",
            show_default=f"the artifact that the index was built with, or else {DEFAULT_URL}",
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(envvar="PROTOCLIP_MODEL", help="Which model, if the server offers several.")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds that the model has for a search.")] = 30.0,
    as_json: JsonOption = False,
) -> None:
    """Search an index in a browser, by words, pictures and examples. Example: protoclip ui shop.index"""
    from protoclip.contract.errors import ConfigError

    for folder in pictures or ():
        if not folder.is_dir():
            raise ConfigError(f"--pictures {folder}: no folder is here: name one below which the ids are paths")
    settings: dict[str, Any] = {"model": model, "timeout_s": timeout, "host": host, "port": port}
    settings |= {"allowed_hosts": tuple(allowed_host or ())}
    show_page(index, url, tuple(pictures or ()), settings, open_browser=open_browser, as_json=as_json)


def show_page(
    index: Path,
    url: str | None,
    pictures: tuple[Path, ...],
    others: dict[str, Any],
    *,
    open_browser: bool = False,
    as_json: bool = False,
) -> None:
    """The page over `index`, until it is stopped; `others` are further settings of its gateway.

    Raises:
        ConfigError, IndexFileError, ModelError: the index, a setting or the model can't be used.
    """
    from protoclip.search import Index
    from serving.gateway.server import address_of, listen, make_server, run_server
    from serving.gateway.settings import make_settings

    with Index.open(index) as opened:
        url = url_for_index(opened, url)
    name = name_of(index)
    settings = make_settings(
        url=url,
        indexes={name: index},
        pictures={} if not pictures else {name: pictures},
        pictures_as_built=not pictures,
        **others,
    )
    with signals_interrupt():
        server = make_server(settings)
        listener = listen(settings)
        address = address_of(settings, listener)
        _announce(address, name, as_json)
        # The socket listens already: both wait until the server answers.
        threading.Thread(target=_warm_up, args=(address,), daemon=True).start()
        if open_browser:
            webbrowser.open(f"{address}/")
        with contextlib.suppress(KeyboardInterrupt):
            run_server(server, listener)


def name_of(index: Path) -> str:
    """What an index's folder is called on the page: `shop` for `shop.index`."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", index.resolve().name.removesuffix(".index"))[:64]
    return name if name[:1].isalnum() else "index"


def _announce(address: str, name: str, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"url": f"{address}/", "index": name, "pid": os.getpid()}), flush=True)
        return
    Console(soft_wrap=True, highlight=False).print(f"page  [bold][link={address}/]{address}/[/][/]")
    console.print("Ctrl-C stops it")


def _warm_up(address: str) -> None:
    """Has the encoders loaded before the first search: a failure shows on the page itself."""
    try:
        # Its own address, on this machine, whatever proxy the environment names.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{address}/healthz", timeout=_WARM_UP_S) as answer:
            answer.read()
    except (OSError, HTTPException):
        pass
