"""What an address of the page asks for: all of the page's state stands in it, to be kept and sent on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args
from urllib.parse import parse_qsl, quote, urlencode

from serving.gateway.errors import Refused, invalid

View = Literal["search", "map", "clusters"]
LEAST, MOST, IS = "least", "most", "is"
PER_PAGE = 24
MAX_TEXT = 2000
_MAX_FIELDS = 200
_MAX_EXAMPLES = 20
_OPERATORS = (LEAST, MOST, IS)


@dataclass(frozen=True)
class Condition:
    """One filter: `column` is at least, at most, or one of `value`; `operator` is LEAST, MOST or IS."""

    column: str
    operator: str
    value: str


@dataclass(frozen=True)
class Asked:
    """One state of the page.

    Attributes:
        index: name of the index; "" for the first one.
        text: what to look for; "" for nothing.
        picture: word for a picture that was given before; "" for none.
        like: ids of entries to look for more like.
        unlike: ids of entries to look for less like.
        conditions: on metadata; those of one column and IS are alternatives.
        page: of the hits, from 1.
        labels: classes for the picture, as they were typed.
        templates: name of a set of templates for them.
        colour: column by which the map is coloured; "" for clusters.
        cluster: number of the cluster that is looked into; None: all of them.
        every: whether the nearest entries are shown that do not match, too.
    """

    view: View = "search"
    index: str = ""
    text: str = ""
    picture: str = ""
    like: tuple[str, ...] = ()
    unlike: tuple[str, ...] = ()
    conditions: tuple[Condition, ...] = ()
    page: int = 1
    labels: str = ""
    templates: str = "plain"
    colour: str = ""
    cluster: int | None = None
    every: bool = False

    @property
    def is_query(self) -> bool:
        """Whether there is something to look for."""
        return bool(self.text or self.picture or self.like)

    @property
    def label_list(self) -> tuple[str, ...]:
        """The labels, each once: a line each where there are lines, else parted by commas."""
        parts = self.labels.splitlines() if "\n" in self.labels.strip() else self.labels.split(",")
        return tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))

    def more_like(self, entry: str) -> Asked:
        """The same with more like that entry."""
        unlike = tuple(one for one in self.unlike if one != entry)
        return replace(self.of_search(), like=(*self.without(entry).like, entry), unlike=unlike)

    def less_like(self, entry: str) -> Asked:
        """The same with less like that entry."""
        return replace(
            self.of_search(), like=self.without(entry).like, unlike=(*self.without(entry).unlike, entry)
        )

    def without(self, entry: str) -> Asked:
        """The same without that example."""
        like, unlike = (tuple(one for one in ids if one != entry) for ids in (self.like, self.unlike))
        return replace(self.of_search(), like=like, unlike=unlike)

    def of_search(self) -> Asked:
        """The first page of the hits."""
        return replace(self, view="search", page=1, cluster=None, colour="", every=False)

    def fields(self) -> tuple[tuple[str, str], ...]:
        """The fields of its address, and no empty one."""
        pairs: list[tuple[str, str]] = [
            ("view", "" if self.view == "search" else self.view),
            ("index", self.index),
            ("q", self.text),
            ("picture", self.picture),
            *(("like", one) for one in self.like),
            *(("unlike", one) for one in self.unlike),
            *((f"{one.operator}:{one.column}", one.value) for one in self.conditions),
            ("labels", self.labels),
            ("templates", "" if self.templates == "plain" else self.templates),
            ("colour", self.colour),
            ("cluster", "" if self.cluster is None else str(self.cluster)),
            ("every", "1" if self.every else ""),
            ("page", "" if self.page == 1 else str(self.page)),
        ]
        return tuple(pair for pair in pairs if pair[1])

    def address(self) -> str:
        """The address, from the page's own on: `./?q=…`."""
        query = urlencode(self.fields(), errors="surrogatepass", quote_via=quote)
        return f"./?{query}" if query else "./"


def read_asked(query: bytes) -> Asked:
    """The state that a query string stands for; what the page has no field for is passed over.

    Raises:
        Refused: 400 for too many fields, one that is no UTF-8, too long a text, or a number that is none.
    """
    try:
        fields = parse_qsl(query.decode(), True, errors="surrogatepass", max_num_fields=_MAX_FIELDS)
    except UnicodeDecodeError as error:
        raise invalid("the address is no UTF-8: type the search again") from error
    except ValueError as error:
        raise invalid(f"the address has more than {_MAX_FIELDS} fields: search for less at once") from error
    values = dict(reversed(fields))
    many = {name: tuple(dict.fromkeys(value for key, value in fields if key == name and value)) for name in _MANY}
    if len(many["like"]) + len(many["unlike"]) > _MAX_EXAMPLES:
        raise invalid(f"more than {_MAX_EXAMPLES} examples: remove some")
    return Asked(
        view=_view(values.get("view", "")),
        index=values.get("index", ""),
        text=_text("the text to look for", values.get("q", "")),
        picture=values.get("picture", ""),
        like=many["like"],
        unlike=tuple(one for one in many["unlike"] if one not in many["like"]),
        conditions=_conditions(fields),
        page=_number("page", values.get("page", ""), 1) or 1,
        labels=_text("labels", values.get("labels", "")),
        templates=values.get("templates", "") or "plain",
        colour=values.get("colour", ""),
        cluster=_number("cluster", values.get("cluster", ""), 0),
        every=bool(values.get("every", "")),
    )


_MANY = ("like", "unlike")


def _view(value: str) -> View:
    for view in get_args(View):
        if value in ("", view):
            return view
    raise Refused(404, "not_found", f"no view is called {value[:64]!r}: there are {', '.join(get_args(View))}")


def _text(what: str, value: str) -> str:
    value = value.strip()
    if len(value) > MAX_TEXT:
        raise invalid(f"{what} has {len(value)} characters, and at most {MAX_TEXT} are taken: shorten it")
    return value


def _conditions(fields: Sequence[tuple[str, str]]) -> tuple[Condition, ...]:
    found = []
    for name, value in fields:
        operator, separator, column = name.partition(":")
        if separator and operator in _OPERATORS and value.strip():
            found.append(Condition(column, operator, value if operator == IS else value.strip()))
    return tuple(dict.fromkeys(found))


def _number(name: str, value: str, least: int) -> int | None:
    if not value:
        return None
    if not value.isascii() or not value.isdigit() or len(value) > 9 or int(value) < least:
        raise invalid(f"{name}={value[:20]!r} is no number from {least} on: leave it out of the address")
    return int(value)
