"""The groups of nearly the same entries of one snapshot, with their ids and metadata."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from protoclip.client.results import Hit
from protoclip.contract.progress import Progress

from .conditions import Where
from .duplicates import find_members
from .entries import Label, id_text
from .filters import condition_of
from .nearest import Part
from .tables import labels_of
from .vectors import Keys
from .view import View


@dataclass(frozen=True)
class DuplicateGroup:
    """Entries that are nearly the same.

    Attributes:
        representative: the one that was added first.
        others: the others, nearest first; a score is the cosine with the representative.
    """

    representative: Hit
    others: tuple[Hit, ...]


def duplicate_groups(
    connection: sqlite3.Connection,
    view: View,
    where: Where | None,
    threshold: float,
    place: Path,
    progress: Progress,
) -> list[DuplicateGroup]:
    """The groups of two or more, the largest first; see `Index.duplicates`."""
    parts = list(view.parts(None if where is None else _fitting(connection, where)))
    total = sum(_count(part) for part in parts)
    found = find_members(parts, threshold, lambda done: progress("compare", done, total))
    members = defaultdict(list)
    for key, leader, cosine in zip(found.keys, found.representatives, found.cosines, strict=True):
        members[int(leader)].append((-float(cosine), int(key)))
    labels = labels_of(connection, [*members, *(int(key) for key in found.keys)], place)
    groups = [
        DuplicateGroup(
            _hit(labels[leader], 1.0), tuple(_hit(labels[key], -less) for less, key in sorted(members[leader]))
        )
        for leader in sorted(members)
    ]
    return sorted(groups, key=lambda group: -len(group.others))


def _fitting(connection: sqlite3.Connection, where: Where) -> Keys:
    sql, values = condition_of(where)
    rows = connection.execute(f"SELECT key FROM entries WHERE {sql} ORDER BY key", values)
    return np.fromiter((key for (key,) in rows), dtype=np.int64)


def _count(part: Part) -> int:
    return len(part.keys) if part.live is None else int(np.count_nonzero(part.live))


def _hit(label: Label, score: float) -> Hit:
    return Hit(id_text(label.id), min(1.0, score), label.decoded())
