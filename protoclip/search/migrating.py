"""Moving an index to another model: its pictures are embedded again, and the new vectors take the old ones' place.

Ids and metadata stay. Others search and write meanwhile: the index is locked for the last step alone, in which
what they did is taken over.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import TypeAlias

import numpy as np

from protoclip.client import Client, ServedModel
from protoclip.client.inputs import ImageItem
from protoclip.contract.errors import ConfigError, DataError, IndexFileError, ProtoclipError
from protoclip.contract.picture_folders import Skipped
from protoclip.sources import ReadOptions

from . import tables
from .adapter import AdapterOptions
from .adapting import Adapting
from .building import BuildProgress, artifact_at
from .entries import id_text
from .migrated import Migrated, NotEmbedded
from .migration_draft import MigrationDraft, num_embedded
from .migration_state import Migrating, migration_lock, read_state, remove_migration, write_state
from .opening import first_facts
from .re_embedding import Entries, ReEmbedding
from .source_record import Record, last_built, remembered_sources
from .sources import Source, SourceItem, image_source
from .stored_source import StoredSource, given_source, stored_source
from .vectors import Keys

Pictures: TypeAlias = str | Path | ReadOptions | Mapping[str, ImageItem] | Iterable[ImageItem]
Locked: TypeAlias = Callable[[], AbstractContextManager[None]]
_TELL_S = 1.0


def migrate_index(
    entries: Entries,
    locked: Locked,
    client: Client,
    images: Pictures | None,
    progress: Callable[[BuildProgress], None] | None,
    *,
    leave_out: bool,
    adapter: AdapterOptions | None,
) -> Migrated:
    """Embeds the entries with the client's model; see `Index.migrate`. `locked` holds the writer's lock."""
    model, folder = client.model, entries.folder
    given = None if images is None else _given(images)
    with migration_lock(folder).held():
        with entries.database.reading() as connection:
            facts = tables.read_facts(connection)
        if facts["fingerprint"] == model.fingerprint:
            return Migrated(int(facts["count"]), 0, 0, 0, ())
        draft = None
        try:
            # Before the draft: where one is, it can be told whose it is.
            write_state(folder, _state(model, 0, facts))
            made_by = (model.name, model.fingerprint, model.embedding_dim, artifact_at(client.url))
            made = first_facts(*made_by)
            draft = MigrationDraft(folder, made, facts["build"])
            migration = _Migration(entries, client, model, facts, draft, progress, adapter)
            migration.embed_all(given)
            with locked():
                done = migration.finish(given, leave_out=leave_out)
        except BaseException:
            if draft is not None:
                draft.close()
            if kept := num_embedded(folder):
                with suppress(ProtoclipError):
                    write_state(folder, _state(model, kept, facts))
            else:
                remove_migration(folder)
            raise
        remove_migration(folder)
        return done


def cancel_migration(folder: Path) -> bool:
    """Removes a migration that isn't finished, and says whether there was one.

    Raises:
        IndexBusyError: it is going on in another process.
    """
    with migration_lock(folder).held():
        found = read_state(folder) is not None
        remove_migration(folder)
    return found


def _given(images: Pictures) -> Source:
    if isinstance(images, Mapping):
        return Source([SourceItem(name, item, {}) for name, item in images.items()], len(images))
    return image_source(images)


def _state(model: ServedModel, done: int, facts: tables.Facts) -> Migrating:
    total = max(int(facts["count"]), done)
    return Migrating(model.name, model.fingerprint, model.embedding_dim, done, total, str(facts["build"]))


class _Migration:
    def __init__(
        self,
        entries: Entries,
        client: Client,
        model: ServedModel,
        facts: tables.Facts,
        draft: MigrationDraft,
        progress: Callable[[BuildProgress], None] | None,
        adapter: AdapterOptions | None,
    ) -> None:
        self._entries, self._model, self._facts, self._draft, self._progress = (
            entries,
            model,
            facts,
            draft,
            progress,
        )
        self._records: list[Record] = []
        self._last_built = last_built(facts)
        self._resumed = len(draft.keys())
        self._embedding = ReEmbedding(entries, client, model, draft, self._tell)
        self._adapting = None if adapter is None else Adapting(entries, draft, client, model, facts, adapter)
        self._only = None if self._adapting is None else self._adapting.to_embed()
        self._unread: list[str] = []
        self._told = -_TELL_S

    def embed_all(self, given: Source | None) -> None:
        """Embeds all that it is to, while others may read and write; and fits an adapter for the others."""
        self._tell()
        self._records = self._remembered_before(may_fail=given is not None)
        if given is not None:
            self._embedding.run(given_source(given), None, self._only)
        elif not self._records and len(self._embedding.left(None)):
            raise ConfigError(
                f"{self._entries.folder}: doesn't say where its pictures are: its entries came by add, from "
                "memory or by an earlier version: give the pictures by their ids with images= (--images)"
            )
        for record in self._records:
            source = self._read(record, may_fail=given is not None)
            if source is not None:
                self._embedding.run(source, self._last_built, self._only)
        self._told = -_TELL_S
        self._tell()
        gone = self._gone(self._entries.keys())
        if self._adapting is not None and len(gone):
            self._adapting.map(gone)

    def finish(self, given: Source | None, *, leave_out: bool) -> Migrated:
        """Takes over what others did meanwhile, and switches. The caller holds the writer's lock."""
        left_out = self._left_out_before()
        keys = self._entries.keys()
        self._draft.keep_only(keys)
        if given is not None and self._only is None:
            # What was added meanwhile may be among them too.
            self._embedding.run(given_source(given), None)
        gone = self._gone(keys)
        missing: tuple[Skipped, ...] = ()
        if self._adapting is None:
            missing = self._embedding.missing(gone, self._reason)
            self._check(missing, len(keys), leave_out=leave_out)
        elif len(gone):
            self._adapting.map(gone)
        mapped = self._draft.mapped()
        report = self._adapting.report if self._adapting is not None and len(mapped) else None
        self._draft.finish((*left_out, *missing), *self._remembered(given, keys, mapped), report)
        num = len(keys) - len(missing)
        return Migrated(num, self._embedding.embedded, self._resumed, len(mapped), missing, report)

    def _gone(self, keys: Keys) -> Keys:
        """Those that have no new vector."""
        return np.setdiff1d(keys, self._draft.keys(), assume_unique=True)

    def _left_out_before(self) -> list[Skipped]:
        with self._entries.database.reading() as connection:
            if tables.read_facts(connection)["build"] != self._facts["build"]:
                raise IndexFileError(f"{self._entries.folder}: was built again meanwhile: migrate it again")
            rows = connection.execute("SELECT name, reason FROM left_out ORDER BY number").fetchall()
        return [Skipped(id_text(name), id_text(reason)) for name, reason in rows]

    def _check(self, missing: tuple[Skipped, ...], total: int, *, leave_out: bool) -> None:
        if not missing or (leave_out and len(missing) < total):
            return
        raise NotEmbedded(
            f"{self._entries.folder}: {len(missing)} of {total} entries can't be embedded again, among them "
            f"{missing[0].name!r} ({missing[0].reason}), so it stays with its model; the other "
            f"{total - len(missing)} are kept for the next try: say where the pictures are (images=, --images), "
            "map old vectors (adapter='missing', --adapter missing), or leave these entries out (leave_out=True, "
            "--leave-out)",
            missing,
        )

    def _remembered_before(self, *, may_fail: bool) -> list[Record]:
        try:
            return remembered_sources(self._facts, self._entries.folder)
        except IndexFileError:
            if not may_fail:
                raise
            return []

    def _remembered(self, given: Source | None, keys: Keys, mapped: Keys) -> tuple[list[Record], int | None]:
        """What the entries can be embedded again from the next time, and up to which key that is so."""
        record = None if given is None else given.record()
        if record is None or not len(keys):
            return self._records, self._last_built
        before = [one for one in self._records if one != record]
        if len(mapped) and self._last_built is not None and mapped[-1] > self._last_built:
            # An entry that was added is in none of the earlier sources, even if they have a picture of its id.
            before = []
        return [record, *before], int(keys[-1])

    def _read(self, record: Record, *, may_fail: bool) -> StoredSource | None:
        if not len(self._embedding.left(self._last_built)):
            return None
        try:
            return stored_source(record, self._entries.folder)
        except (DataError, ConfigError, IndexFileError) as error:
            if not may_fail:
                raise type(error)(f"{error}: say where the pictures are now with images= (--images)") from error
            self._unread.append(str(error))
            return None

    def _reason(self, key: int) -> str:
        if self._last_built is not None and key > self._last_built:
            return "it was added, and of such entries the index doesn't know the picture"
        return "; ".join(self._unread) or "its picture is not there any more"

    def _tell(self) -> None:
        done, bad = self._resumed + self._embedding.embedded, len(self._embedding.bad)
        state = _state(self._model, done, self._facts)
        if time.monotonic() - self._told >= _TELL_S:
            self._told = time.monotonic()
            write_state(self._entries.folder, state)
        if self._progress is not None:
            self._progress(BuildProgress(done + bad, bad, max(state.total, done + bad), self._resumed))
