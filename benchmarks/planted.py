"""What the three scripts of planted mistakes share: whether a mistake was found, words for it, and the exit code.

Not a script of its own: `planted_errors.py`, `planted_precisions.py` and `planted_served.py` import it.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

from export.parity.checks import Check
from protoclip.contract.files import write_text

MISSED, FALSE_ALARM, FOUND, PASSED = "MISSED", "FALSE ALARM", "found", "passed"
_BATCH = re.compile(r"(?P<what>.*), batch (?P<size>\d+)")


@dataclass(frozen=True)
class Outcome:
    """One mistake, or the right export.

    Attributes:
        name: of the mistake.
        missed: names of checks that had to find it and did not.
        false: names of checks that failed although nothing was wrong.
        right: whether nothing was planted.
    """

    name: str
    missed: tuple[str, ...] = ()
    false: tuple[str, ...] = ()
    right: bool = False

    @property
    def word(self) -> str:
        """`found`, `MISSED`, and for the right export `passed`, `FALSE ALARM`."""
        if self.right:
            return FALSE_ALARM if self.false else PASSED
        return MISSED if self.missed else FOUND

    @property
    def line(self) -> str | None:
        """What is wrong, on one line; None where nothing is."""
        if self.word in (PASSED, FOUND):
            return None
        return f"{self.name}: {self.word} by {', '.join(sorted(self.false or self.missed))}"


def outcome_of(name: str, found_by: AbstractSet[str], failed: AbstractSet[str]) -> Outcome:
    """Whether all of `found_by` are among the `failed` checks; with an empty `found_by`, whether none failed."""
    if not found_by:
        return Outcome(name, false=tuple(failed), right=True)
    return Outcome(name, missed=tuple(found_by - failed))


def failed_names(checks: Iterable[Check]) -> set[str]:
    """Of the checks that failed."""
    return {check.name for check in checks if check.outcome == "failed"}


def words(names: Iterable[str]) -> str:
    """All names, those of batches together: `text, batch 1, 7, 64; text, unit norm`; "none" for none."""
    sizes: dict[str, list[int]] = {}
    others = []
    for name in sorted(names):
        if batch := _BATCH.fullmatch(name):
            sizes.setdefault(batch["what"], []).append(int(batch["size"]))
        else:
            others.append(name)
    batches = [f"{what}, batch {', '.join(map(str, sorted(found)))}" for what, found in sizes.items()]
    return "; ".join(sorted([*batches, *others])) or "none"


def run(
    description: str | None,
    study: Callable[[Path, int], tuple[str, Sequence[Outcome]]],
    *,
    samples: int,
    arguments: Sequence[str] | None = None,
) -> None:
    """Reads the command line, runs `study` of a run's folder and a number of samples, prints and writes its table.

    Ends with exit code 1 and a line for each mistake that was missed and each false alarm.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a trained run's folder, such as runs/demo")
    parser.add_argument("--samples", type=int, default=samples, help="pictures and texts to compare on")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(arguments)
    text, outcomes = study(given.run, given.samples)
    print(text)
    if given.out:
        write_text(given.out, text)
    wrong = [outcome.line for outcome in outcomes if outcome.line is not None]
    for line in wrong:
        print(line, file=sys.stderr)
    raise SystemExit(1 if wrong else 0)
