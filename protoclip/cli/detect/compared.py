"""What `protoclip detect evaluate` finds out. `K` known pictures, `U` strangers, `D` embedding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from protoclip.contract.errors import ConfigError
from protoclip.detection.detector import Detector
from protoclip.detection.measures import Separation, accepting_cut, separation
from protoclip.detection.vectors import Scores, checked

from .entries import Entries

NUM_MISTAKES = 12


@dataclass(frozen=True)
class Mistake:
    """One picture on the wrong side of the cut.

    Attributes:
        id: of the picture.
        score: the detector's.
        label: its own class; "" for a stranger, and where it isn't known.
        nearest_class: the known class that it is most like; "" where the detector keeps none apart.
        like: of a stranger, the id of the known picture, among those compared with, that is most like it.
        cosine: with that picture, from -1 to 1.
    """

    id: str
    score: float
    label: str = ""
    nearest_class: str = ""
    like: str = ""
    cosine: float | None = None


@dataclass(frozen=True, eq=False)
class Strangers:
    """One kind of strangers.

    Attributes:
        name: what it is called.
        entries: the U pictures.
        scores: `[U]`.
        measures: against the known.
        accepted: share of them that the detector's threshold takes for known; None where it has none.
        mistakes: those of them with the highest scores, the highest first.
    """

    name: str
    entries: Entries
    scores: Scores
    measures: Separation
    accepted: float | None
    mistakes: tuple[Mistake, ...]


@dataclass(frozen=True, eq=False)
class Compared:
    """Known pictures and all strangers.

    Attributes:
        known: the K pictures.
        scores: `[K]`.
        cut: from which score on a picture counts as known: the detector's threshold, or the one that 95 % of these
            known pictures reach where it has none.
        accepted: share of them that the detector's threshold takes for known; None where it has none.
        mistakes: known pictures taken for strangers, the lowest scores first.
        strangers: one for each kind, as they were given.
    """

    known: Entries
    scores: Scores
    cut: float
    accepted: float | None
    mistakes: tuple[Mistake, ...]
    strangers: tuple[Strangers, ...]


def named_sources(given: Sequence[str]) -> dict[str, str]:
    """Paths by their names; a path without one is its own name.

    Raises:
        ConfigError: a name twice, or nothing behind it.
    """
    found: dict[str, str] = {}
    for one in given:
        name, is_named, path = one.partition("=")
        if not is_named or not name or "/" in name or Path(one).exists():
            name = path = one
        if not path:
            raise ConfigError(f"--strangers {one}: names no path: give NAME=PATH")
        if name in found:
            raise ConfigError(f"--strangers {name}: is there twice: give one of them another name, NAME=PATH")
        found[name] = path
    return found


def compare(
    detector: Detector, known: Entries, strangers: Mapping[str, Entries], num_resamples: int = 1000
) -> Compared:
    """Scores all, and finds the most confident mistakes.

    Args:
        strangers: by name, in the order in which they are shown.
        num_resamples: of the bootstrap.

    Raises:
        DataError: an embedding that is not finite, or of another D.
    """
    own = detector.score(known.vectors)
    cut = accepting_cut(own) if detector.maybe_threshold is None else detector.maybe_threshold.value
    kinds = []
    for name, entries in strangers.items():
        scores = detector.score(entries.vectors)
        measures = separation(own, scores, num_resamples=num_resamples)
        taken = _taken(detector, known, entries, scores, cut)
        kinds.append(Strangers(name, entries, scores, measures, _accepted(detector, scores), taken))
    lost = _lost(detector, known, own, cut)
    return Compared(known, own, cut, _accepted(detector, own), lost, tuple(kinds))


def _accepted(detector: Detector, scores: Scores) -> float | None:
    return None if detector.maybe_threshold is None else float((scores >= detector.maybe_threshold.value).mean())


def _taken(
    detector: Detector, known: Entries, entries: Entries, scores: Scores, cut: float
) -> tuple[Mistake, ...]:
    rows = _first(-scores, scores >= cut)
    if not len(rows):
        return ()
    vectors = entries.vectors[rows]
    classes = detector.nearest_classes(vectors)
    cosines = checked(vectors) @ checked(known.vectors).T
    return tuple(
        Mistake(
            entries.ids[row],
            float(scores[row]),
            "",
            classes[place],
            known.ids[int(cosines[place].argmax())],
            float(cosines[place].max()),
        )
        for place, row in enumerate(rows)
    )


def _lost(detector: Detector, known: Entries, scores: Scores, cut: float) -> tuple[Mistake, ...]:
    rows = _first(scores, scores < cut)
    classes = detector.nearest_classes(known.vectors[rows]) if len(rows) else []
    return tuple(
        Mistake(known.ids[row], float(scores[row]), known.labels[row], name)
        for row, name in zip(rows, classes, strict=True)
    )


def _first(keys: Scores, wrong: NDArray[np.bool_]) -> list[int]:
    """The wrong ones with the smallest keys; equal ones in their order."""
    order = np.argsort(keys, kind="stable")
    return [int(row) for row in order[wrong[order]][:NUM_MISTAKES]]
