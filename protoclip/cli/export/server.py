"""The server that `protoclip verify --url` asks: its addresses, and the client for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from protoclip.contract.errors import ConfigError

if TYPE_CHECKING:
    from protoclip.client import Client

PROTOCOLS = ("grpc", "http")
# Triton's ports stand side by side: 8000 for HTTP, 8001 for gRPC.
_BESIDE = {"grpc": 1, "http": -1}
_TIMEOUT_S = 60.0
"""For a batch of 64, which a slow machine may take long for."""


def connect_to_server(url: str, model: str, batch_size: int) -> Client:
    """The client for one address; nothing is sent yet."""
    from protoclip.client import Client

    return Client(url, model=model, timeout_s=_TIMEOUT_S, batch_size=batch_size)


def server_addresses(urls: Sequence[str], protocol: str | None) -> tuple[str, ...]:
    """`grpc://host:port` and `http://host:port`, or `protocol`'s alone; nothing where no URL is given.

    A protocol that no URL names is taken to be on the port beside the other's, as Triton's are.

    Raises:
        ConfigError: a URL that is no server's, two for one protocol, an unknown protocol, or one without a URL.
    """
    from protoclip.client.connection import parse_url
    from protoclip.client.transport import host_and_port

    if protocol is not None and protocol not in PROTOCOLS:
        raise ConfigError(f"--protocol {protocol}: use grpc or http, or leave it out for both")
    if not urls:
        if protocol is not None:
            raise ConfigError(f"--protocol {protocol} is about a server: name it with --url, or leave it out")
        return ()
    found: dict[str, tuple[str, int]] = {}
    for url in urls:
        scheme, host, port = parse_url(url)
        if scheme in found:
            raise ConfigError(f"--url {url}: a second address for {scheme}: give one of each protocol")
        found[scheme] = (host, port)
    addresses = []
    for wanted in PROTOCOLS if protocol is None else (protocol,):
        host, port = found.get(wanted) or _beside(wanted, found)
        addresses.append(f"{wanted}://{host_and_port(host, port)}")
    return tuple(addresses)


def _beside(wanted: str, found: dict[str, tuple[str, int]]) -> tuple[str, int]:
    host, port = next(iter(found.values()))
    return host, port + _BESIDE[wanted]
