"""`protoclip load-test`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from protoclip.cli.app import JsonOption, app
from protoclip.cli.client.server_options import Server, asks_server
from protoclip.contract.errors import ConfigError

from .output import finish, running


@app.command("load-test")
@asks_server("none: a load test wants a name")
def load_test(
    address: Annotated[str | None, typer.Argument(help="The same as --url.")] = None,
    concurrency: Annotated[
        int | None, typer.Option(help="Clients, each with one request at a time: a closed loop. Default 8.")
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            help="Requests a second at random times instead: an open loop. Latency is from when each was due."
        ),
    ] = None,
    max_in_flight: Annotated[
        int | None, typer.Option(help="The most requests at once with --rate. Default 64.")
    ] = None,
    duration: Annotated[float, typer.Option(help="Seconds that are measured.")] = 10.0,
    warmup: Annotated[float, typer.Option(help="Seconds of load before, which are not.")] = 2.0,
    images: Annotated[
        list[str] | None,
        typer.Option(help="Pictures to send: all that `embed` reads. Repeatable; default: six made-up ones."),
    ] = None,
    texts: Annotated[
        str | None,
        typer.Option(help="Texts to send: a file in UTF-8 with one a line. Default: eight made-up ones."),
    ] = None,
    mix: Annotated[
        str, typer.Option(help="The share of requests that hold pictures: images=0.7; the others hold texts.")
    ] = "images=1",
    batch_size: Annotated[int, typer.Option(help="Pictures or texts in a request.")] = 1,
    bad_share: Annotated[
        float, typer.Option(help="The share of broken pictures, which the server has to refuse.")
    ] = 0.0,
    bulk: Annotated[bool, typer.Option("--bulk", help="Mark requests as bulk instead of interactive.")] = False,
    seed: Annotated[int, typer.Option(help="Of arrivals and contents.")] = 0,
    plot: Annotated[Path | None, typer.Option(help="Also write a page with plots: an .html file.")] = None,
    *,
    server: Server,
    as_json: JsonOption = False,
) -> None:
    """Send pictures and texts to a server, and measure its answers; exit code 1 where one is wrong.

    Example: protoclip load-test grpc://localhost:8001 --rate 50 --mix images=0.7 --plot load.html
    """
    from protoclip.load_test.settings import Load

    from .inputs import load_inputs, share_of_images
    from .output import check_plot

    url = _address(address, server.url)
    check_plot(plot)
    load = Load(
        clients=_num_clients(rate, concurrency, max_in_flight),
        rate=rate,
        duration_s=duration,
        warmup_s=warmup,
        timeout_s=server.timeout_s,
        image_share=share_of_images(mix),
        broken_share=bad_share,
        batch_size=batch_size,
        bulk=bulk,
        seed=seed,
    )
    finish(running(server, url, load, load_inputs(images, texts)), plot, as_json)


def _address(argument: str | None, option: str | None) -> str:
    if argument is not None and option not in (None, argument, os.environ.get("PROTOCLIP_URL")):
        raise ConfigError(f"{argument} and --url {option} are two servers: leave one out")
    url = argument or option
    if url is None:
        raise ConfigError("no server is named: give its address, as in protoclip load-test grpc://localhost:8001")
    return url


def _num_clients(rate: float | None, concurrency: int | None, max_in_flight: int | None) -> int:
    from protoclip.load_test.settings import MAX_CLIENTS

    if rate is not None and concurrency is not None:
        raise ConfigError("--rate is an open loop and --concurrency a closed one: give one of them")
    if rate is None and max_in_flight is not None:
        raise ConfigError("--max-in-flight is of an open loop: give --rate as well, or --concurrency in its place")
    option, given, default = (
        ("--concurrency", concurrency, 8) if rate is None else ("--max-in-flight", max_in_flight, 64)
    )
    number = default if given is None else given
    if not 1 <= number <= MAX_CLIENTS:
        raise ConfigError(f"{option} {number} must be from 1 to {MAX_CLIENTS}")
    return number
