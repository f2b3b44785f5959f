"""What an index's own metadata say of queries and their answers. `N` entries, `D` embedding."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from protoclip.contract.errors import ConfigError
from protoclip.search.entries import Label
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


def read_known(labels: Iterable[list[tuple[int, Label]]], field: str, group: str | None) -> Known:
    """Texts in the `field` of the metadata, one or several; entries with the same value of `group` are together.

    Without `group`, those with the same first text do. An entry that has no such value is a group of its own.

    Raises:
        ConfigError: no entry has a text in that field, or none has the field `group`.
    """
    keys: list[int] = []
    groups: list[str] = []
    answers: dict[str, list[int]] = {}
    first: dict[int, str] = {}
    has_group = group is None
    for part in labels:
        for key, label in part:
            metadata = label.decoded()
            texts = _texts(metadata.get(field))
            for text in texts:
                answers.setdefault(text, []).append(key)
            if texts:
                first[key] = texts[0]
            value = metadata.get(group) if group is not None else texts[0] if texts else None
            has_group = has_group or value is not None
            keys.append(key)
            groups.append(f"entry {key}" if value is None else f"value {json.dumps(value, sort_keys=True)}")
    if not answers:
        raise ConfigError(f"field={field!r} (--text-column): no entry has a text in this field of its metadata")
    if not has_group:
        raise ConfigError(f"group={group!r} (--group-by): no entry has this field in its metadata")
    numbers = np.unique(groups, return_inverse=True)[1].astype(np.int64)
    found = {text: np.array(of_text, dtype=np.int64) for text, of_text in answers.items()}
    return Known(Entries(np.array(keys, dtype=np.int64), numbers), found, first)


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return list(dict.fromkeys(one.strip() for one in values if isinstance(one, str) and one.strip()))
