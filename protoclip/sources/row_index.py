"""What was found once in a tar or in a folder of captions: its rows, kept as an Arrow file while the files stay as
they are.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protoclip.contract.picture_folders import Skipped

from .arrow_store import map_table, write_file
from .files import DataFile, is_address

logger = logging.getLogger(__name__)
_FORMAT = 1
_LEFT_OUT_KEY = b"left out"
# Less is read again in the time that finding its file takes.
_LARGE_BYTES, _MANY_FILES = 16 * 2**20, 2_000
_SETTLED_NS = 2 * 10**9


@dataclass(frozen=True)
class FoundRows:
    """A `pyarrow.Table`, and what was passed over."""

    table: Any
    left_out: tuple[Skipped, ...] = ()


def kept_rows(
    what: str, files: Sequence[DataFile], folder: Path | None, find: Callable[[], FoundRows]
) -> FoundRows:
    """What `find` gives, from the `folder` where these files were read before, and were many, large or remote.

    Args:
        what: names all else that decides what is found.
        folder: None, or one that can't be written: nothing is kept.
    """
    remote = any(is_address(file.address) for file in files)
    large = remote or len(files) > _MANY_FILES or sum(file.size for file in files) > _LARGE_BYTES
    if folder is None or not large or not settled(files):
        return find()
    path = folder / f"rows-{files_key(f'{_FORMAT} {what}', files)}.arrow"
    kept = _read(path)
    if kept is not None:
        return kept
    found = find()
    return found if _written(path, found) is None else (_read(path) or found)


def files_key(what: str, files: Iterable[DataFile]) -> str:
    """A name for the contents of these files; another one when a file was changed."""
    digest = hashlib.blake2b(what.encode("utf-8", "surrogateescape"), digest_size=12)
    for file in files:
        digest.update(f"{file.address}\0{file.size}\0{file.changed}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def settled(files: Iterable[DataFile]) -> bool:
    """Whether no file was changed in the last seconds: a second change could then have the same time."""
    times = [int(file.changed) for file in files if file.changed and not is_address(file.address)]
    return not times or time.time_ns() - max(times) > _SETTLED_NS


def _read(path: Path) -> FoundRows | None:
    try:
        table = map_table(path)
        left_out = json.loads(table.schema.metadata[_LEFT_OUT_KEY])
        return FoundRows(table.replace_schema_metadata(None), tuple(Skipped(*skipped) for skipped in left_out))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _written(path: Path, found: FoundRows) -> Path | None:
    about = json.dumps([(skipped.name, skipped.reason) for skipped in found.left_out])
    table = found.table.replace_schema_metadata({_LEFT_OUT_KEY: about})
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(table.to_batches(), table.schema, temporary)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        logger.warning(
            "data.cache_dir: %s: can't be written (%s): what lies where is looked up again each time",
            path.parent,
            error.strerror,
        )
        return None
    return path
