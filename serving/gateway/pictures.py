"""Pictures inside JSON: base64, or a `data:` URI. No address is fetched."""

from __future__ import annotations

import binascii
import re

from protoclip.contract.pixels import PixelSpec

from .errors import Refused, invalid

_DATA_URI = re.compile(r"data:(?P<type>[^,;]{0,100})(?P<parameters>(?:;[^,;]{0,100}){0,8}),", re.IGNORECASE)
_ADDRESS = re.compile(r"\s*(?:[a-z][a-z0-9+.-]{0,20}:|//|\\\\|www\.)", re.IGNORECASE)
_MAX_CHARACTERS = PixelSpec.max_bytes * 4 // 3 + 4096


def is_data_uri(value: str) -> bool:
    """Whether it begins as a `data:` URI, well-formed or not."""
    return value[:5].lower() == "data:"


def picture_bytes(value: str) -> bytes:
    """The bytes of a picture file from base64 or a `data:` URI; what they are, the decoder finds out.

    Raises:
        Refused: 400 for an address, which is never fetched, and for what is no base64; 413 for too much of it.
    """
    if not isinstance(value, str):
        raise invalid(f"a picture is a {type(value).__name__}: give base64 or a data: URI")
    if len(value) > _MAX_CHARACTERS:
        raise Refused(413, "too_large", f"a picture may have {PixelSpec.max_bytes} bytes: make it smaller")
    if is_data_uri(value):
        return _decoded(_content(value))
    if _ADDRESS.match(value[:64]):
        raise invalid("a picture is an address, and none is fetched: send its bytes in base64, or as a data: URI")
    return _decoded(value)


def _content(uri: str) -> str:
    match = _DATA_URI.match(uri)
    if match is None:
        raise invalid("a picture's data: URI has no comma, or too much before it: data:image/png;base64,…")
    if not match["parameters"].lower().endswith(";base64"):
        raise invalid("a picture's data: URI is not in base64: data:image/png;base64,…")
    if (
        match["type"]
        and not match["type"].lower().startswith("image/")
        and match["type"] != "application/octet-stream"
    ):
        raise invalid(f"a picture's data: URI is of type {match['type'][:40]!r}: only image/… is taken")
    return uri[match.end() :]


def _decoded(text: str) -> bytes:
    # Lines, as of MIME, and nothing else that base64 does not have.
    if any(blank in text for blank in "\r\n\t "):
        text = "".join(text.split())
    try:
        data = binascii.a2b_base64(text.encode("ascii"), strict_mode=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        reason = "it has other characters" if isinstance(error, UnicodeEncodeError) else str(error).lower()
        raise invalid(f"a picture is no base64: {reason}") from error
    if not data:
        raise invalid("a picture is empty: 0 bytes")
    return data
