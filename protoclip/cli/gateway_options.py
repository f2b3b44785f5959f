"""What `gateway` and `serve --gateway` are told of the gateway."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from protoclip.contract.errors import ConfigError

from .app import console
from .option_groups import with_group

if TYPE_CHECKING:
    from serving.gateway.settings import GatewaySettings

_PANEL = "The gateway"
DEFAULT_PORT = 8080


@dataclass(frozen=True)
class GatewayOptions:
    """The options that both commands have; empty where none was given."""

    index: Sequence[str] = ()
    pictures: Sequence[str] = ()
    classes: Sequence[str] = ()
    keys_file: Path | None = None
    cors_origin: Sequence[str] = ()
    allowed_host: Sequence[str] = ()
    requests_per_s: float | None = None
    forward: Sequence[str] = ()
    tls_cert: Path | None = None
    tls_key: Path | None = None

    def settings(self, **others: Any) -> GatewaySettings:
        """The settings, with `others` of their fields.

        Raises:
            ConfigError: a value is wrong, or one is no NAME=VALUE.
        """
        from serving.gateway.settings import make_settings

        folders: dict[str, tuple[str, ...]] = {}
        for name, folder in _pairs("--pictures", self.pictures):
            folders[name] = (*folders.get(name, ()), folder)
        return make_settings(
            indexes=_once("--index", self.index),
            pictures=folders,
            class_banks=_once("--classes", self.classes),
            keys_file=self.keys_file,
            cors_origins=tuple(self.cors_origin),
            allowed_hosts=tuple(self.allowed_host),
            requests_per_s=self.requests_per_s,
            forward=_once("--forward", self.forward),
            tls_cert=self.tls_cert,
            tls_key=self.tls_key,
            **others,
        )


def takes_gateway(command: Callable[..., None]) -> Callable[..., None]:
    """Makes of a command's argument `options` the options above."""
    return with_group(command, "options", _options)


def _options(
    index: Annotated[
        list[str] | None,
        typer.Option(
            rich_help_panel=_PANEL,
            help="An index to search: NAME=FOLDER of `protoclip index build`, or NAME=ADDRESS of one in "
            "PostgreSQL or Milvus. Repeatable.",
        ),
    ] = None,
    pictures: Annotated[
        list[str] | None,
        typer.Option(
            rich_help_panel=_PANEL,
            help="Folder whose pictures may be shown as an index's thumbnails: NAME=FOLDER. Repeatable.",
        ),
    ] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option(rich_help_panel=_PANEL, help="Saved classes: NAME=FILE of `classes build`. Repeatable."),
    ] = None,
    keys_file: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=_PANEL, help="API keys: a file of lines `name key`; without it everybody may ask."
        ),
    ] = None,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(
            rich_help_panel=_PANEL,
            help="Pages of this origin may ask from a browser: https://shop.example. Repeatable.",
        ),
    ] = None,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            rich_help_panel=_PANEL,
            help="A name under which clients ask, as shop.example; * for all. Addresses and localhost always may; "
            "without the option others may where it listens beyond this machine. Repeatable.",
        ),
    ] = None,
    requests_per_s: Annotated[
        float | None,
        typer.Option(
            rich_help_panel=_PANEL,
            help="Most requests of a client a second, by its key or else its address; 429 beyond.",
        ),
    ] = None,
    forward: Annotated[
        list[str] | None,
        typer.Option(
            rich_help_panel=_PANEL,
            help="Where a dialect's other tasks go: immich=http://host:3003. Repeatable.",
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option(rich_help_panel=_PANEL, help="Certificate in PEM: HTTPS instead of HTTP.")
    ] = None,
    tls_key: Annotated[
        Path | None,
        typer.Option(rich_help_panel=_PANEL, help="Its key in PEM, unless it is in the certificate's file."),
    ] = None,
) -> GatewayOptions:
    return GatewayOptions(
        index or (),
        pictures or (),
        classes or (),
        keys_file,
        cors_origin or (),
        allowed_host or (),
        requests_per_s,
        forward or (),
        tls_cert,
        tls_key,
    )


def _pairs(option: str, given: Sequence[str]) -> list[tuple[str, str]]:
    found = []
    for one in given:
        name, sign, value = one.partition("=")
        if not sign or not name or not value:
            raise ConfigError(f"{option} {one}: takes NAME=VALUE, as in {option} shop=shop.index")
        found.append((name, value))
    return found


def _once(option: str, given: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in _pairs(option, given):
        if name in found:
            raise ConfigError(f"{option} {name} is given twice: give each name once")
        found[name] = value
    return found


def tell_missing(settings: GatewaySettings) -> None:
    """Warns of indexes and classes that can't be opened yet: requests for them are refused until they can."""
    from serving.gateway.indexes import Indexes

    indexes = Indexes(settings.indexes)
    lines = indexes.missing()
    indexes.close()
    lines += [
        f"classes {name}: {path}: no such file"
        for name, path in settings.class_banks.items()
        if not path.is_file()
    ]
    for line in lines:
        console.print(Text.assemble(("warning:", "bold yellow"), f" {line}"))
