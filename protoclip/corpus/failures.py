"""Which items of a run's output have no answer."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from protoclip.contract.errors import DataError
from protoclip.contract.picture_folders import Skipped

ERROR = "error"


def read_failures(files: Iterable[Path], names: str) -> list[Skipped]:
    """Items with an error, in order, of the given Parquet files; memory holds them, and a row group of names.

    Args:
        names: the column with the items' names.

    Raises:
        DataError: a file can't be read.
    """
    from pyarrow import ArrowException, parquet

    found = []
    for path in files:
        try:
            with open(path, "rb") as stream, parquet.ParquetFile(stream) as file:
                for batch in file.iter_batches(columns=[names, ERROR]):
                    failed = batch.filter(batch.column(ERROR).is_valid())
                    found += [Skipped(row[names], row[ERROR]) for row in failed.to_pylist()]
        except (OSError, ArrowException) as error:
            raise DataError(f"{path}: can't be read: {error}") from error
    return found
