"""`POST /search` and `GET /indexes`: neighbours of a text, a picture, entries, or a sum of them."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from protoclip.client import Hit
from protoclip.client.wanted import Wanted

from .bodies import aside
from .errors import Refused, answering, invalid, json_response, not_found
from .forms import Form, read_form
from .json_bodies import parse_json, read_json
from .openapi import Paths, operation
from .pictures import picture_bytes
from .requests import Number, Whole, checked
from .state import Gateway

_PARTS = "a text, or texts with their weights"
_FILE = "picture"


class SearchRequest(BaseModel):
    """What to look for: at least one of text, picture and like."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    index: str | None = Field(None, description="name of the index, as /indexes lists it; may be left out for one")
    text: str | dict[str, Number] | None = Field(None, description=_PARTS)
    picture: str | None = Field(None, description="a picture file in base64, or as a data: URI")
    like: str | list[str] | dict[str, Number] | None = Field(None, description="ids of entries, or with weights")
    minus: str | dict[str, Number] | None = Field(None, description=f"{_PARTS}, to subtract")
    where: dict[str, Any] | None = Field(None, description='conditions on metadata: {"price": {"lt": 50}}')
    group_by: str | None = Field(None, description="a field, of each of whose values only the best is a hit")
    distinct: Number | None = Field(
        None, gt=0, le=1, description="a cosine, such as 0.97: what is this near to a better hit is none"
    )
    min_relevance: Number | None = Field(
        None, ge=0, le=1, description="a probability: only hits that are meant with at least this one, or none"
    )
    k: Whole = Field(10, ge=1, description="how many hits")
    offset: Whole = Field(0, ge=0, description="how many hits to pass over: the next page")


def routes(gateway: Gateway) -> list[BaseRoute]:
    """The routes of this module."""

    async def search(request: Request) -> Response:
        wanted, picture = await _wanted(request, gateway)
        name = index_name(gateway, wanted.index)
        hits = await find(gateway, name, wanted, picture)
        unknown = await gateway.indexes.unknown_fields(name, hits, wanted.where, wanted.group_by)
        return json_response(
            {
                "index": name,
                "k": wanted.k,
                "offset": wanted.offset,
                "hits": [hit_record(gateway, name, hit) for hit in hits],
                **({} if wanted.min_relevance is None else {"nothing_matches": not hits}),
                "warnings": [f"no entry has a field {field!r}" for field in unknown],
            }
        )

    async def indexes(request: Request) -> Response:
        facts = await gateway.indexes.facts()
        return json_response(
            {"indexes": [{**asdict(one), "thumbnails": one.name in gateway.settings.pictures} for one in facts]}
        )

    return [
        Route("/search", answering(search), methods=["POST"]),
        Route("/indexes", answering(indexes), methods=["GET"]),
    ]


def index_name(gateway: Gateway, given: str | None) -> str:
    """The index that is meant; raises Refused (404, or 400 where several may be)."""
    names = gateway.indexes.names()
    if given is not None:
        if given not in names:
            raise not_found("index_not_found", f"no index is called {given[:64]!r}: /indexes lists them")
        return given
    if len(names) == 1:
        return names[0]
    if not names:
        raise not_found("index_not_found", "this gateway has no index: start it with --index NAME=FOLDER")
    raise invalid(f"index: there are {', '.join(names)[:200]}: say which")


async def find(gateway: Gateway, name: str, wanted: SearchRequest, picture: bytes | None) -> list[Hit]:
    """The hits; raises Refused and what `Indexes.search` raises."""
    if wanted.offset + wanted.k > gateway.settings.max_hits:
        raise invalid(f"offset + k must be at most {gateway.settings.max_hits}")
    num_parts = sum(
        len(part) for part in (wanted.text, wanted.like, wanted.minus) if isinstance(part, dict | list)
    )
    if num_parts > gateway.settings.max_items:
        raise invalid(f"text, like and minus are more than {gateway.settings.max_items} items: ask for fewer")
    like = dict.fromkeys(wanted.like, 1.0) if isinstance(wanted.like, list) else wanted.like
    return await gateway.indexes.search(
        name,
        gateway.client,
        text=wanted.text,
        image=picture,
        like=like,
        minus=wanted.minus,
        wanted=Wanted(**{field.name: getattr(wanted, field.name) for field in fields(Wanted)}),
    )


def hit_record(gateway: Gateway, name: str, hit: Hit) -> dict[str, Any]:
    """A hit as JSON, with the place of its thumbnail; null where the index has no known place of pictures."""
    settings = gateway.settings
    # Where pictures are only an index of this machine says.
    as_built = settings.pictures_as_built and isinstance(settings.indexes[name], Path)
    has_place = name in settings.pictures or as_built
    return {
        "id": hit.id,
        "score": hit.score,
        **({} if hit.relevance is None else {"relevance": hit.relevance}),
        "metadata": hit.metadata,
        "thumbnail": thumbnail_path(name, hit.id) if has_place else None,
    }


def thumbnail_path(index: str, entry: str) -> str:
    """The path of an entry's thumbnail here; an id may hold any character, and bytes that are no UTF-8."""
    return f"/thumbnails/{index}/{quote(entry.encode('utf-8', 'surrogatepass'), safe='')}"


async def _wanted(request: Request, gateway: Gateway) -> tuple[SearchRequest, bytes | None]:
    most = gateway.settings.body_bytes
    if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        form = await read_form(request, most)
        return checked(SearchRequest, _form_values(form)), _form_picture(form)
    wanted = checked(SearchRequest, await read_json(request, most))
    return wanted, None if wanted.picture is None else await aside(request, picture_bytes, wanted.picture)


def _form_values(form: Form) -> dict[str, Any]:
    """A form's fields; an empty one was left out, as browsers send them."""
    values: dict[str, Any] = {name: value for name, value in form.fields.items() if value.strip()}
    if _FILE in values:
        raise invalid("picture: of a form it is a file: send it with a file name")
    if "where" in values:
        values["where"] = _where(values["where"])
    return values


def _where(written: str) -> object:
    try:
        return parse_json(written)
    except Refused as error:
        raise invalid(f"where: {error.message}") from error


def _form_picture(form: Form) -> bytes | None:
    unknown = sorted(set(form.files) - {_FILE})
    if unknown:
        raise invalid(f"{unknown[0][:64]!r} is no file of this request: call it picture")
    file = form.files.get(_FILE)
    return None if file is None or not file.data else file.data


def describe(gateway: Gateway) -> Paths:
    """For /openapi.json."""
    form = SearchRequest.model_json_schema()
    form["properties"] = {**form["properties"], _FILE: {"type": "string", "format": "binary"}}
    return {
        "/search": {
            "post": operation(
                "Find the nearest entries of an index", "hits, best first", body=SearchRequest, form=form
            )
        },
        "/indexes": {"get": operation("The search indexes", "names, models and numbers of entries")},
    }
