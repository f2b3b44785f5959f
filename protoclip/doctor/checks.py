"""A check, its result, and how checks are run so that a failing one does not stop the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum

_THREADS = 2


class State(StrEnum):
    """Ok: works. Missing: optional and not installed. Problem: installed but broken, or too little of it."""

    OK = "ok"
    MISSING = "missing"
    PROBLEM = "problem"


class Group(StrEnum):
    """What a check looks at: installed packages, or the machine around them."""

    INSTALL = "install"
    MACHINE = "machine"


@dataclass(frozen=True)
class Check:
    """One row.

    Attributes:
        found: version, size or reason, one line.
        advice: what to do about it; empty where there is nothing to do.
    """

    name: str
    state: State
    found: str
    advice: str = ""
    group: Group = Group.INSTALL


@dataclass(frozen=True)
class Diagnosis:
    """All rows, in the order of their checks."""

    checks: tuple[Check, ...]

    @property
    def sound(self) -> bool:
        """Whether nothing that is installed is broken; a taken port or a full disk does not count."""
        return not any(check.state is State.PROBLEM and check.group is Group.INSTALL for check in self.checks)


def diagnose(checks: Mapping[str, Callable[[], Sequence[Check]]]) -> Diagnosis:
    """Runs every check, two at a time; one that raises becomes a row that says so.

    Args:
        checks: what gives the rows, by the name that a failed one is shown under.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        rows = pool.map(_guarded, checks.keys(), checks.values())
        return Diagnosis(tuple(check for part in rows for check in part))


def _guarded(name: str, check: Callable[[], Sequence[Check]]) -> Sequence[Check]:
    try:
        return check()
    except Exception as error:  # noqa: BLE001 - a broken package can raise anything, and the other rows must come
        reason = " ".join(str(error).split()) or "no message"
        return [Check(name, State.PROBLEM, f"{type(error).__name__}: {reason}", "install the package anew")]
