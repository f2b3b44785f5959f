"""`protoclip gateway`."""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from .app import JsonOption, app, console
from .gateway_options import DEFAULT_PORT, GatewayOptions, takes_gateway, tell_missing
from .signals import signals_interrupt

if TYPE_CHECKING:
    from serving.gateway.settings import GatewaySettings


@app.command()
@takes_gateway
def gateway(
    url: Annotated[
        str,
        typer.Argument(
            help="The server: grpc://host:port or http://host:port. Or an artifact's folder, which then runs here."
        ),
    ] = "grpc://localhost:8001",
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 picks a free one.")] = DEFAULT_PORT,
    model: Annotated[
        str | None, typer.Option(envvar="PROTOCLIP_MODEL", help="Which model, if the server offers several.")
    ] = None,
    kserve_url: Annotated[
        str | None, typer.Option(help="The same server over HTTP, for /v2, where URL is not that already.")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds that the server has for a request.")] = 30.0,
    *,
    options: GatewayOptions,
    log_json: Annotated[
        bool, typer.Option("--log-json", help="Logs as JSON, an object a line, on standard error.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """One HTTP port for search, classification and other software's interfaces, in front of a server.

    Example: protoclip gateway grpc://localhost:8001 --index shop=shop.index --pictures shop=photos/
    """
    from serving.gateway.server import address_of, listen, make_server, run_server

    settings = options.settings(
        url=url,
        host=host,
        port=port,
        model=model,
        kserve_url=kserve_url,
        timeout_s=timeout,
        log_json=log_json,
    )
    with signals_interrupt():
        server = make_server(settings)
        listener = listen(settings)
        tell_missing(settings)
        announce(address_of(settings, listener), settings, as_json)
        with contextlib.suppress(KeyboardInterrupt):
            run_server(server, listener)


def announce(address: str, settings: GatewaySettings, as_json: bool) -> None:
    """Says where the gateway is, and what stands there."""
    if as_json:
        facts = {"url": address, "pid": os.getpid(), "indexes": sorted(settings.indexes)}
        print(json.dumps(facts), flush=True)
        return
    out = Console(soft_wrap=True)
    out.print(f"gateway  {address}    [link={address}/docs]{address}/docs[/] lists all that it takes")
    if settings.indexes:
        body = json.dumps({"index": min(settings.indexes), "text": "red shoes"})
        out.print(f"curl -H 'Content-Type: application/json' -d '{body}' {address}/search", markup=False)
    if settings.keys_file is None and settings.host != "127.0.0.1":
        console.print("[bold yellow]warning:[/] there are no keys: everybody who reaches this address may ask")
    console.print("Ctrl-C stops the gateway")
