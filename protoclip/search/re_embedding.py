"""Embedding the entries of an index again, with another model, from what their pictures are read from."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from protoclip.client import Client, Embeddings, ServedModel
from protoclip.contract.errors import IndexFileError
from protoclip.contract.picture_folders import Skipped

from . import tables
from .database import Database
from .embedded_rows import bad_rows
from .entries import Label, id_bytes, id_text
from .migration_draft import MigrationDraft
from .stored_source import StoredSource
from .vectors import Array, Keys, unit_rows

_MANY = 500


@dataclass(frozen=True)
class Entries:
    """The entries of an index as others leave them at each moment."""

    folder: Path
    database: Database

    def keys(self) -> Keys:
        """Those of all entries, in order."""
        with self.database.reading() as connection:
            return tables.all_keys(connection)

    def key(self, name: str) -> int | None:
        """That of the entry with this id."""
        with self.database.reading() as connection:
            return tables.keys_of(connection, [id_bytes(name)])[0]

    def labels(self, keys: Keys) -> Iterator[tuple[int, Label]]:
        """Of those of the keys whose entries are still there, in order."""
        for start in range(0, len(keys), _MANY):
            part = [int(key) for key in keys[start : start + _MANY]]
            with self.database.reading() as connection:
                found = tables.labels_of(connection, part, self.database.path)
            yield from ((key, found[key]) for key in part if key in found)


class ReEmbedding:
    """Entries that get their new vectors in a draft; how many, and why others don't.

    Attributes:
        embedded: how many have got theirs here.
        bad: why the items of entries, by their keys, were found to be bad.
    """

    def __init__(
        self, entries: Entries, client: Client, model: ServedModel, draft: MigrationDraft, tell: Callable[[], None]
    ) -> None:
        """`tell` is called after each batch."""
        self._entries, self._client, self._model, self._draft, self._tell = entries, client, model, draft, tell
        self._waiting: deque[int] = deque()
        self.embedded = 0
        self.bad: dict[int, str] = {}

    def left(self, last: int | None, only: Keys | None = None) -> Keys:
        """Keys up to `last`, of those in `only`, of entries without a new vector, in order, but of bad ones."""
        known = np.union1d(self._draft.keys(), np.fromiter(self.bad, dtype=np.int64))
        keys = np.setdiff1d(self._entries.keys(), known, assume_unique=True)
        if only is not None:
            keys = np.intersect1d(keys, only, assume_unique=True)
        return keys if last is None else keys[keys <= last]

    def run(self, source: StoredSource, last: int | None, only: Keys | None = None) -> None:
        """Embeds those of the entries up to the key `last`, or of `only` some keys, that the source has.

        Raises:
            ServerError: as the client raises it.
            IndexFileError: the client has another model now.
        """
        wanted = self.left(last, only)
        if not len(wanted):
            return
        self._waiting.clear()
        stream = self._client.stream_images if source.are_images else self._client.stream_texts
        for part in stream(self._feed(source, wanted)):
            self._take(part)
            self._tell()

    def missing(self, keys: Keys, reason: Callable[[int], str]) -> tuple[Skipped, ...]:
        """The entries of these keys, and why they have no new vector: as found here, or `reason` of the key."""
        return tuple(
            Skipped(id_text(label.id), self.bad.get(key) or reason(key))
            for key, label in self._entries.labels(keys)
        )

    def _feed(self, source: StoredSource, wanted: Keys) -> Iterator[Any]:
        taken = np.zeros(len(wanted), dtype=np.bool_)
        for item in source.items(label for _, label in self._entries.labels(wanted)):
            place = _place_in(wanted, self._entries.key(item.id))
            # Only the first item of an id, as in a build.
            if place is not None and not taken[place]:
                taken[place] = True
                self._waiting.append(int(wanted[place]))
                yield item.item

    def _take(self, part: Embeddings) -> None:
        if part.fingerprint != self._model.fingerprint:
            raise IndexFileError(
                f"{self._entries.folder}: the client went over from model {self._model.fingerprint} to "
                f"{part.fingerprint} as the migration began: migrate again"
            )
        keys = [self._waiting.popleft() for _ in range(len(part.vectors))]
        reasons = bad_rows(part)
        self.bad.update({keys[row]: reason for row, reason in reasons.items()})
        good = [row for row in range(len(keys)) if row not in reasons]
        self._store([keys[row] for row in good], np.asarray(part.vectors)[good])

    def _store(self, keys: list[int], vectors: Array) -> None:
        """But of entries that were removed meanwhile."""
        labels = dict(self._entries.labels(np.asarray(keys, dtype=np.int64)))
        there = [row for row, key in enumerate(keys) if key in labels]
        rows = unit_rows(vectors[there], self._model.embedding_dim)
        self._draft.put([keys[row] for row in there], [labels[keys[row]] for row in there], rows)
        self.embedded += len(there)


def _place_in(keys: Keys, key: int | None) -> int | None:
    if key is None:
        return None
    place = int(np.searchsorted(keys, key))
    return place if place < len(keys) and keys[place] == key else None
