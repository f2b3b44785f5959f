"""Outputs of `corpus_program` that are killed at random moments, and what has to be in them at the end."""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

import corpus_program
import numpy as np
from corpus_program import LABELS, expected_vector, is_bad, write
from forked_python import ForkedPython
from pyarrow import parquet

NUM_PICTURES = 120
NUM_PARTS = 24


def kill_once(kind: str, out: Path, rng: random.Random) -> bool:
    """Whether a run was killed, some milliseconds after its next part was there; else it came to its end."""
    parts = out if out.suffix == "" else out.with_name(f"{out.name}.parts")
    before = len(list(parts.glob("part-*.parquet")))
    command = [sys.executable, corpus_program.__file__, kind, str(out), str(NUM_PICTURES)]
    process = ForkedPython(command)
    wanted = before + rng.randrange(4)
    while process.poll() is None and len(list(parts.glob("part-*.parquet"))) < wanted:
        time.sleep(0.002)
    time.sleep(rng.uniform(0, 0.02))
    process.kill()
    return process.wait() != 0


def check_whole(kind: str, out: Path) -> None:
    """Goes on to the end, and checks that every picture is there once, and beside it nothing else."""
    write(kind, out, NUM_PICTURES)
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    if out.is_dir():
        names = sorted(path.name for path in out.iterdir())
        assert names == ["_lock", "_plan.json", *(f"part-{part:06d}.parquet" for part in range(NUM_PARTS))]
    rows = parquet.read_table(out).to_pylist()
    check = _check_vectors if kind == "embeddings" else _check_answers
    check(rows)


def _check_vectors(rows: list[dict[str, object]]) -> None:
    assert [row["id"] for row in rows] == [f"picture {number}" for number in range(NUM_PICTURES)]
    for number, row in enumerate(rows):
        bad = is_bad(number, NUM_PICTURES)
        assert (bool(np.isnan(row["vector"]).all()), row["error"] is not None) == (bad, bad)
        if not bad:
            np.testing.assert_allclose(row["vector"], expected_vector(number), rtol=1e-6)


def _check_answers(rows: list[dict[str, object]]) -> None:
    expected = []
    for number in range(NUM_PICTURES):
        if is_bad(number, NUM_PICTURES):
            expected.append((f"picture {number}", None, None))
            continue
        best = np.argsort(-expected_vector(number)[:3])[:2]
        expected += [(f"picture {number}", rank, LABELS[place]) for rank, place in enumerate(best, start=1)]
    assert [(row["picture"], row["rank"], row["label"]) for row in rows] == expected
