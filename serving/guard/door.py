"""What all connections of a guard share: limits, the state of the server behind it, and what is held in memory."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Protocol

from .given_up import GivenUp
from .grpc_streams import RESOURCE_EXHAUSTED, UNAVAILABLE
from .refusal import Refusal, unavailable
from .routes import Route, find_route
from .settings import Limits, Settings, State
from .upstream import Exchange, Upstream

SWEEP_S = 0.5


class Connection(Protocol):
    """A client's connection; `deadline_s` is by the loop's clock, None where nothing is due."""

    deadline_s: float | None

    def expire(self) -> None:
        """The deadline has passed."""


class Door:
    """Knows who is inside, and turns away whom there is no room for."""

    def __init__(self, settings: Settings, loop: asyncio.AbstractEventLoop) -> None:
        self.limits: Limits = settings.limits
        self.state = State()
        self._models, self._parts = settings.models, settings.parts
        self.given_up = GivenUp(settings.given_up_file)
        self._loop = loop
        self._upstream = Upstream(loop)
        self._connections: set[Connection] = set()
        self._held_bytes = 0
        self._calls = 0

    def now(self) -> float:
        """The loop's clock, in seconds."""
        return self._loop.time()

    def set_state(self, state: State) -> None:
        """Takes what is known of the server behind from now on."""
        self.state = state
        if state.models is not None:
            self._models = state.models
        if state.parts is not None:
            self._parts = state.parts
        self._upstream.move(state.http_port)

    def enter(self, connection: Connection) -> bool:
        """Whether there is room for one more connection; its deadline counts from now on."""
        self._connections.add(connection)
        return len(self._connections) <= self.limits.connections

    def leave(self, connection: Connection) -> None:
        """The connection is closed."""
        self._connections.discard(connection)

    def hold(self, num_bytes: int) -> None:
        """Counts bytes of a body, which `release` gives back.

        Raises:
            Refusal: 503, where all bodies together are too much; nothing is counted.
        """
        if self._held_bytes + num_bytes > self.limits.buffered_bytes:
            raise unavailable("the server holds too many requests: come back later", 1)
        self._held_bytes += num_bytes

    def release(self, num_bytes: int) -> None:
        """They are no longer held."""
        self._held_bytes -= num_bytes

    def begin_call(self, on_connection: int) -> Refusal | None:
        """Counts a gRPC call, `on_connection` with it on its connection; why it is refused, if it is."""
        self._calls += 1
        if on_connection > self.limits.calls_per_connection:
            return Refusal(RESOURCE_EXHAUSTED, "too many calls at once on one connection: wait for answers")
        if self._calls > self.limits.calls:
            return Refusal(UNAVAILABLE, "too many calls at once: come back later")
        return None

    def end_call(self) -> None:
        """The call has ended, in whatever way."""
        self._calls -= 1

    def route(self, method: bytes, path: bytes) -> Route:
        """The route of a request; raises Refusal as `find_route`, and 404 for a path that is no ASCII."""
        try:
            return find_route(method.decode(), path.decode("ascii"), self._models, self._parts)
        except UnicodeDecodeError:
            raise Refusal(HTTPStatus.NOT_FOUND, "the path is not one that is served here") from None

    def batch_size(self, model: str) -> int:
        """Most items in a request to a public model; 0 for none."""
        return self._models.get(model, 0)

    def check_ready(self) -> None:
        """Raises Refusal, 503, where the last inference of a model did not go through."""
        if not self.state.ready:
            raise unavailable(self.state.reason, self.state.retry_after_s)

    def send(self, exchange: Exchange) -> None:
        """Passes a request on; raises Refusal, 503, where no server is there."""
        if not self.state.http_port:
            raise unavailable(self.state.reason, self.state.retry_after_s)
        self._upstream.send(exchange)

    def lost(self) -> Refusal:
        """What a client gets whose request was not answered."""
        reason = self.state.reason or "the server ended while it had this request"
        return unavailable(reason, self.state.retry_after_s)

    async def sweep(self) -> None:
        """Ends connections whose deadline has passed, until it is cancelled."""
        while True:
            await asyncio.sleep(SWEEP_S)
            now = self.now()
            for connection in tuple(self._connections):
                if connection.deadline_s is not None and connection.deadline_s < now:
                    connection.deadline_s = None
                    self._expire(connection)

    def _expire(self, connection: Connection) -> None:
        # One that fails must not end the deadlines of all others.
        try:
            connection.expire()
        except Exception as error:  # noqa: BLE001
            self._loop.call_exception_handler({"message": "a connection was not ended", "exception": error})
