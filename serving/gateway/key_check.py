"""Lets in who shows a key."""

from __future__ import annotations

from collections.abc import Callable, Collection

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from .errors import Refused, Render, answer_refused
from .keys import Keys


class KeyCheck:
    """401 for every request without a known key, but for paths that are open to everybody."""

    def __init__(
        self, app: ASGIApp, *, keys: Keys, open_paths: Collection[str], renderer: Callable[[Scope], Render]
    ) -> None:
        """`renderer`: by request, what makes the dialect's own body of a refusal."""
        self.app = app
        self._keys = keys
        self._open_paths = frozenset(open_paths)
        self._renderer = renderer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in self._open_paths:
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        name = self._keys.who(headers)
        if name is not None:
            scope["client_name"] = name
            await self.app(scope, receive, send)
            return
        message = "a key is needed: send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`"
        response = answer_refused(scope, Refused(401, "unauthorized", message), self._renderer(scope))
        # A browser asks its user by Basic; a program should not see that as the way.
        scheme = "Basic" if "text/html" in headers.get("accept", "") else "Bearer"
        response.headers["WWW-Authenticate"] = f'{scheme} realm="protoclip"'
        await response(scope, receive, send)
