"""The entries that a migration maps instead of embedding them: which, by what, and that they are marked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from protoclip.client import Client, ServedModel
from protoclip.contract.errors import ConfigError
from protoclip.sources.names import TEXT_NAMES

from . import tables
from .adapter import NUM_QUERIES, AdapterOptions, AdapterReport, check_recall, make_adapter
from .adapter_fit import LinearMap, check_samples, num_needed
from .migration_draft import MigrationDraft
from .re_embedding import Entries
from .vectors import Array, Keys

_MANY = 2000


class Adapting:
    """Maps vectors of an index from its model to another one."""

    def __init__(
        self,
        entries: Entries,
        draft: MigrationDraft,
        client: Client,
        model: ServedModel,
        facts: tables.Facts,
        options: AdapterOptions,
    ) -> None:
        """`facts` of the index before."""
        self._entries, self._draft, self._client, self._facts = entries, draft, client, facts
        self._options, self._dims = options, (int(facts["dim"]), model.embedding_dim)
        self._map: LinearMap | None = None
        self.report: AdapterReport | None = None
        if options.mode == "all" and options.fit_on < num_needed(*self._dims):
            raise ConfigError(
                f"fit_on={options.fit_on} (--fit-on) is less than the {num_needed(*self._dims)} entries that an "
                f"adapter from {self._dims[0]} to {self._dims[1]} dimensions needs: raise it"
            )

    def to_embed(self) -> Keys | None:
        """Entries that are to be embedded, for "all" those that the map is fitted on; None: all that can be."""
        return _drawn(self._entries.keys(), self._options.fit_on) if self._options.mode == "all" else None

    def fit(self) -> None:
        """Fits the map, once, and measures it.

        Raises:
            LowRecall: it isn't good enough.
            ConfigError: too few entries have both vectors.
        """
        if self._map is not None:
            return
        there, old = self._old(_drawn(self._with_both(), self._options.fit_on))
        keys = np.asarray(there, dtype=np.int64)
        new, of_model = self._draft.vectors(keys), str(self._facts["fingerprint"])
        check_samples(old, new)
        self._map, self.report = make_adapter(old, new, self._texts(keys), of_model, self._options)
        check_recall(self.report, self._options.min_recall, self._entries.folder)

    def map(self, keys: Keys) -> None:
        """Gives those of these entries that are still there mapped vectors, and marks them; errors as `fit`."""
        self.fit()
        assert self._map is not None
        for start in range(0, len(keys), _MANY):
            labels = dict(self._entries.labels(keys[start : start + _MANY]))
            there, old = self._old(np.fromiter(labels, dtype=np.int64))
            self._draft.put(there, [labels[key] for key in there], self._map(old), mapped=True)

    def _with_both(self) -> Keys:
        """Entries with a vector of each model, neither of them mapped."""
        with self._entries.database.reading() as connection:
            mapped = tables.mapped_keys(connection)
        return np.setdiff1d(self._draft.keys(), mapped, assume_unique=True)

    def _old(self, keys: Keys) -> tuple[list[int], Array]:
        """Those of the keys whose entries are there, with their old vectors."""
        with self._entries.database.reading() as connection:
            wanted = [int(key) for key in keys]
            there = tables.labels_of(connection, wanted, self._entries.database.path)
            found = [key for key in wanted if key in there]
            return found, tables.vectors_of(connection, found, self._dims[0], self._entries.database.path)

    def _texts(self, keys: Keys) -> Array | None:
        """The new model's vectors of captions of some of the entries."""
        labels = (label.decoded() for _, label in self._entries.labels(keys))
        captions = _captions(labels, self._options.captions)
        if not captions:
            return None
        chosen = np.random.default_rng(0).permutation(len(captions))[:NUM_QUERIES]
        found = self._client.embed_texts([captions[row] for row in np.sort(chosen)], errors="return")
        vectors = np.asarray(found.vectors)
        return vectors[np.isfinite(vectors).all(axis=1)]


def _drawn(keys: Keys, count: int) -> Keys:
    """`count` of them, in order; of nearly the same keys nearly the same, as when a migration goes on."""
    mixed = keys.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(32)
    return np.sort(keys[np.argsort(mixed, kind="stable")[:count]])


def _captions(metadata: Iterator[Mapping[str, Any]], field: str | None) -> list[str]:
    """The texts in the field, or else in the first one that is called like a caption and holds any."""
    names = TEXT_NAMES if field is None else (field,)
    found: dict[str, list[str]] = {name: [] for name in names}
    for one in metadata:
        for name in names:
            value = one.get(name)
            text = value[0] if isinstance(value, list) and value else value
            if isinstance(text, str) and text.strip():
                found[name].append(text)
    if field is not None and not found[field]:
        raise ConfigError(f"captions={field!r} (--captions): no entry has a text in this field of its metadata")
    return next((texts for texts in found.values() if texts), [])
