"""Where rows are kept: small tables in memory, large ones as an Arrow file that is mapped into memory."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

from protoclip.contract.errors import ProtoclipError

# Below this a table is quicker read again than found in a file.
MEMORY_BYTES = 64 * 2**20


def store_batches(batches: Iterable[Any], schema: Any, file: Path | None = None) -> Any:
    """The batches as one `pyarrow.Table`: mapped from `file`, or without one in memory up to 64 MB.

    Args:
        file: where to write; None: where they are larger a temporary file, which is gone when the table is no
            longer used.

    Raises:
        ProtoclipError: the disk is full or can't be written.
    """
    import pyarrow as pa

    if file is not None:
        _write(batches, schema, file)
        return map_table(file)
    waiting: list[Any] = []
    size = 0
    remaining = iter(batches)
    for batch in remaining:
        waiting.append(batch)
        size += batch.nbytes
        if size > MEMORY_BYTES:
            return _in_temporary_file(chain(_emptied(waiting), remaining), schema)
    return pa.Table.from_batches(waiting, schema)


def map_table(path: Path) -> Any:
    """The `pyarrow.Table` of an Arrow file, mapped: what is not looked at is not read.

    Raises:
        OSError, ValueError: there is none, or it is damaged.
    """
    import pyarrow as pa

    return pa.ipc.open_file(pa.memory_map(str(path), "r")).read_all()


def write_file(batches: Iterable[Any], schema: Any, file: Path) -> None:
    """Writes an Arrow file, down to the disk; OSError where that fails."""
    import pyarrow as pa

    with open(file, "wb") as sink:
        with pa.ipc.new_file(sink, schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
        sink.flush()
        os.fsync(sink.fileno())


def _emptied(waiting: list[Any]) -> Iterable[Any]:
    while waiting:
        yield waiting.pop(0)


def _in_temporary_file(batches: Iterable[Any], schema: Any) -> Any:
    with tempfile.TemporaryDirectory(prefix="protoclip-") as folder:
        temporary = Path(folder) / "pairs.arrow"
        _write(batches, schema, temporary)
        return map_table(temporary)


def _write(batches: Iterable[Any], schema: Any, file: Path) -> None:
    try:
        write_file(batches, schema, file)
    except OSError as error:
        raise ProtoclipError(
            f"{file}: can't be written: {error.strerror or error}: give data.cache_dir, or TMPDIR, a folder with "
            "room for a copy of the data"
        ) from error
