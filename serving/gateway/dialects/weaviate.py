"""The inference service of Weaviate's module multi2vec-clip. `n` items of a kind, `D` embedding.

POST /vectorize, GET /meta, GET /.well-known/live, GET /.well-known/ready: what
https://github.com/weaviate/multi2vec-clip-inference answers, and what Weaviate's client for it reads.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from protoclip.client import Embeddings
from serving.gateway.bodies import aside, read_body
from serving.gateway.dialects.embedding import embed_both
from serving.gateway.errors import Refused, answering, invalid, json_response
from serving.gateway.health import HealthCheck
from serving.gateway.json_bodies import parse_json
from serving.gateway.openapi import Paths, operation
from serving.gateway.pictures import picture_bytes
from serving.gateway.state import Gateway

OPEN_PATHS = ("/.well-known/live", "/.well-known/ready")
_SCHEMA = {
    "type": "object",
    "properties": {
        "texts": {"type": "array", "items": {"type": "string"}},
        "images": {"type": "array", "items": {"type": "string"}, "description": "picture files in base64"},
    },
}


def routes(gateway: Gateway) -> list[BaseRoute]:
    """The dialect's routes."""
    check = HealthCheck(gateway.client, gateway.settings.health_s)

    async def vectorize(request: Request) -> Response:
        # Weaviate says no Content-Type.
        body = await aside(request, parse_json, await read_body(request, gateway.settings.body_bytes))
        texts, pictures = await aside(request, _read, body, gateway.settings.max_items)
        found = await embed_both(gateway.client, texts, pictures)
        return json_response(
            {"textVectors": _rows("texts", found.texts), "imageVectors": _rows("images", found.pictures)}
        )

    async def meta(request: Request) -> Response:
        model = await gateway.client.model
        names = ("name", "fingerprint", "embedding_dim", "precision", "verdict")
        return json_response({"model": model.prefix} | {name: getattr(model, name) for name in names})

    async def live(request: Request) -> Response:
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def ready(request: Request) -> Response:
        health = await check.now()
        if health.refusal is not None:
            raise health.refusal
        return Response(status_code=HTTPStatus.NO_CONTENT)

    return [
        Route("/vectorize", answering(vectorize, render_error), methods=["POST"]),
        Route("/meta", answering(meta, render_error), methods=["GET"]),
        Route("/.well-known/live", answering(live, render_error), methods=["GET"]),
        Route("/.well-known/ready", answering(ready, render_error), methods=["GET"]),
    ]


def render_error(refusal: Refused) -> Response:
    """The service's error body, of which Weaviate shows `error`."""
    return json_response({"error": refusal.message}, refusal.status)


def describe(gateway: Gateway) -> Paths:
    """For /openapi.json."""
    vectors = "textVectors and imageVectors, in the items' order"
    return {
        "/vectorize": {"post": operation("Weaviate: vectors of texts and pictures", vectors, body=_SCHEMA)},
        "/meta": {"get": operation("Weaviate: the model that answers", "what is known of it")},
        "/.well-known/ready": {
            "get": operation("Weaviate: 204 where a picture and a text get a vector", "nothing")
        },
    }


def _read(body: object, max_items: int) -> tuple[list[str], list[bytes]]:
    """The texts, and the pictures' bytes.

    Raises:
        Refused: a field that is no list of strings, too many items, or what is no picture's base64.
    """
    if not isinstance(body, dict):
        raise invalid('the body must be a JSON object such as {"texts": ["…"], "images": ["base64…"]}')
    texts, images = _strings(body, "texts"), _strings(body, "images")
    if len(texts) + len(images) > max_items:
        raise invalid(f"texts and images are more than {max_items} items: send several requests")
    return texts, [_picture(image, position) for position, image in enumerate(images)]


def _strings(body: dict[str, Any], name: str) -> list[str]:
    # Go writes an empty list as null.
    values = body.get(name)
    if values is None:
        return []
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise invalid(f"{name} must be a list of strings")
    return values


def _picture(value: str, position: int) -> bytes:
    try:
        return picture_bytes(value)
    except Refused as error:
        raise Refused(error.status, error.code, f"images[{position}]: {error.message}") from error


def _rows(name: str, embeddings: Embeddings) -> list[Any]:
    """The vectors; one bad item refuses the request, since the answer has no place for its error."""
    if embeddings.errors:
        first, *more = embeddings.errors
        others = f" ({len(more)} more can't be embedded)" if more else ""
        raise invalid(f"{name}[{first.position}]: {first.reason}{others}")
    # JSON is written of plain arrays alone.
    return list(np.asarray(embeddings.vectors))
