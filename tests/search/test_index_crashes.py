"""Writers that are killed: `benchmarks/index_crashes.py` with fewer rounds."""

from __future__ import annotations

from pathlib import Path
from subprocess import PIPE
from types import SimpleNamespace

from forked_python import ForkedPython

from scripts import load_script

crashes = load_script("benchmarks/index_crashes.py")
crashes.subprocess = SimpleNamespace(Popen=ForkedPython, PIPE=PIPE)
ROUNDS = 10


def test_killed_at_random_moments(tmp_path: Path) -> None:
    rounds = crashes.run(tmp_path, ROUNDS)
    assert len(rounds) == ROUNDS
    assert min(one.calls for one in rounds) > 0
    assert {one.under_way for one in rounds} != {"none"}
    assert f"{ROUNDS} × SIGKILL" in crashes.page(rounds, 1.0)
