"""`protoclip index duplicates`: as a table, as JSON, as CSV."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from command_line import Run

from protoclip.search import Index

VECTORS = np.array([[1, 0, 0], [0, 1, 0], [1, 0.1, 0], [0, 0, 1], [1, 0.05, 0], [0, 1, 0]])
NAMES = ["a", "b", "c", "d", "e\udcff", "f, g"]


@pytest.fixture
def index(tmp_path: Path) -> Path:
    with Index.create(tmp_path / "x.index", "0123456789abcdef", 3) as index:
        index.add(VECTORS, NAMES, [{"row": row} for row in range(6)])
    return tmp_path / "x.index"


def test_as_json_and_as_a_table(run: Run, index: Path) -> None:
    outcome = run("index", "duplicates", index, "--json")
    assert outcome.code == 0, outcome.err
    found = outcome.json
    assert (found["num_groups"], found["num_duplicates"]) == (2, 3)
    assert [group["representative"]["id"] for group in found["groups"]] == ["a", "b"]
    assert [hit["metadata"]["row"] for hit in found["groups"][0]["others"]] == [4, 2]
    outcome = run("index", "duplicates", index, "--threshold", 0.997)
    assert "2 entries are nearly the same as one that was added before, in 2 groups" in outcome.err
    assert "f, g (1.000)" in outcome.out
    outcome = run("index", "duplicates", index, "--where", "row<2")
    assert (outcome.code, outcome.out) == (0, "")
    assert "0 entries are nearly the same" in outcome.err


def test_as_csv(run: Run, index: Path, tmp_path: Path) -> None:
    outcome = run("index", "duplicates", index, "--out", tmp_path / "groups.csv")
    assert outcome.code == 0, outcome.err
    with open(tmp_path / "groups.csv", encoding="utf-8", newline="") as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == ["group", "id", "cosine", "representative"]
    assert [(row[0], row[1], row[3]) for row in rows[1:]] == [
        ("0", "a", "a"),
        ("0", "e\\udcff", "a"),
        ("0", "c", "a"),
        ("1", "b", "b"),
        ("1", "f, g", "b"),
    ]
    assert [float(row[2]) for row in rows[1:4]] == pytest.approx([1, 0.99875, 0.99504], abs=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--threshold", "0"], "threshold=0.0 must be a cosine above 0"),
        (["--out", "groups.txt"], "--out groups.txt: the groups are written as CSV"),
        (["--where", "row"], "--where row: write"),
    ],
)
def test_one_line_and_exit_code_2(run: Run, index: Path, options: list[str], message: str) -> None:
    outcome = run("index", "duplicates", index, *options)
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    assert message in outcome.err
