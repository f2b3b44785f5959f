"""Where rows are kept: small tables in memory, large ones as an Arrow file that is mapped into memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from protoclip.contract.errors import ProtoclipError

# Below this a table is quicker read again than found in a file.
MEMORY_BYTES = 64 * 2**20


def store_batches(batches: Iterable[Any], schema: Any, file: Path | None = None) -> Any:
    """The batches as one `pyarrow.Table`: in memory, or mapped from a file once they are larger than 64 MB.

    Args:
        file: where to write; None: a temporary file, which is gone when the table is no longer used.

    Raises:
        ProtoclipError: the disk is full or can't be written.
    """
    import pyarrow as pa

    waiting: list[Any] = []
    size = 0
    remaining = iter(batches)
    for batch in remaining:
        waiting.append(batch)
        size += batch.nbytes
        if size > MEMORY_BYTES:
            return _write(waiting, remaining, schema, file)
    return pa.Table.from_batches(waiting, schema)


def map_table(path: Path) -> Any:
    """The `pyarrow.Table` of an Arrow file, mapped: what is not looked at is not read."""
    import pyarrow as pa

    return pa.ipc.open_file(pa.memory_map(str(path), "r")).read_all()


def _write(waiting: list[Any], remaining: Iterable[Any], schema: Any, file: Path | None) -> Any:
    if file is not None:
        _write_file(waiting, remaining, schema, file)
        return map_table(file)
    with tempfile.TemporaryDirectory(prefix="protoclip-") as folder:
        temporary = Path(folder) / "pairs.arrow"
        _write_file(waiting, remaining, schema, temporary)
        return map_table(temporary)


def _write_file(waiting: list[Any], remaining: Iterable[Any], schema: Any, file: Path) -> None:
    import pyarrow as pa

    try:
        with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            while waiting:
                writer.write_batch(waiting.pop(0))
            for batch in remaining:
                writer.write_batch(batch)
    except OSError as error:
        raise ProtoclipError(f"{file}: can't be written: {error.strerror or error}") from error
