"""TLS: certificates for both protocols, and what went wrong in one line."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from protoclip.contract.errors import ConfigError, ServerError

from .errors import NotAuthorized
from .options import ConnectionOptions

if TYPE_CHECKING:
    import grpc  # type: ignore[import-untyped]

_TRUST = "name the certificate of its authority with ca_file= (--ca-file), and the host as the certificate has it"


def http_context(options: ConnectionOptions) -> ssl.SSLContext:
    """For the standard library's connections.

    Raises:
        ConfigError: a file that is no certificate or no key, or not the key of the certificate.
    """
    context = ssl.create_default_context(purpose=ssl.Purpose.SERVER_AUTH)
    if options.ca_file is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.load_verify_locations(cafile=options.ca_file)
        except ssl.SSLError as error:
            raise ConfigError(f"ca_file={str(options.ca_file)!r} holds no certificate in PEM") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if options.client_cert is not None:
        try:
            # An encrypted key would ask for its password at the terminal.
            context.load_cert_chain(options.client_cert, options.client_key, password="")
        except ssl.SSLError as error:
            raise ConfigError(
                f"client_cert={str(options.client_cert)!r} and its key can't be used: give a certificate in PEM, "
                "and its own key without a password"
            ) from error
    return context


def grpc_credentials(options: ConnectionOptions) -> grpc.ChannelCredentials:
    """For gRPC's channels; errors as `http_context`, which checks the files as well."""
    import grpc

    http_context(options)
    roots = options.ca_file or _machine_roots()
    certificate = options.client_cert
    key = options.client_key or certificate
    return grpc.ssl_channel_credentials(
        root_certificates=None if roots is None else roots.read_bytes(),
        private_key=None if key is None else key.read_bytes(),
        certificate_chain=None if certificate is None else certificate.read_bytes(),
    )


def tls_error(url: str, reason: str) -> ServerError:
    """The error for a handshake that failed, by what OpenSSL or BoringSSL says of it."""
    text = reason.upper()
    if "CERTIFICATE_VERIFY_FAILED" in text or "HOSTNAME" in text or "PEER NAME" in text:
        return ServerError(f"{url}: the server's certificate is not trusted ({_short(reason)}): {_TRUST}")
    if "CERTIFICATE_REQUIRED" in text or "CERTIFICATE REQUIRED" in text or "ALERT" in text:
        return NotAuthorized(
            f"{url}: the server refuses this client's certificate, or wants one ({_short(reason)}): name it with "
            "client_cert= and client_key= (--client-cert, --client-key)"
        )
    plain = url.replace("https://", "http://").replace("grpcs://", "grpc://")
    return ServerError(f"{url}: no TLS with this server ({_short(reason)}): does it speak {plain}?")


def _machine_roots() -> Path | None:
    """As for HTTP, and not gRPC's own list, where the machine has one file of them."""
    file = ssl.get_default_verify_paths().cafile
    return None if file is None else Path(file)


def _short(reason: str) -> str:
    return " ".join(reason.split())[:200]
