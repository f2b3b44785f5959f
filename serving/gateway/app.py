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
from .accounts import Accounts
from .bodies import BodyReader, HeldBytes
from .dialects import immich, kserve, openai, weaviate
from .errors import Render, answer_refused, plain_error, refused
from .frame import Frame
from .health import follow_alias
from .hosts import HostRule
from .keys import KeyRule, Keys
from .logs import Log
from .openapi import Paths, document
from .page import routes as page
from .rates import RateRule
from .rules import Rule, RuleCheck
from .settings import GatewaySettings
from .short_way import ShortWay
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
    accounts = Accounts(log, gateway.metrics, held, _patterns(routes))
    host_rule, rules = HostRule(gateway.settings), _rules(gateway.settings, log)
    layers = [
        Middleware(Frame, accounts=accounts),
        Middleware(RuleCheck, rules=[host_rule], renderer=renderer),
        *_cross_origin(gateway.settings),
        Middleware(RuleCheck, rules=rules, renderer=renderer),
    ]
    address, short_way = gateway.settings.http_url, None
    if address is not None:
        # The innermost: all rules of the others hold for it.
        layers.append(Middleware(kserve.KServe, gateway=gateway, bodies=bodies, address=address))
        short_way = ShortWay(gateway, address, [host_rule, *rules], accounts, held)
    app = Starlette(
        routes=routes,
        middleware=layers,
        exception_handlers={HTTPException: _handler(renderer)},
        lifespan=_lifespan(gateway, log),
    )
    app.router.redirect_slashes = False
    app.state.gateway = gateway
    app.state.bodies = bodies
    app.state.short_way = short_way
    return app


def _rules(settings: GatewaySettings, log: Log) -> list[Rule]:
    """Of keys and rates, where there are any."""
    open_paths = [path for module in (*MODULES, kserve, about) for path in getattr(module, "OPEN_PATHS", ())]
    rules: list[Rule] = []
    if settings.keys_file is not None:
        rules.append(KeyRule(Keys(settings.keys_file, log.event), open_paths))
    if settings.requests_per_s is not None:
        rules.append(RateRule(settings.requests_per_s, open_paths))
    return rules


def _cross_origin(settings: GatewaySettings) -> list[Middleware]:
    """What answers browsers that ask for pages of other origins: before keys, which they don't send then."""
    if not settings.cors_origins:
        return []
    layer = Middleware(
        CORSMiddleware,
        allow_origins=settings.cors_origins,
        allow_methods=["GET", "POST"],
        allow_headers=["Authorization", "Content-Type", "X-API-Key", "X-Request-ID"],
        expose_headers=["X-Request-ID", "Retry-After"],
    )
    return [layer]


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
        return answer_refused(request.scope, refused(error), renderer(request.scope))

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
