"""Bodies of requests, read whole within bounds on bytes, pace and memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope

from .errors import RETRY_S, Refused
from .headers import first_values
from .settings import GatewaySettings

T = TypeVar("T")

SMALL_BYTES = 256 * 1024
"""Base64 of so much is read sooner than another thread is there."""


@dataclass
class HeldBytes:
    """How many bytes the bodies of all requests hold together; `most` of them at once."""

    most: int
    now: int = 0

    def take(self, number: int) -> None:
        """Counts more of them; raises Refused (429) where that is too much."""
        if self.now + number > self.most:
            raise Refused(429, "busy", "too much is being sent at once: come again", retry_after_s=RETRY_S)
        self.now += number

    def give_back(self, number: int) -> None:
        """The reverse."""
        self.now -= number


async def read_body(request: Request, most: int) -> bytes:
    """The body of `request`, as `BodyReader.read`."""
    reader: BodyReader = request.app.state.bodies
    return await reader.read(request.scope, request.receive, most)


class BodyReader:
    """Reads bodies for all routes of a gateway."""

    def __init__(self, settings: GatewaySettings, held: HeldBytes) -> None:
        self._settings = settings
        self._held = held

    async def read(self, scope: Scope, receive: Receive, most: int) -> bytes:
        """The whole body; counted against what all requests may hold until the request is answered.

        Raises:
            Refused: 413 as soon as it is too large, 408 where it is too slow, 415 where it is compressed, 400
                where its length is none, 429 where all bodies together are too large.
            ClientDisconnect: the client went before it was whole.
        """
        headers = first_values(scope)
        _check_encoding(headers)
        declared = _declared(headers)
        if declared is not None and declared > most:
            raise _too_large(most)
        try:
            async with asyncio.timeout(self._settings.body_s) as limit:
                return await self._blocks(scope, receive, most, limit)
        except TimeoutError as error:
            raise Refused(408, "too_slow", "the body came too slowly: send it faster, or less") from error

    async def _blocks(self, scope: Scope, receive: Receive, most: int, limit: asyncio.Timeout) -> bytes:
        settings = self._settings
        began_s = asyncio.get_running_loop().time()
        blocks: list[bytes] = []
        size = 0
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            block, more = message.get("body", b""), message.get("more_body", False)
            size += len(block)
            if size > most:
                raise _too_large(most)
            # The frame gives back what is noted here, when the request is answered.
            self._held.take(len(block))
            scope["held_bytes"] = scope.get("held_bytes", 0) + len(block)
            blocks.append(block)
            if size >= settings.body_bytes_per_s:
                limit.reschedule(began_s + settings.body_s + size / settings.body_bytes_per_s)
        return blocks[0] if len(blocks) == 1 else b"".join(blocks)


async def aside(request: Request, work: Callable[..., T], *arguments: object) -> T:
    """What `work` makes of a body that was read: in a thread, where it may hold up the event loop."""
    if request.scope.get("held_bytes", 0) <= SMALL_BYTES:
        return work(*arguments)
    return await asyncio.to_thread(work, *arguments)


def media_type(request: Request) -> str:
    """What the body is, in lower case and without parameters; "" where nothing was said."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _too_large(most: int) -> Refused:
    return Refused(413, "too_large", f"the body has more than {most} bytes: send less at once")


def _check_encoding(headers: Mapping[bytes, bytes]) -> None:
    if headers.get(b"content-encoding", b"identity").strip().lower() != b"identity":
        message = "compressed bodies are not taken: send it without Content-Encoding"
        raise Refused(415, "unsupported_encoding", message)


def _declared(headers: Mapping[bytes, bytes]) -> int | None:
    value = headers.get(b"content-length")
    if value is None:
        return None
    if not value.isdigit() or len(value) > 18:
        raise Refused(400, "invalid_input", "Content-Length is no number of bytes")
    return int(value)
