"""What a request to /v1/embeddings asks for, read from its JSON.

OpenAI's own form knows texts alone. Pictures come as the public servers that embed them take them: a data URI in
`input`, or base64 with `modality` (infinity), objects `{"image": …}` and `{"text": …}` (Jina), and parts of a
message (vLLM). A string is a text unless it is a data URI of a picture, or `modality` says what all strings are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from serving.gateway.errors import Refused
from serving.gateway.pictures import picture_bytes

Encoding = Literal["float", "base64"]
Kind = Literal["text", "image"]

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["model"],
    "properties": {
        "model": {"type": "string", "description": "one of /v1/models"},
        "input": {"description": 'a text, a picture as a data: URI, {"image": …}, {"text": …}, or a list of them'},
        "modality": {"enum": ["text", "image"], "description": "what all strings of input are"},
        "encoding_format": {"enum": ["float", "base64"], "description": "base64: little-endian float32"},
        "dimensions": {"type": "integer", "description": "no other than the model's own"},
        "messages": {"type": "array", "description": "instead of input: one message with one text or one picture"},
    },
}
"""For /openapi.json."""
_URI_HEAD = 200
_TOKENS = (
    "lists of token ids can't be read here, since another model's vocabulary made them: send texts "
    "(LangChain: OpenAIEmbeddings(check_embedding_ctx_length=False))"
)


class WrongField(Refused):
    """A field of the request is wrong.

    Attributes:
        param: the field, as OpenAI's error body names it.
    """

    def __init__(self, param: str, message: str, *, status: int = 400, code: str = "invalid_input") -> None:
        super().__init__(status, code, message)
        self.param = param


@dataclass(frozen=True)
class EmbeddingRequest:
    """A request whose form is right.

    Attributes:
        model: the name that was asked for.
        places: where each input stands, such as `input[3]`.
        texts, pictures: by their position in `input`; together they have every position from 0.
        encoding: how vectors are written.
        dimensions: how many numbers a vector shall have; None where nothing was said.
    """

    model: str
    places: tuple[str, ...]
    texts: dict[int, str] = field(default_factory=dict)
    pictures: dict[int, bytes] = field(default_factory=dict)
    encoding: Encoding = "float"
    dimensions: int | None = None


def read_request(body: object, max_items: int) -> EmbeddingRequest:
    """The request in a body's JSON.

    Raises:
        WrongField: a field is missing, has a wrong value, or an input is neither a text nor a picture.
    """
    if not isinstance(body, dict):
        raise WrongField("input", 'the body must be a JSON object such as {"model": "…", "input": "…"}')
    model, encoding, dimensions, modality = _model(body), _encoding(body), _dimensions(body), _modality(body)
    items = _items(body, max_items)
    places = tuple(place for place, _ in items)
    request = EmbeddingRequest(model, places, encoding=encoding, dimensions=dimensions)
    for position, (place, item) in enumerate(items):
        kind, value = _kind(item, modality, place)
        if kind == "text":
            request.texts[position] = value
        else:
            request.pictures[position] = _picture(value, place)
    return request


def _items(body: dict[str, Any], max_items: int) -> Sequence[tuple[str, object]]:
    """Every input with the place at which it stands."""
    if body.get("messages") is not None:
        if body.get("input") is not None:
            raise WrongField("messages", "give input or messages, not both")
        return [("messages", _part_of(body["messages"]))]
    given = body.get("input")
    if given is None:
        raise WrongField("input", "input is missing: give a text, or a list of texts and pictures")
    if not isinstance(given, list):
        return [("input", given)]
    if not given:
        raise WrongField("input", "input is an empty list: give at least one text or picture")
    if all(_is_number(item) for item in given):
        raise WrongField("input", _TOKENS)
    if len(given) > max_items:
        raise WrongField("input", f"input has {len(given)} items, the limit is {max_items}: send several requests")
    return [(f"input[{position}]", item) for position, item in enumerate(given)]


def _part_of(messages: object) -> object:
    """The only part of the only message; of several these models can't make one vector."""
    message = messages[0] if isinstance(messages, list) and len(messages) == 1 else None
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, str):
        return {"text": content}
    if not isinstance(content, list) or len(content) != 1:
        raise WrongField(
            "messages", "messages must be one message with one text or one picture: send others apart"
        )
    return content[0]


def _kind(item: object, modality: str | None, place: str) -> tuple[Kind, str]:
    if isinstance(item, str):
        is_picture = _is_uri(item) if modality is None else modality == "image"
        return ("image" if is_picture else "text"), item
    if isinstance(item, dict):
        return _kind_of_object(item, place)
    if _is_number(item) or (isinstance(item, list) and all(_is_number(part) for part in item)):
        raise WrongField("input", _TOKENS)
    raise WrongField(
        "input", f'{place} is neither a text nor an object such as {{"image": "data:image/png;base64,…"}}'
    )


def _is_uri(item: str) -> bool:
    """Of a picture, or of bytes that are no text in any case: what they are, the decoder finds out."""
    head = item[:_URI_HEAD].lower()
    return head.startswith("data:image/") or (head.startswith("data:") and ";base64," in head)


def _kind_of_object(item: dict[str, Any], place: str) -> tuple[Kind, str]:
    """Of `{"text": …}`, `{"image": …}`, and a message's part, whose picture is `{"image_url": {"url": …}}`."""
    found = [name for name in ("text", "image", "image_url") if item.get(name) is not None]
    if len(found) != 1:
        raise WrongField("input", f'{place} must have one of "text", "image" and "image_url"')
    name = found[0]
    value = item[name]
    if name == "image_url" and isinstance(value, dict):
        value = value.get("url")
    if not isinstance(value, str):
        raise WrongField("input", f"{place}.{name} must be a string")
    return ("text" if name == "text" else "image"), value


def _picture(value: str, place: str) -> bytes:
    try:
        return picture_bytes(value)
    except Refused as error:
        raise WrongField("input", f"{place}: {error.message}", status=error.status, code=error.code) from error


def _is_number(item: object) -> bool:
    return isinstance(item, int | float) and not isinstance(item, bool)


def _model(body: dict[str, Any]) -> str:
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise WrongField("model", "model is missing: GET /v1/models lists the names")
    return model


def _encoding(body: dict[str, Any]) -> Encoding:
    encoding = body.get("encoding_format")
    if encoding is None or encoding == "float":
        return "float"
    if encoding == "base64":
        return "base64"
    raise WrongField("encoding_format", f"encoding_format={encoding!r:.40} is unknown: use 'float' or 'base64'")


def _dimensions(body: dict[str, Any]) -> int | None:
    dimensions = body.get("dimensions")
    if dimensions is None or (isinstance(dimensions, int) and not isinstance(dimensions, bool)):
        return dimensions
    raise WrongField("dimensions", f"dimensions={dimensions!r:.40} is not a whole number")


def _modality(body: dict[str, Any]) -> str | None:
    modality = body.get("modality")
    if modality is None or modality in ("text", "image"):
        return modality
    raise WrongField("modality", f"modality={modality!r:.40} is unknown: use 'text' or 'image'")
