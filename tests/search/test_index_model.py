"""Any sequence of calls against a dict and NumPy: the same entries, and the same answers."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protoclip.contract.errors import ConfigError
from protoclip.search import Index, upkeep

DIM = 4
NAMES = [f"n{number}" for number in range(12)]
Model = dict[str, tuple[np.ndarray, dict[str, Any]]]

names = st.lists(st.sampled_from(NAMES), min_size=0, max_size=6)
# Few directions, so that equal cosines are common.
rows = st.integers(0, 5)
calls = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(("add", "upsert")), names, rows),
        st.tuples(st.just("remove"), names, rows),
        st.tuples(st.sampled_from(("compact", "open")), st.just([]), rows),
        st.tuples(st.just("search"), names, rows),
    ),
    min_size=1,
    max_size=12,
)


def unit(row: int) -> np.ndarray:
    made = np.random.default_rng(row).integers(-2, 3, DIM) + np.array([0.5, 0, 0, 0])
    return (made / np.linalg.norm(made)).astype(np.float32)


def expected(model: Model, query: np.ndarray, wanted: list[str]) -> list[tuple[str, float]]:
    """The dict is in the order of insertion, and sorting keeps it where cosines are equal."""
    scored = [
        (name, float(np.sum(vector.astype(np.float64) * query.astype(np.float64))))
        for name, (vector, _) in model.items()
        if name in wanted
    ]
    return sorted(scored, key=lambda pair: -pair[1])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(calls)
def test_any_sequence_of_calls(sequence: list[tuple[str, list[str], int]]) -> None:
    model: Model = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(upkeep, "SEGMENT_ROWS", 4),
        mock.patch.object(upkeep, "MAX_ROWS", 8),
    ):
        index = Index.create(Path(folder) / "x.index", "0123456789abcdef", DIM)
        for number, (call, wanted, row) in enumerate(sequence):
            index = _call(index, model, number, call, wanted, row)
            assert [(entry.id, dict(entry.metadata)) for entry in index.iterate()] == [
                (name, metadata) for name, (_, metadata) in model.items()
            ]
            assert len(index) == len(model)
            _compare(index, model, unit(row))
        index.close()


def _call(index: Index, model: Model, number: int, call: str, wanted: list[str], row: int) -> Index:
    vectors = np.array([unit(row + place) for place in range(len(wanted))]).reshape(-1, DIM)
    metadata = [{"call": number, "even": place % 2 == 0} for place in range(len(wanted))]
    if call == "open":
        index.close()
        return Index.open(index.path)
    if call == "compact":
        index.compact()
    if call == "remove":
        assert index.remove(wanted) == len(set(wanted) & model.keys())
        for name in wanted:
            model.pop(name, None)
    if call in ("add", "upsert"):
        bad = len(set(wanted)) < len(wanted) or (call == "add" and set(wanted) & model.keys())
        try:
            (index.add if call == "add" else index.upsert)(vectors, wanted, metadata)
        except ConfigError:
            assert bad
        else:
            assert not bad
            for name, *entry in zip(wanted, vectors, metadata, strict=True):
                model.pop(name, None)
                model[name] = (entry[0], entry[1])
    return index


def _compare(index: Index, model: Model, query: np.ndarray) -> None:
    everything = expected(model, query, NAMES)
    for k, offset in ((20, 0), (3, 0), (3, 2)):
        hits = index.search(query, k, offset=offset)
        assert [hit.id for hit in hits] == [name for name, _ in everything][offset : offset + k]
        np.testing.assert_allclose(
            [hit.score for hit in hits], [score for _, score in everything][offset : offset + k]
        )
    even = expected(model, query, [name for name, (_, metadata) in model.items() if metadata["even"]])
    found = index.search(query, 20, where={"even": True})
    assert [hit.id for hit in found] == [name for name, _ in even]
    best: dict[int, str] = {}
    for name, _ in everything:
        best.setdefault(model[name][1]["call"], name)
    assert [hit.id for hit in index.search(query, 20, group_by="call")] == list(best.values())
    without = [name for name, _ in everything if name not in NAMES[:3]]
    assert [hit.id for hit in index.search(query, 2, without=NAMES[:3])] == without[:2]
