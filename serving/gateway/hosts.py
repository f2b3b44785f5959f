"""Whether a request is meant for this gateway: the name in its Host, and the page that had a browser send it."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from functools import lru_cache

from starlette.types import Scope

from .errors import Refused
from .headers import first_values
from .settings import GatewaySettings

_PORT = re.compile(r":[0-9]{0,5}$")
_READING = ("GET", "HEAD", "OPTIONS")


class HostRule:
    """421 for a request under another name than the gateway's, 403 for one that another page had sent.

    A page elsewhere whose name is made to point here (DNS rebinding) is of one origin with the gateway for a
    browser, and may read all answers; what it can't choose is the Host, which has the page's own name.
    """

    def __init__(self, settings: GatewaySettings) -> None:
        self._allowed = allowed_hosts(settings)
        self._origins = frozenset(settings.cors_origins)

    def __call__(self, scope: Scope) -> Refused | None:
        """Why the request may not go on."""
        headers = first_values(scope)
        host = headers.get(b"host", b"").decode("latin-1")
        if sum(name == b"host" for name, _ in scope["headers"]) > 1:
            return Refused(400, "invalid_input", "Host is given twice: give it once")
        if self._allowed is not None and host and not is_allowed(host, self._allowed):
            message = (
                f"the host {host[:100]!r} is none of this gateway's: its operator can name it by --allowed-host"
            )
            return Refused(421, "unknown_host", message)
        if scope["method"] not in _READING and self._is_of_another_page(headers, host):
            message = "a page of another origin sent this: --cors-origin lets it, and a proxy has to keep Host"
            return Refused(403, "cross_origin", message)
        return None

    def _is_of_another_page(self, headers: Mapping[bytes, bytes], host: str) -> bool:
        """By what browsers say of it; other programs say nothing. Our own page sends `null`."""
        origin = headers.get(b"origin", b"null").decode("latin-1")
        if origin in self._origins:
            return False
        site = headers.get(b"sec-fetch-site")
        if site is not None:
            return site not in (b"same-origin", b"none")
        return origin != "null" and origin.partition("://")[2].lower() != host.lower()


def allowed_hosts(settings: GatewaySettings) -> frozenset[str] | None:
    """Names that clients may use, in lower case; None for all: no name is set, and it listens to others."""
    if "*" in settings.allowed_hosts or not (settings.allowed_hosts or is_loopback(settings.host)):
        return None
    return frozenset({"localhost", settings.host.lower(), *settings.allowed_hosts})


@lru_cache(maxsize=256)
def is_allowed(host: str, allowed: frozenset[str]) -> bool:
    """Whether a Host, with or without a port, is one of `allowed`, or an address, which is nobody's name."""
    name = _PORT.sub("", host).lower().removesuffix(".")
    return name in allowed or _address(name.removeprefix("[").removesuffix("]")) is not None


def is_loopback(host: str) -> bool:
    """Whether only programs of this machine reach what listens on `host`."""
    address = _address(host)
    return host.lower() == "localhost" if address is None else address.is_loopback


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None
