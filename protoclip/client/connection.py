"""Chooses the transport for an address: a server, or an artifact that runs in this process."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from protoclip.contract.errors import ConfigError

from .transport import Transport

DEFAULT_URL = "grpc://localhost:8001"
_DEFAULT_PORTS = {"grpc": 8001, "http": 8000}


def connect(url: str) -> Transport:
    """The transport for `grpc://host:port`, `http://host:port`, or an artifact's folder. Nothing is sent yet.

    Raises:
        ConfigError: another kind of address.
        ModelError: a folder that is not an artifact, or one that does not run here.
    """
    if "://" not in url and Path(url).is_dir():
        from .artifact_transport import ArtifactTransport

        return ArtifactTransport(Path(url))
    scheme, host, port = parse_url(url)
    if scheme == "grpc":
        from .grpc_transport import GrpcTransport

        return GrpcTransport(host, port)
    from .http_transport import HttpTransport

    return HttpTransport(host, port)


def parse_url(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of a server's address; the ports 8001 (grpc) and 8000 (http) may be left out.

    Raises:
        ConfigError: not `grpc://host:port` or `http://host:port`.
    """
    problem = ConfigError(
        f"url={url!r} is no server's address: use grpc://host:port or http://host:port, or an artifact's folder"
    )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise problem from None
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or port == 0:
        raise problem
    if parts.path not in ("", "/") or parts.query or parts.fragment or parts.username is not None:
        raise problem
    return parts.scheme, parts.hostname, port or _DEFAULT_PORTS[parts.scheme]
