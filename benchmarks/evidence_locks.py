"""Who is at a study's runs: a run is one process' own, and two processes at most are at work in a folder."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from protoclip.contract.errors import ConfigError


@contextmanager
def locked(run: Path) -> Iterator[bool]:
    """Whether the run is this process' own until the end of the block."""
    run.parent.mkdir(parents=True, exist_ok=True)
    with (run.parent / f"{run.name}.lock").open("w") as lock:
        yield _is_taken(lock)


@contextmanager
def one_of_two(out: Path) -> Iterator[None]:
    """At most two processes run studies in a folder: more would only wait for one another.

    Raises:
        ConfigError: two are at it.
    """
    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        slots = (stack.enter_context((out / f"process{number}.lock").open("w")) for number in range(2))
        if not any(_is_taken(slot) for slot in slots):
            raise ConfigError(f"--out {out}: two processes run studies there already: wait for one, or stop it")
        yield


def _is_taken(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
