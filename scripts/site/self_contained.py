"""What built pages would fetch from other hosts when they are read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

# `link` only loads by these; `canonical`, `next` and the like are addresses alone.
LOADING = {"stylesheet", "preload", "prefetch", "preconnect", "dns-prefetch", "icon", "manifest", "modulepreload"}
IN_STYLES = re.compile(r"""(?:url\(\s*|@import\s+)["']?((?:https?:)?//[^"')\s]+)""")


def external_resources(site: Path) -> list[str]:
    """`page: address` for each script, style, picture, font or frame of another host in `site`."""
    found: set[str] = set()
    for page in sorted(site.rglob("*.html")):
        parser = _Resources()
        parser.feed(page.read_text(encoding="utf-8"))
        found |= {f"{page.relative_to(site)}: {address}" for address in parser.found if _is_external(address)}
    for style in sorted(site.rglob("*.css")):
        found |= {
            f"{style.relative_to(site)}: {one}" for one in IN_STYLES.findall(style.read_text(encoding="utf-8"))
        }
    return sorted(found)


def _is_external(address: str) -> bool:
    return re.match(r"(https?:)?//", address) is not None


class _Resources(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found += _loaded(tag, {name: value or "" for name, value in attributes})


def _loaded(tag: str, attributes: dict[str, str]) -> Iterator[str]:
    if tag == "link" and LOADING & set(attributes.get("rel", "").split()):
        yield attributes.get("href", "")
    if tag in ("script", "img", "iframe", "source", "video", "audio", "embed", "track", "input"):
        yield attributes.get("src", "")
        yield from (part.split()[0] for part in attributes.get("srcset", "").split(",") if part.strip())
    if tag == "object":
        yield attributes.get("data", "")
    yield from IN_STYLES.findall(attributes.get("style", ""))
