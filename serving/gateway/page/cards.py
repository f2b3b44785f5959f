"""Entries of an index as the page shows them: title, facts, the picture's address, and what can be asked next."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from .asked import Asked

_TITLES = ("title", "label", "name", "caption", "text", "product")
_LONGEST_TITLE = 120
_LONGEST_FACT = 300
_NUM_FACTS = 30
_NO_UTF8 = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Card:
    """One entry.

    Attributes:
        score: cosine with the query; None where nothing is looked for.
        relevance: the probability that it is what is looked for; None where that isn't known.
        facts: name and value of the metadata.
        picture: address of its thumbnail.
        more: address of a search for more like it.
        less: address of this search with less like it; "" where nothing is looked for.
    """

    id: str
    title: str
    score: float | None
    relevance: float | None
    facts: tuple[tuple[str, str], ...]
    picture: str
    more: str
    less: str


def make_card(
    entry: str,
    metadata: Mapping[str, Any],
    score: float | None,
    asked: Asked,
    index: str,
    relevance: float | None = None,
) -> Card:
    """The card of an entry of the index called `index`."""
    return Card(
        id=visible(entry),
        title=title_of(entry, metadata),
        score=score,
        relevance=relevance,
        facts=tuple((visible(name), fact_of(value)) for name, value in list(metadata.items())[:_NUM_FACTS]),
        picture=thumbnail(index, entry),
        more=asked.more_like(entry).address(),
        less=asked.less_like(entry).address() if asked.is_query else "",
    )


def title_of(entry: str, metadata: Mapping[str, Any]) -> str:
    """What an entry is called: its title, label, name or caption, or else its id."""
    by_name = {name.lower(): value for name, value in reversed(list(metadata.items()))}
    for name in _TITLES:
        value = by_name.get(name)
        if isinstance(value, list) and value:
            value = value[0]
        if isinstance(value, str) and value.strip():
            return shortened(visible(value.strip()), _LONGEST_TITLE)
    return shortened(visible(entry), _LONGEST_TITLE)


def fact_of(value: Any) -> str:
    """A value of the metadata as text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return shortened(visible(", ".join(map(str, value))), _LONGEST_FACT)
    return shortened(visible(str(value)), _LONGEST_FACT)


def thumbnail(index: str, entry: str) -> str:
    """The address of an entry's picture, from the page's own on."""
    return f"thumbnails/{quote(index, safe='')}/{quote(entry, safe='', errors='surrogatepass')}"


def visible(text: str) -> str:
    """Text that can be sent: bytes of a file name that are no UTF-8 become �."""
    return _NO_UTF8.sub("\ufffd", text)


def shortened(text: str, most: int) -> str:
    """At most so many characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"
