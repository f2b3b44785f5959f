"""Reading an index: entries, counts and searches, each call of one moment.

`Q` queries, `N` entries, `D` embedding.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Unpack, overload

import numpy as np
from numpy.typing import ArrayLike

from protoclip.client.results import Embeddings, Hit
from protoclip.client.transport import Matrix, Vector
from protoclip.client.wanted import SearchOptions, Wanted
from protoclip.contract.errors import ConfigError, IndexFileError
from protoclip.contract.picture_folders import Skipped
from protoclip.contract.progress import Progress, silent

from . import tables
from .adapter import AdapterReport, read_report
from .approximate.tuned import Tuning, is_due, read_record
from .conditions import Where
from .database import Database
from .duplicate_groups import DuplicateGroup, duplicate_groups
from .duplicates import checked_threshold
from .entries import Entry, Label, id_bytes, id_text
from .filters import condition_of
from .migration_state import Migrating, read_state
from .of_one_model import OfOneModel
from .pictures import PicturePlace, places_of
from .searching import check_wanted, find
from .snapshots import Snapshots
from .store import LOCAL, StoreTraits
from .writer_lock import WriterLock

if TYPE_CHECKING:
    import sqlite3


@dataclass(frozen=True)
class IndexStats:
    """What an index holds and takes.

    Attributes:
        entries: N.
        removed: vectors of removed entries that searches still pass over; `compact` drops them.
        segments: files of vectors.
        tail: entries that are in none of them yet, and are read from the database.
        bytes: of all files.
        mapped: entries whose vectors an adapter made of those of another model.
        engine: "exact" where every search compares with every vector, or else how approximate ones are made.
        tuning: what the last tuning found: recall by kind of query, and when; None: the index wasn't tuned.
        later: entries that were added since then, which every search compares with.
        tuning_is_due: the index is large and was not tuned, or has doubled since, or its accelerator is gone.
    """

    entries: int
    removed: int
    segments: int
    tail: int
    bytes: int
    mapped: int = 0
    engine: str = "exact"
    tuning: Tuning | None = None
    later: int = 0
    tuning_is_due: bool = False


class IndexReader(OfOneModel[Path]):
    """What an `Index` does without writing.

    Attributes: as of `Index`.
    """

    def __init__(self, path: Path, database: Database, facts: tables.Facts) -> None:
        """Use `build`, `create` or `open`."""
        self.path = path
        self.model = str(facts["model"])
        self.fingerprint = str(facts["fingerprint"])
        self.dim = int(facts["dim"])
        self.artifact: str | None = facts["artifact"]
        self._database = database
        self._writer_lock = WriterLock(path)
        self._snapshots = Snapshots(path)
        self._facts_lock = threading.Lock()

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """What `build` left out, and why."""
        with self._reading() as (connection, _):
            rows = connection.execute("SELECT name, reason FROM left_out ORDER BY number").fetchall()
        return tuple(Skipped(id_text(name), id_text(reason)) for name, reason in rows)

    def get(self, name: str) -> Entry | None:
        """The entry with this id; None if there is none.

        Raises:
            IndexFileError: the index is damaged, or closed.
        """
        with self._reading() as (connection, _):
            (key,) = tables.keys_of(connection, [id_bytes(name)])
            if key is None:
                return None
            label = tables.labels_of(connection, [key], self._database.path)[key]
            return self._entries(connection, [(key, label)])[0]

    def count(self, where: Where | None = None) -> int:
        """The number of entries; with `where`, of those that fit (as in `search`)."""
        with self._reading() as (connection, facts):
            if where is None:
                return int(facts["count"])
            sql, values = condition_of(where)
            (number,) = connection.execute(f"SELECT count(*) FROM entries WHERE {sql}", values).fetchone()
            return int(number)

    @property
    def pictures(self) -> tuple[PicturePlace, ...]:
        """Where the pictures are that the vectors are of, for `IndexPictures`; none: not known."""
        with self._reading() as (_, facts):
            return places_of(facts)

    @property
    def knows_sources(self) -> bool:
        """Whether it knows what its entries were made of, so that `migrate` can embed them again."""
        with self._reading() as (_, facts):
            return facts.get("sources") is not None

    def has_known_picture(self, name: str) -> bool:
        """Whether what `pictures` has under the id `name` is what this entry was made of.

        False where there is no such entry, where no place of pictures is known, and for an entry that `add` or
        `upsert` brought to an index that `build` made: of its id there may be another picture.

        Raises:
            IndexFileError: the index is damaged, or closed.
        """
        with self._reading() as (connection, facts):
            (key,) = tables.keys_of(connection, [id_bytes(name)])
            last_built = facts.get("last_built")
            return key is not None and places_of(facts) != () and (last_built is None or key <= int(last_built))

    @property
    def change(self) -> str:
        """Another text after every call that wrote, and of each index.

        For what is computed of all entries and kept.
        """
        with self._reading() as (_, facts):
            return f"{facts['build']}.{facts['change']}"

    def sample(self, most: int) -> list[Entry]:
        """At most `most` entries, evenly spaced in the order in which they were added: all, where they are fewer.

        Raises:
            ConfigError: `most` is below 1.
        """
        if most < 1:
            raise ConfigError(f"most={most} must be at least 1")
        with self._reading() as (connection, _):
            keys = [int(key) for (key,) in connection.execute("SELECT key FROM entries ORDER BY key")]
            places = np.linspace(0, len(keys) - 1, min(most, len(keys))).round().astype(np.int64)
            chosen = [keys[place] for place in places.tolist()]
            labels = tables.labels_of(connection, chosen, self._database.path)
            return self._entries(connection, [(key, labels[key]) for key in chosen])

    def iterate(self, where: Where | None = None) -> Iterator[Entry]:
        """All entries, or those that fit, in the order in which they were added; none of those added meanwhile."""
        sql, values = condition_of({} if where is None else where)
        with self._reading() as (connection, _):
            for part in tables.all_labels(connection, self._database.path, sql, values):
                yield from self._entries(connection, part)

    @overload
    def search(
        self,
        vectors: Vector,
        k: int = ...,
        *,
        without: Sequence[str] = ...,
        exact: bool = ...,
        **options: Unpack[SearchOptions],
    ) -> list[Hit]: ...
    @overload
    def search(
        self,
        vectors: Matrix,
        k: int = ...,
        *,
        without: Sequence[str] = ...,
        exact: bool = ...,
        **options: Unpack[SearchOptions],
    ) -> list[list[Hit]]: ...
    @overload
    def search(
        self,
        vectors: ArrayLike | Embeddings,
        k: int = ...,
        *,
        without: Sequence[str] = ...,
        exact: bool = ...,
        **options: Unpack[SearchOptions],
    ) -> list[Hit] | list[list[Hit]]: ...
    def search(
        self,
        vectors: ArrayLike | Embeddings,
        k: int = 10,
        *,
        where: Where | None = None,
        group_by: str | None = None,
        offset: int = 0,
        without: Sequence[str] = (),
        distinct: float | None = None,
        exact: bool = False,
    ) -> list[Hit] | list[list[Hit]]:
        """The `k` entries with the largest cosine, best first; fewer where there are fewer.

        Equal cosines come in the order in which the entries were added, so that pages fit together. Of an index
        that was tuned some searches are approximate: `tuning` says how many of the best they find. Those that they
        find have the same scores and the same order.

        Args:
            vectors: `[D]` gives list[Hit], and `[Q, D]` list[list[Hit]], a list for each row. They need not be
                normalised: `2 * red - shoe` is a query too.
            where: conditions on metadata: `{"price": {"lt": 50}, "stock": True}`. A field has a value, or some of
                eq, ne, lt, le, gt, ge, in (a list) and exists (true or false). Numbers are compared with numbers
                and texts with texts; a text that is written like a number, or is true or false, counts as one too.
                All must hold; `{"or": [...]}` and `{"and": [...]}` join conditions, up to 1000. `in` takes any
                number of values.
            group_by: a field of the metadata: the best entry of each of its values alone, `k` of them. An entry
                without the field is like no other.
            offset: how many to pass over: the second page of 10 has `offset=10`.
            without: ids that are no answer.
            distinct: a cosine, 0.97 for example: a hit that is this near to a better one is not shown, so that
                copies of a picture are one answer, the best of them. With `group_by`, of the groups' best.
            exact: compare with every vector, also where the index was tuned.

        Raises:
            ConfigError: `k` below 1, `offset` below 0, one of them no whole number, a `distinct` that is no cosine
                above 0, another shape, NaN, zeros, or a wrong condition.
            IndexFileError: vectors that a client made with another model, or a damaged index.
        """
        array = self._of_this_model(vectors)
        rows = self._queries(array)
        wanted = Wanted(k, offset, where, group_by, distinct)
        check_wanted(wanted, without)
        with self._reading() as (connection, facts):
            view = self._snapshots.view(connection, facts, self._database)
            nearest = self._snapshots.nearest(connection, facts, self._database, exact=exact)
            found = find(connection, view, rows, wanted, without, self._database.path, nearest)
        return found[0] if np.ndim(array) == 1 else found

    def duplicates(
        self, threshold: float = 0.97, *, where: Where | None = None, progress: Progress = silent
    ) -> list[DuplicateGroup]:
        """Groups of entries that are nearly the same, the largest first; exactly, in bounded memory.

        Entries are taken in the order in which they were added: each joins the nearest of the representatives
        before it whose cosine with it is at least `threshold`, and becomes one itself where there is none. So all
        others are that near to the representative of their group, and no two representatives are: whoever keeps
        these alone has no duplicates, and nothing is lost that isn't like something that was kept.

        Args:
            threshold: a cosine above 0; 1 finds what is the same but for rounding.
            where: only among the entries that fit, as in `search`.
            progress: called with "compare", the entries that are done, and their number.

        Raises:
            ConfigError: another threshold, or a wrong condition.
            IndexFileError: a damaged index.
        """
        nearness = checked_threshold("threshold", threshold)
        with self._reading() as (connection, facts):
            view = self._snapshots.checked_view(connection, facts, self._database)
            return duplicate_groups(connection, view, where, nearness, self._database.path, progress)

    @property
    def migrating(self) -> Migrating | None:
        """How far a migration to another model is; None where there is none. Until its end nothing changes."""
        with self._reading() as (_, facts):
            found = read_state(self.path)
            return found if found is not None and found.of_build == facts["build"] else None

    @property
    def adapter(self) -> AdapterReport | None:
        """What was measured of the adapter by which `migrate` mapped some entries; None where it mapped none."""
        with self._reading() as (_, facts):
            return read_report(facts.get("adapter"), self.path)

    def stats(self) -> IndexStats:
        """What it holds, and how many bytes it takes."""
        with self._reading() as (connection, facts):
            number, held = connection.execute("SELECT count(*), coalesce(sum(count), 0) FROM segments").fetchone()
            (last,) = connection.execute("SELECT coalesce(max(last), 0) FROM segments").fetchone()
            (tail,) = connection.execute("SELECT count(*) FROM entries WHERE key > ?", (last,)).fetchone()
            mapped = len(tables.mapped_keys(connection))
            record = read_record(facts)
            file = None if record is None else record.file
            last = 0 if file is None else file.last
            (later,) = connection.execute("SELECT count(*) FROM entries WHERE key > ?", (last,)).fetchone()
        is_there = file is None or (self.path / file.name).exists()
        return IndexStats(
            entries=int(facts["count"]),
            removed=int(held) + int(tail) - int(facts["count"]),
            segments=int(number),
            tail=int(tail),
            bytes=sum(map(_size, self.path.iterdir())),
            mapped=mapped,
            engine="exact" if record is None or file is None or not is_there else record.tuning.engine,
            tuning=None if record is None else record.tuning,
            later=0 if file is None else int(later),
            tuning_is_due=is_due(facts) or not is_there,
        )

    @property
    def tuning(self) -> Tuning | None:
        """What the last `tune` found; None where the index was not tuned."""
        with self._reading() as (_, facts):
            record = read_record(facts)
            return None if record is None else record.tuning

    @property
    def traits(self) -> StoreTraits:
        """What it promises."""
        found = self.tuning
        return LOCAL if found is None or found.engine == "exact" else replace(LOCAL, search="approximate")

    def close(self) -> None:
        """Closes its files; every other call fails then. May be called twice."""
        self._database.close()
        self._snapshots.forget()

    def _check_other_model(self, fingerprint: str) -> None:
        """A migrating index isn't searched with its new model: half of the entries would be no hits."""
        going_on = self.migrating
        if going_on is not None and going_on.fingerprint == fingerprint:
            raise IndexFileError(
                f"{self.path}: its migration to {going_on.model} {fingerprint} isn't finished, {going_on.done} of "
                f"{going_on.total} entries are done: until then use {self._made_with()}"
            )

    def _look_again(self) -> None:
        """Takes over the model that the index has now."""
        with self._database.reading() as connection:
            facts = tables.read_facts(connection)
        with self._facts_lock:
            self.model, self.artifact = str(facts["model"]), facts["artifact"]
            self.fingerprint, self.dim = str(facts["fingerprint"]), int(facts["dim"])

    @contextmanager
    def _reading(self) -> Iterator[tuple[sqlite3.Connection, tables.Facts]]:
        with self._database.reading() as connection:
            yield connection, self._facts(connection)

    def _facts(self, connection: sqlite3.Connection) -> tables.Facts:
        facts = tables.read_facts(connection)
        if (facts["fingerprint"], facts["dim"]) != (self.fingerprint, self.dim):
            raise IndexFileError(f"{self.path}: was built again with another model meanwhile: open it again")
        return facts

    def _entries(self, connection: sqlite3.Connection, part: list[tuple[int, Label]]) -> list[Entry]:
        keys = [key for key, _ in part]
        vectors = tables.vectors_of(connection, keys, self.dim, self._database.path)
        mapped = tables.mapped_among(connection, keys)
        return [
            Entry(id_text(label.id), label.decoded(), vector, key in mapped)
            for (key, label), vector in zip(part, vectors, strict=True)
        ]


def _size(path: Path) -> int:
    """Of a file that another process may remove at any time."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
