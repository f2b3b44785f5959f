"""What tuning chose and measured, and how an index keeps it: as JSON, in its facts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

TUNE_FROM = 100_000
DEFAULT_RECALL = 0.99
# Where it was not measured.
CODES_PER_VECTOR = 32.0
FACT = "tuning"


@dataclass(frozen=True)
class Effort:
    """How hard a search for up to `number` hits looks.

    Attributes:
        probes: lists of vectors that are read, those whose centres are nearest to the query.
        candidates: vectors with the best scores by their codes, whose cosines are computed.
    """

    number: int
    probes: int
    candidates: int


@dataclass(frozen=True)
class FilteredEffort:
    """How hard a search for up to 10 hits looks where a condition keeps a `share` of the entries, at random."""

    share: float
    probes: int
    candidates: int


@dataclass(frozen=True)
class TunedQueries:
    """How queries of one kind are searched, and how well.

    Attributes:
        efforts: by the number of hits, ascending; for more hits, or where there are none, searches are exact.
        recall: of the 10 nearest, the share that a search finds: the mean of `queries` queries which the choice of
            the efforts did not see. None: not measured.
        low: lower end of its interval of 95 %, of one side.
        queries: how many it was measured on.
        speedup: time of an exact search by that of an approximate one, one query at a time; None: not measured.
        reason: why searches are exact; "" where they aren't.
        filtered: by share, descending; none: not measured.
    """

    efforts: tuple[Effort, ...]
    recall: float | None
    low: float | None
    queries: int
    speedup: float | None
    reason: str
    filtered: tuple[FilteredEffort, ...] = ()

    @property
    def is_approximate(self) -> bool:
        """Whether some searches are."""
        return bool(self.efforts)

    def effort(self, number: int) -> Effort | None:
        """The effort for a number of hits; None: exact."""
        return next((effort for effort in self.efforts if number <= effort.number), None)

    def __str__(self) -> str:
        if self.recall is None:
            return f"exact: {self.reason}"
        measured = f"{self.recall:.4f} (at least {self.low:.4f}, {self.queries} queries)"
        if not self.efforts:
            return f"exact: {self.reason}"
        first = self.efforts[0]
        return f"{measured}, {first.probes} lists, {first.candidates} candidates"


@dataclass(frozen=True)
class Tuning:
    """What the last tuning of an index found.

    Attributes:
        asked: the recall that was asked for.
        engine: of the approximate searches, in the words of faiss's index factory; "exact": there are none.
        entries: of the index at the time.
        tuned_at: date and time, UTC.
        seconds: that it took.
        by_entry: queries that are like the entries: pictures, in an index of pictures.
        by_other: all other queries: texts, in an index of pictures.
        codes_per_vector: how many codes are compared in the time that reading and comparing a vector takes.
    """

    asked: float
    engine: str
    entries: int
    tuned_at: str
    seconds: float
    by_entry: TunedQueries
    by_other: TunedQueries
    codes_per_vector: float = CODES_PER_VECTOR


@dataclass(frozen=True)
class AcceleratorFile:
    """The accelerator's file.

    Attributes:
        size: in bytes.
        count: how many entries it holds.
        last: the key up to which it holds them.
        queries: how many queries it keeps for the next tuning.
    """

    name: str
    size: int
    digest: str
    count: int
    last: int
    queries: int


@dataclass(frozen=True)
class Record:
    """The last tuning, of which build of the index, and the file that belongs to it."""

    build: str
    tuning: Tuning
    file: AcceleratorFile | None

    def to_json(self) -> str:
        """As the fact is written."""
        return json.dumps(asdict(self), ensure_ascii=False)


def read_record(facts: Mapping[str, Any]) -> Record | None:
    """The record in the facts of an index; None: it wasn't tuned, another build of it was, or it can't be read."""
    return _read(facts.get(FACT), facts.get("build"))


@lru_cache(maxsize=16)
def _read(written: object, build: object) -> Record | None:
    """Kept, as every search asks for it."""
    try:
        found = json.loads(written)  # type: ignore[arg-type]
        if found["build"] != build:
            return None
        tuning, file = found["tuning"], found["file"]
        by_entry, by_other = _kind(tuning.pop("by_entry")), _kind(tuning.pop("by_other"))
        return Record(
            found["build"],
            Tuning(**tuning, by_entry=by_entry, by_other=by_other),
            None if file is None else AcceleratorFile(**file),
        )
    except (KeyError, TypeError, ValueError):
        # Of another version: as if it had not been tuned.
        return None


def is_due(facts: Mapping[str, Any]) -> bool:
    """Whether an index is large enough to be tuned, and was not, or has doubled since."""
    record, count = read_record(facts), int(facts["count"])
    return count >= TUNE_FROM and (record is None or count >= 2 * record.tuning.entries)


def _kind(found: dict[str, Any]) -> TunedQueries:
    efforts = tuple(Effort(**effort) for effort in found.pop("efforts"))
    filtered = tuple(FilteredEffort(**effort) for effort in found.pop("filtered", ()))
    return TunedQueries(efforts, **found, filtered=filtered)
