"""The server that `protoclip verify --url` asks: its addresses, and the client for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from protoclip.contract.errors import ConfigError

if TYPE_CHECKING:
    from protoclip.client import Client
    from protoclip.client.connection import Address

PROTOCOLS = ("grpc", "http")
# Triton's ports stand side by side: 8000 for HTTP, 8001 for gRPC.
_BESIDE = {"grpc": 1, "http": -1}
_TIMEOUT_S = 60.0
"""For a batch of 64, which a slow machine may take long for."""


@dataclass(frozen=True)
class Credentials:
    """What `--header` and the options of certificates give; token and headers stand in no repr."""

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    ca_file: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None

    def check_used(self, urls: Sequence[str]) -> None:
        """Raises ConfigError where there are any and no server is asked."""
        given = {
            "--header": self.headers,
            "--ca-file": self.ca_file,
            "--client-cert": self.client_cert,
            "--client-key": self.client_key,
        }
        option = next((option for option, value in given.items() if value), None)
        if option is not None and not urls:
            raise ConfigError(f"{option} is about a server: name it with --url, or leave it out")

    def connect(self, url: str, model: str, batch_size: int) -> Client:
        """The client for one address; nothing is sent yet."""
        from protoclip.client import Client

        return Client(
            url,
            model=model,
            timeout_s=_TIMEOUT_S,
            batch_size=batch_size,
            headers=self.headers,
            ca_file=self.ca_file,
            client_cert=self.client_cert,
            client_key=self.client_key,
        )


def server_addresses(urls: Sequence[str], protocol: str | None) -> tuple[str, ...]:
    """`grpc://host:port` and `http://host:port`, or `protocol`'s alone; nothing where no URL is given.

    A protocol that no URL names is taken to be on the port beside the other's, as Triton's are.

    Raises:
        ConfigError: a URL that is no server's, two for one protocol, an unknown protocol, or one without a URL.
    """
    from protoclip.client.connection import parse_url

    if protocol is not None and protocol not in PROTOCOLS:
        raise ConfigError(f"--protocol {protocol}: use grpc or http, or leave it out for both")
    if not urls:
        if protocol is not None:
            raise ConfigError(f"--protocol {protocol} is about a server: name it with --url, or leave it out")
        return ()
    found: dict[str, Address] = {}
    for address in map(parse_url, urls):
        if address.protocol in found:
            raise ConfigError(
                f"--url {address}: a second address for {address.protocol}: give one of each protocol"
            )
        found[address.protocol] = address
    wanted = PROTOCOLS if protocol is None else (protocol,)
    return tuple(str(found.get(name) or _beside(name, *found.values())) for name in wanted)


def _beside(wanted: str, given: Address) -> Address:
    if given.has_tls or given.prefix:
        raise ConfigError(
            f"--url {given}: where the server speaks {wanted} is not known: give --url for it as well, or "
            f"--protocol {given.protocol}"
        )
    return replace(given, scheme=wanted, port=given.port + _BESIDE[wanted])
