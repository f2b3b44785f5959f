"""The options of every command that asks a server, in one place: a command takes them as one argument `server`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from protoclip.cli.app import console
from protoclip.cli.credentials import (
    CaFileOption,
    ClientCertOption,
    ClientKeyOption,
    HeaderOption,
    parsed_headers,
)
from protoclip.cli.option_groups import with_group
from protoclip.contract.errors import ConfigError, IndexFileError

if TYPE_CHECKING:
    from protoclip.client import Client
    from protoclip.client.transport import Transport
    from protoclip.search import Store

DEFAULT_URL = "grpc://localhost:8001"
_DEFAULT_TIMEOUT_S = 30.0
_URL_HELP = (
    "The server: grpc://host:port or http://host:port/prefix, with TLS grpcs:// or https://. Or an artifact's "
    "folder, which then runs here."
)


@dataclass(frozen=True)
class Server:
    """Which server a command asks, and how; `url` is None where none is named."""

    url: str | None
    model: str | None
    timeout_s: float
    headers: dict[str, str] = field(repr=False)
    ca_file: Path | None
    client_cert: Path | None
    client_key: Path | None
    preprocess: Literal["server", "client", "auto"] = "server"

    @contextmanager
    def connected(self, url: str | None = None, fingerprint: str | None = None) -> Iterator[Client]:
        """A client that has found its model, never a canary; warns where its parity verdict is "failed".

        Args:
            url: the address, by default the one that is named, or else the default one.
            fingerprint: of the model that is going to be asked, if the server has it; by default the client's own.
        """
        from protoclip.client import Client

        with Client(
            url or self.url or DEFAULT_URL,
            model=self.model,
            timeout_s=self.timeout_s,
            headers=self.headers,
            ca_file=self.ca_file,
            client_cert=self.client_cert,
            client_key=self.client_key,
            preprocess=self.preprocess,
            # A command that goes on with what a killed one left draws anew, and has to get the same model.
            canary=False,
        ) as client:
            model = client.model if fingerprint is None else client.model_with(fingerprint)
            if model is not None and model.verdict != "passed":
                console.print(f"[bold yellow]warning:[/] the parity verdict of {model.prefix} is: failed")
            yield client

    def transport(self, url: str) -> Transport:
        """The way to `url` with the same options, for who asks without retries; errors as of `connect`."""
        if self.preprocess != "server":
            raise ConfigError(f"--preprocess {self.preprocess}: this command sends files alone: leave it out")
        from protoclip.client.connection import connect
        from protoclip.client.options import make_options

        options = make_options(None, self.headers, self.ca_file, self.client_cert, self.client_key)
        return connect(url, options)


def _options(
    url: str | None = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", envvar="PROTOCLIP_MODEL", help="Which model, if the server offers several: emoji_ab12cd."
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option("--timeout", help="Seconds that the server has for a batch, retries included.")
    ] = _DEFAULT_TIMEOUT_S,
    header: HeaderOption = None,
    ca_file: CaFileOption = None,
    client_cert: ClientCertOption = None,
    client_key: ClientKeyOption = None,
    preprocess: Annotated[
        Literal["server", "client", "auto"],
        typer.Option(
            "--preprocess",
            help="Who decodes pictures. client: this machine, or an error where its pixels are not the server's; "
            "auto: a warning then.",
        ),
    ] = "server",
) -> Server:
    headers = parsed_headers(header or [])
    return Server(url, model, timeout, headers, ca_file, client_cert, client_key, preprocess)


def asks_server(default: str = DEFAULT_URL) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Makes of a command's argument `server` all the options of a server; `default` is what help says of --url."""
    return functools.partial(_with_options, default)


def _with_options(default: str, command: Callable[..., None]) -> Callable[..., None]:
    options = dict(inspect.signature(_options, eval_str=True).parameters)
    url = typer.Option("--url", envvar="PROTOCLIP_URL", help=_URL_HELP, show_default=default)
    options["url"] = options["url"].replace(annotation=Annotated[str | None, url])
    return with_group(command, "server", _options, options)


def url_for_index(index: Store, given: str | None) -> str:
    """The address `given`, or else the folder of the artifact that the index was built with, or else the default.

    Raises:
        IndexFileError: its artifact is not there any more.
    """
    if given is not None:
        return given
    if index.artifact is not None and not Path(index.artifact).is_dir():
        raise IndexFileError(
            f"{index.path}: was built with the artifact {index.artifact}, which is not there: name its folder "
            "now, or a server with its model, with --url"
        )
    return index.artifact or DEFAULT_URL
