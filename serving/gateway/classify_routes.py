"""`POST /classify` and `GET /classes`: which of the given labels, or of saved classes, fit a picture."""

from __future__ import annotations

import asyncio
import math
from dataclasses import asdict
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from protoclip.client import ClassBank, Classification
from protoclip.contract.errors import ConfigError, ItemError
from protoclip.contract.zero_shot import TEMPLATES, find_templates

from .bodies import aside
from .errors import Refused, answering, invalid, json_response, refused
from .forms import read_form
from .json_bodies import read_json
from .openapi import Paths, operation
from .pictures import picture_bytes
from .requests import Number, Whole, checked
from .state import Gateway


class ClassifyRequest(BaseModel):
    """Pictures, and labels or the name of saved classes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pictures: list[str] = Field(min_length=1, description="picture files in base64, or as data: URIs")
    labels: list[str] | None = Field(None, min_length=1, description="the classes, each once")
    classes: str | None = Field(None, description="saved classes instead of labels, as /classes lists them")
    templates: str | list[str] = Field(
        "plain", description="plain, photo, icon, simple, imagenet, or texts with one {} where the label goes"
    )
    top_k: Whole | None = Field(None, ge=1, description="only the best K labels; null: all")
    multi_label: bool = Field(False, description="every label whose cosine is the threshold or more")
    threshold: Number | None = Field(None, ge=-1, le=1, description="of multi_label: a cosine, from -1 to 1")


def routes(gateway: Gateway) -> list[BaseRoute]:
    """The routes of this module."""

    async def classify(request: Request) -> Response:
        wanted, pictures = await _wanted(request, gateway)
        classes = await _classes(gateway, wanted)
        items, broken = await aside(request, _decoded, pictures)
        answers = await _answers(gateway, wanted, classes, items)
        records = _in_order(broken, answers)
        _check_any(records)
        model = await gateway.client.model
        facts = {"model": model.prefix, "probabilities": model.probabilities}
        return json_response({**facts, "answers": records})

    async def listed(request: Request) -> Response:
        return json_response({"classes": gateway.class_banks.names(), "templates": list(TEMPLATES)})

    return [
        Route("/classify", answering(classify), methods=["POST"]),
        Route("/classes", answering(listed), methods=["GET"]),
    ]


async def _answers(
    gateway: Gateway, wanted: ClassifyRequest, classes: ClassBank | None, items: list[bytes]
) -> list[Classification | ItemError]:
    try:
        return await gateway.client.classify(
            items,
            classes if classes is not None else list(wanted.labels or ()),
            "plain" if classes is not None else wanted.templates,
            errors="return",
            top_k=wanted.top_k,
            multi_label=wanted.multi_label,
            threshold=wanted.threshold,
        )
    except ConfigError as error:
        if classes is not None and await gateway.client.model_with(classes.fingerprint) is None:
            message = "the saved classes are of a model that is not served: their operator must build them again"
            raise Refused(503, "classes_unavailable", message, detail=str(error)) from error
        raise


async def _wanted(request: Request, gateway: Gateway) -> tuple[ClassifyRequest, list[str | bytes]]:
    """The request and its pictures: text in JSON, bytes in a form."""
    settings = gateway.settings
    pictures: list[str | bytes]
    if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        form = await read_form(request, settings.body_bytes)
        values: dict[str, Any] = {name: value for name, value in form.fields.items() if value.strip()}
        for name in ("labels", "templates"):
            if name in values:
                lines = [line.strip() for line in values[name].splitlines() if line.strip()]
                values[name] = lines if name == "labels" or len(lines) != 1 or "{}" in lines[0] else lines[0]
        # A field that was left empty browsers send as a file without name and bytes.
        pictures = [file.data for file in form.files.values() if file.data or file.name]
        # Of a form they are files: what stands in their place is never looked at.
        wanted = checked(ClassifyRequest, {**values, "pictures": ["-"] * len(pictures)})
    else:
        wanted = checked(ClassifyRequest, await read_json(request, settings.body_bytes))
        pictures = list(wanted.pictures)
    if len(pictures) > settings.max_items:
        raise invalid(f"pictures: {len(pictures)} are more than {settings.max_items}: send fewer at once")
    return wanted, pictures


async def _classes(gateway: Gateway, wanted: ClassifyRequest) -> ClassBank | None:
    """The saved classes; None where labels are given."""
    if (wanted.labels is None) == (wanted.classes is None):
        raise invalid("labels or classes: give one of them")
    if wanted.classes is not None:
        if wanted.templates != "plain":
            raise invalid("templates: saved classes have their own: leave it out")
        return await asyncio.to_thread(gateway.class_banks.get, wanted.classes)
    number = len(wanted.labels or ()) * len(find_templates(wanted.templates))
    if number > gateway.settings.max_items:
        raise invalid(
            f"labels times templates are {number} texts, more than {gateway.settings.max_items}: save them as "
            "classes, with `protoclip classes build`"
        )
    return None


def _decoded(pictures: list[str | bytes]) -> tuple[list[bytes], list[Refused | None]]:
    """The good pictures' bytes; and in each picture's place what is wrong with it, or None."""
    items: list[bytes] = []
    broken: list[Refused | None] = []
    for picture in pictures:
        try:
            items.append(picture if isinstance(picture, bytes) else picture_bytes(picture))
            broken.append(None)
        except Refused as error:
            broken.append(error)
    return items, broken


def _in_order(broken: list[Refused | None], answers: list[Classification | ItemError]) -> list[dict[str, Any]]:
    found = iter(answers)
    return [_record(next(found) if error is None else error) for error in broken]


def _record(answer: Classification | Exception) -> dict[str, Any]:
    if isinstance(answer, ItemError):
        return {"error": answer.reason, "code": "invalid_input"}
    if isinstance(answer, Exception):
        refusal = refused(answer)
        return {"error": refusal.message, "code": refusal.code}
    return {**asdict(answer), "score": None if math.isnan(answer.score) else answer.score}


def _check_any(records: list[dict[str, Any]]) -> None:
    """Raises Refused (400) where no picture has an answer."""
    if all("error" in record for record in records):
        raise invalid(str(records[0]["error"]))


def describe(gateway: Gateway) -> Paths:
    """For /openapi.json."""
    form = ClassifyRequest.model_json_schema()
    form["properties"] = {**form["properties"], "picture": {"type": "string", "format": "binary"}}
    answer = "an answer for each picture, or what is wrong with it"
    return {
        "/classify": {"post": operation("Classify pictures", answer, body=ClassifyRequest, form=form)},
        "/classes": {"get": operation("Saved classes, and sets of templates", "their names")},
    }
