"""The answer to a search on the page: hits, examples, labels, and the addresses of what can be asked next."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from itertools import islice
from typing import Any

from protoclip.client import AsyncClient, Hit
from protoclip.client.transport import Vector
from protoclip.client.wanted import IndexOptions
from protoclip.search import Store
from serving.gateway.errors import Refused, invalid, refused

from .asked import PER_PAGE, Asked
from .cards import Card, make_card, thumbnail, title_of
from .columns import where_of
from .given import GivenPictures
from .labels import Bar, bars_of
from .matching import Match, match_of, said_of_matches
from .surveys import Survey
from .vectors import query_vector


@dataclass(frozen=True)
class Example:
    """A picture or an entry that is part of what is looked for.

    Attributes:
        kind: given, like or unlike.
        said: what it is, in words.
        picture: address of a small picture.
        removed: address of the search without it.
    """

    kind: str
    said: str
    picture: str
    removed: str


@dataclass(frozen=True)
class Results:
    """What the page shows below its form.

    Attributes:
        status: in one line, also for those who don't see the page.
        error: what is wrong, instead of hits; "" where nothing is.
        refusal: why there are no hits; None where nothing is wrong.
        first: rank of the first card.
        before: address of the page before; "" where there is none.
        after: address of the next page; "" where there is none.
        other_hits: address of the same with the nearest that do not match, or without them; "" where all match.
        took_ms: what the search took; None where nothing was looked for.
        can_label: whether there is one picture whose labels can be compared.
        label_error: why the labels can't be compared; "" where they can, or there are none.
        label_refusal: the same for the log.
        kept_fields: fields of the address that a form for labels passes on.
    """

    status: str
    error: str = ""
    refusal: Refused | None = None
    cards: tuple[Card, ...] = ()
    first: int = 1
    before: str = ""
    after: str = ""
    other_hits: str = ""
    took_ms: int | None = None
    examples: tuple[Example, ...] = ()
    can_label: bool = False
    bars: tuple[Bar, ...] = ()
    label_error: str = ""
    label_refusal: Refused | None = None
    kept_fields: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Search:
    """One search of one index.

    Attributes:
        name: of the index.
        most: hits that a search may reach, those passed over included.
    """

    client: AsyncClient
    name: str
    index: Store
    survey: Survey
    given: GivenPictures
    asked: Asked
    most: int

    async def results(self) -> Results:
        """The answer; what is wrong is part of it."""
        found = await self._found()
        found = replace(found, examples=await asyncio.to_thread(self._examples))
        # Of a picture that is gone nothing can be compared.
        is_gone = found.refusal is not None and found.refusal.status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE)
        if is_gone or not self._is_one_picture():
            return found
        return await self._labelled(replace(found, can_label=True, kept_fields=_kept(self.asked)))

    async def _found(self) -> Results:
        began_s = time.perf_counter()
        try:
            where = where_of(self.asked.conditions, self.survey.columns)
            offset = PER_PAGE * (self.asked.page - 1)
            if offset >= self.most:
                raise invalid(f"page {self.asked.page} is too far: the first {self.most} hits can be seen")
            if not self.asked.is_query:
                return await asyncio.to_thread(self._browsed, where, offset)
            vector = await query_vector(self.client, self.index, self.given, self.asked)
            wanted = min(PER_PAGE + 1, self.most - offset)
            match = await asyncio.to_thread(match_of, self.index, self.asked)
            hits = await asyncio.to_thread(self._nearest, vector, wanted, offset, where, match)
        except Exception as error:  # noqa: BLE001 - every one of them is answered and logged
            return _failed(error)
        took_ms = round(1000 * (time.perf_counter() - began_s))
        return replace(self._page(hits, match, scored=True), took_ms=took_ms)

    def _nearest(
        self, vector: Vector, wanted: int, offset: int, where: dict[str, Any], match: Match | None
    ) -> list[Hit]:
        examples = (*self.asked.like, *self.asked.unlike)
        options = IndexOptions(where=where or None, offset=offset)
        if match is not None:
            options = IndexOptions(**options, min_relevance=0.0, query_kind=match.kind)
        hits: list[Hit] = self.index.search(vector, wanted, without=examples, **options)
        return hits

    def _browsed(self, where: dict[str, Any], offset: int) -> Results:
        if not where and not offset:
            hits = [Hit(name, 0.0, metadata) for name, metadata in self.survey.first]
            return replace(self._page(hits, None, scored=False), status=self._said_of_start(len(hits)), after="")
        entries = islice(self.index.iterate(where or None), offset, offset + PER_PAGE + 1)
        return self._page([Hit(entry.id, 0.0, entry.metadata) for entry in entries], None, scored=False)

    def _page(self, hits: Sequence[Hit], match: Match | None, *, scored: bool) -> Results:
        asked, shown = self.asked, hits[:PER_PAGE]
        matching = shown if match is None else match.of(shown)
        told = "" if asked.every else said_of_matches(len(matching), len(shown), asked.page)
        other = replace(asked, every=not asked.every, page=1).address() if len(matching) < len(shown) else ""
        first = PER_PAGE * (asked.page - 1) + 1
        more = len(hits) > PER_PAGE and first - 1 + PER_PAGE < self.most and (asked.every or bool(matching))
        if not asked.every:
            shown = matching
        return Results(
            status=told or self._said(len(shown), first, scored),
            cards=tuple(
                make_card(hit.id, hit.metadata, hit.score if scored else None, asked, self.name, hit.relevance)
                for hit in shown
            ),
            first=first,
            before=replace(asked, page=asked.page - 1).address() if asked.page > 1 else "",
            after=replace(asked, page=asked.page + 1).address() if more else "",
            other_hits=other,
        )

    def _said(self, number: int, first: int, scored: bool) -> str:
        if number:
            order = "nearest first" if scored else "in the order in which they were added"
            # How many fit is not counted.
            which = (
                "of those that fit the filters" if self.asked.conditions else f"of {_entries(self.survey.total)}"
            )
            return f"{first:,} to {first + number - 1:,} {which}, {order}"
        if not self.survey.total:
            return "The index is empty: `protoclip index build` fills one."
        if first > 1:
            return "No more entries: go back to the first page."
        if self.asked.conditions:
            return "No entry fits the filters: reset one of them."
        return "Nothing was found: all entries are examples already."

    def _said_of_start(self, number: int) -> str:
        if number < self.survey.total:
            return f"{number} of {_entries(self.survey.total)}, evenly spaced"
        return f"All {_entries(number)}" if number else self._said(0, 1, False)

    def _is_one_picture(self) -> bool:
        return bool(self.asked.picture) != (len(self.asked.like) == 1) and len(self.asked.like) < 2

    def _examples(self) -> tuple[Example, ...]:
        asked = self.asked
        found = []
        given = self.given.find(asked.picture) if asked.picture else None
        if asked.picture:
            removed = replace(asked.of_search(), picture="", labels="").address()
            said = f"like {given.name}" if given is not None else "like a picture that is gone"
            found.append(Example("given", said, f"page/picture/{asked.picture}" if given else "", removed))
        for kind, ids in (("like", asked.like), ("unlike", asked.unlike)):
            for name in ids:
                entry = self.index.get(name)
                title = title_of(name, {} if entry is None else entry.metadata)
                said = f"{'like' if kind == 'like' else 'less like'} {title}"
                found.append(Example(kind, said, thumbnail(self.name, name), asked.without(name).address()))
        return tuple(found)

    async def _labelled(self, found: Results) -> Results:
        if not self.asked.label_list:
            return found
        try:
            bars = await bars_of(self.client, self.index, self.given, self.asked)
        except Exception as error:  # noqa: BLE001 - every one of them is answered and logged
            failed = _failed(error)
            return replace(found, label_error=failed.error, label_refusal=failed.refusal)
        return replace(found, bars=bars)


def _failed(error: Exception) -> Results:
    refusal = refused(error)
    message = sentence(refusal)
    return Results(status=message, error=message, refusal=refusal)


def sentence(refusal: Refused) -> str:
    """What is wrong, as it stands on the page."""
    return refusal.message[:1].upper() + refusal.message[1:]


def _entries(number: int) -> str:
    return f"{number:,} {'entry' if number == 1 else 'entries'}"


def _kept(asked: Asked) -> tuple[tuple[str, str], ...]:
    """All of the address but the labels, as hidden fields."""
    address = replace(asked, labels="", templates="plain")
    return address.fields()
