"""What a client shows a server of itself, and asks of it: headers, a token, certificates."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from protoclip.contract.errors import ConfigError

TOKEN_VARIABLE = "PROTOCLIP_TOKEN"
# HTTP allows more, and gRPC does not.
_NAME = re.compile(r"[0-9A-Za-z_.-]+")
_VALUE = re.compile(r"[\x20-\x7e]*")
# The protocols' own, whose change would make another request of it.
_RESERVED = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "inference-header-content-length",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


@dataclass(frozen=True)
class ConnectionOptions:
    """How a server is reached, beside its address. Token and headers stand in no repr, message or log.

    Attributes:
        headers: sent with every request, by lower-case names; the token is among them.
        ca_file: certificates in PEM by which the server's is checked, instead of the machine's own.
        client_cert: this client's certificate in PEM, and those that lead to its authority.
        client_key: its key in PEM; None where it is in `client_cert`.
        asked_for: the first of the arguments that were given; "" for none, though the environment has a token.
    """

    headers: dict[str, str] = field(default_factory=dict, repr=False)
    ca_file: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None
    asked_for: str = ""

    @property
    def names_certificates(self) -> bool:
        """Whether any file is given, which only TLS uses."""
        return any((self.ca_file, self.client_cert, self.client_key))


def make_options(
    token: str | None,
    headers: Mapping[str, str] | None,
    ca_file: str | os.PathLike[str] | None,
    client_cert: str | os.PathLike[str] | None,
    client_key: str | os.PathLike[str] | None,
) -> ConnectionOptions:
    """The options, with the token of the environment where none is given and no header stands for it.

    Raises:
        ConfigError: a header that can't be sent or is the protocol's own, two tokens, a key without a certificate,
            or a file that is not there.
    """
    given = {"token": token, "headers": headers or None, "ca_file": ca_file, "client_cert": client_cert}
    asked_for = next((name for name, value in given.items() if value is not None), "")
    found = _checked_headers(headers or {})
    if token is not None and "authorization" in found:
        raise ConfigError("token and the header authorization are both given: leave one out")
    token, source = (token, "token") if token is not None else (os.environ.get(TOKEN_VARIABLE), TOKEN_VARIABLE)
    if token is not None and "authorization" not in found:
        if not token.strip() or not _VALUE.fullmatch(token) or token != token.strip():
            raise ConfigError(
                f"{source} is empty, or has characters that a header can't hold: give it as it was issued"
            )
        found["authorization"] = f"Bearer {token}"
    if client_key is not None and client_cert is None:
        raise ConfigError("client_key is given without client_cert: give both, or client_cert with the key in it")
    return ConnectionOptions(
        found,
        _file("ca_file", ca_file),
        _file("client_cert", client_cert),
        _file("client_key", client_key),
        asked_for,
    )


def _checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in headers.items():
        key = name.lower() if isinstance(name, str) else ""
        if not _NAME.fullmatch(key) or key.endswith("-bin"):
            raise ConfigError(f"headers: {name!r} is no name of a header: use letters, digits, - _ and .")
        if key in _RESERVED or key.startswith(("grpc-", ":")):
            raise ConfigError(f"headers: {key} belongs to the protocol itself: leave it out")
        if key in found:
            raise ConfigError(f"headers: {key} is given twice: leave one out")
        # The value is not shown: it may be a secret.
        if not isinstance(value, str) or not _VALUE.fullmatch(value):
            raise ConfigError(f"headers: the value of {key} is no text of one line in ASCII")
        found[key] = value
    return found


def _file(name: str, path: str | os.PathLike[str] | None) -> Path | None:
    if path is None:
        return None
    if not Path(path).is_file():
        raise ConfigError(f"{name}={os.fspath(path)!r} is no file: give one in PEM")
    return Path(path)
