"""The options by which a command shows itself to a server: headers and certificates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from protoclip.contract.errors import ConfigError

HeaderOption = Annotated[
    list[str] | None,
    typer.Option(
        "--header",
        help="Sent with every request: 'Name: value'. Repeatable. PROTOCLIP_TOKEN is the bearer token.",
    ),
]
CaFileOption = Annotated[
    Path | None,
    typer.Option(
        "--ca-file", help="With TLS: certificates in PEM by which the server's is checked, not the machine's."
    ),
]
ClientCertOption = Annotated[
    Path | None, typer.Option("--client-cert", help="With TLS: the client's own certificate in PEM.")
]
ClientKeyOption = Annotated[
    Path | None, typer.Option("--client-key", help="Its key in PEM, if the certificate's file has none.")
]


def parsed_headers(headers: Sequence[str]) -> dict[str, str]:
    """What `--header` gave, by name; raises ConfigError, which shows no value."""
    found: dict[str, str] = {}
    for header in headers:
        name, colon, value = header.partition(":")
        # What was given is not shown: it may be a secret.
        if not colon or not name.strip():
            raise ConfigError("--header takes 'Name: value'")
        if name.strip() in found:
            raise ConfigError(f"--header {name.strip()} is given twice: leave one out")
        found[name.strip()] = value.strip()
    return found
