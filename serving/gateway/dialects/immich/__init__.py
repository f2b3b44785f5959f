"""Immich's machine-learning service: POST /predict and GET /ping.

Source: machine-learning/immich_ml/main.py and server/src/repositories/machine-learning.repository.ts of
https://github.com/immich-app/immich. Smart search (`clip`) is answered here; faces and texts in pictures are
another service's, at `settings.forward["immich"]`.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

import numpy as np
import orjson
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from protoclip.client import Embeddings
from protoclip.contract.opening import open_picture
from protoclip.contract.pixels import PixelSpec
from serving.gateway.dialects.embedding import embed_both
from serving.gateway.errors import Refused, answering, invalid, json_response
from serving.gateway.forms import Form, read_form
from serving.gateway.openapi import Paths, operation
from serving.gateway.state import Gateway

from .entries import ClipEntry, Entries, read_entries
from .forwarding import ask_other_service
from .model_names import check_name

__all__ = ["OPEN_PATHS", "describe", "render_error", "routes"]

OPEN_PATHS = ("/ping",)
_FORM = {
    "type": "object",
    "required": ["entries"],
    "properties": {
        "entries": {"type": "string", "description": 'JSON: {"clip": {"visual": {"modelName": "…"}}}, or textual'},
        "image": {"type": "string", "format": "binary", "description": "of visual"},
        "text": {"type": "string", "description": "of textual"},
    },
}


def routes(gateway: Gateway) -> list[BaseRoute]:
    """The dialect's routes."""

    async def predict(request: Request) -> Response:
        form = await read_form(request, gateway.settings.body_bytes)
        entries = read_entries(form.fields.get("entries"))
        answer: dict[str, Any] = {}
        if entries.others:
            address = gateway.settings.forward.get("immich")
            if address is None:
                raise _not_here(entries)
            answer |= await ask_other_service(gateway, address, entries.others, form)
        if entries.clip is not None:
            answer |= await _clip(gateway, entries.clip, form)
        return json_response(answer)

    async def ping(request: Request) -> Response:
        return PlainTextResponse("pong")

    return [
        Route("/predict", answering(predict, render_error), methods=["POST"]),
        Route("/ping", answering(ping, render_error), methods=["GET"]),
    ]


def render_error(refusal: Refused) -> Response:
    """The service's error body."""
    return json_response({"detail": refusal.message}, refusal.status)


def describe(gateway: Gateway) -> Paths:
    """For /openapi.json."""
    answer = "a vector as JSON in a string, and a picture's size"
    return {
        "/predict": {"post": operation("Immich: smart search", answer, form=_FORM)},
        "/ping": {"get": operation("Immich: whether this answers", "pong", answer_type="text/plain")},
    }


async def _clip(gateway: Gateway, wanted: ClipEntry, form: Form) -> dict[str, Any]:
    """The vector, as JSON within a string, and a picture's size."""
    texts = [_text(form)] if wanted.kind == "textual" else []
    pictures = [_picture(form)] if wanted.kind == "visual" else []
    found = await embed_both(
        gateway.client,
        texts,
        pictures,
        lambda model: check_name(wanted.model_name, model.name, model.embedding_dim),
    )
    if texts:
        return {"clip": _written(found.texts)}
    clip = _written(found.pictures)
    width, height = await asyncio.to_thread(_size, pictures[0])
    return {"clip": clip, "imageHeight": height, "imageWidth": width}


def _written(embeddings: Embeddings) -> str:
    if embeddings.errors:
        raise invalid(embeddings.errors[0].reason)
    vector = np.asarray(embeddings.vectors[0])
    return orjson.dumps(vector, option=orjson.OPT_SERIALIZE_NUMPY).decode()


def _text(form: Form) -> str:
    text = form.fields.get("text")
    if text is None:
        raise invalid("the form has no text, which clip.textual embeds")
    return text


def _picture(form: Form) -> bytes:
    file = form.files.get("image")
    if file is None:
        raise invalid("the form has no file image, which clip.visual embeds")
    return file.data


def _size(picture: bytes) -> tuple[int, int]:
    """Width and height as the file has them, not turned upright: as Immich's service gives them."""
    return open_picture(picture, PixelSpec.max_bytes, PixelSpec.max_pixels).size


def _not_here(entries: Entries) -> Refused:
    tasks = ", ".join(sorted(entries.others))[:256]
    message = (
        f"{tasks}: only smart search (clip) is answered here: name Immich's own service for the rest "
        "(--forward immich=http://host:3003), or switch it off in Immich's settings"
    )
    return Refused(HTTPStatus.NOT_IMPLEMENTED, "task_not_supported", message)
