"""SIGKILL at random moments: what is there in the end has every picture once, and there is nothing else."""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

import corpus_program
import numpy as np
import pytest
from corpus_program import LABELS, expected_vector, is_bad, write
from forked_python import ForkedPython
from pyarrow import parquet

NUM_PICTURES = 120
NUM_KILLS = 6


def _kill_once(kind: str, out: Path, rng: random.Random) -> bool:
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


@pytest.mark.parametrize(("kind", "name"), [("embeddings", "out"), ("classifications", "out.parquet")])
def test_a_killed_run_goes_on_and_every_picture_is_there_once(kind: str, name: str, tmp_path: Path) -> None:
    rng = random.Random(f"{kind} {name}")
    out = tmp_path / name
    num_killed = 0
    for _ in range(NUM_KILLS):
        if not _kill_once(kind, out, rng):
            break
        num_killed += 1
    assert num_killed > 2
    write(kind, out, NUM_PICTURES)
    rest = [out] if out.is_file() else sorted(out.iterdir())
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert [path.name for path in rest if path.name != "_plan.json"] == (
        [name] if out.is_file() else [f"part-{part:06d}.parquet" for part in range(24)]
    )
    rows = parquet.read_table(out).to_pylist()
    check = _check_vectors if kind == "embeddings" else _check_answers
    check(rows)


def test_killed_before_each_change_of_a_file(tmp_path: Path) -> None:
    """Between the rename of the file and the removal of its parts, too, which a random moment hardly meets."""
    seen = set()
    for number in range(1, 200):
        out = tmp_path / str(number) / "out.parquet"
        out.parent.mkdir()
        command = [sys.executable, corpus_program.__file__, "embeddings", str(out), "13", str(number)]
        ended = ForkedPython(command).wait()
        seen.add((out.exists(), out.with_name("out.parquet.parts").exists()))
        write("embeddings", out, 13)
        assert [path.name for path in out.parent.iterdir()] == ["out.parquet"], number
        assert parquet.read_table(out)["id"].to_pylist() == [f"picture {row}" for row in range(13)]
        if ended == 0:
            break
    assert ended == 0
    assert seen == {(False, False), (False, True), (True, True), (True, False)}


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
