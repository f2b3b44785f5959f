"""Relevance in a search: which model judges a query, kept between calls. `n` hits, `D` embedding."""

from __future__ import annotations

import sqlite3
import threading
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from protoclip.contract.errors import ConfigError

from .relevance.calibrated import Calibration
from .relevance.judge import RelevanceModel
from .relevance.logistic import Floats
from .relevance.of_index import IMAGE, TEXT
from .relevance.stored import FACT, read_calibration, read_model
from .searching import Relevance
from .tables import Facts
from .vectors import Array

_CALIBRATE = "`protoclip index calibrate`"
_KINDS = (TEXT, IMAGE)


class RelevanceWarning(UserWarning):
    """The index is another one than when its relevance was calibrated, so that it may be off."""


def usable(facts: Facts) -> Calibration | None:
    """The calibration of an index; None where it has none, or that of another model."""
    found = read_calibration(facts)
    return found if found is not None and found.fingerprint == facts["fingerprint"] else None


class Judges:
    """Of one index. May be shared between threads."""

    def __init__(self, folder: Path) -> None:
        """Nothing is read yet."""
        self._folder = folder
        self._lock = threading.Lock()
        self._known: tuple[object, Mapping[str, RelevanceModel]] = (None, {})

    def relevance(self, connection: sqlite3.Connection, facts: Facts, kind: str | None) -> Relevance:
        """What judges queries of a kind, TEXT or IMAGE; None: each by which kind's queries it is nearer to.

        Warns with a RelevanceWarning where the index has doubled since, or lost half.

        Raises:
            ConfigError: the index isn't calibrated, or for another model or kind, or there is no such kind.
            IndexFileError: the calibration is damaged.
        """
        if kind is not None and kind not in _KINDS:
            raise ConfigError(f"query_kind={kind!r} is unknown: use 'text' or 'image'")
        calibration = self._checked(facts)
        if calibration.is_due(int(facts["count"])):
            message = f"holds {facts['count']} entries, and was calibrated with {calibration.entries}"
            warnings.warn(f"{self._folder}: {message}: run {_CALIBRATE} again", RelevanceWarning, stacklevel=3)
        models = self._models(connection, facts)
        if kind is not None and kind not in models:
            raise ConfigError(
                f"{self._folder}: min_relevance (--min-relevance) is calibrated for texts alone: of pictures too "
                "few have another entry as answer"
            )

        def relevance(query: Array, nearest: Array, entries: Array) -> Floats:
            return models[kind or _nearer(query, models)].relevance(query, nearest, entries)

        return relevance

    def _checked(self, facts: Facts) -> Calibration:
        found = read_calibration(facts)
        if found is None:
            raise ConfigError(
                f"{self._folder}: min_relevance (--min-relevance) needs an index that is calibrated: {_CALIBRATE}"
            )
        if found.fingerprint != facts["fingerprint"]:
            raise ConfigError(
                f"{self._folder}: is calibrated for {found.model} {found.fingerprint}, and its vectors are of "
                f"{facts['model']} {facts['fingerprint']} now: run {_CALIBRATE} again"
            )
        return found

    def _models(self, connection: sqlite3.Connection, facts: Facts) -> Mapping[str, RelevanceModel]:
        with self._lock:
            if self._known[0] != facts[FACT]:
                found = {kind: read_model(connection, kind, int(facts["dim"]), self._folder) for kind in _KINDS}
                self._known = facts[FACT], {kind: model for kind, model in found.items() if model is not None}
            return self._known[1]


def _nearer(query: Array, models: Mapping[str, RelevanceModel]) -> str:
    means = {kind: model.references.query_mean for kind, model in models.items()}
    return min(means, key=lambda kind: float(np.linalg.norm(query - means[kind])))
