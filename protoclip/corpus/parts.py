"""A folder of Parquet files, one for each part of a plan: each is there whole or not at all, and written once."""

from __future__ import annotations

import re
import shutil
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from protoclip.contract.errors import ConfigError, DataError, ProtoclipError
from protoclip.contract.files import atomic_path, write_text

from .plan import Plan, read_plan

PLAN_FILE = "_plan.json"
"""Readers of Parquet folders pass over names that begin with _ or a dot."""
LOCK_FILE = "_lock"
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
        if find_plan(path) is None and _is_free(path):
            write_text(path / PLAN_FILE, plan.model_dump_json(indent=2) + "\n")
        # Ranks begin at once: another one may have written it meanwhile.
        plan.check_same(find_plan(path) or plan, str(path))

    def missing(self, rank: int = 0, num_ranks: int = 1) -> list[int]:
        """The parts of this rank that are not there yet: each part belongs to one of the ranks.

        Raises:
            DataError: a file that is called like a part is of another plan, or damaged.
        """
        there = self._there()
        own = range(rank, self.plan.num_parts, num_ranks)
        for part in own:
            if part in there:
                check_written(self.part_path(part), self.plan)
        return [part for part in own if part not in there]

    def num_there(self) -> int:
        """How many parts are there, whosever they are."""
        return len(self._there() & set(range(self.plan.num_parts)))

    def _there(self) -> set[int]:
        return {int(found[1]) for file in self.path.iterdir() if (found := _PART.fullmatch(file.name))}

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

        # Arrow takes no name that is not UTF-8, and one with a colon for an address: hence open files, everywhere.
        with atomic_path(self.part_path(part)) as temporary, open(temporary, "wb") as stream:
            parquet.write_table(_with_plan(table, self.plan), stream)

    def part_path(self, part: int) -> Path:
        """Where a part is, or will be."""
        return self.path / f"part-{part:06d}.parquet"

    def remove(self) -> None:
        """Removes the parts, and then the plan: a removal that is killed can be done again."""
        for part in range(self.plan.num_parts):
            self.part_path(part).unlink(missing_ok=True)
        (self.path / PLAN_FILE).unlink(missing_ok=True)
        remove_without_plan(self.path)


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
        with open(path, "rb") as stream:
            found = (parquet.read_metadata(stream).metadata or {}).get(_KEY)
    except (OSError, ArrowException) as error:
        raise DataError(f"{path}: is damaged ({error}): remove it, and it is written again") from error
    if found == plan.model_dump_json().encode():
        return
    try:
        plan.check_same(read_plan(found or b"", str(path)), str(path))
    except DataError:
        raise ConfigError(f"{path}: was not written by this command: remove it, or give another --out") from None


def join_parts(folder: PartsFolder, target: Path) -> None:
    """Writes all parts into one Parquet file, a row group each, and removes the folder.

    Raises:
        DataError: a part is missing or damaged.
        ProtoclipError: the file can't be written.
    """
    from pyarrow import ArrowException, parquet

    with atomic_path(target) as temporary, open(temporary, "wb") as joined:
        writer = None
        try:
            for part in range(folder.plan.num_parts):
                path = folder.part_path(part)
                try:
                    with open(path, "rb") as stream:
                        table = parquet.read_table(stream)
                except (OSError, ArrowException) as error:
                    raise DataError(f"{path}: is damaged ({error}): remove it, and it is written again") from error
                writer = writer or parquet.ParquetWriter(joined, table.schema)
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


def remove_without_plan(folder: Path) -> None:
    """Removes a folder that has no plan any more, unless something of others is in it."""
    with suppress(OSError):
        (folder / LOCK_FILE).unlink(missing_ok=True)
        folder.rmdir()


@contextmanager
def alone_in(folder: PartsFolder, *, shared: bool = False) -> Iterator[None]:
    """Holds a lock of the folder while the block runs; `shared` among the ranks of one run.

    Where the folder's file system has no locks, or nothing may be written there, a warning says so: two runs of
    the same plan write the same, and at worst stop each other.

    Raises:
        ProtoclipError: another run writes there, or has just ended.
    """
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield
        return
    with ExitStack() as held:
        try:
            # Over NFS an exclusive lock needs a file that is open for writing. And it is one that nobody reads:
            # over SMB no other process can read what is locked.
            stream = held.enter_context(open(folder.path / LOCK_FILE, "a+b"))
            fcntl.flock(stream, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ProtoclipError(f"{folder.path}: another run writes there: wait until it has ended") from None
        except OSError as error:
            if folder.path.exists():
                warnings.warn(
                    f"{folder.path}: can't be locked ({error.strerror}): see that no second run writes there",
                    stacklevel=3,
                )
        if find_plan(folder.path) is None:
            raise ProtoclipError(f"{folder.path}: another run has just ended there: start this one again")
        yield


def _with_plan(table: Any, plan: Plan) -> Any:
    return table.replace_schema_metadata({**(table.schema.metadata or {}), _KEY: plan.model_dump_json()})


def _is_free(path: Path) -> bool:
    """Whether a run may begin there; False where another rank has begun it meanwhile. ConfigError: it is taken."""
    if not path.exists():
        return True
    try:
        names = sorted(file.name for file in path.iterdir())
    except NotADirectoryError:
        raise ConfigError(f"{path}: is a file: give a folder, or a name that ends in .parquet") from None
    ours = (PLAN_FILE, LOCK_FILE)
    foreign = [name for name in names if name not in ours and not _TEMPORARY.fullmatch(name)]
    if not foreign:
        return True
    if find_plan(path) is None:
        raise ConfigError(f"{path}: the folder holds {foreign[0]!r}, and no parts: give another --out")
    return False
