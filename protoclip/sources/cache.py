"""Tables that were read before: the last ones in this process, and large ones as Arrow files in a folder.

A file of the cache is named after what it was made from: addresses, sizes and times of all files, and the options.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from protoclip.contract.picture_folders import Skipped, readable_kinds

from .arrow_store import map_table
from .columns import TextColumn
from .files import is_address
from .options import ReadOptions
from .pairs import Pairs, table_pairs
from .part import Part
from .row_index import files_key, settled
from .stored import ImageColumn, Origin

logger = logging.getLogger(__name__)
_FORMAT = 6
_LARGE_BYTES = 16 * 2**20
_NUM_RECENT = 2
_recent: dict[str, Pairs] = {}


class TableCache:
    """The cached pairs of one key, if any; of several processes one reads the data and the others wait for it.

    A folder that can't be written is said once, and the data is then read without it.
    """

    def __init__(self, parts: Sequence[Part], options: ReadOptions) -> None:
        large = sum(part.num_bytes for part in parts) > _LARGE_BYTES
        self._folder = options.cache_dir if large else None
        self._key = _content_key(parts, options)
        self._lock: IO[Any] | None = None
        self._settled = settled(file for part in parts for file in part.files)
        self._files: list[Path] = []
        self.pairs: Pairs | None = None

    def __enter__(self) -> TableCache:
        self.pairs = _recent.get(self._key)
        if self.pairs is None and self._folder is not None:
            self._lock = self._locked(self._folder)
            if self._lock is None:
                self._folder = None
            else:
                self._remove_leftovers(self._folder)
                self.pairs = self._stored()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files:
            file.unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.close()

    def new_file(self) -> Path | None:
        """Where a large table may be written, hidden until it is kept; None without a folder."""
        if self._folder is None:
            return None
        self._files.append(self._folder / f".{self._key}.{os.getpid()}.{len(self._files)}.arrow")
        return self._files[-1]

    def keep(self, pairs: Pairs) -> None:
        """Remembers what was read, and on disk what was written there."""
        self.pairs = pairs
        written = [file for file in self._files if file.is_file()]
        if self._folder is not None and written:
            self._store(pairs, written[-1])
            self.pairs = self._stored() or pairs
        if self._settled:
            _recent[self._key] = self.pairs
        for old in list(_recent)[:-_NUM_RECENT]:
            del _recent[old]

    def _path(self, suffix: str) -> Path:
        assert self._folder is not None
        return self._folder / f"{self._key}{suffix}"

    def _locked(self, folder: Path) -> IO[Any] | None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = open(self._path(".lock"), "w")  # noqa: SIM115 - held until the context ends
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            logger.warning(
                "data.cache_dir: %s: can't be written (%s): the table is not kept", folder, error.strerror
            )
            return None
        return lock

    def _remove_leftovers(self, folder: Path) -> None:
        """What a killed process had begun to write; while the lock is held nobody else writes."""
        for leftover in folder.glob(f".{self._key}.*"):
            leftover.unlink(missing_ok=True)

    def _stored(self) -> Pairs | None:
        """What was kept; None where there is nothing, or a part of it is missing or damaged."""
        try:
            about = json.loads(self._path(".json").read_text())
            table = map_table(self._path(".arrow"))
            places = np.load(self._path(".npy"), mmap_mode="r")
            left_out = tuple(Skipped(*skipped) for skipped in about["left_out"])
            origins = [Origin(**origin) for origin in about["origins"]]
            if len(places) != table.num_rows or about["num_rows"] != table.num_rows:
                return None
            return table_pairs(table, origins, places, about["num_read"], left_out, about["num_distinct"])
        except (OSError, EOFError, ValueError, KeyError, TypeError):
            return None

    def _store(self, pairs: Pairs, written: Path) -> None:
        assert isinstance(pairs.images, ImageColumn)
        assert isinstance(pairs.texts, TextColumn)
        about = {
            "origins": [asdict(origin) for origin in pairs.images.origins],
            "num_read": pairs.num_read,
            "num_distinct": pairs.texts.num_distinct,
            "num_rows": len(pairs),
            "left_out": [(skipped.name, skipped.reason) for skipped in pairs.left_out],
        }
        try:
            temporary = written.with_suffix(".npy")
            self._files.append(temporary)
            np.save(temporary, np.asarray(pairs.places))
            temporary.replace(self._path(".npy"))
            written.replace(self._path(".arrow"))
            # Last: without it nothing is found.
            temporary.write_text(json.dumps(about))
            temporary.replace(self._path(".json"))
        except OSError as error:
            logger.warning("data.cache_dir: %s: can't be written: %s", self._folder, error.strerror or error)


def _content_key(parts: Sequence[Part], options: ReadOptions) -> str:
    """A name for what these parts give with these options; another one when a file was changed."""
    about = asdict(options) | {"cache_dir": None, "paths": [_place(path) for path in options.paths]}
    kinds = readable_kinds() if options.decoded_here else ()
    made = [(type(part).__name__, part.name, part.split, part.source) for part in parts]
    what = json.dumps([_FORMAT, about, kinds, made], sort_keys=True, default=str)
    return files_key(what, (file for part in parts for file in (*part.files, *part.pictures)))


def _place(path: str) -> str:
    return path if is_address(path) else str(Path(path).absolute())
