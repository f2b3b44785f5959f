"""A folder of Parquet files, one for each part of a plan: each is there whole or not at all, and written once."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from protoclip.contract.errors import ConfigError, DataError, ProtoclipError
from protoclip.contract.files import atomic_path, write_text

from .plan import Plan, read_plan

PLAN_FILE = "_plan.json"
"""Readers of Parquet folders pass over names that begin with _ or a dot."""
_KEY = b"protoclip.plan"
_PART = re.compile(r"part-(\d{6,})\.parquet")
_TEMPORARY = re.compile(r"\.(?:part-(\d{6,})\.parquet|_plan\.json)\..+")


class PartsFolder:
    """The parts of one plan. Any process may write any part; two that write the same one write the same.

    Args:
        path: a new folder, an empty one, or one that was begun with the same plan.

    Raises:
        ConfigError: it was begun with another plan, or holds something else.
        DataError: its plan can't be read.
        ProtoclipError: it can't be written.
    """

    def __init__(self, path: Path, plan: Plan) -> None:
        self.path, self.plan = path, plan
        if find_plan(path) is None:
            _check_free(path)
            write_text(path / PLAN_FILE, plan.model_dump_json(indent=2) + "\n")
        # Ranks begin at once: another one may have written it meanwhile.
        plan.check_same(find_plan(path) or plan, str(path))

    def missing(self, rank: int = 0, num_ranks: int = 1) -> list[int]:
        """The parts of this rank that are not there yet: each part belongs to one of the ranks.

        Raises:
            DataError: a file that is called like a part is of another plan, or damaged.
        """
        there = {int(found[1]) for file in self.path.iterdir() if (found := _PART.fullmatch(file.name))}
        own = range(rank, self.plan.num_parts, num_ranks)
        for part in own:
            if part in there:
                check_written(self.part_path(part), self.plan)
        return [part for part in own if part not in there]

    def remove_temporary(self, rank: int = 0, num_ranks: int = 1) -> None:
        """Removes what a killed process of this rank left. Nobody else may be writing the rank's parts."""
        for place in list(self.path.iterdir()):
            found = _TEMPORARY.fullmatch(place.name)
            if found is None:
                continue
            # The plan's may be one that another rank is just writing.
            is_own = num_ranks == 1 if found[1] is None else int(found[1]) % num_ranks == rank
            if is_own:
                shutil.rmtree(place, ignore_errors=True)

    def write(self, part: int, table: Any) -> None:
        """Writes the Arrow table of a part under a temporary name, and renames it.

        Raises:
            ProtoclipError: it can't be written.
        """
        from pyarrow import parquet

        with atomic_path(self.part_path(part)) as temporary:
            parquet.write_table(_with_plan(table, self.plan), temporary)

    def part_path(self, part: int) -> Path:
        """Where a part is, or will be."""
        return self.path / f"part-{part:06d}.parquet"

    def remove(self) -> None:
        """Removes the parts, and at last the plan: a removal that is killed can be done again."""
        for part in range(self.plan.num_parts):
            self.part_path(part).unlink(missing_ok=True)
        (self.path / PLAN_FILE).unlink(missing_ok=True)
        remove_if_empty(self.path)


def find_plan(path: Path) -> Plan | None:
    """The plan of a folder of parts; None where no folder, or no plan, is there. DataError: it can't be read."""
    file = path / PLAN_FILE
    try:
        return read_plan(file.read_bytes(), str(file))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DataError(f"{file}: can't be read: {error.strerror}") from error


def check_written(path: Path, plan: Plan) -> None:
    """Raises DataError where the Parquet file can't be read, and ConfigError where it is of another plan."""
    from pyarrow import ArrowException, parquet

    try:
        found = (parquet.read_metadata(path).metadata or {}).get(_KEY)
    except (OSError, ArrowException) as error:
        raise DataError(f"{path}: is damaged ({error}): remove it, and it is written again") from error
    if found != plan.digest.encode():
        raise ConfigError(f"{path}: holds something else than what is asked for: remove it, or give another --out")


def join_parts(folder: PartsFolder, target: Path) -> None:
    """Writes all parts into one Parquet file, a row group each, and removes the folder.

    Raises:
        DataError: a part is missing or damaged.
        ProtoclipError: the file can't be written.
    """
    from pyarrow import ArrowException, parquet

    with atomic_path(target) as temporary:
        writer = None
        try:
            for part in range(folder.plan.num_parts):
                path = folder.part_path(part)
                try:
                    table = parquet.read_table(path, partitioning=None)
                except (OSError, ArrowException) as error:
                    raise DataError(f"{path}: is damaged ({error}): remove it, and it is written again") from error
                writer = writer or parquet.ParquetWriter(temporary, table.schema)
                writer.write_table(table)
        finally:
            if writer is not None:
                writer.close()
    folder.remove()


def remove_temporary_of(target: Path) -> None:
    """Removes what a killed `join_parts` left beside its target."""
    for place in list(target.parent.iterdir()):
        if re.fullmatch(rf"\.{re.escape(target.name)}\.[a-z0-9_]{{8}}", place.name):
            shutil.rmtree(place, ignore_errors=True)


def remove_if_empty(folder: Path) -> None:
    """Removes a folder unless something is in it."""
    with suppress(OSError):
        folder.rmdir()


@contextmanager
def alone_in(folder: PartsFolder, *, shared: bool = False) -> Iterator[None]:
    """Holds a lock of the folder's plan while the block runs; `shared` among the ranks of one run.

    Raises:
        ProtoclipError: another run writes there.
    """
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield
        return
    with open(folder.path / PLAN_FILE, "rb") as stream:
        try:
            fcntl.flock(stream, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ProtoclipError(f"{folder.path}: another run writes there: wait until it has ended") from None
        yield


def _with_plan(table: Any, plan: Plan) -> Any:
    return table.replace_schema_metadata({**(table.schema.metadata or {}), _KEY: plan.digest})


def _check_free(path: Path) -> None:
    if not path.exists():
        return
    try:
        names = sorted(file.name for file in path.iterdir())
    except NotADirectoryError:
        raise ConfigError(f"{path}: is a file: give a folder, or a name that ends in .parquet") from None
    foreign = [name for name in names if name != PLAN_FILE and not _TEMPORARY.fullmatch(name)]
    if foreign:
        raise ConfigError(f"{path}: the folder holds {foreign[0]!r}, and no parts: give another --out")
