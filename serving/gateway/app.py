"""The gateway as an ASGI application: the routes of all modules, within the frame that all of them share."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from functools import cache
from types import ModuleType
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Mount, Route
from starlette.types import Scope

from . import about, classify_routes, search_routes, thumbnails
from .bodies import BodyReader, HeldBytes
from .dialects import immich, kserve, openai, weaviate
from .errors import Render, answer_refused, plain_error, refused
from .frame import Frame
from .health import follow_alias
from .hosts import HostCheck
from .key_check import KeyCheck
from .keys import Keys
from .logs import Log
from .openapi import Paths, document
from .page import routes as page
from .rates import RateCheck
from .state import Gateway

MODULES: tuple[ModuleType, ...] = (
    search_routes,
    classify_routes,
    thumbnails,
    openai,
    immich,
    weaviate,
    page,
)
"""Each has `routes(gateway)`, and may have `describe(gateway)` for /openapi.json, OPEN_PATHS that need no key, and
`render_error(refusal)`, the body of its errors."""


def create_app(gateway: Gateway, log: Log | None = None) -> Starlette:
    """The application; its end closes what `gateway` holds.

    Raises:
        ConfigError: the file of keys can't be used.
    """
    log = log or Log(gateway.settings.log_json)
    groups = [(module.routes(gateway), getattr(module, "render_error", plain_error)) for module in MODULES]
    # Made once: it takes milliseconds, and everybody may ask for it.
    groups.append((about.routes(gateway, cache(lambda: _description(gateway))), plain_error))
    renderer = _renderer(groups)
    routes = [route for group, _ in groups for route in group]
    held = HeldBytes(gateway.settings.held_bytes)
    bodies = BodyReader(gateway.settings, held)
    layers = _middleware(gateway, log, held, routes, renderer)
    if gateway.settings.http_url is not None:
        # The innermost: all rules of the others hold for it.
        layers.append(Middleware(kserve.KServe, gateway=gateway, bodies=bodies, address=gateway.settings.http_url))
    app = Starlette(
        routes=routes,
        middleware=layers,
        exception_handlers={HTTPException: _handler(renderer)},
        lifespan=_lifespan(gateway, log),
    )
    app.router.redirect_slashes = False
    app.state.gateway = gateway
    app.state.bodies = bodies
    return app


def _middleware(
    gateway: Gateway, log: Log, held: HeldBytes, routes: list[BaseRoute], renderer: Callable[[Scope], Render]
) -> list[Middleware]:
    settings = gateway.settings
    layers = [
        Middleware(Frame, log=log, metrics=gateway.metrics, held=held, routes=_patterns(routes)),
        Middleware(HostCheck, settings=settings, renderer=renderer),
    ]
    if settings.cors_origins:
        headers = ["Authorization", "Content-Type", "X-API-Key", "X-Request-ID"]
        layers.append(
            Middleware(
                CORSMiddleware,
                allow_origins=settings.cors_origins,
                allow_methods=["GET", "POST"],
                allow_headers=headers,
                expose_headers=["X-Request-ID", "Retry-After"],
            )
        )
    open_paths = [path for module in (*MODULES, kserve, about) for path in getattr(module, "OPEN_PATHS", ())]
    if settings.keys_file is not None:
        keys = Keys(settings.keys_file, log.event)
        layers.append(Middleware(KeyCheck, keys=keys, open_paths=open_paths, renderer=renderer))
    if settings.requests_per_s is not None:
        per_s = settings.requests_per_s
        layers.append(Middleware(RateCheck, per_s=per_s, open_paths=open_paths, renderer=renderer))
    return layers


def _lifespan(gateway: Gateway, log: Log) -> Callable[[Starlette], contextlib.AbstractAsyncContextManager[None]]:
    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        following = asyncio.create_task(follow_alias(gateway.client, log))
        try:
            yield
        finally:
            following.cancel()
            await gateway.upstream.close()
            await gateway.client.close()
            gateway.indexes.close()

    return lifespan


def _handler(renderer: Callable[[Scope], Render]) -> Callable[[Request, Exception], Any]:
    """404 and 405 of the router, in the body of the dialect whose path it is."""

    async def answer(request: Request, error: Exception) -> Response:
        response = answer_refused(request.scope, refused(error), renderer(request.scope))
        if isinstance(error, HTTPException) and error.headers:
            response.headers.update(error.headers)
        return response

    return answer


def _renderer(groups: Iterable[tuple[list[BaseRoute], Render]]) -> Callable[[Scope], Render]:
    known = [(route, render) for routes, render in groups for route in routes]

    def find(scope: Scope) -> Render:
        for route, render in known:
            if route.matches(scope)[0] is not Match.NONE:
                return render
        return plain_error

    return find


def _patterns(routes: Iterable[BaseRoute]) -> dict[object, str]:
    found: dict[object, str] = {kserve.PATTERN: kserve.PATTERN}
    for route in routes:
        if isinstance(route, Route):
            found[route.endpoint] = route.path
        elif isinstance(route, Mount):
            found[route.app] = route.path
    return found


def _description(gateway: Gateway) -> dict[str, Any]:
    paths: Paths = {}
    for module in (*MODULES, kserve, about):
        if hasattr(module, "describe"):
            paths |= module.describe(gateway)
    return document(paths, has_keys=gateway.settings.keys_file is not None)
