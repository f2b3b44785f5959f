"""The short form of `make sudden-death`: two of its kills, on one rank and on two."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from forked_python import ForkedPython

from scripts import load_script

sudden_death = load_script("benchmarks/sudden_death.py")
# Ranks agree in every round of K-means: the short form has a few.
FEW_ROUNDS = ["--set", "clustering.num_iterations=3", "--set", "clustering.num_restarts=1"]


def start(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
    """The undisturbed run on one rank is the installed command, whose weights the forked ones must have."""
    is_installed = any(word.endswith("undisturbed_stream_1") for word in command)
    return (subprocess.Popen if is_installed else ForkedPython)([*command, *FEW_ROUNDS], **options)


def test_a_killed_run_ends_with_the_weights_of_an_undisturbed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = tmp_path / "result.md"
    options = ["--kills", "2", "--steps", "12", "--pairs", "192", "--seed", "3"]
    arguments = ["--out", str(tmp_path / "runs"), "--result", str(result), *options]
    monkeypatch.setattr(sudden_death, "Popen", start)
    monkeypatch.setattr(sys, "argv", ["sudden_death.py", *arguments])
    sudden_death.main()
    assert result.read_text().count("| the same |") == 2
