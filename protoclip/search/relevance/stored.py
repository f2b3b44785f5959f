"""A calibration in the database of its index: what it says as a fact, what it learned in a table of its own."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protoclip.contract.errors import IndexFileError
from protoclip.search.schema import RELEVANCE_SCHEMA
from protoclip.search.tables import Facts, set_fact

from .calibrated import CalibratedQueries, Calibration
from .judge import Judge, RelevanceModel
from .logistic import Logistic
from .references import References
from .reliability import Bin, CutOff

FACT = "relevance"


def write_calibration(
    connection: sqlite3.Connection, calibration: Calibration, models: Mapping[str, RelevanceModel]
) -> None:
    """Puts it in place of an earlier one, in a transaction of the caller."""
    from safetensors.numpy import save

    connection.execute(RELEVANCE_SCHEMA)
    connection.execute("DELETE FROM relevance")
    rows = [(kind, save(_arrays(model))) for kind, model in models.items()]
    connection.executemany("INSERT INTO relevance VALUES (?, ?)", rows)
    set_fact(connection, FACT, json.dumps(asdict(calibration), ensure_ascii=False))


def read_calibration(facts: Facts) -> Calibration | None:
    """What an index says of its calibration; None: it has none, or one of another version."""
    try:
        found = json.loads(facts[FACT])
        text, image = found.pop("text"), found.pop("image")
        return Calibration(**found, text=_queries(text), image=None if image is None else _queries(image))
    except (KeyError, TypeError, ValueError):
        return None


def read_model(connection: sqlite3.Connection, kind: str, dim: int, place: object) -> RelevanceModel | None:
    """The model of queries of a kind; None where there is none.

    Raises:
        IndexFileError: it isn't what was written; `place` is the file.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    row = connection.execute("SELECT data FROM relevance WHERE kind = ?", (kind,)).fetchone()
    if row is None:
        return None
    try:
        arrays = load(row[0])
        if not all(np.isfinite(array).all() for array in arrays.values()):
            raise ValueError("numbers that are none")
        model = _model(arrays)
        # Parts that do not fit each other, or the index, fail here, and not in a search.
        model.relevance(*(np.zeros(shape, np.float32) for shape in ((dim,), (1, dim), (1, dim))))
    except (SafetensorError, KeyError, IndexError, ValueError, TypeError) as error:
        raise IndexFileError(
            f"{place}: its calibration is damaged: make it anew with `protoclip index calibrate`"
        ) from error
    return model


def _arrays(model: RelevanceModel) -> dict[str, NDArray[Any]]:
    references = model.references
    arrays: dict[str, NDArray[Any]] = {
        # Half of the bytes, and a thousandth of a cosine.
        "queries": references.queries.astype(np.float16),
        "query_mean": references.query_mean,
        "entry_mean": references.entry_mean,
    }
    for step in fields(Judge):
        logistic: Logistic = getattr(model.judge, step.name)
        arrays[step.name] = np.stack([logistic.centre, logistic.scale, logistic.weights])
        arrays[f"{step.name}.bias"] = np.array(logistic.bias)
    return arrays


def _model(arrays: Mapping[str, NDArray[Any]]) -> RelevanceModel:
    queries, query_mean, entry_mean = (
        arrays[name].astype(np.float32) for name in ("queries", "query_mean", "entry_mean")
    )
    steps = {}
    for step in fields(Judge):
        centre, scale, weights = arrays[step.name]
        if not (scale > 0).all():
            raise ValueError("a scale of 0")
        steps[step.name] = Logistic(centre, scale, weights, float(arrays[f"{step.name}.bias"]))
    return RelevanceModel(References(queries, query_mean, entry_mean), Judge(**steps))


def _queries(found: dict[str, Any]) -> CalibratedQueries:
    bins = tuple(Bin(**one) for one in found.pop("bins"))
    at_half, advised, by_cosine = (CutOff(**found.pop(name)) for name in ("at_half", "advised", "by_cosine"))
    return CalibratedQueries(**found, at_half=at_half, advised=advised, by_cosine=by_cosine, bins=bins)
