"""Paths and methods that are passed on; every other one is refused."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal

from .refusal import Refusal

Kind = Literal["live", "ready", "infer", "index", "read"]
MAX_NAME = 128
_MODEL = re.compile(
    r"/v2/models/(?P<model>[A-Za-z0-9_.-]{1,256})(?:/versions/[0-9]{1,9})?(?P<rest>/[a-z]+)?", re.ASCII
)
_READ = (None, "/ready", "/config", "/stats")
_FIXED: dict[str, tuple[str, Kind]] = {
    "/v2": ("GET", "read"),
    "/v2/": ("GET", "read"),
    "/v2/health/live": ("GET", "live"),
    "/v2/health/ready": ("GET", "ready"),
    "/v2/models/stats": ("GET", "read"),
    "/v2/repository/index": ("POST", "index"),
}


@dataclass(frozen=True)
class Route:
    """A known path.

    Attributes:
        kind: `live` and `ready` are answered by the guard, the others by Triton: `infer`; `index` lists models;
            `read` is metadata, configuration, statistics or readiness of a model.
        path: as it is passed on.
        model: whom an inference request is for.
    """

    kind: Kind
    path: str
    model: str = ""


def find_route(method: str, path: str, models: Collection[str], parts: Collection[str]) -> Route:
    """The route of a request.

    Args:
        path: as in the request line.
        models: names that may be asked for inference.
        parts: names that may be asked for what they are only.

    Raises:
        Refusal: 404 for an unknown path or model, 405 for another method, 400 for a query.
    """
    if "?" in path or "#" in path:
        raise Refusal(HTTPStatus.BAD_REQUEST, "a query after the path is not known here: leave it out")
    if path in _FIXED:
        expected, kind = _FIXED[path]
        _check_method(method, expected, path)
        return Route(kind, path)
    match = _MODEL.fullmatch(path)
    if match is None or match["rest"] not in (*_READ, "/infer"):
        shown = path if len(path) <= MAX_NAME else f"{path[:MAX_NAME]}…"
        raise Refusal(
            HTTPStatus.NOT_FOUND,
            f"{shown!r} is not served here: there are /v2/models/MODEL/infer, metadata, health and statistics",
        )
    infer = match["rest"] == "/infer"
    _check_method(method, "POST" if infer else "GET", path)
    _check_model(match["model"], models, models if infer else [*models, *parts])
    return Route("infer" if infer else "read", path, match["model"] if infer else "")


def _check_method(method: str, expected: str, path: str) -> None:
    if method != expected:
        reason = f"{path} takes {expected} only"
        raise Refusal(HTTPStatus.METHOD_NOT_ALLOWED, reason, {"Allow": expected})


def _check_model(name: str, models: Collection[str], allowed: Collection[str]) -> None:
    if name not in allowed:
        shown = name if len(name) <= MAX_NAME else f"{name[:MAX_NAME]}…"
        raise Refusal(
            HTTPStatus.NOT_FOUND,
            f"Request for unknown model: {shown!r} is not served here: there are {', '.join(sorted(models))}",
        )
