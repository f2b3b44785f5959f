"""What an index's own metadata say of queries and their answers. `N` entries, `D` embedding."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from protoclip.contract.errors import ConfigError
from protoclip.search.entries import Label, id_text
from protoclip.search.vectors import Keys

from .asked import Entries

MOST_QUERIES = 2000


@dataclass(frozen=True, eq=False)
class Known:
    """Attributes:
    entries: all of the index, in groups.
    answers: by text, the keys of the entries that have it.
    first: by key, the first text of an entry; of those without one, nothing.
    """

    entries: Entries
    answers: Mapping[str, Keys]
    first: Mapping[int, str]

    def texts(self, seed: int = 0) -> list[str]:
        """At most MOST_QUERIES of them, by chance."""
        texts = sorted(self.answers)
        order = np.random.default_rng(seed).permutation(len(texts))[:MOST_QUERIES]
        return [texts[place] for place in order.tolist()]

    def like_others(self, seed: int = 0) -> list[int]:
        """At most MOST_QUERIES keys of entries with the same first text as another one, by chance."""
        keys = [key for key, text in self.first.items() if len(self.answers[text]) > 1]
        order = np.random.default_rng(seed).permutation(len(keys))[:MOST_QUERIES]
        return sorted(keys[place] for place in order.tolist())


@dataclass(frozen=True)
class Asking:
    """Where queries and their answers come from.

    Attributes:
        field: of the metadata, whose texts ask for their entries; None: none does.
        queries: texts, and the ids of the entries that each of them asks for.
        group: of the metadata; entries with the same value belong together; None: those with the same first text.
    """

    field: str | None
    queries: Mapping[str, Sequence[str]]
    group: str | None

    def check(self) -> None:
        """Raises ConfigError where there are no queries, or ids in another form."""
        if self.field is None and not self.queries:
            raise ConfigError("calibrate needs queries: field (--text-column), queries (--queries), or both")
        for text, ids in self.queries.items():
            if isinstance(ids, str) or not all(isinstance(name, str) for name in ids):
                raise ConfigError(f"queries: {text!r} has {ids!r:.60}: give a list of ids")


def read_known(labels: Iterable[list[tuple[int, Label]]], asking: Asking) -> Known:
    """The queries of an index; an entry that has no value of `group` is a group of its own.

    Raises:
        ConfigError: no entry has a text in the field, or the field `group`, or an id that was given.
    """
    field, group, given = asking.field, asking.group, _by_id(asking.queries)
    keys: list[int] = []
    groups: list[str] = []
    answers: dict[str, list[int]] = {}
    first: dict[int, str] = {}
    has_group = group is None
    for part in labels:
        for key, label in part:
            metadata = label.decoded()
            texts = [*given.pop(id_text(label.id), []), *_texts(None if field is None else metadata.get(field))]
            for text in dict.fromkeys(texts):
                answers.setdefault(text, []).append(key)
            if texts:
                first[key] = texts[0]
            value = metadata.get(group) if group is not None else texts[0] if texts else None
            has_group = has_group or value is not None
            keys.append(key)
            groups.append(f"entry {key}" if value is None else f"value {json.dumps(value, sort_keys=True)}")
    if given:
        name, texts = next(iter(given.items()))
        raise ConfigError(f"queries (--queries): no entry has the id {name!r}, the answer to {texts[0]!r}")
    if not answers:
        raise ConfigError(f"field={field!r} (--text-column): no entry has a text in this field of its metadata")
    if not has_group:
        raise ConfigError(f"group={group!r} (--group-by): no entry has this field in its metadata")
    numbers = np.unique(groups, return_inverse=True)[1].astype(np.int64)
    found = {text: np.array(of_text, dtype=np.int64) for text, of_text in answers.items()}
    return Known(Entries(np.array(keys, dtype=np.int64), numbers), found, first)


def _by_id(queries: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for text, ids in queries.items():
        for name in ids:
            found.setdefault(name, []).append(text)
    return found


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return list(dict.fromkeys(one.strip() for one in values if isinstance(one, str) and one.strip()))
