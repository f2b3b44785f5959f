"""OpenAI's embeddings: POST /v1/embeddings, GET /v1/models, GET /v1/models/{id}. `N` inputs, `D` embedding."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from protoclip.client import ServedModel
from serving.gateway.bodies import aside
from serving.gateway.dialects.embedding import Embedded, embed_both
from serving.gateway.errors import answering, json_response
from serving.gateway.json_bodies import read_json
from serving.gateway.openapi import Paths, operation
from serving.gateway.state import Gateway

from .answers import embeddings_response, model_object, names_of, render_error
from .inputs import SCHEMA, EmbeddingRequest, WrongField, read_request

__all__ = ["describe", "render_error", "routes"]


def routes(gateway: Gateway) -> list[BaseRoute]:
    """The dialect's routes."""

    async def embeddings(request: Request) -> Response:
        body = await read_json(request, gateway.settings.body_bytes)
        wanted = await aside(request, read_request, body, gateway.settings.max_items)
        texts, pictures = list(wanted.texts.values()), list(wanted.pictures.values())
        found = await embed_both(gateway.client, texts, pictures, partial(_check, wanted))
        num_words = sum(len(text.split()) for text in texts)
        return embeddings_response(_in_order(wanted, found), wanted.encoding, found.model.prefix, num_words)

    async def models(request: Request) -> Response:
        model = await gateway.client.model
        return json_response({"object": "list", "data": [model_object(name, model) for name in names_of(model)]})

    async def one_model(request: Request) -> Response:
        name = request.path_params["name"]
        model = await gateway.client.model
        _check_name(name, model)
        return json_response(model_object(name, model))

    return [
        Route("/v1/embeddings", answering(embeddings, render_error), methods=["POST"]),
        Route("/v1/models", answering(models, render_error), methods=["GET"]),
        Route("/v1/models/{name}", answering(one_model, render_error), methods=["GET"]),
    ]


def describe(gateway: Gateway) -> Paths:
    """For /openapi.json."""
    answer = "a vector for each input, in their order"
    return {
        "/v1/embeddings": {"post": operation("OpenAI: embeddings of texts and pictures", answer, body=SCHEMA)},
        "/v1/models": {"get": operation("OpenAI: the models that answer", "their names")},
        "/v1/models/{name}": {"get": operation("OpenAI: one of them", "what is known of it", path=("name",))},
    }


def _in_order(wanted: EmbeddingRequest, found: Embedded) -> NDArray[np.float32]:
    """`[N, D]`, in the order of the inputs.

    Raises:
        WrongField: one of them is bad: the answer has no place for errors of single ones.
    """
    vectors = np.zeros((len(wanted.places), found.model.embedding_dim), dtype=np.float32)
    reasons: dict[int, str] = {}
    for positions, part in ((list(wanted.texts), found.texts), (list(wanted.pictures), found.pictures)):
        vectors[positions] = part.vectors
        reasons.update({positions[error.position]: error.reason for error in part.errors})
    if reasons:
        first = min(reasons)
        others = f" ({len(reasons) - 1} more can't be embedded)" if len(reasons) > 1 else ""
        raise WrongField("input", f"{wanted.places[first]}: {reasons[first]}{others}")
    return vectors


def _check(wanted: EmbeddingRequest, model: ServedModel) -> None:
    """Raises WrongField where this model can't answer."""
    _check_name(wanted.model, model)
    if wanted.dimensions is not None and wanted.dimensions != model.embedding_dim:
        message = (
            f"dimensions={wanted.dimensions}: {model.prefix} gives {model.embedding_dim} numbers, and its vectors "
            "can't be shortened: leave dimensions out"
        )
        raise WrongField("dimensions", message)


def _check_name(name: str, model: ServedModel) -> None:
    if name not in names_of(model):
        message = f"the model {name[:64]!r} is not served here: use one of {', '.join(names_of(model))}"
        raise WrongField("model", message, status=404, code="model_not_found")
