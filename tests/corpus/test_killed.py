"""SIGKILL: in the end every picture is there once, and nothing else is there. More: make killed-output."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import corpus_program
import pytest
from corpus_program import write
from forked_python import ForkedPython
from killed_output import NUM_PICTURES, check_whole, kill_once
from pyarrow import parquet

NUM_KILLS = 6


@pytest.mark.parametrize(("kind", "name"), [("embeddings", "out"), ("classifications", "out.parquet")])
def test_a_killed_run_goes_on_and_every_picture_is_there_once(kind: str, name: str, tmp_path: Path) -> None:
    rng = random.Random(f"{kind} {name}")
    # By itself before its 20th change of a file: however fast it is, it is killed once.
    command = [sys.executable, corpus_program.__file__, kind, str(tmp_path / name), str(NUM_PICTURES), "20"]
    assert ForkedPython(command).wait() != 0
    num_killed = 1
    while num_killed < NUM_KILLS and kill_once(kind, tmp_path / name, rng):
        num_killed += 1
    check_whole(kind, tmp_path / name)


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
