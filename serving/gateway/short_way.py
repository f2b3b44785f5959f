"""The short way of requests for inference by KServe v2: those that are whole with their head, as most of them are.

Between a connection of a client and one to the server, without a task of their own. By the same rules and accounts
as all requests; whatever is unusual about one takes the usual way, which says what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from .accounts import Accounts
from .bodies import HeldBytes
from .dialects import kserve
from .errors import Refused, answer_refused, plain_error
from .frame import CLIENT_GONE, HEADERS
from .headers import first_values
from .rules import Rule, first_refusal
from .state import Gateway
from .upstream import HeaderList, Lost, UpstreamAnswer, in_few_parts, upstream_refusal

_CONSTANT = b"".join(b"%b: %b\r\n" % pair for pair in HEADERS)


class Client(Protocol):
    """The connection that a request came by."""

    def send(self, parts: Sequence[bytes], *, keep_alive: bool) -> None:
        """Sends a whole answer."""

    def take_back(self, call: ShortCall) -> None:
        """Has the request take the usual way."""


class ShortWay:
    """For all connections of a gateway."""

    def __init__(
        self, gateway: Gateway, address: str, rules: Sequence[Rule], accounts: Accounts, held: HeldBytes
    ) -> None:
        """`address`: the server over HTTP."""
        self.accounts = accounts
        self._upstream = gateway.upstream
        self._settings = gateway.settings
        self._address = address
        self._rules = tuple(rules)
        self._held = held
        self._own = kserve.own_headers()

    def knows(self, url: bytes) -> bool:
        """Whether what is posted there is for inference, and a connection to the server waits for it."""
        return kserve.POSTED.fullmatch(url) is not None and self._upstream.is_ready(self._address)

    def begin(self, scope: Scope, body: bytes, client: Client, default_headers: HeaderList) -> ShortCall | None:
        """Passes the request on; None where it has to take the usual way.

        Args:
            scope: as of ASGI.
            default_headers: what every answer of the server has.
        """
        headers = first_values(scope)
        if len(body) > self._settings.body_bytes or b"content-encoding" in headers or self._is_of_a_page(scope):
            return None
        if first_refusal(self._rules, scope) is not None:
            return None
        try:
            self._held.take(len(body))
        except Refused:
            return None
        scope["held_bytes"] = len(body)
        self.accounts.begin(scope)
        call = ShortCall(self, scope, body, client, default_headers)
        if self._start(call, headers):
            return call
        self.accounts.take_back(scope)
        return None

    def _is_of_a_page(self, scope: Scope) -> bool:
        """Of another origin that may ask: its answer has headers for browsers."""
        return bool(self._settings.cors_origins) and b"origin" in first_values(scope)

    def _start(self, call: ShortCall, given: dict[bytes, bytes]) -> bool:
        scope = call.scope
        scope["endpoint"] = kserve.PATTERN
        headers = [*self._own, *((name, given[name]) for name in kserve.TAKEN if name in given)]
        timeout_s = self._settings.timeout_s
        try:
            stop = self._upstream.start(
                "POST", self._address, scope["raw_path"], call.body, headers, timeout_s, call.told
            )
        except ValueError:
            return False
        if stop is None:
            return False
        call.stop = stop
        return True


class ShortCall:
    """One request under way. uvicorn's connection takes it for one of its own, and asks for these attributes.

    Attributes:
        keep_alive: whether the client's connection goes on afterwards.
    """

    response_started = response_complete = disconnected = False

    def __init__(
        self, way: ShortWay, scope: Scope, body: bytes, client: Client, default_headers: HeaderList
    ) -> None:
        self.scope = scope
        self.body = body
        self.keep_alive = True
        self.stop: Callable[[], None] | None = None
        self.message_event = self
        self._way = way
        self._client = client
        self._default_headers = default_headers

    def set(self) -> None:
        """As of an event, that nobody waits for."""

    def told(self, found: UpstreamAnswer | Exception) -> None:
        """The server's answer, or why there is none."""
        if self.response_complete:
            return
        if isinstance(found, Lost) and found.unanswered:
            self.response_complete = True
            self._way.accounts.take_back(self.scope)
            self._client.take_back(self)
        elif isinstance(found, Exception):
            response = answer_refused(self.scope, upstream_refusal(found), plain_error)
            self._answer(response.status_code, response.raw_headers, bytes(response.body))
        else:
            headers = [pair for pair in found.headers if pair[0] in kserve.GIVEN]
            headers.append((b"content-length", b"%d" % len(found.body)))
            self._answer(found.status, headers, found.body)

    def gone(self) -> None:
        """The client went before it was answered."""
        if not self.response_complete:
            self.response_complete = True
            if self.stop is not None:
                self.stop()
            self._way.accounts.end(self.scope, CLIENT_GONE, 0)

    def _answer(self, status: int, headers: HeaderList, body: bytes) -> None:
        lines = [STATUS_LINE.get(status) or b"HTTP/1.1 %d \r\n" % status]
        for name, value in (*self._default_headers, *headers):
            lines += (name, b": ", value, b"\r\n")
        lines += (_CONSTANT, b"x-request-id: ", self.scope["request_id"].encode(), b"\r\n")
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        lines.append(b"\r\n")
        self.response_started = self.response_complete = True
        self._client.send(in_few_parts(lines, body), keep_alive=self.keep_alive)
        self._way.accounts.end(self.scope, status, len(body))
