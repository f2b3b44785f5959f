"""The search indexes of a gateway, by name: opened when they are first asked, and again when they were rebuilt."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from protoclip.client import AsyncClient, Hit
from protoclip.client.inputs import ImageItem
from protoclip.client.query import Weighted
from protoclip.client.wanted import Wanted
from protoclip.contract.errors import (
    ConfigError,
    IndexFileError,
    ProtoclipError,
    StoreRefused,
    StoreUnavailable,
)
from protoclip.search import Entry, Index, Store, open_index
from protoclip.search.places import DATABASE_FILE
from protoclip.search.unknown_fields import unknown_fields

from .errors import Refused, invalid, not_found

T = TypeVar("T")
Place = tuple[int, int]
_ELSEWHERE = (0, 0)


@dataclass(frozen=True)
class IndexFacts:
    """What /indexes says of one.

    Attributes:
        entries: how many it holds.
        dim: of its vectors.
        model: that made them, with its fingerprint.
        error: why it can't be asked now; "" where it can.
    """

    name: str
    entries: int = 0
    dim: int = 0
    model: str = ""
    fingerprint: str = ""
    error: str = ""


class Indexes:
    """Any number of searches at once; each sees the state of one moment."""

    def __init__(self, paths: Mapping[str, Path | str]) -> None:
        """`paths`: folders of indexes, or addresses of stores, by name. Nothing is opened yet."""
        self._paths = dict(paths)
        self._opened: dict[str, tuple[Place, Store]] = {}
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """All names, sorted, whether the index can be opened or not."""
        return sorted(self._paths)

    async def search(
        self,
        name: str,
        client: AsyncClient,
        *,
        text: Weighted | None = None,
        image: ImageItem | None = None,
        like: Weighted | None = None,
        minus: Weighted | None = None,
        wanted: Wanted,
    ) -> list[Hit]:
        """As `Client.search`, in a thread.

        Raises:
            Refused: 404 for an unknown index or id, 400 for what `Client.search` refuses.
            IndexFileError: the index is not there, damaged, or of a model that the server does not have.
            StoreUnavailable, StoreRefused: by the engine that holds it. ServerError: as the client.
        """

        def ask(index: Store) -> Awaitable[list[Hit]]:
            return client.search(
                index, text=text, image=image, like=like, minus=minus, k=wanted.k, **wanted.options
            )

        try:
            return await self._asked(name, ask)
        except ConfigError as error:
            raise self._without_path(name, error) from error

    async def get(self, name: str, entry: str) -> Entry | None:
        """The entry with this id, None where there is none; raises as `search`."""
        return await self._asked(name, lambda index: asyncio.to_thread(index.get, entry))

    async def unknown_fields(
        self, name: str, hits: Sequence[Hit], where: Mapping[str, Any] | None, group_by: str | None
    ) -> list[str]:
        """Fields of a search that no entry has, where that may be why it found nothing; raises as `search`."""
        if where is None and group_by is None:
            # Most searches: without a wait for two threads.
            return []
        index = await asyncio.to_thread(self.open, name)
        return await asyncio.to_thread(unknown_fields, index, hits, where, group_by)

    async def facts(self) -> list[IndexFacts]:
        """What each index is, in the order of the names."""
        return [await asyncio.to_thread(self._facts, name) for name in self.names()]

    def open(self, name: str) -> Store:
        """The index as it is now, for use in this thread or another.

        Raises:
            Refused: 404, no index has this name.
            IndexFileError: it is not there, or damaged.
            StoreUnavailable, StoreRefused: by the engine that holds it.
        """
        path = self._path(name)
        place = _place(path)
        if (known := self._known(name, place)) is not None and _is_current(known):
            return known
        opened = _opened(path)
        with self._lock:
            before = self._opened.get(name)
            if before is None or before[1] is known or before[0] != place:
                self._opened[name] = (place or _ELSEWHERE, opened)
            else:
                # Somebody else opened it meanwhile.
                before, opened = (_ELSEWHERE, opened), before[1]
        if before is not None:
            _let_go(before[1])
        return opened

    def missing(self) -> list[str]:
        """What can't be opened now, a line each: it may come later, or its name may be wrong."""
        lines = []
        for name in self.names():
            try:
                self.open(name)
            except ProtoclipError as error:
                lines.append(f"index {name}: {error}")
        return lines

    def close(self) -> None:
        """Closes all of them."""
        with self._lock:
            opened, self._opened = self._opened, {}
        for _, index in opened.values():
            index.close()

    async def _asked(self, name: str, ask: Callable[[Store], Awaitable[T]]) -> T:
        # In the event loop's own thread: it is a look at one file, and another thread takes longer than that.
        index = self._known(name, _place(self._path(name)))
        if index is None:
            index = await asyncio.to_thread(self.open, name)
        try:
            return await ask(index)
        except IndexFileError:
            # It may have been built again meanwhile, by another model or elsewhere: once more, with what is there.
            again = await asyncio.to_thread(self._again, name, index)
            if again is None:
                raise
            return await ask(again)

    def _known(self, name: str, place: Place | None) -> Store | None:
        """The index that is open, where it is still the one at its place."""
        with self._lock:
            known = self._opened.get(name)
        return known[1] if known is not None and known[0] == place else None

    def _again(self, name: str, before: Store) -> Store | None:
        """The index opened anew; None where that is no other one than `before`."""
        with self._lock:
            known = self._opened.get(name)
            if known is not None and known[1] is before:
                del self._opened[name]
                _let_go(before)
        again = self.open(name)
        return again if again.fingerprint != before.fingerprint else None

    def _facts(self, name: str) -> IndexFacts:
        try:
            index = self.open(name)
            return IndexFacts(name, index.count(), index.dim, index.model, index.fingerprint)
        except (IndexFileError, StoreUnavailable, StoreRefused):
            return IndexFacts(name, error="can't be opened")

    def _path(self, name: str) -> Path | str:
        path = self._paths.get(name)
        if path is None:
            raise not_found("index_not_found", f"no index is called {name[:64]!r}: /indexes lists them")
        return path

    def _without_path(self, name: str, error: ConfigError) -> Refused:
        """The message with the name that clients know instead of the folder."""
        message = str(error).replace(str(self._paths[name]), name)
        if ": no entry has the id" in message:
            return not_found("entry_not_found", message)
        return invalid(message)


def _opened(path: Path | str) -> Store:
    if isinstance(path, Path):
        return Index.open(path)
    try:
        return open_index(path)
    except StoreRefused:
        raise
    except ConfigError as error:
        # A package that is missing, and nothing that a client could mend.
        raise StoreRefused(str(error)) from error


def _let_go(index: Store) -> None:
    """Ends a store's connections. Searches that go on in an index of this machine end as they began."""
    if not isinstance(index, Index):
        index.close()


def _is_current(index: Store) -> bool:
    """Whether it still is of the model that it was opened with: it may have been moved to another in its place."""
    try:
        # Where every entry counts, `count` takes long.
        index.get("")
    except IndexFileError:
        return False
    return True


def _place(path: Path | str) -> Place | None:
    """Which file it is: another one after the folder was replaced."""
    if not isinstance(path, Path):
        return _ELSEWHERE
    try:
        found = (path / DATABASE_FILE).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
