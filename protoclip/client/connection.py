"""Chooses the transport for an address: a server, or an artifact that runs in this process."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from protoclip.contract.addresses import shown
from protoclip.contract.errors import ConfigError

from .options import ConnectionOptions
from .transport import Transport, host_and_port

DEFAULT_URL = "grpc://localhost:8001"
_DEFAULT_PORTS = {"grpc": 8001, "http": 8000, "grpcs": 443, "https": 443}
_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@%-]+)*")


@dataclass(frozen=True)
class Address:
    """Where a server is; `prefix` is the path before Triton's own, over HTTP alone."""

    scheme: str
    host: str
    port: int
    prefix: str = ""

    @property
    def protocol(self) -> str:
        """`grpc` or `http`, encrypted or not."""
        return self.scheme.removesuffix("s")

    @property
    def has_tls(self) -> bool:
        """Whether it is encrypted."""
        return self.scheme.endswith("s")

    def __str__(self) -> str:
        return f"{self.scheme}://{host_and_port(self.host, self.port)}{self.prefix}"


def one_transport(url: str | None, transport: Transport | None, options: ConnectionOptions) -> Transport:
    """`transport`, or the one for `url`, or for the default address; errors as `connect`."""
    if transport is None:
        return connect(url or DEFAULT_URL, options)
    if url is not None:
        raise ConfigError("url and transport are both given: leave one out")
    if options.asked_for:
        raise ConfigError(f"{options.asked_for} and transport are both given: give it to the transport")
    return transport


def connect(url: str, options: ConnectionOptions | None = None) -> Transport:
    """The transport for a server's address, or for an artifact's folder. Nothing is sent yet.

    Raises:
        ConfigError: another kind of address, certificates for one without TLS, one that can't be used, or options
            for a folder.
        ModelError: a folder that is not an artifact, or one that does not run here.
    """
    options = options or ConnectionOptions()
    if "://" not in url and Path(url).is_dir():
        from .artifact_transport import ArtifactTransport

        if options.asked_for:
            raise ConfigError(f"{options.asked_for} is for a server, and {url} is a folder: leave it out")
        return ArtifactTransport(Path(url))
    address = parse_url(url)
    if options.names_certificates and not address.has_tls:
        raise ConfigError(f"certificates are for TLS: use {address.scheme}s:// instead of {address.scheme}://")
    if address.protocol == "grpc":
        from .grpc_transport import GrpcTransport

        return GrpcTransport(address.host, address.port, tls=address.has_tls, options=options)
    from .http_transport import HttpTransport

    return HttpTransport(address.host, address.port, address.prefix, tls=address.has_tls, options=options)


def parse_url(url: str) -> Address:
    """A server's address; the ports 8001 (grpc), 8000 (http) and 443 (grpcs, https) may be left out.

    Raises:
        ConfigError: not `grpc://host:port` or `http://host:port/prefix`, or with TLS `grpcs://` or `https://`.
    """
    problem = ConfigError(
        f"url={shown(url)!r} is no server's address: use grpc://host:port or http://host:port (with TLS "
        "grpcs:// or https://), or an artifact's folder"
    )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise problem from None
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or port == 0:
        raise problem
    if parts.query or parts.fragment or parts.username is not None or parts.password is not None:
        raise problem
    prefix = parts.path.rstrip("/")
    if not _PREFIX.fullmatch(prefix) or prefix.split("/")[-1:] == ["v2"]:
        raise problem
    if prefix and parts.scheme in ("grpc", "grpcs"):
        raise ConfigError(f"url={url!r}: gRPC has no paths: use http:// or https:// for {prefix}, or leave it out")
    return Address(parts.scheme, parts.hostname, port or _DEFAULT_PORTS[parts.scheme], prefix)
