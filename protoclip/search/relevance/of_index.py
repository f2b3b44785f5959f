"""Calibrating one snapshot of an index. `Q` queries, `D` embedding."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from protoclip.contract.errors import DataError
from protoclip.contract.progress import Progress
from protoclip.search import tables
from protoclip.search.nearest import Best
from protoclip.search.searching import JUDGED, Nearest
from protoclip.search.vectors import Array, Keys

from .asked import Found, KnownQueries, ask, folds_of
from .calibrated import CalibratedQueries, Calibration
from .calibrating import FEWEST_QUERIES, calibrate
from .judge import RelevanceModel
from .known import Asking, Known, read_known

TEXT, IMAGE = "text", "image"
_SAMPLE = 2000
Embed = Callable[[list[str]], tuple[list[str], Array]]
"""Gives the texts that can be embedded, and their vectors `[Q, D]` of unit norm."""


@dataclass(frozen=True, eq=False)
class Snapshot:
    """What is calibrated: an index as it is at one moment, and how its nearest entries are found."""

    connection: sqlite3.Connection
    facts: tables.Facts
    nearest: Nearest
    place: Path

    def vectors(self, keys: Keys) -> Array:
        """Those `[n, D]` of entries."""
        wanted = [int(key) for key in keys]
        return tables.vectors_of(self.connection, wanted, int(self.facts["dim"]), self.place)

    def look(self, queries: Array, visible: Keys) -> list[Best]:
        """The nearest of some entries, as a search finds them; one more, as a query's own entry is no hit."""
        return self.nearest(queries, JUDGED, visible, 1)


def calibrate_snapshot(
    snapshot: Snapshot, embed: Embed, asking: Asking, progress: Progress
) -> tuple[Mapping[str, RelevanceModel], Calibration]:
    """Models by kind of query, TEXT and, where entries have others as answers, IMAGE; and how well they hold.

    Errors as `Index.calibrate`.
    """
    known = read_known(tables.all_labels(snapshot.connection, snapshot.place), asking)
    sample = snapshot.vectors(_spread(known.entries.keys, _SAMPLE))
    texts, vectors = embed(known.texts())
    asked = KnownQueries(vectors, tuple(known.answers[text] for text in texts), np.full(len(texts), -1))
    model, of_text = _calibrated(snapshot, known, asked, sample, "texts", progress)
    models, of_image = {TEXT: model}, None
    own = np.array(known.like_others(), dtype=np.int64)
    if len(own) >= FEWEST_QUERIES:
        answers = tuple(_without(known.answers[known.first[int(key)]], int(key)) for key in own)
        asked = KnownQueries(snapshot.vectors(own), answers, own)
        models[IMAGE], of_image = _calibrated(snapshot, known, asked, sample, "entries", progress)
    return models, Calibration(
        model=str(snapshot.facts["model"]),
        fingerprint=str(snapshot.facts["fingerprint"]),
        field=asking.field or "",
        group=asking.group or asking.field or "",
        entries=int(snapshot.facts["count"]),
        calibrated_at=datetime.now(UTC).isoformat(timespec="seconds"),
        text=of_text,
        image=of_image,
    )


def _calibrated(
    snapshot: Snapshot, known: Known, queries: KnownQueries, sample: Array, what: str, progress: Progress
) -> tuple[RelevanceModel, CalibratedQueries]:
    if len(queries) < FEWEST_QUERIES:
        raise DataError(
            f"{len(queries)} {what} have known answers, too few to learn from: {FEWEST_QUERIES} are needed"
        )
    found: list[Found] = list(
        ask(
            known.entries,
            queries,
            snapshot.look,
            snapshot.vectors,
            progress=lambda done, total: progress(f"ask {what}", done, total),
        )
    )
    folds = folds_of(known.entries.groups)[known.entries.groups]
    first = np.searchsorted(known.entries.keys, [answers[0] for answers in queries.answers])
    return calibrate(found, queries.vectors, folds[first], sample, what)


def _spread(keys: Keys, most: int) -> Keys:
    return keys[np.linspace(0, len(keys) - 1, min(most, len(keys))).astype(np.int64)]


def _without(keys: Keys, key: int) -> Keys:
    return keys[keys != key]
