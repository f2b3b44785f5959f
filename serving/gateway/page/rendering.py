"""The page's templates, style sheet and scripts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from starlette.responses import Response

from protoclip.reports.pages import page_environment
from serving.gateway.errors import not_found

from .cards import visible

_PACKAGE = "serving.gateway.page"
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_SCRIPTS = ("page.js", "map.js", "icon.svg")
_STYLE = "style.css"


@dataclass(frozen=True)
class _File:
    data: bytes
    media_type: str
    tag: str


class Rendering:
    """Read and compiled once. Everything that a template shows is escaped."""

    def __init__(self) -> None:
        filters: dict[str, Callable[..., str]] = {
            "cosine": _cosine,
            "number": _number,
            "count": _count,
            "fact": visible,
        }
        self._environment = page_environment(_PACKAGE, filters)
        self._environment.globals["static"] = self._address
        self._files = {name: _file(name, _read(name)) for name in _SCRIPTS}
        style = self._environment.get_template("page.css.j2").render().encode()
        self._files[_STYLE] = _file(_STYLE, style)

    def page(self, template: str, context: Mapping[str, Any], status: int = 200) -> Response:
        """An answer with a page."""
        text = self._environment.get_template(template).render(context)
        # What stands for bytes of a file name that are no UTF-8 is a question mark where a template shows it.
        return Response(text.encode("utf-8", "replace"), status, media_type="text/html")

    def static(self, name: str) -> Response:
        """A file that pages load; its address changes with it, so that browsers may keep it.

        Raises:
            Refused: 404, there is none of this name.
        """
        found = self._files.get(name)
        if found is None:
            raise not_found("not_found", f"the page has no file {name[:64]!r}")
        headers = {"Cache-Control": "public, max-age=31536000, immutable", "ETag": f'"{found.tag}"'}
        return Response(found.data, media_type=found.media_type, headers=headers)

    def _address(self, name: str) -> str:
        return f"page/{name}?{self._files[name].tag}"


def _file(name: str, data: bytes) -> _File:
    suffix = name[name.rindex(".") :]
    return _File(data, _TYPES[suffix], hashlib.blake2b(data, digest_size=6).hexdigest())


def _read(name: str) -> bytes:
    return (files(_PACKAGE) / "static" / name).read_bytes()


def _cosine(value: float) -> str:
    return f"{value:.3f}".replace("-", "−")


def _number(value: float) -> str:
    return f"{value:.6g}"


def _count(value: int) -> str:
    return f"{value:,} {'entry' if value == 1 else 'entries'}"
