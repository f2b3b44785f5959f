"""A demo whose training is interrupted says so, ends quickly, and goes on where it stood."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from types import ModuleType

import pytest

NUM_STEPS = 20


@pytest.mark.timeout(180)
def test_ctrl_c_in_training_and_then_a_kill_in_the_evaluation(tmp_path: Path, interruptions: ModuleType) -> None:
    out = tmp_path / "run"
    with interruptions.demo(out, tmp_path / "temporary", NUM_STEPS) as first:
        first.wait_for("train ──", 60)
        # Before the metrics begin nothing is written yet, and a signal ends the reading at once.
        while not (out / "metrics.jsonl").exists():
            time.sleep(0.05)
        first.interrupt(signal.SIGINT)
        assert first.process.returncode == 128 + signal.SIGINT
    said = "".join(first.said)
    assert "start the demo again to go on" in said
    assert "Traceback" not in said
    assert not (out / "model.safetensors").exists()

    with interruptions.demo(out, tmp_path / "temporary", NUM_STEPS) as second:
        second.wait_for("evaluate ──", 120)
        second.interrupt(signal.SIGKILL)
    assert (out / "model.safetensors").is_file()
    assert not (out / "evaluation.json").exists()
    interruptions.wait_until_gone(second.mark)
