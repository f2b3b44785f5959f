"""The files beside a picture that hold its caption and facts: `.txt`, `.json` and `.cls`, in a folder or a tar."""

from __future__ import annotations

import json

from .json_lines import HALF_PAIR, has_half_pair, json_text
from .names import TEXT_NAMES
from .part import IMAGE, TEXT
from .sidecar_names import Row

BESIDE = ("txt", "json", "cls")
MAX_BYTES = 2**20


class BadCaption(ValueError):
    """A file beside a picture that can't be used; the message continues its name."""


def caption_columns(beside: dict[str, bytes]) -> Row:
    """The columns that the files beside a picture give, by their extensions.

    `.txt` is the column `text`, blanks around it cut off; `.cls` is `cls`; a `.json` gives its fields, a list as
    several texts. A field called `image` becomes `json_image`, and where there is a `.txt`, one called like a
    caption (`caption`) `json_caption`: the `.txt` is the caption then.

    Raises:
        BadCaption: not UTF-8, or no JSON object.
    """
    columns: Row = {}
    if "json" in beside:
        taken = {IMAGE, *(TEXT_NAMES if "txt" in beside else ())}
        fields = _json_object(_decoded("json", beside["json"]))
        columns = {f"json_{key}" if key.lower() in taken else key: _value(value) for key, value in fields.items()}
        bad = next((key for key, value in columns.items() if has_half_pair(key) or has_half_pair(value)), None)
        if bad is not None:
            raise BadCaption(f"its .json has {HALF_PAIR} in the field {bad!a}")
    if "cls" in beside:
        columns["cls"] = _decoded("cls", beside["cls"]).strip()
    if "txt" in beside:
        columns[TEXT] = _decoded("txt", beside["txt"]).strip()
    return columns


def _value(value: object) -> str | list[str | None] | None:
    return [json_text(part) for part in value] if isinstance(value, list) else json_text(value)


def _decoded(extension: str, data: bytes) -> str:
    if len(data) > MAX_BYTES:
        raise BadCaption(f"its .{extension} is larger than {MAX_BYTES} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadCaption(f"its .{extension} is not UTF-8: byte 0x{data[error.start]:02X}") from error


def _json_object(text: str) -> dict[str, object]:
    try:
        found = json.loads(text)
        # "\ud800" alone is JSON, and no text that any encoding can hold.
        json.dumps(found, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError) as error:
        raise BadCaption("its .json holds half a character, or is nested too deep") from error
    except ValueError as error:
        raise BadCaption(f"its .json is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise BadCaption(f"its .json holds no object but {type(found).__name__}")
    return found
