"""The folder of an index: which files are in it, and what may be written where.

`index.sqlite` is the index, with SQLite's own files beside it while it is in use; `segment-….vectors` are copies
of its vectors for searching, and `accelerator-….faiss` is made of these; `building.sqlite` is a build that isn't
finished, and `accelerator.new` a tuning; `writer.lock` says who writes, and `tuning.lock` who tunes.
`migrating.sqlite`, with `.json` and `.lock`, is a migration to another model that isn't finished.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from protoclip.contract.addresses import shown, url_of
from protoclip.contract.errors import ConfigError, IndexFileError, ProtoclipError
from protoclip.contract.files import flush_folder

from .approximate.files import NEW_FILE as NEW_ACCELERATOR
from .approximate.files import is_accelerator_name
from .approximate.tuning import TUNING_LOCK
from .segments import is_segment_name
from .writer_lock import LOCK_FILE, WriterLock

DATABASE_FILE = "index.sqlite"
BUILDING_FILE = "building.sqlite"
NEW_FILE = "new.sqlite"
MIGRATING_FILE = "migrating.sqlite"
MIGRATING_STATE = "migrating.json"
MIGRATING_LOCK = "migrating.lock"
OLD_FILES = ("index.json", "metadata.jsonl", "vectors.faiss")
FINGERPRINT = r"[0-9a-f]{6,64}"
_BESIDE = ("", "-wal", "-shm", "-journal")
_OURS = {
    LOCK_FILE,
    MIGRATING_LOCK,
    TUNING_LOCK,
    NEW_ACCELERATOR,
    MIGRATING_STATE,
    f"{MIGRATING_STATE}.new",
    *OLD_FILES,
    *(name + end for name in (DATABASE_FILE, BUILDING_FILE, NEW_FILE, MIGRATING_FILE) for end in _BESIDE),
}


def check_place(path: Path) -> None:
    """Checks that an index may be written at `path`: nothing, an empty folder or another index is there.

    Raises:
        IndexFileError: something else is there, or it is a URL.
    """
    if url := url_of(str(path)):
        raise IndexFileError(f"{shown(url)}: nothing is written to a URL: name a local path")
    try:
        names = {entry.name for entry in path.iterdir()} if path.is_dir() else set()
    except OSError as error:
        raise IndexFileError(f"{path}: can't be read: {error.strerror}") from error
    foreign = {name for name in names - _OURS if not (is_segment_name(name) or is_accelerator_name(name))}
    if foreign or (path.exists() and not path.is_dir()):
        what = f"the folder holds {min(foreign)!r}" if foreign else "it is a file"
        raise IndexFileError(f"{path} is no index ({what}), and nothing is written into it: choose another place")


def check_model_facts(fingerprint: str, dim: int) -> None:
    """Raises ConfigError where they can't be a model's."""
    if not re.fullmatch(FINGERPRINT, fingerprint):
        raise ConfigError(f"fingerprint={fingerprint!r} must be 6 to 64 hexadecimal digits, as in client.model")
    if dim < 1:
        raise ConfigError(f"dim={dim} must be at least 1")


def make_folder(path: Path) -> None:
    """Makes the folder, and those above it.

    Raises:
        ProtoclipError: it can't be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        flush_folder(path.parent)
    except OSError as error:
        raise ProtoclipError(f"{path}: can't be written: {error.strerror or error}") from error


@contextmanager
def held_folder(path: Path) -> Iterator[None]:
    """Makes the folder where there is none, and holds its writer's lock within the block.

    A new one goes where it stays empty, as when there is no room even for the lock.

    Raises:
        ProtoclipError: it can't be made.
        IndexBusyError: as `WriterLock.held`.
    """
    is_new = not path.exists()
    make_folder(path)
    try:
        with WriterLock(path).held():
            yield
    except BaseException:
        if is_new:
            with suppress(OSError):
                path.rmdir()
        raise


def leave_nothing(path: Path) -> None:
    """Removes a folder in which nothing but the writer's lock is; the caller holds that."""
    if {entry.name for entry in path.iterdir()} == {LOCK_FILE}:
        (path / LOCK_FILE).unlink()
        path.rmdir()


def put_in_place(made: Path, path: Path) -> None:
    """Gives a closed database its name, where nobody has one of that name open.

    Raises:
        ProtoclipError: the folder can't be written.
    """
    try:
        made.replace(path)
        flush_folder(path.parent)
    except OSError as error:
        raise ProtoclipError(f"{path}: can't be written: {error.strerror or error}") from error


def remove_database(path: Path) -> None:
    """Removes a database that nobody has open, and SQLite's files beside it."""
    for end in _BESIDE:
        path.with_name(path.name + end).unlink(missing_ok=True)


def is_old(path: Path) -> bool:
    """Whether an index of the first format is there, and none of this one."""
    return not (path / DATABASE_FILE).exists() and (path / OLD_FILES[0]).exists()


def check_is_index(path: Path) -> None:
    """Checks that an index is at `path`.

    Raises:
        IndexFileError: there is none, or a build that isn't finished.
    """
    if (path / DATABASE_FILE).exists() or is_old(path):
        return
    if (path / BUILDING_FILE).exists():
        raise IndexFileError(
            f"{path}: its build isn't finished: give the same `protoclip index build` again, and it goes on where "
            "it stood"
        )
    raise IndexFileError(f"{path}: no index is here: name a folder that `protoclip index build` wrote")
