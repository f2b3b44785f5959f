"""Bodies of requests, read whole within bounds on bytes, pace, memory, depth and number."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import orjson
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope

from .errors import RETRY_S, Refused, invalid
from .headers import first_values
from .settings import GatewaySettings

T = TypeVar("T")

MAX_DEPTH = 64
MAX_VALUES = 1_000_000
MAX_PARTS = 64
MAX_FIELD_BYTES = 1024 * 1024
SMALL_BYTES = 256 * 1024
"""Base64 of so much is read sooner than another thread is there."""
_BOUNDARY = re.compile(rb"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")


@dataclass
class HeldBytes:
    """How many bytes the bodies of all requests hold together; `most` of them at once."""

    most: int
    now: int = 0

    def take(self, number: int) -> None:
        """Counts more of them; raises Refused (429) where that is too much."""
        if self.now + number > self.most:
            raise Refused(429, "busy", "too much is being sent at once: come again", retry_after_s=RETRY_S)
        self.now += number

    def give_back(self, number: int) -> None:
        """The reverse."""
        self.now -= number


@dataclass(frozen=True)
class UploadedFile:
    """A file of a form: its bytes, and the name and type that the client gave it."""

    data: bytes = field(repr=False)
    name: str = ""
    media_type: str = ""


@dataclass(frozen=True)
class Form:
    """A form's fields and files, each name once."""

    fields: dict[str, str]
    files: dict[str, UploadedFile]


async def read_body(request: Request, most: int) -> bytes:
    """The body of `request`, as `BodyReader.read`."""
    reader: BodyReader = request.app.state.bodies
    return await reader.read(request.scope, request.receive, most)


class BodyReader:
    """Reads bodies for all routes of a gateway."""

    def __init__(self, settings: GatewaySettings, held: HeldBytes) -> None:
        self._settings = settings
        self._held = held

    async def read(self, scope: Scope, receive: Receive, most: int) -> bytes:
        """The whole body; counted against what all requests may hold until the request is answered.

        Raises:
            Refused: 413 as soon as it is too large, 408 where it is too slow, 415 where it is compressed, 400
                where its length is none, 429 where all bodies together are too large.
            ClientDisconnect: the client went before it was whole.
        """
        headers = first_values(scope)
        _check_encoding(headers)
        declared = _declared(headers)
        if declared is not None and declared > most:
            raise _too_large(most)
        try:
            async with asyncio.timeout(self._settings.body_s) as limit:
                return await self._blocks(scope, receive, most, limit)
        except TimeoutError as error:
            raise Refused(408, "too_slow", "the body came too slowly: send it faster, or less") from error

    async def _blocks(self, scope: Scope, receive: Receive, most: int, limit: asyncio.Timeout) -> bytes:
        settings = self._settings
        began_s = asyncio.get_running_loop().time()
        blocks: list[bytes] = []
        size = 0
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            block, more = message.get("body", b""), message.get("more_body", False)
            size += len(block)
            if size > most:
                raise _too_large(most)
            # The frame gives back what is noted here, when the request is answered.
            self._held.take(len(block))
            scope["held_bytes"] = scope.get("held_bytes", 0) + len(block)
            blocks.append(block)
            if size >= settings.body_bytes_per_s:
                limit.reschedule(began_s + settings.body_s + size / settings.body_bytes_per_s)
        return blocks[0] if len(blocks) == 1 else b"".join(blocks)


async def read_json(request: Request, most: int) -> object:
    """The body's JSON.

    Raises:
        Refused: 415 where its type is another one, 400 where it is no JSON, nested deeper than 64 or of more than
            a million values; as `read_body`.
    """
    media_type = _media_type(request)
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise Refused(415, "unsupported_type", "the body must be JSON: send Content-Type: application/json")
    return parse_json(await read_body(request, most))


def parse_json(data: bytes | str) -> object:
    """JSON from bytes; raises Refused as `read_json`."""
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    brackets = raw.count(b"[") + raw.count(b"{")
    if brackets + raw.count(b",") + raw.count(b":") > MAX_VALUES:
        raise invalid(f"the JSON has more than {MAX_VALUES} values: send less at once")
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise invalid(f"the body is no JSON: {error.msg} at character {error.pos}") from None
    if brackets > MAX_DEPTH:
        _check_depth(value)
    return value


async def aside(request: Request, work: Callable[..., T], *arguments: object) -> T:
    """What `work` makes of a body that was read: in a thread, where it may hold up the event loop."""
    if request.scope.get("held_bytes", 0) <= SMALL_BYTES:
        return work(*arguments)
    return await asyncio.to_thread(work, *arguments)


async def read_form(request: Request, most: int) -> Form:
    """The fields and files of a multipart body, at most 64 of each.

    Raises:
        Refused: 415 where its type is another one, 400 where it is broken, has too many parts, or two of one name;
            as `read_body`.
    """
    if _media_type(request) != "multipart/form-data":
        raise Refused(415, "unsupported_type", "the body must be a form: send Content-Type: multipart/form-data")
    # Of the parameters none but the boundary: some of the character sets that one may name take hours.
    _, options = parse_options_header(request.headers["content-type"])
    boundary = options.get(b"boundary", b"")
    if not _BOUNDARY.fullmatch(boundary):
        raise invalid("the form has no boundary, or one that is none")
    # A text that is no UTF-8 the parser would read as Latin-1 in silence: all of them, it is undone below.
    type_ = b'multipart/form-data; charset=latin-1; boundary="' + boundary + b'"'
    header = Headers(raw=[(b"content-type", type_)])
    body = await read_body(request, most)
    parser = MultiPartParser(
        header, _once(body), max_files=MAX_PARTS, max_fields=MAX_PARTS, max_part_size=MAX_FIELD_BYTES
    )
    # It is in memory already: nothing is written to the disk.
    parser.spool_max_size = len(body) + 1
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise invalid(f"the form can't be read: {error.message}") from None
    except (FormParserError, ValueError) as error:
        raise invalid("the form can't be read: it is broken or cut short") from error
    items = form.multi_items()
    try:
        return await _form(items)
    finally:
        for _, value in items:
            if isinstance(value, UploadFile):
                await value.close()


async def _form(items: list[tuple[str, str | UploadFile]]) -> Form:
    form = Form({}, {})
    for raw_name, value in items:
        name = _text(raw_name, "the name of a field of the form")
        if name in form.fields or name in form.files:
            raise invalid(f"the form has {name[:64]!r} twice: give each name once")
        if isinstance(value, UploadFile):
            file_name = _text(value.filename or "", f"the file name of {name[:64]!r}")
            form.files[name] = UploadedFile(await value.read(), file_name, value.content_type or "")
        else:
            form.fields[name] = _text(value, f"the field {name[:64]!r}")
    return form


def _text(read: str, what: str) -> str:
    """What the parser read as Latin-1, from the UTF-8 that it has to be."""
    try:
        return read.encode("latin-1").decode()
    except UnicodeDecodeError as error:
        message = f"{what} is no UTF-8 (byte {error.start + 1} of {len(read)}): send it in UTF-8"
        raise invalid(message) from None


async def _once(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body


def _too_large(most: int) -> Refused:
    return Refused(413, "too_large", f"the body has more than {most} bytes: send less at once")


def _check_encoding(headers: Mapping[bytes, bytes]) -> None:
    if headers.get(b"content-encoding", b"identity").strip().lower() != b"identity":
        message = "compressed bodies are not taken: send it without Content-Encoding"
        raise Refused(415, "unsupported_encoding", message)


def _declared(headers: Mapping[bytes, bytes]) -> int | None:
    value = headers.get(b"content-length")
    if value is None:
        return None
    if not value.isdigit() or len(value) > 18:
        raise Refused(400, "invalid_input", "Content-Length is no number of bytes")
    return int(value)


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level for inner in _inner(outer) if isinstance(inner, dict | list)]
        if not level:
            return
    raise invalid(f"the JSON is nested deeper than {MAX_DEPTH}")


def _inner(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
