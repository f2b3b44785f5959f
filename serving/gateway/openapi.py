"""The description of the interface, in OpenAPI 3.1: put together from what each module says of its routes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any, TypeAlias

from pydantic import BaseModel

Paths: TypeAlias = dict[str, dict[str, Any]]
_ERROR = {
    "type": "object",
    "properties": {"error": {"type": "string"}, "code": {"type": "string"}},
    "required": ["error"],
}
_STATUSES = {
    "400": "the input is wrong; `error` says what",
    "401": "no key, or an unknown one",
    "404": "no such model, index or entry",
    "413": "too large",
    "429": "too much at once; Retry-After says when to come again",
    "503": "the server is away; Retry-After says when to come again",
    "504": "no answer in time",
}


def operation(
    summary: str,
    answer: str,
    *,
    body: type[BaseModel] | Mapping[str, Any] | None = None,
    form: Mapping[str, Any] | None = None,
    path: Sequence[str] = (),
    answer_type: str = "application/json",
) -> dict[str, Any]:
    """One method of a path.

    Args:
        answer: what a 200 holds.
        body: model or JSON schema of the body; None for no body.
        form: schema of the body as a form, beside `body`.
        path: names of parameters in the path.
    """
    found: dict[str, Any] = {"summary": summary, "responses": _responses(answer, answer_type)}
    if path:
        found["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in path
        ]
    contents = {}
    if body is not None:
        contents["application/json"] = {"schema": _schema(body)}
    if form is not None:
        contents["multipart/form-data"] = {"schema": dict(form)}
    if contents:
        found["requestBody"] = {"required": True, "content": contents}
    return found


def document(paths: Paths, *, has_keys: bool) -> dict[str, Any]:
    """The whole description."""
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "ProtoCLIP gateway", "version": version("protoclip")},
        "paths": paths,
    }
    if has_keys:
        found["components"] = {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            }
        }
        found["security"] = [{"bearer": []}, {"header": []}]
    return found


def _schema(body: type[BaseModel] | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(body, type):
        return body.model_json_schema(ref_template="#/components/schemas/{model}")
    return dict(body)


def _responses(answer: str, answer_type: str) -> dict[str, Any]:
    good = {"200": {"description": answer, "content": {answer_type: {}}}}
    errors = {
        status: {"description": text, "content": {"application/json": {"schema": _ERROR}}}
        for status, text in _STATUSES.items()
    }
    return {**good, **errors}
