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
        ConfigError: a file that can't be read, is no certificate or no key, or not the key of the certificate.
    """
    context = ssl.create_default_context(purpose=ssl.Purpose.SERVER_AUTH)
    if options.ca_file is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.load_verify_locations(cafile=options.ca_file)
        except ssl.SSLError as error:
            raise ConfigError(f"ca_file={str(options.ca_file)!r} holds no certificate in PEM") from error
        except OSError as error:
            raise _unreadable("ca_file", options.ca_file, error) from error
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
        except OSError as error:
            key = options.client_key
            names = "client_cert" if key is None else f"client_key={str(key)!r} or client_cert"
            raise _unreadable(names, options.client_cert, error) from error
    return context


def grpc_credentials(options: ConnectionOptions) -> grpc.ChannelCredentials:
    """For gRPC's channels; errors as `http_context`, which checks the files as well."""
    import grpc

    http_context(options)
    roots = options.ca_file or _machine_roots()
    certificate = options.client_cert
    key = options.client_key or certificate
    return grpc.ssl_channel_credentials(
        root_certificates=_read("ca_file" if options.ca_file else "the machine's own certificates", roots),
        private_key=_read("client_key" if options.client_key else "client_cert", key),
        certificate_chain=_read("client_cert", certificate),
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


def _read(name: str, path: Path | None) -> bytes | None:
    try:
        return None if path is None else path.read_bytes()
    except OSError as error:
        raise _unreadable(name, path, error) from error


def _unreadable(name: str, path: Path | None, error: OSError) -> ConfigError:
    return ConfigError(f"{name}={str(path)!r} can't be read: {error.strerror or error}")


def _machine_roots() -> Path | None:
    """As for HTTP, and not gRPC's own list, where the machine has one file of them."""
    file = ssl.get_default_verify_paths().cafile
    return None if file is None else Path(file)


def _short(reason: str) -> str:
    return " ".join(reason.split())[:200]
