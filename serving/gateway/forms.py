"""Forms of requests: multipart bodies, with each name once."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from .bodies import media_type, read_body
from .errors import Refused, invalid

MAX_PARTS = 64
MAX_FIELD_BYTES = 1024 * 1024
_BOUNDARY = re.compile(rb"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")


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


async def read_form(request: Request, most: int) -> Form:
    """The fields and files of a multipart body, at most 64 of each.

    Raises:
        Refused: 415 where its type is another one, 400 where it is broken, has too many parts, or two of one name;
            as `read_body`.
    """
    if media_type(request) != "multipart/form-data":
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
