"""Ends the work for a client that has gone: the request's task is cancelled, and what it asks the server."""

from __future__ import annotations

import asyncio

from starlette.types import Message, Receive, Scope

from .headers import first_values

LOOK_S = 0.02
"""A request that takes no longer is not worth a task that listens."""


class WatchedReceive:
    """`receive` of a request, which goes on to listen when the body is whole, after 20 ms.

    Attributes:
        gone: the client went before the answer was complete, and the task was cancelled.
        begun: the application has asked for the body.
    """

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._receive = receive
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._first: asyncio.Future[Message] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._answered = self._whole = False
        self.gone = False
        self.begun = False
        if not _has_body(scope):
            self._timer = self._loop.call_later(LOOK_S, self._listen_first)

    async def __call__(self) -> Message:
        self.begun = True
        if self._first is not None:
            first, self._first = self._first, None
            return await first
        if self._whole or self._watcher is not None:
            # The body is whole: nothing else can come. It ends with the request at the latest.
            await asyncio.wait([self._listen()])
            return {"type": "http.disconnect"}
        self._stop_timer()
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            self._whole = True
            self._timer = self._loop.call_later(LOOK_S, self._listen)
        return message

    def answered(self) -> None:
        """The last part of the answer is being sent: a client may go now."""
        self._answered = True

    def close(self) -> None:
        """Listens no more."""
        self._stop_timer()
        if self._watcher is not None:
            self._watcher.cancel()

    def _listen_first(self) -> None:
        self._first = self._loop.create_future()
        self._watcher = self._loop.create_task(self._watch(self._first))

    def _listen(self) -> asyncio.Task[None]:
        self._stop_timer()
        if self._watcher is None:
            self._watcher = self._loop.create_task(self._watch(None))
        return self._watcher

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _watch(self, first: asyncio.Future[Message] | None) -> None:
        if first is not None:
            message = await self._receive()
            if not first.cancelled():
                first.set_result(message)
            if message["type"] != "http.request":
                self._cancel()
                return
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._cancel()

    def _cancel(self) -> None:
        if not self._answered and self._task is not None:
            self.gone = True
            self._task.cancel()


def _has_body(scope: Scope) -> bool:
    found = first_values(scope)
    return found.get(b"content-length", b"0").strip() != b"0" or b"transfer-encoding" in found
