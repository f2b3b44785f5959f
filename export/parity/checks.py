"""Named checks: what a verdict asked, with what outcome, for an engine or for the artifact as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["passed", "failed", "not checked"]


@dataclass(frozen=True)
class Check:
    """One question of a verdict and its answer.

    Attributes:
        name: short, unique within its engine or artifact, without a colon, such as "unit norm".
        outcome: "not checked" where this machine can't answer; it never counts as passed.
        explanation: one line: what is wrong or could not be checked and the way out; for a passed check, what it
            proves, or nothing.
        measured: a number, or words such as "norms from 0.9999 to 1.0001"; None: nothing was measured.
        bound: what `measured` is compared with, such as "≤ 1e-5"; None: there is none.
    """

    name: str
    outcome: Outcome
    explanation: str = ""
    measured: float | str | None = None
    bound: float | str | None = None

    def __post_init__(self) -> None:
        if ":" in self.name or not self.name:
            raise ValueError(f"a check's name has letters and no colon, unlike {self.name!r}")
        if self.outcome != "passed" and not self.explanation:
            raise ValueError(f"check {self.name!r} is {self.outcome}: its explanation says why")

    @property
    def line(self) -> str:
        """Name and explanation, as failures are reported: `unit norm: a row has the norm 1.15`."""
        return f"{self.name}: {self.explanation}"


def bounded(name: str, passed: bool, explanation: str, measured: float | str, bound: float | str) -> Check:
    """A check that was measured: `explanation` is that of a failure, and is left out where it passed."""
    return (
        Check(name, "passed", "", measured, bound)
        if passed
        else Check(name, "failed", explanation, measured, bound)
    )


def not_checked(name: str, why: str, bound: float | str | None = None) -> Check:
    """A check that this machine can't answer; `why` says what would."""
    return Check(name, "not checked", why, None, bound)


def with_checks(there: Sequence[Check], more: Iterable[Check]) -> tuple[Check, ...]:
    """Both; raises ValueError where a name comes twice."""
    both = (*there, *more)
    names = [check.name for check in both]
    if doubled := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"two checks have one name: {', '.join(sorted(doubled))}")
    return both


def failed_lines(checks: Iterable[Check]) -> tuple[str, ...]:
    """The failed checks, each in one line that begins with its name."""
    return tuple(check.line for check in checks if check.outcome == "failed")


def unchecked_lines(checks: Iterable[Check]) -> tuple[str, ...]:
    """The checks that were not answered, each in one line that begins with its name."""
    return tuple(check.line for check in checks if check.outcome == "not checked")
