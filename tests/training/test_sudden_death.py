"""The short form of `make sudden-death`: two of its kills, on one rank and on two."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "sudden_death.py"


def test_a_killed_run_ends_with_the_weights_of_an_undisturbed_one(tmp_path: Path) -> None:
    result = tmp_path / "result.md"
    command = [sys.executable, str(SCRIPT), "--out", str(tmp_path / "runs"), "--result", str(result)]
    done = subprocess.run(
        [*command, "--kills", "2", "--steps", "12", "--pairs", "192", "--seed", "3"],
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert result.read_text().count("| the same |") == 2
