"""`/`, the page that people search with, and what its scripts ask: `/page/…`."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from protoclip.search import Store
from serving.gateway.errors import (
    Endpoint,
    Refused,
    answer_refused,
    answering,
    invalid,
    json_response,
    plain_error,
    refused,
)
from serving.gateway.forms import read_form
from serving.gateway.state import Gateway

from .asked import Asked, read_asked
from .browsing import clusters_context, map_context, map_points
from .cards import shortened, visible
from .given import GivenPicture
from .labels import TEMPLATES_SAID
from .parts import PageFrame, Parts
from .results import Results, Search, sentence
from .small_pictures import small_picture
from .vectors import image_vector

_LONGEST_NAME = 80


def routes(gateway: Gateway) -> list[BaseRoute]:
    """The routes of the page."""
    parts = Parts(gateway)

    async def page(request: Request) -> Response:
        asked = parts.with_index(read_asked(request.scope["query_string"]))
        if not asked.index:
            return await _without_index(parts, asked)
        try:
            index = await parts.open(asked.index)
        except Exception as error:  # noqa: BLE001 - every one of them is answered and logged
            return await _not_opened(parts, request, asked, error)
        if asked.view == "search":
            return await _search(parts, request, asked, index)
        return await _browse(parts, request, asked, index)

    async def points(request: Request) -> Response:
        asked = parts.with_index(read_asked(request.scope["query_string"]))
        index = await parts.open(asked.index)
        return json_response(await map_points(parts, asked, index))

    async def give(request: Request) -> Response:
        asked = parts.with_index(read_asked(request.scope["query_string"]))
        try:
            word = await _given(parts, request, asked.index)
        except Exception as error:
            if _wants_json(request):
                raise
            return await _not_given(parts, request, asked, refused(error))
        if _wants_json(request):
            return json_response({"picture": word})
        return RedirectResponse(replace(asked, picture=word).address(), status_code=303)

    async def small(request: Request) -> Response:
        picture = parts.given.get(request.path_params["word"])
        return Response(picture.small, media_type="image/webp", headers={"Cache-Control": "private, max-age=600"})

    async def static(request: Request) -> Response:
        return parts.rendering.static(request.path_params["name"])

    return [
        Route("/", _answering(parts, page), methods=["GET"]),
        Route("/", _answering(parts, give), methods=["POST"]),
        Route("/page/points", answering(points), methods=["GET"]),
        Route("/page/picture/{word}", answering(small), methods=["GET"]),
        Route("/page/{name}", answering(static), methods=["GET"]),
    ]


def _answering(parts: Parts, endpoint: Endpoint) -> Endpoint:
    """`endpoint`, whose errors are a page for people, and JSON for a script that asks for it."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except Exception as error:  # noqa: BLE001 - every one of them is answered and logged
            refusal = refused(error)
            if _wants_json(request):
                return answer_refused(request.scope, refusal, plain_error)
            return answer_refused(request.scope, refusal, lambda _: _error_page(parts, refusal))

    return answer


def _wants_json(request: Request) -> bool:
    return "application/json" in request.headers.get("accept", "")


def _error_page(parts: Parts, refusal: Refused) -> Response:
    asked = Asked()
    frame = PageFrame("search", (("search", "Search", "./"),), (), "")
    results = Results(refusal.message, error=sentence(refusal))
    return parts.rendering.page("search.html.j2", _context(asked, frame, results), refusal.status)


async def _without_index(parts: Parts, asked: Asked) -> Response:
    said = "No index is here yet: start the gateway with --index NAME=FOLDER, or `protoclip ui FOLDER`."
    frame = await parts.frame(asked, None)
    return parts.rendering.page(
        "search.html.j2", _context(asked, replace(frame, no_model=""), Results(said, error=said))
    )


async def _not_opened(parts: Parts, request: Request, asked: Asked, error: Exception) -> Response:
    refusal = refused(error)
    frame = await parts.frame(asked, None)
    said = sentence(refusal)
    context = _context(asked, frame, Results(said, error=said))
    return answer_refused(
        request.scope, refusal, lambda _: parts.rendering.page("search.html.j2", context, refusal.status)
    )


async def _search(parts: Parts, request: Request, asked: Asked, index: Store) -> Response:
    survey = await parts.surveys.of(asked.index, index)
    gateway = parts.gateway
    most = gateway.settings.max_hits
    search = Search(gateway.client, asked.index, index, survey, parts.given, asked, most)
    frame, results = await asyncio.gather(parts.frame(asked, index), search.results())
    context = _context(asked, frame, results, survey.columns)
    if results.refusal is not None:
        status = results.refusal.status
        return answer_refused(
            request.scope, results.refusal, lambda _: parts.rendering.page("search.html.j2", context, status)
        )
    # A page that lacks a part is there all the same, and why it does stands in the log.
    request.scope["refusal"] = results.label_refusal or frame.refusal
    return parts.rendering.page("search.html.j2", context)


def _context(asked: Asked, frame: PageFrame, results: Results, columns: tuple[Any, ...] = ()) -> dict[str, Any]:
    def chosen(column: str, operator: str) -> list[str]:
        return [one.value for one in asked.conditions if (one.column, one.operator) == (column, operator)]

    return {
        "asked": asked,
        "frame": frame,
        "results": results,
        "columns": columns,
        "chosen": chosen,
        "typed": lambda column, operator: next(iter(chosen(column, operator)), ""),
        "giving": Asked(index=asked.index).address(),
        "unfiltered": replace(asked.of_search(), conditions=()).address(),
        "template_names": TEMPLATES_SAID,
    }


async def _browse(parts: Parts, request: Request, asked: Asked, index: Store) -> Response:
    frame = await parts.frame(asked, index)
    template = f"{asked.view}.html.j2"
    try:
        make = map_context if asked.view == "map" else clusters_context
        context = await make(parts, asked, index)
    except Exception as error:  # noqa: BLE001 - every one of them is answered and logged
        refusal = refused(error)
        told = {"asked": asked, "frame": frame, "error": sentence(refusal)}
        return answer_refused(
            request.scope, refusal, lambda _: parts.rendering.page(template, told, refusal.status)
        )
    request.scope["refusal"] = frame.refusal
    return parts.rendering.page(template, {"asked": asked, "frame": frame, "error": "", **context})


async def _given(parts: Parts, request: Request, name: str) -> str:
    """Embeds the picture of a form by the model of the index called `name`, and keeps it under a word.

    Raises:
        Refused: 400, the form has no picture, or one that can't be read; and as `read_form`.
    """
    form = await read_form(request, parts.gateway.settings.body_bytes)
    file = form.files.get("picture")
    if file is None or not file.data:
        raise invalid("no picture was given: choose a file first")
    index = await parts.open(name)
    vector = await image_vector(parts.gateway.client, index, file.data)
    small = await asyncio.to_thread(small_picture, file.data)
    said = shortened(visible(file.name) or "a picture", _LONGEST_NAME)
    return parts.given.keep(GivenPicture(said, vector, index.fingerprint, small))


async def _not_given(parts: Parts, request: Request, asked: Asked, refusal: Refused) -> Response:
    """The page again, with what was wrong."""
    index = await parts.open(asked.index)
    survey = await parts.surveys.of(asked.index, index)
    frame = await parts.frame(asked, index)
    said = sentence(refusal)
    context = _context(asked, frame, Results(said, error=said), survey.columns)
    return answer_refused(
        request.scope, refusal, lambda _: parts.rendering.page("search.html.j2", context, refusal.status)
    )
