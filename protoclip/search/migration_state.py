"""How far a migration to another model is, in a file that readers may look at any time."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from protoclip.contract.errors import IndexBusyError, ProtoclipError

from .places import MIGRATING_FILE, MIGRATING_LOCK, MIGRATING_STATE, remove_database
from .writer_lock import WriterLock


@dataclass(frozen=True)
class Migrating:
    """A migration that isn't finished; the index is searched as it was until then.

    Attributes:
        model: name of the new model.
        fingerprint: of the new model.
        dim: of its vectors.
        done: entries that have their new vector.
        total: entries of the index when it was last counted.
        of_build: which state of the index is migrated; a build in its place ends the migration.
    """

    model: str
    fingerprint: str
    dim: int
    done: int
    total: int
    of_build: str


def migration_lock(folder: Path, wait_s: float | None = None) -> WriterLock:
    """Held by the one process that migrates an index; others write to the index meanwhile."""
    return WriterLock(folder, MIGRATING_LOCK, "migrates it", wait_s)


def read_state(folder: Path) -> Migrating | None:
    """The migration in the folder; None where there is none."""
    try:
        return Migrating(**json.loads((folder / MIGRATING_STATE).read_text(encoding="ascii")))
    except (OSError, ValueError, TypeError):
        return None


def write_state(folder: Path, state: Migrating) -> None:
    """Says how far it is.

    Raises:
        ProtoclipError: the folder can't be written.
    """
    path = folder / MIGRATING_STATE
    new = folder / f"{MIGRATING_STATE}.new"
    try:
        # Not flushed: after a power cut an older or no state is read, and the draft says what is done.
        new.write_text(json.dumps(asdict(state)), encoding="ascii")
        new.replace(path)
    except OSError as error:
        raise ProtoclipError(f"{path}: can't be written: {error.strerror or error}") from error


def remove_migration(folder: Path) -> None:
    """Removes all of it; the caller holds its lock. The state last: where that is gone, so is the rest."""
    remove_database(folder / MIGRATING_FILE)
    for name in (f"{MIGRATING_STATE}.new", MIGRATING_STATE, MIGRATING_LOCK):
        (folder / name).unlink(missing_ok=True)


def remove_ended_migration(folder: Path, build: str) -> None:
    """Removes one that a killed process left, and that isn't of the index as it is now, which is of `build`."""
    state = read_state(folder)
    if state is None or state.of_build == build:
        return
    try:
        with migration_lock(folder, wait_s=0.0).held():
            remove_migration(folder)
    except IndexBusyError:
        # Who holds it removes it.
        return
