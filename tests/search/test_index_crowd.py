"""Writers and readers in processes of their own: `benchmarks/index_crowd.py` for some seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from protoclip.search import Index
from scripts import load_script

crowd = load_script("benchmarks/index_crowd.py")
SECONDS = 6.0


def test_only_busy(tmp_path: Path) -> None:
    told = crowd.run(tmp_path, SECONDS)
    assert [one.kind for one in told].count("reader") == crowd.READERS
    assert min(one.calls for one in told) > 0
    assert "No reader saw a part of a call" in crowd.page(told, SECONDS)


@pytest.mark.parametrize(
    ("versions", "least", "reason"),
    [
        ([1, 1, 1, 1], 1, "half of a call was seen"),
        ([1, 1, 1, 1, 2], 1, "halves of two calls"),
        ([1] * 5, 2, "2 was acknowledged, and 1 is seen"),
        ([3] * 5, 1, "1 was acknowledged, and 3 is seen"),
        ([], 1, "nothing is there"),
    ],
)
def test_what_a_reader_would_notice(versions: list[int], least: int, reason: str, tmp_path: Path) -> None:
    known = crowd.Versions(crowd.multiprocessing.get_context("fork"))
    known.begun[0] = 2
    with Index.create(tmp_path / "x.index", "0123456789abcdef", crowd.DIM) as index:
        for number, version in enumerate(versions):
            index.add(*crowd.rows([f"0 together {number}"], version))
        with pytest.raises(AssertionError, match=reason):
            crowd.check_together(index, 0, least, known)


def test_a_hit_with_another_vector_would_be_noticed(tmp_path: Path) -> None:
    with Index.create(tmp_path / "x.index", "0123456789abcdef", crowd.DIM) as index:
        index.add(np.eye(crowd.DIM)[:1], ["a"], [{"name": "a", "version": 1}])
        with pytest.raises(AssertionError):
            crowd.check_hits(index, np.random.default_rng(0))
