"""Tasks that are not ours, asked of the service of `settings.forward["immich"]`."""

from __future__ import annotations

import secrets
from http import HTTPStatus
from typing import Any

import orjson

from serving.gateway.errors import Refused
from serving.gateway.forms import Form
from serving.gateway.json_bodies import parse_json
from serving.gateway.state import Gateway
from serving.gateway.upstream import UpstreamAnswer

_MAX_REASON = 256


async def ask_other_service(gateway: Gateway, address: str, tasks: dict[str, Any], form: Form) -> dict[str, Any]:
    """The service's answer to `tasks` for the form's picture or text.

    Raises:
        Refused: what the service refuses, with its status; 502 for a fault of it or an answer that is no JSON
            object; 503 and 504 where it is away or too slow.
    """
    content_type, body = _form_of(tasks, form)
    headers = [(b"content-type", content_type.encode()), (b"accept", b"application/json")]
    answer = await gateway.upstream.pass_on(
        "POST", address, b"/predict", body, headers, gateway.settings.timeout_s
    )
    if answer.status != HTTPStatus.OK:
        raise _refusal(answer)
    try:
        found = parse_json(answer.body)
    except Refused as error:
        raise _no_answer(error.message) from error
    if not isinstance(found, dict):
        raise _no_answer("its answer is no JSON object")
    return found


def _form_of(tasks: dict[str, Any], form: Form) -> tuple[str, bytes]:
    """Content-Type and body of a form that asks for `tasks` alone."""
    boundary = secrets.token_hex(16)
    parts = [('name="entries"', orjson.dumps(tasks))]
    if "image" in form.files:
        parts.append(('name="image"; filename="blob"', form.files["image"].data))
    if "text" in form.fields:
        parts.append(('name="text"', form.fields["text"].encode()))
    blocks = [
        b"".join((f"--{boundary}\r\nContent-Disposition: form-data; {name}\r\n\r\n".encode(), content, b"\r\n"))
        for name, content in parts
    ]
    return f"multipart/form-data; boundary={boundary}", b"".join((*blocks, f"--{boundary}--\r\n".encode()))


def _refusal(answer: UpstreamAnswer) -> Refused:
    reason = answer.body[:_MAX_REASON].decode("utf-8", "replace")
    detail = f"the other service answered {answer.status}: {reason}"
    if answer.status == HTTPStatus.SERVICE_UNAVAILABLE:
        message = "the service for this task is away: come again"
        return Refused(503, "unavailable", message, retry_after_s=2, detail=detail)
    wants_a_key = answer.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
    if HTTPStatus.BAD_REQUEST <= answer.status < HTTPStatus.INTERNAL_SERVER_ERROR and not wants_a_key:
        message = f"the service for this task refuses it with {answer.status}: {' '.join(reason.split())}"
        return Refused(answer.status, "invalid_input", message)
    return Refused(502, "bad_answer", f"the service for this task answered {answer.status}", detail=detail)


def _no_answer(detail: str) -> Refused:
    return Refused(502, "bad_answer", "the service for this task gave an answer that is none", detail=detail)
